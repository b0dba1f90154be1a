"""A number as a function of progress (pct, 0 to 1): linear, cosine, exponential, one cycle."""

from math import cos, pi

from torch import Tensor

from minifast.tools import check


def linear(start: float, end: float, pct: float | Tensor) -> float | Tensor:
    """From start to end in equal steps."""
    return (1 - pct) * start + pct * end


def cosine(start: float, end: float, pct: float) -> float:
    """From start to end along half a period of a cosine: slow, then fast, then slow."""
    return linear(start, end, (1 - cos(pi * pct)) / 2)


def exponential(start: float, end: float, pct: float | Tensor) -> float | Tensor:
    """From start to end, both above 0, by the same factor in every step."""
    return start * (end / start) ** pct


def one_cycle(batch: int, batches: int, start: float, peak: float, end: float,
              pct_start: float = 0.3) -> float:
    """The value for a batch, counted from 0: a cosine from start up to peak, then one down to end.

    The peak is at batch int(batches * pct_start), but never before batch 1. The way down has
    batches - int(batches * pct_start) steps, so `end` itself comes only after the last batch.
    Source: fastai v1; Smith, arXiv 1803.09820."""
    check.between("pct_start", pct_start, 0, 1)
    before_peak = int(batches * pct_start)
    up, down = max(1, before_peak), batches - before_peak
    if batch <= up:
        return cosine(start, peak, batch / up)
    return cosine(peak, end, (batch - up) / down)
