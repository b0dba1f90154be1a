"""Geometric transforms: each is a 3x3 matrix, and one sampling applies the product of them all.

For each pixel of the new picture, the matrix says where to look in the old one. Points are (x, y):
x is -1 at the centre of the first column and 1 at that of the last, y likewise down the rows.
With a 1 as third number, one product can shift as well as turn:

    (u, v, z) = matrix @ (x, y, 1)        look at (u / z, v / z)

A last row of (0, 0, 1) makes z = 1: the matrix is affine, and parallels stay parallels. Others are
homographies: what is nearer looks larger.

The builders take numbers, for a matrix (3, 3), or tensors (n) of any dtype, a number per picture,
for matrices (n, 3, 3), float32 on the CPU. They know no sizes: for wide pictures `warp` corrects.
"""

from functools import reduce

import torch
from torch import Tensor
import torch.nn.functional as F

from minifast import check

Number = float | Tensor                             # one for all pictures, or one per picture (n)


def matrix(*entries: Number) -> Tensor:
    """Nine entries, row by row: (3, 3) from numbers, (n, 3, 3) where an entry is a tensor (n)."""
    entries = [torch.as_tensor(entry, dtype=torch.float32) for entry in entries]
    return torch.stack(torch.broadcast_tensors(*entries), dim=-1).unflatten(-1, (3, 3))


def flip(columns: Number = 1, rows: Number = 0) -> Tensor:
    """Mirror left and right where columns is 1, top and bottom where rows is 1; 0 leaves it."""
    columns, rows = (torch.as_tensor(part, dtype=torch.float32) for part in (columns, rows))
    return matrix(1 - 2 * columns, 0, 0,
                  0, 1 - 2 * rows, 0,
                  0, 0, 1)


def dihedral(k: Number) -> Tensor:
    """One of the eight ways to lay a square on itself, by a whole number k from 0 to 7.

    k & 1 flips columns, k & 2 flips rows, and k & 4 then transposes: the flip's matrix times
    [[0, 1, 0], [1, 0, 0], [0, 0, 1]]. Raises ValueError on another k. Source: fastai v1,
    dihedral_affine. In its pixel version, `dihedral`, 1 and 2 are swapped, and 5 and 6.
    """
    way = torch.as_tensor(k).int()
    if not ((way == k) & (way >= 0) & (way <= 7)).all():
        raise ValueError(f"k must be a whole number from 0 to 7, got {k}")
    transposed = way >> 2
    return flip(way & 1, way >> 1 & 1) @ matrix(1 - transposed, transposed, 0,
                                                transposed, 1 - transposed, 0,
                                                0, 0, 1)


def rotation(degrees: Number) -> Tensor:
    """Turn by so many degrees around the centre; above 0 is counter-clockwise on screen.

        [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]        Source: fastai v1, rotate.
    """
    angle = torch.deg2rad(torch.as_tensor(degrees))
    return matrix(angle.cos(), -angle.sin(), 0,
                  angle.sin(), angle.cos(), 0,
                  0, 0, 1)


def zoom(scale: Number, row_pct: Number = 0.5, col_pct: Number = 0.5) -> Tensor:
    """Enlarge: a share of 1 / scale of the rows and of the columns stays in view.

    row_pct, col_pct   which share, from 0, the first rows or columns, to 1, the last

        [[1 / scale, 0, s (2 col_pct - 1)], [0, 1 / scale, s (2 row_pct - 1)], [0, 0, 1]]

    with s = 1 - 1 / scale. Raises ValueError on a scale below 0.01, or a share outside 0..1.
    Source: fastai v1, zoom.
    """
    for name, number, low, high in (("scale", scale, 0.01, float("inf")),
                                    ("row_pct", row_pct, 0, 1), ("col_pct", col_pct, 0, 1)):
        check.between(name, number, low, high)
    part = 1 / scale
    return matrix(part, 0, (1 - part) * (2 * col_pct - 1),
                  0, part, (1 - part) * (2 * row_pct - 1),
                  0, 0, 1)


def homography(points: Tensor, places: Tensor) -> Tensor:
    """The matrix that sends four points to four places: matrix @ (x, y, 1) is (u z, v z, z).

    points  (4, 2) or (n, 4, 2): (x, y) in the new picture
    places  (4, 2) or (n, 4, 2): (u, v) in the old one

    Each pair gives two equations, linear in the entries of [[a, b, c], [d, e, f], [g, h, 1]]:

        a x + b y + c - u (g x + h y) = u        d x + e y + f - v (g x + h y) = v

    Raises ValueError, naming one such four, where three points or places are on a line: where a
    triangle of them has twice its area at most 1e-5 times the square of its longest side.
    Source: fastai v1, vision/transform.py, _find_coeffs.
    """
    points, places = points.float(), places.float()
    for four in (points, places):
        one, other = four.roll(-1, dims=-2) - four, four.roll(-2, dims=-2) - four   # (..., 4, 2)
        area = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]            # (..., 4)
        longest = torch.stack([one, other, other - one]).norm(dim=-1).amax(dim=0)   # (..., 4)
        flat = (area.abs() <= 1e-5 * longest ** 2).any(dim=-1)
        if flat.any():
            raise ValueError(f"homography: three of {four[flat].tolist()[0]} are on a line")
    x, y, u, v = *points.unbind(-1), *places.unbind(-1)                     # (..., 4) each
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    left = torch.cat([torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1),
                      torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)], dim=-2)
    solution = torch.linalg.solve(left, torch.cat([u, v], dim=-1))          # (..., 8)
    return torch.cat([solution, one[..., :1]], dim=-1).unflatten(-1, (3, 3))


