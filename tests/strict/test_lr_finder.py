from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from math import inf, isnan, nan
import random

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.learner import Learner
from minifast.lr_finder import LRCurve, lr_find
from minifast.lr_rule import Suggestion
from minifast.recorder import smoothed
from minifast.targets import Categories
from minifast.training import train_batch

CPU = torch.device("cpu")


class Points:
    """Items (picture (3, 1, 4), class): four numbers in each of three channels, and whether the
    first of them is above 0.

    Each look uses up some of Python's and numpy's global random numbers; item `broken` raises.
    """

    def __init__(self, n: int, broken: int = -1, error: BaseException | None = None):
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
        self.broken, self.error = broken, error

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        random.random(), numpy.random.random()
        if i == self.broken:
            raise self.error
        return self.x[i].expand(3, 1, -1), (self.x[i, 0] > 0).long()


def flat(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A transform for Points: the numbers of each picture, (n, 4)."""
    return x[:, 0, 0], y


def learner(dataset: Points | None = None, loss_func: Callable = F.cross_entropy,
            dropout: float = 0, workers: int = 0, device: torch.device = CPU) -> Learner:
    """A small net in three layer groups; 20 points make 5 batches."""
    data = DataBunch.create(dataset or Points(20), None, target=Categories(["low", "high"]), bs=4,
                            tfms=flat, num_workers=workers, device=device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        groups = [nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Linear(8, 8),
                  nn.Sequential(nn.Dropout(dropout), nn.Linear(8, 2))]
    return Learner(data, nn.Sequential(*groups), loss_func, groups=groups, precision="float32")


def scripted(losses: list[float]) -> Callable:
    """A loss function that gives these losses, whatever the model says."""
    values = iter(losses)
    return lambda logits, y: 0 * logits.sum() + next(values)


def spied(monkeypatch, learn: Learner, **knobs) -> list[dict]:
    """What each training step of lr_find is done with."""
    steps = []

    def step(model, batch, loss_func, optimizer, autocast):
        steps.append({"model": model, "x": batch[0], "groups": [
            {name: group[name] for name in ("lr", "betas", "weight_decay")}
            for group in optimizer.param_groups]})
        return train_batch(model, batch, loss_func, optimizer, autocast)

    monkeypatch.setattr("minifast.lr_finder.train_batch", step)
    lr_find(learn, **knobs)
    return steps


# What is measured

def test_rates_rise_by_a_constant_factor_and_never_reach_the_last():
    # 10^-7 (10^8)^(t / 10) = 10^(.8 t - 7)
    curve = lr_find(learner(), num_it=10, stop_div=False)
    assert curve.rates == pytest.approx([1e-7, 6.309573e-7, 3.981072e-6, 2.511886e-5, 1.584893e-4,
                                         1e-3, 6.309573e-3, 3.981072e-2, 2.511886e-1, 1.584893])
    # by default there are 100, up to 10^(.08 * 99 - 7)
    curve = lr_find(learner(), stop_div=False)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) == 100
    assert curve.rates[0] == 1e-7 and curve.rates[-1] == pytest.approx(8.317638)


def test_losses_are_those_of_plain_adamw_on_the_batches_of_the_coming_epochs():
    learn = learner()
    model = deepcopy(learn.model)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(.9, .99), eps=1e-8, weight_decay=.01)
    loader, losses = replace(learn.data.train_dl), []       # two epochs of its own
    batches = [*loader, *loader][:8]
    for t, (x, y) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 1e-7 * 1e8 ** (t / 8)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert lr_find(learn, num_it=8, stop_div=False).losses == pytest.approx(losses, rel=1e-5)


def test_the_smoothed_loss_is_a_mean_that_counts_older_losses_98_hundredths_as_much():
    curve = lr_find(learner(), num_it=30, stop_div=False)
    for n in range(1, 31):
        shares = .98 ** numpy.arange(n)[::-1]
        wanted = (shares * curve.losses[:n]).sum() / shares.sum()
        assert curve.smoothed[n - 1] == pytest.approx(wanted)


def test_it_stops_where_the_smoothed_loss_exceeds_four_times_its_best():
    # three losses of 1 and one of L: ((.98 + .98^2 + .98^3) + L) / (1 + .98 + .98^2 + .98^3)
    # is 4 at L = 4 (3.881592) - 2.881592 = 12.644776
    for loss, stops in ((12.6, False), (12.7, True)):
        curve = lr_find(learner(loss_func=scripted([1, 1, 1, loss, 1, 1])), num_it=6)
        assert len(curve.losses) == (4 if stops else 6)
        assert curve.losses[3] == pytest.approx(loss)           # the last batch is in the curve


def test_the_best_is_the_lowest_smoothed_loss_so_far():
    # a loss of 1, sixty of .1, and 2 from then on: after sixty the mean, with shares of .98^n, is
    # .98^60 .02 / (1 - .98^61) * .9 + .1 = .1076; the k-th 2 lifts it above four times that
    script = [1.0] + [.1] * 60 + [2.0] * 60
    stop = next(n for n in range(62, 122) if numpy.average(
        script[:n], weights=.98 ** numpy.arange(n)[::-1]) > 4 * .10761)
    assert len(lr_find(learner(loss_func=scripted(script)), num_it=121).losses) == stop == 68


@pytest.mark.parametrize("stop_div, count", [(True, 3), (False, 6)])
def test_it_stops_at_nan_unless_told_otherwise(stop_div, count):
    script = scripted([1, 1, nan, 1, 1, 1])
    curve = lr_find(learner(loss_func=script), num_it=6, stop_div=stop_div)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) == count
    assert isnan(curve.smoothed[-1])


def test_a_rate_that_is_far_too_high_ends_the_test_early():
    assert len(lr_find(learner(), start_lr=1e-3, end_lr=1e6).losses) < 100


def test_slices_give_each_group_its_own_way_and_the_curve_has_the_last_groups(monkeypatch):
    learn = learner()
    steps = spied(monkeypatch, learn, start_lr=slice(1e-6, 1e-4), end_lr=slice(1e-1), num_it=2)
    rates = [[group["lr"] for group in step["groups"]] for step in steps]
    assert rates[0] == pytest.approx([1e-6, 1e-5, 1e-4])
    # half way, to .01, .01 and .1: the geometric means
    assert rates[1] == pytest.approx([1e-4, 10 ** -3.5, 10 ** -2.5])
    assert lr_find(learn, slice(1e-6, 1e-4), slice(1e-1), 2).rates == pytest.approx(
        [1e-4, 10 ** -2.5])


def test_momentum_is_09_and_weight_decay_the_learners_unless_said(monkeypatch):
    learn = learner()
    learn.fit_one_cycle(1, 1e-3, wd=0.5)                        # which leaves others behind
    for knobs, wd in (({}, 0.01), ({"wd": 0.3}, 0.3), ({"wd": 0}, 0)):
        for step in spied(monkeypatch, learn, num_it=3, **knobs):
            assert [group["betas"] for group in step["groups"]] == [(0.9, 0.99)] * 3
            assert [group["weight_decay"] for group in step["groups"]] == [wd] * 3


def test_batches_are_those_of_the_coming_epochs_one_after_the_other(monkeypatch):
    learn = learner()
    learn.fit(1, 1e-3)
    steps = spied(monkeypatch, learn, num_it=12, stop_div=False)
    assert learn.data.train_dl.epoch == 1
    wanted = [x for epoch in (1, 2, 3) for x, y in learn.data.train_dl][:12]
    assert all(torch.equal(step["x"], x) for step, x in zip(steps, wanted, strict=True))


def test_dropout_is_that_of_the_coming_epoch():
    learn = learner(dropout=0.5)
    for epoch in range(3):                                      # the first step has no rate yet
        first = lr_find(learn, num_it=2).losses[0]
        learn.fit(1, 1e-3)
        assert learn.recorder.losses[5 * epoch] == first


def test_workers_change_nothing():
    curves = [lr_find(learner(workers=workers), num_it=7) for workers in (0, 2)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("frozen_to", [0, 1, 2])
def test_it_works_in_any_freeze_state(monkeypatch, frozen_to):
    learn = learner()
    learn.freeze_to(frozen_to)
    trained = spied(monkeypatch, learn, num_it=5)[-1]["model"]
    linear = [(0, 0), (1,), (2, 1)]                             # where each group has its Linear
    for group, place in enumerate(linear):
        before, after = learn.model, trained
        for i in place:
            before, after = before[i], after[i]
        assert torch.equal(before.weight, after.weight) == (group < frozen_to)


def test_the_model_trains_whatever_mode_it_was_in(monkeypatch):
    learn = learner()
    learn.model.eval()
    steps = spied(monkeypatch, learn, num_it=2)
    assert all(layer.training for layer in steps[0]["model"].modules())


# No trace

def everything(learn: Learner) -> dict:
    """All that a test must leave as it was."""
    parameters = list(learn.model.parameters())
    return {
        "weights and buffers": [value.clone() for value in learn.model.state_dict().values()],
        "the very parameters": [torch.tensor(id(p)) for p in parameters],
        "gradients": [torch.tensor(nan) if p.grad is None else p.grad.clone() for p in parameters],
        "trainable": [torch.tensor(p.requires_grad) for p in parameters],
        "modes": [torch.tensor(layer.training) for layer in learn.model.modules()],
        "moments": [value.clone() for state in learn.optimizer.state.values()
                    for value in state.values()],
        "optimiser's settings": str([[group[name] for name in ("lr", "betas", "weight_decay")]
                                     for group in learn.optimizer.param_groups]),
        "history": str(vars(learn.recorder)),
        "epochs seen": learn.data.train_dl.epoch,
        "Python's random state": random.getstate(),
        "numpy's random state": [part.tolist() if isinstance(part, numpy.ndarray) else part
                                 for part in numpy.random.get_state()],
        "torch's random state": [torch.get_rng_state()],
    }


def differences(one: dict, other: dict) -> list[str]:
    """What differs, bit for bit, by name."""
    def same(a, b) -> bool:
        if not (isinstance(a, list) and a and isinstance(a[0], Tensor)):
            return a == b
        return len(a) == len(b) and all(torch.equal(x, y) or (x != x).all() and (y != y).all()
                                        for x, y in zip(a, b))
    return [name for name in one if not same(one[name], other[name])]


ENDINGS = {"it ends": (None, {"end_lr": 1e-3}),
           "the loss diverges": (None, {"start_lr": 1e-2, "end_lr": 1e7}),
           "an error": (ValueError("a broken file"), {}),
           "Ctrl-C": (KeyboardInterrupt("Ctrl-C"), {})}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("frozen_to", [0, 2])
@pytest.mark.parametrize("trained", [False, True])
def test_however_it_ends_all_is_as_it_was(tmp_path, monkeypatch, ending, frozen_to, trained):
    monkeypatch.chdir(tmp_path)
    error, knobs = ENDINGS[ending]
    dataset = Points(20)
    learn = learner(dataset, dropout=0.5)
    learn.freeze_to(frozen_to)
    if trained:
        learn.fit(1, 1e-3)
    learn.model[0][1].eval()
    if error is not None:
        dataset.error, dataset.broken = error, learn.data.train_dl.item_numbers(3)[2][0]
    before = everything(learn)
    if error is None:
        curve = lr_find(learn, num_it=40, **knobs)
        assert (len(curve.losses) < 40) == (ending == "the loss diverges")
    else:
        with pytest.raises(type(error), match=str(error)):
            lr_find(learn, num_it=40, **knobs)
    assert differences(before, everything(learn)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_look_at_everything_would_notice_training():
    learn = learner()
    learn.fit(1, 1e-3)
    before = everything(learn)
    learn.freeze()
    learn.fit(1, 1e-2)
    random.random(), numpy.random.random(), torch.rand(1)
    learn.model.eval()
    learn.model[0][0].weight = nn.Parameter(learn.model[0][0].weight.detach())
    assert set(differences(before, everything(learn))) == set(before)


@pytest.mark.parametrize("draw, name", [
    (random.random, "Python's"), (numpy.random.random, "numpy's"),
    (lambda: torch.rand(1), "torch's")])
def test_the_look_at_everything_would_notice_each_random_number(draw, name):
    learn = learner()
    before = everything(learn)
    draw()
    assert differences(before, everything(learn)) == [f"{name} random state"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_training_goes_on_as_if_there_had_been_no_test(ending):
    error, knobs = ENDINGS[ending]
    ends = []
    for looked in (False, True):
        dataset = Points(20)
        learn = learner(dataset, dropout=0.5)
        learn.fit_one_cycle(1, 1e-2)
        learn.freeze()
        if looked:
            dataset.error, dataset.broken = error, -1 if error is None else 7
            with pytest.raises(type(error), match=str(error)) if error else nullcontext():
                lr_find(learn, num_it=12, **knobs)
            dataset.broken = -1
        learn.fit_one_cycle(2, 1e-2)
        ends.append(([value.clone() for value in learn.model.state_dict().values()],
                     learn.recorder.losses))
    assert all(map(torch.equal, ends[0][0], ends[1][0])) and ends[0][1] == ends[1][1]


def test_a_loss_function_that_remembers_is_left_alone_too():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, logits: Tensor, y: Tensor) -> Tensor:
            self.calls += 1
            return F.cross_entropy(logits, y)

    learn = learner(loss_func=Counting())
    lr_find(learn, num_it=3)
    assert learn.loss_func.calls == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_too_all_is_as_it_was():
    learn = learner(dropout=0.5, device=torch.device("cuda"))
    learn.fit(1, 1e-3)
    before, state = everything(learn), torch.cuda.get_rng_state()
    lr_find(learn, num_it=12)
    assert differences(before, everything(learn)) == []
    assert torch.equal(torch.cuda.get_rng_state(), state)


# Refusals

@pytest.mark.parametrize("knobs, message", [
    ({"start_lr": 1.0, "end_lr": 0.1}, "start_lr must be below end_lr, got 1.0 and 0.1"),
    ({"start_lr": 1.0, "end_lr": 1.0}, "start_lr must be below end_lr"),
    ({"start_lr": 0.5, "end_lr": slice(0.1, 1)}, "start_lr must be below end_lr"),
    ({"start_lr": 0}, "must be above 0"), ({"end_lr": inf}, "finite"),
    ({"num_it": 0}, "num_it must be at least 1, got 0")])
def test_impossible_tests_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        lr_find(learner(), **knobs)


def test_a_model_that_cannot_be_copied_is_refused_and_left_alone():
    class Keeps(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.last = super().forward(x)
            return self.last

    learn = learner()
    learn.model.append(Keeps(2, 2))
    learn.model(torch.randn(4, 4))
    before = everything(learn)
    with pytest.raises(ValueError, match="a model that copy.deepcopy can copy"):
        lr_find(learn)
    assert differences(before, everything(learn)) == []


def test_batches_of_one_picture_are_refused_as_in_training():
    with pytest.raises(ValueError, match="a training batch of one picture"):
        lr_find(learner(Points(1)))


def test_where_the_gpus_memory_is_full_a_batch_size_is_proposed():
    def full(logits, y):
        raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")

    with pytest.raises(ValueError, match="with bs=4: try bs=2, .* tried to allocate 2 GiB"):
        lr_find(learner(loss_func=full))


# Reading the curve

def curve_of(losses: list[float], num_it: int = 100) -> LRCurve:
    return LRCurve([1e-7 * 1e8 ** (t / num_it) for t in range(len(losses))], losses, losses)


def smoothed_curve_of(losses: list[float]) -> LRCurve:
    """With the smoothed losses that lr_find has, not all equal even where the losses are."""
    return LRCurve(curve_of(losses).rates, losses, smoothed(losses))


def elbow_curve(bend: float = 1e-4) -> LRCurve:
    """The notebook's after unfreezing: .09 up to the bend, then .0235 more per decade."""
    return curve_of([.09 + .0235 * max(0, .08 * t - 7 - numpy.log10(bend)) for t in range(100)])


def test_suggest_is_the_lessons_rule():
    assert elbow_curve().suggest(earlier_lr=1e-2).lr == slice(1e-5, 2e-3)
    assert elbow_curve().suggest(1e-2, 10).lr == slice(1e-5, 1e-3)
    assert elbow_curve().suggest().lr == 1e-5


def test_suggest_reads_the_losses_and_not_the_smoothed_ones():
    curve = elbow_curve()
    curve.smoothed = [9.0] * 100
    assert curve.suggest() == elbow_curve().suggest()


def drawn(monkeypatch, curve: LRCurve, **knobs) -> dict:
    """What plot hands to draw.chart, whose own tests look at pixels."""
    calls = []

    def chart(series, x_label, y_label, log, marks):
        calls.append({"series": series, "labels": (x_label, y_label), "log": log, "marks": marks})
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("minifast.tools.draw.chart", chart)
    assert isinstance(curve.plot(**knobs), Image.Image)
    return calls[0]


def test_plot_leaves_out_the_first_ten_and_the_last_five_points(monkeypatch):
    curve = elbow_curve()
    shown = drawn(monkeypatch, curve)
    assert shown["labels"] == ("learning rate", "loss") and shown["log"] == "x"
    assert shown["series"] == {"loss": (curve.rates[10:95], curve.losses[10:95]),
                               "smoothed": (curve.rates[10:95], curve.smoothed[10:95])}
    shown = drawn(monkeypatch, curve, skip_start=1, skip_end=2)
    assert shown["series"]["smoothed"][0] == curve.rates[1:98]


def test_what_is_shown_does_not_change_what_is_suggested(monkeypatch):
    for skip_start in (0, 10, 45):                              # 45: from 4e-4 on
        shown = drawn(monkeypatch, elbow_curve(1e-3), skip_start=skip_start)
        assert "elbow: 0.001" in shown["marks"]


def test_plot_marks_the_suggestion_on_the_smoothed_curve(monkeypatch):
    curve = elbow_curve(1e-3)
    curve.smoothed = [2 * loss for loss in curve.losses]
    marks = drawn(monkeypatch, curve)["marks"]
    assert {name: rate for name, (rate, loss) in marks.items()} == {"elbow: 0.001": 1e-3,
                                                                    "elbow / 10: 0.0001": 1e-4}
    assert [loss for rate, loss in marks.values()] == pytest.approx([.18, .18], abs=.005)


def test_plot_marks_nothing_that_is_not_shown(monkeypatch):
    assert drawn(monkeypatch, smoothed_curve_of([.09] * 100))["marks"] == {}
    assert drawn(monkeypatch, elbow_curve(1e-4), skip_start=40)["marks"] == {}   # from 1.6e-4 on
    assert drawn(monkeypatch, elbow_curve(1e-3), skip_end=63)["marks"] == {}     # to 7.6e-5


def test_plot_marks_rates_at_both_ends_of_what_is_shown(monkeypatch):
    curve = elbow_curve()
    marks = {"first": curve.rates[10], "last": curve.rates[94]}
    monkeypatch.setattr(LRCurve, "suggest", lambda curve: Suggestion(None, "", marks))
    assert len(drawn(monkeypatch, curve)["marks"]) == 2


def test_where_more_points_are_left_out_than_there_are_none_is_shown(monkeypatch):
    shown = drawn(monkeypatch, curve_of([1.0] * 3), skip_start=0)["series"]
    assert shown == {"loss": ([], []), "smoothed": ([], [])}


def test_a_blow_up_does_not_press_the_rest_of_the_picture_flat(monkeypatch):
    curve = elbow_curve()
    highest = curve.smoothed[94]
    curve.losses = curve.losses[:90] + [9.0] * 10
    curve.smoothed = curve.smoothed[:95] + [9.0] * 5             # not shown, so it does not count
    xs, ys = drawn(monkeypatch, curve)["series"]["loss"]
    assert len(xs) == len(ys) == 85
    assert ys[80:] == [highest] * 5 and ys[:80] == curve.losses[10:90]


@pytest.mark.parametrize("losses", [[1.0], [nan], [1.0] * 15, [1.0] * 16, [nan] * 40,
                                    [1.0] * 40 + [inf] * 3 + [nan] * 30, [.45] * 100])
def test_any_curve_can_be_drawn(losses):
    assert curve_of(losses).plot().size == smoothed_curve_of(losses).plot().size == (640, 400)


def test_nothing_need_be_left_out(monkeypatch):
    shown = drawn(monkeypatch, elbow_curve(), skip_start=0, skip_end=0)
    assert shown["series"]["smoothed"][0] == elbow_curve().rates
