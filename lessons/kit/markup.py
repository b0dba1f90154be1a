"""How a page looks: a lesson's cells, what they printed and their pictures, as HTML.

One file, with the pictures inside and no script.
"""

import ast
from base64 import b64encode
from html import escape
from itertools import groupby, takewhile

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
.prose {{ white-space: pre-wrap; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption, summary, header {{ color: #666; font-size: .85rem; }}
</style>
{cells}
</html>
"""


def page_html(cells: list[list[str]], pieces: list[list[Piece]], state: str) -> str:
    """The whole page.

    cells   the lines of each cell; the first are those above all cells
    pieces  for each cell what it printed and the pictures it showed, in order
    state   what its first line says: of which command this is, and whether that still runs
    """
    title, head = head_html(cells[0])
    body = "\n".join(text + "".join(map(piece_html, merged(shown)))
                     for text, shown in zip([head, *map(cell_html, cells[1:])], pieces))
    return HTML.format(title=escape(title), cells=f"<header>{escape(state)}</header>{body}")


def head_html(lines: list[str]) -> tuple[str, str]:
    """The title, and what stands above the first cell: the docstring as text, the rest folded."""
    tree = ast.parse("\n".join(lines))
    about = ast.get_docstring(tree)
    title, _, text = (about or "A lesson").partition("\n")
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in text.strip().split("\n\n") if part)
    code = code_html(lines[tree.body[0].end_lineno if about else 0:])
    return title, (f"<h1>{escape(title)}</h1>{paragraphs}"
                   f"<details><summary>Imports and settings</summary>{code}</details>")


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
    code = escape("\n".join(lines).strip("\n"))
    return f'<pre class="code">{code}</pre>' if code else ""


def merged(pieces: list[Piece]) -> list[Piece]:
    """The pieces of a cell, with what was printed in a row made one."""
    return [piece for kind, group in groupby(pieces, type)
            for piece in (["".join(group)] if kind is str else group)]


def line_html(line: str) -> str:
    """A printed line. A sentence is wrapped on a narrow screen; a row of a table, whose columns are
    two spaces apart or more, is not."""
    return escape(line) if "  " in line or not line.strip() else (
        f'<span class="prose">{escape(line)}</span>')


def piece_html(piece: Piece) -> str:
    """What a cell printed, or a picture with its name."""
    if isinstance(piece, str):
        # What follows a carriage return overwrites the line: of a progress bar nothing is left.
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in piece.split("\n")]
        text = "\n".join(map(line_html, lines)).strip("\n")
        return f'<pre class="printed">{text}</pre>' if text.strip() else ""
    name, png = piece
    return (f'<figure><img alt="{escape(name)}" src="data:image/png;base64,'
            f'{b64encode(png).decode()}"><figcaption>{escape(name)}</figcaption></figure>')
