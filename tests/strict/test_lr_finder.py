from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from math import inf, nan
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
from minifast.targets import Categories

N = numpy.arange(100)                   # the numbers of the points,
U = numpy.linspace(-7, 1, 100)          # and the powers of ten of their rates, .0808 apart
WILD = .9 + .1 * (N % 3)                # .9, 1, 1.1, .9, ...: the level is 1, the noise .1


# The rule

def curve_of(losses: numpy.ndarray) -> LRCurve:
    return LRCurve((10 ** U[:len(losses)]).tolist(), numpy.asarray(losses, float).tolist())


def found(losses: numpy.ndarray) -> tuple[str, float]:
    """What is said about a curve: ("steepest", rate), ("elbow", rate) or ("none", 0)."""
    told = curve_of(losses).suggest()
    if told.lr is None:
        assert not told.marks and "no clear answer" in told.reason
        return "none", 0
    kind, rate = next(iter(told.marks.items()))
    assert told.marks == {kind: rate, "elbow / 10" if kind == "elbow" else kind: told.lr}
    assert told.lr == pytest.approx(rate / 10 if kind == "elbow" else rate)
    assert f"{rate:g}" in told.reason and f"{told.lr:g}" in told.reason
    return kind, rate


FALL = 1 / (1 + numpy.exp(U / .3 + 10))                        # from 1 to 0, steepest at -3
CURVES = {"falls at -2, rises": (
    1 / (1 + numpy.exp((U + 2) / .3)) + 4 * (U + .5).clip(0) ** 2, "steepest", 1e-2),
          "falls at -3": (FALL, "steepest", 1e-3),
          "flat": (0 * U, "none", 0), "rises at once": ((U + 7) / 8, "none", 0)}
CURVES |= {f"rises from {bend} to 1": ((U - bend).clip(0) / (1 - bend), "elbow", 10. ** bend)
           for bend in (-4, -2, -1)}


@pytest.mark.parametrize("noise", [0, .02, .05])
@pytest.mark.parametrize("name", CURVES)
def test_in_95_of_100_the_kind_is_right_and_the_rate_within_a_factor_of_three(name, noise):
    losses, kind, rate = CURVES[name]
    right = 0
    for seed in range(100 if noise else 1):
        noisy = losses + noise * numpy.random.default_rng(seed).standard_normal(100)
        k, r = found(noisy)
        right += kind == k and rate / 3 <= r <= rate * 3
        for level in (-5, 5) if seed < 30 else ():              # all 100 would take seconds
            assert found(level + noisy) == (k, pytest.approx(r, rel=.2))
    assert right >= .95 * (seed + 1)


SPIKES, END = [0, 12, 30, 50, 70, 90], range(95, 100)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("where, value", [
    (SPIKES, 1e4), (SPIKES, nan), (SPIKES, inf), ([99], nan), ([99], inf), (END, 1e4),
    (END, [1e4, 1e4, 1e4, inf, nan])])
def test_neither_a_blown_up_end_nor_single_spikes_change_the_answer(name, where, value):
    losses, kind, rate = CURVES[name]
    if name == "flat" and where == END:
        kind, rate = "elbow", 5                     # flat, and then high: that is an elbow
    for seed in range(5):
        noisy = losses + .02 * numpy.random.default_rng(seed).standard_normal(100)
        noisy[where] = value
        told = found(noisy)
        assert told[0] == kind and rate / 3 <= told[1] <= rate * 3


# The notebook's after unfreezing: .09 up to 1e-4, and then straight up to .167 at 0.2
NOTEBOOK = curve_of(.09 + (.167 - .09) / (numpy.log10(.2) + 4) * (U + 4).clip(0))


def test_the_notebooks_curve_after_unfreezing_gives_the_notebooks_slice():
    told = NOTEBOOK.suggest(earlier_lr=1e-2)
    assert told.lr == slice(1e-5, 2e-3) and told.marks == {"elbow": 1e-4, "elbow / 10": 1e-5}
    for telling in ("0.0001", "1e-05", "/ 5 is 0.002"):
        assert telling in told.reason
    assert "earlier" not in NOTEBOOK.suggest().reason
    assert curve_of(FALL).suggest(1e-2).lr in (9e-4, 1e-3)          # where it does not matter
    assert curve_of(WILD).suggest(1e-2).lr is None


