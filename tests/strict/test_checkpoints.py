from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
try:
    import resource
except ImportError:                                     # not on Windows
    resource = None

import numpy
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.checkpoints import (export, read_checkpoint, read_state, report, restore_optimizer,
                                  save_checkpoint)
from minifast.databunch import DataBunch
from minifast.learner import Learner
from minifast.metrics import Score, accuracy
from minifast.recorder import Recorder
from minifast.targets import Categories, Masks, Tags
from minifast.tools.files import load_tensors, save_tensors

CPU = torch.device("cpu")


class Cut(Exception):
    """The power is gone."""


class Points:
    """Items (picture (3, 1, 4), class): four numbers in each of three channels, and whether the
    first of them is above 0."""

    def __init__(self, n: int, seed: int = 0):
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i].expand(3, 1, -1), (self.x[i, 0] > 0).long()


def flat(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A transform for Points: the numbers of each picture, (n, 4)."""
    return x[:, 0, 0], y


def points(n: int = 20, n_valid: int = 8, classes=["low", "high"], **knobs) -> DataBunch:
    return DataBunch.create(Points(n), Points(n_valid, seed=1) if n_valid else None,
                            target=Categories(classes), tfms=(flat, flat), device=CPU,
                            **{"bs": 4, **knobs})


def learner(data: DataBunch | None = None, seed: int = 0, **knobs) -> Learner:
    """A small net in three layer groups, with dropout; 20 points make 5 batches."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        groups = [nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5)),
                  nn.Linear(6, 2)]
    return Learner(data or points(), nn.Sequential(*groups), groups=groups, precision="float32",
                   **{"metrics": [accuracy], **knobs})


def everything(learn: Learner) -> dict:
    """All that goes on after a stop must have, but for the seconds that an epoch took."""
    history = {**vars(learn.recorder), "epochs": [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in learn.recorder.epochs]}
    return {**learn.state(), "history": history, "epoch": learn.data.train_dl.epoch}


