"""Augmentation: draw numbers for a batch, build a matrix for each picture, sample the batch once.

A picture that is turned a little or lit a little differently still shows the same thing, so it is
one more example, for free. A mask moves with its picture; light changes the picture alone.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from minifast.geometry import Number, compose, dihedral, rotation, symmetric_warp, warp, zoom
from minifast.schedules import exponential, linear
from minifast.tools import check, processes


@dataclass(frozen=True, eq=False)
class Draws:
    """What is to happen to a batch: each field a number for all pictures, or a tensor (n).
    The defaults change nothing: Draws(degrees=30) turns, and that is all."""
    k: Number = 0                       # these are arguments of geometry's dihedral,
    degrees: Number = 0.                # rotation,
    scale: Number = 1.                  # zoom,
    row_pct: Number = 0.5
    col_pct: Number = 0.5
    right: Number = 0.                  # and symmetric_warp
    left: Number = 0.
    bottom: Number = 0.
    top: Number = 0.
    change: Number = 0.5                # these are for light
    slope: Number = 1.


@dataclass(frozen=True)
class Augment:
    """Random transforms, drawn anew for each batch. Source: fastai v1, get_transforms."""
    do_flip: bool = True                # mirror left and right, or not, equally often
    flip_vert: bool = False             # with do_flip: any of the eight dihedral ways instead
    max_rotate: float = 10.             # degrees, to either side
    max_zoom: float = 1.1               # scale is 1 to this
    max_lighting: float = 0.2           # change is 0.5 * (1 - this) to 0.5 * (1 + this), and
    #                                     slope is 1 - this to 1 / (1 - this)
    max_warp: float = 0.2               # how far a side's ends move apart or together
    p_affine: float = 0.75              # probability of rotation, of zoom and of warp
    p_lighting: float = 0.75            # probability of changed brightness and of changed contrast

    def __post_init__(self):
        for name, high in (("max_lighting", 0.99), ("max_warp", 0.35), ("p_affine", 1),
                           ("p_lighting", 1)):              # a warp of 0.5 folds the picture over
            check.between(name, getattr(self, name), 0, high)

    def draw(self, n: int, rng: Generator) -> Draws:
        """Numbers for n pictures, each equally likely to be anywhere between its limits.

        For slope, the logarithm is. Where something does not happen to a picture, the number is the
        default of Draws. The focus of zoom, row_pct and col_pct, is always drawn, from 0 to 1.
        """
        # As many numbers whatever the settings: a picture turns the same way, lit or not.
        share = torch.rand(11, n, generator=rng)                # how far from the lowest value
        turns, zooms, warps = torch.rand(3, n, generator=rng) < self.p_affine
        lights, steepens = torch.rand(2, n, generator=rng) < self.p_lighting
        ways = (8 if self.flip_vert else 2) if self.do_flip else 1
        dark = 1 - self.max_lighting
        sides = torch.where(warps, linear(-self.max_warp, self.max_warp, share[5:9]), 0.)  # (4, n)
        return Draws(
            k=(ways * share[0]).int(),
            degrees=torch.where(turns, linear(-self.max_rotate, self.max_rotate, share[1]), 0.),
            scale=torch.where(zooms, linear(1, self.max_zoom, share[2]), 1.),
            row_pct=share[3], col_pct=share[4],
            right=sides[0], left=sides[1], bottom=sides[2], top=sides[3],
            change=torch.where(lights, linear(0.5 * dark, 0.5 * (2 - dark), share[9]), 0.5),
            slope=torch.where(steepens, exponential(dark, 1 / dark, share[10]), 1.))

    def __call__(self, x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        """Apply new draws from rng, a generator on the CPU, to a batch."""
        drawn = vars(self.draw(len(x) * processes.COUNT, rng))
        # Drawn for the batch of all processes; the pictures of this one are every COUNT-th.
        mine = {name: values[processes.RANK::processes.COUNT] for name, values in drawn.items()}
        return apply(Draws(**mine), x, y)


get_transforms = Augment


def apply(draws: Draws, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The batch with everything done to it that draws says. x and y themselves stay as they are.

    x  pictures (n, 3, h, w), float 0..1
    y  masks (n, h, w) move with the pictures; classes (n) or tags (n, c) stay
    """
    affine, perspective = matrices_of(draws)
    # Sampling changes the last digits even of a picture that stays where it is.
    if perspective is None and torch.equal(affine, torch.eye(3).expand_as(affine)):
        return light(draws, x.clone()), y
    if y.ndim == 3:
        y = warp(y, affine, "nearest", perspective=perspective)
    return light(draws, warp(x, affine, perspective=perspective)), y


def matrices_of(draws: Draws) -> tuple[Tensor, Tensor | None]:
    """(affine, perspective) for geometry.warp: the product of dihedral, rotation and zoom, in this
    order; and the symmetric warp, or None if no side moves."""
    affine = compose(dihedral(draws.k), rotation(draws.degrees),
                     zoom(draws.scale, draws.row_pct, draws.col_pct))
    sides = [*map(torch.as_tensor, (draws.right, draws.left, draws.bottom, draws.top))]
    return affine, symmetric_warp(*sides) if any(map(torch.any, sides)) else None


def light(draws: Draws, x: Tensor) -> Tensor:
    """Brightness, then contrast, of pictures x (n, 3, h, w), float 0..1, in place.

    Both change the logit of a pixel, log(x / (1 - x)), so that it stays in 0..1: `change` is what a
    grey of 0.5 becomes, and `slope` multiplies. Source: fastai v1, brightness and contrast.
    """
    check.between("change", draws.change, 0.001, 0.999)
    check.between("slope", draws.slope, 0.001, 1000)
    change, slope = (torch.as_tensor(number).reshape(-1, 1, 1, 1)           # (n or 1, 1, 1, 1)
                     for number in (draws.change, draws.slope))
    if (change == 0.5).all() and (slope == 1).all():
        return x
    shift, slope = (number.to(x, non_blocking=True) for number in (change.logit(), slope))
    # In place: new memory for a batch takes longer than the arithmetic.
    return x.logit_(eps=1e-7).add_(shift).mul_(slope).sigmoid_()
