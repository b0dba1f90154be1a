"""A lesson's page: one HTML file with its cells, what they printed, and their pictures."""

import atexit
from base64 import b64encode
from contextlib import suppress
from html import escape
from io import BytesIO
from pathlib import Path
import re
import sys
from traceback import walk_stack

from PIL import Image

from minifast.tools.files import write_atomic

HEAD = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>minifast</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body { font: 17px/1.55 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem }
pre { font: 13px/1.45 ui-monospace, monospace; overflow-x: auto; padding: .6rem .8rem }
.code { background: #eee } .printed { border-left: 3px solid #1f77b4 } pre:empty { display: none }
pre span { white-space: pre-wrap } p { max-width: 44rem } img { max-width: 100% }</style>"""


def start_page(folder: str) -> Path:
    """The folder for a lesson's pictures. From now on, its index.html is the lesson's page."""
    lesson, file = sys._getframe(1).f_code.co_filename, Path(folder, "index.html").absolute()
    if Path(lesson).is_file():                      # a notebook needs no such page
        print(f"The page of this lesson: {file}")
        sys.stdout = page = Page(lesson, file, sys.stdout)
        page.save()
        atexit.register(page.end)
    return Path(folder)


def show(picture: Image.Image, file: Path) -> Image.Image:
    """Save a picture, put it on the page, and return it: a notebook shows a cell's last value."""
    png = BytesIO()
    picture.save(png, "PNG")
    write_atomic(file, png.getvalue())
    if isinstance(sys.stdout, Page):
        data = b64encode(png.getvalue()).decode()
        sys.stdout.add(f'<img alt="{escape(file.name)}" src="data:image/png;base64,{data}">\n')
    print(file)
    return picture


class Page:
    """Stands in for sys.stdout: passes on what is printed, and keeps it for the page."""

    def __init__(self, lesson: str, file: Path, terminal: object):
        self.lesson, self.file, self.terminal = lesson, file, terminal
        self.source = Path(lesson).read_text(encoding="utf-8-sig")
        self.cells = re.split("^# %% ?", self.source, flags=re.MULTILINE)
        self.outputs = [[] for _ in self.cells]     # of each cell: HTML of its prints and pictures
        self.cell = 0                               # the one that printed last

    def __getattr__(self, name: str):
        return getattr(self.terminal, name)         # flush, isatty, encoding, ...

    def write(self, text: str) -> int:
        self.add(escape(text))
        return self.terminal.write(text)

    def add(self, html: str) -> None:
        """Add to the cell that runs: look for the lesson's own line among the callers."""
        cell = self.cell                            # of a thread, which has no such line
        for frame, line in walk_stack(sys._getframe()):
            if (frame.f_code.co_filename, frame.f_code.co_name) == (self.lesson, "<module>"):
                cell = sum(each.startswith("# %%") for each in self.source.splitlines()[:line])
        if cell != self.cell:                       # a new cell: write the page again
            self.cell = cell
            with suppress(OSError):                 # the page may be late; training should go on
                self.save()
            self.terminal.write(f"\n# {self.cells[cell].splitlines()[0]}\n")
        self.outputs[cell].append(html)

    def save(self) -> None:
        page = HEAD + "".join(map(cell_html, self.cells, map("".join, self.outputs)))
        write_atomic(self.file, page.encode(errors="backslashreplace"))     # for odd file names

    def end(self) -> None:
        error = getattr(sys, "last_value", None)
        print("\nThe lesson", f"failed: {error!r}." if error else "has ended.", "Page:", self.file)
        self.save()


def cell_html(cell: str, output: str) -> str:
    """A cell: title, comment and code, then its output. The first one has a docstring instead."""
    if cell.startswith('"""'):
        _, text, code = cell.split('"""', 2)
        title, _, text = text.partition("\n")
    else:
        title, text, code = re.fullmatch(r"(.*)\n?((?:#.*\n)*)([\s\S]*)", cell).groups()
    text = escape(re.sub("^# *", "", text.strip(), flags=re.MULTILINE)).replace("\n\n", "<p>")
    output = re.sub("^.*\r(?!\n)", "", output, flags=re.MULTILINE)     # no progress bars
    # Only tables have two spaces in a row. All other lines wrap on a narrow screen.
    output = re.sub("^(?!.*  ).+", r"<span>\g<0></span>", output.strip("\n"), flags=re.MULTILINE)
    return (f'<h2>{escape(title)}</h2><p>{text}<pre class="code">{escape(code.strip())}</pre>'
            f'<pre class="printed">{output}</pre>')