def same(one: object, other: object) -> bool:
    """Whether both are equal, tensors bit by bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def cut_off(learn: Learner, after: int, error: BaseException) -> None:
    """Let the next fit of a learner, of 5 batches an epoch, end by an error in the middle of the
    epoch that comes after so many."""
    batches, loss = [], learn.loss_func

    def loss_func(logits: Tensor, y: Tensor) -> Tensor:
        batches.extend([1] * logits.requires_grad)      # in validation it is not
        if len(batches) == 5 * after + 3:
            raise error
        return loss(logits, y)

    learn.loss_func = loss_func


def three_groups(learn: Learner) -> dict:
    return {"max_lr": slice(1e-3, 1e-1), "wd": 0.05}


def frozen(learn: Learner) -> dict:
    learn.freeze()
    return {"max_lr": slice(0.1), "pct_start": 0.7}


def after_another_fit(learn: Learner) -> dict:
    if learn.model[0].weight[0, 0] == learner().model[0].weight[0, 0]:      # the new one had none
        learn.fit(2, 0.01)
    return {"max_lr": 0.1}


# A fit that was cut off

@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("how", [three_groups, frozen, after_another_fit])
def test_a_fit_cut_off_after_any_epoch_ends_bit_equal_in_a_new_learner(tmp_path, how, after):
    whole, first, second = learner(), learner(), learner(seed=1)
    whole.fit_one_cycle(3, **how(whole))
    knobs = {**how(first), "checkpoint": tmp_path / "new" / "fit.pth"}
    cut_off(first, after, KeyboardInterrupt("Ctrl-C") if after == 1 else Cut("power"))
    if after < 3:
        with pytest.raises((Cut, KeyboardInterrupt), match="power|Ctrl-C"):
            first.fit_one_cycle(3, **knobs)
        assert not same(everything(first), everything(whole))
    else:
        first.fit_one_cycle(3, **knobs)
    second.fit_one_cycle(3, **{**how(second), **knobs}, resume=True)
    assert same(everything(second), everything(whole))
    for learn in (whole, second):                       # and both go on in the same way
        learn.fit(1, 0.1)
    assert same(everything(second), everything(whole))


def test_after_ctrl_c_the_same_learner_may_go_on(tmp_path):
    whole, learn = learner(), learner()
    whole.fit_one_cycle(2, 0.1)
    loss = learn.loss_func
    cut_off(learn, 1, KeyboardInterrupt("Ctrl-C"))
    with pytest.raises(KeyboardInterrupt):
        learn.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth")
    learn.loss_func = loss
    learn.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth", resume=True)
    assert same(everything(learn), everything(whole))


def test_a_fit_with_a_checkpoint_is_the_same_as_without(tmp_path):
    one, other = learner(), learner()
    one.fit_one_cycle(2, 0.1)
    other.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth", resume=True)   # none there yet
    assert same(everything(one), everything(other))


def test_without_a_checkpoint_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learner().fit_one_cycle(1, 0.1)
    assert list(tmp_path.iterdir()) == []


def test_the_table_shows_the_epochs_before_the_stop_again(tmp_path, capsys):
    first, second = learner(), learner()
    cut_off(first, 1, Cut("power"))
    with pytest.raises(Cut):
        first.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth")
    before = capsys.readouterr().out.splitlines()       # a header and epoch 0
    second.fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth", resume=True)
    report, *after = capsys.readouterr().out.splitlines()
    assert report == (f"{tmp_path / 'fit.pth'}: restored 9 weights, optimiser (6 entries), freeze "
                      "state (groups from 0 on train)")
    assert after[:-1] == before and [line.split()[0] for line in after] == ["epoch", "0", "1"]


# Refusals

@pytest.fixture
def file(tmp_path) -> Path:
    """A checkpoint of learner().fit_one_cycle(2, 0.1), done."""
    learner().fit_one_cycle(2, 0.1, checkpoint=tmp_path / "fit.pth")
    return tmp_path / "fit.pth"


@pytest.mark.parametrize("learn, knobs, differs", [
    (learner, {"epochs": 3}, "epochs 2 there, 3 here"),
    (learner, {"max_lr": 0.2}, r"max_lr \[0.1, 0.1, 0.1\] there, \[0.2, 0.2, 0.2\] here"),
    (learner, {"pct_start": 0.5}, "pct_start 0.3 there, 0.5 here"),
    (learner, {"wd": 0.1}, "wd 0.01 there, 0.1 here"),
    (partial(learner, wd=0.2), {}, "wd 0.01 there, 0.2 here"),
    (lambda: learner(points(n=24)), {}, r"pictures \[20, 8\] there, \[24, 8\] here"),
    (lambda: learner(points(n_valid=0)), {}, r"pictures \[20, 8\] there, \[20, 0\] here"),
    (lambda: learner(points(bs=5)), {}, "bs 4 there, 5 here"),
    (lambda: learner(points(seed=1)), {}, "seed 42 there, 1 here"),
    (partial(learner, metrics=[]), {}, r"metrics \['accuracy'\] there, \[\] here"),
    (lambda: learner(points(classes=["a", "b"])), {}, "classes .'low', 'high'., this learner has"),
    (learner, {"epochs": 3, "wd": 0.1}, "epochs 2 there, 3 here; wd 0.01 there, 0.1 here")])
def test_another_fit_is_refused_by_what_differs_and_nothing_changes(file, learn, knobs, differs):
    learn, content = learn(), file.read_bytes()
    before = everything(learn)
    with pytest.raises(ValueError, match=rf"fit\.pth .*\b{differs}"):
        learn.fit_one_cycle(**{"epochs": 2, "max_lr": 0.1, **knobs}, checkpoint=file, resume=True)
    assert same(everything(learn), before) and file.read_bytes() == content


def test_a_checkpoint_of_a_learner_in_another_freeze_state_is_another_fits(file):
    learn = learner()
    learn.freeze()
    with pytest.raises(ValueError, match=r"fit\.pth is of another fit: frozen_to 0 there, 2 here"):
        learn.fit_one_cycle(2, 0.1, checkpoint=file, resume=True)
    assert learn.frozen_to == 2


def test_a_checkpoint_that_is_there_is_refused_before_training_and_stays_as_it_is(file):
    learn, content = learner(), file.read_bytes()
    before = everything(learn)
    for knobs in ({}, {"resume": False}):
        with pytest.raises(ValueError, match=r"fit\.pth exists already, .*; resume=True goes on"):
            learn.fit_one_cycle(2, 0.1, checkpoint=str(file), **knobs)
    assert same(everything(learn), before) and file.read_bytes() == content


def test_what_is_no_checkpoint_is_refused(file):
    learn = learner()
    learn.save(file, overwrite=True)
    with pytest.raises(ValueError, match=r"fit\.pth is no checkpoint: fit_one_cycle\(.* writes"):
        learn.fit_one_cycle(2, 0.1, checkpoint=file, resume=True)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"fit\.pth was altered, cut short"):
        learn.fit_one_cycle(2, 0.1, checkpoint=file, resume=True)


def test_after_ctrl_c_in_the_first_epoch_the_same_learner_goes_on_from_the_start(tmp_path):
    whole, learn, file = learner(), learner(), tmp_path / "fit.pth"
    whole.fit_one_cycle(2, 0.1)
    loss_func, calls = learn.loss_func, []

    def interrupted(logits: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss_func(logits, y)

    learn.loss_func = interrupted
    with pytest.raises(KeyboardInterrupt):
        learn.fit_one_cycle(2, 0.1, checkpoint=file)
    assert load_tensors(file)["done"] == 0
    learn.fit_one_cycle(2, 0.1, checkpoint=file, resume=True)
    assert same(everything(learn), everything(whole))


def test_to_go_on_there_must_be_a_file_to_name():
    with pytest.raises(ValueError, match=r"resume=True .* give checkpoint=FILE"):
        learner().fit_one_cycle(1, 0.1, resume=True)


# The disk

@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """Inside, the kernel refuses to let any file grow over so many bytes (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(resource is None, reason="needs the limits of Unix")
def test_a_full_disk_is_said_and_the_old_checkpoint_is_intact(file, tmp_path, capsys):
    # With capsys what is printed goes to memory, and not to a file that the limit is for, too.
    learn, content = learner(), file.read_bytes()
    learn.fit(1, 0.1)
    with full_disk(1000):
        for save in (lambda: learn.save(file, overwrite=True),
                     lambda: learn.export(file, overwrite=True),
                     lambda: learn.fit_one_cycle(1, 0.1, checkpoint=tmp_path / "new.pth")):
            with pytest.raises(OSError, match="File too large"):
                save()
    assert file.read_bytes() == content and list(tmp_path.iterdir()) == [file]


def test_whether_a_checkpoint_can_be_written_is_tried_before_training(tmp_path, monkeypatch):
    (tmp_path / "runs").write_bytes(b"a file")
    learn = learner()
    before = everything(learn)
    with pytest.raises(OSError):
        learn.fit_one_cycle(1, 0.1, checkpoint=tmp_path / "runs" / "fit.pth")
    assert same(everything(learn), before)


@pytest.mark.skipif(resource is None, reason="needs the limits of Unix")
def test_where_the_disk_fills_up_later_the_checkpoint_before_is_intact(tmp_path, capsys):
    first, whole, file = learner(), learner(), tmp_path / "fit.pth"
    whole.fit_one_cycle(3, 0.1)
    contents = []

    def fills_up(logits: Tensor, y: Tensor) -> Score:
        """A metric that looks at each validation whether the first checkpoint is there."""
        if file.exists() and not contents:
            contents.append(file.read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(
                resource.RLIMIT_FSIZE)[1]))
        return accuracy(logits, y)

    fills_up.__name__ = "accuracy"
    first.metrics = [fills_up]
    with pytest.raises(OSError, match="File too large"):
        with full_disk(10 ** 9):
            first.fit_one_cycle(3, 0.1, checkpoint=file)
    assert [file.read_bytes()] == contents and list(tmp_path.iterdir()) == [file]
    again = learner(seed=1)
    again.fit_one_cycle(3, 0.1, checkpoint=file, resume=True)
    assert same(everything(again), everything(whole))


