"""Which learning rate, and why: how lesson 3 reads losses at ever higher rates (LR range test).

A head that knows nothing gives a curve that is flat, falls, and shoots up: take the rate at which
it falls steepest. A trained net gives one that is flat and then rises: go back ten times from the
elbow. Both are read off the losses as they are, over the logarithm of the rate: the smoothed curve
is easier to look at, but averages over what came before, and so turns later.
"""

from dataclasses import dataclass, field
from math import floor, log, log10

import numpy
from numpy import ndarray

from minifast.groups import group_rates
from minifast.tools import check


@dataclass(frozen=True)
class Suggestion:
    """What to pass to fit_one_cycle, and why.

    lr      a number, a slice, or None where the curve gives no clear answer
    reason  one sentence
    marks   name -> rate: what to mark in a picture of the curve
    """

    lr: float | slice | None
    reason: str
    marks: dict[str, float] = field(default_factory=dict)


def suggestion(rates: list[float], losses: list[float], earlier_lr: float | slice | None = None,
               div: float = 5) -> Suggestion:
    """The lesson's rule for a curve.

    rates, losses  (n) one per batch, the rates rising by a constant factor
    earlier_lr     after unfreezing: the last group's rate before; it matters where the curve rises
    div            what to divide that by; the lesson takes 5 or 10

    The level and the noise are those of the first n // 4 losses, at least one (`flat_start`). The
    curve ends where it blows up: `until_blow_up`, with most = level + the greater of level and 6
    times the noise. How far below the level is its lowest local mean, after that (`way_down`)?

    falls   by more than a tenth of the level and than 4 times the noise: see `falling`, for the
            rates of the steepest and the lowest point
    flat    by no more than a tenth of the level or the noise, whichever is greater. Where it also
            rises, see `rising`, for the rate of its `elbow`, and earlier_lr / div. It rises where
            it blows up, or the median of its last three losses is above the level by more than a
            tenth of that and 4 times the noise

    `no_answer`, with these words and the knob to turn, is given to all else, to a curve that
    - so ended has under 40 batches or two decades (factors of ten), or ends in that quarter:
      `39 of 100 batches count` (start_lr, num_it)
    - neither is flat nor falls: `too noisy` (batch size)
    - falls and is lowest in its last half decade: `it still falls at its end` (end_lr)
    - is flat: `neither falls nor rises` (end_lr), or with its elbow in that quarter (start_lr)

    Raises ValueError where earlier_lr is not above 0, or div is below 1; TypeError where earlier_lr
    is no rate. Source: fast.ai 2019, lesson 3; fastai v1 and v2 suggest rates for falls only.
    """
    check.between("div", div, 1)
    right = None if earlier_lr is None else group_rates(earlier_lr, 1)[-1] / div
    quarter = len(losses) // 4
    level, noise = flat_start(numpy.array(losses[:max(1, quarter)]))
    y = until_blow_up(numpy.array(losses), level + max(level, 6 * noise))
    x = numpy.log10(rates[:len(y)])
    if len(y) < max(40, quarter + 1) or x[-1] - x[0] < 2:
        return no_answer(f"{len(y)} of {len(losses)} batches count, too few or too near; take a "
                         "lower start_lr, a higher num_it or end_lr, or stop_div=False")
    means, slopes = local_lines(x, y)
    steepest, lowest = way_down(means, slopes, level, quarter)
    fall = level - means[lowest]
    if fall > max(level / 10, noise):
        if fall <= 4 * noise:
            return no_answer("it is too noisy to tell whether it falls; take a bigger batch size")
        if x[-1] - x[lowest] < 0.5:                     # it might have gone on falling
            return no_answer("it still falls at its end; take a higher end_lr")
        return falling(rates[steepest], rates[lowest])
    clear = level + max(level / 10, 4 * noise)
    if len(y) == len(losses) and numpy.median(y[-3:]) <= clear:
        return no_answer("it neither falls nor rises clearly; take a higher end_lr")
    bend = elbow(x, y)
    if bend < quarter:
        return no_answer("it rises from the first rates on; take a lower start_lr")
    return rising(rates[bend], right)


def flat_start(losses: ndarray) -> tuple[float, float]:
    """(level, noise): the losses' median, and median distance from it. NaN counts as a huge one."""
    losses = numpy.nan_to_num(losses, nan=1e300, posinf=1e300)
    level = numpy.median(losses)
    return level, numpy.median(abs(losses - level))


