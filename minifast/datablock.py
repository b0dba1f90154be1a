"""The data block: six steps from files to batches. Steps 1 to 5 each return a new ImageList.

    1 files       which pictures?              ImageList.from_csv, from_folder; filter_by_func
    2 split       which are for validation?    split_by_rand_pct, split_by_..., split_none
    3 labels      which label has each?        label_from_csv, label_from_folder, label_from_func
    4 transform   which size, which changes?   transform                             (optional)
    5 test set    which have no label?         add_test_folder                       (optional)
    6 loaders     how many at once, where?     databunch
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.images import METHODS
from minifast.listing import column_of, picture_files, read_csv, read_lines, unique
from minifast.loader import Transforms
from minifast.targets import Categories, Masks, Tags, Target
from minifast.tools import check


@dataclass(frozen=True)
class ImageList:
    """Pictures on their way to a DataBunch. Each field says which step fills it in."""
    path: Path                                              # step 1: the folder of all files
    files: tuple[Path, ...]                                 # step 1: one for each item
    rows: dict[Path, dict[str, str]] | None = None          # step 1: of the CSV, for each file
    train: tuple[int, ...] | None = None                    # step 2: item numbers
    valid: tuple[int, ...] | None = None                    # step 2
    labels: tuple | None = None                             # step 3: one for each item
    target: Target | None = None                            # step 3
    tfms: Transforms = None                                 # step 4
    size: tuple[int, int] | None = None                     # step 4: rows, columns
    method: str = "crop"                                    # step 4
    test: tuple[Path, ...] = ()                             # step 5

    @classmethod
    def from_csv(cls, path: Path | str, csv_name: str, folder: str = "", suffix: str = "",
                 column: int | str = 0) -> "ImageList":
        """The pictures path/folder/name + suffix, for each name in a column of path/csv_name."""
        csv, folder = Path(path, csv_name), Path(path, folder)
        rows = read_csv(csv)
        column = column_of(rows, column)
        files = [folder / (row[column] + suffix) for row in rows]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise ValueError(f"{csv} names {len(missing)} of {len(files)} pictures that have no "
                             f"file: {check.some(missing, 3)}; check folder and suffix={suffix!r}")
        if (folder / (column + suffix)).is_file():
            raise ValueError(f"{csv}, line 1 is a picture; write a header above: image_name,tags")
        unique(f"picture names in {csv}", files)
        return cls(Path(path), tuple(files), dict(zip(files, rows)))

    @classmethod
    def from_folder(cls, path: Path | str) -> "ImageList":
        """All pictures in a folder and below, sorted: so a seed means the same split everywhere."""
        return cls(Path(path), picture_files(Path(path)))

    def filter_by_func(self, keep: Callable[[Path], bool]) -> "ImageList":
        """Only files for which keep(file) is true. Filter first: this forgets split and labels."""
        files = tuple(filter(keep, self.files))
        check.between("number of pictures that are kept", len(files), 1)
        return ImageList(self.path, files, self.rows)

    def split_by_rand_pct(self, valid_pct: float = 0.2, seed: int = 42) -> "ImageList":
        """int(valid_pct * n) random items are for validation: fastai v1's for the same seed."""
        check.between("valid_pct", valid_pct, 0, 1)
        order = numpy.random.RandomState(seed).permutation(len(self.files))
        return self.split_by_idx(order[:int(valid_pct * len(order))])

    def split_by_idx(self, valid_idx: Sequence[int]) -> "ImageList":
        """The items with these numbers are for validation, all others for training."""
        n, valid = len(self.files), [int(i) for i in valid_idx]
        train = sorted(set(range(n)) - set(valid))
        if not train or not valid or len(train) + len(valid) != n:
            raise ValueError(f"valid_idx must be some, not all, of 0 to {n - 1}, got {valid[:5]}")
        return replace(self, train=tuple(train), valid=tuple(valid))

    def split_by_folder(self, train: str = "train", valid: str = "valid") -> "ImageList":
        """Files in path/train are for training, in path/valid for validation. Others drop out."""
        tops = {file: file.relative_to(self.path).parts[0] for file in self.files}
        for folder in (train, valid):
            check.one_of(f"folder in {self.path} (no links)", folder, sorted(set(tops.values())))
        src = self.filter_by_func(lambda file: tops[file] in (train, valid))
        return src.split_by_idx([i for i, file in enumerate(src.files) if tops[file] == valid])

    def split_by_fname_file(self, name: str) -> "ImageList":
        """The files whose names are the lines of a text file, path/name, are for validation."""
        wanted = {Path(line).name for line in read_lines(self.path / name)}
        unknown = sorted(wanted - {file.name for file in self.files})
        if unknown:
            raise ValueError(f"{self.path / name} names unknown files: {check.some(unknown)}")
        return self.split_by_idx([i for i, file in enumerate(self.files) if file.name in wanted])

    def split_none(self) -> "ImageList":
        """Everything is for training; there will be no validation."""
        return replace(self, train=tuple(range(len(self.files))), valid=())

    def label_from_csv(self, label_delim: str | None = None, column: int | str = 1) -> "ImageList":
        """The label is a field of the CSV: one class, or tags with label_delim between them."""
        self._need_first(self.rows, "label_from_csv", "ImageList.from_csv")
        column = column_of(self.rows.values(), column)
        labels = {file: row[column] for file, row in self.rows.items()}
        if label_delim is not None:
            labels = {file: sorted({tag.strip() for tag in label.split(label_delim)} - {""})
                      for file, label in labels.items()}
        return self.label_from_func(labels.get)

    def label_from_folder(self) -> "ImageList":
        """The class of a picture is the name of its folder."""
        return self.label_from_func(lambda file: file.parent.name)

    def label_from_func(self, func: Callable, classes: Sequence[str] | None = None,
                        div: bool = False) -> "ImageList":
        """The label of a file is func(file): its class as a string, its tags as a list of strings,
        or the file of its mask as a Path.

        classes  in the order of the model's outputs; None, but not for masks: all labels, sorted
        div      for masks of 0 and 255, which stand for the classes 0 and 1
        """
        self._need_first(self.train, "a label", "split_by_rand_pct(0.2) or another split_...")
        labels = tuple(map(func, self.files))
        return replace(self, labels=labels, target=_target_for(self.files, labels, classes, div))

    def transform(self, tfms: Transforms = None, size: int | tuple[int, int] | None = None,
                  method: str | None = None) -> "ImageList":
        """How pictures get to one size, and what is then done to batches of them.

        tfms    (x, y, rng) -> (x, y) for training batches, x (n, 3, h, w) float 0..1, rng on the
                CPU; or a pair, the second one for validation and test
        size    (rows, columns), or one number for a square; None: each file's own
        method  see images.open_image; None, as in v1: crop, but squish if size is a tuple or list
        """
        self._need_first(self.labels, "transform")
        method = method or ("squish" if isinstance(size, (tuple, list)) else "crop")
        check.one_of("method", method, METHODS)
        if size is not None:
            size = (size, size) if numpy.ndim(size) == 0 else tuple(size)
            if len(size) != 2 or any(int(side) != side or side < 1 for side in size):
                raise ValueError(f"size must be whole numbers (rows, columns) from 1, got {size}")
        return replace(self, tfms=tfms, size=size, method=method)

    def add_test_folder(self, folder: Path | str) -> "ImageList":
        """Add the pictures of path/folder, sorted and without labels, for data.test_dl."""
        self._need_first(self.labels, "add_test_folder")
        return replace(self, test=self.test + picture_files(self.path / folder))

    def databunch(self, bs: int = 64, **more) -> DataBunch:
        """The loaders. bs and more, such as val_bs and cache, are arguments of DataBunch.create."""
        self._need_first(self.labels, "databunch")
        how = self.target, self.size, self.method
        train_ds, valid_ds = (
            Dataset([self.files[i] for i in numbers], [self.labels[i] for i in numbers], *how)
            for numbers in (self.train, self.valid))
        test_ds = Dataset(self.test, None, *how)
        return DataBunch.create(train_ds, valid_ds, test_ds, self.target, self.tfms, bs, **more)

    def _need_first(self, done: object, step: str, first: str = "label_from_csv or label_from_..."):
        if done is None:
            raise ValueError(f"{step} comes too early: first call {first}")


