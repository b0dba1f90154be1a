"""Pictures drawn with Pillow alone: grids with captions, masks over pictures, line charts."""

from math import ceil, floor, log10
from textwrap import wrap

import numpy
from PIL import Image, ImageColor, ImageDraw, ImageFont

COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"]
# One per class of a mask: 32 colours that the eye tells apart.
CLASS_COLOURS = [f"#{code}" for code in """
    2299cc ff0000 aaff00 0000ff ff00bb 224400 00ffcc ffdd77 770011 ff9900 bb8877 cceecc ff0066
    dd88ff 00ff77 dd00ff 003388 009944 443333 338877 886600 88aa00 ff88bb 0055ff eeddff ffee00
    990066 ff7755 33eeff 660099 886699 0088ff""".split()]
INK, PALE = "#222222", "#dddddd"
TEXT_SIZE, LINE_HEIGHT, MARGIN, LEAST_CELL = 13, 17, 12, 160                    # pixels
FONT = ImageFont.load_default(TEXT_SIZE)        # built into Pillow: the same on every machine


def grid(pictures: list[Image.Image], captions: list[str], columns: int) -> Image.Image:
    """The pictures in rows of `columns`, each with its caption below it. Small ones are enlarged by
    a whole factor, to at least LEAST_CELL pixels of width."""
    factor = ceil(LEAST_CELL / min(picture.width for picture in pictures))
    pictures = [picture.resize((picture.width * factor, picture.height * factor), Image.NEAREST)
                for picture in pictures]
    wide, high = max(p.width for p in pictures), max(p.height for p in pictures)
    letters = floor(wide / FONT.getlength("n"))
    texts = [wrap(caption.replace(";", "; "), letters) for caption in captions]
    step_x, step_y = wide + MARGIN, high + LINE_HEIGHT * max(map(len, texts)) + MARGIN
    rows = ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * step_x + MARGIN, rows * step_y + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, lines) in enumerate(zip(pictures, texts, strict=True)):
        x, y = MARGIN + i % columns * step_x, MARGIN + i // columns * step_y
        sheet.paste(picture, (x, y))
        pen.multiline_text((x, y + high + 2), "\n".join(lines), INK, FONT, spacing=3)
    return sheet


def overlay(picture: Image.Image, mask: numpy.ndarray, alpha: float = 0.5) -> Image.Image:
    """A picture with its mask, (h, w) class numbers, over it. alpha 1 shows only the mask."""
    palette = numpy.array([ImageColor.getrgb(colour) for colour in CLASS_COLOURS], numpy.uint8)
    colours = Image.fromarray(palette[numpy.asarray(mask) % len(palette)])      # (h, w, 3)
    return Image.blend(picture, colours, alpha)


def with_legend(sheet: Image.Image, names: dict[int, str]) -> Image.Image:
    """The sheet, and below it the colour and the name of each class, from {number: name}."""
    step = LINE_HEIGHT + MARGIN + ceil(max(map(FONT.getlength, names.values()), default=0))
    columns = max(1, (sheet.width - MARGIN) // step)
    rows = ceil(len(names) / columns)
    longer = Image.new("RGB", (sheet.width, sheet.height + rows * LINE_HEIGHT + MARGIN), "white")
    longer.paste(sheet)
    pen = ImageDraw.Draw(longer)
    for i, (number, name) in enumerate(names.items()):
        x, y = MARGIN + i % columns * step, sheet.height + i // columns * LINE_HEIGHT
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        pen.rectangle([x, y, x + TEXT_SIZE - 1, y + TEXT_SIZE - 1], colour, INK)
        pen.text((x + LINE_HEIGHT, y), name, INK, FONT)
    return longer


def chart(series: dict[str, tuple[list[float], list[float]]], x_label: str, y_label: str,
          log: str = "", size: tuple[int, int] = (640, 400),
          marks: dict[str, tuple[float, float]] | None = None) -> Image.Image:
    """Lines through points, with axes and a legend.

    series  name -> (x values, y values); points that are not finite are left out
    log     the axes with a logarithmic scale: "", "x", "y" or "xy"
    marks   name -> (x, y): a point to be ringed and named
    """
    lines = {name: _points(*values, log) for name, values in series.items()}
    every = numpy.concatenate([*lines.values(), numpy.zeros((0, 2))])
    x_ticks, y_ticks = (_ticks(every[:, i], "xy"[i] in log) for i in (0, 1))
    left, right, top, bottom = 70, size[0] - MARGIN, 2 * LINE_HEIGHT, size[1] - 3 * LINE_HEIGHT
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)

    def pixel(x: float, y: float) -> tuple[float, float]:
        return (left + (right - left) * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]),
                bottom + (top - bottom) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]))

    for tick in x_ticks:
        x, number = pixel(tick, y_ticks[0])[0], 10.0 ** tick if "x" in log else tick
        pen.line([(x, top), (x, bottom)], PALE)
        pen.text((x, bottom + 4), f"{number:g}", INK, FONT, anchor="ma")
    for tick in y_ticks:
        y, number = pixel(x_ticks[0], tick)[1], 10.0 ** tick if "y" in log else tick
        pen.line([(left, y), (right, y)], PALE)
        pen.text((left - 6, y), f"{number:g}", INK, FONT, anchor="rm")
    pen.text(((left + right) / 2, size[1] - MARGIN), x_label, INK, FONT, anchor="ms")
    pen.text((MARGIN, top - 8), y_label, INK, FONT, anchor="ls")
    legend_x = right
    for (name, points), colour in reversed(list(zip(lines.items(), COLOURS * len(lines)))):
        pen.line([pixel(*point) for point in points], colour, width=2)
        for x, y in (pixel(*point) for point in points if len(points) <= 30):
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
        pen.text((legend_x, top - 8), name, colour, FONT, anchor="rs")
        legend_x -= FONT.getlength(name) + MARGIN
    for i, (name, (x, y)) in enumerate((marks or {}).items()):
        for point in _points([x], [y], log):                            # one, or none if not finite
            x, y = pixel(*point)
            pen.line([(x, top), (x, bottom)], INK)
            pen.ellipse([x - 5, y - 5, x + 5, y + 5], outline=INK, width=2)
            side, anchor = (5, "la") if x < (left + right) / 2 else (-5, "ra")
            pen.text((x + side, top + 2 + i * LINE_HEIGHT), name, INK, FONT, anchor,
                     stroke_width=2, stroke_fill="white")               # legible on another line
    return sheet


def _points(xs: list[float], ys: list[float], log: str) -> numpy.ndarray:
    """The finite points (n, 2), after log10 on the axes that `log` names."""
    points = numpy.array([xs, ys], float).T
    with numpy.errstate(divide="ignore", invalid="ignore"):
        for axis in log:
            points[:, "xy".index(axis)] = numpy.log10(points[:, "xy".index(axis)])
    return points[numpy.isfinite(points).all(axis=1)]


def _ticks(values: numpy.ndarray, log: bool) -> list[float]:
    """Evenly spaced round numbers around all values; if these are logarithms, whole numbers."""
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    spread = high - low if high - low > 1e-9 * abs(high) else abs(high) or 1.0
    unit = 10.0 ** floor(log10(spread))
    step = 1 if log else next(unit * p for p in (0.2, 0.5, 1, 2) if spread / (unit * p) <= 6)
    first = floor(low / step)
    return [k * step for k in range(first, max(ceil(high / step), first + 1) + 1)]
