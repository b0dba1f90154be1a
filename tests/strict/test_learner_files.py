"""What a learner writes to files and reads again; the training itself is in test_learner."""

from multiprocessing import get_context
import os
from pathlib import Path
import random
from time import sleep
from unittest.mock import Mock

import numpy
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.extras.inference import Predictions, write_submission
from minifast.learner import Learner
from minifast.metrics import accuracy
from minifast.targets import Categories, Masks, Tags
from minifast.tools.files import load_tensors, save_tensors
from test_learner import (CPU, LOW_HIGH, Points, at_batch, everything, flat, learner, points, same,
                          shaken)


class Cut(Exception):
    """The power is gone."""


@pytest.fixture
def file(tmp_path) -> Path:
    """A checkpoint of learner().fit_one_cycle(2, 0.1), done."""
    learner().fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth")
    return tmp_path / "fit.pth"


# A fit that was cut off

@pytest.mark.parametrize("after, before, then", [
    *((after, {}, {}) for after in range(4)), (1, {}, {"num_workers": 2}),
    (2, {"num_workers": 2}, {"cache": True}), (1, {"cache": True}, {})])
def test_a_fit_cut_off_in_any_epoch_ends_bit_equal_in_a_new_learner(tmp_path, after, before, then):
    whole, first, second = (learner(points(tfms=(shaken, flat), **knobs), seed, metrics=[accuracy])
                            for seed, knobs in ((0, {}), (0, before), (1, then)))
    for learn in (whole, first):                        # the second one knows nothing of it
        learn.freeze_to(1)
        learn.fit(2, 0.01)
    fit = {"max_lr": slice(1e-3, 1e-1), "pct_start": 0.4, "wd": 0.05}
    whole.fit_one_cycle(3, **fit)
    fit["checkpoint"] = tmp_path / "new" / "fit.pth"
    second.freeze_to(1)
    at_batch(first, 5 * after + 3, Cut("power"))
    if after < 3:
        with pytest.raises(Cut):
            first.fit_one_cycle(3, **fit)
        assert not same(everything(first), everything(whole))
    else:
        first.fit_one_cycle(3, **fit)
    assert load_tensors(fit["checkpoint"])["done"] == after
    second.fit_one_cycle(3, **fit, resume=True)
    assert same(everything(second), everything(whole))
    for learn in (whole, second):                       # and both go on in the same way
        learn.fit(1, 0.1)
    assert same(everything(second), everything(whole))


def train(file: Path) -> None:
    """40 epochs. A file may have some of them already."""
    learner().fit_one_cycle(40, 0.1, checkpoint=file, resume=True)


def killed_three_times(file: Path) -> None:
    rng, done = random.Random(0), 0
    for _ in range(3):
        process = get_context("fork").Process(target=train, args=(file,))
        process.start()
        wanted = done + rng.randrange(1, 5)             # of 40: it is killed long before the end
        while not file.exists() or load_tensors(file)["done"] < wanted:
            assert process.is_alive()
            sleep(0.005)
        sleep(rng.uniform(0, 0.03))
        process.kill()
        process.join()
        done = load_tensors(file)["done"]
        assert process.exitcode == -9 and wanted <= done < 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the signals of Unix")
def test_a_fit_killed_at_three_random_moments_ends_bit_equal_in_another_process(tmp_path):
    whole, learn, file = learner(), learner(seed=1), tmp_path / "fit.pth"
    # Spawned, since torch does not train in a fork of a process that has trained on a GPU.
    process = get_context("spawn").Process(target=killed_three_times, args=(file,))
    process.start()
    whole.fit_one_cycle(40, 0.1)
    process.join()
    assert process.exitcode == 0 and 3 <= load_tensors(file)["done"] < 40
    learn.fit_one_cycle(40, 0.1, checkpoint=file, resume=True)
    assert same(everything(learn), everything(whole))


@pytest.mark.parametrize("saves", range(4))
def test_where_the_disk_gets_full_the_last_checkpoint_stays_to_go_on_from(tmp_path, monkeypatch,
                                                                          saves):
    whole, learn, file = learner(), learner(), tmp_path / "fit.pth"
    whole.fit_one_cycle(3, 0.1)
    full = Mock(side_effect=[*[None] * saves, OSError(28, "No space left on device")])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        learn.fit_one_cycle(3, 0.1, checkpoint=file)
    monkeypatch.undo()
    assert [*tmp_path.iterdir()] == [file] * (saves > 0)        # and nothing half written
    assert saves == 0 or load_tensors(file)["done"] == saves - 1
    learn = learner(seed=int(saves > 0))                        # it may know nothing of the other
    learn.fit_one_cycle(3, 0.1, checkpoint=file, resume=True)
    assert same(everything(learn), everything(whole))


