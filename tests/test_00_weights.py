"""Most tests load into a small net under names of the real ones: quick, and offline."""

from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
import re

import pytest
import torch
from torch import Tensor, nn

from minifast import weights
from minifast.weights import load_pretrained, pretrained_weights


def small_net() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4),
                                     fc=nn.Linear(4, 2)))


def changed(changes: dict) -> dict[str, Tensor]:
    """Weights for small_net, with some of other values; None leaves one out."""
    rng = torch.Generator().manual_seed(7)
    random = {name: torch.rand(value.shape, generator=rng)
              for name, value in small_net().state_dict().items()}
    return {name: value for name, value in {**random, **changes}.items() if value is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def cache(tmp_path):
    """An empty torch.hub cache, the folder in which its files lie."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder in the place of the internet's, with weights for small_net as those of resnet18."""
    file = tmp_path / "site" / "weights.pth"
    file.parent.mkdir()
    torch.save(changed({}), file)
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
    file, content = tmp_path / "mine.pth", changed({})
    torch.save(content, file)
    for source in (file, str(file)):
        assert same(pretrained_weights("any name", source), content)
        net = small_net()
        load_pretrained(net, "any name", source)
        assert torch.equal(net.conv.weight, content["conv.weight"])
        assert torch.equal(net.bn.running_var, content["bn.running_var"])


@pytest.mark.parametrize("arch, name", [
    ("resnet18", "resnet18-f37072fd.pth"), ("resnet34", "resnet34-b627a593.pth"),
    ("resnet50", "resnet50-0676ba61.pth")])
def test_imagenets_weights_come_from_the_cache_under_torchvisions_name(arch, name, cache):
    cache.mkdir(parents=True)
    torch.save(changed({}), cache / name)
    net = small_net()
    load_pretrained(net, arch, True)
    assert torch.equal(net.conv.weight, changed({})["conv.weight"])


def test_weights_that_are_not_in_the_cache_are_downloaded_into_it(cache, site):
    assert same(pretrained_weights("resnet18", True), changed({}))
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
    with pytest.raises(ValueError, match=r"\bnothing\.pth does not exist"):
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


@pytest.mark.parametrize("changes", [
    {}, {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)},
    {"fc.weight": None, "fc.bias": None}, {"fc.more": torch.zeros(1)},
    {"bn.num_batches_tracked": None}])
def test_another_classifier_or_none_and_files_without_counters_fit(changes, tmp_path):
    torch.save(changed(changes), tmp_path / "weights.pth")
    net = small_net()
    load_pretrained(net, "small", tmp_path / "weights.pth")
    want = changed({})
    for name in ("conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean",
                 "bn.running_var"):
        assert torch.equal(net.state_dict()[name], want[name])


@pytest.mark.parametrize("name, value", [
    ("conv.weight", None), ("bn.running_mean", None), ("conv.bias", torch.zeros(5)),
    ("layer9.weight", torch.zeros(1)), ("fc2.weight", torch.zeros(1))])
def test_other_parameters_missing_unknown_or_misshapen_are_named_and_none_is_loaded(name, value,
                                                                                    tmp_path):
    torch.save(changed({name: value}), tmp_path / "weights.pth")
    net = small_net()
    before = {key: entry.clone() for key, entry in net.state_dict().items()}
    with pytest.raises(ValueError, match=rf"\bweights\.pth\b(?!.*bn\.bias).*{re.escape(name)}"):
        load_pretrained(net, "small", tmp_path / "weights.pth")
    assert same(net.state_dict(), before)


def test_cached_weights_that_do_not_fit_are_named(cache, site):
    with pytest.raises(ValueError, match=rf"{re.escape(site.name)}.*\b(0|conv|bn)\.\w"):
        load_pretrained(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)), "resnet18", True)


def test_a_file_of_something_else_is_named(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"\blist\.pth"):
        load_pretrained(small_net(), "small", tmp_path / "list.pth")
