from math import cos, radians, sin

import numpy
import pytest
import torch

from minifast.geometry import (compose, dihedral, flip, homography, matrix, perspective_warp,
                               rotation, symmetric_warp, warp, zoom)

NINE = torch.arange(9.0).reshape(1, 1, 3, 3)                # 012/345/678
CORNERS = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])


def test_matrices_are_float32_whatever_comes():
    assert matrix(*range(8), torch.tensor([8.0, 9.0]).double()).dtype == torch.float32
    for points in (CORNERS.double(), CORNERS.int()):
        assert torch.equal(homography(points, CORNERS), torch.eye(3))
        assert torch.equal(homography(CORNERS, points), torch.eye(3))
    assert symmetric_warp(numpy.float64(0.2), 0, 0.1, torch.tensor(0.1)).dtype == torch.float32
    assert torch.equal(perspective_warp([[0, 0]] * 4), torch.eye(3))
    assert zoom(0.01)[0, 0].item() == pytest.approx(100)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64])
def test_numbers_may_have_any_dtype_and_come_one_for_each_picture(dtype):
    two = torch.tensor([0, 1], dtype=dtype)
    assert flip(two, 1 - two).flatten(1).tolist() == [
        [1, 0, 0, 0, -1, 0, 0, 0, 1], [-1, 0, 0, 0, 1, 0, 0, 0, 1]]
    # 3 flips both; 7 flips both, and transposes: (u, v) = (-y, -x)
    assert dihedral(3 + 4 * two).flatten(1).tolist() == [
        [-1, 0, 0, 0, -1, 0, 0, 0, 1], [0, -1, 0, -1, 0, 0, 0, 0, 1]]
    # x: (1 - 1/2) (2 * .75 - 1) = .25, y: -.5
    places = torch.tensor([1, 0]), torch.tensor([0, 0.75])
    assert zoom(1 + two, *places).flatten(1).tolist() == [
        [1, 0, 0, 0, 1, 0, 0, 0, 1], [.5, 0, .25, 0, .5, -.5, 0, 0, 1]]
    half, root = 0.5, 0.8660254                             # sin 30, cos 30
    assert rotation(30 * two)[1].flatten().tolist() == pytest.approx(
        [root, -half, 0, half, root, 0, 0, 0, 1], abs=1e-6)


def v1_warp(m0: float, m1: float, m2: float, m3: float) -> numpy.ndarray:
    """The 8 coefficients that send TL, BL, TR, BR, moved as v1 moves them, to (+-1, +-1)."""
    moved = [(-1 - m3, -1 - m1), (-1 - m2, 1 + m1), (1 + m3, -1 - m0), (1 + m2, 1 + m0)]
    lines, right = [], []
    for (tx, ty), (ox, oy) in zip(moved, [(-1, -1), (-1, 1), (1, -1), (1, 1)]):
        lines += [[tx, ty, 1, 0, 0, 0, -ox * tx, -ox * ty],
                  [0, 0, 0, tx, ty, 1, -oy * tx, -oy * ty]]
        right += [ox, oy]
    return numpy.array([*numpy.linalg.solve(lines, right), 1]).reshape(3, 3)


def test_symmetric_warp_has_v1s_coefficients_one_matrix_per_picture():
    magnitudes = [(0.2, 0, 0, 0), (0, 0.2, 0, 0), (0, 0, 0.2, 0), (0, 0, 0, 0.2),
                  (-0.2, 0.1, 0.05, -0.15), (0.2, 0.2, 0.2, 0.2)]
    found = symmetric_warp(*torch.tensor(magnitudes).T)
    assert numpy.allclose(found, [v1_warp(*numbers) for numbers in magnitudes], atol=1e-5)
    assert numpy.allclose(found[5], numpy.diag([.83333, .83333, 1]), atol=1e-5)
    assert numpy.allclose(symmetric_warp(0.1, 0, torch.tensor([0.0, -0.1]), 0),
                          [v1_warp(0.1, 0, 0, 0), v1_warp(0.1, 0, -0.1, 0)], atol=1e-5)


@pytest.mark.parametrize("knobs, expected", [
    ({}, [3, 4, 3, 2]), ({"padding": "border"}, [3, 4, 4, 4]),
    ({"padding": "zeros"}, [3, 4, 0, 0])])
def test_padding_says_what_lies_outside(knobs, expected):
    picture = torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 2, 4)
    two_columns = matrix(1, 0, 4 / 3, 0, 1, 0, 0, 0, 1)     # a column is 2 / 3 wide
    assert warp(picture, two_columns, **knobs)[0, 0, 0].tolist() == pytest.approx(expected, 1e-5)