@pytest.mark.parametrize("after", [0, 1])
def test_after_ctrl_c_the_same_learner_may_go_on(tmp_path, after):
    whole, learn = learner(), learner()
    whole.fit_one_cycle(2, 0.1)                         # as without a checkpoint
    at_batch(learn, 5 * after + 3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):              # resume=True, and none is there yet
        learn.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth", resume=True)
    learn.loss_func = F.cross_entropy
    learn.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth", resume=True)
    assert same(everything(learn), everything(whole)) and learn.recorder.fits == [0]


@pytest.mark.parametrize("knobs, here, differs", [
    ({"epochs": 3}, {}, "'epochs': 3"), ({"max_lr": 0.2}, {}, "0.2, 0.2, 0.2"),
    ({"max_lr": slice(0.1)}, {}, "0.01, 0.01, 0.1"), ({"pct_start": 0.5}, {}, "0.5"),
    ({"wd": 0.1}, {}, "'wd': 0.1"), ({}, {"wd": 0.2}, "'wd': 0.2"),
    ({}, {"data": points(n=24)}, "'batches': 12"), ({}, {"data": points(bs=5)}, "'batches': 8"),
    ({}, {"data": points(classes=["a", "b"])}, "classes.*'low', 'high'.*'a', 'b'")])
def test_another_fit_is_refused_by_what_differs_and_nothing_changes(file, knobs, here, differs):
    learn, content = learner(**here), file.read_bytes()
    before = everything(learn)
    with pytest.raises(ValueError, match=rf"fit\.pth .*{differs}"):
        learn.fit_one_cycle(**{"epochs": 2, "max_lr": 0.1, **knobs}, checkpoint=file, resume=True)
    assert same(everything(learn), before) and file.read_bytes() == content


def test_a_checkpoint_that_is_there_stays_as_it_is_and_what_is_none_is_refused(file):
    learn, content = learner(), file.read_bytes()
    before = everything(learn)
    for name in (file, str(file)):
        with pytest.raises(ValueError, match="resume=True"):
            learn.fit_one_cycle(2, 0.1, checkpoint=name)
    assert file.read_bytes() == content
    learn.save(file, overwrite=True)
    with pytest.raises(ValueError, match=r"fit\.pth .*another fit"):
        learn.fit_one_cycle(2, 0.1, checkpoint=file, resume=True)
    file.write_bytes(content[:-50])
    with pytest.raises(ValueError, match=r"fit\.pth .*cut short"):
        learn.fit_one_cycle(2, 0.1, checkpoint=file, resume=True)
    assert same(everything(learn), before)


def test_where_a_checkpoint_cannot_be_written_nothing_is_trained(file):
    learn = learner()
    before = everything(learn)
    with pytest.raises(OSError):
        learn.fit_one_cycle(1, 0.1, checkpoint=file / "in_a_file.pth")
    assert same(everything(learn), before)


# Saving and loading

def test_load_brings_back_weights_optimizer_and_freeze_state_and_says_so(tmp_path, capsys):
    learn, other = learner(), learner(seed=1)
    learn.freeze_to(1)
    learn.fit(1, 0.1)
    state = learn.state()
    assert len(state["optimizer"]["state"]) == 4            # BatchNorm's two, the last Linear's two
    assert (state["frozen_to"], state["classes"]) == (1, LOW_HIGH)
    assert learn.save(tmp_path / "new" / "stage.pth") == tmp_path / "new" / "stage.pth"
    capsys.readouterr()
    other.load(tmp_path / "new" / "stage.pth")
    said = capsys.readouterr().out
    assert "stage.pth" in said and "9 weights" in said and "from 1 on" in said
    assert said.count("\n") == 1 and same(other.state(), learn.state())
    assert [p.requires_grad for p in other.model.parameters()] == [False] * 2 + [True] * 4
    learn.data.train_dl.epoch = 0                           # so the same epoch is next for both
    for each in (learn, other):
        each.fit(1, 0.1)
    assert same(other.state(), learn.state())


@pytest.mark.parametrize("with_opt", [True, False])
def test_a_checkpoint_is_loaded_into_a_frozen_learner_with_or_without_its_optimizer(
        file, capsys, with_opt):
    whole, learn = learner(), learner(seed=1)               # v1 restored no entry, and said nothing
    whole.fit_one_cycle(2, 0.1)
    learn.freeze()
    capsys.readouterr()
    learn.load(file, with_opt=with_opt)
    said = capsys.readouterr().out
    assert same(learn.state()["model"], whole.state()["model"]) and learn.recorder.epochs == []
    if with_opt:
        assert same(learn.state(), whole.state()) and "from 0 on" in said
        assert all(p.requires_grad for p in learn.model.parameters())
    else:
        assert learn.frozen_to == 2 and not learn.optimizer.state and "without" in said


