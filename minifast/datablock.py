"""The data block: six questions between a folder of files and ready batches, asked one by one.

    1 inputs      which files?                 ImageList.from_csv, from_folder
    2 split       which are for validation?    split_by_rand_pct, split_by_..., split_none
    3 labels      which label has each?        label_from_csv, _from_folder, _from_func, _from_re
    4 transform   which size, which changes?   transform                             (optional)
    5 test set    which without a label?       add_test_folder                       (optional)
    6 loaders     how many at once, where?     databunch

Each step returns a new list and changes none: one labelled list serves for small and big pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.labels import first_group, tags_in, target_for
from minifast.listing import listed_files, picture_files, read_column
from minifast.loader import Transform, as_pair
from minifast.sizes import METHODS, check_size
from minifast.splits import by_folder, by_idx, by_names, by_rand_pct
from minifast.targets import Target
from minifast.tools import check


@dataclass(frozen=True)
class ImageList:
    """Picture files on their way to a DataBunch; a field is None until its step was taken."""

    path: Path                                              # step 1: the folder of it all
    files: tuple[Path, ...]                                 # step 1: one per item
    csv: Path | None = None                                 # step 1: for label_from_csv
    train: tuple[int, ...] | None = None                    # step 2: item numbers
    valid: tuple[int, ...] | None = None                    # step 2
    labels: tuple | None = None                             # step 3: one per item
    target: Target | None = None                            # step 3
    tfms: tuple[Transform | None, ...] = (None, None)       # step 4: for training, for validation
    size: tuple[int, int] | None = None                     # step 4: rows, columns
    method: str = "crop"                                    # step 4
    reduced: bool = True                                    # step 4
    test: tuple[Path, ...] | None = None                    # step 5

    @classmethod
    def from_csv(cls, path: Path | str, csv_name: str, folder: str = "", suffix: str = "",
                 column: int | str = 0) -> "ImageList":
        """The pictures that the CSV path/csv_name lists, in its order: path/folder/name + suffix.

        column  where the name stands: a number from 0, or a name of the header (a CSV needs one)

        Raises ValueError where a name stands twice or has no file, see listing.listed_files.
        """
        path, csv = Path(path), Path(path) / csv_name
        return cls(path, listed_files(csv, column, path / folder, suffix), csv)

    @classmethod
    def from_folder(cls, path: Path | str) -> "ImageList":
        """All pictures in path and below; sorted, so a seed means the same split everywhere."""
        return cls(Path(path), picture_files(Path(path)))

    def split_by_rand_pct(self, valid_pct: float = 0.2, seed: int = 42) -> "ImageList":
        """A share valid_pct of the items, drawn by seed, is for validation: splits.by_rand_pct."""
        return self._split(by_rand_pct(len(self.files), valid_pct, seed))

    def split_by_idx(self, valid_idx: Sequence[int]) -> "ImageList":
        """The items whose numbers are in valid_idx are for validation: splits.by_idx."""
        return self._split(by_idx(len(self.files), valid_idx))

    def split_by_folder(self, train: str = "train", valid: str = "valid") -> "ImageList":
        """Files in path/train are for training, in path/valid for validation: splits.by_folder."""
        return self._split(by_folder(self.files, self.path, train, valid))

    def split_by_fname_file(self, name: str) -> "ImageList":
        """The files named in a text file, path/name, are for validation: splits.by_names."""
        return self._split(by_names(self.files, self.path / name))

    def split_none(self) -> "ImageList":
        """Everything is for training; there will be no validation."""
        return self._split((range(len(self.files)), []))

    def _split(self, split: tuple[Sequence[int], Sequence[int]]) -> "ImageList":
        if self.train is not None:
            raise ValueError("this list is split already; start from the one before the split")
        train, valid = split
        return replace(self, train=tuple(train), valid=tuple(valid))

    def label_from_csv(self, label_delim: str | None = None, column: int | str = 1) -> "ImageList":
        """Labels from a column of the CSV that from_csv read.

        label_delim  what stands between the tags of a picture, see labels.tags_in; None: the field
                     is one class
        """
        if self.csv is None:
            raise ValueError("label_from_csv needs a list that began with ImageList.from_csv")
        labels = read_column(self.csv, column)
        if label_delim is not None:
            labels = tags_in(labels, label_delim, self.files, self.csv)
        return self._label(labels)

    def label_from_folder(self) -> "ImageList":
        """The class of a picture is the name of the folder in which it lies."""
        return self.label_from_func(lambda file: file.parent.name)

    def label_from_func(self, func: Callable, classes: Sequence[str] | None = None,
                        div: bool = False) -> "ImageList":
        """The label of a file is func(file): a class as a string, its tags as a list of strings, or
        the path of its mask.

        classes  all that there are, in the order of the model's outputs; None: those that occur,
                 which masks do not tell
        div      for masks of 0 and 255, which stand for the classes 0 and 1

        Raises ValueError, naming the file, on a bad label or mask: see labels.target_for.
        """
        used = {*(self.train or ()), *(self.valid or ())}   # split_by_folder leaves files out
        labels = [func(file) if i in used else None for i, file in enumerate(self.files)]
        bare = [file for i, file in enumerate(self.files) if i in used and labels[i] is None]
        if bare:
            raise ValueError(f"{len(bare)} files have None as a label: {check.some(bare)}")
        return self._label(labels, classes, div)

    def label_from_re(self, pattern: str) -> "ImageList":
        """The class is the first group of a regular expression, searched in the path with slashes.

        Raises ValueError, naming a file, where the pattern is not found.
        """
        return self.label_from_func(first_group(pattern))

    def _label(self, labels: Sequence, classes: Sequence[str] | None = None,
               div: bool = False) -> "ImageList":
        self._after(self.train, "a label", "split_by_rand_pct(0.2, seed=42) or another split_...")
        if self.labels is not None:
            raise ValueError("this list has labels already; start again from the list before them")
        target = target_for(labels, self.files, self.train, classes, div)
        return replace(self, labels=tuple(labels), target=target)

    def transform(self, tfms: Transform | Sequence[Transform | None] | None = None,
                  size: int | tuple[int, int] | None = None, method: str | None = None,
                  reduced: bool = True) -> "ImageList":
        """How pictures get to one size, and what is then done to batches of them.

        tfms     a callable (x, y, rng) -> (x, y) for batches of training, x (n, 3, h, w) floats
                 0..1, rng a generator on the CPU; or a pair of them or None, second for validation
        size     rows and columns; one number means a square; None leaves each file's size
        method   "crop", "pad", "squish" (sizes.METHODS); None: squish for a tuple/list, else crop
        reduced  allow JPEGs to be decoded at a reduced scale (images.open_image)

        Raises ValueError on a bad size or method, TypeError on bad tfms.
        """
        self._after(self.labels, "transform", "label_from_csv(...) or another label_...")
        method = method or ("squish" if isinstance(size, (tuple, list)) else "crop")
        check.one_of("method", method, METHODS)
        if size is not None:
            size = (size, size) if numpy.ndim(size) == 0 else tuple(size)
            check_size(size)
        return replace(self, tfms=as_pair(tfms), size=size, method=method, reduced=reduced)

    def add_test_folder(self, folder: Path | str) -> "ImageList":
        """More pictures without labels, from path/folder, sorted by name: see data.test_dl."""
        self._after(self.labels, "add_test_folder", "label_from_csv or another label_...")
        return replace(self, test=(self.test or ()) + picture_files(self.path / folder))

    def databunch(self, bs: int = 64, val_bs: int | None = None, num_workers: int | None = None,
                  device: torch.device | None = None, seed: int = 42,
                  cache: bool = False) -> DataBunch:
        """The loaders; bs, val_bs, num_workers, device, seed, cache as in DataBunch.create."""
        self._after(self.labels, "databunch", "label_from_csv or another label_...")
        how = self.target, self.size, self.method, self.reduced
        loading = bs, val_bs, num_workers, device, seed, cache

        def dataset(numbers: Sequence[int], moving: bool = False) -> Dataset:
            files, labels = ([column[i] for i in numbers] for column in (self.files, self.labels))
            return Dataset(files, labels, *how, moving)

        return DataBunch.create(dataset(self.train, moving=True),
                                dataset(self.valid) if self.valid else None,
                                Dataset(self.test, None, *how) if self.test else None,
                                self.target, self.tfms, *loading)

    def _after(self, done: object, step: str, first: str) -> None:
        if done is None:
            raise ValueError(f"{step} comes too early: first call {first}")

    def __getattr__(self, name: str):
        """Reached only by names that are not here: explain those that a DataBunch has."""
        if hasattr(DataBunch, name) or name in DataBunch.__dataclass_fields__:
            raise AttributeError(f"{name} belongs to a DataBunch: first call databunch()")
        raise AttributeError(f"an ImageList has no {name!r}")


SegmentationList = ImageList                # v1's name, for where the labels are files of masks
