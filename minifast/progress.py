"""Show that training moves: a bar with the time left, and a table with a line per epoch (once over
all training pictures); and other tables, when it is over.

The bar is drawn in terminals and notebooks only: in a log file each redraw would be a line.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isnan
from shutil import get_terminal_size
import sys
from time import perf_counter

REFRESH_SECONDS = 0.25


def is_live() -> bool:
    """Whether a printed line can be overwritten: in a terminal, or in a notebook, where the class
    of sys.stdout comes from a module ipykernel...; not in a file."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")


def minutes(seconds: float) -> str:
    """Seconds as minutes and whole seconds, rounded: 59.6 -> '01:00', 6000 -> '100:00'."""
    whole = round(seconds)
    return f"{whole // 60:02d}:{whole % 60:02d}"


def bar(items: Iterable, total: int, label: str, note: Callable[[], str] = str) -> Iterator:
    """Yield the items, and draw `label ██████·············· 12/40 3.1/s 00:09 left <note>`.

    items  anything to iterate over; total is how many there are
    note   called at each refresh, whether or not a bar is drawn; its text ends the line. So a
           costly look (a loss that lies on the GPU) is a rare one.
    A refresh comes after the use of an item, at most four times a second, and of item `total`
    however early. A line has at most the terminal's width - 1, covers a longer one before, and is
    wiped (with spaces) when the items end, also by an error; where none was drawn, nothing is.
    """
    start = last = perf_counter()
    live, width = is_live(), 0
    try:
        for done, item in enumerate(items, start=1):
            yield item
            now = perf_counter()
            if now - last >= REFRESH_SECONDS or done == total:
                last, text = now, note()
                if live:
                    # A line that is longer than the terminal would wrap, and could not be wiped.
                    columns = get_terminal_size().columns - 1
                    line = bar_line(label, done, total, now - start, text)[:columns]
                    print("\r" + line.ljust(width), end="", flush=True)
                    width = len(line)
    finally:
        if width:
            print("\r" + " " * width + "\r", end="", flush=True)


def bar_line(label: str, done: int, total: int, seconds: float, text: str) -> str:
    """One state of the bar, from label to text: done of total items, `seconds` (or 0) after the
    start. Of the bar's 20 characters round(20 * done / total) are filled."""
    filled = round(20 * done / total)
    rate = done / max(seconds, 1e-9)
    left = minutes((total - done) / rate)
    drawn = "█" * filled + "·" * (20 - filled)
    return f"{label} {drawn} {done}/{total} {rate:.1f}/s {left} left {text}"


class EpochTable:
    """A table that grows by a printed line per epoch; remembers only the widths of its columns."""

    def __init__(self, columns: list[str]):
        """Print the header; columns, two spaces apart, are as wide as their names, at least 10."""
        self.widths = [max(10, len(column)) for column in columns]
        self.line(columns)

    def line(self, cells: list) -> None:
        """Print right-aligned cells: floats with six decimals as in fastai v1, others as text."""
        texts = [f"{cell:.6f}" if isinstance(cell, float) else str(cell) for cell in cells]
        print("  ".join(text.rjust(width) for text, width in zip(texts, self.widths)), flush=True)


def table(rows: Iterable[Sequence]) -> str:
    """The rows of cells as lines, columns two spaces apart, the first to the left, others to the
    right. Floats get three decimals, NaN is n/a; ints get commas between their thousands."""
    texts = [[("n/a" if isnan(cell) else f"{cell:.3f}") if isinstance(cell, float)
              else f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)]
    return "\n".join("  ".join(text.rjust(width) if i else text.ljust(width)
                               for i, (text, width) in enumerate(zip(row, widths)))
                     for row in texts)