def test_load_refuses_other_files_and_changes_nothing(tmp_path):
    learn, wide = learner(), learner()
    learner(points(classes=["high", "low"])).save(tmp_path / "turned.pth")
    Learner(points(), nn.Linear(4, 2), precision="float32").save(tmp_path / "small.pth")
    wide.model[0] = wide.groups[0] = nn.Linear(5, 6)
    wide.save(tmp_path / "wide.pth")
    learn.export(tmp_path / "export.pth")
    save_tensors(tmp_path / "other.pth", {"weight": torch.zeros(2)})
    state = learn.state()
    state["model"] = {f"net.{name}": weight for name, weight in state["model"].items()}
    save_tensors(tmp_path / "names.pth", state)
    learn.freeze()
    learn.fit(1, 0.1)
    before = everything(learn)
    for name, reason in (("turned", "'high', 'low'"), ("small", "layer groups"),
                         ("export", "0 layer groups"), ("wide", r"0.weight"), ("other", "None"),
                         ("names", "net.0.weight"), ("none", "exist")):
        for with_opt in (True, False):
            with pytest.raises(ValueError, match=rf"(?s){name}\.pth.*{reason}"):
                learn.load(tmp_path / f"{name}.pth", with_opt)
    assert same(everything(learn), before)


def convolution(precision: str) -> Learner:
    """A learner whose weights (3, 2, 2, 2) lie in memory otherwise where precision is "auto"."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 3, 2), nn.Flatten(),
                            nn.Linear(3, 2))

    def eight(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.cat([x[:, 0, 0], x[:, 0, 0] ** 2], dim=1), y

    learn = Learner(points(tfms=(eight, eight)), net, precision=precision)
    learn.autocast = torch.autocast("cpu", enabled=False)   # only the layout should differ
    return learn


@pytest.mark.parametrize("first, then", [("auto", "float32"), ("float32", "auto"),
                                         ("auto", "auto"), ("float32", "float32")])
def test_training_goes_on_the_same_where_weights_lie_otherwise_in_memory(tmp_path, monkeypatch,
                                                                         first, then):
    monkeypatch.setattr("minifast.tools.device.uses_bfloat16", lambda device, how: how == "auto")
    learn, file = convolution(first), tmp_path / "fit.pth"
    learn.fit_one_cycle(1, 0.05, checkpoint=file)
    loaded = convolution(then)
    loaded.load(file)
    weight, layout = loaded.model[1].weight, {"auto": torch.channels_last}
    for part in (weight, loaded.optimizer.state[weight]["exp_avg_sq"]):
        assert part.is_contiguous(memory_format=layout.get(then, torch.contiguous_format))
    learn.data.train_dl.epoch = 0                           # so the same epoch is next for both
    for each in (learn, loaded):                            # one has never left memory
        each.fit(3, 0.05)
    assert loaded.recorder.losses == pytest.approx(learn.recorder.losses[5:], rel=1e-5)
    for mine, theirs in zip(loaded.model.parameters(), learn.model.parameters()):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_torch_reads_all_files_as_tensors_and_plain_values(tmp_path):
    learn = learner()
    learn.fit_one_cycle(numpy.int64(1), slice(numpy.float64(0.1)), numpy.float64(0.3), 0.25,
                        checkpoint=tmp_path / "fit.pth")        # of numpy's numbers
    saved = {name: torch.load(path, weights_only=True) for name, path in (
        ("fit", tmp_path / "fit.pth"), ("save", learn.save(tmp_path / "save.pth")),
        ("export", learn.export(tmp_path / "export.pth")))}
    assert saved["fit"]["plan"] == {"epochs": 1, "max_lr": [.01, .01, .1], "pct_start": 0.3,
                                    "wd": 0.25, "batches": 5, "data": "[4, 42, None]"}
    assert set(saved["save"]) == {"model", "optimizer", "frozen_to", "classes"}
    assert set(saved["fit"]) == {*saved["save"], "history", "plan", "done", "next_epoch"}
    assert saved["fit"]["history"] == vars(learn.recorder)
    for content in saved.values():
        assert same(content["model"], dict(learn.model.state_dict()))


@pytest.mark.parametrize("given, wd", [({"wd": numpy.float64(0.1)}, None), ({}, numpy.float64(1))])
def test_numpys_numbers_for_weight_decay_can_be_loaded_too(tmp_path, given, wd):
    learner(**given).fit_one_cycle(1, 0.1, wd=wd, checkpoint=tmp_path / "fit.pth")
    assert load_tensors(tmp_path / "fit.pth")["done"] == 1


def test_a_file_that_is_there_is_overwritten_only_if_that_is_said(tmp_path):
    learn, file = learner(), tmp_path / "a.pth"
    for write in (learn.save, learn.export):
        file.write_bytes(b"somebody's work")
        with pytest.raises(ValueError, match=r"a\.pth .*overwrite=True"):
            write(file)
        assert file.read_bytes() == b"somebody's work"
        assert write(file, overwrite=True) == file and "model" in load_tensors(file)


SUBMITTED = Predictions([Path("a.jpg")], torch.ones(1, 1), Tags(["haze"]))


@pytest.mark.parametrize("function, error", [
    ("minifast.tools.files.open", PermissionError(13, "Read-only folder")),
    ("os.fsync", OSError(28, "No space left on device"))])
@pytest.mark.parametrize("write", [
    lambda file: learner().save(file, overwrite=True),
    lambda file: learner().export(file, overwrite=True),
    lambda file: write_submission(file, ["a"], SUBMITTED, 0.2, overwrite=True)])
def test_where_nothing_can_be_written_only_the_old_file_is_left(tmp_path, monkeypatch, write,
                                                                function, error):
    (tmp_path / "a.pth").write_bytes(b"somebody's work")
    monkeypatch.setattr(function, Mock(side_effect=error), raising=False)
    with pytest.raises(type(error), match=error.strerror):
        write(tmp_path / "a.pth")
    monkeypatch.undo()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"somebody's work"]


def test_only_fitting_writes_to_the_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = learner()
    learn.fit_one_cycle(1, 0.1)
    assert list(tmp_path.iterdir()) == []                   # only a checkpoint is written
    recorder, before = learn.recorder, everything(learn)
    learn.validate()
    learn.score(accuracy)
    learn.get_preds()
    learn.export(tmp_path / "export.pth")
    learn.load(learn.save(tmp_path / "save.pth"))
    assert learn.recorder is recorder and same(everything(learn), before)


# Export

class Sized(Points):
    """A data set that says how its pictures were made."""

    size, method = tuple(numpy.array([6, 8])), "squish"


def test_an_export_has_all_that_it_takes_to_predict(tmp_path):
    model, stats = nn.Linear(4, 2), ((0.5, 0.25, 0.125), (1.0, 2.0, 3.0))
    model.recipe = {"kind": "cnn", "arch": "resnet18"}
    data = DataBunch.create(Sized(8), None, target=Masks(numpy.array(LOW_HIGH), div=True),
                            device=CPU).normalize(stats)
    file = tmp_path / "new" / "model.pth"
    assert Learner(data, model, precision="float32").export(file, 0.25) == file
    found = load_tensors(file)
    assert same(found.pop("model"), dict(model.state_dict()))
    assert [part.tolist() for part in found.pop("stats")] == [list(part) for part in stats]
    thresh = found.pop("thresh")
    assert thresh.shape == () and thresh.dtype == torch.float32 and thresh == 0.25
    assert found == {"content": "a model for minifast.inference", "target": "Masks",
                     "recipe": {"kind": "cnn", "arch": "resnet18"}, "classes": LOW_HIGH,
                     "div": True, "size": [6, 8], "method": "squish"}


@pytest.mark.parametrize("target, thresh", [
    (Categories, 0.5), (Tags, torch.tensor([.25, .5], dtype=torch.float64))])
def test_an_export_of_a_model_and_data_of_ones_own_takes_what_there_is(tmp_path, target, thresh):
    learn = Learner(points(target=target), nn.Linear(4, 2), precision="float32")
    knobs = {} if target is Categories else {"thresh": thresh}      # 0.5 is the default
    found = load_tensors(learn.export(tmp_path / "a.pth", **knobs))
    assert found["recipe"] == {"kind": "own", "arch": "Linear"}
    assert found["target"] == target.__name__ and found["method"] == "crop"
    assert (found["div"], found["size"], found["stats"]) == (False, None, None)
    assert torch.equal(found["thresh"], torch.as_tensor(thresh).float())
    assert found["thresh"].dtype == torch.float32


def test_data_without_a_target_cannot_be_exported(tmp_path):
    data = DataBunch.create(Points(8), None, device=CPU)
    with pytest.raises(ValueError, match="target"):
        learner(data, loss_func=F.cross_entropy).export(tmp_path / "a.pth")
    assert list(tmp_path.iterdir()) == []
