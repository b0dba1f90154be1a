from itertools import combinations

import numpy
from PIL import Image, ImageChops, ImageColor
import pytest
import torch

from minifast.tools.draw import CLASS_COLOURS, _ticks, chart, grid, overlay, with_legend

RED, BLUE, INK, PALE = (255, 0, 0), (0, 0, 255), (34, 34, 34), (221, 221, 221)
FIRST, SECOND = (31, 119, 180), (214, 39, 40)                   # colours of the first two lines
LEFT, TOP, RIGHT, BOTTOM, LINE, MARGIN = 70, 34, 628, 349, 17, 12   # of a chart of 640 x 400
MIDDLE, SQUARE, NAN = (349, 191), {"up": ([0, 1], [0, 1])}, float("nan")


def changed(one: Image.Image, other: Image.Image) -> tuple | None:
    """Where two pictures differ: left, top, right, bottom."""
    return ImageChops.difference(one, other).getbbox()


def box_of(picture: Image.Image, colour: tuple) -> tuple | None:
    """Where the pixels of exactly that colour are: left, top, right, bottom."""
    return Image.fromarray((numpy.array(picture) == colour).all(axis=2)).getbbox()


def test_pictures_stand_in_rows_each_with_a_margin_and_room_for_its_caption():
    pictures = [Image.new("RGB", (200, 100), (10 * number, 0, 200)) for number in range(5)]
    sheet = grid(pictures, ["tag"] * 5, 2)
    assert sheet.size == (2 * 212 + 12, 3 * (100 + 17 + 12) + 12)
    for number, (left, top) in enumerate([(12, 12), (224, 12), (12, 141), (224, 141), (12, 270)]):
        assert box_of(sheet, (10 * number, 0, 200)) == (left, top, left + 200, top + 100)
    with pytest.raises(ValueError, match="longer"):             # a caption too many
        grid(pictures, ["tag"] * 6, 2)


def test_the_narrowest_picture_says_how_much_all_are_enlarged():
    small, other = Image.new("RGB", (5, 8), BLUE), Image.new("RGB", (6, 9), BLUE)
    small.putpixel((1, 2), RED)
    sheet = grid([small, other], ["", ""], columns=2)           # 5 to 160: 32 times
    assert sheet.size == (3 * 12 + 2 * 192, 2 * 12 + 288)
    assert box_of(sheet, RED) == (12 + 32, 12 + 64, 12 + 64, 12 + 96)
    assert box_of(sheet, BLUE) == (12, 12, 12 + 192 + 12 + 192, 12 + 288)


def test_a_caption_stands_below_its_own_picture_and_is_wrapped_to_its_width():
    # In a line there are 200 / 8 letters: one tag of 14. As one word of 59 they would take 3 lines.
    sheet = grid([Image.new("RGB", (200, 100))] * 2, ["", ";".join(["n" * 14] * 4)], 2)
    assert sheet.height == 112 + 4 * LINE + MARGIN
    left, top, right, bottom = box_of(sheet, INK)
    assert 224 <= left < right <= 424 and 112 < top < 112 + LINE
    assert 112 + 3 * LINE < bottom <= 112 + 4 * LINE


