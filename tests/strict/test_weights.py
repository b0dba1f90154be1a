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


def in_key(key: str, **more):
    return lambda weights: {key: weights, **more}


def before_each(prefix: str):
    return lambda weights: {prefix + name: value for name, value in weights.items()}


OF_A_SCRIPT = in_key("state_dict", epoch=90, arch="small", best=torch.tensor(76.1), args={},
                     optimizer={"state": {0: {"step": torch.zeros(())}}, "param_groups": [{}]})


@pytest.mark.parametrize("wrap, under", [
    (before_each("module."), "module."), (before_each("conv."), "conv."),
    (before_each("module.net.bn."), "module.net.bn."), (in_key("model"), "model."),
    (in_key("conv"), "conv."), (OF_A_SCRIPT, "state_dict."), (in_key(0), "0."),
    (lambda weights: OF_A_SCRIPT(before_each("_orig_mod.")(weights)), "state_dict._orig_mod.")])
@pytest.mark.parametrize("changes", [{}, {"fc.weight": torch.zeros(10, 4), "fc.bias": None}])
def test_weights_under_a_key_or_a_common_prefix_are_taken_and_it_is_said(wrap, under, changes,
                                                                         tmp_path, capsys):
    torch.save(wrap(dict(reversed(changed(changes).items()))), tmp_path / "weights.pth")
    net = small_net()
    head = net.fc.weight.clone()
    load_pretrained(net, "small", tmp_path / "weights.pth")
    line, = capsys.readouterr().out.splitlines()            # one
    assert "weights.pth" in line and line.split()[-1] == under
    assert all((value == 7).all() for name, value in net.state_dict().items() if name[:2] != "fc")
    assert torch.equal(net.fc.weight, head)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_prefix_is_no_part_of_the_nets_own_names(prefix, tmp_path, capsys):
    def net() -> nn.Module:                                 # has conv.weight and block.conv.weight
        return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), block=small_net(),
                                         fc=nn.Linear(2, 2)))

    saved, other = net().state_dict(), net()
    torch.save(before_each(prefix)(saved), tmp_path / "weights.pth")
    load_pretrained(other, "small", tmp_path / "weights.pth")
    assert torch.equal(other.block.conv.weight, saved["block.conv.weight"])
    assert capsys.readouterr().out.count("\n") == (prefix != "")   # names that fit: without a word


@pytest.mark.parametrize("wrap", [
    lambda weights: {"model": weights, "model_ema": weights},               # which of them?
    lambda weights: {**before_each("module.")(weights), "queue": torch.zeros(3)},
    before_each("net_"), in_key("state_dict", norm={"mean": torch.zeros(3)}),
    lambda weights: {"a": {"b": weights}}, lambda weights: {"epoch": 90}, lambda weights: {}])
def test_weights_that_only_some_names_lead_to_are_refused_by_the_file(wrap, tmp_path, capsys):
    torch.save(wrap(changed({})), tmp_path / "weights.pth")
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"(?s)weights\.pth.*bn\.bias"):
        load_pretrained(net, "small", tmp_path / "weights.pth")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrap", [
    lambda net: {"model": before_each("body.")(net), "classes": ["a"], "frozen_to": 2,
                 "optimizer": {"state": {}, "param_groups": []}},           # learn.save
    lambda net: {"model": before_each("body.")(net), "thresh": torch.tensor(0.5),
                 "recipe": {"kind": "cnn"}, "content": "a model"},          # learn.export
    lambda net: {"model": before_each("0.")(net), "opt": {"state": {}}}])   # fastai v1
def test_saved_learners_are_refused_because_their_head_is_another(wrap, tmp_path):
    saved = wrap(changed({"fc.weight": None, "fc.bias": None}))
    saved["model"] |= {"head.8.weight": torch.zeros(2, 2)}
    torch.save(saved, tmp_path / "learner.pth")
    with pytest.raises(ValueError, match=r"(?s)learner\.pth.*\bmodel\.\w+\.bn\.bias"):
        load_pretrained(small_net(), "small", tmp_path / "learner.pth")
