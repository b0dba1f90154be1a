"""Above which probability is a tag said? Choose it on one half of the pictures, judge on the other.

A threshold looks better on the pictures that it was chosen on than on others. So what the choice
gained is said of the other half.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from minifast.metrics import fbeta
from minifast.tools import check
from minifast.tools.seeds import generator_for

CANDIDATES = [percent / 100 for percent in range(1, 100)]       # thresholds to try, 0.01 to 0.99
TIE = 1e-8                      # F2s that differ by less are equal: it is rounding or fbeta's eps


@dataclass(frozen=True)
class Tuned:
    """Thresholds: those given, (c), the best single one, and those found per tag, (c).

    f2  "given", "one for all", "one per tag": for each (F2 on the tuning half, on the other half)

    str() is a table, with the gain on the other half over the given ones as it is:

        thresholds                 F2, tuning half  F2, other half  gain there
        given                0.20           0.9338          0.9352     +0.0000
        one for all          0.32           0.9426          0.9421     +0.0069
        one per tag  0.12 to 0.45           0.9447          0.9416     +0.0064
    """

    given: Tensor
    one: float
    per_tag: Tensor
    f2: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        rows = [["thresholds", "", "F2, tuning half", "F2, other half", "gain there"]]
        values = self.given, torch.tensor([self.one]), self.per_tag
        for thresh, (name, (tuning, other)) in zip(values, self.f2.items()):
            low, high = f"{thresh.min():.2f}", f"{thresh.max():.2f}"
            rows.append([name, low if low == high else f"{low} to {high}", f"{tuning:.4f}",
                         f"{other:.4f}", f"{other - self.f2['given'][1]:+.4f}"])
        return table(rows)


def tuned(probabilities: Tensor, targets: Tensor, thresh: float | Tensor = 0.2,
          seed: int = 42) -> Tuned:
    """Thresholds chosen on one half of the pictures, and what metrics.fbeta says on both halves.

    probabilities, targets   as learn.get_preds() returns them; see check_tags, also for errors
    thresh   those to compare with, see one_per_tag
    seed     of the halves; the first of them is for tuning: best_threshold, and from that on
             tag_thresholds
    """
    check_tags(probabilities, targets)
    given, parts = one_per_tag(thresh, probabilities), halves(len(targets), seed)
    one = best_threshold(probabilities[parts[0]], targets[parts[0]])
    per_tag = tag_thresholds(probabilities[parts[0]], targets[parts[0]], one)
    f2 = {name: tuple(float(fbeta(probabilities[part], targets[part], value, sigmoid=False))
                      for part in parts)
          for name, value in (("given", given), ("one for all", one), ("one per tag", per_tag))}
    return Tuned(given, one, per_tag, f2)


def halves(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers 0 to n - 1 in two random halves, which follow from the seed alone; the second has
    one more where n is odd. Raises ValueError where n is below 2."""
    check.between("number of pictures", n, 2)
    order = torch.randperm(n, generator=generator_for(seed))
    return order[:n // 2], order[n // 2:]


def best_threshold(probabilities: Tensor, targets: Tensor) -> float:
    """The one of CANDIDATES with the best metrics.fbeta (F2); of several, middle_of_best chooses.
    probabilities and targets, (n, c), are as for `tuned`, which checks them."""
    values = [float(fbeta(probabilities, targets, thresh, sigmoid=False)) for thresh in CANDIDATES]
    return CANDIDATES[middle_of_best(torch.tensor(values, dtype=torch.float64))]


def tag_thresholds(probabilities: Tensor, targets: Tensor, start: float) -> Tensor:
    """A threshold per tag, (c), for a higher fbeta than one `start` for all gives.

    Coordinate ascent: each tag in turn, the others held, tries all CANDIDATES, and moves to the
    best (middle_of_best), if that is better by more than TIE: so a tag without evidence stays, and
    the rounds, which go on until one changes nothing, come to an end.
    probabilities and targets, (n, c), are as for `tuned`, which checks them.
    """
    thresholds = torch.full_like(probabilities[0], start)                     # (c)
    candidates = torch.tensor(CANDIDATES, dtype=probabilities.dtype)
    true, moved = targets.bool(), True
    while moved:
        moved = False
        for tag in range(len(thresholds)):
            says = probabilities[:, tag] > torch.cat([thresholds[tag:tag + 1], candidates])[:, None]
            said = probabilities > thresholds
            said[:, tag] = False                                              # the other tags'
            # fbeta's F2 by counts: all candidates at once, and only this tag is counted anew.
            hits = (said & true).sum(dim=1) + (says & true[:, tag])           # (1 + candidates, n)
            total = 4 * true.sum(dim=1) + said.sum(dim=1) + says
            f2 = (5 * hits.double() / total.clamp(min=1)).mean(dim=1)
            if f2.max() > f2[0] + TIE:
                thresholds[tag], moved = candidates[middle_of_best(f2[1:])], True
    return thresholds


def middle_of_best(values: Tensor) -> int:
    """The index of the best of values, (k) float: of all within TIE of the maximum the middle one
    (of two the first), since it is far from where they get worse."""
    best = (values >= values.max() - TIE).nonzero().flatten()
    return int(best[(len(best) - 1) // 2])


def one_per_tag(thresh: float | Tensor, probabilities: Tensor) -> Tensor:
    """thresh, a number or a tensor (c), as (c), of the dtype of probabilities, (n, c): 0.2 differs
    between float32 and float64. Raises ValueError where it is outside 0..1, or of another shape."""
    thresh = torch.as_tensor(thresh, dtype=probabilities.dtype)
    check.between("thresh", thresh, 0, 1)
    c = probabilities.shape[1]
    if thresh.shape not in ((), (c,)):
        raise ValueError(f"thresh must be a number, or one per tag, which are {c}; got a tensor "
                         f"{tuple(thresh.shape)}")
    return thresh.expand(c)


def check_tags(probabilities: Tensor, targets: Tensor) -> None:
    """Raise ValueError, naming what came, unless these are answers and truth of tags.

    probabilities  (n, c) float 0..1: logits, which are not, are told to go through sigmoid
    targets        (n, c) 0 or 1; n at least 2, c at least 1
    """
    check.same_shape("a judgement of tags", probabilities=probabilities, targets=targets)
    if targets.ndim != 2 or len(targets) < 2 or not targets.numel():
        raise ValueError("targets must be (n, c), of at least 2 pictures and a tag, got "
                         f"{tuple(targets.shape)}")
    if not ((targets == 0) | (targets == 1)).all():
        raise ValueError(f"targets must be 0 or 1, got {check.some(targets.unique().tolist())}; "
                         "were probabilities and targets swapped?")
    low, high = probabilities.min().item(), probabilities.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"probabilities must be in 0..1, got {low:g} to {high:g}; are they logits?"
                         " give probabilities.sigmoid(), or what learn.get_preds() returns")


def table(rows: Iterable[Sequence]) -> str:
    """The rows of cells as lines, columns two spaces apart, the first to the left, others to the
    right. Floats get three decimals, NaN is n/a; ints get commas between their thousands."""
    texts = [[("n/a" if isnan(cell) else f"{cell:.3f}") if isinstance(cell, float)
              else f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)]
    return "\n".join("  ".join(text.rjust(width) if i else text.ljust(width)
                               for i, (text, width) in enumerate(zip(row, widths)))
                     for row in texts)