# What is in the files

def test_torch_reads_all_of_them_as_tensors_and_plain_values(file, tmp_path):
    learn = learner()
    files = {"checkpoint": file, "save": learn.save(tmp_path / "save.pth"),
             "export": learn.export(tmp_path / "export.pth")}
    content = {name: torch.load(path, weights_only=True) for name, path in files.items()}
    assert set(content["checkpoint"]) == {*content["save"], "history", "next_epoch", "plan", "done"}
    for saved in content.values():
        assert saved["model"].keys() == learn.model.state_dict().keys()


def test_a_checkpoint_after_training_with_numpys_numbers_can_be_loaded(tmp_path):
    lr = torch.tensor(0.1, dtype=torch.float64).numpy()[()]
    learner().fit_one_cycle(1, slice(lr), checkpoint=tmp_path / "fit.pth")
    assert torch.load(tmp_path / "fit.pth", weights_only=True)["plan"]["max_lr"] == [.01, .01, .1]


def test_a_checkpoint_is_what_the_fit_is_at(tmp_path):
    recorder, plan = Recorder(), {"epochs": 3, "bs": 4}
    recorder.losses, recorder.rates, recorder.momenta = [.5, .25], [[.1], [.2]], [.9, .8]
    recorder.fits, recorder.epochs = [0], [{"batch": 2, "train_loss": .4}]
    save_checkpoint(tmp_path / "fit.pth", {"model": {}, "frozen_to": 1}, recorder, 7, plan, 2)
    assert read_checkpoint(tmp_path / "fit.pth", plan) == {
        "model": {}, "frozen_to": 1, "plan": plan, "done": 2, "next_epoch": 7,
        "history": {"losses": [.5, .25], "rates": [[.1], [.2]], "momenta": [.9, .8], "fits": [0],
                    "epochs": [{"batch": 2, "train_loss": .4}]}}
    with pytest.raises(ValueError, match="another fit: wd None there, 0.1 here. Go on as it began"):
        read_checkpoint(tmp_path / "fit.pth", {**plan, "wd": 0.1})


