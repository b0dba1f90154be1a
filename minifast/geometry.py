"""Geometric transforms: each is a 3x3 matrix, and their product is applied by one sampling, because
each loses detail. For each pixel (x, y) of the new picture, the matrix says where to look in the
old one. x goes from -1 in the first column to 1 in the last, and y likewise down the rows.

    (u, v, z) = matrix @ (x, y, 1)        look at (u / z, v / z)

Where the last row is (0, 0, 1), z is 1 and the matrix is affine: parallel lines stay parallel. The
others are homographies, as in perspective: nearer things look larger. Functions that build a
matrix (3, 3) from numbers build (n, 3, 3) from tensors (n), one number per picture.
"""

from functools import reduce

import torch
from torch import Tensor
import torch.nn.functional as F

Number = float | Tensor                             # one for all pictures, or (n)


def matrix(*entries: Number, columns: int = 3) -> Tensor:
    """A float32 matrix from its entries, row by row."""
    entries = [torch.as_tensor(entry, dtype=torch.float32) for entry in entries]
    return torch.stack(torch.broadcast_tensors(*entries), dim=-1).unflatten(-1, (-1, columns))


def flip(columns: Number = 1, rows: Number = 0) -> Tensor:
    """Mirror left and right if columns is 1, top and bottom if rows is 1."""
    return torch.eye(3) - 2 * matrix(columns, 0, 0,
                                     0, rows, 0,
                                     0, 0, 0)


def dihedral(k: Number) -> Tensor:
    """One of the eight ways to lay a square on itself: k is a whole number from 0 to 7.

    First k & 1 flips columns and k & 2 flips rows, then k & 4 swaps rows and columns: flip @ swap.
    Source: fastai v1, dihedral_affine.
    """
    bits = torch.as_tensor(k).int()
    swap = bits >> 2
    return flip(bits & 1, bits >> 1 & 1) @ matrix(1 - swap, swap, 0,
                                                  swap, 1 - swap, 0,
                                                  0, 0, 1)


def rotation(degrees: Number) -> Tensor:
    """Turn around the centre, counter-clockwise on the screen if degrees are positive."""
    angle = torch.deg2rad(torch.as_tensor(degrees))
    return matrix(angle.cos(), -angle.sin(), 0,
                  angle.sin(), angle.cos(), 0,
                  0, 0, 1)


def zoom(scale: Number, row_pct: Number = 0.5, col_pct: Number = 0.5) -> Tensor:
    """Enlarge by scale: 1 / scale of the rows and of the columns stay in view.

    row_pct  which rows stay: at 0 the first ones, at 0.5 the middle ones, at 1 the last ones
    col_pct  which columns stay
    """
    part = 1 / scale
    return matrix(part, 0, (1 - part) * (2 * col_pct - 1),
                  0, part, (1 - part) * (2 * row_pct - 1),
                  0, 0, 1)


def homography(points: Tensor, places: Tensor) -> Tensor:
    """The matrix [[a, b, c], [d, e, f], [g, h, 1]] that sends four points to four places. Both are
    (4, 2) or (n, 4, 2), no three on a line. A point (x, y) and its place (u, v) give two linear
    equations: z u = a x + b y + c and z v = d x + e y + f, where z = g x + h y + 1."""
    x, y, u, v = *points.float().unbind(-1), *places.float().unbind(-1)     # (..., 4) each
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    left = torch.cat([torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1),
                      torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)], dim=-2)
    solution = torch.linalg.solve(left, torch.cat([u, v], dim=-1))          # (..., 8)
    return torch.cat([solution, one[..., :1]], dim=-1).unflatten(-1, (3, 3))


def perspective_warp(offsets: Tensor) -> Tensor:
    """The matrix after which each corner of the old picture is seen moved by its own (dx, dy):
    offsets (4, 2) or (n, 4, 2) of the top left, bottom left, top right and bottom right."""
    offsets = torch.as_tensor(offsets, dtype=torch.float32)
    corners = torch.tensor([[-1., -1.], [-1., 1.], [1., -1.], [1., 1.]])
    return homography(corners + offsets, corners.expand_as(offsets))


def symmetric_warp(right: Number, left: Number, bottom: Number, top: Number) -> Tensor:
    """A perspective warp like the view of a tilted camera. The right side grows by `right` at each
    end, along itself; the other sides do the same. All four 0.2 are zoom(1.2)."""
    return perspective_warp(matrix(-top, -left, -bottom, left, top, -right, bottom, right,
                                   columns=2))                  # (4, 2) or (n, 4, 2)


def compose(*affine: Tensor) -> Tensor:
    """The product of the matrices. The first is applied first, as they look from new to old."""
    return reduce(torch.matmul, affine, torch.eye(3))


def warp(batch: Tensor, affine: Tensor, mode: str = "bilinear", padding: str = "reflection",
         perspective: Tensor | None = None) -> Tensor:
    """A batch seen through affine @ perspective, in one sampling.

    batch        pictures (n, c, h, w) float, or masks (n, h, w) int
    affine       (3, 3), or (n, 3, 3). As in fastai v1, its entry [0, 1] is multiplied by h / w, and
                 [1, 0] by w / h: without this, a rotation would shear a wide picture
    mode         "bilinear", or "nearest" for masks: a blend of two classes would be a third one
    padding      what is outside the picture: "reflection", "border" (its last pixel) or "zeros"
    perspective  a homography, (3, 3) or (n, 3, 3), used without the factors h / w and w / h
    """
    if mode == "bilinear" and not batch.is_floating_point():
        raise ValueError(f"bilinear needs floats, got {batch.dtype}; use mode='nearest' for masks")
    h, w = batch.shape[-2:]
    matrices = affine.float() * matrix(1, h / w, 1, w / h, 1, 1, 1, 1, 1)
    if perspective is not None:
        matrices = matrices @ perspective.float()
    pixels = batch.reshape(len(batch), -1, h, w)                            # (n, c, h, w)
    # At least float32, because 16 bits are too coarse for coordinates.
    pixels = pixels.to(torch.promote_types(batch.dtype, torch.float32))
    grid = grid_of(matrices, pixels).expand(len(batch), -1, -1, -1)
    seen = F.grid_sample(pixels, grid, mode, padding, align_corners=True)
    return seen.to(batch.dtype).reshape(batch.shape)


def grid_of(matrices: Tensor, pixels: Tensor) -> Tensor:
    """Where each pixel of `pixels`, (n, c, h, w), looks: (u / z, v / z), as (n, h, w, 2)."""
    like = {"dtype": pixels.dtype, "device": pixels.device}
    y, x = (torch.linspace(-1, 1, side, **like) for side in pixels.shape[-2:])
    m = matrices.reshape(-1, 3, 3).to(**like, non_blocking=True)            # (n or 1, 3, 3)
    # A matrix product with all h * w points would be far more work than a column plus a row.
    rows = m[:, :, 1, None] * y + m[:, :, 2, None]                          # (n, 3, h)
    columns = m[:, :, 0, None] * x                                          # (n, 3, w)
    uvz = rows[:, :, :, None] + columns[:, :, None, :]                      # (n, 3, h, w)
    return (uvz[:, :2] / uvz[:, 2:]).permute(0, 2, 3, 1)                    # (n, h, w, 2)
