"""A data set is anything with a length and an item for each number: here, picture files and labels.

How a label becomes a target, and which loss goes with it, is the business of the kind of target:
Categories (one class a picture) or Tags (any number of classes a picture).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
import warnings

import numpy
import torch
from torch import Tensor
import torch.nn.functional as F

from minifast import check
from minifast.images import CENTRE, open_image
from minifast.seeds import seed_of


class Categories:
    """One class a picture. The target is the number of the class; the loss is cross-entropy."""

    loss = staticmethod(F.cross_entropy)

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)

    def encode(self, label: str) -> Tensor:
        """The class number, as a 0-dim int64 tensor. Raises ValueError on an unknown class."""
        check.one_of("class", label, self.classes)
        return torch.tensor(self.classes.index(label))

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
        target = torch.zeros(len(self.classes))
        for tag in label:
            check.one_of("tag", tag, self.classes)
            target[self.classes.index(tag)] = 1
        return target

    def caption(self, target: Tensor) -> str:
        """The tags that a target (c) has, joined by `;` as v1 does."""
        return ";".join(tag for tag, yes in zip(self.classes, target) if yes)


def target_for(labels: Sequence, files: Sequence[Path], train: Sequence[int],
               classes: Sequence[str] | None = None) -> Categories | Tags:
    """The kind of target that these labels make: Categories of strings, Tags of lists of strings.

    labels, files  one per item; a label None is one that nobody needs
    train          the numbers of the items for training
    classes        in the order of the model's outputs; None: those of all items, sorted

    Classes come from all items and not from those for training alone (as in v1): so a rare tag does
    not vanish by the luck of the split. A warning names classes that no training item has.
    Raises ValueError, naming the file, on an empty class, one that is not in `classes`, a label of
    another kind, or of another than the first; and where there is no class at all.
    """
    labelled = [(label, file) for label, file in zip(labels, files) if label is not None]
    kind = str if isinstance(labelled[0][0], str) else (list, tuple, set)
    for label, file in labelled:
        if not isinstance(label, kind):
            raise ValueError(f"{file} has the label {label!r}, {labelled[0][1]} {labelled[0][0]!r};"
                             " wanted strings (a class each), or lists of strings (tags), not both")
    tags = [() if label is None else [label] if kind is str else label for label in labels]
    classes = sorted(set().union(*tags)) if classes is None else list(classes)
    for label, file in zip(tags, files):
        wrong = [tag for tag in label if tag == "" or tag not in classes]
        if wrong:
            raise ValueError(f"{file} has the label {check.some(map(repr, wrong))}; wanted of: "
                             f"{check.some(filter(None, classes), 20)}")
    if not classes:
        raise ValueError(f"no picture has a label, from {files[0]} on; is that the right column?")
    unseen = set(classes) - set().union(*(tags[i] for i in train))
    if unseen:
        warnings.warn(f"no training picture has {check.some(sorted(unseen), 20)}: a model cannot "
                      "learn what it never sees")
    return Categories(classes) if kind is str else Tags(classes)


class Dataset:
    """Picture files and their labels: dataset[i] is the pair (picture, target).

    files    one path per item
    labels   one label per item, or None for pictures without (a test set)
    target   what makes targets of labels; not needed without labels
    size     (rows, columns) of every picture, or None for each file's own
    method, reduced   how files get to that size: see images.open_image
    moving   whether to ask by keys, so that a cut lies elsewhere in each epoch: for training

    Remembers no random state: an item is asked for by its number i, or, to have the cut moved, by
    a key (i, seed, epoch), from which alone the position is drawn. So a worker needs no seed, and
    the same key gives the same pixels in any worker.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence | None = None,
                 target: Categories | Tags | None = None, size: tuple[int, int] | None = None,
                 method: str = "crop", reduced: bool = True, moving: bool = False):
        self.files, self.labels, self.target = list(files), labels, target
        self.size, self.method, self.reduced, self.moving = size, method, reduced, moving

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int | tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """((3, h, w) uint8, target). The target is an empty tensor where there are no labels.

        Raises ValueError, naming the file, where it cannot be read.
        """
        i, window = key, CENTRE
        if isinstance(key, tuple):
            i, seed, epoch = key
            window = tuple(numpy.random.default_rng(seed_of(seed, epoch, i)).random(2))
        picture = open_image(self.files[i], self.size, self.method, window, self.reduced)
        target = torch.empty(0) if self.labels is None else self.target.encode(self.labels[i])
        return picture, target
