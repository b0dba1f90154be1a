"""The page that a lesson leaves behind: its cells, what they printed, and their pictures, in order.

One HTML file with the pictures inside and no script: it opens from the disk, can be mailed, and is
read on a laptop or a phone; also while the lesson still runs.
"""

import ast
import atexit
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from html import escape
from io import TextIOBase
from itertools import groupby, takewhile
from pathlib import Path
import shlex
import sys
from typing import TextIO

from PIL import Image
from torch import Tensor

from minifast.draw import grid
from minifast.files import write_atomic
from minifast.images import to_pil
from settings import in_notebook

RUNNING = "The lesson still runs: reload this page for more."
Piece = str | tuple[str, bytes]                 # what a cell printed; or a picture's name and PNG
HTML = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 60rem; padding: 1rem; color: #222; background: #fff;
       font: 17px/1.55 system-ui, sans-serif; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; }}
h2 {{ font-size: 1.25rem; line-height: 1.3; margin-top: 2.5rem; }}
h1, h2, p {{ max-width: 44rem; }}
pre {{ font: 13px/1.45 ui-monospace, Consolas, monospace; overflow-x: auto; padding: .6rem .8rem; }}
.code {{ background: #f5f4f0; border-radius: 6px; }}
.printed {{ border-left: 3px solid #1f77b4; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption, summary, footer {{ color: #666; font-size: .85rem; }}
footer {{ border-top: 1px solid #ddd; margin-top: 3rem; padding-top: .5rem; }}
</style>
{cells}
<footer>{foot}</footer>
</html>
"""


def start_page(folder: str) -> Path:
    """The folder that a lesson's pictures go to; from this call on its page is folder/index.html.

    What is printed goes there too, under the heading of the cell that printed it. In a notebook,
    which is such a page already, nothing is written.
    """
    if not in_notebook():
        lesson = sys._getframe(1).f_code.co_filename
        sys.stdout = page = Page(lesson, Path(folder, "index.html"), sys.stdout)
        page.save()
        atexit.register(page.end)
    return Path(folder)


def save_page() -> None:
    """Bring the page up to date."""
    if isinstance(sys.stdout, Page):
        sys.stdout.save()


def show(picture: Image.Image, file: Path) -> Image.Image:
    """Save a picture, put it on the page, print where it is, and return it: as the last line of a
    cell, a notebook shows it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    if isinstance(sys.stdout, Page):
        sys.stdout.add_picture(file)
    else:
        print(file)
    return picture


def sheet(pictures: Iterable[Tensor], captions: list[str], columns: int) -> Image.Image:
    """Tensors (3, h, w) as pictures in rows of `columns`, with captions: see draw.grid."""
    return grid([to_pil(picture) for picture in pictures], captions, columns)


class Page(TextIOBase):
    """Stands in for sys.stdout: hands on what is printed, and keeps it for the page.

    lesson    the script, named as Python names it; a `# %%` line begins a cell
    file      where the page goes
    terminal  what was sys.stdout before
    """

    def __init__(self, lesson: str, file: Path, terminal: TextIO):
        self.lesson, self.file, self.terminal = lesson, file, terminal
        self.lines = Path(lesson).read_text(encoding="utf-8").splitlines()
        self.starts = [0] + [i for i, line in enumerate(self.lines) if line.startswith("# %%")]
        self.pieces: list[list[Piece]] = [[] for _ in self.starts]      # per cell, in order

    def write(self, text: str) -> int:
        """Print a text. A progress bar (it starts with \\r) stays off the page: it wipes itself."""
        if not text.startswith("\r"):
            self.pieces[self.cell()].append(text)
        return self.terminal.write(text)

    def flush(self) -> None:
        """Hand on what waits."""
        self.terminal.flush()

    def isatty(self) -> bool:
        """Whether a person looks on; then there are progress bars."""
        return self.terminal.isatty()

    def add_picture(self, file: Path) -> None:
        """Put a picture file on the page, and say in the terminal where it is."""
        self.pieces[self.cell()].append((file.name, file.read_bytes()))
        print(file, file=self.terminal)
        self.save()

    def cell(self) -> int:
        """The number of the cell that runs: that of the lesson's own line on the stack."""
        frame = sys._getframe()
        while frame:
            if (frame.f_code.co_filename, frame.f_code.co_name) == (self.lesson, "<module>"):
                return bisect_right(self.starts, frame.f_lineno - 1) - 1
            frame = frame.f_back
        return -1                                       # nobody's line, so the last cell's

    def save(self, state: str = RUNNING) -> None:
        """Write the page as it is now, whole or not at all; `state` begins its last line."""
        bounds = [*self.starts, len(self.lines)]
        first, *others = (self.lines[start:end] for start, end in zip(bounds, bounds[1:]))
        parts = [head_html(first), *map(cell_html, others)]
        cells = "\n".join(part + "".join(map(piece_html, merged(pieces)))
                          for part, pieces in zip(parts, self.pieces))
        foot = f"{state} Written {datetime.now():%Y-%m-%d %H:%M:%S} by: {shlex.join(sys.argv)}"
        title = self.lines[0].strip('"')
        write_atomic(self.file, HTML.format(title=escape(title), cells=cells,
                                            foot=escape(foot)).encode())

    def end(self) -> None:
        """Write the page for the last time, when Python ends."""
        error = getattr(sys, "last_value", None)        # of what ended the lesson early
        self.save("Finished." if error is None else f"Stopped by {error!r}.")


def head_html(lines: list[str]) -> str:
    """What stands above the first cell: the docstring as text, imports and settings folded away."""
    docstring = ast.parse("\n".join(lines)).body[0]
    title, *paragraphs = docstring.value.value.strip().split("\n\n")
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    return (f"<h1>{escape(title)}</h1>{text}<details><summary>Imports and settings</summary>"
            f"{code_html(lines[docstring.end_lineno:])}</details>")


def cell_html(lines: list[str]) -> str:
    """A cell's text: its title, the comment right below that, and its code."""
    title, *rest = lines
    comment = list(takewhile(lambda line: line.startswith("#"), rest))
    text = " ".join(line.removeprefix("#").strip() for line in comment)
    paragraph = f"<p>{escape(text)}</p>" if text else ""
    return (f"<h2>{escape(title.removeprefix('# %%').strip())}</h2>{paragraph}"
            f"{code_html(rest[len(comment):])}")


def code_html(lines: list[str]) -> str:
    """Lines of code, without the blank ones around them."""
    return f'<pre class="code">{escape(chr(10).join(lines).strip(chr(10)))}</pre>'


def merged(pieces: list[Piece]) -> list[Piece]:
    """The pieces of a cell, with what was printed in a row made one."""
    return [piece for kind, group in groupby(pieces, type)
            for piece in (["".join(group)] if kind is str else group)]


def piece_html(piece: Piece) -> str:
    """What a cell printed, or a picture with its name."""
    if isinstance(piece, str):
        text = escape(piece.strip("\n"))
        return f'<pre class="printed">{text}</pre>' if text else ""
    name, png = piece
    return (f'<figure><img alt="{escape(name)}" src="data:image/png;base64,'
            f'{b64encode(png).decode()}"><figcaption>{escape(name)}</figcaption></figure>')
