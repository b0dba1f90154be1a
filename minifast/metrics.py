"""Metrics: how well a model does, as fractions that can be added over batches.

A metric takes the model's raw outputs for a batch (logits) and the right answers (targets), and
returns a Score. The sum of the batches' Scores is exact for the whole data set, whatever the batch
size. Metrics only inform; they do not affect training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from minifast.tools import check


@dataclass(frozen=True)
class Score:
    """A fraction, hits / out_of: two numbers, or two tensors with an entry per class."""
    hits: Tensor | float
    out_of: Tensor | float

    def __add__(self, other: "Score") -> "Score":
        return Score(self.hits + other.hits, self.out_of + other.out_of)

    @property
    def values(self) -> Tensor:
        """hits / out_of, in float64, on the CPU. NaN where out_of is 0."""
        hits, out_of = (torch.as_tensor(part, dtype=torch.float64).cpu()
                        for part in (self.hits, self.out_of))
        return hits / out_of

    def __float__(self) -> float:
        """The value. With classes, the mean of `values` over the classes with out_of > 0."""
        return self.values.nanmean().item()


Metric = Callable[[Tensor, Tensor], Score | Tensor | float]
Metrics = Sequence[Metric | str] | Metric | str         # names are keys of METRICS, below


def accuracy(logits: Tensor, targets: Tensor) -> Score:
    """Share of pictures (for masks: pixels) where the largest logit belongs to the right class.
    logits are (n, c) or (n, c, h, w) float, targets (n) or (n, h, w) int: class numbers."""
    answers = logits.argmax(dim=1)                                            # (n) or (n, h, w)
    check.same_shape("accuracy", answers=answers, targets=targets)
    return Score((answers == targets).sum(), targets.numel())


def accuracy_thresh(logits: Tensor, targets: Tensor, thresh: float = 0.5,
                    sigmoid: bool = True) -> Score:
    """Share of right answers to "does this picture have this tag?", over all pictures and tags.
    Most pictures lack most tags, so a model that never predicts a tag already scores high.

    logits   (n, c) float; with sigmoid=False these are probabilities already
    targets  (n, c) 0 or 1
    thresh   a tag is predicted where its probability is strictly above this
    """
    check.same_shape("accuracy_thresh", logits=logits, targets=targets)
    predicted = (logits.sigmoid() if sigmoid else logits) > thresh            # (n, c) bool
    return Score((predicted == targets.bool()).sum(), targets.numel())


def fbeta(logits: Tensor, targets: Tensor, thresh: float = 0.2, beta: float = 2, eps: float = 1e-9,
          sigmoid: bool = True) -> Score:
    """F-beta of each picture's tags, averaged over pictures. Kaggle ranks Planet by F2.

    Precision is the share of the predicted tags that are true, recall the share of the true tags
    that are predicted. beta says how many times as much recall counts as precision:

        F = (1 + beta^2) * precision * recall / (beta^2 * precision + recall)

    Each of the three divisors has eps added, so a picture without a hit scores 0.
    Other arguments as for accuracy_thresh. Source: fastai v1, metrics.fbeta.
    """
    check.same_shape("fbeta", logits=logits, targets=targets)
    # float64, because in float32 3 + eps is 3.
    predicted = ((logits.sigmoid() if sigmoid else logits) > thresh).double()  # (n, c)
    hits = (predicted * targets).sum(dim=1)                                   # (n)
    precision = hits / (predicted.sum(dim=1) + eps)
    recall = hits / (targets.double().sum(dim=1) + eps)
    f = (1 + beta ** 2) * precision * recall / (beta ** 2 * precision + recall + eps)
    return Score(f.sum(), len(targets))


def confusion(logits: Tensor, targets: Tensor, void_code: int | None = None) -> Score:
    """Confusion matrix: hits (c, c) is the number of pixels for each true class (row) and predicted
    class (column), out_of (c, 1) the number of pixels of each true class.

    logits (n, c, h, w) float; targets (n, h, w) int, class numbers
    void_code  the class of unlabelled pixels, which are not counted; it can still be predicted
    """
    c, answers = logits.shape[1], logits.argmax(dim=1)                        # (n, h, w)
    check.same_shape("confusion", answers=answers, targets=targets)
    pairs = (targets.long() * c + answers).flatten()                          # (n*h*w)
    # Not bincount or targets[labelled]: for their sizes, the program would wait for the GPU.
    counts = pairs.new_zeros(c * c).scatter_add_(0, pairs, torch.ones_like(pairs)).reshape(c, c)
    if void_code is not None:
        check.between("void_code", void_code, 0, c - 1)
        counts[void_code] = 0
    return Score(counts, counts.sum(dim=1, keepdim=True))


def foreground_accuracy(logits: Tensor, targets: Tensor, void_code: int | None) -> Score:
    """Share of labelled pixels whose class is right: lesson 3's acc_camvid. Preset void_code."""
    counts = confusion(logits, targets, void_code).hits                       # (c, c)
    return Score(counts.diag().sum(), counts.sum())


def mean_iou(logits: Tensor, targets: Tensor, void_code: int | None = None) -> Score:
    """Intersection over union, per class (c): labelled pixels where truth and prediction are both
    this class, out of those where either is; for void itself 0 out of 0.
    Source: Long et al. 2015, arXiv 1411.4038."""
    counts = confusion(logits, targets, void_code).hits                       # (c, c)
    union = counts.sum(dim=0) + counts.sum(dim=1) - counts.diag()             # (c)
    if void_code is not None:
        union[void_code] = 0
    return Score(counts.diag(), union)


METRICS: dict[str, Metric] = {function.__name__: function for function in (
    accuracy, accuracy_thresh, fbeta, foreground_accuracy, mean_iou)}


def register(name: str, function: Metric) -> None:
    """Make a metric known by name."""
    METRICS[name] = function


def metric(name: str, **preset) -> Metric:
    """A metric by name, with arguments preset: metric("fbeta", thresh=0.2)."""
    check.one_of("metric", name, METRICS)
    return partial(METRICS[name], **preset) if preset else METRICS[name]


def chosen(metrics: Metrics) -> list[Metric]:
    """A list of functions, from one metric or several, each a function or a name."""
    several = [metrics] if callable(metrics) or isinstance(metrics, str) else metrics
    return [metric(each) if isinstance(each, str) else each for each in several]


def name_of(function: Metric) -> str:
    """The name of a metric in tables: `fbeta`, or, for a partial, `fbeta(thresh=0.2)`."""
    if isinstance(function, partial):
        preset = [*map(repr, function.args),
                  *(f"{name}={value!r}" for name, value in function.keywords.items())]
        return f"{name_of(function.func)}({', '.join(preset)})"
    return getattr(function, "__name__", type(function).__name__)


def score(function: Metric, logits: Tensor, targets: Tensor) -> Score:
    """The Score of one batch. A plain number counts as the mean over the pictures of the batch; if
    it is not that, the batch size matters. NaN counts nothing, as for a batch of void."""
    result = function(logits, targets)
    if isinstance(result, Score):
        return result
    result, n = torch.as_tensor(result, dtype=torch.float64), len(targets)
    return Score(torch.where(result.isnan(), 0, result * n), torch.where(result.isnan(), 0, n))
