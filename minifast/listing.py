"""What is on the disk: the rows of a CSV, the lines of a list, the pictures of a folder."""

from collections import Counter
from collections.abc import Iterable
import csv
from pathlib import Path

from minifast.tools import check

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm")


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV in UTF-8, each as {column: field}. Empty rows are left out. Raises
    ValueError with file and line if a quote is not closed, or fields are missing or too many."""
    columns, rows = [], []
    for number, line in enumerate(read_lines(file, blank=True), start=1):
        try:
            fields = next(csv.reader([line], strict=True, skipinitialspace=True))
            fields = [field.strip() for field in fields]
            columns = columns or fields
            if any(fields):
                rows.append(dict(zip(columns, fields, strict=True)))
        except (csv.Error, ValueError) as error:
            raise ValueError(f"CSV {file}, line {number}: wanted a field for each of {columns}; "
                             "check its commas and quotes") from error
    unique(f"columns of {file}", columns)
    check.between(f"number of rows below the header of {file}", len(rows[1:]), 1)
    return rows[1:]


def column_of(rows: Iterable[dict[str, str]], column: int | str) -> str:
    """The name of a column, given by this name or by its number from 0."""
    names = list(next(iter(rows)))
    check.one_of("column", column, [*range(len(names)), *names])
    return column if isinstance(column, str) else names[column]


def read_lines(file: Path, blank: bool = False) -> list[str]:
    """The lines of a text file in UTF-8 without spaces around. blank: keep blank lines, too."""
    try:
        text = file.read_text(encoding="utf-8-sig")     # spreadsheets write a byte-order mark
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} does not exist, or is no text in UTF-8: {error}") from error
    return [line.strip() for line in text.split("\n") if blank or line.strip()]


def picture_files(folder: Path) -> tuple[Path, ...]:
    """All pictures in a folder and below, sorted. Hidden files and folders are left out, and links
    to other folders are not followed."""
    files = [file for file in folder.rglob("*")
             if file.suffix.lower() in SUFFIXES and not file.is_dir()
             and not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not files:
        raise ValueError(f"folder {folder} does not exist, or holds no pictures such as .jpg; "
                         "links to folders below it are not followed")
    # By parts, because Windows compares whole paths without regard to case.
    return tuple(sorted(files, key=lambda file: file.parts))


def unique(what: str, names: Iterable[str]) -> None:
    """Raise ValueError if a name comes twice; `what` says whose names they are."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"{what} must differ; more than once there: {check.some(repeated)}")
