"""The kinds of target: what a model shall say of a picture, and which loss goes with it.

Categories are one class a picture, Tags any number of classes a picture, Masks a class for each
pixel. Each kind knows how a label becomes a target; how logits become probabilities, and those
decisions, in the form of targets; and how to put a target in words.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor
import torch.nn.functional as F

from minifast.images import open_mask, read_mask
from minifast.sizes import CENTRE, cut
from minifast.tools import check


class Categories:
    """One class a picture. The target is its number among `classes`; the loss is cross-entropy."""

    loss = staticmethod(F.cross_entropy)

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)

    def encode(self, label: str) -> Tensor:
        """The number of the class `label`, 0-dim int64. Raises ValueError on an unknown class."""
        check.one_of("class", label, self.classes)
        return torch.tensor(self.classes.index(label))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of logits: (n, c), summing to 1 per picture; of masks (n, c, h, w), per pixel."""
        return logits.softmax(dim=1)

    def decisions(self, probabilities: Tensor, thresh: float) -> Tensor:
        """The class highest in probabilities: (n), or of pixels (n, h, w); thresh is for Tags."""
        return probabilities.argmax(dim=1)

    def caption(self, target: Tensor) -> str:
        """The class that a target stands for."""
        return self.classes[int(target)]


class Tags:
    """Any number of classes a picture. The target has a 0 or 1 per class; the loss is binary
    cross-entropy, the mean over pictures and classes: each class is a yes/no question of its own.
    """

    loss = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)

    def encode(self, label: Iterable[str]) -> Tensor:
        """(c) float32: 1 for each tag in the label, however often it stands there, else 0.

        Raises ValueError on an unknown tag.
        """
        target = numpy.zeros(len(self.classes), numpy.float32)
        for tag in label:
            check.one_of("tag", tag, self.classes)
            target[self.classes.index(tag)] = 1
        return torch.from_numpy(target)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid of logits: (n, c), each 0..1 by itself."""
        return logits.sigmoid()

    def decisions(self, probabilities: Tensor, thresh: float) -> Tensor:
        """(n, c) float32: 1 for each of the probabilities (n, c) that is above thresh, else 0."""
        return (probabilities > thresh).float()

    def caption(self, target: Tensor) -> str:
        """The tags that a target (c) has, joined by `;` as v1 does."""
        return ";".join(tag for tag, yes in zip(self.classes, target) if yes)


def pixel_loss(logits: Tensor, targets: Tensor, ignore: int | None = None) -> Tensor:
    """Cross-entropy, the mean over the pixels of a batch.

    logits   (n, c, h, w) float
    targets  (n, h, w) int, class numbers
    ignore   a class whose pixels shall not count, where they are unlabelled (void); None: all
             count, as in v1
    returns  0-dim; 0 where no pixel counts

    Set the knob with partial: loss_func=partial(pixel_loss, ignore=11).
    Raises ValueError where `ignore` is no class. Source: fastai v1, CrossEntropyFlat(axis=1).
    """
    targets = targets.long()
    if ignore is None:
        return F.cross_entropy(logits, targets)
    check.between("ignore", ignore, 0, logits.shape[1] - 1)
    total = F.cross_entropy(logits, targets, ignore_index=ignore, reduction="sum")
    return total / (targets != ignore).sum().clamp(min=1)       # torch's own mean over none is NaN


class Masks:
    """A class for each pixel. The label is the file of a mask, the target its numbers (h, w).

    classes  the name of each number, from 0 on
    div      whether the files hold 0 and 255, which stand for 0 and 1

    Both are kept, the classes as a list of plain strings: names of numpy's could not be saved.
    """

    loss = staticmethod(pixel_loss)

    def __init__(self, classes: Sequence[str], div: bool = False):
        self.classes, self.div = [str(name) for name in classes], div

    def encode(self, label: Path, size: tuple[int, int] | None = None, method: str = "crop",
               window: tuple[float, float] = CENTRE) -> Tensor:
        """(h, w) int64, class numbers; size, method and window as in images.open_mask.

        Raises ValueError where the file `label` cannot be read, or a value is no class: `refuse`.
        """
        return torch.from_numpy(cut(self.read(label, size, method), size, window))

    def read(self, label: Path, size: tuple[int, int] | None = None,
             method: str = "crop") -> numpy.ndarray:
        """The first half of encode(label, size, method), with its errors: (rows, columns) int64,
        scaled as by images.read_mask, but not cut."""
        mask = read_mask(label, size, method, self.div)
        if mask.min() < 0 or mask.max() >= len(self.classes):
            self.refuse(label)
        return mask

    def refuse(self, file: Path) -> None:
        """Raise ValueError for a mask file with a wrong value, naming the largest wrong one:

            mask FILE has the value 255 (1,204 pixels), but there are 12 classes (0..11); CAUSE

        with all pixels of the file, and as the likely cause the first of these that fits:

            0 and 255 are its only values      give div=True
            the value is 255                   it marks what has no label
            it is above 3 times the classes    a palette picture was saved as grey
            else                               the codes are of another set, or count from 1
        """
        mask, c = open_mask(file, div=self.div), len(self.classes)
        values, counts = mask.unique(return_counts=True)
        wrong = (values < 0) | (values >= c)
        value, count = values[wrong].tolist()[-1], counts[wrong].tolist()[-1]
        if {0, 255}.issuperset(values.tolist()):
            cause = "a mask of 0 and 255? give div=True"
        elif value == 255:
            cause = "if 255 marks what has no label: give that a class number of its own"
        elif value > 3 * c:
            cause = "was a palette picture saved as grey? then its colours' greys are here"
        else:
            cause = "are the codes those of another set, or do they count from 1?"
        raise ValueError(f"mask {file} has the value {value} ({count:,} pixels), but there are {c} "
                         f"classes (0..{c - 1}); {cause}")

    probabilities, decisions = Categories.probabilities, Categories.decisions

    def names_in(self, target: Tensor) -> dict[int, str]:
        """The classes in a target (h, w), or in several (..., h, w): number -> name, in order."""
        return {number: self.classes[number] for number in target.unique().tolist()}

    def caption(self, target: Tensor) -> str:
        """The classes that a target (h, w) has, joined by `;`."""
        return ";".join(self.names_in(target).values())


Target = Categories | Tags | Masks
