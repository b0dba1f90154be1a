"""Show how far training is: a bar with the time left, and a table with a line per epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import sys
from time import perf_counter


def minutes(seconds: float) -> str:
    """Minutes and seconds, as 01:05."""
    return "{:02d}:{:02d}".format(*divmod(round(seconds), 60))


def bar(items: Iterable, total: int, label: str,
        loss: Callable[[], float] | None = None) -> Iterator:
    """Yield the items, and draw `train ██████·············· 12/40 3.1/s 00:09 left loss 0.5000`. In
    a log file, where each redraw would be a line, there is no bar."""
    if not (sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")):
        yield from items
        return
    start = last = perf_counter()
    width = 0
    try:
        for done, item in enumerate(items, start=1):
            yield item
            now = perf_counter()
            if now - last >= 0.25 or done == total:
                last, rate = now, done / max(now - start, 1e-9)
                line = (f"{label} {'█' * round(20 * done / total):·<20} {done}/{total} "
                        f"{rate:.1f}/s {minutes((total - done) / rate)} left")
                line += f" loss {loss():.4f}".replace(" loss nan", "") if loss else ""  # none yet
                print("\r" + line.ljust(width), end="", flush=True)
                width = len(line)
    finally:
        print("\r" + " " * width + "\r", end="", flush=True)


def print_row(cells: Sequence, columns: Sequence[str]) -> None:
    """Print a line of the table of epochs, as wide as its columns. Floats get six decimals."""
    texts = [f"{cell:.6f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("  ".join(text.rjust(max(10, len(column))) for text, column in zip(texts, columns)),
          flush=True)