@pytest.mark.parametrize("values, log, wanted", [
    ([0, 1], False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), ([0, 7], False, [0, 2, 4, 6, 8]),
    ([0.09, 0.12], False, [0.09, 0.095, 0.1, 0.105, 0.11, 0.115, 0.12]),
    ([120, 3, 540], False, [0, 100, 200, 300, 400, 500, 600]),
    ([0, 1e-13], False, [0, 2e-14, 4e-14, 6e-14, 8e-14, 1e-13]),
    ([3], False, [3, 3.5]), ([0, 0], False, [0, 0.2]), ([-3], False, [-3, -2.5]),
    ([0.45, 0.45 + 1e-16], False, [0.4, 0.5]), ([], False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ([-2.5, 1.3], True, [-3, -2, -1, 0, 1, 2]), ([0], True, [0, 1]), ([0.7, 0.8], True, [0, 1])])
def test_ticks_by_hand_on_a_logarithmic_axis_whole_powers_of_ten(values, log, wanted):
    assert _ticks(numpy.array(values), log) == pytest.approx(wanted)


@pytest.mark.parametrize("size", [(640, 400), (300, 200)])
@pytest.mark.parametrize("points, reach", [(30, 3), (31, 1)])   # dots of 3 pixels, a thin line
def test_a_line_goes_across_with_dots_if_its_points_are_few(size, points, reach):
    sheet = chart({"": (numpy.linspace(0, 1, points), [0] * points)}, "", "", size=size)
    assert sheet.size == size
    left, top, right, bottom = box_of(sheet, FIRST)
    assert abs(right - (size[0] - MARGIN + reach)) <= 1 and left == (67 if points == 30 else 70)
    assert bottom - top == (7 if points == 30 else 2) and abs(top - (size[1] - 51 - reach)) <= 1


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_the_middle_of_a_logarithmic_axis_is_the_geometric_mean(log):
    # from .01 to 100 the middle is 1 on a logarithmic axis, and 50 on a linear one (0 to 100)
    xs, ys = [0.01, 1 if "x" in log else 50, 100], [0.01, 1 if "y" in log else 50, 100]
    plain = chart({"": (xs, ys)}, "", "", log)
    marked = chart({"": (xs, ys)}, "", "", log, marks={"": (xs[1], ys[1])})
    x, y = MIDDLE
    assert plain.getpixel((x, y)) == FIRST                      # its dot
    assert changed(plain, marked) == (x - 5, TOP, x + 6, BOTTOM + 1)     # a ring on a line
    for at in ((x, TOP + 10), (x, BOTTOM - 10), (x - 4, y), (x + 4, y), (x, y - 4), (x, y + 4)):
        assert marked.getpixel(at) == INK


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_points_that_are_not_finite_or_have_no_logarithm_are_left_out(log):
    clean = chart({"": ([1, 2, 3], [5, 4, 7])}, "x", "y", log)
    bad = [1, NAN, 2, float("-inf"), 2, 3, 3], [5, 9, float("inf"), 4, 4, 7, NAN]
    assert changed(clean, chart({"": bad}, "x", "y", log)) is None
    bad = ([1, 0, 2, 3, -3], [5, 0, 4, 7, -7]) if log else bad
    assert changed(clean, chart({"": bad}, "x", "y", log)) is None
    for line in (([1, 2], [5, 5]), ([0, 0], [0, 0]), ([2], [3]), ([NAN], [1]), ([], [])):
        assert chart({"": line}, "x", "y", log) and chart({}, "x", "y", log)


def test_each_tick_has_a_pale_line_and_its_number_beside_the_axis():
    sheet = chart({"": ([0, 1], [0, 0])}, "", "")
    left, _, right, _ = box_of(sheet.crop((LEFT - 20, BOTTOM + 2, LEFT + 20, 400)), INK)
    assert abs(left + right - 40) <= 2                          # the 0 is below its line
    pale = (numpy.array(sheet) == PALE).all(axis=2)
    # x: 0, .2 ... 1, which are 111.6 pixels apart; y: 0, where the line hides it, and .2
    assert numpy.flatnonzero(pale[TOP + 50]).tolist() == [70, 181, 293, 404, 516, 628]
    assert numpy.flatnonzero(pale[:, LEFT + 30]).tolist() == [TOP]
    # From 10 ** 0 to 10 ** 1, or from 0 to 10: the last number is the same, the first is not.
    for way, first, last in (("x", (60, 351, 80, 367), (612, 351, 640, 367)),
                             ("y", (44, 340, 64, 358), (44, 26, 64, 42))):
        linear, log = (chart({"": ([1, 10], [1, 10])}, "", "", how) for how in ("", way))
        assert changed(linear.crop(first), log.crop(first)) and box_of(log.crop(last), INK)
        assert changed(linear.crop(last), log.crop(last)) is None


def test_labels_and_the_legend_stand_around_the_axes_in_order_and_colours_come_again():
    many = {f"line {number}": ([0, 1], [number, number + 1]) for number in range(9)}
    assert chart(many, "", "").getpixel((LEFT, BOTTOM - 252)) == FIRST      # 315 * 8 / 10
    plain = chart(dict(list(many.items())[:2]), "", "")
    first, second = (box_of(plain.crop((0, 0, 640, 30)), colour) for colour in (FIRST, SECOND))
    assert first[2] < second[0] and RIGHT - 5 < second[2] <= RIGHT
    plain = chart(SQUARE, "", "")
    left, top, right, bottom = changed(plain, chart(SQUARE, "batch", ""))
    assert BOTTOM + LINE < top < bottom < 400 and abs((left + right) / 2 - MIDDLE[0]) <= 2
    left, top, right, bottom = changed(plain, chart(SQUARE, "", "loss"))
    assert left < MARGIN + 3 and right < LEFT and TOP - 25 < top < bottom < TOP


@pytest.mark.parametrize("x, name", [(0.45, "elbow"), (0.95, "elbow 0.0001")])
def test_the_name_of_a_mark_is_on_the_side_with_room_and_below_the_one_before(x, name):
    bare, named = (chart(SQUARE, "", "", marks={"": (0, 0), text: (x, 0)}) for text in (" ", name))
    left, top, right, bottom = changed(bare, named)
    assert LEFT + 558 * x < left < right <= RIGHT if x < 0.5 else right < LEFT + 558 * x
    assert TOP + LINE < top < bottom <= TOP + 2 * LINE + 2


def test_the_colours_of_32_classes_differ_clearly_from_each_other():
    rgb = numpy.array([ImageColor.getrgb(colour) for colour in CLASS_COLOURS]) / 255
    # In CIELAB equal distances look about equally big. The 20 colours of tab20 differ by 15.
    rgb = numpy.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = rgb @ [[.4339, .2126, .0178], [.3762, .7152, .1095], [.1899, .0722, .8731]]
    lab = numpy.cbrt(xyz) @ [[0, 500, 0], [116, -500, 200], [0, 0, -200]]           # (32, 3)
    assert len(lab) == 32
    assert min(numpy.linalg.norm(one - other) for one, other in combinations(lab, 2)) >= 37


def test_an_overlay_mixes_each_pixel_with_the_colour_of_its_class():
    grey, mask = Image.new("RGB", (3, 1), (100, 100, 100)), torch.tensor([[0, 1, 34]])
    # the first three colours, 34 being 2 again: #2299cc, #ff0000, #aaff00
    assert numpy.array(overlay(grey, mask, alpha=1)).tolist() == [
        [[34, 153, 204], [255, 0, 0], [170, 255, 0]]]
    mixed = numpy.array(overlay(grey, mask, alpha=0.25))[0, 1]  # a quarter of #ff0000
    assert abs(mixed - (138.75, 75, 75)).max() < 1
    assert numpy.array_equal(overlay(grey, mask.numpy()), overlay(grey, mask, 0.5))


@pytest.mark.parametrize("width, columns, rows", [(300, 3, 11), (240, 2, 16), (60, 1, 32)])
def test_a_legend_has_a_square_and_a_name_for_each_class(width, columns, rows):
    sheet = Image.new("RGB", (width, 20), "yellow")
    both = with_legend(sheet, {k: f"class {k}" for k in range(32)})
    assert both.size == (width, 20 + rows * LINE + MARGIN)
    boxes = [box_of(both, ImageColor.getrgb(colour)) for colour in CLASS_COLOURS]
    assert [box[1] for box in boxes] == [21 + LINE * (k // columns) for k in range(32)]
    assert columns == 1 or box_of(both.crop((width - MARGIN, 20, *both.size)), INK) is None
    names = both.crop((boxes[0][2] + 2, 20, boxes[0][2] + 40, both.height))
    assert box_of(names, INK) and both.crop((0, 0, width, 20)).tobytes() == sheet.tobytes()
