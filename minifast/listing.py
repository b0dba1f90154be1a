"""What is on the disk: the rows of a CSV, the lines of a list, the pictures of a folder."""

from collections import Counter
from collections.abc import Iterable, Sequence
import csv
from pathlib import Path

from minifast.tools import check

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm")


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV in UTF-8, each as {column: field}. Empty rows are left out. Raises
    ValueError with file and line if a quote is not closed, or fields are missing or too many."""
    check.exists("CSV", file, "check the path")
    columns, rows, line = None, [], 1
    # utf-8-sig: spreadsheets begin a file with a byte-order mark.
    with open(file, newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text, strict=True, skipinitialspace=True)
        try:
            for fields in reader:
                fields = [field.strip() for field in fields]
                columns = columns or fields
                if any(fields) and len(fields) != len(columns) or reader.line_num > line:
                    raise ValueError(f"wanted one line with a field for each of {columns}")
                rows.append(dict(zip(columns, fields)))
                line = reader.line_num + 1
        except (ValueError, csv.Error) as error:        # UnicodeDecodeError is a ValueError
            raise ValueError(f"CSV {file}, line {line}: {error}; check its quotes") from error
    unique(f"columns of {file}", columns or [])
    rows = [row for row in rows if any(row.values())][1:]           # without the header
    if not rows:
        raise ValueError(f"CSV {file} has no rows below its header")
    return rows


def column_of(rows: Sequence[dict[str, str]], column: int | str) -> str:
    """The name of a column, given by this name or by its number from 0."""
    names = list(rows[0])
    check.one_of("column", column, [*range(len(names)), *names])
    return column if isinstance(column, str) else names[column]


def read_lines(file: Path) -> list[str]:
    """The lines of a text file in UTF-8, without blank lines and without spaces around."""
    check.exists("list", file, "check the path")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except ValueError as error:
        raise ValueError(f"list {file} is no text: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def picture_files(folder: Path) -> tuple[Path, ...]:
    """All pictures in a folder and below, sorted, but for hidden files. Links to folders are
    followed, and each folder is read once."""
    check.exists("folder", folder, "check the path")
    files, todo, seen = [], [folder], set(folder.resolve().parents)
    while todo:
        here = todo.pop(0)
        entries = [] if here.resolve() in seen else sorted(here.glob("[!.]*"))
        seen.add(here.resolve())
        for entry in entries:
            if entry.is_dir():                          # links last: a real path goes before
                todo.insert(len(todo) if entry.is_symlink() else 0, entry)
            elif entry.suffix.lower() in SUFFIXES:
                files.append(entry)
    if not files:
        raise ValueError(f"folder {folder} holds no pictures, such as .jpg or .png")
    # By parts, because Windows compares whole paths without regard to case.
    return tuple(sorted(files, key=lambda file: file.parts))


def unique(what: str, names: Iterable[str]) -> None:
    """Raise ValueError if a name comes twice; `what` says whose names they are."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"{what} must differ; more than once there: {check.some(repeated)}")
