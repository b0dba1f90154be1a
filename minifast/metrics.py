"""The lesson's metrics: functions of logits and targets; their knobs are preset with partial.

    acc_02 = partial(accuracy_thresh, thresh=0.2)

Each returns a Score, so many hits out of so many: see scores.
"""

from functools import partial
from inspect import signature

import torch
from torch import Tensor

from minifast import check
from minifast.scores import Metric, Metrics, Score, check_metric


def accuracy(logits: Tensor, targets: Tensor) -> Score:
    """Share of pictures, or of pixels, whose most likely class is the right one.

    logits   (n, c) float, or (n, c, h, w)
    targets  (n) int, class numbers, or (n, h, w)
    returns  Score of right answers out of n, or n*h*w

    Raises ValueError where there is not one target per answer.
    Source: fastai v1, metrics.accuracy.
    """
    answers = logits.argmax(dim=1)                                            # (n) or (n, h, w)
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


def confusion(logits: Tensor, targets: Tensor, void_code: int | None = None) -> Score:
    """What is taken for what: of the pixels of each class, the share that is said to be each class.

    logits     (n, c, h, w) float
    targets    (n, h, w) int, class numbers
    void_code  the class whose pixels do not count, since they are unlabelled (where it is said of
               others, that counts); None: all count
    returns    Score with hits (c, c): in row i and column j the number of pixels of class i whose
               most likely class is j; and out_of (c, 1): the number of pixels of class i

    Raises ValueError where there is not one target per pixel, or void_code is no class.
    """
    c, answers = logits.shape[1], logits.argmax(dim=1)                        # (n, h, w)
    check.same_shape("confusion", answers=answers, targets=targets)
    pairs = (targets.long() * c + answers).flatten()            # a byte would overflow
    # Not bincount, nor pairs[targets != void_code]: a GPU would have to be waited for.
    counts = pairs.new_zeros(c * c).scatter_add_(0, pairs, torch.ones_like(pairs)).reshape(c, c)
    if void_code is not None:
        check.between("void_code", void_code, 0, c - 1)
        counts[void_code] = 0
    return Score(counts, counts.sum(dim=1, keepdim=True))


def foreground_accuracy(logits: Tensor, targets: Tensor, void_code: int | None) -> Score:
    """Share of the labelled pixels, those that are not void, whose most likely class is right.

    logits, targets, void_code  as for `confusion`
    returns  Score of right pixels out of labelled ones: so a batch of void alone is harmless

    Source: lesson 3's acc_camvid; fastai v1, metrics.foreground_acc, weighs by pictures.
    """
    counts = confusion(logits, targets, void_code).hits                       # (c, c)
    return Score(counts.diag().sum(), counts.sum())


def mean_iou(logits: Tensor, targets: Tensor, void_code: int | None = None) -> Score:
    """Intersection over union of each class: its pixels in both truth and prediction, out of
    those in either. Labelled pixels only.

    logits, targets, void_code  as for `confusion`
    returns  Score of vectors (c), whose value is the mean over the classes that occur, in truth or
             in answers; void is left out. Score.values has that of each class, NaN for the others

    Source: Long et al. 2015, arXiv 1411.4038.
    """
    counts = confusion(logits, targets, void_code).hits                       # (c, c)
    union = counts.sum(dim=0) + counts.sum(dim=1) - counts.diag()             # (c)
    if void_code is not None:
        union[void_code] = 0
    return Score(counts.diag(), union)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy, "accuracy_thresh": accuracy_thresh, "fbeta": fbeta,
    "foreground_accuracy": foreground_accuracy, "mean_iou": mean_iou}


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


def chosen(metrics: Metrics) -> list[Metric]:
    """The functions that `metrics` means: functions, partials and names in METRICS, or one alone.

    Raises ValueError on an unknown name, TypeError as scores.check_metric does.
    """
    several = [metrics] if callable(metrics) or isinstance(metrics, str) else metrics
    functions = [metric(each) if isinstance(each, str) else each for each in several]
    for function in functions:
        check_metric(function)
    return functions
