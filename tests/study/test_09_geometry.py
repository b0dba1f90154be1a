import pytest
import torch
from torch import Tensor

from minifast.geometry import (compose, dihedral, flip, grid_of, homography, matrix,
                               perspective_warp, rotation, symmetric_warp, warp, zoom)

NINE = torch.arange(9.0).reshape(1, 1, 3, 3)                # the rows 012, 345 and 678
CORNERS = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])


def rows_of(picture: Tensor) -> str:
    return "/".join("".join(f"{value:.0f}" for value in row) for row in picture.squeeze().tolist())


def looks(m: Tensor, points: Tensor) -> Tensor:
    """Where pixels at these points (p, 2) look, through a matrix (3, 3)."""
    uvz = torch.cat([points, torch.ones(len(points), 1)], dim=1) @ m.T
    return uvz[:, :2] / uvz[:, 2:]


def test_a_matrix_has_its_entries_row_by_row():
    assert matrix(1, 2, 3, 4, 5, 6, 7, 8, 9).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_flip_looks_at_the_mirror_image():
    top_left, bottom_left, top_right, bottom_right = CORNERS.tolist()
    assert looks(flip(), CORNERS)[0].tolist() == top_right
    assert looks(flip(0, 1), CORNERS)[0].tolist() == bottom_left
    assert looks(flip(1, 1), CORNERS)[0].tolist() == bottom_right


def test_rotation_by_90_degrees_takes_the_right_to_the_top():
    top, right = torch.tensor([[0.0, -1]]), torch.tensor([[1.0, 0]])
    assert torch.allclose(looks(rotation(90), top), right, atol=1e-6)


@pytest.mark.parametrize("pct, low, high", [(0, -1, 0), (0.5, -0.5, 0.5), (1, 0, 1)])
def test_zoom_by_2_looks_at_the_half_that_is_asked_for(pct, low, high):
    assert looks(zoom(2, col_pct=pct), CORNERS)[:, 0].tolist() == [low, low, high, high]
    assert looks(zoom(2, row_pct=pct), CORNERS)[:, 1].tolist() == [low, high, low, high]


@pytest.mark.parametrize("seed", range(3))
def test_a_homography_sends_four_points_to_four_places(seed):
    rng = torch.Generator().manual_seed(seed)
    points, places = (CORNERS + torch.rand(4, 2, generator=rng) / 2 for _ in range(2))
    assert torch.allclose(looks(homography(points, places), points), places, atol=1e-5)


def test_a_perspective_warp_sends_moved_corners_to_the_corners():
    offsets = torch.tensor([[0.2, 0.1], [0, -0.1], [-0.2, 0], [0.1, 0.3]])
    assert torch.allclose(looks(perspective_warp(offsets), CORNERS + offsets), CORNERS, atol=1e-5)


def test_a_symmetric_warp_moves_both_ends_of_a_side_outwards():
    # right .1 and left .2 move corners up and down, bottom .3 and top .4 move them sideways
    moved = torch.tensor([[-1.4, -1.2], [-1.3, 1.2], [1.4, -1.1], [1.3, 1.1]])
    assert torch.allclose(looks(symmetric_warp(0.1, 0.2, 0.3, 0.4), moved), CORNERS, atol=1e-5)


@pytest.mark.parametrize("build", [dihedral, rotation, zoom, lambda k: flip(k - 1, 2 - k),
                                   lambda k: symmetric_warp(k / 10, 0., 0., 0.)])
def test_a_tensor_of_numbers_builds_a_matrix_per_picture(build):
    assert torch.allclose(build(torch.tensor([1, 2])), torch.stack([build(1), build(2)]))


def test_a_pixel_looks_at_u_and_v_divided_by_z():
    grid = grid_of(torch.eye(3), torch.zeros(1, 1, 2, 3))                       # (1, 2, 3, 2)
    assert grid[0].tolist() == [[[-1, -1], [0, -1], [1, -1]], [[-1, 1], [0, 1], [1, 1]]]
    m = matrix(1, 2, 3, 4, 5, 6, 0.5, -0.75, 0.75)
    # At (1, -1): u = 1 - 2 + 3 = 2, v = 4 - 5 + 6 = 5, z = .5 + .75 + .75 = 2
    assert grid_of(m, torch.zeros(1, 1, 2, 2))[0, 0, 1].tolist() == [1, 2.5]


def test_there_are_eight_dihedral_ways():
    batch = warp(NINE.expand(8, 1, 3, 3), dihedral(torch.arange(8)))
    assert [rows_of(picture) for picture in batch] == [
        "012/345/678", "210/543/876", "678/345/012", "876/543/210",
        "036/147/258", "258/147/036", "630/741/852", "852/741/630"]


def test_a_product_is_sampled_once_like_its_parts_in_turn():
    first, second = rotation(90), zoom(2, 0, 0)
    picture = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    in_turn = warp(warp(picture, first), second)
    assert torch.allclose(warp(picture, compose(first, second)), in_turn, atol=1e-5)
    assert torch.equal(compose(), torch.eye(3))


def test_a_mask_takes_the_nearest_pixel_and_a_picture_blends():
    mask = torch.tensor([[[0, 4, 8, 12]] * 2])              # (1, 2, 4)
    third = matrix(1, 0, 2 / 9, 0, 1, 0, 0, 0, 1)           # look a third of a pixel to the right
    assert torch.equal(warp(mask, third, "nearest"), mask)
    blended = warp(mask[None].float(), third)[0, 0, 0]      # 2/3 of this pixel, 1/3 of the next one
    assert blended[:3].tolist() == pytest.approx([4 / 3, 16 / 3, 28 / 3], abs=1e-4)
    with pytest.raises(ValueError):
        warp(mask, third)


def test_what_lies_outside_is_mirrored_or_as_padding_says():
    two_columns = matrix(1, 0, 2, 0, 1, 0, 0, 0, 1)         # look two columns to the right
    assert rows_of(warp(NINE, two_columns)) == "210/543/876"
    assert rows_of(warp(NINE, two_columns, padding="border")) == "222/555/888"
    assert rows_of(warp(NINE, two_columns, padding="zeros")) == "200/500/800"


def test_a_rotation_does_not_shear_a_wide_picture():
    # In a picture of 5 x 9, the pixel at row 2, column 2 is (-.5, 0). Turned by 90 degrees, it
    # looks at (0, -.5 * 9 / 5): .9 of the way from the centre, row 2, up to row 0
    rows, turn = torch.arange(5.0)[:, None].expand(1, 1, 5, 9), rotation(90)
    assert warp(rows, turn)[0, 0, 2, 2].item() == pytest.approx(2 - 1.8, abs=1e-5)
    assert torch.equal(turn, rotation(90))                  # the matrix itself is as it was


def test_the_perspective_is_applied_after_the_affine_matrix():
    picture = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    found = warp(picture, flip(), perspective=zoom(2, 0, 0))
    assert torch.allclose(found, warp(picture, flip() @ zoom(2, 0, 0)), atol=1e-5)
