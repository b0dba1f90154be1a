"""From a picture or mask file to a tensor of the wanted size, and from a tensor to a picture.

Sizes are (rows, columns), as in tensors. Pillow's own sizes are (width, height).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy
from PIL import ExifTags, Image
import torch
from torch import Tensor

from minifast.tools import check

METHODS = ["crop", "squish"]
File = Path | str | Image.Image             # a path, or a picture that you opened with Pillow

# What undoes each EXIF orientation. 5 to 8 swap rows and columns.
FLIPS = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM,
         5: Image.TRANSPOSE, 6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}


def open_image(file: File, size: tuple[int, int] | None = None, method: str = "crop") -> Tensor:
    """A picture file as a tensor (3, rows, columns) uint8: RGB, and upright.

    size    (rows, columns) wanted, or None for the file's own size
    method  crop    scale until the picture covers the size, and cut off what is over
            squish  scale rows and columns separately, so that shapes change

    Raises ValueError with the file's name if it is missing, truncated or no picture.
    """
    with _opened("picture", file, size, method) as (picture, scaled, orientation):
        # Decode a JPEG at 1/2, 1/4 or 1/8 of its size if that is large enough: it is much faster.
        picture.draft(None, scaled if orientation > 4 else scaled[::-1])
        if picture.mode.startswith("I"):    # of 16 bits the upper 8 stay; convert clips at 255
            picture = picture.convert("I").point(lambda number: number / 256)
        # When it shrinks a picture, BILINEAR averages over all pixels: no jagged edges.
        picture = _upright(picture, orientation).convert("RGB").resize(scaled[::-1], Image.BILINEAR)
        pixels = cropped(numpy.asarray(picture).transpose(2, 0, 1), size)       # (3, h, w)
    return torch.from_numpy(pixels.copy())


def open_mask(file: File, size: tuple[int, int] | None = None, method: str = "crop",
              div: bool = False) -> Tensor:
    """A mask file, grey or with a palette, as a tensor (rows, columns) int64: the class number of
    each pixel. size and method are as in open_image. div turns masks of 0 and 255 into 0 and 1."""
    with _opened("mask", file, size, method) as (picture, scaled, orientation):
        picture = picture.convert("L") if picture.mode == "1" else picture      # bits: 0 and 255
        if picture.mode not in ("L", "P", "I", "I;16"):
            raise ValueError(f"its mode is {picture.mode}, wanted a grey or a palette picture")
        # The nearest pixel: an average of classes 1 and 3 would be class 2.
        picture = _upright(picture, orientation).resize(scaled[::-1], Image.NEAREST)
        numbers = numpy.asarray(picture).astype(numpy.int64)
        if div and not numpy.isin(numbers, (0, 255)).all():
            raise ValueError(f"div=True wants 0 and 255, got {check.some(numpy.unique(numbers))}")
        return torch.from_numpy(cropped(numbers // 255 if div else numbers, size))      # (h, w)


def image_size(file: File) -> tuple[int, int]:
    """(rows, columns) of an upright picture, from the header of its file."""
    return header(file)[0]


def header(file: File) -> tuple[tuple[int, int], int]:
    """Upright (rows, columns) of a file, and its EXIF orientation: 1, or one of FLIPS."""
    with _opened("file", file) as (_, size, orientation):
        return size, orientation


def scaled_size(have: tuple[int, int], size: tuple[int, int], method: str) -> tuple[int, int]:
    """The size to which a picture of size `have` is scaled, before `cropped` makes it `size`. Crop
    keeps its proportions. Sides are rounded half to even. Source: fastai v1, vision/image.py."""
    check.one_of("method", method, METHODS)
    if method == "squish":
        return tuple(size)
    ratio = min(have[0] / size[0], have[1] / size[1])
    return round(have[0] / ratio), round(have[1] / ratio)


def cropped(pixels: numpy.ndarray, size: tuple[int, int] | None) -> numpy.ndarray:
    """The middle of pixels (..., rows, columns), in this size. A side that is too long is cut from
    (have - wanted + 1) // 2 on. Source: fastai v1, crop_pad."""
    if size is None:
        return pixels
    top, left = ((old - new + 1) // 2 for old, new in zip(pixels.shape[-2:], size))
    return pixels[..., top:top + size[0], left:left + size[1]]


def to_pil(pixels: Tensor) -> Image.Image:
    """A picture from (3, h, w) uint8, or float, which is clipped to 0..1."""
    if pixels.is_floating_point():
        pixels = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())               # (h, w, 3)


@contextmanager
def _opened(what: str, file: File, size: tuple[int, int] | None = None,
            method: str = "crop") -> Iterator[tuple[Image.Image, tuple[int, int], int]]:
    """A picture, the upright size to scale it to, EXIF orientation. Errors inside name the file."""
    try:
        with nullcontext(file) if isinstance(file, Image.Image) else Image.open(file) as picture:
            if picture.format == "TIFF" and picture is not file:
                picture.filename = ""   # or Pillow would scramble some that are turned
            if picture.format in ("TIFF", "PNG") or picture is file:
                picture.load()          # turns a TIFF, checks a PNG, keeps draft from your picture
            orientation = 1
            with suppress(Exception):   # a block that is rubbish: other programs ignore it too
                orientation = picture.getexif().get(ExifTags.Base.Orientation)
            orientation = orientation if orientation in FLIPS else 1
            have = picture.size if orientation > 4 else picture.size[::-1]
            yield picture, (scaled_size(have, size, method) if size else have), orientation
    except Exception as error:          # Pillow's decoders complain in a dozen ways
        remedy = "; check folder and suffix, or copy it again" if isinstance(error, OSError) else ""
        name = getattr(file, "filename", "") or file        # of a picture that you opened
        raise ValueError(f"{what} {name} cannot be read: {error}{remedy}") from error


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(FLIPS[orientation]) if orientation > 1 else picture
