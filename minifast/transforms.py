"""Augmentation: draw numbers for a batch, build a matrix for each picture, sample the batch once.

A picture that is turned a little or lit a little differently still shows the same thing, so every
change gives one more example for free. A mask moves with its picture; light leaves it alone.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from minifast.geometry import Number, compose, dihedral, rotation, symmetric_warp, warp, zoom
from minifast.schedules import exponential, linear
from minifast.tools import check, processes


@dataclass(frozen=True, eq=False)
class Draws:
    """What to do to a batch: each field is one number for all pictures, or a tensor (n).
    The defaults change nothing: Draws(degrees=30) only turns."""
    k: Number = 0               # of dihedral
    degrees: Number = 0.        # of rotation
    scale: Number = 1.          # of zoom, like the next two
    row_pct: Number = 0.5
    col_pct: Number = 0.5
    right: Number = 0.          # of symmetric_warp, like the next three
    left: Number = 0.
    bottom: Number = 0.
    top: Number = 0.
    change: Number = 0.5        # of light: brightness
    slope: Number = 1.          # and contrast


@dataclass(frozen=True)
class Augment:
    """Random transforms, drawn anew for each batch. Source: fastai v1, get_transforms."""
    do_flip: bool = True        # mirror left and right, or not, equally often
    flip_vert: bool = False     # with do_flip: any of the eight dihedral ways instead
    max_rotate: float = 10.     # degrees, to either side
    max_zoom: float = 1.1       # scale is 1 to this
    max_lighting: float = 0.2   # how far brightness and contrast go, as `draw` says
    max_warp: float = 0.2       # how far the ends of a side move outwards or inwards
    p_affine: float = 0.75      # probability of rotation, of zoom and of warp, each on its own
    p_lighting: float = 0.75    # probability of brightness and of contrast, each on its own

    def __post_init__(self):
        """Refuse settings that make no sense or, as a warp from 0.37 on, fold a picture over."""
        for name, low, high in (("max_zoom", 1, 100), ("max_lighting", 0, 0.99),
                                ("max_warp", 0, 0.35), ("p_affine", 0, 1), ("p_lighting", 0, 1)):
            check.between(name, getattr(self, name), low, high)

    def draw(self, n: int, rng: Generator) -> Draws:
        """Numbers for n pictures, uniform between their limits; for slope, its logarithm is.

        change is 0.5 * (1 - max_lighting) to 0.5 * (1 + max_lighting), slope is 1 - max_lighting to
        1 / (1 - max_lighting). A transform that is left out has the default of Draws; the focus of
        zoom, row_pct and col_pct from 0 to 1, is always drawn.
        """
        # Always the same count of numbers, so that switching light off does not change the turns.
        share = torch.rand(11, n, generator=rng)                # how far from the lowest value
        turns, zooms, warps = torch.rand(3, n, generator=rng) < self.p_affine
        lights, contrasts = torch.rand(2, n, generator=rng) < self.p_lighting
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
            slope=torch.where(contrasts, exponential(dark, 1 / dark, share[10]), 1.))

    def __call__(self, x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        """Apply new draws from rng, a generator on the CPU, to a batch."""
        # In training x is every COUNT-th picture of a batch, and the numbers are drawn for all.
        drawn = vars(self.draw(len(x) * processes.COUNT, rng))
        mine = {name: values[processes.RANK::processes.COUNT] for name, values in drawn.items()}
        return apply(Draws(**mine), x, y)


get_transforms = Augment        # its name in fastai v1


def apply(draws: Draws, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Do to a batch what draws says: first one sampling, then light. Pictures x (n, 3, h, w) are
    float 0..1; x itself stays as it is. Masks y (n, h, w) move along; classes and tags stay."""
    affine, perspective = matrices_of(draws)
    if y.ndim == 3:
        y = warp(y, affine, "nearest", perspective=perspective)
    # Bilinear looks smoother, but it blurs: F2 on real tiles was .02 lower (lessons/RESULTS.md).
    return light(draws, warp(x, affine, "nearest", perspective=perspective)), y


def matrices_of(draws: Draws) -> tuple[Tensor, Tensor | None]:
    """(affine, perspective) for geometry.warp: the product of dihedral, rotation and zoom, in this
    order; and the symmetric warp, or None if no side moves."""
    affine = compose(dihedral(draws.k), rotation(draws.degrees),
                     zoom(draws.scale, draws.row_pct, draws.col_pct))
    sides = [*map(torch.as_tensor, (draws.right, draws.left, draws.bottom, draws.top))]
    return affine, symmetric_warp(*sides) if any(map(torch.any, sides)) else None


def light(draws: Draws, x: Tensor) -> Tensor:
    """Change brightness, then contrast, of pictures x (n, 3, h, w), in place, and return x.

    Pixels are clamped to 1e-7 .. 1 - 1e-7. Both changes are to their logits, log(x / (1 - x)), so
    pixels stay in 0..1: brightness adds, and 0.5 becomes `change`; contrast multiplies by slope."""
    check.between("change", draws.change, 0.001, 0.999)
    change, slope = (torch.as_tensor(number).reshape(-1, 1, 1, 1)           # (n or 1, 1, 1, 1)
                     for number in (draws.change, draws.slope))
    if (change == 0.5).all() and (slope == 1).all():
        return x
    shift, slope = (number.to(x, non_blocking=True) for number in (change.logit(), slope))
    # In place: new memory for a batch takes longer than the arithmetic.
    return x.logit_(eps=1e-7).add_(shift).mul_(slope).sigmoid_()
