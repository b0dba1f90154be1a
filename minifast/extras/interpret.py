"""Where is the model wrong? Tables and pictures of its mistakes, scores of constant answers, and a
better threshold. Arguments named probabilities and targets are what learn.get_preds() returns.
"""

from collections.abc import Sequence

import numpy
from PIL import Image, ImageDraw
import torch
from torch import Tensor

from minifast.learner import Learner
from minifast.metrics import Metric, Score, fbeta, name_of, score
from minifast.results import evaluating, full_gpu, outputs
from minifast.tools.draw import FONT
from minifast.tools.seeds import generator_for


def tag_table(probabilities: Tensor, targets: Tensor, classes: Sequence[str],
              thresh: float | Tensor = 0.2) -> str:
    """A line per tag: how many pictures have the tag, then precision, recall and F2 over all
    pictures, the lowest F2 first. A last line names the tags that no picture has. probabilities and
    targets are (n, c); thresh is a number, or one per tag, as in metrics.fbeta."""
    predicted, true = probabilities > thresh, targets.bool()                # (n, c)
    hits, said, have = (part.sum(dim=0) for part in (predicted & true, predicted, true))    # (c)
    f2 = 5 * hits / (4 * have + said)       # F-beta with beta 2, from precision and recall
    wide = max(map(len, classes))
    lines = [f"{'tag':{wide}}  pictures  precision  recall     F2"]
    lines += [f"{classes[i]:{wide}}  {have[i]:8,}  {hits[i] / said[i]:9.3f}  "  # nan: never said
              f"{hits[i] / have[i]:6.3f}  {f2[i]:5.3f}" for i in f2.argsort() if have[i] > 0]
    unseen = [name for name, n in zip(classes, have) if n == 0]
    return "\n".join([*lines, f"on no picture: {', '.join(unseen)}"] if unseen else lines)


def class_table(counts: Score, classes: Sequence[str]) -> str:
    """A line per class of masks, the most pixels first: how many pixels have the class, and its
    IoU, see metrics.mean_iou. counts is learn.score(partial(confusion, void_code=...))."""
    pixels, both = counts.hits.sum(dim=1), counts.hits.diag()               # (c)
    iou, wide = both / (pixels + counts.hits.sum(dim=0) - both), max(map(len, classes))
    lines = [f"{'class':{wide}}  {'pixels':>13}    IoU"]
    lines += [f"{classes[i]:{wide}}  {pixels[i]:13,}  {iou[i]:5.3f}"
              for i in pixels.argsort(descending=True) if pixels[i] > 0]
    return "\n".join(lines)


def confusion_picture(shares: Tensor, classes: Sequence[str]) -> Image.Image:
    """The confusion matrix, with a row per true class and a column per prediction, in percent of
    the row. shares (c, c) 0..1 are the `values` of metrics.confusion's Score."""
    cell, margin = 34, 12 + round(max(map(FONT.getlength, classes)))
    side = margin + cell * len(classes)
    sheet = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(sheet)
    for i, name in enumerate(classes):
        pen.text((6, margin + (i + 0.5) * cell), name, "black", FONT, anchor="lm")
    # Copy the names of the rows, turned by 90 degrees, above the columns.
    sheet.paste(sheet.crop((0, margin, margin, side)).rotate(90, expand=True), (margin, 0))
    for (row, column), share in numpy.ndenumerate(shares.nan_to_num().numpy()):
        if share > 0:
            x, y, pale = margin + column * cell, margin + row * cell, round(255 * (1 - share))
            pen.rectangle([x, y, x + cell - 2, y + cell - 2], (pale, pale, 255))
            pen.text((x + cell / 2, y + cell / 2), f"{100 * share:.0f}",
                     "black" if share < 0.5 else "white", FONT, anchor="mm")
    return sheet


def worst(learn: Learner, metric: Metric, k: int) -> list[int]:
    """The numbers of the k validation pictures with the lowest metric, lowest first. Pass them to
    learn.show_results(items=...). Pictures that are all void, whose metric is NaN, are left out."""
    loader = learn.data.need("valid_dl")
    with full_gpu(loader), evaluating(learn.model):
        values = [float(score(metric, logits[i:i + 1], y[i:i + 1]))
                  for logits, y in outputs(learn, loader) for i in range(len(y))]
    order = numpy.argsort(values, kind="stable").tolist()
    return [i for i in order if not numpy.isnan(values[i])][:k]


def constant_tags(targets: Tensor, metrics: Sequence[Metric]) -> dict[str, dict[str, float]]:
    """The scores of two answers that are the same for every picture: no tag, and the k most common
    tags. The k is the best for the last metric. A useful model scores higher. targets (n, c) are 0
    or 1; metrics are functions such as fbeta, which are called with sigmoid=False."""
    order, answers = targets.sum(dim=0).argsort(descending=True, stable=True), []
    for k in range(len(order) + 1):
        answer = torch.zeros_like(targets)                                  # (n, c)
        answer[:, order[:k]] = 1
        answers.append({name_of(metric): float(metric(answer, targets, sigmoid=False))
                        for metric in metrics})
    best = max(answers[1:], key=lambda values: list(values.values())[-1])
    return {"no tag": answers[0], "best constant tags": best}


def constant_class(pixels: Tensor) -> tuple[int, float, float]:
    """(class, accuracy, mean IoU) of the answer "the most common class" for every pixel. pixels (c)
    counts the labelled pixels of each class, and has 0 for void."""
    share = (pixels.max() / pixels.sum()).item()            # its IoU, too; other classes have 0
    return pixels.argmax().item(), share, share / (pixels > 0).sum().item()


def better_threshold(probabilities: Tensor, targets: Tensor, thresh: float = 0.2,
                     seed: int = 42) -> tuple[float, float, float]:
    """Choose the threshold from 0.01 to 0.99 that has the best F2 on a random half of the pictures.
    Returns (better, hoped, gain): the threshold, its gain of F2 over thresh on this half, and its
    gain on the other half. Trust only the last: a threshold fits the pictures that chose it.
    probabilities and targets are (n, c)."""
    halves = torch.randperm(len(targets), generator=generator_for(seed)).tensor_split(2)

    def f2(half: Tensor, thresh: float) -> float:
        return float(fbeta(probabilities[half], targets[half], thresh, sigmoid=False))

    values = {percent / 100: f2(halves[0], percent / 100) for percent in range(1, 100)}
    # Several may be equal but for rounding. Take the middle one, far from where F2 drops.
    best = [each for each, value in values.items() if value > max(values.values()) - 1e-8]
    better = best[len(best) // 2]
    hoped, gain = (f2(half, better) - f2(half, thresh) for half in halves)
    return better, hoped, gain
