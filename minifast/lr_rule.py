"""How lesson 3 reads the curve of an LR range test: which learning rate, and why.

A head that knows nothing gives a curve that is flat, falls, and shoots up: take the rate at which
it falls steepest. A trained net gives one that is flat and then rises: go back ten times from the
elbow. Both are read off the losses as they are, over the logarithm of the rate: the smoothed curve
is easier to look at, but averages over what came before, and so turns later.
"""

from dataclasses import dataclass, field
from math import floor, log, log10

import numpy
from numpy import ndarray

from minifast import check
from minifast.groups import group_rates

FEWEST = 20                             # points; a curve of fewer says nothing


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
    """The lesson's rule for a curve; all rates it gives are `rounded`.

    rates, losses  (n) one per batch, the rates rising by a constant factor
    earlier_lr     after unfreezing: the rate (of the last layer group) of the training before
    div            what to divide that by; the lesson takes 5 or 10

    The level is the median of the first n // 4 losses. A change is clear where it is more than a
    tenth of the level, and more than 5 times the median distance of those losses from it.
    The curve ends where it blows up, see `until_blow_up`, at twice the level.

    falls   its lowest local mean (`local_lines`) is clearly below the level: lr is the rate of the
            steepest local slope, between the last local mean that is less than a tenth of the way
            down and the lowest. The reason has the other rule beside it, a tenth of the minimum:
            that of the rate of the lowest local mean
    rises   else, and its last three losses are on average clearly above the level: lr is a tenth of
            the elbow, and with earlier_lr slice(elbow / 10, earlier_lr / div), or earlier_lr / div
            alone where that slice would run downwards
    no answer: else, and where the elbow is within half a decade of the first rate, or n is below 20

    Raises ValueError where earlier_lr is not above 0, or div is below 1. Source: fast.ai 2019,
    lesson 3; fastai v1 and v2 suggest rates for the first shape only.
    """
    check.between("div", div, 1)
    right = None if earlier_lr is None else group_rates(earlier_lr, 1)[-1] / div
    if len(losses) < FEWEST:
        return no_answer(f"{len(losses)} points are too few; take a higher num_it")
    start = numpy.array(losses[:len(losses) // 4])
    level = numpy.median(start)
    clear = max(level / 10, 5 * numpy.median(abs(start - level)))
    y = until_blow_up(numpy.array(losses), 2 * level)
    x = numpy.log10(rates[:len(y)])
    if len(y) < FEWEST:
        return no_answer(f"it blows up after {len(y)} points; take a lower start_lr")
    means, slopes = local_lines(x, y)
    lowest = means.argmin()
    fall = level - means[lowest]
    if fall > clear:
        begin = max(numpy.flatnonzero(means[:lowest] > level - fall / 10), default=0)
        return falling(rates[begin + slopes[begin:lowest + 1].argmin()], rates[lowest])
    if y[-3:].mean() - level <= clear:
        return no_answer("the loss neither falls nor rises clearly; take a higher end_lr")
    bend = elbow(x, y)
    if x[bend] - x[0] < 0.5:
        return no_answer("the loss rises from the first rates on; take a lower start_lr")
    return rising(rates[bend], right)


def until_blow_up(losses: ndarray, most: float) -> ndarray:
    """The losses up to the first two in a row that are above `most`, those two included.

    Each that is above it is replaced by it, a single one too. NaN counts as above.
    """
    above = ~(losses <= most)
    pairs = numpy.flatnonzero(above[:-1] & above[1:])
    return numpy.where(above, most, losses)[:pairs[0] + 2 if len(pairs) else None]


def local_lines(x: ndarray, y: ndarray) -> tuple[ndarray, ndarray]:
    """For each point, the mean of y near it, and the slope of the line through y near it.

    x, y     (n), x evenly spaced and rising
    returns  (n) means, (n) slopes, of the straight line by least squares

    Near is what is at most 0.5 away in x (half a decade), and always the next point on each side.
    """
    reach = max(0.5, 1.5 * (x[1] - x[0]))
    near = [abs(x - centre) <= reach for centre in x]                                   # n of (n)
    return (numpy.array([y[those].mean() for those in near]),
            numpy.array([numpy.polyfit(x[those], y[those], 1)[0] for those in near]))


def elbow(x: ndarray, y: ndarray) -> int:
    """The number of the point where a flat y begins to rise along a straight line.

    That is the k, not among the first and the last two, whose c + s max(0, x - x_k), with c and s
    by least squares, has the smallest sum of squared distances from y.
    """
    def misfit(k: int) -> float:
        bent = numpy.stack([numpy.ones_like(x), numpy.maximum(0, x - x[k])], axis=1)    # (n, 2)
        return numpy.square(bent @ numpy.linalg.lstsq(bent, y, rcond=None)[0] - y).sum()

    return min(range(1, len(x) - 2), key=misfit)


def no_answer(why: str) -> Suggestion:
    """What to say where the curve says nothing."""
    return Suggestion(None, f"no clear answer: {why}")


def falling(steepest: float, lowest: float) -> Suggestion:
    """What to say of a curve that falls, by the rates where it is steepest and where lowest."""
    lr, tenth = rounded(steepest), rounded(lowest / 10)
    return Suggestion(lr, f"the loss falls, steepest at {lr:g}; a tenth of the minimum: {tenth:g}",
                      {"steepest": lr, "minimum / 10": tenth})


def rising(bend: float, right: float | None) -> Suggestion:
    """What to say of a curve that rises from an elbow on; right: the earlier rate, divided."""
    bend, left = rounded(bend), rounded(bend / 10)
    lr, reason = left, f"the loss is flat, and rises from {bend:g} on: ten times back is {left:g}"
    if right is not None:
        lr = slice(left, right) if left < right else right
        reason += f"; the earlier rate, divided, is {right:g}"
    return Suggestion(lr, reason, {"elbow": bend})


def rounded(rate: float) -> float:
    """The nearest number, by ratio, of those that are 1, 2 or 5 times a power of ten.

    0.0123 -> 0.01. More digits would claim to know more than noisy losses tell.
    """
    power = floor(log10(rate))
    choices = [float(f"{digits}e{power}") for digits in (1, 2, 5, 10)]
    return min(choices, key=lambda choice: abs(log(choice / rate)))
