"""Show how far training is: a bar with the time left, and a table with a line per epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from shutil import get_terminal_size
import sys
from time import perf_counter


def minutes(seconds: float) -> str:
    """Minutes and seconds, as 01:05."""
    whole = round(seconds)
    return f"{whole // 60:02d}:{whole % 60:02d}"


def bar(items: Iterable, total: int, label: str, note: Callable[[], str] = str) -> Iterator:
    """Yield the items, and draw `train ██████·············· 12/40 3.1/s 00:09 left loss 0.5`.

    There is a bar in a terminal or a notebook; in a log file each redraw would be a line. `note`
    gives the text at its end. Training reads its losses there, so it is called without a bar, too.
    """
    live = sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")
    start = last = perf_counter()
    width = 0
    try:
        for done, item in enumerate(items, start=1):
            yield item
            now = perf_counter()
            if now - last >= 0.25 or done == total:
                last, text, rate = now, note(), done / max(now - start, 1e-9)
                line = (f"{label} {'█' * round(20 * done / total):·<20} {done}/{total} "
                        f"{rate:.1f}/s {minutes((total - done) / rate)} left {text}")
                # A line longer than the terminal would wrap, and could not be wiped.
                line = line[:get_terminal_size().columns - 1]
                if live:
                    print("\r" + line.ljust(width), end="", flush=True)
                    width = len(line)
    finally:
        if width:
            print("\r" + " " * width + "\r", end="", flush=True)


def print_row(cells: Sequence, columns: Sequence[str]) -> None:
    """Print a line of the table of epochs, as wide as its columns. Floats get six decimals."""
    texts = [f"{cell:.6f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("  ".join(text.rjust(max(10, len(column))) for text, column in zip(texts, columns)),
          flush=True)