def test_a_checkpoint_is_read_by_load(file, capsys):
    whole, other = learner(), learner(seed=1)
    whole.fit_one_cycle(2, 0.1)
    other.load(file)
    assert same(other.state(), whole.state()) and not other.recorder.epochs
    assert "restored 9 weights, optimiser (6 entries)" in capsys.readouterr().out


# What was and was not restored

def saved_with(entries: int, frozen_to: int) -> dict:
    return {"model": dict.fromkeys("abcde"), "frozen_to": frozen_to,
            "optimizer": {"state": dict.fromkeys(range(entries))}}


@pytest.mark.parametrize("with_opt, before, text", [
    (True, 0, "restored 5 weights, optimiser (8 entries), freeze state (groups from 0 on train)"),
    (True, 2, "restored 5 weights, optimiser (8 entries), freeze state (groups from 0 on train; "
              "before, from 2 on)"),
    (False, 2, "restored 5 weights; not restored: optimiser (8 entries), freeze state (in the "
               "file, groups from 0 on train; here, from 2 on)")])
def test_the_report_says_what_was_and_what_was_not_restored(with_opt, before, text):
    assert report(saved_with(8, 0), with_opt, before) == text


@pytest.mark.parametrize("with_opt", [True, False])
def test_an_unfrozen_checkpoint_in_a_frozen_learner_is_accounted_for(file, capsys, with_opt):
    # v1 restored no entry of the optimiser, and said nothing
    whole, learn = learner(), learner(seed=1)
    whole.fit_one_cycle(2, 0.1)
    learn.freeze()
    capsys.readouterr()
    learn.load(file, with_opt=with_opt)
    said = capsys.readouterr().out
    assert same(learn.state()["model"], whole.state()["model"])
    if with_opt:
        assert same(learn.state(), whole.state()) and "before, from 2 on" in said
        assert all(p.requires_grad for p in learn.model.parameters())
    else:
        assert learn.frozen_to == 2 and not learn.optimizer.state
        assert "not restored: optimiser (6 entries), freeze state (in the file, groups" in said


# Reading

def test_a_state_fits_where_classes_groups_and_weights_are_the_same(tmp_path):
    mine = learner().state()
    file = save_tensors(tmp_path / "a.pth", {**mine, "more": 1})
    assert same(read_state(file, mine), {**mine, "more": 1})
    wrong = {"classes": ["high", "low"], "groups": [6],
             "model": {**mine["model"], "0.weight": torch.zeros(2)}}
    for name, message in (("classes", r"classes \['high', 'low'\], this learner has \['low'"),
                          ("groups", r"groups \[6\], this learner has \[2, 2, 2\]"),
                          ("model", r"do not fit this model: .*: 0\.weight")):
        save_tensors(file, {**mine, name: wrong[name]})
        with pytest.raises(ValueError, match=rf"a\.pth.*{message}"):
            read_state(file, mine)


