"""What a model predicts: one class, several tags, or a class for each pixel.

Each kind of target encodes a label as a tensor, has a loss, turns logits into probabilities and
these into decisions, and puts a target into words.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
import torch.nn.functional as F

from minifast.images import open_mask
from minifast.tools import check


@dataclass
class Categories:
    """One class for each picture. The loss is cross-entropy."""
    classes: list[str]
    loss = staticmethod(F.cross_entropy)            # no field, and no self

    def encode(self, label: str) -> Tensor:
        """The number of a class, 0-dim int64."""
        check.one_of("class", label, self.classes)
        return torch.tensor(self.classes.index(label))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over the classes: (n, c), or for pixels (n, c, h, w)."""
        return logits.softmax(dim=1)

    def decisions(self, probabilities: Tensor, thresh: float) -> Tensor:
        """The most probable class, (n) or for pixels (n, h, w). thresh is not used."""
        return probabilities.argmax(dim=1)

    def caption(self, target: Tensor) -> str:
        return self.classes[int(target)]


@dataclass
class Tags:
    """Any number of the c classes for each picture. The loss is binary cross-entropy."""
    classes: list[str]
    loss = staticmethod(F.binary_cross_entropy_with_logits)

    def encode(self, label: Collection[str]) -> Tensor:
        """(c) float32: 1 for each tag of the label, else 0."""
        for tag in label:
            check.one_of("tag", tag, self.classes)
        return torch.tensor([float(name in label) for name in self.classes])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid: (n, c), each tag by itself."""
        return logits.sigmoid()

    def decisions(self, probabilities: Tensor, thresh: float) -> Tensor:
        """(n, c) float32: 1 where a probability is above thresh, else 0."""
        return (probabilities > thresh).float()

    def caption(self, target: Tensor) -> str:
        return ";".join(tag for tag, yes in zip(self.classes, target) if yes)


def pixel_loss(logits: Tensor, targets: Tensor, ignore: int | None = None) -> Tensor:
    """Cross-entropy, the mean over all pixels of logits (n, c, h, w) and targets (n, h, w) int64.
    Pixels of the class number `ignore`, void, have no label and count as loss 0: give a learner
    loss_func=partial(pixel_loss, ignore=11). Source: fastai v1, CrossEntropyFlat(axis=1), where
    all pixels count."""
    if ignore is None:
        return F.cross_entropy(logits, targets)
    check.between("ignore", ignore, 0, logits.shape[1] - 1)
    # The mean over labelled pixels only would be NaN for a batch that has none.
    return F.cross_entropy(logits, targets, ignore_index=ignore, reduction="none").mean()


@dataclass
class Masks:
    """A class for each pixel. The label is the file of a mask. The loss is pixel_loss."""
    classes: list[str]              # the name of each number in a mask from 0 on, void included
    div: bool = False               # the files have 0 and 255, which stand for 0 and 1
    loss = staticmethod(pixel_loss)
    probabilities, decisions = Categories.probabilities, Categories.decisions

    def encode(self, label: Path, size: tuple[int, int] | None = None,
               method: str = "crop") -> Tensor:
        """The class numbers (h, w) int64 of a mask file; size and method as in images.open_mask.
        Raises ValueError with the file's name if a number is no class."""
        mask, c = open_mask(label, size, method, self.div), len(self.classes)
        if mask.min() < 0 or mask.max() >= c:
            values = check.some(open_mask(label, div=self.div).unique().tolist(), 20)
            raise ValueError(f"mask {label} has the values {values}, but there are {c} classes; "
                             "are they 0 and 255 (div=True), other codes, or colours as greys?")
        return mask

    def names_in(self, target: Tensor) -> dict[int, str]:
        """The classes that occur in a target of any shape: number -> name, in order."""
        return {number: self.classes[number] for number in target.unique().tolist()}

    def caption(self, target: Tensor) -> str:
        """The classes that occur, joined by `;`."""
        return ";".join(self.names_in(target).values())


Target = Categories | Tags | Masks