SegmentationList = ImageList                # v1's name, for where the labels are files of masks


def _target_for(files: Sequence[Path], labels: Sequence, classes: Sequence[str] | None,
                div: bool) -> Target:
    """Masks if the labels are Paths, Categories if they are strings, Tags if they are lists."""
    kind = next((kind for kind in (Path, str) if isinstance(labels[0], kind)), (list, tuple, set))
    names = [label if isinstance(label, (list, tuple, set)) else [label] for label in labels]
    if classes is None and kind is not Path:
        # As text: an odd label, such as None, should get as far as the error that names its file.
        classes = sorted({str(name) for label in names for name in label} - {""})
    classes = [] if classes is None else list(map(str, classes))
    check.between("number of classes=codes", len(classes), 1)
    unique("classes", classes)
    known = Path.is_file if kind is Path else classes.__contains__
    odd = [i for i, label in enumerate(labels)
           if not isinstance(label, kind) or not all(map(known, names[i]))]
    if odd:
        raise ValueError(f"{len(odd)} of {len(files)} labels do not fit. The first is for "
                         f"{files[odd[0]]}: {labels[odd[0]]!r}. All should be strings, lists of "
                         f"strings, or Paths of masks that exist; classes: {check.some(classes)}")
    if kind is Path:
        return Masks(classes, div)
    return Categories(classes) if kind is str else Tags(classes)