def until_blow_up(losses: ndarray, most: float) -> ndarray:
    """The losses until three in a row are above `most`; the first two of these three are kept.
    Each that is above it is replaced by it, a single one too. NaN counts as above."""
    above = ~(losses <= most)
    runs = numpy.flatnonzero(above[:-2] & above[1:-1] & above[2:])
    return numpy.where(above, most, losses)[:runs[0] + 2 if len(runs) else None]


def local_lines(x: ndarray, y: ndarray) -> tuple[ndarray, ndarray]:
    """For each point, the mean of y near it, and the slope of the straight line through y near it.

    x, y     (n), x evenly spaced and rising
    returns  (n) plain means, (n) slopes by least squares

    Near is what is at most 0.5 away in x (half a decade), and always the next point on each side.
    """
    reach = max(0.5, 1.5 * (x[1] - x[0]))
    near = [abs(x - centre) <= reach for centre in x]                                   # n of (n)
    return (numpy.array([y[those].mean() for those in near]),
            numpy.array([numpy.polyfit(x[those], y[those], 1)[0] for those in near]))


def way_down(means: ndarray, slopes: ndarray, level: float, first: int) -> tuple[int, int]:
    """The numbers of the points where a curve falls steepest and where it is lowest.

    means, slopes  (n) see local_lines
    level          where it comes from
    first          the number of the first point that can be the lowest, by its mean

    Steepest is the lowest slope between the lowest point and the last one before it whose mean is
    less than a tenth of the way down (where none is, the first point); both included.
    """
    lowest = first + means[first:].argmin()
    high = means[:lowest] > level - (level - means[lowest]) / 10
    top = max(numpy.flatnonzero(high), default=0)
    return top + slopes[top:lowest + 1].argmin(), lowest


def elbow(x: ndarray, y: ndarray) -> int:
    """The number k of the point where a flat y (n) begins to rise along a straight line: of 0 to
    n - 2 that whose c + s max(0, x - x_k) fits y best, with c and s, by least squares."""
    def misfit(k: int) -> float:
        bent = numpy.stack([numpy.ones_like(x), numpy.maximum(0, x - x[k])], axis=1)    # (n, 2)
        return numpy.square(bent @ numpy.linalg.lstsq(bent, y, rcond=None)[0] - y).sum()

    return min(range(len(x) - 1), key=misfit)


def no_answer(why: str) -> Suggestion:
    """No rate and nothing to mark, and as the reason "no clear answer: <why>"."""
    return Suggestion(None, f"no clear answer: {why}")


def falling(steep: float, lowest: float) -> Suggestion:
    """What to say of a curve that falls, by the rates where it is steepest and where lowest.

    lr is `steep`. The other rule, a tenth of the minimum, is beside it: in the reason, "the loss
    falls, steepest at 0.02; a tenth of the minimum: 0.005", and in the marks, which are "steepest"
    and "minimum / 10". All of them are `rounded`.
    """
    lr, tenth = rounded(steep), rounded(lowest / 10)
    return Suggestion(lr, f"the loss falls, steepest at {lr:g}; a tenth of the minimum: {tenth:g}",
                      {"steepest": lr, "minimum / 10": tenth})


def rising(bend: float, right: float | None) -> Suggestion:
    """What to say of a curve that is flat and rises from an elbow on.

    bend   the rate at the elbow; it and a tenth of it, `left`, are `rounded`
    right  the earlier rate, divided; None: there is none

    lr is left, or slice(left, right), or right alone, for all groups, where left is not below it.
    The reason: "the loss is flat, and rises from 0.0001 on: ten times back is 1e-05", and with
    right also "; the earlier rate, divided, is 0.002", where that is alone "and enough for all".
    The marks are "elbow" and "elbow / 10".
    """
    bend, left = rounded(bend), rounded(bend / 10)
    lr, reason = left, f"the loss is flat, and rises from {bend:g} on: ten times back is {left:g}"
    if right is not None:
        lr, more = (slice(left, right), "") if left < right else (right, " and enough for all")
        reason += f"; the earlier rate, divided, is {right:g}{more}"
    return Suggestion(lr, reason, {"elbow": bend, "elbow / 10": left})


def rounded(rate: float) -> float:
    """The number nearest to a rate, by ratio, of those that are 1, 2 or 5 times a power of ten:
    0.0123 -> 0.01. More digits would claim to know more than noisy losses tell."""
    power = floor(log10(rate))
    choices = [float(f"{digits}e{power}") for digits in (1, 2, 5, 10)]
    return min(choices, key=lambda choice: abs(log(choice / rate)))
