"""The LR range test: train on some batches at ever higher rates, and read a rate off the losses.

A new head knows nothing. Its loss is flat, falls, and shoots up: take the rate at which it falls
steepest. A trained model has little to gain. Its loss is flat, and then rises: take a tenth of the
rate at this elbow. Source: Smith 2015, arXiv 1506.01186; fastai v1, lr_find; fast.ai, lesson 3.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat
from math import isfinite

import numpy
from PIL import Image

from minifast.groups import group_rates
from minifast.learner import MOMENTUM, Learner
from minifast.recorder import smoothed
from minifast.results import full_gpu
from minifast.schedules import exponential
from minifast.tools import check, draw, processes, progress, seeds

START = 0.25        # the first losses, this share of them, tell the level and the noise
CLEAR = 4           # a change counts if it is more than CLEAR * noise
HIGH = 10           # a loss is high if it is above level + HIGH * noise,
LATE = 0.9          # and above level + (this quantile of the losses - level) / HIGH
REACH = 0.5         # half the width of averages, in decades (factors of ten); slopes take twice it


@dataclass(frozen=True)
class Suggestion:
    """What to pass to fit_one_cycle, and why."""
    lr: float | slice | None            # None if the curve gives no clear answer
    reason: str
    marks: dict[str, float] = field(default_factory=dict)       # rates to mark in a picture


@dataclass
class LRCurve:
    """What the LR range test measured: the last layer group's rate and the loss of each batch."""
    rates: list[float]
    losses: list[float]

    def suggest(self, earlier_lr: float | slice | None = None, div: float = 5) -> Suggestion:
        """A rate by the rule at the top of this file, or why there is none. The losses are averaged
        first, and a constant added to them changes nothing. If there are an elbow and an
        earlier_lr, the last layer group gets earlier_lr / div."""
        check.between("div", div, 1)
        quarter, end = int(START * len(self.losses)), len(self.losses)
        if end < 20:
            return Suggestion(None, f"no clear answer from {end} batches; take a higher num_it")
        rates = [float(f"{rate:.1g}") for rate in self.rates]       # losses are too noisy for more
        x, y = numpy.log10(self.rates), numpy.array(self.losses)
        y[~numpy.isfinite(y)] = y[numpy.isfinite(y)].max()
        level, noise = _level_and_noise(y[:quarter])
        # The curve counts until three losses in a row are high. Single ones are clipped to `high`.
        high = level + max(HIGH * noise, (numpy.quantile(y, LATE) - level) / HIGH)
        blown_up = numpy.flatnonzero(numpy.minimum.reduce([y[:-2], y[1:-1], y[2:]]) > high)
        if len(blown_up):
            end = blown_up[0] + 2               # with two of the three: they show the rise
        x, y = x[:end], y[:end].clip(max=high)
        apart = abs(x[:, None] - x)             # (n, n): how many decades lie between two rates
        means = numpy.array([y[near].mean() for near in apart <= REACH])
        lowest = quarter + means[quarter:].argmin() if end > quarter else 0
        if level - means[lowest] > CLEAR * noise:
            slopes = [numpy.polyfit(x[near], y[near], 1)[0] for near in apart <= 2 * REACH]
            lr = rates[quarter + numpy.argmin(slopes[quarter:lowest + 1])]
            return Suggestion(lr, f"the loss falls, steepest at {lr:g}", {"steepest": lr})
        if not len(blown_up) and means[-1] - level <= CLEAR * noise:
            return Suggestion(None, "no clear answer, only noise; take a higher end_lr or bs")
        # Of all lines that are flat up to a point k, and then straight, the best one bends here.
        bend = numpy.argmin([numpy.polyfit((x - x[k]).clip(0), y, 1, full=True)[1].sum()
                             for k in range(end - 1)])
        if bend < quarter:
            return Suggestion(None, "no clear answer: it rises at once; take a lower start_lr")
        elbow, lr = rates[bend], float(f"{rates[bend] / 10:.1g}")
        marks = {"elbow": elbow, "elbow / 10": lr}
        reason = f"the loss is flat, and rises from {elbow:g} on; a tenth of it is {lr:g}"
        if earlier_lr is not None:
            last = group_rates(earlier_lr, 1)[-1] / div
            reason += f", and the earlier rate / {div:g} is {last:g}"
            lr = slice(lr, last) if lr < last else last         # rates should not fall
        return Suggestion(lr, reason, marks)

    def plot(self) -> Image.Image:
        """The loss over the rate, and the smoothed loss with the marks of suggest(). The first ten
        and the last five points are left out, as in v1: they are unsteady, or high."""
        rates, smooth = self.rates[10:-5], smoothed(self.losses)[10:-5]
        # Higher losses are drawn at the height of the highest smoothed one: all else would be flat.
        losses = [min(loss, max(smooth)) for loss in self.losses[10:-5]]
        marks = {f"{name}: {rate:g}": (rate, numpy.interp(rate, rates, smooth))
                 for name, rate in self.suggest().marks.items() if rates[0] <= rate <= rates[-1]}
        return draw.chart({"loss": (rates, losses), "smoothed": (rates, smooth)},
                          "learning rate", "loss", log="x", marks=marks)


def lr_find(learn: Learner, start_lr: float = 1e-7, end_lr: float = 10,
            num_it: int = 100) -> LRCurve:
    """Train a copy of the learner on num_it batches, or until the loss has blown up or is not
    finite. One rate for all layer groups rises by equal factors from start_lr; end_lr is next."""
    (start,), (end,) = group_rates(start_lr, 1), group_rates(end_lr, 1)
    check.between("end_lr", end, start)
    check.between("num_it", num_it, 1)
    # In one call: copied alone, the optimizer would train parameters that no model has.
    trial = deepcopy(learn, {id(part): part for part in (learn.data, learn.metrics)})   # shared
    trial.check_outputs()
    model, curve = processes.parallel(trial.model.train()), LRCurve([], [])
    loader = replace(learn.data.train_dl)       # a copy, which counts epochs by itself
    batches = islice(chain.from_iterable(repeat(loader)), num_it)       # of several epochs
    with full_gpu(loader), seeds.seeded(loader.seed + processes.RANK, loader.epoch):
        for t, (x, y) in enumerate(progress.bar(batches, num_it, "lr_find")):
            rate = exponential(start, end, t / num_it)
            loss = trial.train_batch(model, x, y, [rate] * len(learn.groups), MOMENTUM)
            curve.rates.append(rate)
            curve.losses.append(processes.mean(loss).item())
            if _blew_up(curve.losses, int(START * num_it)) or not isfinite(curve.losses[-1]):
                break
    return curve


def _blew_up(losses: list[float], quarter: int) -> bool:
    """Whether three losses in a row are above the level by ten times the noise, and by four times
    as much as the lowest one is below it. (v1 stops at four times the lowest loss itself.)"""
    if not 0 < quarter < len(losses):
        return False
    level, noise = _level_and_noise(losses[:quarter])
    return min(losses[-3:]) - level > max(HIGH * noise, CLEAR * (level - min(losses)))


def _level_and_noise(losses: list[float]) -> tuple[float, float]:
    """The median, and the median distance from it. Rounding in float32 counts as noise, too."""
    level = numpy.median(losses)
    return level, max(numpy.median(abs(losses - level)), 1e-6 * abs(level))