def test_one_matrix_is_for_all_pictures_and_several_are_for_one_each():
    batch, second = torch.cat([NINE, NINE + 10]), flip(torch.tensor([0, 1]))
    alike = second * torch.tensor([2.0, -3.0])[:, None, None]           # (-3u) / (-3z) is u / z
    for knobs, first in (({"affine": flip()}, [2, 1, 0]), ({"affine": second}, [0, 1, 2]),
                         ({"affine": torch.eye(3), "perspective": alike}, [0, 1, 2])):
        assert warp(batch, **knobs)[:, 0, 0].round().tolist() == [first, [12, 11, 10]]


@pytest.mark.parametrize("dtype, error", [(torch.float16, 0), (torch.bfloat16, 0),
                                          (torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_pictures_keep_their_dtype_and_their_places(dtype, error):
    wide = torch.arange(0.0, 256, 2).expand(1, 1, 4, 128).to(dtype)
    found = warp(wide, flip().double(), perspective=torch.eye(3).double())
    assert found.dtype == dtype and (found - wide.flip(-1)).abs().max() <= error


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_masks_keep_their_dtype_and_are_not_blended(dtype):
    mask = torch.tensor([[[0, 1, 1], [1, 0, 0]]]).to(dtype)
    found = warp(mask, flip(), "nearest")
    assert found.dtype == dtype and torch.equal(found, mask.flip(-1))
    with pytest.raises(ValueError, match="nearest"):
        warp(mask, flip())


def test_warp_runs_on_the_device_of_the_batch_and_does_not_wait_for_it():
    # The device "meta" has no numbers: whoever waits to read one there gets an error
    x, m = torch.rand(2, 3, 4, 5, device="meta"), flip(torch.tensor([0, 1]))
    for found in (warp(x, m, perspective=m), warp(x[:, 0].long(), m, "nearest")):
        assert found.device == x.device


# v1 for one picture, pixel by pixel, from its formulas: the place is A . W(p)

def reflected(i: float, n: int) -> float:
    i = abs(i) % (2 * (n - 1))
    return min(i, 2 * (n - 1) - i)


def v1_sampled(picture: numpy.ndarray, affine, warped, nearest: bool) -> numpy.ndarray:
    out, (h, w) = numpy.empty_like(picture), picture.shape
    affine = affine * [[1, h / w, 1], [w / h, 1, 1], [1, 1, 1]]
    for row, col in numpy.ndindex(h, w):
        x, y, z = warped @ [2 * col / (w - 1) - 1, 2 * row / (h - 1) - 1, 1]
        u, v, _ = affine @ [x / z, y / z, 1]
        r, c = reflected((v + 1) / 2 * (h - 1), h), reflected((u + 1) / 2 * (w - 1), w)
        top, left = min(int(r), h - 2), min(int(c), w - 2)
        out[row, col] = picture[round(r), round(c)] if nearest else (
            [1 - r + top, r - top] @ picture[top:top + 2, left:left + 2]
            @ [1 - c + left, c - left])
    return out


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (12, 6)])
@pytest.mark.parametrize("k, degrees, zoomed, magnitudes", [
    (3, 25.0, (1.3, 0.2, 0.9), (0.2, -0.1, 0.05, -0.15)),
    (6, -8.0, (1.1, 1.0, 0.0), (-0.2, 0.2, 0.1, 0.2)),
    (0, 170.0, (2.0, 0.3, 0.6), (0.0, 0.0, 0.0, 0.1))])
def test_four_in_a_row_are_v1s_for_picture_and_mask(k, degrees, zoomed, magnitudes, shape):
    across, down = -1 if k & 1 else 1, -1 if k & 2 else 1
    turned = [[0, across, 0], [down, 0, 0], [0, 0, 1]] if k & 4 else numpy.diag([across, down, 1])
    a, (scale, row_pct, col_pct) = radians(degrees), zoomed
    rotated = [[cos(a), -sin(a), 0], [sin(a), cos(a), 0], [0, 0, 1]]
    s = 1 - 1 / scale
    enlarged = [[1 - s, 0, s * (2 * col_pct - 1)], [0, 1 - s, s * (2 * row_pct - 1)], [0, 0, 1]]
    v1 = numpy.linalg.multi_dot([turned, rotated, enlarged]), v1_warp(*magnitudes)
    affine = compose(dihedral(k), rotation(degrees), zoom(*zoomed))
    perspective = symmetric_warp(*magnitudes)
    rng = numpy.random.default_rng(0)
    picture, mask = rng.random(shape), rng.integers(0, 12, shape)
    found = warp(torch.tensor(picture)[None, None], affine, perspective=perspective)
    assert numpy.allclose(found[0, 0], v1_sampled(picture, *v1, nearest=False), atol=1e-5)
    found = warp(torch.tensor(mask)[None], affine, "nearest", perspective=perspective)
    assert numpy.array_equal(found[0], v1_sampled(mask, *v1, nearest=True))
