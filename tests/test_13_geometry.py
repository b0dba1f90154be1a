from math import cos, radians, sin

import numpy
import pytest
import torch
from torch import Tensor

from minifast.geometry import (compose, dihedral, flip, grid_of, homography, matrix,
                               perspective_warp, rotation, symmetric_warp, warp, zoom)

NINE = torch.arange(9.0).reshape(1, 1, 3, 3)                # 012/345/678
CORNERS = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])


def sent(m: Tensor, points: Tensor) -> Tensor:
    """Where a matrix (3, 3) looks for points (p, 2)."""
    uvw = torch.cat([points, torch.ones(len(points), 1)], dim=1).double() @ m.double().T
    return (uvw[:, :2] / uvw[:, 2:]).float()


def rows_of(picture: Tensor) -> str:
    return "/".join("".join(f"{round(value)}" for value in row)
                    for row in picture.reshape(picture.shape[-2:]).tolist())


def smooth(h: int, w: int, seed: int) -> Tensor:
    """A picture (1, 3, h, w) of a few long waves: it loses little by being sampled."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.meshgrid(numpy.linspace(0, 1, h), numpy.linspace(0, 1, w), indexing="ij")
    planes = [sum(numpy.sin(6 * a * x + 6 * b * y + 6 * c) for a, b, c in rng.random((3, 3)))
              for _ in range(3)]
    return torch.tensor(numpy.stack(planes)[None], dtype=torch.float32)


def v1_warp(m0: float, m1: float, m2: float, m3: float) -> numpy.ndarray:
    """The 8 coefficients that send TL, BL, TR, BR, moved as v1 moves them, to (+-1, +-1)."""
    moved = [(-1 - m3, -1 - m1), (-1 - m2, 1 + m1), (1 + m3, -1 - m0), (1 + m2, 1 + m0)]
    lines, right = [], []
    for (tx, ty), (ox, oy) in zip(moved, [(-1, -1), (-1, 1), (1, -1), (1, 1)]):
        lines += [[tx, ty, 1, 0, 0, 0, -ox * tx, -ox * ty],
                  [0, 0, 0, tx, ty, 1, -oy * tx, -oy * ty]]
        right += [ox, oy]
    return numpy.array([*numpy.linalg.solve(lines, right), 1]).reshape(3, 3)


def test_matrix_has_its_entries_row_by_row_and_one_matrix_per_picture():
    assert matrix(1, 2, 3, 4, 5, 6, 7, 8, 9).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    several = matrix(1, torch.tensor([2, 20]), 3, 4.5, 5, 6, 7, 8, torch.tensor([9.0, 90.0]))
    assert several.dtype == torch.float32
    assert several.tolist() == [[[1, 2, 3], [4.5, 5, 6], [7, 8, 9]],
                                [[1, 20, 3], [4.5, 5, 6], [7, 8, 90]]]


@pytest.mark.parametrize("columns, rows, expected", [
    (0, 0, "012/345/678"), (1, 0, "210/543/876"), (0, 1, "678/345/012"), (1, 1, "876/543/210")])
def test_flip_mirrors_columns_or_rows(columns, rows, expected):
    assert rows_of(warp(NINE, flip(columns, rows))) == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float64])
def test_flip_takes_its_numbers_in_any_dtype(dtype):
    found = flip(torch.tensor([0, 1], dtype=dtype), torch.tensor([1, 0], dtype=dtype))
    assert torch.equal(found.diagonal(dim1=1, dim2=2), torch.tensor([[1.0, -1, 1], [-1, 1, 1]]))


def test_flip_mirrors_left_and_right_unless_told_otherwise():
    assert rows_of(warp(NINE, flip())) == "210/543/876"


# v1's pixel version has these, with 1 and 2 swapped, and 5 and 6
EIGHT = ["012/345/678", "210/543/876", "678/345/012", "876/543/210",
         "036/147/258", "258/147/036", "630/741/852", "852/741/630"]


@pytest.mark.parametrize("k", range(8))
def test_each_dihedral_case_is_v1s_affine_one(k):
    assert rows_of(warp(NINE, dihedral(k))) == EIGHT[k]


def test_a_batch_may_have_all_eight_dihedral_cases():
    batch = warp(NINE.expand(8, 3, 3, 3), dihedral(torch.arange(8)))
    assert [rows_of(picture[2]) for picture in batch] == EIGHT


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_dihedral_takes_its_numbers_in_any_dtype(dtype):
    k = torch.tensor([1, 3, 7])
    assert torch.equal(dihedral(k.to(dtype)), dihedral(k))
    assert torch.equal(dihedral(7.0), dihedral(7))


@pytest.mark.parametrize("k", [-1, 8, 0.5, torch.tensor([0, 9]), torch.tensor([0, float("nan")])])
def test_there_is_no_ninth_dihedral_case(k):
    with pytest.raises(ValueError, match=r"\bk\b.*0 to 7.*(-1|8|0\.5|9|nan)"):
        dihedral(k)


@pytest.mark.parametrize("degrees, lit", [(90, (2, 0)), (-90, (2, 4)), (180, (4, 2)),
                                          (360, (0, 2))])
def test_a_turn_above_0_takes_the_top_to_the_left(degrees, lit):
    picture = torch.zeros(1, 1, 5, 5)
    picture[0, 0, 0, 2] = 1                                 # top centre
    expected = torch.zeros(5, 5)
    expected[lit] = 1
    assert torch.allclose(warp(picture, rotation(degrees))[0, 0], expected, atol=1e-5)


def test_rotation_by_30_degrees_has_the_textbook_entries():
    half, root = 0.5, 0.8660254                             # sin 30, cos 30
    expected = torch.tensor([[root, -half, 0], [half, root, 0], [0, 0, 1]])
    assert torch.allclose(rotation(30), expected, atol=1e-6)
    assert torch.allclose(rotation(torch.tensor([30.0, -30.0])),
                          torch.stack([expected, expected.T]), atol=1e-6)


@pytest.mark.parametrize("degrees, row", [(90, 0.8), (-90, 0)])
def test_a_rotation_on_a_picture_that_is_not_square_is_corrected_as_in_v1(degrees, row):
    picture = torch.zeros(1, 1, 5, 9)
    picture[0, 0, 0, 4] = 1
    # Row 2, column 2 is (-.5, 0). v1 looks at y = +-.5 * 9 / 5: at row 2 -+ 1.8 = 0.2 or 3.8; the
    # lit row 0 has a share of .8 in the former.
    turned = warp(picture, rotation(degrees))
    assert turned[0, 0, 2, 2].item() == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("pct, low, high", [(0, 0, 0.5), (0.5, 0.25, 0.75), (1, 0.5, 1)])
def test_zoom_by_two_shows_the_half_that_is_asked_for(pct, low, high):
    ramp = torch.linspace(0, 1, 5).expand(1, 1, 5, 5)
    expected = torch.linspace(low, high, 5).expand(5, 5)
    assert torch.allclose(warp(ramp, zoom(2, col_pct=pct))[0, 0], expected, atol=1e-6)
    assert torch.allclose(warp(ramp.mT, zoom(2, row_pct=pct))[0, 0], expected.T, atol=1e-6)


def test_zoom_stays_in_the_middle_and_takes_one_number_per_picture():
    assert torch.equal(zoom(4), torch.diag(torch.tensor([0.25, 0.25, 1])))
    # s = 1 - 1/2; x: .5 * (2 * .25 - 1) = -.25, y: .5 * (2 * 1 - 1) = .5
    off_centre = torch.tensor([[0.5, 0, -0.25], [0, 0.5, 0.5], [0, 0, 1]])
    found = zoom(torch.tensor([1, 2]), torch.tensor([0, 1]), torch.tensor([0.7, 0.25]))
    assert torch.allclose(found, torch.stack([torch.eye(3), off_centre]), atol=1e-6)


@pytest.mark.parametrize("name", ["row_pct", "col_pct"])
@pytest.mark.parametrize("pct", [50, -0.1, torch.tensor([0.5, 1.1])])
def test_the_focus_of_zoom_is_a_share(name, pct):
    with pytest.raises(ValueError, match=rf"\b{name}\b.*0 and 1"):
        zoom(2, **{name: pct})


@pytest.mark.parametrize("scale", [0.0099, 0, -1, float("nan"), torch.tensor([1.0, 0.0])])
def test_zoom_refuses_a_scale_that_leaves_nothing(scale):
    with pytest.raises(ValueError, match=r"\bscale\b"):
        zoom(scale)


@pytest.mark.parametrize("seed", range(3))
def test_a_homography_sends_four_points_to_four_places(seed):
    rng = torch.Generator().manual_seed(seed)
    points, places = (CORNERS + torch.rand(4, 2, generator=rng) / 2 for _ in range(2))
    assert torch.allclose(sent(homography(points, places), points), places, atol=1e-5)
    assert homography(points, places)[2, 2] == 1


def test_a_homography_per_picture():
    moved = torch.stack([CORNERS, CORNERS * 2, CORNERS + 1])
    found = homography(moved, CORNERS.expand(3, 4, 2))
    expected = torch.stack([torch.eye(3), torch.diag(torch.tensor([0.5, 0.5, 1])),
                            torch.tensor([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])])
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("on_a_line", [
    [[0.0, 0], [1, 2], [2, 4], [5, 0]], [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [1, -1]],
    [[3.0, 1], [1, 1], [2, 0], [-2, 1]], [[0.0, 5], [1, 0], [1, 7], [1, 3]],
    [[0.1, 0.2], [0.3, 0.4], [1, -1], [0.5, 0.6]], [[1.0, 1], [1, 1], [0, 0], [2, 0]],
    [[1.0, 0], [0, 0], [1, 1e-6], [0, 1]], [[0.0, 0], [1, 0], [0, 1e-6], [1, 1]]])
def test_three_points_or_places_on_a_line_are_refused(on_a_line):
    points = torch.tensor(on_a_line)
    for one, other in ((points, CORNERS), (CORNERS, points),
                       (torch.stack([CORNERS, points]), CORNERS.expand(2, 4, 2))):
        with pytest.raises(ValueError, match=rf"(?s)(?=.*\b{points[0, 1]:.2}).*line"):
            homography(one, other)
    with pytest.raises(ValueError, match="line"):
        perspective_warp((points - CORNERS).tolist())


def test_of_many_the_four_on_a_line_are_named():
    bad = torch.tensor([[0.0, 0], [1, 2], [2, 4], [5, 0.25]])
    many = torch.stack([CORNERS] * 9 + [bad])
    with pytest.raises(ValueError, match=r"^(?!.*-1)(?=.*5\.0, 0\.25).*line"):
        homography(many, CORNERS.expand(10, 4, 2))


def test_nearly_on_a_line_is_a_thin_triangle():
    # (0, 0), (1, 0) and (2, y) make a triangle of twice the area y, and a longest side of 2
    bent, straight = (torch.tensor([[0, 0], [1, 0], [2, y], [0, 1.0]]) for y in (4.1e-5, 3.9e-5))
    for scale in (1, 100):
        homography(CORNERS, bent * scale)
        with pytest.raises(ValueError, match="line"):
            homography(CORNERS, straight * scale)


def test_far_and_near_are_no_line():
    for scale in (0.001, 4000):
        there = homography(CORNERS * scale, CORNERS)                # diag(1 / scale, 1 / scale, 1)
        and_back = there @ torch.diag(torch.tensor([scale, scale, 1.]))
        assert torch.allclose(and_back, torch.eye(3), atol=1e-5)


def test_homographies_are_float32_whatever_comes():
    for points in (CORNERS.double(), CORNERS.int()):
        assert torch.equal(homography(points, CORNERS), torch.eye(3))
    found = symmetric_warp(numpy.float64(0.2), 0, 0.1, torch.tensor(0.1))
    assert torch.equal(found, symmetric_warp(0.2, 0.0, 0.1, 0.1))


@pytest.mark.parametrize("corner", range(4))
def test_perspective_warp_moves_each_corner_by_its_own(corner):
    offsets = torch.zeros(4, 2)
    offsets[corner] = torch.tensor([0.2, -0.1])
    found = perspective_warp(offsets)
    assert torch.allclose(sent(found, CORNERS + offsets), CORNERS, atol=1e-5)
    assert (sent(found, CORNERS) - CORNERS).abs().sum(dim=1).argmax() == corner
    assert torch.equal(perspective_warp(offsets.expand(2, 4, 2)), torch.stack([found, found]))


@pytest.mark.parametrize("m0, m1, m2, m3", [
    (0.2, 0, 0, 0), (0, 0.2, 0, 0), (0, 0, 0.2, 0), (0, 0, 0, 0.2), (-0.2, 0.1, 0.05, -0.15)])
def test_symmetric_warp_sends_the_corners_where_v1_does(m0, m1, m2, m3):
    # top left, bottom left, top right, bottom right; v1's own formula
    moved = torch.tensor([[-1 - m3, -1 - m1], [-1 - m2, 1 + m1],
                          [1 + m3, -1 - m0], [1 + m2, 1 + m0]])
    assert torch.allclose(sent(symmetric_warp(m0, m1, m2, m3), moved), CORNERS, atol=1e-5)
    assert numpy.allclose(symmetric_warp(m0, m1, m2, m3), v1_warp(m0, m1, m2, m3), atol=1e-5)


def test_four_equal_magnitudes_are_a_zoom():
    for m, scale in ((0.2, 1 / 1.2), (-0.2, 1 / 0.8)):              # 1 / 1.2 is v1's .8333
        expected = torch.diag(torch.tensor([scale, scale, 1]))
        assert torch.allclose(symmetric_warp(m, m, m, m), expected, atol=1e-6)


def test_symmetric_warp_takes_one_number_per_picture():
    found = symmetric_warp(torch.tensor([0.1, 0.2]), 0.0, torch.tensor([0.0, -0.1]), 0.0)
    expected = [symmetric_warp(0.1, 0.0, 0.0, 0.0), symmetric_warp(0.2, 0.0, -0.1, 0.0)]
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)


def test_compose_multiplies_in_the_order_given():
    turn, large = rotation(90), zoom(2, 0, 0)
    assert torch.equal(compose(turn, large), turn @ large)
    assert not torch.allclose(turn @ large, large @ turn)


def test_composing_nothing_is_the_identity():
    assert torch.equal(compose(), torch.eye(3))


def test_a_product_is_corrected_as_a_whole_and_perspective_is_not():
    picture = smooth(12, 20, seed=0)
    affine, perspective = rotation(30) @ zoom(2, 0.2, 0.9), symmetric_warp(0.2, -0.1, 0.0, 0.1)
    looks = affine * matrix(1, 12 / 20, 1, 20 / 12, 1, 1, 1, 1, 1) @ perspective
    by_hand = torch.nn.functional.grid_sample(picture, grid_of(looks, picture), "bilinear",
                                              "reflection", align_corners=True)
    assert torch.equal(warp(picture, affine, perspective=perspective), by_hand)
    assert torch.equal(warp(picture, affine.double(), perspective=perspective.double()), by_hand)


def test_a_homography_is_no_affine_matrix():
    for wrong in (symmetric_warp(0.2, 0.0, 0.0, 0.0), matrix(1, 0, 0, 0, 1, 0, 0, 0, 2)):
        with pytest.raises(ValueError, match="affine.*perspective"):
            warp(NINE, wrong)


@pytest.mark.parametrize("first", range(8))
def test_one_sampling_of_a_product_is_two_samplings_the_first_first(first):
    second = zoom(2, 0.0, 1.0)                              # on 5 x 5: pixels fall on pixels
    picture = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    in_two = warp(warp(picture, dihedral(first)), second)
    assert torch.allclose(warp(picture, dihedral(first) @ second), in_two, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(40, 40), (30, 50)])
def test_a_rotation_and_its_inverse_return_home(seed, size):
    picture = smooth(*size, seed)
    turn = rotation(5.0 + 5 * seed)
    home = warp(warp(picture, turn), torch.linalg.inv(turn))
    inner = (..., slice(10, -10), slice(10, -10))           # no farther than the border reaches
    assert torch.allclose(home[inner], picture[inner], atol=0.02)
    assert not torch.allclose(warp(picture, turn)[inner], picture[inner], atol=0.1)
    assert torch.allclose(turn @ rotation(-5.0 - 5 * seed), torch.eye(3), atol=1e-6)


@pytest.mark.parametrize("padding, expected", [
    ("reflection", [3, 4, 3, 2]), ("border", [3, 4, 4, 4]), ("zeros", [3, 4, 0, 0])])
def test_padding_says_what_lies_outside(padding, expected):
    picture = torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 2, 4)
    two_columns = matrix(1, 0, 4 / 3, 0, 1, 0, 0, 0, 1)     # a column is 2 / 3 wide
    found = warp(picture, two_columns, padding=padding)
    assert torch.allclose(found[0, 0, 0], torch.tensor(expected).float(), atol=1e-5)


def test_outside_is_reflected_unless_told_otherwise():
    picture = torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 2, 4)
    found = warp(picture, matrix(1, 0, 4 / 3, 0, 1, 0, 0, 0, 1))
    assert torch.allclose(found[0, 0, 0], torch.tensor([3.0, 4, 3, 2]), atol=1e-5)


def test_pictures_are_blended_and_masks_are_not():
    row = torch.tensor([0, 4, 8, 12])
    third = matrix(1, 0, 2 / 9, 0, 1, 0, 0, 0, 1)           # looks a third of a column to the right
    found = warp(row.float().expand(1, 1, 2, 4), third)
    # 2/3 of this column and 1/3 of the next; 12 meets its own mirror image 8
    assert torch.allclose(found[0, 0, 0], torch.tensor([4, 16, 28, 32]) / 3, atol=1e-4)
    mask = warp(row.expand(1, 2, 4), third, "nearest")
    assert mask.dtype == torch.int64 and mask.tolist() == [[[0, 4, 8, 12]] * 2]


@pytest.mark.parametrize("seed", range(3))
def test_a_warped_mask_gains_no_new_class(seed):
    rng = torch.Generator().manual_seed(seed)
    classes = torch.tensor([1, 5, 30])
    mask = classes[torch.randint(3, (2, 20, 30), generator=rng)]
    found = warp(mask, compose(rotation(30 * seed - 20), zoom(1.3)), "nearest",
                 perspective=symmetric_warp(0.2, -0.2, 0.1, 0.0))
    assert found.shape == mask.shape and set(found.unique().tolist()) == {1, 5, 30}


def test_one_matrix_is_for_all_pictures_and_several_are_for_one_each():
    batch = torch.cat([NINE, NINE + 10])
    both = warp(batch, flip())
    assert torch.allclose(both[:, 0, 0], torch.tensor([[2.0, 1, 0], [12, 11, 10]]), atol=1e-5)
    each = warp(batch, flip(torch.tensor([0, 1])))
    assert torch.allclose(each[:, 0, 0], torch.tensor([[0.0, 1, 2], [12, 11, 10]]), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pictures_keep_their_dtype_and_their_places(dtype):
    wide = torch.arange(0.0, 256, 2).expand(1, 1, 4, 128).to(dtype)
    found = warp(wide, flip())
    assert found.dtype == dtype
    assert torch.equal(found.float().round(), wide.flip(-1).float())


def test_what_is_warped_stays_as_it_was():
    picture, m = NINE.clone(), rotation(10)
    warp(picture, m)
    assert torch.equal(picture, NINE) and torch.equal(m, rotation(10))


def test_warp_runs_on_the_device_of_the_batch_and_does_not_wait_for_it():
    # torch's "meta" device has no numbers: whoever waits to read one there gets an error
    for batch, mode in ((torch.rand(2, 3, 4, 5, device="meta"), "bilinear"),
                        (torch.zeros(2, 4, 5, dtype=torch.int64, device="meta"), "nearest")):
        found = warp(batch, rotation(torch.tensor([1.0, 2.0])), mode)
        assert (found.device, found.shape, found.dtype) == (batch.device, batch.shape, batch.dtype)


@pytest.mark.parametrize("wrong, match", [({"mode": "bicubic"}, "mode 'bicubic'.*nearest"),
                                          ({"padding": "mirror"}, "padding 'mirror'.*reflection")])
def test_other_modes_and_paddings_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        warp(NINE, torch.eye(3), **wrong)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_class_numbers_are_not_blended(dtype):
    with pytest.raises(ValueError, match=f"{dtype}.*nearest"):
        warp(torch.zeros(1, 3, 3, dtype=dtype), torch.eye(3))


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 3, 3), (2, 3), (2, 2, 3)])
def test_matrices_are_3_by_3_and_as_many_as_pictures(shape):
    with pytest.raises(ValueError, match=rf"\({', '.join(map(str, shape))}\)"):
        warp(torch.cat([NINE, NINE]), torch.zeros(shape))
    with pytest.raises(ValueError, match=rf"\({', '.join(map(str, shape))}\)"):
        warp(torch.cat([NINE, NINE]), torch.eye(3), perspective=torch.zeros(shape))


def test_a_batch_has_three_or_four_dimensions():
    for shape in ((3, 3), (1, 1, 3, 3, 3)):
        with pytest.raises(ValueError, match=rf"\({', '.join(map(str, shape))}\)"):
            warp(torch.zeros(shape), torch.eye(3))


def test_float64_pictures_keep_their_digits():
    picture = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double() / 3
    turn = rotation(30)
    column_2_row_1 = torch.tensor([-0.2, -0.6], dtype=torch.float64)
    place = turn[:2, :2].double() @ column_2_row_1
    assert torch.allclose(grid_of(turn, picture)[0, 1, 2], place, rtol=0, atol=1e-12)
    assert torch.allclose(warp(picture, dihedral(3)), picture.flip(2, 3), rtol=0, atol=1e-12)


def test_the_identity_looks_at_each_pixel_itself():
    grid = grid_of(torch.eye(3), torch.zeros(2, 3, 2, 3, dtype=torch.float64))
    assert grid.dtype == torch.float64
    assert grid.tolist() == [[[[-1, -1], [0, -1], [1, -1]], [[-1, 1], [0, 1], [1, 1]]]]


def test_a_homography_divides_by_the_third_number():
    m = matrix(1, 2, 3, 4, 5, 6, 0.5, -0.75, torch.tensor([-0.25, -2.25]))
    grid = grid_of(m, torch.zeros(2, 3, 2, 2))
    # at (1, -1): 1 - 2 + 3 = 2 and 4 - 5 + 6 = 5, by .5 + .75 - .25 = 1 or ... - 2.25 = -1
    assert grid.shape == (2, 2, 2, 2)
    assert grid[:, 0, 1].tolist() == [[2, 5], [-2, -5]]


# v1 for one picture, pixel by pixel, from its formulas: the place is A . W(p)

def reflected(i: float, n: int) -> float:
    i = abs(i) % (2 * (n - 1))
    return min(i, 2 * (n - 1) - i)


def v1_place(row: int, col: int, shape: tuple, affines: list, warped) -> tuple[float, float]:
    """(row, column) in the old picture, between pixels, for a pixel of the new one."""
    h, w = shape
    x, y, z = warped @ [2 * col / (w - 1) - 1, 2 * row / (h - 1) - 1, 1]
    a = numpy.linalg.multi_dot([numpy.eye(3), numpy.eye(3), *affines])
    a[0, 1] *= h / w
    a[1, 0] *= w / h
    u, v, _ = a @ [x / z, y / z, 1]
    return reflected((v + 1) / 2 * (h - 1), h), reflected((u + 1) / 2 * (w - 1), w)


def v1_sampled(picture: numpy.ndarray, affines: list, warped, nearest: bool) -> numpy.ndarray:
    out = numpy.empty_like(picture)
    for row, col in numpy.ndindex(picture.shape):
        r, c = v1_place(row, col, picture.shape, affines, warped)
        top, left = min(int(r), picture.shape[0] - 2), min(int(c), picture.shape[1] - 2)
        down, right = r - top, c - left
        out[row, col] = picture[round(r), round(c)] if nearest else (
            picture[top, left] * (1 - down) * (1 - right) + picture[top, left + 1]
            * (1 - down) * right + picture[top + 1, left] * down * (1 - right)
            + picture[top + 1, left + 1] * down * right)
    return out


def v1_rotation(degrees: float) -> numpy.ndarray:
    a = radians(degrees)
    return numpy.array([[cos(a), -sin(a), 0], [sin(a), cos(a), 0], [0, 0, 1]])


def v1_zoom(scale: float, row_pct: float, col_pct: float) -> numpy.ndarray:
    s = 1 - 1 / scale
    return numpy.array([[1 / scale, 0, s * (2 * col_pct - 1)],
                        [0, 1 / scale, s * (2 * row_pct - 1)], [0, 0, 1]])


FOUR_IN_A_ROW = [(3, 25.0, (1.3, 0.2, 0.9), (0.2, -0.1, 0.05, -0.15)),
                 (6, -8.0, (1.1, 1.0, 0.0), (-0.2, 0.2, 0.1, 0.2)),
                 (0, 170.0, (2.0, 0.3, 0.6), (0.0, 0.0, 0.0, 0.1))]


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (12, 6)])
@pytest.mark.parametrize("k, degrees, zoomed, magnitudes", FOUR_IN_A_ROW)
def test_four_in_a_row_are_v1s_for_picture_and_mask(k, degrees, zoomed, magnitudes, shape):
    s = [-1 if k & 1 else 1, -1 if k & 2 else 1]
    turned = [[0, s[0], 0], [s[1], 0, 0], [0, 0, 1]] if k & 4 else numpy.diag([*s, 1])
    v1 = [numpy.array(turned), v1_rotation(degrees), v1_zoom(*zoomed)], v1_warp(*magnitudes)
    affine = compose(dihedral(k), rotation(degrees), zoom(*zoomed))
    perspective = symmetric_warp(*magnitudes)
    rng = numpy.random.default_rng(0)
    picture, mask = rng.random(shape), rng.integers(0, 12, shape)
    found = warp(torch.tensor(picture)[None, None], affine, perspective=perspective)
    assert numpy.allclose(found[0, 0], v1_sampled(picture, *v1, nearest=False), atol=1e-5)
    found = warp(torch.tensor(mask)[None], affine, "nearest", perspective=perspective)
    assert numpy.array_equal(found[0], v1_sampled(mask, *v1, nearest=True))
