"""A data set has a length, and an item for each number: here, picture files and their labels.

Nothing in it is random: dataset[i] is always the same picture and target. Random changes happen
later, in transforms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minifast.images import image_size, open_image
from minifast.targets import Masks, Target


@dataclass(eq=False, repr=False)
class Dataset:
    """dataset[i] is a pair (picture, target)."""
    files: Sequence[Path]                           # one for each item
    labels: Sequence | None = None                  # one for each item, or None for a test set
    target: Target | None = None                    # what turns a label into a target tensor
    size: tuple[int, int] | None = None             # rows, columns; None: each file's own
    method: str = "crop"                            # of getting to this size: images.open_image

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Picture and target number i: (3, h, w) uint8, and what target.encode returns, or an empty
        tensor if there are no labels. Raises ValueError with the name of a broken file."""
        picture = open_image(self.files[i], self.size, self.method)
        if self.labels is None:
            return picture, torch.empty(0)
        if not isinstance(self.target, Masks):
            return picture, self.target.encode(self.labels[i])
        size, mask_size = image_size(self.files[i]), image_size(self.labels[i])
        if size != mask_size:
            raise ValueError(f"mask {self.labels[i]} is {mask_size}, picture {self.files[i]} is "
                             f"{size}; do they belong together, or has EXIF turned one of them?")
        return picture, self.target.encode(self.labels[i], self.size, self.method)
