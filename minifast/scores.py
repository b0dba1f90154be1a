"""A metric is a fraction, and the fractions of batches add up.

A metric compares a model's raw outputs for one batch (logits) with the right answers (targets), and
returns a Score: so many hits out of so many. Scores add up; then the batch size does not matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """hits out of out_of, as numbers or tensors; as vectors, one of each per class.

    a + b         adds hits to hits and out_of to out_of
    float(score)  the value, hits / out_of; of a per-class score the mean over the classes that
                  occur (out_of above 0); NaN where nothing occurs
    """

    hits: Tensor | float
    out_of: Tensor | float

    def __add__(self, other: "Score") -> "Score":
        return Score(self.hits + other.hits, self.out_of + other.out_of)

    def cpu(self) -> "Score":
        """The same with tensors on the CPU, for which a GPU has to be waited for."""
        return Score(*(part.cpu() if isinstance(part, Tensor) else part
                       for part in (self.hits, self.out_of)))

    @property
    def values(self) -> Tensor:
        """hits / out_of, on the CPU, in float64, plain numbers too; NaN where out_of is 0."""
        hits, out_of = (torch.as_tensor(part, dtype=torch.float64).cpu()
                        for part in (self.hits, self.out_of))
        return hits / out_of

    def __float__(self) -> float:
        return self.values.nanmean().item()


Metric = Callable[[Tensor, Tensor], Score | Tensor | float]
Metrics = Sequence[Metric | str] | Metric | str         # names are those in metrics.METRICS


def name_of(function: Metric) -> str:
    """A name: `fbeta`, and of a partial its knobs, preset arguments: `accuracy_thresh(thresh=0.2)`.

    functools.partial has no __name__, so v1 prints the bare function's and hides the knobs.
    An object of a class that can be called goes by its class.
    """
    if isinstance(function, partial):
        knobs = [repr(value) for value in function.args]
        knobs += [f"{knob}={value!r}" for knob, value in function.keywords.items()]
        return f"{name_of(function.func)}({', '.join(knobs)})"
    return getattr(function, "__name__", type(function).__name__)


def check_metric(function: Metric) -> None:
    """Raise TypeError where a function "cannot take (logits, targets) alone", as where a knob
    without a default is not set. It names the metric, what Python misses ('void_code'), and partial
    as the way out. Of a builtin without a signature nothing is known."""
    try:
        signature(function).bind("logits", "targets")
    except ValueError:
        return
    except TypeError as error:
        raise TypeError(f"metric {name_of(function)} cannot take (logits, targets) alone: {error}; "
                        f"set its knobs: partial(function, knob=value)") from error


def score(function: Metric, logits: Tensor, targets: Tensor) -> Score:
    """function(logits, targets) of a batch as a Score, also where a user's function gives a number.

    A number, or a 0-dim tensor, is taken as a mean over the n = len(targets) pictures of the batch:
    so it weighs n. That is exact for means over pictures, and what v1 does for all metrics. NaN
    (the notebook's acc_camvid of a batch that is all void, unlabelled) weighs nothing.
    Raises TypeError, naming the metric, on anything else.
    """
    result = function(logits, targets)
    if isinstance(result, Score):
        return result
    if isinstance(result, (int, float)) or getattr(result, "ndim", None) == 0:
        result, n = torch.as_tensor(result, dtype=torch.float64), len(targets)
        return Score(torch.where(result.isnan(), 0, result * n), torch.where(result.isnan(), 0, n))
    raise TypeError(f"metric {name_of(function)} must return a Score, a number or a 0-dim tensor, "
                    f"got {result!r}")
