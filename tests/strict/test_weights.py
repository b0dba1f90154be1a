from collections import OrderedDict
from hashlib import sha256
import re

import pytest
import torch
from torch import Tensor, nn

from minifast.tools import weights
from minifast.tools.weights import load_pretrained, pretrained_weights


def small_net() -> nn.Module:                                   # quick, under a real one's name
    layers = {"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4), "fc": nn.Linear(4, 2)}
    return nn.Sequential(OrderedDict(layers))


def changed(changes: dict) -> dict[str, Tensor]:                # all 7, but None leaves one out
    sevens = {name: torch.full_like(value, 7) for name, value in small_net().state_dict().items()}
    return {name: value for name, value in {**sevens, **changes}.items() if value is not None}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"                     # where torch.hub keeps its files


def test_weights_come_from_a_named_file_or_the_cache_under_torchvisions_name(cache):
    for name in ("resnet18-f37072fd.pth", "resnet34-b627a593.pth", "resnet50-0676ba61.pth"):
        torch.save(changed({}), cache / name)
        for source in (True, cache / name, str(cache / name)):
            assert str(pretrained_weights(name.split("-")[0], source)) == str(changed({}))


def test_a_download_is_kept_but_not_with_a_wrong_checksum(tmp_path, monkeypatch, cache):
    torch.save(changed({}), tmp_path / "mine.pth")
    content = (tmp_path / "mine.pth").read_bytes()
    site = tmp_path / f"resnet18-{sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(weights, "WEIGHTS_FOLDER", tmp_path.as_uri() + "/")     # no internet
    monkeypatch.setattr(weights, "WEIGHTS", {"resnet18": site.name})
    for telling in (str(cache), "hash"):        # nothing is there: put it there; a wrong one
        with pytest.raises(ValueError, match=rf"{site.name}.*{re.escape(telling)}"):
            pretrained_weights("resnet18", True)
        site.write_bytes(content + b"!")
        assert list(cache.iterdir()) == []
    site.write_bytes(content)
    assert str(pretrained_weights("resnet18", True)) == str(changed({}))
    assert (cache / site.name).read_bytes() == content


def test_torchvisions_address_is_asked_for_tensors_on_the_cpu(monkeypatch):
    asked = []
    monkeypatch.setattr(weights, "load_state_dict_from_url",
                        lambda *url, **how: asked.append((*url, how)))
    pretrained_weights("resnet50", True)
    assert asked == [("https://download.pytorch.org/models/resnet50-0676ba61.pth",
                      {"map_location": "cpu", "check_hash": True, "weights_only": True})]
    with pytest.raises(ValueError, match="resnet51.*resnet50"):
        pretrained_weights("resnet51", True)


@pytest.mark.parametrize("changes", [{}, {"fc.weight": torch.zeros(10, 4)}, {"fc.bias": None},
                                     {"fc.more": torch.zeros(1)}, {"bn.num_batches_tracked": None}])
def test_all_but_the_classifier_is_loaded_whatever_the_files_classifier(changes, tmp_path):
    torch.save(changed(changes), tmp_path / "weights.pth")
    net = small_net()
    head = net.fc.weight.clone()
    load_pretrained(net, "small", tmp_path / "weights.pth")
    assert all((value == 7).all() for name, value in net.state_dict().items()
               if not name.startswith("fc") and not name.endswith("num_batches_tracked"))
    assert torch.equal(net.fc.weight, head)


@pytest.mark.parametrize("name, value", [
    ("conv.weight", None), ("bn.running_mean", None), ("conv.bias", torch.zeros(5)),
    ("layer9.weight", torch.zeros(1)), ("fc2.weight", torch.zeros(1))])
def test_parameters_that_are_missing_unknown_or_misshapen_are_named(name, value, tmp_path):
    torch.save(changed({name: value}), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=rf"(?s)weights\.pth(?!.*bn\.bias).*{re.escape(name)}"):
        load_pretrained(small_net(), "small", tmp_path / "weights.pth")