def test_a_file_that_is_no_saved_learner_is_refused_with_a_hint(tmp_path):
    learn = learner()
    file = learn.export(tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth was not written by learn.save; of learn.export"):
        read_state(file, learn.state())


def test_an_optimisers_state_lies_in_memory_as_its_parameters_do():
    # AdamW's fused kernel wants it so; torch would keep the layout of the file
    weight = nn.Parameter(torch.arange(24.).reshape(2, 3, 2, 2))
    turned = nn.Parameter(weight.detach().clone(memory_format=torch.channels_last))
    one, other = torch.optim.AdamW([weight], lr=0.5), torch.optim.AdamW([turned])
    (weight ** 2).sum().backward()
    one.step()
    restore_optimizer(other, one.state_dict())
    mine, theirs = other.state[turned], one.state[weight]
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(mine[name], theirs[name]) and mine[name].stride() == turned.stride()
    assert torch.equal(mine["step"], theirs["step"])
    assert other.param_groups[0]["lr"] == 0.5


# Export

class Sized(Points):
    """A data set that says how its pictures were made."""

    size, method = (6, 8), "pad"


def exported(tmp_path: Path, data: DataBunch, model: nn.Module, thresh=0.5) -> dict:
    file = export(tmp_path / "new" / "model.pth", model, data, thresh)
    assert file == tmp_path / "new" / "model.pth"
    return load_tensors(file)


def test_an_export_has_all_that_it_takes_to_predict(tmp_path):
    model = nn.Linear(4, 2)
    model.recipe = {"kind": "cnn", "arch": "resnet18"}
    stats = (0.5, 0.25, 0.125), (1.0, 2.0, 3.0)
    data = DataBunch.create(Sized(8), None, target=Masks(["low", "high"], div=True),
                            device=CPU).normalize(stats)
    found = exported(tmp_path, data, model, thresh=0.25)
    assert same(found.pop("model"), dict(model.state_dict()))
    assert [part.tolist() for part in found.pop("stats")] == [list(part) for part in stats]
    thresh = found.pop("thresh")
    assert thresh.shape == () and thresh.dtype == torch.float32 and thresh == 0.25
    assert found == {"content": "a model for minifast.inference", "target": "Masks",
                     "recipe": {"kind": "cnn", "arch": "resnet18"}, "classes": ["low", "high"],
                     "div": True, "size": [6, 8], "method": "pad"}


def test_an_export_of_a_model_and_data_of_ones_own_takes_what_there_is(tmp_path):
    data = DataBunch.create(Points(8), None, target=Tags(["low", "high"]), device=CPU)
    found = exported(tmp_path, data, nn.Linear(4, 2), torch.tensor([0.25, 0.5]))
    assert found["recipe"] == {"kind": "own", "arch": "Linear"} and found["target"] == "Tags"
    assert (found["div"], found["size"], found["stats"]) == (False, None, None)
    assert found["method"] == "crop"
    assert found["thresh"].tolist() == [0.25, 0.5]


def test_an_export_refuses_thresholds_that_are_not_one_per_class(tmp_path):
    with pytest.raises(ValueError, match="number of thresholds.* 2, got 3"):
        learner().export(tmp_path / "model.pth", torch.tensor([.1, .2, .3]))
    assert not (tmp_path / "model.pth").exists()


def test_names_and_sizes_of_numpys_kinds_are_exported_as_plain_ones(tmp_path):
    data = points(classes=numpy.array(["low", "high"]))
    data.train_ds.size = tuple(numpy.array([4, 6]))
    saved = load_tensors(export(tmp_path / "model.pth", learner().model, data, 0.5))
    assert saved["classes"] == ["low", "high"] and saved["size"] == [4, 6]


def test_without_classes_there_is_nothing_to_export(tmp_path):
    data = DataBunch.create(Points(8), None, device=CPU)
    learn = learner(data, loss_func=F.cross_entropy)
    with pytest.raises(ValueError, match="target"):
        learn.export(tmp_path / "a.pth")
    assert list(tmp_path.iterdir()) == []


# History

def test_only_fitting_writes_to_the_history(tmp_path):
    learn = learner()
    learn.fit_one_cycle(1, 0.1)
    recorder, before = learn.recorder, everything(learn)
    learn.validate()
    learn.score(accuracy)
    learn.get_preds()
    learn.save(tmp_path / "save.pth")
    learn.export(tmp_path / "export.pth")
    learn.load(tmp_path / "save.pth")
    assert learn.recorder is recorder and same(everything(learn), before)


def test_weights_must_agree_in_all_names_and_shapes_in_any_order():
    from minifast.checkpoints import same_weights
    want = {"w": torch.zeros(2, 3), "b": torch.zeros(3)}
    same_weights("a.pt", {"b": torch.ones(3), "w": torch.ones(2, 3)}, want)
    same_weights("a.pt", {"steps": 3}, {"steps": 4})             # plain values have no shape
    have = {"w": torch.zeros(3, 2), "x": torch.zeros(1)}         # b is missing, x unknown
    with pytest.raises(ValueError, match=r"a\.pt .*: w, x, b$"):
        same_weights("a.pt", have, want)
