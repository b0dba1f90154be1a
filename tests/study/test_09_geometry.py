import pytest
import torch
from torch import Tensor

from minifast.geometry import (compose, dihedral, flip, grid_of, homography, matrix,
                               perspective_warp, rotation, symmetric_warp, warp, zoom)

NINE = torch.arange(9.0).reshape(1, 1, 3, 3)                # the rows 012, 345 and 678
CORNERS = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])


def rows_of(picture: Tensor) -> str:
    return "/".join("".join(f"{value:.0f}" for value in row) for row in picture.squeeze().tolist())


def sent(m: Tensor, points: Tensor) -> Tensor:
    """Where a matrix (3, 3) sends points (p, 2)."""
    uvz = torch.cat([points, torch.ones(len(points), 1)], dim=1) @ m.T
    return uvz[:, :2] / uvz[:, 2:]


def test_a_matrix_has_its_entries_row_by_row():
    assert matrix(1, 2, 3, 4, 5, 6, 7, 8, 9).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_tensor_of_entries_makes_a_matrix_per_picture():
    found = matrix(torch.tensor([1, 10]), 2, 3, 4, 5, 6, 7, 8, 9)
    assert found.shape == (2, 3, 3) and found[:, 0, 0].tolist() == [1, 10]


def test_the_identity_looks_at_each_pixel_itself():
    grid = grid_of(torch.eye(3), torch.zeros(1, 1, 2, 3))                       # (1, 2, 3, 2)
    assert grid[0].tolist() == [[[-1, -1], [0, -1], [1, -1]], [[-1, 1], [0, 1], [1, 1]]]


def test_a_homography_divides_by_the_third_number():
    m = matrix(1, 2, 3, 4, 5, 6, 0.5, -0.75, -0.25)
    # At (1, -1): u = 1 - 2 + 3, v = 4 - 5 + 6, z = .5 + .75 - .25
    assert grid_of(m, torch.zeros(1, 1, 2, 2))[0, 0, 1].tolist() == [2, 5]


@pytest.mark.parametrize("columns, rows, expected", [
    (1, 0, "210/543/876"), (0, 1, "678/345/012"), (1, 1, "876/543/210")])
def test_flip_mirrors_columns_or_rows(columns, rows, expected):
    assert rows_of(warp(NINE, flip(columns, rows))) == expected


def test_there_are_eight_dihedral_ways():
    found = [rows_of(warp(NINE, dihedral(k))) for k in range(8)]
    assert found == ["012/345/678", "210/543/876", "678/345/012", "876/543/210",
                     "036/147/258", "258/147/036", "630/741/852", "852/741/630"]


def test_rotation_by_90_degrees_takes_the_top_to_the_left():
    assert rows_of(warp(NINE, rotation(90))) == "258/147/036"


@pytest.mark.parametrize("pct, expected", [(0, [0, 1, 2]), (0.5, [1, 2, 3]), (1, [2, 3, 4])])
def test_zoom_by_2_shows_the_half_that_is_asked_for(pct, expected):
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)             # columns 0 to 4
    assert warp(ramp, zoom(2, col_pct=pct))[0, 0, 0, ::2].tolist() == pytest.approx(expected)
    assert warp(ramp.mT, zoom(2, row_pct=pct))[0, 0, ::2, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_homography_sends_four_points_to_four_places(seed):
    rng = torch.Generator().manual_seed(seed)
    points, places = (CORNERS + torch.rand(4, 2, generator=rng) / 2 for _ in range(2))
    assert torch.allclose(sent(homography(points, places), points), places, atol=1e-5)


def test_a_perspective_warp_sends_moved_corners_to_the_corners():
    offsets = torch.tensor([[0.2, 0.1], [0, -0.1], [-0.2, 0], [0.1, 0.3]])
    assert torch.allclose(sent(perspective_warp(offsets), CORNERS + offsets), CORNERS, atol=1e-5)


def test_a_symmetric_warp_moves_both_ends_of_a_side_apart():
    # right .1, left .2, bottom .3, top .4: the left side moves its ends up and down by .2, ...
    moved = torch.tensor([[-1.4, -1.2], [-1.3, 1.2], [1.4, -1.1], [1.3, 1.1]])
    assert torch.allclose(sent(symmetric_warp(0.1, 0.2, 0.3, 0.4), moved), CORNERS, atol=1e-5)


def test_one_sampling_of_a_product_is_two_samplings_the_first_one_first():
    first, second = rotation(90), zoom(2, 0, 0)
    picture = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    in_two = warp(warp(picture, first), second)
    assert torch.allclose(warp(picture, compose(first, second)), in_two, atol=1e-5)
    assert torch.equal(compose(), torch.eye(3))


def test_a_mask_is_never_blended():
    mask = torch.tensor([[[0, 4, 8, 12]] * 2])              # (1, 2, 4)
    third = matrix(1, 0, 2 / 9, 0, 1, 0, 0, 0, 1)           # look a third of a pixel to the right
    assert warp(mask, third, "nearest").tolist() == mask.tolist()
    blended = warp(mask[None].float(), third)[0, 0, 0]      # 2/3 of this pixel, 1/3 of the next one
    assert blended[:3].tolist() == pytest.approx([4 / 3, 16 / 3, 28 / 3], abs=1e-4)
    with pytest.raises(ValueError):
        warp(mask, third)


def test_a_rotation_does_not_shear_a_wide_picture():
    # In a picture of 5 x 9, the pixel at row 2, column 2 is (-.5, 0). Turned by 90 degrees, it
    # looks at (0, -.5 * 9 / 5): .9 of the way from the centre, row 2, up to row 0
    rows = torch.arange(5.0)[:, None].expand(1, 1, 5, 9)
    assert warp(rows, rotation(90))[0, 0, 2, 2].item() == pytest.approx(2 - 1.8, abs=1e-5)


def test_a_homography_is_given_apart_and_comes_after_the_affine_matrix():
    tilted = symmetric_warp(0.2, 0.2, 0.2, 0.2)             # the same as zoom(1.2)
    picture = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    found = warp(picture, flip(), perspective=tilted)
    assert torch.allclose(found, warp(picture, flip() @ zoom(1.2)), atol=1e-5)
