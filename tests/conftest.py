import pytest
import torch


@pytest.fixture
def cache(tmp_path):
    """An empty torch.hub cache, the folder in which its files lie."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)
