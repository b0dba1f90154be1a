"""The page that a lesson leaves behind: its cells, what they printed, and their pictures, in order.

It is one HTML file: it opens from the disk, also while the lesson still runs, can be mailed, and is
read on a laptop or a phone.
"""

import atexit
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from io import BytesIO
from pathlib import Path
import shlex
import sys
import tokenize
from typing import TextIO

from PIL import Image
from torch import Tensor

from minifast.images import to_pil
from minifast.tools import processes
from minifast.tools.draw import grid
from minifast.tools.files import write_atomic
from kit.markup import Piece, page_html
from kit.settings import in_notebook

RUNNING = "while the lesson still ran: reload this page for more."


def start_page(folder: str) -> Path:
    """The folder that a lesson's pictures go to; from this call on its page is folder/index.html.

    What is printed goes there too, under the heading of the cell that printed it. In a notebook,
    which is such a page already, and where no file has the lesson, there is no page; of several
    processes the first one has it.
    Raises OSError where the page cannot be written.
    """
    lesson = sys._getframe(1).f_code.co_filename
    if Path(lesson).is_file() and not in_notebook() and processes.RANK == 0:
        sys.stdout = page = Page(lesson, Path(folder, "index.html").absolute(), sys.stdout)
        page.write_file(RUNNING)
        atexit.register(page.end)
    return Path(folder)


def save_page() -> None:
    """Bring the page up to date."""
    if isinstance(sys.stdout, Page):
        sys.stdout.save()


def show(picture: Image.Image, file: Path) -> Image.Image:
    """Save a picture, put it on the page, print where it is, and return it: as the last line of a
    cell, a notebook shows it."""
    png = BytesIO()
    picture.save(png, "PNG", compress_level=1)                          # packed fast, not small
    write_atomic(file, png.getvalue())
    if isinstance(sys.stdout, Page):
        sys.stdout.add_picture(file)
    else:
        print(file)
    return picture


def sheet(pictures: Iterable[Tensor], captions: list[str], columns: int) -> Image.Image:
    """Tensors (3, h, w) as pictures in rows of `columns`, with captions: see draw.grid."""
    return grid([to_pil(picture) for picture in pictures], captions, columns)


class Page:
    """Stands in for sys.stdout: hands on what is printed, and keeps it for the page.

    lesson    the script, named as Python names it; a `# %%` line begins a cell
    file      where the page goes
    terminal  what was sys.stdout before; all but printing is left to it
    """

    def __init__(self, lesson: str, file: Path, terminal: TextIO):
        self.lesson, self.file, self.terminal = lesson, file, terminal
        with tokenize.open(lesson) as source:               # in the encoding that Python would take
            self.lines = source.read().split("\n")
        self.starts = [0] + [i for i, line in enumerate(self.lines) if line.startswith("# %%")]
        self.pieces: list[list[Piece]] = [[] for _ in self.starts]      # per cell, in order
        self.cell = 0                                       # the number of the one that ran last

    def __getattr__(self, name: str):
        """What else a stream has: flush, isatty, encoding, ..."""
        return getattr(self.terminal, name)

    def write(self, text: str) -> int:
        """Print a text, and put it on the page."""
        self.add(text)
        return self.terminal.write(text)

    def add_picture(self, file: Path) -> None:
        """Put a PNG file on the page, and say in the terminal where it is."""
        self.add((file.name, file.read_bytes()))
        print(file, file=self.terminal)
        self.save()

    def add(self, piece: Piece) -> None:
        """Put something into the cell that runs: the one with the lesson's own line on the stack.

        Where no line of the lesson is on the stack (a thread), it is the one that ran last.
        """
        frame = sys._getframe()
        while frame:
            if (frame.f_code.co_filename, frame.f_code.co_name) == (self.lesson, "<module>"):
                self.cell = bisect_right(self.starts, frame.f_lineno - 1) - 1
            frame = frame.f_back
        self.pieces[self.cell].append(piece)

    def save(self, state: str = RUNNING) -> None:
        """Bring the file up to date. If it cannot be written, the lesson goes on: it says so."""
        try:
            self.write_file(state)
        except OSError as error:
            print(f"the lesson's page is not up to date: {error}", file=sys.stderr)

    def write_file(self, state: str) -> None:
        """Write the page as it is now, whole or not at all; `state` ends its first line."""
        bounds = [*self.starts, len(self.lines)]
        cells = [self.lines[start:end] for start, end in zip(bounds, bounds[1:])]
        now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        page = page_html(cells, self.pieces, f"{shlex.join(sys.argv)}. Written {now}, {state}")
        # A printed file name may hold bytes that are no text.
        write_atomic(self.file, page.encode(errors="backslashreplace"))

    def end(self) -> None:
        """Bring the file up to date for the last time, when Python ends."""
        error = getattr(sys, "last_value", None)            # what ended the lesson early
        self.save("when the lesson had ended." if error is None else f"stopped by {error!r}.")