def perspective_warp(offsets: Tensor) -> Tensor:
    """The homography that sends the four corners, each moved by its own (dx, dy), to (+-1, +-1).

    offsets  (4, 2) or (n, 4, 2), tensor or lists: top left, bottom left, top right, bottom right

    Outwards leaves less in view, inwards more. Raises ValueError where three moved corners are on
    a line. Source: fastai v1, perspective_warp.
    """
    offsets = torch.as_tensor(offsets, dtype=torch.float32)
    corners = torch.tensor([[-1., -1.], [-1., 1.], [1., -1.], [1., 1.]])
    return homography(corners + offsets, corners.expand_as(offsets))


def symmetric_warp(right: Number, left: Number, bottom: Number, top: Number) -> Tensor:
    """A perspective warp in which both ends of a side move alike: the view of a tilted camera.

    The ends of the right, left, bottom or top side move apart by that much each: above 0 it gets
    longer; 0.2 for all is zoom(1.2). Source: fastai v1, symmetric_warp, all four in this order.
    """
    offsets = map(torch.as_tensor, [-top, -left, -bottom, left, top, -right, bottom, right])
    offsets = torch.stack(torch.broadcast_tensors(*offsets), dim=-1)        # (8) or (n, 8)
    return perspective_warp(offsets.unflatten(-1, (4, 2)))


def compose(*affine: Tensor) -> Tensor:
    """The product of affine matrices; of none, the identity. What stands first happens first:

    compose(a, b) is a @ b, for a point goes from the new picture back through b, then through a.
    """
    return reduce(torch.matmul, affine, torch.eye(3))


def warp(batch: Tensor, affine: Tensor, mode: str = "bilinear", padding: str = "reflection",
         perspective: Tensor | None = None) -> Tensor:
    """All pictures of a batch, each seen through its matrix, in one sampling.

    batch        pictures (n, c, h, w) or masks (n, h, w); the result has its shape, dtype and
                 device, though it is computed in float32, of float64 pictures in float64
    affine       (3, 3) for all, or (n, 3, 3); here it gets v1's aspect correction: entry [0, 1]
                 times h / w, entry [1, 0] times w / h
    mode         "bilinear", or "nearest" for masks: between two classes lies no third one
    padding      what is outside: "reflection" at the edge pixels, "border" (those again), "zeros"
    perspective  a homography, (3, 3) or (n, 3, 3): affine @ perspective; as in v1, not corrected

    Raises ValueError on another mode, padding or shape, where `affine` is not, and where integers
    (masks, bytes) would be blended. Source: fastai v1, vision/image.py (align_corners=True).
    """
    check.one_of("mode", mode, ["bilinear", "nearest"])
    check.one_of("padding", padding, ["reflection", "border", "zeros"])
    perspective = torch.eye(3) if perspective is None else perspective.float()
    came, *shapes = [tuple(each.shape) for each in (batch, affine, perspective)]
    if len(came) not in (3, 4) or not set(shapes) <= {(3, 3), (came[0], 3, 3)}:
        raise ValueError("warp needs a batch (n, c, h, w) or (n, h, w), and matrices (3, 3) or "
                         f"(n, 3, 3); got {came} and {shapes}")
    if (affine[..., 2, :] != torch.tensor([0, 0, 1])).any():
        raise ValueError("an affine matrix ends in (0, 0, 1); give others as perspective=...")
    if mode == "bilinear" and not batch.is_floating_point():
        raise ValueError(f"bilinear would blend values of {batch.dtype}; give mode='nearest' for "
                         "masks, and make pictures floats first")
    h, w = batch.shape[-2:]
    pixels = batch.reshape(len(batch), -1, h, w)                            # (n, c, h, w)
    # At least float32: with 16 bits pixels would be looked for in the wrong place.
    pixels = pixels.to(torch.promote_types(batch.dtype, torch.float32))
    # Points go from -1 to 1 along both sides, however long: without this a rotation would shear.
    corrected = affine.float() * matrix(1, h / w, 1, w / h, 1, 1, 1, 1, 1)
    grid = grid_of(corrected @ perspective, pixels).expand(len(batch), -1, -1, -1)
    seen = F.grid_sample(pixels, grid, mode, padding, align_corners=True)
    return seen.to(batch.dtype).reshape(batch.shape)


def grid_of(matrices: Tensor, pixels: Tensor) -> Tensor:
    """Where each pixel looks, (u / z, v / z), as (n, h, w, 2); as (1, h, w, 2) for one matrix.

    matrices are (3, 3) or (n, 3, 3); size, dtype and device are those of pixels, (n, c, h, w).
    """
    like = {"dtype": pixels.dtype, "device": pixels.device}
    y, x = (torch.linspace(-1, 1, side, **like) for side in pixels.shape[-2:])
    m = matrices.reshape(-1, 3, 3).to(**like, non_blocking=True)
    # A column plus a row for each picture: far less work than a product with h * w points.
    rows = m[:, :, 1, None] * y + m[:, :, 2, None]                          # (n, 3, h)
    columns = m[:, :, 0, None] * x                                          # (n, 3, w)
    uv = rows[:, :2, :, None] + columns[:, :2, None, :]                     # (n, 2, h, w)
    z = rows[:, 2:, :, None] + columns[:, 2:, None, :]                      # (n, 1, h, w)
    return uv.div_(z).permute(0, 2, 3, 1)                                   # (n, h, w, 2)
