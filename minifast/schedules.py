"""A number as a function of progress: straight, along a cosine, by a constant factor, one cycle."""

from collections.abc import Callable, Sequence
from math import cos, pi

from torch import Tensor

from minifast import check


def linear(start: float, end: float, pct: float | Tensor) -> float | Tensor:
    """From start (at pct 0) to end (at pct 1) in equal steps, both reached exactly."""
    return (1 - pct) * start + pct * end


def cosine(start: float, end: float, pct: float) -> float:
    """From start (at pct 0) to end (at pct 1) along half a cosine: slow, fast, slow.

        end + (start - end) / 2 * (1 + cos(pi pct))

    Source: Loshchilov and Hutter 2016 (SGDR); fastai v1, callback.annealing_cos.
    """
    return linear(start, end, (1 - cos(pi * pct)) / 2)


def exponential(start: float, end: float, pct: float | Tensor) -> float | Tensor:
    """From start (at pct 0) to end (at pct 1) by a constant factor: start (end / start)^pct.

    Both must be above 0. Source: fastai v1, callback.annealing_exp.
    """
    return start * (end / start) ** pct


def one_cycle(batch: int, batches: int, start: float, peak: float, end: float,
              pct_start: float = 0.3) -> float:
    """The value used at a batch: a cosine from start up to peak, then a cosine down to end.

    batch      which batch, counted from 0
    batches    how many there are in all
    pct_start  share of the batches before the peak, 0..1

    With up = max(1, int(batches * pct_start)) and down = batches - int(batches * pct_start):

        batch <= up:  cosine(start, peak, batch / up)
        then:         cosine(peak, end, (batch - up) / down)

    So `end` itself would be the value after the last batch. Momentum goes through the same clock
    upside down: one_cycle(batch, batches, 0.95, 0.85, 0.95).

    Raises ValueError where pct_start is not in 0..1.
    Source: fastai v1, callbacks/one_cycle.py; Smith 2018, arXiv 1803.09820. torch's peaks earlier.
    """
    check.between("pct_start", pct_start, 0, 1)
    before_peak = int(batches * pct_start)
    up, down = max(1, before_peak), batches - before_peak
    if batch <= up:
        return cosine(start, peak, batch / up)
    return cosine(peak, end, (batch - up) / down)


def one_cycle_of(peaks: Sequence[float], batches: int,
                 pct_start: float) -> Callable[[int], tuple[list[float], float]]:
    """The one-cycle policy of a fit: a function of the number of a batch, from 0, that gives a
    learning rate per layer group (layers that share one: see groups), and the momentum.

    peaks      the highest rate of each group; it begins at peak/25 and ends at peak/250000
    batches    how many there are in all
    pct_start  the share of them in which rates rise, and momentum falls

    Momentum goes from .95 to .85 to .95. Source: fastai v1, fit_one_cycle.
    """
    def schedule(batch: int) -> tuple[list[float], float]:
        rates = [one_cycle(batch, batches, peak / 25, peak, peak / 25e4, pct_start)
                 for peak in peaks]
        return rates, one_cycle(batch, batches, 0.95, 0.85, 0.95, pct_start)

    return schedule