@pytest.mark.parametrize("earlier, div, wanted", [
    (None, 5, 1e-5), (1e-2, 10, slice(1e-5, 1e-3)), (slice(1e-2), 10, slice(1e-5, 1e-3)),
    (slice(1e-4, 1e-2), 1, slice(1e-5, 1e-2)),
    (1.5e-4, 2, slice(1e-5, 7.5e-5)),                   # what was not measured is not rounded
    (5e-5, 5, 1e-5), (8e-6, 4, 2e-6)])                  # no slice runs downwards, or has equal ends
def test_the_last_group_gets_the_earlier_rate_divided(earlier, div, wanted):
    assert NOTEBOOK.suggest(earlier, div).lr == wanted


@pytest.mark.parametrize("point, rate", [
    (25, 1e-5), (52, 2e-3), (60, 7e-3), (90, 2)])       # 10^U is 1.05e-5, 1.59e-3, 7.06e-3, 1.87
def test_the_elbow_is_the_point_where_the_curve_bends_and_one_digit_is_enough(point, rate):
    assert found(3 + (N - point).clip(0)) == ("elbow", rate)


def test_an_elbow_or_a_blow_up_in_the_first_quarter_is_no_answer():
    for losses in (3 + (N - 24).clip(0), numpy.where(N < 18, 1, 5), numpy.where(N < 18, WILD, 5)):
        assert "start_lr" in curve_of(losses).suggest().reason


def test_fewer_than_20_batches_say_nothing():
    for count in (1, 19, 20):
        told = curve_of(numpy.where(N < 10, 1, 0)[:count]).suggest()
        assert (told.lr is None) == (f"{count} batches" in told.reason) == (count < 20)


def test_the_level_is_the_median_of_the_first_quarter():    # 12 or 13 losses of 25 are higher
    assert found(1 + .3 * (N < 12)) == found(1 - .3 * (N < 12)) == ("none", 0)
    assert found(1 + .3 * (N < 13))[0] == "steepest"


def test_a_fall_or_a_rise_counts_from_four_times_the_noise_on():
    for height, fall, rise in ((.36, "none", "none"), (.44, "steepest", "elbow")):
        assert found(WILD - height * ((N > 40) & (N < 70)))[0] == fall
        assert found(WILD + height * (N > 80))[0] == rise
    assert found(WILD + 9 * (N > 95) - .36 * ((N > 40) & (N < 70)))[0] == "elbow"


def test_losses_are_averaged_over_half_a_decade_to_each_side():
    # .5 / .0808 = 6.2: 13 points. Where 5 or 6 are .95 lower, the mean is .365 or .438 lower
    for low, kind in ((5, "none"), (6, "steepest")):
        assert found(WILD - .95 * ((N >= 50) & (N < 50 + low)))[0] == kind


def test_the_steepest_point_is_looked_for_before_the_lowest():
    # down from -5 to -3.5, where it is lowest, slowly up, and then a steeper way down
    kind, rate = found(numpy.interp(U, [-5, -3.5, -2.3, -.5, -.4], [1, 0, 0, .9, .1]))
    assert kind == "steepest" and 1e-5 < rate < 10 ** -3.5


def test_the_steepest_point_is_looked_for_after_the_first_quarter():
    kind, rate = found(WILD + .6 * (N < 8) - numpy.interp(U, [-4, -1], [0, .8]))
    assert kind == "steepest" and 1e-4 < rate < .1      # and not among the first eight losses


def test_three_losses_in_a_row_that_are_high_end_the_curve():
    # high: beyond ten times the noise
    for high, count, kind in ((2.1, 3, "elbow"), (1.9, 3, "none"), (2.1, 2, "none")):
        assert found(numpy.where((N >= 50) & (N < 50 + count), high, WILD))[0] == kind
    # nothing after them matters: it is the same with a deep fall
    assert found(numpy.where(N < 50, WILD, 9) - 50. * (N > 55)) == found(
        numpy.where(N < 50, WILD, 9)) == ("elbow", pytest.approx(10 ** U[49], rel=.3))
    # and beyond a tenth of the way up to the 90 % quantile, which is 1 where the last 20 losses are
    # 1, and 0 where the last 9 are
    for high, last, start in ((.11, 20, 40), (.09, 20, 80), (.09, 9, 40)):
        losses = numpy.select([(N >= 40) & (N < 43), N >= 100 - last], [high, 1.], 0.)
        assert found(losses) == ("elbow", pytest.approx(10 ** U[start - 1], rel=.3))


