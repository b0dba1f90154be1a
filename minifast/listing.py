"""What is there: the rows of a CSV, the pictures of a folder; each checked while it is read."""

from collections import Counter
from collections.abc import Iterable
import csv
from pathlib import Path

from minifast.tools import check

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm")


def listed_files(csv_file: Path, column: int | str, folder: Path, suffix: str) -> tuple[Path, ...]:
    """The files folder/name + suffix, with the names from a column of csv_file, in its order.

    Raises ValueError, naming the CSV, where it cannot be read (see read_column), where a name
    stands twice, or a name has no file.
    """
    names = read_column(csv_file, column)
    unique(f"picture names in {csv_file}", names)
    files = tuple(folder / (name + suffix) for name in names)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{csv_file} names {len(missing)} of {len(files)} pictures that have no "
                         f"file: {check.some(missing, 3)}; check the folder and suffix={suffix!r}")
    return files


def read_column(file: Path, column: int | str) -> list[str]:
    """One field of each row of a CSV with a header, without the spaces around it.

    file    in UTF-8; blank lines are skipped
    column  its number from 0, or its name in the header

    Raises ValueError, naming the file (and the line), where it is missing, no text or without rows,
    where it has no such column, or a row is too short to have it.
    """
    check.exists("CSV", file, "check the path and the name")
    fields = []
    try:
        # utf-8-sig: spreadsheets put a byte-order mark first, which would become part of a name.
        with open(file, newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            header = [name.strip() for name in next(reader, [])]
            check.one_of(f"column of {file}", column, [*range(len(header)), *header])
            number = header.index(column) if isinstance(column, str) else column
            for row in filter(None, reader):
                if len(row) <= number:
                    raise ValueError(f"line {reader.line_num} has {len(row)} fields, but column "
                                     f"{header[number]!r} is the one numbered {number}")
                fields.append(row[number].strip())
    except (ValueError, csv.Error) as error:                # UnicodeDecodeError is a ValueError
        raise ValueError(f"CSV {file} cannot be read: {error}") from error
    if not fields:
        raise ValueError(f"CSV {file} has no rows; wanted a header and then a row per picture")
    return fields


def read_lines(file: Path) -> list[str]:
    """The lines of a text file without the spaces around them, blank ones left out: names of
    classes (CamVid's codes.txt), or of files (valid.txt).

    file  in UTF-8; a byte order mark does not matter

    Raises ValueError, naming the file, where it is missing, no text, or has no line.
    """
    check.exists("list", file, "check the path")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except ValueError as error:
        raise ValueError(f"list {file} is no text: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"list {file} is empty; wanted a name in each line")
    return names


def picture_files(folder: Path) -> tuple[Path, ...]:
    """All pictures in a folder and below, sorted; hidden files and folders (.name) are passed over.

    A picture is a file with one of SUFFIXES. Raises ValueError where there is no folder or picture.
    """
    check.exists("folder", folder, "check the path")
    files = [file for file in folder.rglob("*")
             if is_picture(file.relative_to(folder)) and file.is_file()]
    if not files:
        raise ValueError(f"folder {folder} holds no pictures; wanted files such as .jpg or .png")
    # By parts, because Windows compares whole paths without regard to small and big letters.
    return tuple(sorted(files, key=lambda file: file.parts))


def is_picture(file: Path) -> bool:
    """Whether a file's suffix, in small letters, is in SUFFIXES, and no part begins with a dot."""
    hidden = any(part.startswith(".") for part in file.parts)
    return file.suffix.lower() in SUFFIXES and not hidden


def unique(what: str, names: Iterable[str]) -> None:
    """Raise ValueError if a name comes twice; `what` says whose names they are."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"{what} must differ; more than once there: {check.some(repeated)}")
