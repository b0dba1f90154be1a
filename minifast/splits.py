"""Which items are for validation? Each function returns (numbers for training, for validation)."""

from collections.abc import Sequence
from pathlib import Path
import warnings

import numpy

from minifast.listing import read_lines
from minifast.tools import check

Split = tuple[list[int], list[int]]


def by_rand_pct(n: int, valid_pct: float, seed: int) -> Split:
    """int(valid_pct * n) of n items, drawn, are for validation; the others in order for training.

    The same draw as v1's after numpy.random.seed(seed): numpy's RandomState(seed), a permutation.
    Raises ValueError where valid_pct is not in 0..1, or one of the two would be empty.
    """
    check.between("valid_pct", valid_pct, 0, 1)
    return by_idx(n, numpy.random.RandomState(seed).permutation(n)[:int(valid_pct * n)])


def by_idx(n: int, valid_idx: Sequence[int]) -> Split:
    """The items numbered in valid_idx are for validation, the others of n in order for training.

    Raises ValueError, naming valid_idx (how many, and check.some of them), where a number
    is no item's or stands twice, or one of the two would be empty.
    """
    valid = [int(i) for i in valid_idx]
    train = sorted(set(range(n)) - set(valid))
    if not train or not valid or len(train) + len(valid) != n:
        raise ValueError(f"for validation wanted different numbers from 0 to {n - 1}, not none and "
                         f"not all; got {len(valid)}: {check.some(valid)}")
    return train, valid


def by_names(files: Sequence[Path], list_file: Path) -> Split:
    """The files that a text file names, one a line, are for validation; both sides in order.

    list_file  in UTF-8; a byte order mark, folders in it, spaces and blank lines do not matter

    Raises ValueError, naming the text file, where it does not exist, is no text, or names other
    files than these (how many, and which); and as by_idx where one side would be empty.
    """
    check.exists("list of files", list_file, "check the path; it is relative to the pictures'")
    wanted = {Path(line).name for line in read_lines(list_file)}
    unknown = wanted - {file.name for file in files}
    if unknown:
        raise ValueError(f"{list_file} names {len(unknown)} files that are not there: "
                         f"{check.some(sorted(unknown))}; check their suffix, and the folder")
    return by_idx(len(files), [i for i, file in enumerate(files) if file.name in wanted])


def by_folder(files: Sequence[Path], path: Path, train: str, valid: str) -> Split:
    """The Split by the first folder below `path`; a warning names others, whose files are left out.

    Raises ValueError, naming the folders that there are, where train or valid is none of them.
    """
    tops = [file.relative_to(path).parts[0] for file in files]
    for folder in (train, valid):
        check.one_of(f"folder of pictures in {path}", folder, sorted(set(tops)))
    others = sorted(set(tops) - {train, valid})
    if others:
        warnings.warn(f"split_by_folder leaves out, of {path}: {check.some(others)}")
    for_training, for_validation = ([i for i, top in enumerate(tops) if top == folder]
                                    for folder in (train, valid))
    return for_training, for_validation