# The picture

def running(losses: list[float]) -> list[float]:
    """Means that count older losses 98 hundredths as much."""
    return [numpy.average(losses[:n], weights=.98 ** numpy.arange(n)[::-1])
            for n in range(1, len(losses) + 1)]


def test_plot_shows_both_losses_and_marks_the_suggestion_on_the_smoothed_one(monkeypatch):
    def chart(series, *labels, **more):             # draw.chart, whose own tests look at pixels
        told.update(series=series, labels=labels, **more)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("minifast.tools.draw.chart", chart)
    told, elbow, tenth = {}, "elbow: 0.0001", "elbow / 10: 1e-05"
    late = curve_of(.09 + (N > 95))                 # its elbow is among the last five points
    for curve, names in ((NOTEBOOK, {elbow, tenth}), (late, {"elbow / 10: 0.5"})):
        assert curve.plot().size == (1, 1)
        assert told["labels"] == ("learning rate", "loss") and told["log"] == "x"
        (xs, losses), (same, means) = told["series"]["loss"], told["series"]["smoothed"]
        assert xs == same == curve.rates[10:95]
        assert means == pytest.approx(running(curve.losses)[10:95])
        assert losses == [min(loss, max(means)) for loss in curve.losses[10:95]]
        assert told["marks"].keys() == names
        for name, (rate, height) in told["marks"].items():
            assert name.endswith(f": {rate:g}") and height == pytest.approx(.09, abs=1e-4)


@pytest.mark.parametrize("losses", [[1.], [nan], [1.] * 15, [1.] * 40 + [inf],
                                    [1.] * 40 + [1e9] * 30 + [nan], [.45] * 100])
def test_any_curve_can_be_drawn(losses):
    assert curve_of(losses).plot().size == (640, 400)


# lr_find

class Points:
    """Items (picture (3, 1, 4), class): four numbers in each of three channels, and whether the
    first of them is above 0. Each look uses up some of Python's and numpy's random numbers."""

    def __init__(self, n: int):
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
        self.broken, self.error = -1, None                      # item `broken` raises the error

    def __len__(self) -> int:
        return len(self.x)

    def __deepcopy__(self, memo: dict):
        raise MemoryError("data may be large, and should be shared")

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        random.random(), numpy.random.random()
        if i == self.broken:
            raise self.error
        return self.x[i].expand(3, 1, -1), (self.x[i, 0] > 0).long()


def learner(n: int = 20, loss_func: Callable = F.cross_entropy, dropout: float = 0,
            workers: int = 0, device: str = "cpu") -> Learner:
    """A small net in three layer groups, and five batches."""
    data = DataBunch.create(Points(n), None, target=Categories(["low", "high"]), bs=max(1, n // 5),
                            tfms=lambda x, y, rng: (x[:, 0, 0], y), num_workers=workers,
                            device=torch.device(device))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        groups = [nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Linear(8, 8),
                  nn.Sequential(nn.Dropout(dropout), nn.Linear(8, 2))]
    return Learner(data, nn.Sequential(*groups), loss_func, groups=groups, precision="float32")


def spied(monkeypatch, learn: Learner, **knobs) -> list[dict]:
    """What each training step of lr_find is done with."""
    steps, train_batch = [], Learner.train_batch

    def step(self, model, x, y, rates, momentum):
        steps.append({"model": model, "x": x, "rates": rates, "momentum": momentum,
                      "wd": [group["weight_decay"] for group in self.optimizer.param_groups]})
        return train_batch(self, model, x, y, rates, momentum)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "train_batch", step)
        lr_find(learn, **knobs)
    return steps


def test_rates_rise_by_a_constant_factor_and_never_reach_the_last():
    # 10^-7 (10^8)^(t / 10) = 10^(.8 t - 7)
    learn = learner(loss_func=lambda logits, y: 0 * logits.sum())       # never blows up
    curve = lr_find(learn, num_it=10)
    assert curve.rates == pytest.approx([1e-7, 6.309573e-7, 3.981072e-6, 2.511886e-5, 1.584893e-4,
                                         1e-3, 6.309573e-3, 3.981072e-2, 2.511886e-1, 1.584893])
    # by default there are 100, up to 10^(.08 * 99 - 7)
    curve = lr_find(learn)
    assert len(curve.rates) == len(curve.losses) == 100
    assert curve.rates[0] == 1e-7 and curve.rates[-1] == pytest.approx(8.317638)


