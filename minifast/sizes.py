"""Crop, pad, squish: three ways to bring pictures of any size to one, as arithmetic and as a cut.

Sizes are (rows, columns), as in tensors.
"""

import numpy

from minifast.tools import check

METHODS = ["crop", "pad", "squish"]
CENTRE = (0.5, 0.5)


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError unless a size is two whole numbers, (rows, columns), both at least 1."""
    whole = numpy.shape(size) == (2,) and all(isinstance(n, (int, numpy.integer)) for n in size)
    if not whole or min(size) < 1:
        raise ValueError(f"size must be whole numbers (rows, columns) from 1 up, got {size!r}")


def scaled_size(have: tuple[int, int], size: tuple[int, int], method: str) -> tuple[int, int]:
    """(rows, columns) to scale a picture of size `have` to, before it is cut or padded to `size`.

    crop    both at least as large as wanted: ratio = min(rows / wanted rows, columns / wanted ...)
    pad     both at most as large as wanted:  ratio = max(...)
            then each side becomes round(side / ratio), half to even, and at least 1
    squish  the wanted size itself: the shape may change

    Raises ValueError on another method, or a size that is not two whole numbers from 1 up.
    Source: fastai v1, vision/image.py; (101, 67) to 32 is (48, 32) by crop and (32, 21) by pad.
    """
    check.one_of("method", method, METHODS)
    check_size(size)
    if method == "squish":
        return size
    choose = min if method == "crop" else max
    ratio = choose(have[0] / size[0], have[1] / size[1])
    return max(1, round(have[0] / ratio)), max(1, round(have[1] / ratio))


def cut(pixels: numpy.ndarray, size: tuple[int, int] | None,
        window: tuple[float, float] = CENTRE) -> numpy.ndarray:
    """The pixels of a picture or mask that was scaled to its scaled_size, at the size wanted.

    pixels  (..., rows, columns): pictures and masks alike
    size    (rows, columns) wanted; None, or the size it has, leaves it as it is
    window  (row, column) share in 0..1: the cut begins at int((have - wanted + 1) * share), with
            a share of 1 taken as 1 - 1e-7; (0.5, 0.5) is the centre

    Before the cut, (wanted - have + 1) // 2 mirrored pixels are added on both sides, edge pixel not
    repeated, again and again where that is more than there are. Source: fastai v1, crop_pad.
    """
    if size is None or pixels.shape[-2:] == tuple(size):
        return pixels
    borders = [(max(0, wanted - have + 1) // 2,) * 2
               for have, wanted in zip(pixels.shape[-2:], size)]
    pixels = numpy.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + borders, mode="reflect")
    top, left = (int((have - wanted + 1) * min(part, 1 - 1e-7))
                 for have, wanted, part in zip(pixels.shape[-2:], size, window))
    return pixels[..., top:top + size[0], left:left + size[1]]
