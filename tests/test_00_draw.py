from itertools import combinations

import numpy
from PIL import Image, ImageChops, ImageColor, ImageDraw
import pytest
import torch

from minifast.draw import (CLASS_COLOURS, LEAST_CELL, LINE_HEIGHT, MARGIN, chart, draw_line,
                           drawable, font, grid, in_red, overlay, share, ticks, with_legend)

RED, BLUE, WHITE, INK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (34, 34, 34)
FIRST, SECOND = (31, 119, 180), (214, 39, 40)                    # colours of the first two lines
LEFT, TOP, RIGHT, BOTTOM = 70, 34, 628, 349                      # the axes of a chart of 640 x 400
MIDDLE = ((LEFT + RIGHT) // 2, (TOP + BOTTOM) // 2)
SQUARE = {"up": ([0, 1], [0, 1])}


def red(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), RED)


def changed(one: Image.Image, other: Image.Image) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom of where two pictures differ."""
    return ImageChops.difference(one, other).getbbox()


def box_of(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom of the pixels of exactly that colour."""
    other = Image.new("RGB", picture.size, colour)
    bands = ImageChops.difference(picture, other).split()
    most = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    return most.point(lambda value: 255 if value == 0 else 0).getbbox()


def columns_of(picture: Image.Image, colour: tuple[int, int, int], bottom: int) -> set[int]:
    """The columns that have the colour somewhere above row `bottom`."""
    return {x for x in range(picture.width) for y in range(bottom)
            if picture.getpixel((x, y)) == colour}


# A grid of pictures

def test_the_font_is_one_that_pillow_brings():
    assert font().getlength("nn") > font().getlength("n") > 0


def test_one_picture_lies_inside_a_margin_with_room_for_its_caption():
    sheet = grid([red(200, 100)], [""], columns=1)
    assert box_of(sheet, RED) == (MARGIN, MARGIN, MARGIN + 200, MARGIN + 100)
    assert sheet.size == (200 + 2 * MARGIN, 100 + 2 * MARGIN)
    captioned = grid([red(200, 100)], ["haze"], columns=1)
    assert captioned.size == (200 + 2 * MARGIN, 100 + 2 * MARGIN + LINE_HEIGHT)


def test_pictures_stand_in_rows_from_left_to_right():
    colours = [(10 * number, 0, 200) for number in range(5)]
    sheet = grid([Image.new("RGB", (200, 100), colour) for colour in colours], ["tag"] * 5, 2)
    step_x, step_y = 200 + MARGIN, 100 + LINE_HEIGHT + MARGIN
    assert sheet.size == (2 * step_x + MARGIN, 3 * step_y + MARGIN)
    for colour, (column, row) in zip(colours, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]):
        left, top = MARGIN + column * step_x, MARGIN + row * step_y
        assert box_of(sheet, colour) == (left, top, left + 200, top + 100)


def test_small_pictures_are_enlarged_by_a_whole_factor_so_that_pixels_stay_visible():
    picture = red(16, 8)
    picture.putpixel((1, 2), BLUE)
    sheet = grid([picture], [""], columns=1)                     # 16 to 160: ten times
    assert LEAST_CELL == 160
    assert sheet.size == (160 + 2 * MARGIN, 80 + 2 * MARGIN)
    assert box_of(sheet, BLUE) == (MARGIN + 10, MARGIN + 20, MARGIN + 20, MARGIN + 30)


def test_the_narrowest_picture_says_how_much_all_are_enlarged():
    sheet = grid([red(100, 10), Image.new("RGB", (300, 50), BLUE)], ["", ""], columns=2)
    assert box_of(sheet, RED) == (MARGIN, MARGIN, MARGIN + 200, MARGIN + 20)      # twice
    left = 2 * MARGIN + 600
    assert box_of(sheet, BLUE) == (left, MARGIN, left + 600, MARGIN + 100)


def test_a_caption_stands_below_its_own_picture():
    pictures = [red(200, 100)] * 2
    left, top, right, bottom = changed(grid(pictures, ["haze", ""], 2),
                                       grid(pictures, ["haze", "road"], 2))
    below = MARGIN + 100
    assert 2 * MARGIN + 200 <= left < right <= 2 * MARGIN + 400
    assert below <= top < bottom <= below + LINE_HEIGHT


