"""Drawn by Pillow alone: grids of pictures, masks (a class for each pixel) over them, charts."""

from math import ceil, floor, isfinite, log10
from textwrap import wrap

import numpy
from PIL import Image, ImageColor, ImageDraw, ImageFont

Points = tuple[list[float], list[float]]                       # the x values, the y values

COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"]
# For masks: 32 colours, any two at least 37 apart in CIELAB, where distance is as the eye sees it.
CLASS_COLOURS = [f"#{code}" for code in """
    2299cc ff0000 aaff00 0000ff ff00bb 224400 00ffcc ffdd77 770011 ff9900 bb8877 cceecc ff0066
    dd88ff 00ff77 dd00ff 003388 009944 443333 338877 886600 88aa00 ff88bb 0055ff eeddff ffee00
    990066 ff7755 33eeff 660099 886699 0088ff""".split()]
INK, PALE = "#222222", "#dddddd"
TEXT_SIZE, LINE_HEIGHT = 13, 17                                # pixels
MARGIN = 12                                                    # pixels between things
LEAST_CELL = 160                                               # pixels; smaller ones are enlarged


def font() -> ImageFont.FreeTypeFont:
    """Pillow's built-in font, the same on every machine."""
    return ImageFont.load_default(TEXT_SIZE)


def grid(pictures: list[Image.Image], captions: list[str], columns: int) -> Image.Image:
    """The pictures in rows of `columns`, each with its caption below, in lines of as many letters
    as "n" fits into the widest picture: they break at spaces, of which one follows each ";".

    All are enlarged by one whole factor, the least that makes the narrowest LEAST_CELL wide or
    wider, unsmoothed. Raises ValueError where there are no pictures, or not as many captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"grid needs as many captions as pictures and at least one, got "
                         f"{len(pictures)} pictures and {len(captions)} captions")
    factor = ceil(LEAST_CELL / min(picture.width for picture in pictures))
    pictures = [picture.resize((picture.width * factor, picture.height * factor), Image.NEAREST)
                for picture in pictures]
    wide, high = max(p.width for p in pictures), max(p.height for p in pictures)
    letters = floor(wide / font().getlength("n"))
    texts = [wrap(caption.replace(";", "; "), letters) for caption in captions]
    step_x = wide + MARGIN
    step_y = high + LINE_HEIGHT * max(len(lines) for lines in texts) + MARGIN
    rows = ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * step_x + MARGIN, rows * step_y + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, lines) in enumerate(zip(pictures, texts)):
        x, y = MARGIN + i % columns * step_x, MARGIN + i // columns * step_y
        sheet.paste(picture, (x, y))
        pen.multiline_text((x, y + high + 2), "\n".join(lines), INK, font(), spacing=3)
    return sheet


def overlay(picture: Image.Image, mask: numpy.ndarray, alpha: float = 0.5) -> Image.Image:
    """A picture with its mask over it: each class in a colour of its own, CLASS_COLOURS[number].

    mask   (h, w) class numbers, array or tensor; from 32 on colours come again
    alpha  0..1, how much of the colour and how little of the picture is seen
    """
    palette = numpy.array([ImageColor.getrgb(colour) for colour in CLASS_COLOURS], numpy.uint8)
    colours = Image.fromarray(palette[numpy.asarray(mask) % len(palette)])      # (h, w, 3)
    return Image.blend(picture, colours, alpha)


def in_red(picture: Image.Image, where: numpy.ndarray) -> Image.Image:
    """A picture in grey, half way to white, and #ff0000 where `where`, (h, w) bool, is true."""
    pale = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, "white"),
                       0.5)
    pale.paste(CLASS_COLOURS[1], mask=Image.fromarray(numpy.asarray(where)))
    return pale


def with_legend(sheet: Image.Image, names: dict[int, str]) -> Image.Image:
    """The sheet, and below it, as wide, squares of colour, each with the name of its class behind.

    names  class number -> its name

    MARGIN lies between them; a new line begins where a name would reach into the right margin.
    """
    swatch, places, x, y = TEXT_SIZE, [], MARGIN, sheet.height
    for number, name in names.items():
        wide = swatch + 4 + ceil(font().getlength(name))
        if x > MARGIN and x + wide + MARGIN > sheet.width:
            x, y = MARGIN, y + LINE_HEIGHT
        places.append((x, y, CLASS_COLOURS[number % len(CLASS_COLOURS)], name))
        x += wide + MARGIN
    longer = Image.new("RGB", (sheet.width, y + LINE_HEIGHT + MARGIN), "white")
    longer.paste(sheet)
    pen = ImageDraw.Draw(longer)
    for x, y, colour, name in places:
        pen.rectangle([x, y, x + swatch - 1, y + swatch - 1], colour, INK)
        pen.text((x + swatch + 4, y), name, INK, font())
    return longer