@pytest.mark.parametrize("frozen_to", [0, 1, 2])
def test_it_trains_as_plain_adamw_does_over_two_epochs(monkeypatch, frozen_to):
    learn = learner()
    learn.freeze_to(frozen_to)
    model = deepcopy(learn.model)
    learn.model.eval()                                      # it trains whatever mode it was in
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad],
                                  betas=(.9, .99), eps=1e-8, weight_decay=.01)
    loader, losses = replace(learn.data.train_dl), []
    for t, (x, y) in enumerate([*loader, *loader][:8]):     # an epoch has five batches
        optimizer.param_groups[0]["lr"] = 1e-4 * 1e3 ** (t / 8)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert lr_find(learn, 1e-4, .1, 8).losses == pytest.approx(losses, rel=1e-5)
    trained = spied(monkeypatch, learn, start_lr=1e-4, end_lr=.1, num_it=8)[-1]["model"]
    assert all(layer.training for layer in trained.modules())
    for number, place in enumerate(("0.0", "1", "2.1")):    # where each group has its Linear
        before, after = (net.get_submodule(place).weight for net in (learn.model, trained))
        assert torch.equal(before, after) == (number < frozen_to)


def test_all_layer_groups_have_the_same_rate_momentum_and_weight_decay(monkeypatch):
    learn = learner()
    learn.fit_one_cycle(1, slice(1e-4, 1e-3))                   # which leaves others behind
    steps = spied(monkeypatch, learn, start_lr=1e-6, end_lr=1e-2, num_it=4)
    assert all(step["momentum"] == 0.9 and step["wd"] == [0.01] * 3 for step in steps)
    for step, rate in zip(steps, (1e-6, 1e-5, 1e-4, 1e-3), strict=True):
        assert step["rates"] == pytest.approx([rate] * 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_dropout_are_those_of_the_coming_epochs(monkeypatch, workers):
    learn = learner(dropout=0.5, workers=workers)
    for epoch in range(2):
        steps = spied(monkeypatch, learn, num_it=12)
        wanted = [x for number in range(epoch, epoch + 3)
                  for x, y in replace(learn.data.train_dl, epoch=number, num_workers=0)]
        assert all(torch.equal(s["x"], x) for s, x in zip(steps, wanted[:12], strict=True))
        first = lr_find(learn, num_it=4).losses[0]              # before the first step
        learn.fit(1, 1e-3)
        assert learn.recorder.losses[5 * epoch] == first


# When it stops

def scripted(level: float, *losses: float) -> int:
    """How many of these losses, raised by a level, lr_find takes in."""
    values = iter([0., *losses])                                # the first is for check_outputs
    curve = lr_find(learner(loss_func=lambda logits, y: 0 * logits.sum() + next(values) + level),
                    num_it=len(losses))
    wanted = numpy.array(losses[:len(curve.losses)]) + level
    assert len(curve.rates) == len(wanted) and numpy.allclose(curve.losses, wanted, equal_nan=True)
    return len(wanted)


@pytest.mark.parametrize("level", [0, -5, 5])
def test_it_stops_where_three_losses_in_a_row_are_high(level):
    # Of .9, 1, 1.1, the first quarter, the noise is .1: high is above 1 + 10 (.1) = 2
    for high, stop in (([1.9] * 4, 12), ([2.1, 2.1, 1, 2.1], 12), ([2.1] * 4, 6)):
        assert scripted(level, .9, 1, 1.1, *high, *[1] * 5) == stop
    # After a fall from 3 to 2 it is above 3 + 4 (3 - 2) = 7
    for high, stop in ((6.9, 16), (7.1, 11)):
        assert scripted(level, 3, 3, 3, 3, 2, 2, 2, 2, *[high] * 4, *[2] * 4) == stop


def test_in_the_first_quarter_it_stops_at_no_high_loss_but_always_at_one_that_is_not_finite():
    assert scripted(0, *[1e3] * 3, *[1] * 9) == 12              # the quarter is three of twelve
    for broken in (nan, inf, -inf):
        for losses in ([broken], [1, broken], [1, 1, 1, 1, broken]):
            assert scripted(0, *losses, *[1] * 3) == len(losses)


@pytest.mark.parametrize("knobs", [{}, {"start_lr": 1e-4, "end_lr": 1e4}])
@pytest.mark.parametrize("epochs, kind", [(0, "steepest"), (25, "elbow")])
def test_a_constant_added_to_the_loss_changes_neither_length_nor_suggestion(knobs, epochs, kind):
    learn, told = learner(200), []
    if epochs:
        learn.fit(epochs, 2e-2)
    for plus in (0, 5, -5):
        learn.loss_func = lambda logits, y: F.cross_entropy(logits, y) + plus
        curve = lr_find(learn, **knobs)
        told.append((len(curve.losses), curve.suggest(1e-2)))
    assert told[0] == told[1] == told[2]
    assert told[0][0] < 100 and kind in told[0][1].marks


# No trace

def everything(learn: Learner) -> dict:
    """All that must stay as it was, bit for bit."""
    model, optimizer, gpus = learn.model, learn.optimizer, torch.cuda.is_available()
    return {
        "objects": {name: id(value) for name, value in vars(learn).items()},
        "weights and buffers": [value.tolist() for value in model.state_dict().values()],
        "parameters": [(id(p), p.requires_grad, str(p.grad)) for p in model.parameters()],
        "modes": [layer.training for layer in model.modules()],
        "optimizer": str(optimizer.state_dict()),
        "what it trains": [[id(p) for p in group["params"]] for group in optimizer.param_groups],
        "history": str(vars(learn.recorder)),
        "data": (id(learn.data.train_dl), learn.data.train_dl.epoch),
        "Python's random numbers": random.getstate(),
        "numpy's random numbers": str(numpy.random.get_state()),
        "torch's random numbers": (torch.get_rng_state().tolist(),
                                   torch.cuda.get_rng_state().tolist() if gpus else None)}


def differences(one: dict, other: dict) -> set[str]:
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("device", ["cpu", "cuda"][:1 + torch.cuda.is_available()])
@pytest.mark.parametrize("frozen_to", [0, 2])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("error, knobs", [
    (None, {"end_lr": 1e-3}), (None, {"start_lr": 1e-2, "end_lr": 1e7}),
    (ValueError("a broken file"), {}), (KeyboardInterrupt("Ctrl-C"), {})])
def test_however_it_ends_all_is_as_it_was(error, knobs, trained, frozen_to, device):
    learn = learner(dropout=0.5, device=device)
    learn.freeze_to(frozen_to)
    if trained:
        learn.fit(1, 1e-3)
    learn.model[0][1].eval()
    dataset, loader = learn.data.train_ds, learn.data.train_dl
    if error is not None:                       # not in the two pictures of check_outputs
        dataset.error, dataset.broken = error, loader.item_numbers(loader.epoch)[2][0]
    before = everything(learn)
    with pytest.raises(type(error), match=str(error)) if error else nullcontext():
        curve = lr_find(learn, num_it=40, **knobs)
        assert (len(curve.losses) < 40) == ("start_lr" in knobs)        # it blew up
    assert differences(before, everything(learn)) == set()


# Refusals

def full(logits: Tensor, y: Tensor) -> Tensor:
    if len(y) > 2:                                              # not in check_outputs
        raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")
    return logits.sum()


@pytest.mark.parametrize("call, telling", [
    (lambda: lr_find(learner(), 1.0, 0.1), r"end_lr .* 1\.0, .* 0\.1"),
    (lambda: lr_find(learner(), 0), "positive"), (lambda: lr_find(learner(), 1e-7, inf), "inf"),
    (lambda: lr_find(learner(), num_it=0), "num_it .* 0"),
    (lambda: lr_find(learner(1)), "1 value"),                   # in a batch, says BatchNorm
    (lambda: lr_find(learner(loss_func=full)), "bs=2"),
    (lambda: NOTEBOOK.suggest(0), "positive"), (lambda: NOTEBOOK.suggest(-1e-2), "positive"),
    (lambda: NOTEBOOK.suggest(div=0.5), "div")])
def test_what_is_impossible_is_refused(call, telling):
    with pytest.raises(ValueError, match=telling):
        call()