def test_a_long_caption_is_wrapped_to_the_width_of_its_picture():
    long = "agriculture clear cultivation habitation primary road water"
    short, tall = (grid([red(200, 100)] * 2, [caption, "x"], 2) for caption in ("x", long))
    more_lines = (tall.height - short.height) / LINE_HEIGHT
    assert more_lines in (1, 2, 3)
    _, _, right, bottom = changed(tall.crop((0, 0, *short.size)), short)
    assert right <= MARGIN + 200 + MARGIN
    ink_below = changed(tall.crop((0, short.height, *tall.size)),
                        Image.new("RGB", (tall.width, tall.height - short.height), WHITE))
    assert ink_below is not None and ink_below[2] <= MARGIN + 200 + MARGIN


def test_tags_joined_by_semicolons_are_wrapped_between_tags():
    # Two tags of 14 letters do not fit in a line of 200 pixels, so each has its own: as one word
    # of 59 letters they would be cut into 3 lines.
    assert 15 * font().getlength("n") < 200 < 29 * font().getlength("n")
    sheet = grid([red(200, 100)], [";".join(["n" * 14] * 4)], 1)
    assert sheet.height == 100 + 2 * MARGIN + 4 * LINE_HEIGHT


@pytest.mark.parametrize("pictures, captions", [(0, 0), (2, 1), (1, 2)])
def test_another_number_of_captions_than_pictures_is_refused(pictures, captions):
    wanted = f"grid needs .* got {pictures} pictures and {captions} captions"
    with pytest.raises(ValueError, match=wanted):
        grid([red(8, 8)] * pictures, ["x"] * captions, 1)


# Numbers along an axis

