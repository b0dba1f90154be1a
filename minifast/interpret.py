"""Where is the model wrong? Tables and pictures of its mistakes.

For tags tag by tag, for masks class by class; and beside them what constant answers score.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy
from PIL import Image, ImageDraw
import torch
from torch import Tensor
import torch.nn.functional as F

from minifast.images import open_image, to_pil
from minifast.loader import Loader
from minifast.metrics import Metric, Score, name_of, score
from minifast.results import evaluating, full_gpu, outputs
from minifast.thresholds import check_tags, one_per_tag, table
from minifast.tools import check
from minifast.tools.draw import FONT, grid


def tag_counts(probabilities: Tensor, targets: Tensor, thresh: float | Tensor = 0.2) -> Tensor:
    """One 2x2 table per tag, (c, 2, 2) int64: [tag, truth, answer] is the number of pictures with
    that truth and that answer, 0 no and 1 yes. So in [:, 1, 0] the tag was missed.

    probabilities, targets   see thresholds.check_tags, also for errors
    thresh   a number or one per tag: thresholds.one_per_tag; strictly above it the answer is yes
    """
    check_tags(probabilities, targets)
    said, true = probabilities > one_per_tag(thresh, probabilities), targets.bool()     # (n, c)
    counts = [(truth & answer).sum(dim=0) for truth in (~true, true) for answer in (~said, said)]
    return torch.stack(counts, dim=1).reshape(-1, 2, 2)                       # (c, 4) -> (c, 2, 2)


def tag_table(probabilities: Tensor, targets: Tensor, names: Sequence[str],
              thresh: float | Tensor = 0.2) -> str:
    """A line per tag: support, how many pictures have it, thresh, and with three decimals

        precision = hits / said     recall = hits / support     F2 = 5 hits / (4 support + said)

    each n/a where it is 0/0; the lowest F2 first, n/a last. (It is one of all pictures for a tag;
    metrics.fbeta is the mean of one of all tags for a picture.) Below them a line on all cells:

        right cells 0.914, by no to everything 0.551; pictures with all tags right 0.215

    probabilities, targets, thresh   as for tag_counts, also for errors
    names    of the c tags; ValueError where they are not as many
    """
    counts = tag_counts(probabilities, targets, thresh)
    check.between("number of names", len(names), len(counts), len(counts))
    thresholds = one_per_tag(thresh, probabilities)
    hits, said, support = counts[:, 1, 1], counts[:, :, 1].sum(dim=1), counts[:, 1].sum(dim=1)
    f2 = 5 * hits / (4 * support + said)
    columns = support, thresholds, hits / said, hits / support, f2
    rows = [["tag", "support", "thresh", "precision", "recall", "F2"]]
    for i in f2.nan_to_num(2).argsort(stable=True).tolist():
        rows.append([names[i], *(column[i].item() for column in columns)])
    right = (probabilities > thresholds) == targets.bool()                    # (n, c)
    return (f"{table(rows)}\nright cells {right.double().mean():.3f}, by no to everything "
            f"{1 - targets.double().mean():.3f}; pictures with all tags right "
            f"{right.all(dim=1).double().mean():.3f}")


def constant_tags(targets: Tensor, metrics: Sequence[Metric]) -> dict[str, dict[str, float]]:
    """What answers score that are the same for all pictures: {"no tag": {metric: value}, ...}.

    targets  (n, c) 0 or 1; errors: thresholds.check_tags
    metrics  functions of (probabilities, targets, sigmoid=False), such as partial(fbeta,
             thresh=0.2); in the result they go by metrics.name_of

    "best constant tags" are the k most frequent (of equal ones the first), for that k from 1 to c
    which has the best value of the last metric (of equal ones the least): a generous baseline.
    """
    check_tags(targets, targets)
    common_first = targets.sum(dim=0).argsort(descending=True, stable=True)   # (c) tag numbers

    def of_the_first(k: int) -> dict[str, float]:
        said = torch.zeros(targets.shape)
        said[:, common_first[:k]] = 1
        return {name_of(metric): float(metric(said, targets, sigmoid=False)) for metric in metrics}

    best = max((of_the_first(k) for k in range(1, len(common_first) + 1)),
               key=lambda values: list(values.values())[-1])
    return {"no tag": of_the_first(0), "best constant tags": best}


def worst_per_tag(probabilities: Tensor, targets: Tensor, k: int) -> Tensor:
    """The numbers of each tag's k worst pictures, those with the largest binary cross-entropy of
    that tag alone, as (c, k) int64, worst first; of equals the first come first.
    probabilities, targets: see thresholds.check_tags, also for errors; k is 1..n, or ValueError."""
    check_tags(probabilities, targets)
    check.between("k", k, 1, len(targets))
    losses = F.binary_cross_entropy(probabilities, targets.to(probabilities.dtype),
                                    reduction="none")                         # (n, c)
    return losses.argsort(dim=0, descending=True, stable=True)[:k].T          # (c, k)


def worst_per_tag_picture(probabilities: Tensor, targets: Tensor, names: Sequence[str],
                          files: Sequence[Path | str], k: int = 4,
                          size: tuple[int, int] = (160, 160)) -> Image.Image:
    """A row per tag: its k worst pictures, with captions `haze: no, said 0.98;name of the file`,
    where yes or no is the truth, and then comes the probability that was given to yes.

    probabilities, targets, k   as for worst_per_tag, also for errors
    names    of the c tags, and files, of the n pictures; ValueError where they are not as many
    size     (rows, columns) in which they are opened, see images.open_image
    """
    numbers = worst_per_tag(probabilities, targets, k)
    check.between("number of names", len(names), len(numbers), len(numbers))
    check.between("number of files", len(files), len(targets), len(targets))
    cells = [(tag, i) for tag, row in enumerate(numbers.tolist()) for i in row]
    captions = [f"{names[tag]}: {'yes' if targets[i, tag] else 'no'}, "
                f"said {probabilities[i, tag]:.2f};{Path(files[i]).name}" for tag, i in cells]
    return grid([to_pil(open_image(files[i], size)) for _, i in cells], captions, k)


def picture_scores(learn: object, loader: Loader, metric: Metric) -> Tensor:
    """The value of a metric for each picture of a loader by itself, (n) float64 on the CPU, in
    order; NaN where nothing counts (all void).
    metric   as for training: (logits, targets), here of one picture, -> Score or a number
    learn    a Learner; its model is in eval mode meanwhile
    """
    with full_gpu(loader), evaluating(learn.model):
        batches = [[float(score(metric, logits[i:i + 1], y[i:i + 1])) for i in range(len(y))]
                   for logits, y in outputs(learn, loader)]
    return torch.tensor(sum(batches, []), dtype=torch.float64)


def worst(scores: Tensor, k: int) -> list[int]:
    """The numbers of the k lowest scores, (n) float, lowest first; of equals the first come first.
    NaN is left out, so they may be fewer. Raises ValueError where k is below 1."""
    check.between("k", k, 1)
    return [i for i in scores.argsort(stable=True).tolist() if not scores[i].isnan()][:k]


def iou_table(counts: Score, names: Sequence[str], void_code: int | None = None) -> str:
    """A line per class: pixels, in the truth, and IoU: of those in truth or answers, the share that
    is in both, or n/a; most pixels first. Below `mean IoU of 11 classes 0.612`, of those that are
    not n/a: the value of metrics.mean_iou.

    counts     Score of metrics.confusion over a data set: learn.score(partial(confusion, ...))
    names      of the c classes; ValueError where they are not as many
    void_code  the same as for `confusion`: this class has no IoU
    """
    check.between("number of names", len(names), len(counts.hits), len(counts.hits))
    pixels, both = counts.hits.sum(dim=1), counts.hits.diag()                 # (c)
    union = pixels + counts.hits.sum(dim=0) - both
    if void_code is not None:
        union[void_code] = 0
    iou = Score(both, union)
    rows = [["class", "pixels", "IoU"]]
    for i in pixels.argsort(descending=True, stable=True).tolist():
        rows.append([names[i], pixels[i].item(), iou.values[i].item()])
    return f"{table(rows)}\nmean IoU of {(union > 0).sum()} classes {float(iou):.3f}"


def constant_class(pixels: Tensor, void_code: int | None = None) -> tuple[int, float, float]:
    """(class, accuracy, mean IoU) of always answering the most common class, of equals the first.

    pixels     (c) int, of each class; ValueError if the `number of labelled pixels` is below 1
    void_code  the class whose pixels do not count, or None
    Accuracy is its share of the pixels that count, and so is its IoU; others that occur have 0.
    """
    pixels = pixels.clone()
    if void_code is not None:
        pixels[void_code] = 0
    check.between("number of labelled pixels", pixels.sum().item(), 1)
    share = (pixels.max() / pixels.sum()).item()
    return pixels.argmax().item(), share, share / (pixels > 0).sum().item()


def confusion_picture(shares: Tensor, names: Sequence[str]) -> Image.Image:
    """A table of percents: a row per true class, a column per prediction; the bluer, the more.

    shares  (c, c) 0..1, NaN where a class does not occur: Score.values of metrics.confusion
    names   of the c classes
    """
    cell, margin = 34, 12 + max(ceil(FONT.getlength(name)) for name in names)
    side = margin + cell * len(names)
    # The names of the columns are written as rows of a second picture, which is then turned.
    sheet, turned = (Image.new("RGB", (side, side), "white") for _ in range(2))
    for i, name in enumerate(names):
        y = margin + (i + 0.5) * cell
        ImageDraw.Draw(sheet).text((margin - 6, y), name, "black", FONT, anchor="rm")
        ImageDraw.Draw(turned).text((6, y), name, "black", FONT, anchor="lm")
    sheet.paste(turned.rotate(90).crop((margin, side - margin, side, side)), (margin, 0))
    pen = ImageDraw.Draw(sheet)
    for (row, column), share in numpy.ndenumerate(shares.numpy()):
        x, y = margin + column * cell, margin + row * cell
        if share > 0:
            pale = round(255 * (1 - share))
            pen.rectangle([x, y, x + cell - 2, y + cell - 2], (pale, pale, 255))
            pen.text((x + cell / 2, y + cell / 2), f"{100 * share:.0f}",
                     "black" if share < 0.5 else "white", FONT, anchor="mm")
    return grid([sheet], ["rows: truth, columns: prediction; in percent of the row"], 1)
