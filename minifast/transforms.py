"""Augmentation: draw numbers for a batch, build a matrix per picture, and sample the batch once.

A picture that is turned a little or lit a little differently still shows the same thing: it is one
more example, for free. What moves a picture moves its mask; light changes the picture alone.
"""

from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from minifast import check, processes
from minifast.geometry import Number, compose, dihedral, rotation, symmetric_warp, warp, zoom
from minifast.loader import Batch
from minifast.schedules import exponential, linear


@dataclass(frozen=True, eq=False)
class Draws:
    """What shall happen to a batch: each field a number for all pictures, or a tensor (n).

    Left out, a field is neutral: Draws(degrees=30) turns, and that is all. Printed, it is a table
    with aligned columns: `picture`, counted from 0, then the fields, rounded to three digits after
    the point (0.5, not 0.500); a row per picture, or one where there are no tensors.
    """

    k: Number = 0                       # this and the next eight are arguments of geometry's
    degrees: Number = 0.                # dihedral, rotation, zoom and symmetric_warp
    scale: Number = 1.
    row_pct: Number = 0.5
    col_pct: Number = 0.5
    right: Number = 0.
    left: Number = 0.
    bottom: Number = 0.
    top: Number = 0.
    change: Number = 0.5                # of brightness
    slope: Number = 1.                  # of contrast

    def __repr__(self) -> str:
        names = [field.name for field in fields(self)]
        columns = [torch.as_tensor(getattr(self, name)).float() for name in names]
        rows = torch.stack(torch.broadcast_tensors(*columns), dim=-1).reshape(-1, len(names))
        return "\n".join(["picture" + "".join(f"{name:>9}" for name in names)] +
                         [f"{i:7}" + "".join(f"{round(value, 3) + 0:9g}" for value in row)
                          for i, row in enumerate(rows.tolist())])


@dataclass(frozen=True)
class Augment:
    """Draws anew for each batch, in v1's terms; called by the Loader, with (x, y, rng).

    do_flip       mirror left and right, with probability 1/2
    flip_vert     with do_flip, not that but any of the eight dihedral ways, each as likely
    max_rotate    degrees, to either side: 0 to 180
    max_zoom      1 to 100: the scale is 1 to max_zoom
    max_lighting  0 to 0.99: brightness is 0.5 (1 +- max_lighting), contrast goes from
                  1 - max_lighting to 1 / (1 - max_lighting)
    max_warp      longer or shorter, of each side (geometry.symmetric_warp): 0 to 0.35, not far from
                  where a picture would fold over
    p_affine      probability of each of rotation, zoom and warp (all four sides, or none)
    p_lighting    probability of each of brightness and contrast

    Numbers are drawn evenly between their limits, the zoom's focus row_pct and col_pct from 0 to 1;
    of contrast the logarithm is. Raises ValueError where a setting is out of its range.
    Source: fastai v1, get_transforms.
    """

    do_flip: bool = True
    flip_vert: bool = False
    max_rotate: float = 10.
    max_zoom: float = 1.1
    max_lighting: float = 0.2
    max_warp: float = 0.2
    p_affine: float = 0.75
    p_lighting: float = 0.75

    def __post_init__(self):
        for name, low, high in (("max_rotate", 0, 180), ("max_zoom", 1, 100),
                                ("max_lighting", 0, 0.99), ("max_warp", 0, 0.35),
                                ("p_affine", 0, 1), ("p_lighting", 0, 1)):
            check.between(name, getattr(self, name), low, high)

    def draw(self, n: int, rng: Generator) -> Draws:
        """Each field as a tensor (n), neutral where that shall not happen; the focus of zoom,
        row_pct and col_pct, is drawn for all pictures.

        rng  a generator on the CPU; as many numbers are taken from it whatever the settings are, so
             that a picture turns alike, lit or not
        """
        share = torch.rand(11, n, generator=rng)                # how far from the lowest value
        turns, zooms, warps = torch.rand(3, n, generator=rng) < self.p_affine
        lights, steepens = torch.rand(2, n, generator=rng) < self.p_lighting
        ways = (8 if self.flip_vert else 2) if self.do_flip else 1
        dark = 1 - self.max_lighting
        return Draws(
            (ways * share[0]).int(),
            torch.where(turns, linear(-self.max_rotate, self.max_rotate, share[1]), 0.),
            torch.where(zooms, linear(1, self.max_zoom, share[2]), 1.), share[3], share[4],
            *torch.where(warps, linear(-self.max_warp, self.max_warp, share[5:9]), 0.),
            torch.where(lights, linear(0.5 * dark, 0.5 * (2 - dark), share[9]), 0.5),
            torch.where(steepens, exponential(dark, 1 / dark, share[10]), 1.))

    def __call__(self, x: Tensor, y: Tensor, rng: Generator) -> Batch:
        """A new batch, as `apply` makes it of x, y and what was drawn for them from rng: with
        several processes, this one's part of what was drawn for all, which have as many pictures.
        """
        n = len(x)
        drawn = self.draw(n * processes.count(), rng)
        first = n * processes.rank()
        return apply(Draws(*(getattr(drawn, field.name)[first:first + n]
                             for field in fields(Draws))), x, y)


