"""A data set is anything with a length and an item for each number: here, picture files and labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor

from minifast.images import CENTRE, open_image
from minifast.seeds import seed_of
from minifast.targets import Masks, Target


class Dataset:
    """Picture files and their labels: dataset[i] is the pair (picture, target).

    files    one path per item; copied into a list, so the caller's may change afterwards
    labels   one label per item, or None for pictures without (a test set)
    target   what makes targets of labels; not needed without labels
    size     (rows, columns) of every picture, or None for each file's own
    method, reduced   how files get to that size: see images.open_image
    moving   tells the Loader to ask by keys, so that a cut lies elsewhere in each epoch

    Remembers no random state: an item is asked for by its number i, or, to have the cut moved, by
    a key (i, seed, epoch), from which alone the position is drawn. So a worker needs no seed, and
    the same key gives the same pixels in any worker.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence | None = None,
                 target: Target | None = None, size: tuple[int, int] | None = None,
                 method: str = "crop", reduced: bool = True, moving: bool = False):
        self.files, self.labels, self.target = list(files), labels, target
        self.size, self.method, self.reduced, self.moving = size, method, reduced, moving

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int | tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """((3, h, w) uint8, target). The target is an empty tensor where there are no labels; a
        mask (h, w) is cut as its picture is.

        Raises ValueError, naming the file, where it cannot be read.
        """
        i, window = key, CENTRE
        if isinstance(key, tuple):
            i, seed, epoch = key
            window = tuple(numpy.random.default_rng(seed_of(seed, epoch, i)).random(2))
        place = self.size, self.method, window
        picture = open_image(self.files[i], *place, self.reduced)
        if self.labels is None:
            return picture, torch.empty(0)
        place = place if isinstance(self.target, Masks) else ()
        return picture, self.target.encode(self.labels[i], *place)
