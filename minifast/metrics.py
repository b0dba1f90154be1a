"""A metric is a fraction, and the fractions of batches add up.

A metric looks at one batch and returns a Score: so many hits out of so many. Scores of batches are
added, and only the sum is divided. So the metric of a data set does not depend on the batch size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch
from torch import Tensor

from minifast import check


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

    def __float__(self) -> float:
        hits = torch.as_tensor(self.hits, dtype=torch.float64).reshape(-1).cpu()      # (1) or (c)
        out_of = torch.as_tensor(self.out_of, dtype=torch.float64).reshape(-1).cpu()
        occurs = out_of > 0
        return (hits[occurs] / out_of[occurs]).mean().item()


Metric = Callable[[Tensor, Tensor], Score | Tensor | float]


def accuracy(logits: Tensor, targets: Tensor) -> Score:
    """Share of pictures whose most likely class is the right one.

    logits   (n, c) float
    targets  (n) int, class numbers
    returns  Score of right pictures out of n

    Raises ValueError where there is not one target per row of logits.
    Source: fastai v1, metrics.accuracy.
    """
    answers = logits.argmax(dim=-1)                                           # (n)
    check.same_shape("accuracy", answers=answers, targets=targets)
    return Score((answers == targets).sum(), targets.numel())


def accuracy_thresh(logits: Tensor, targets: Tensor, thresh: float = 0.5,
                    sigmoid: bool = True) -> Score:
    """Share of (picture, class) cells answered right; each class is a yes/no question of its own.

    logits   (n, c) float   raw model output; probabilities if sigmoid is False
    targets  (n, c) 0 or 1
    thresh   probability in 0..1; strictly above it the answer is yes
    returns  Score of right cells out of n*c cells

    Most cells are 0, so saying no to everything already scores high: see the lesson's baselines.
    Raises ValueError where the shapes differ.
    Source: fastai v1, metrics.accuracy_thresh; lesson 3 uses thresh=0.2.
    """
    check.same_shape("accuracy_thresh", logits=logits, targets=targets)
    says_yes = (logits.sigmoid() if sigmoid else logits) > thresh             # (n, c) bool
    return Score((says_yes == targets.bool()).sum(), targets.numel())


def fbeta(logits: Tensor, targets: Tensor, thresh: float = 0.2, beta: float = 2, eps: float = 1e-9,
          sigmoid: bool = True) -> Score:
    """The F-beta score of each picture's set of tags, averaged over pictures; Kaggle ranks by F2.

    For each picture, with hits = tags that are both said and true:

        precision = hits / (tags said + eps)        recall = hits / (true tags + eps)
        F = (1 + beta^2) precision recall / (beta^2 precision + recall + eps)

    beta says how many times as much recall counts as precision. eps keeps 0/0 away: a picture
    with no true tag, or none said, gives 0. Computed in float64, which keeps a small eps, and sums
    that do not depend on the batch size.

    logits   (n, c) float   raw model output; probabilities if sigmoid is False
    targets  (n, c) 0 or 1
    thresh   probability in 0..1; strictly above it the tag is said
    returns  Score of the sum of F over pictures, out of n

    Raises ValueError where the shapes differ.
    Source: fastai v1, metrics.fbeta.
    """
    check.same_shape("fbeta", logits=logits, targets=targets)
    said = (logits.sigmoid() if sigmoid else logits) > thresh                 # (n, c) bool
    said, true = said.double(), targets.double()
    hits = (said * true).sum(dim=1)                                           # (n)
    precision = hits / (said.sum(dim=1) + eps)
    recall = hits / (true.sum(dim=1) + eps)
    f = (1 + beta ** 2) * precision * recall / (beta ** 2 * precision + recall + eps)
    return Score(f.sum(), len(targets))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "accuracy_thresh": accuracy_thresh,
                              "fbeta": fbeta}


def register(name: str, function: Metric) -> None:
    """Put a function or a partial under a name in METRICS; the same name again replaces it.

    Raises TypeError where it cannot be called.
    """
    if not callable(function):
        raise TypeError(f"metric {name!r} must be a function or a partial, got {function!r}")
    METRICS[name] = function


def metric(name: str, **knobs) -> Metric:
    """The registered metric of that name, with its knobs preset: metric("fbeta", thresh=0.2).

    It is partial(fbeta, thresh=0.2), looked up by name. Without knobs it is the entry itself.
    Raises ValueError on an unknown name, TypeError on a knob that the metric does not have.
    """
    check.one_of("metric", name, METRICS)
    function = METRICS[name]
    unknown = set(knobs) - set(signature(function).parameters)
    if unknown:
        raise TypeError(f"metric {name!r} has no {check.some(sorted(unknown))}; "
                        f"it takes: {', '.join(signature(function).parameters)}")
    return partial(function, **knobs) if knobs else function


def name_of(function: Metric) -> str:
    """A readable name: `fbeta`, and for a partial its knobs too: `accuracy_thresh(thresh=0.2)`.

    functools.partial has no __name__, so v1 prints the bare function's and hides the knobs.
    An object of a class that can be called goes by its class.
    """
    if isinstance(function, partial):
        knobs = [repr(value) for value in function.args]
        knobs += [f"{knob}={value!r}" for knob, value in function.keywords.items()]
        return f"{name_of(function.func)}({', '.join(knobs)})"
    return getattr(function, "__name__", type(function).__name__)


def score(function: Metric, logits: Tensor, targets: Tensor) -> Score:
    """The metric of one batch as a Score, also where a user's plain function returns a number.

    A number, or a 0-dim tensor, is taken as a mean over the n pictures of the batch: so
    it weighs n. That is exact for means over pictures, and what v1 does for all metrics.
    Raises TypeError, naming the metric, on anything else.
    """
    result = function(logits, targets)
    if isinstance(result, Score):
        return result
    if isinstance(result, (int, float)) or getattr(result, "ndim", None) == 0:
        return Score(result * len(targets), len(targets))
    raise TypeError(f"metric {name_of(function)} must return a Score, a number or a 0-dim tensor, "
                    f"got {result!r}")
