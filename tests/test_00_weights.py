from hashlib import sha256
from pathlib import Path
import re

import pytest
import torch

from minifast import weights
from minifast.weights import pretrained_weights

CONTENT = {"conv.weight": torch.arange(4.0)}


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder in the place of the internet's, with weights as those of resnet18."""
    file = tmp_path / "site" / "weights.pth"
    file.parent.mkdir()
    torch.save(CONTENT, file)
    name = f"resnet18-{sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file = file.rename(file.with_name(name))
    monkeypatch.setattr(weights, "WEIGHTS_FOLDER", file.parent.as_uri() + "/")
    monkeypatch.setattr(weights, "WEIGHTS", {"resnet18": name})
    return file


class Malicious:
    """Unpickling this would make a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_weights_come_from_a_named_file(tmp_path):
    file = tmp_path / "mine.pth"
    torch.save(CONTENT, file)
    for source in (file, str(file)):
        found = pretrained_weights("any name", source)
        assert list(found) == ["conv.weight"]
        assert torch.equal(found["conv.weight"], CONTENT["conv.weight"])


def test_weights_that_are_not_in_the_cache_are_downloaded_into_it(cache, site):
    assert torch.equal(pretrained_weights("resnet18", True)["conv.weight"], CONTENT["conv.weight"])
    assert (cache / site.name).read_bytes() == site.read_bytes()


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(cache, site):
    site.write_bytes(site.read_bytes() + b"!")
    with pytest.raises(ValueError, match="resnet18.*hash"):
        pretrained_weights("resnet18", True)
    assert not (cache / site.name).exists()


def test_without_a_network_the_message_says_what_to_do(cache, site):
    site.unlink()
    with pytest.raises(ValueError, match=f"(?s)(?=.*{re.escape(site.as_uri())})"
                                         f"(?=.*{re.escape(str(cache))}).*pretrained=.*False"):
        pretrained_weights("resnet18", True)


def test_torchvisions_address_is_asked(cache, monkeypatch):
    asked = []

    def fetch(url, file, hash_prefix):
        asked.append((url, file, hash_prefix))
        torch.save({}, file)

    monkeypatch.setattr(weights, "download_url_to_file", fetch)
    pretrained_weights("resnet50", True)
    pretrained_weights("resnet50", True)                    # now it lies in the cache
    assert asked == [("https://download.pytorch.org/models/resnet50-0676ba61.pth",
                      str(cache / "resnet50-0676ba61.pth"), "0676ba61")]


def test_an_architecture_without_known_weights_is_refused():
    with pytest.raises(ValueError, match=r"\bresnet19\b.*\bresnet18\b"):
        pretrained_weights("resnet19", True)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"\bnothing\.pth"):
        pretrained_weights("resnet18", tmp_path / "nothing.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match=r"\bcut\.pth"):
        pretrained_weights("resnet18", tmp_path / "cut.pth")


@pytest.mark.parametrize("named", [True, False])
def test_a_file_with_code_is_refused_and_the_code_not_run(named, tmp_path, cache):
    file = cache / "resnet18-f37072fd.pth"
    cache.mkdir(parents=True)
    torch.save({"conv.weight": Malicious(tmp_path / "harm")}, file)
    with pytest.raises(ValueError, match=re.escape(file.name)):
        pretrained_weights("resnet18", file if named else True)
    assert not (tmp_path / "harm").exists()