def chart(series: dict[str, Points], x_label: str, y_label: str, log: str = "",
          size: tuple[int, int] = (640, 400),
          marks: dict[str, tuple[float, float]] | None = None) -> Image.Image:
    """Lines through points, axes named x_label and y_label, legend; a line of few points has dots.

    series  name in the legend -> (x values, y values); values that are not finite are left out,
            and so are those not above zero on a logarithmic axis
    log     the axes with a logarithmic scale: "", "x", "y" or "xy"
    size    width and height in pixels
    marks   name -> (x, y) of a point to be ringed, on a vertical line that bears the name
    """
    series = {name: drawable(*points, log) for name, points in series.items()}
    ticks_x = ticks([x for points in series.values() for x, _ in points], "x" in log)
    ticks_y = ticks([y for points in series.values() for _, y in points], "y" in log)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    left, right, top, bottom = 70, size[0] - MARGIN, 2 * LINE_HEIGHT, size[1] - 3 * LINE_HEIGHT

    def pixel(x: float, y: float) -> tuple[float, float]:
        return (left + (right - left) * share(x, ticks_x, "x" in log),
                bottom + (top - bottom) * share(y, ticks_y, "y" in log))

    for x in ticks_x:
        pen.line([pixel(x, ticks_y[0]), pixel(x, ticks_y[-1])], PALE)
        pen.text((pixel(x, ticks_y[0])[0], bottom + 4), f"{x:g}", INK, font(), anchor="ma")
    for y in ticks_y:
        pen.line([pixel(ticks_x[0], y), pixel(ticks_x[-1], y)], PALE)
        pen.text((left - 6, pixel(ticks_x[0], y)[1]), f"{y:g}", INK, font(), anchor="rm")
    pen.text(((left + right) / 2, size[1] - MARGIN), x_label, INK, font(), anchor="ms")
    pen.text((MARGIN, top - 8), y_label, INK, font(), anchor="ls")
    legend_x = right
    for (name, points), colour in reversed(list(zip(series.items(), COLOURS * len(series)))):
        draw_line(pen, [pixel(*point) for point in points], colour)
        pen.text((legend_x, top - 8), name, colour, font(), anchor="rs")
        legend_x -= font().getlength(name) + MARGIN
    for number, (name, point) in enumerate((marks or {}).items()):
        draw_mark(pen, pixel(*point), name, top + 2 + number * LINE_HEIGHT, bottom, right)
    return sheet


def draw_line(pen: ImageDraw.ImageDraw, pixels: list[tuple[float, float]], colour: str) -> None:
    """The pen draws a line in a colour through the pixels, with dots where they are 30 or fewer."""
    pen.line(pixels, colour, width=2)
    if len(pixels) <= 30:
        for x, y in pixels:
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)


def draw_mark(pen: ImageDraw.ImageDraw, at: tuple[float, float], name: str, top: float,
              bottom: float, right: float) -> None:
    """The pen rings the pixel `at`, radius 5, and draws a line through it from row top to bottom,
    the name at its top: on the right, or, where it would go beyond column `right`, on the left."""
    x, y = at
    pen.line([(x, top), (x, bottom)], INK)
    pen.ellipse([x - 5, y - 5, x + 5, y + 5], outline=INK, width=2)
    fits = x + 5 + font().getlength(name) <= right
    place, anchor = ((x + 5, top), "la") if fits else ((x - 5, top), "ra")
    pen.text(place, name, INK, font(), anchor, stroke_width=2, stroke_fill="white")


def drawable(xs: list[float], ys: list[float], log: str) -> list[tuple[float, float]]:
    """The (x, y) pairs of xs and ys that are finite, and above 0 on the axes that log names."""
    return [(x, y) for x, y in zip(xs, ys) if isfinite(x) and isfinite(y)
            and (x > 0 or "x" not in log) and (y > 0 or "y" not in log)]


def ticks(values: list[float], log: bool) -> list[float]:
    """Round numbers around all values: evenly spaced on a linear axis, powers of ten on a log one.

    The first is not above the smallest value and the last not below the largest.
    """
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    if log:
        first = floor(log10(low))
        return [10.0 ** k for k in range(first, max(ceil(log10(high)), first + 1) + 1)]
    # Values that differ by rounding alone are one value.
    spread = high - low if high - low > 1e-9 * abs(high) else abs(high) or 1.0
    unit = 10.0 ** floor(log10(spread))
    step = next(unit * part for part in (0.2, 0.5, 1.0, 2.0) if spread / (unit * part) <= 6)
    first = floor(low / step)
    last = max(ceil(high / step), first + 1)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]    # 0.3, not 0.30000000004


def share(value: float, marks: list[float], log: bool) -> float:
    """Where the value lies from first to last of an axis's marks, 0 to 1; by log10 if `log`."""
    low, high = marks[0], marks[-1]
    if log:
        value, low, high = log10(value), log10(low), log10(high)
    return (value - low) / (high - low)