get_transforms = Augment                    # v1's name for making one


def apply(draws: Draws, x: Tensor, y: Tensor) -> Batch:
    """A batch with all of this done to it; the same draws do the same again.

    x  pictures (n, 3, h, w), floats 0..1; not written to, new ones are returned
    y  masks (n, h, w) move with the pictures, nearest pixel; classes (n) or tags (n, c) stay

    What is neutral for all pictures is left out: even an identity, sampled, changes last digits.
    Raises ValueError where x or y is something else.
    """
    if x.ndim != 4 or not x.is_floating_point() or y.ndim > 2 and y.shape != x[:, 0].shape:
        raise ValueError("wanted floats (n, 3, h, w), and masks (n, h, w), classes (n) or tags "
                         f"(n, c); got {x.dtype} {tuple(x.shape)} and {tuple(y.shape)}")
    affine, perspective = matrices_of(draws)
    if perspective is None and torch.equal(affine, torch.eye(3).expand_as(affine)):
        x = x.clone()                                           # since light writes into it
    else:
        x = warp(x, affine, perspective=perspective)
        y = warp(y, affine, "nearest", perspective=perspective) if y.ndim == 3 else y
    return light(draws, x), y


def matrices_of(draws: Draws) -> tuple[Tensor, Tensor | None]:
    """How draws move a picture: (affine, perspective), each (3, 3), or (n, 3, 3) of tensors (n).

    affine       in v1's order: dihedral, rotation, zoom; but a flip alone v1 does at the very end,
                 which by symmetry gives the same distribution
    perspective  the warp, which comes after; None where all sides are neutral
    """
    affine = compose(dihedral(draws.k), rotation(draws.degrees),
                     zoom(draws.scale, draws.row_pct, draws.col_pct))
    sides = [*map(torch.as_tensor, (draws.right, draws.left, draws.bottom, draws.top))]
    # Without a warp nothing is solved: what is solved is rounded, and an identity must be exact.
    return affine, symmetric_warp(*sides) if any(map(torch.any, sides)) else None


def light(draws: Draws, x: Tensor) -> Tensor:
    """Change brightness, then contrast, as draws say, of pictures x (n, 3, h, w), floats 0..1.

    Both work on logits, log(x / (1 - x)), of x clamped to 1e-7 .. 1 - 1e-7, and a sigmoid leads
    back: nothing leaves 0..1. Where both are neutral for all pictures, x is left alone. All in
    place: new memory for a batch takes longer than the arithmetic. Returns x. Source: fastai v1.
    """
    if not any((torch.as_tensor(drawn) != neutral).any()
               for drawn, neutral in ((draws.change, 0.5), (draws.slope, 1))):
        return x
    logits = x.logit_(eps=1e-7)
    return contrast(brightness(logits, draws.change), draws.slope).sigmoid_()


def brightness(logits: Tensor, change: Number) -> Tensor:
    """The logits (n, 3, h, w) plus logit(change), in place: a grey of 0.5 becomes `change`.

    So a picture's x becomes x c / (x c + (1 - x) (1 - c)). Source: fastai v1, brightness.
    Raises ValueError where `change` is not in 0.001..0.999.
    """
    check.between("change", change, 0.001, 0.999)
    return logits.add_(per_picture(torch.as_tensor(change).logit(), logits))


def contrast(logits: Tensor, slope: Number) -> Tensor:
    """The logits (n, 3, h, w) times `slope`, in place: above 1, light gets lighter and dark darker.

    So a picture's x becomes x^s / (x^s + (1 - x)^s). Source: fastai v1, contrast.
    Raises ValueError where `slope` is not in 0.001..1000.
    """
    check.between("slope", slope, 0.001, 1000)
    return logits.mul_(per_picture(torch.as_tensor(slope), logits))


def per_picture(number: Tensor, like: Tensor) -> Tensor:
    """`number`, () or (n), as (1, 1, 1, 1) or (n, 1, 1, 1), with the device and dtype of `like`."""
    return number.reshape(-1, 1, 1, 1).to(like, non_blocking=True)
