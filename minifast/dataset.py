"""A data set is anything with a length and an item for each number: here, picture files and labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor

from minifast.cache import Cache
from minifast.images import image_size, read_image
from minifast.sizes import CENTRE, cut, scaled_size
from minifast.targets import Masks, Target
from minifast.tools.seeds import seed_of


class Dataset:
    """Picture files and their labels: dataset[i] is the pair (picture, target).

    files    one path per item; copied into a list, so the caller's may change afterwards
    labels   one label per item, or None for pictures without (a test set)
    target   what makes targets of labels; not needed without labels
    size     (rows, columns) of every picture, or None for each file's own
    method, reduced   how files get to that size: see images.open_image
    moving   tells the Loader to ask by keys, so that a cut lies elsewhere in each epoch

    Remembers no random state: an item is asked for by its number i, or, to have the cut moved, by
    a key (i, seed, epoch), from which alone the position is drawn: the window of sizes.cut is
    numpy's default_rng(seed_of(seed, epoch, i)).random(2). So a worker needs no seed, and the same
    key gives the same pixels in any worker.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence | None = None,
                 target: Target | None = None, size: tuple[int, int] | None = None,
                 method: str = "crop", reduced: bool = True, moving: bool = False):
        self.files, self.labels, self.target = list(files), labels, target
        self.size = None if size is None else tuple(size)
        self.method, self.reduced, self.moving = method, reduced, moving
        self.has_masks = labels is not None and isinstance(target, Masks)
        self.caches: list[Cache] = []           # of pictures, and of masks where there are any

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int | tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """((3, h, w) uint8, target). The target is an empty tensor where there are no labels; a
        mask (h, w) is cut as its picture is.

        Raises ValueError, naming the file, where it cannot be read.
        """
        i, *moment = key if isinstance(key, tuple) else (key,)
        decoded, window = self.decoded(i), CENTRE
        if moment and decoded[0].shape[1:] != self.size:
            window = tuple(numpy.random.default_rng(seed_of(*moment, i)).random(2))
        picture, *mask = (torch.from_numpy(cut(pixels, self.size, window)) for pixels in decoded)
        return picture, mask[0].long() if mask else self.encoded(i)

    def encoded(self, i: int) -> Tensor:
        """The target of item i, where targets are no masks; empty where there are no labels."""
        return torch.empty(0) if self.labels is None else self.target.encode(self.labels[i])

    def decoded(self, i: int) -> list[numpy.ndarray]:
        """The picture of item i, (3, rows, columns), and its mask, if there is one: scaled, but not
        cut. From the caches, where they have it; else from the files, and then the caches have it.

        Raises ValueError, naming the file, where it cannot be read, or has changed its size.
        """
        kept = [cache[i] for cache in self.caches]
        if kept and not any(pixels is None for pixels in kept):
            return kept
        how = self.size, self.method
        decoded = [read_image(self.files[i], *how, self.reduced)]
        if self.has_masks:
            decoded.append(self.target.read(self.labels[i], *how))
        for cache, pixels, files in zip(self.caches, decoded, (self.files, self.labels)):
            if pixels.shape != cache.shapes[i]:
                raise ValueError(f"{files[i]} has changed: it came as {pixels.shape}, and was to "
                                 f"be {cache.shapes[i]}; make the databunch anew")
            cache[i] = pixels
        return decoded

    def decoded_shapes(self) -> list[tuple[list[tuple[int, ...]], type]]:
        """What caches have to hold: of the pictures, and of the masks, if there are any, the shape
        that `decoded` gives each item, and the type of a value. Reads the headers of all files.

        Raises ValueError, naming the file, where one cannot be read.
        """
        def scaled(file: Path) -> tuple[int, int]:
            have = image_size(file)
            return have if self.size is None else scaled_size(have, self.size, self.method)

        found = [([(3, *scaled(file)) for file in self.files], numpy.uint8)]
        if self.has_masks:
            small = len(self.target.classes) <= 256
            found.append(([scaled(mask) for mask in self.labels],
                          numpy.uint8 if small else numpy.int32))
        return found

    def whole(self, few: int = 0) -> tuple[Tensor, Tensor] | None:
        """All pictures (n, 3, h, w) uint8 and all targets, where the caches have them all, all have
        one size, and nothing is to be cut; else None. Masks keep the type of their cache.

        few  if no more items than that are missing, they are decoded now: those of a last batch,
             which training drops
        """
        sizes = {shape[-2:] for cache in self.caches for shape in cache.shapes}
        if len(sizes) != 1 or self.size not in (None, *sizes):
            return None
        missing = {i for cache in self.caches for i in numpy.flatnonzero(~cache.filled).tolist()}
        if len(missing) > few:
            return None
        for i in missing:
            self.decoded(i)
        pictures, *masks = (torch.from_numpy(cache.all()) for cache in self.caches)
        return pictures, masks[0] if masks else torch.stack(list(map(self.encoded,
                                                                     range(len(self)))))