@pytest.mark.parametrize("values, wanted", [
    ([0, 1], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ([0, 7], [0, 2, 4, 6, 8]),
    ([0.09, 0.12], [0.09, 0.095, 0.1, 0.105, 0.11, 0.115, 0.12]),
    ([-1, 1], [-1, -0.5, 0, 0.5, 1]),
    ([120, 3, 540], [0, 100, 200, 300, 400, 500, 600]),
    ([0.1, 0.3], [0.1, 0.15, 0.2, 0.25, 0.3]),
    ([3], [3, 3.5]), ([0, 0], [0, 0.2]), ([-3], [-3, -2.5]),
    ([], [0, 0.2, 0.4, 0.6, 0.8, 1.0])])
def test_ticks_of_a_linear_axis_by_hand(values, wanted):
    assert ticks(values, log=False) == pytest.approx(wanted)


@pytest.mark.parametrize("values, wanted", [
    ([0.003, 20], [0.001, 0.01, 0.1, 1, 10, 100]), ([1e-3, 0.1], [0.001, 0.01, 0.1]),
    ([1], [1, 10]), ([5, 6], [1, 10]), ([], [0.1, 1])])
def test_ticks_of_a_logarithmic_axis_are_powers_of_ten(values, wanted):
    assert ticks(values, log=True) == pytest.approx(wanted)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("low", [1e-7, 0.013, 0.95, 7, 12345])
@pytest.mark.parametrize("factor", [1, 1.001, 1.7, 3, 9.99, 1000])
def test_ticks_surround_the_values_and_are_neither_few_nor_many(low, factor, log):
    marks = ticks([low * factor, low], log)
    assert marks == sorted(set(marks)) and 2 <= len(marks) <= 8
    assert marks[0] <= low * (1 + 1e-9) and marks[-1] >= low * factor * (1 - 1e-9)


def test_ticks_of_values_that_differ_by_rounding_are_those_of_one_value():
    assert ticks([0.45, 0.45 + 1e-16], log=False) == ticks([0.45], log=False)
    assert chart({"flat": ([0, 1], [0.45, 0.45 + 1e-16])}, "", "").size == (640, 400)


def test_ticks_of_tiny_values_stay_apart():
    assert ticks([0, 1e-13], log=False) == pytest.approx([0, 2e-14, 4e-14, 6e-14, 8e-14, 1e-13])


def test_share_of_the_way_along_an_axis():
    assert share(3, [1, 2, 5], log=False) == 0.5
    assert share(1, [1, 2, 5], log=False) == 0
    assert share(0.1, [0.001, 0.1, 10], log=True) == pytest.approx(0.5)
    assert share(10, [0.001, 10], log=True) == 1


def test_points_that_cannot_be_drawn_are_left_out():
    nan, inf = float("nan"), float("inf")
    xs, ys = [1, nan, 3, 4, 0, -1, 7, 8], [1, 2, nan, inf, 5, 6, 0, -1]
    linear = [(1, 1), (0, 5), (-1, 6), (7, 0), (8, -1)]
    assert drawable(xs, ys, "") == linear
    assert drawable(xs, ys, "x") == [(1, 1), (7, 0), (8, -1)]
    assert drawable(xs, ys, "y") == [(1, 1), (0, 5), (-1, 6)]
    assert drawable(xs, ys, "xy") == [(1, 1)]
    assert drawable([-inf, 2], [1, 2], "") == [(2, 2)]


# A chart

def test_a_line_from_corner_to_corner_has_its_colour_at_both_ends_and_between():
    sheet = chart(SQUARE, "", "")
    assert sheet.size == (640, 400)
    assert sheet.getpixel((LEFT, BOTTOM)) == sheet.getpixel((RIGHT, TOP)) == FIRST
    assert FIRST in [sheet.getpixel((MIDDLE[0], MIDDLE[1] + shift)) for shift in (-1, 0, 1)]
    assert sheet.getpixel((LEFT + 20, TOP + 20)) == WHITE


def test_a_chart_has_the_size_that_is_asked_for():
    sheet = chart(SQUARE, "", "", size=(300, 200))
    assert sheet.size == (300, 200)
    assert sheet.getpixel((300 - MARGIN, TOP)) == FIRST          # the upper right end
    assert sheet.getpixel((LEFT, 200 - 3 * LINE_HEIGHT)) == FIRST


def test_few_points_are_marked_with_dots_and_many_are_not():
    pictures = []
    for count in (30, 31):
        sheet = Image.new("RGB", (100, 20), "white")
        draw_line(ImageDraw.Draw(sheet), [(10 + x, 10) for x in range(count)], "red")
        pictures.append(box_of(sheet, RED))
    assert pictures[0] == (7, 7, 10 + 30 + 3, 14)                # 3 pixels around each point
    assert pictures[1][3] - pictures[1][1] == 2                  # a line 2 pixels wide


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_the_middle_of_a_logarithmic_axis_is_the_geometric_mean(log):
    # from .01 to 100 the middle is 1 on a logarithmic axis, and 50 on a linear one (0 to 100)
    xs = [0.01, 1 if "x" in log else 50, 100]
    ys = [0.01, 1 if "y" in log else 50, 100]
    assert chart({"": (xs, ys)}, "", "", log).getpixel(MIDDLE) == FIRST           # its dot


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_values_that_are_not_finite_or_have_no_logarithm_change_nothing(log):
    nan, inf = float("nan"), float("inf")
    clean = chart({"loss": ([1, 2, 3], [5, 4, 7])}, "x", "y", log)
    bad = chart({"loss": ([1, nan, 2, 2, 3, 3], [5, 9, 4, inf, 7, nan])}, "x", "y", log)
    assert changed(clean, bad) is None
    if log:
        bad = chart({"loss": ([1, 0, 2, 3, -3], [5, 0, 4, 7, -7])}, "x", "y", log)
        assert changed(clean, bad) is None


def test_equal_values_and_single_points_and_nothing_at_all_can_be_drawn():
    for log in ("", "x", "y", "xy"):
        assert chart({"flat": ([1, 2, 3], [5, 5, 5])}, "x", "y", log).size == (640, 400)
        assert chart({"zero": ([0, 0], [0, 0])}, "x", "y", log).size == (640, 400)
        assert chart({"dot": ([2], [3])}, "x", "y", log).size == (640, 400)
        assert chart({"none": ([], []), "bad": ([1], [float("nan")])}, "x", "y", log)
        assert chart({}, "x", "y", log).size == (640, 400)


def test_labels_stand_below_and_above_the_axes():
    plain = chart(SQUARE, "", "")
    left, top, right, bottom = changed(plain, chart(SQUARE, "batch", ""))
    assert top > BOTTOM + LINE_HEIGHT and abs((left + right) / 2 - (LEFT + RIGHT) / 2) <= 2
    left, top, right, bottom = changed(plain, chart(SQUARE, "", "loss"))
    assert bottom <= TOP and left < MARGIN + 3 and right < LEFT


def test_each_tick_has_a_pale_line_and_a_number():
    sheet, pale = chart({"flat": ([0, 1], [0, 0])}, "", ""), (221, 221, 221)     # y: 0 and .2
    for number in range(1, 6):                                   # x: 0, .2, .4, .6, .8, 1
        x = LEFT + round((RIGHT - LEFT) * number / 5)
        found = [sheet.getpixel((x + shift, TOP + 50)) for shift in (-1, 0, 1)]
        assert found.count(pale) == 1
        number_box = sheet.crop((x - 12, BOTTOM + 4, x + 12, BOTTOM + 18))
        assert changed(number_box, Image.new("RGB", number_box.size, WHITE)) is not None
    assert sheet.getpixel((LEFT + 30, TOP)) == pale
    number_box = sheet.crop((LEFT - 40, TOP - 7, LEFT - 5, TOP + 8))
    assert changed(number_box, Image.new("RGB", number_box.size, WHITE)) is not None


def test_each_axis_has_numbers_of_its_own():
    # ten times as large, with ticks at the same places: only the numbers change
    plain = chart(SQUARE, "", "")
    left, top, right, bottom = changed(plain, chart({"up": ([0, 1], [0, 10])}, "", ""))
    assert right <= LEFT and top < TOP + 10
    left, top, right, bottom = changed(plain, chart({"up": ([0, 10], [0, 1])}, "", ""))
    assert top >= BOTTOM and right > RIGHT - 10


def test_the_legend_names_the_lines_in_their_order_and_colours():
    sheet = chart({"train": ([0, 1], [0, 0.1]), "valid": ([0, 1], [0, 0])}, "", "")
    first, second = (columns_of(sheet, colour, TOP - 4) for colour in (FIRST, SECOND))
    assert first and second and max(first) < min(second)
    assert max(second) <= RIGHT


def test_more_lines_than_colours_can_be_drawn():
    many = {f"line {number}": ([0, 1], [number, number + 1]) for number in range(12)}
    sheet = chart(many, "", "")
    for number in (0, 8):                                        # the ninth has the first's colour
        assert sheet.getpixel((LEFT, BOTTOM - round((BOTTOM - TOP) * number / 12))) == FIRST


# A marked point

def test_a_mark_is_a_ring_on_a_line_from_top_to_bottom():
    plain, marked = chart(SQUARE, "", ""), chart(SQUARE, "", "", marks={"": (0.5, 0.5)})
    x, y = MIDDLE
    assert changed(plain, marked) == (x - 5, TOP + 2, x + 6, BOTTOM + 1)
    for at in ((x, TOP + 10), (x, BOTTOM - 10), (x - 4, y), (x + 4, y), (x, y - 4), (x, y + 4)):
        assert marked.getpixel(at) == INK
    assert marked.getpixel((x - 8, y - 20)) == WHITE


def test_a_mark_lies_where_its_values_lie_on_logarithmic_axes():
    square = {"up": ([0.01, 100], [0.01, 100])}
    plain, marked = chart(square, "", "", "xy"), chart(square, "", "", "xy", marks={"": (1, 1)})
    assert changed(plain, marked)[0] == MIDDLE[0] - 5


def test_the_name_of_a_mark_is_on_the_side_with_room():
    for x, name, side in ((0.5, "elbow", "right"), (0.95, "elbow 0.0001", "left")):
        bare, named = (chart(SQUARE, "", "", marks={text: (x, 0)}) for text in ("", name))
        left, top, right, bottom = changed(bare, named)
        line = LEFT + (RIGHT - LEFT) * x
        assert (left > line and right <= RIGHT) if side == "right" else right < line
        assert top >= TOP and bottom <= TOP + LINE_HEIGHT + 2


def test_the_names_of_two_marks_are_not_on_top_of_each_other():
    one = chart(SQUARE, "", "", marks={"first": (0.5, 0.1), "": (0.52, 0.2)})
    two = chart(SQUARE, "", "", marks={"first": (0.5, 0.1), "second": (0.52, 0.2)})
    assert changed(one, two)[1] >= TOP + LINE_HEIGHT


# Masks

def lab(colour: str) -> numpy.ndarray:
    """A colour in CIELAB, where equal distances look about equally big (1 is just visible)."""
    rgb = numpy.array(ImageColor.getrgb(colour)) / 255
    rgb = numpy.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = numpy.array([[.4124, .3576, .1805], [.2126, .7152, .0722], [.0193, .1192, .9505]]) @ rgb
    f = numpy.cbrt(xyz / (.9505, 1, 1.089))
    return numpy.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_colours_of_32_classes_differ_clearly_from_each_other():
    colours = [lab(colour) for colour in CLASS_COLOURS]
    assert len(colours) == 32
    # For comparison: the 20 colours of tab20 have pairs that differ by 15.
    assert min(numpy.linalg.norm(a - b) for a, b in combinations(colours, 2)) >= 37


def test_an_overlay_mixes_each_pixel_with_the_colour_of_its_class():
    grey = Image.new("RGB", (3, 2), (100, 100, 100))
    mask = numpy.array([[0, 1, 31], [32, 33, 0]])
    seen = numpy.array(overlay(grey, mask, alpha=1))
    wanted = [[ImageColor.getrgb(CLASS_COLOURS[k]) for k in row] for row in ((0, 1, 31), (0, 1, 0))]
    assert seen.tolist() == [[list(colour) for colour in row] for row in wanted]
    # a quarter of #ff0000 and three quarters of the grey
    assert abs(numpy.array(overlay(grey, mask, alpha=0.25))[0, 1] - (138.75, 75, 75)).max() < 1
    assert numpy.array_equal(overlay(grey, torch.from_numpy(mask)), overlay(grey, mask, 0.5))


def test_in_red_is_red_where_it_shall_be_and_pale_elsewhere():
    picture = Image.new("RGB", (2, 1), (200, 100, 50))
    seen = numpy.array(in_red(picture, numpy.array([[True, False]])))
    # .299 * 200 + .587 * 100 + .114 * 50 = 124, half way to white
    assert seen[0, 0].tolist() == [255, 0, 0] and abs(seen[0, 1] - 189.5).max() <= 1
    assert picture.getpixel((0, 0)) == (200, 100, 50)


def test_a_legend_shows_each_colour_beside_its_name_below_the_sheet():
    sheet = Image.new("RGB", (300, 50), "black")
    both = with_legend(sheet, {1: "road", 5: "car"})
    assert both.width == 300 and both.crop((0, 0, 300, 50)).tobytes() == sheet.tobytes()
    red, green = (box_of(both, ImageColor.getrgb(CLASS_COLOURS[k])) for k in (1, 5))
    assert red[1] >= 50 and red[1] == green[1] and red[2] < green[0]
    words = both.crop((red[2] + 2, 50, green[0] - 2, both.height))
    assert box_of(words, (34, 34, 34)) is not None                      # a name, in ink


def test_a_long_legend_goes_on_in_further_lines_and_no_name_is_cut_off():
    names = {k: f"class number {k}" for k in range(32)}
    both = with_legend(Image.new("RGB", (300, 20), "white"), names)
    boxes = [box_of(both, ImageColor.getrgb(CLASS_COLOURS[k])) for k in range(32)]
    assert len({box[1] for box in boxes}) == 16                         # two in a line
    assert all(box[3] <= both.height for box in boxes)
    right = both.crop((300 - 12, 20, 300, both.height))
    assert box_of(right, (34, 34, 34)) is None                          # nothing in the margin


def test_a_name_that_is_longer_than_the_sheet_has_a_line_of_its_own():
    both = with_legend(Image.new("RGB", (60, 20), "white"), {0: "a very long name", 1: "b"})
    first, second = (box_of(both, ImageColor.getrgb(CLASS_COLOURS[k])) for k in (0, 1))
    assert first[0] == second[0] and first[3] <= second[1]
