import re

import numpy
import pytest

from minifast.sizes import cut, scaled_size


# The size before cutting

def test_scaled_size_rounds_as_version_1_does():
    assert scaled_size((101, 67), (32, 32), "crop") == (48, 32)  # 101 / 2.09375 = 48.2
    assert scaled_size((101, 67), (32, 32), "pad") == (32, 21)   # 67 / 3.15625 = 21.2
    assert scaled_size((101, 67), (32, 32), "squish") == (32, 32)


def test_scaled_size_by_hand_for_a_wide_picture_and_sizes_that_are_not_square():
    assert scaled_size((100, 200), (50, 50), "crop") == (50, 100)
    assert scaled_size((100, 200), (50, 50), "pad") == (25, 50)
    assert scaled_size((100, 200), (50, 20), "crop") == (50, 100)      # ratios 2 and 10
    assert scaled_size((100, 200), (50, 20), "pad") == (10, 20)
    assert scaled_size((100, 200), (10, 20), "squish") == (10, 20)
    assert scaled_size((10, 20), (40, 40), "crop") == (40, 80)         # enlarged


def test_a_half_is_rounded_to_the_even_number():
    assert scaled_size((5, 10), (5, 5), "pad") == (2, 5)               # 2.5
    assert scaled_size((7, 14), (7, 7), "pad") == (4, 7)               # 3.5


def test_padding_leaves_at_least_one_row_and_column_of_a_very_long_picture():
    assert scaled_size((1, 100), (32, 32), "pad") == (1, 32)
    assert scaled_size((100, 1), (32, 32), "pad") == (32, 1)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"method.*sqish.*squish"):
        scaled_size((10, 10), (5, 5), "sqish")


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (8, -1), (8,), (8, 8, 3), (8.5, 8)])
def test_a_size_below_1_is_refused(size):
    with pytest.raises(ValueError, match=rf"\bsize\b.*{re.escape(str(size))}"):
        scaled_size((10, 10), size, "crop")


def test_a_size_of_1_is_allowed():
    assert scaled_size((10, 10), (1, 1), "crop") == (1, 1)


# The cut

TALL = numpy.array([[10 * row + column for column in range(5)] for row in range(8)])


def rows_of(pixels: numpy.ndarray) -> list[int]:
    return (pixels[:, 0] // 10).tolist()


@pytest.mark.parametrize("share, first", [(0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (1, 3)])
def test_the_window_begins_where_the_formula_says(share, first):
    # 8 rows, 5 wanted: int((8 - 5 + 1) * share), and share 1 is the last place, not one beyond
    piece = cut(TALL, (5, 5), (share, 0.5))
    assert piece.shape == (5, 5)
    assert rows_of(piece) == list(range(first, first + 5))
    on_its_side = cut(TALL.T, (5, 5), (0.5, share))
    assert rows_of(on_its_side.T) == list(range(first, first + 5))


def test_a_picture_is_cut_in_the_centre_unless_told_otherwise():
    assert rows_of(cut(TALL, (5, 5))) == [2, 3, 4, 5, 6]
    assert rows_of(cut(TALL.T, (5, 5)).T) == [2, 3, 4, 5, 6]
    # 7 rows of 8: int((8 - 7 + 1) * .5) = 1
    assert rows_of(cut(TALL, (7, 5))) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("size", [(8, 5), [8, 5], None])
def test_a_picture_of_the_wanted_size_stays_as_it_is(size):
    assert cut(TALL, size) is TALL


def test_all_channels_are_cut_alike():
    rgb = numpy.stack([TALL, TALL + 100, TALL + 200])                    # (3, 8, 5)
    piece = cut(rgb, (3, 2), (1, 0))
    assert piece.shape == (3, 3, 2)
    assert (piece == rgb[:, 5:8, 0:2]).all()
    padded = cut(rgb, (8, 7))                                            # 1 and 1 columns more
    assert padded.shape == (3, 8, 7) and (padded[:, :, 1:6] == rgb).all()
    assert (padded[:, :, 0] == rgb[:, :, 1]).all() and (padded[:, :, 6] == rgb[:, :, 3]).all()


def test_padding_mirrors_the_border_without_repeating_the_edge():
    # 3 rows, 5 wanted: (5 - 3 + 1) // 2 = 1 on both sides
    three = numpy.array([[10] * 5, [20] * 5, [30] * 5])
    for window in [(0.5, 0.5), (0, 0), (1, 1)]:                  # nothing is left over to choose
        assert cut(three, (5, 5), window)[:, 0].tolist() == [20, 10, 20, 30, 20]
    assert cut(three.T, (5, 5))[0].tolist() == [20, 10, 20, 30, 20]


def test_an_odd_padding_is_cut_by_the_window():
    # 5 rows, 8 wanted: (8 - 5 + 1) // 2 = 2 on both sides make 9; int((9 - 8 + 1) * share)
    five = numpy.array([[10 * row] * 8 for row in range(5)])
    assert rows_of(cut(five, (8, 8))) == [1, 0, 1, 2, 3, 4, 3, 2]
    assert rows_of(cut(five, (8, 8), (0, 1))) == [2, 1, 0, 1, 2, 3, 4, 3]
    assert rows_of(cut(five, (8, 8), (1, 0))) == [1, 0, 1, 2, 3, 4, 3, 2]


def test_a_picture_smaller_than_its_padding_is_mirrored_again_and_again():
    padded = cut(numpy.array([[10] * 32, [20] * 32]), (32, 32))
    assert padded.shape == (32, 32)
    assert padded[:, 0].tolist() in ([10, 20] * 16, [20, 10] * 16)
