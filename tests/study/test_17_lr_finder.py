from collections.abc import Callable
from copy import deepcopy

import numpy
import pytest
import torch
from torch import nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.learner import Learner
from minifast.lr_finder import LRCurve, lr_find
from minifast.targets import Categories
from minifast.tools import draw

X = torch.randn(20, 3, 1, 2, generator=torch.Generator().manual_seed(0))
ITEMS, CPU = list(zip(X, (X[:, 0, 0, 0] > 0).long())), torch.device("cpu")


def learner(dropout: float = 0, **more) -> Learner:
    """A small net in two layer groups, and five batches of training."""
    data = DataBunch.create(ITEMS, None, None, Categories(["low", "high"]), bs=4, device=CPU)
    torch.manual_seed(0)
    groups = [nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4)),
              nn.Sequential(nn.Dropout(dropout), nn.Linear(4, 2))]
    return Learner(data, nn.Sequential(*groups), groups=groups, precision="float32", **more)


def drawn(loss: Callable, noise: float = 0.002, n: int = 100) -> LRCurve:
    """n losses as a function of the power of ten of the rate, from 1e-7 to 10."""
    u = -2 + 0.08 * numpy.arange(-62, n - 62)
    return LRCurve(list(10 ** u), list(loss(u) + numpy.random.default_rng(0).normal(0, noise, n)))


def falls(u: numpy.ndarray) -> numpy.ndarray:
    """From .9 to .4, steepest at a rate of 1e-2. From 10^-.5 on it shoots up."""
    return 0.9 - 0.5 / (1 + numpy.exp((-2 - u) / 0.3)) + 10 * (u + 0.5).clip(0) ** 2


def rises(u: numpy.ndarray) -> numpy.ndarray:
    """Flat up to a rate of 10^-3.92, in one digit 1e-4, and then straight up."""
    return 0.1 + 0.03 * (u + 3.92).clip(0)


def test_rates_rise_by_a_constant_factor():
    # 1e-7 * (1e8)^(t / 8): a factor of 10 in each step
    assert lr_find(learner(), num_it=8).rates == pytest.approx([10 ** (t - 7) for t in range(8)])


def test_losses_are_those_of_adamw_on_the_batches_of_the_coming_epochs():
    learn, other, wanted = learner(wd=0.5), learner(), []
    adamw = torch.optim.AdamW(other.model.parameters(), betas=(0.9, 0.99), weight_decay=0.5)
    learn.data.train_dl.epoch = other.data.train_dl.epoch = 3
    for t, (x, y) in enumerate([*other.data.train_dl, *other.data.train_dl][:8]):
        adamw.param_groups[0]["lr"] = 1e-4 * 1e4 ** (t / 8)
        loss = F.cross_entropy(other.model(x), y)
        adamw.zero_grad()
        loss.backward()
        adamw.step()
        wanted.append(loss.item())
    found = lr_find(learn, 1e-4, 1, num_it=8)
    assert found.losses == pytest.approx(wanted, rel=1e-3) and learn.data.train_dl.epoch == 3


def test_lr_find_leaves_no_trace():
    learn = learner(dropout=0.5)
    learn.fit(1, 1e-3)
    learn.model.eval()
    before, random = str(deepcopy(learn.state())), torch.get_rng_state()
    assert lr_find(learn, num_it=20) == lr_find(learn, num_it=20)   # dropout is the same, too
    assert str(learn.state()) == before and torch.equal(torch.get_rng_state(), random)


def test_it_stops_once_the_loss_has_blown_up_or_is_not_finite():
    for last, count in ((9., 53), (1., 100), (float("nan"), 51)):
        script = iter([0.] + [1.] * 50 + [last] * 50)               # the first one is for a try
        learn = learner(loss_func=lambda logits, y: 0 * logits.sum() + next(script))
        assert len(lr_find(learn).losses) == count


def test_a_falling_loss_gives_the_rate_where_it_falls_steepest():
    for loss in (falls, lambda u: falls(u) + 5, lambda u: 9 * falls(u)):
        assert drawn(loss).suggest(earlier_lr=1e-4).lr == 1e-2


def test_a_loss_that_is_flat_and_then_rises_gives_a_tenth_of_the_elbow():
    assert drawn(rises).suggest().lr == 1e-5
    assert drawn(lambda u: rises(u - 1.04), 0.001).suggest().lr == 1e-4


def test_after_unfreezing_the_last_group_gets_a_share_of_its_earlier_rate():
    suggest = drawn(rises).suggest
    assert suggest(earlier_lr=1e-2).lr == slice(1e-5, 2e-3)         # a fifth
    assert suggest(earlier_lr=slice(1e-4, 1e-2), div=10).lr == slice(1e-5, 1e-3)
    assert suggest(earlier_lr=1e-5).lr == pytest.approx(2e-6)    # never down


def test_a_single_high_loss_or_one_that_is_not_finite_changes_nothing():
    for curve, rate in ((drawn(falls), 1e-2), (drawn(rises), 1e-5)):
        curve.losses[55], curve.losses[-5:] = 50., [float("nan")] * 5
        assert curve.suggest().lr == rate


def test_without_a_clear_answer_there_is_no_rate():
    for curve in (drawn(falls, n=19), drawn(lambda u: 0 * u + 1), drawn(lambda u: u / 8)):
        assert curve.suggest().lr is None and not curve.suggest().marks


def test_the_curve_is_plotted_with_its_smoothed_loss_and_marks():
    curve, shares = drawn(rises), 0.98 ** numpy.arange(100)
    smooth = [numpy.average(curve.losses[:n], weights=shares[:n][::-1]) for n in range(11, 96)]
    rates, losses = curve.rates[10:95], numpy.minimum(curve.losses[10:95], max(smooth))
    marks = {f"{name}: {rate:g}": (rate, numpy.interp(rate, rates, smooth))
             for name, rate in (("elbow", 1e-4), ("elbow / 10", 1e-5))}
    assert curve.plot() == draw.chart({"loss": (rates, losses), "smoothed": (rates, smooth)},
                                      "learning rate", "loss", log="x", marks=marks)
