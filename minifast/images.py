"""From a picture or mask file to a tensor of the wanted size, and from a tensor back to a picture.

Sizes are (rows, columns), as in tensors; Pillow's own are (width, height).
"""

from collections.abc import Callable
from pathlib import Path

import numpy
from PIL import ExifTags, Image, ImageOps
import torch
from torch import Tensor

from minifast.sizes import CENTRE, METHODS, check_size, cut, scaled_size
from minifast.tools import check

TURNED = (5, 6, 7, 8)                       # EXIF orientations that swap rows and columns
NUMBERS = ("L", "P", "I", "I;16")           # Pillow's modes with one whole number for each pixel
STRETCHED = {"L;2": 85, "L;4": 17}          # grey PNGs of 2 and 4 bits: it makes them 0..255


def open_image(path: Path | str, size: tuple[int, int] | None = None, method: str = "crop",
               window: tuple[float, float] = CENTRE, reduced: bool = True) -> Tensor:
    """The picture in the file `path`, of any format and mode that Pillow opens, as RGB.

    size     (rows, columns) wanted, or None for the file's own
    method   crop: cover the size and cut what is over; pad: fit into it and mirror the border;
             squish: change the shape
    window   which part stays where there is too much: sizes.cut
    reduced  see read_image, also for errors
    returns  (3, rows, columns) uint8
    """
    return torch.from_numpy(cut(read_image(path, size, method, reduced), size, window))


def read_image(path: Path | str, size: tuple[int, int] | None = None, method: str = "crop",
               reduced: bool = True) -> numpy.ndarray:
    """The first half of open_image: (3, rows, columns) uint8, scaled to sizes.scaled_size, but
    neither padded nor cut.

    path, size, method   as in open_image
    reduced  allow a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size where that is still at least
             its scaled_size: much faster, and the average over pixels that a reduction is anyway

    A camera's EXIF orientation is respected. Raises ValueError, naming the file, where it is
    missing, empty, truncated, no picture, or so large that Pillow suspects an attack; and, before
    the file is looked at, on a wrong size or method.
    """
    if size is not None:
        check_size(size)
        check.one_of("method", method, METHODS)

    def read(picture: Image.Image) -> numpy.ndarray:
        have = upright_size(picture)
        scaled = have if size is None else scaled_size(have, size, method)
        if reduced:
            turned = have != (picture.height, picture.width)
            picture.draft(None, scaled if turned else scaled[::-1])
        ImageOps.exif_transpose(picture, in_place=True)
        return channels_first(scale(to_rgb(picture), scaled))

    return opened("picture", path, read)


def open_mask(path: Path | str, size: tuple[int, int] | None = None, method: str = "crop",
              window: tuple[float, float] = CENTRE, div: bool = False) -> Tensor:
    """The class number of each pixel of the file `path`, (rows, columns) int64.

    size, method, window  as in open_image
    div                   see read_mask, also for errors
    """
    return torch.from_numpy(cut(read_mask(path, size, method, div), size, window))


def read_mask(path: Path | str, size: tuple[int, int] | None = None, method: str = "crop",
              div: bool = False) -> numpy.ndarray:
    """The first half of open_mask: the values of the file `path`, a grey picture, or one with a
    palette: not the colours of that, but their numbers. It is turned as its EXIF orientation says.

    size, method  as in read_image, but every pixel is one of the file's, the nearest: between two
                  classes lies no third one
    div           for a mask of 0 and 255 alone: 255 becomes 1
    returns       (rows, columns) int64; single bits (mode 1) are 0 and 255

    Raises ValueError, naming the file, as read_image does; with Pillow's mode, where pixels are no
    whole numbers (see NUMBERS); with all values, where `div` meets others. Source: fastai v1.
    """
    def read(picture: Image.Image) -> numpy.ndarray:
        stretch = STRETCHED.get(str(picture.tile[0][3]), 1)
        picture = ImageOps.exif_transpose(picture)
        picture = picture.convert("L") if picture.mode == "1" else picture     # 0 and 255, as in v1
        if picture.mode not in NUMBERS:
            raise ValueError(f"its mode is {picture.mode}, wanted one class number a pixel: a grey "
                             "or a palette picture")
        if size is not None:
            have = picture.height, picture.width
            picture = scale(picture, scaled_size(have, size, method), Image.NEAREST)
        values = numpy.asarray(picture).astype(numpy.int64)                    # (rows, columns)
        if div and not numpy.isin(values, (0, 255)).all():
            raise ValueError(f"div=True is for masks of 0 and 255, this one has "
                             f"{check.some(numpy.unique(values).tolist())}")
        return values // (255 if div else stretch)

    return opened("mask", path, read)


def image_size(path: Path | str) -> tuple[int, int]:
    """(rows, columns) of the picture in the file `path`, upright."""
    return opened("picture", path, upright_size)


def opened(what: str, path: Path | str, read: Callable[[Image.Image], object]) -> object:
    """read(picture), of the picture at `path`. Raises ValueError, naming `what` and the path, where
    it does not exist, is an empty file, or cannot be read: for any complaint of Pillow or `read`.
    """
    try:
        with Image.open(path) as picture:
            return read(picture)
    # Pillow's decoders complain in a dozen ways (OSError, SyntaxError, struct.error, ...).
    except Exception as error:
        path = Path(path)
        check.exists(what, path, "check the folder and the suffix")
        if path.is_file() and path.stat().st_size == 0:
            raise ValueError(f"{what} {path} is an empty file; download or copy it again") from None
        raise ValueError(f"{what} {path} cannot be read: {error}") from error


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(rows, columns) of a picture after its EXIF orientation is applied, from the header alone."""
    turned = picture.getexif().get(ExifTags.Base.Orientation) in TURNED
    return picture.size if turned else (picture.height, picture.width)


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture in mode RGB. Integer modes (I, I;16) are taken as 16 bits; their upper 8 stay.

    Pillow's own conversion of those clips at 255, which turns nearly all of a 16-bit picture white.
    Floats (F) are taken as 0..255, as Pillow does.
    """
    if picture.mode.startswith("I"):
        values = numpy.asarray(picture).astype(numpy.int64) >> 8
        picture = Image.fromarray(values.clip(0, 255).astype(numpy.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def scale(picture: Image.Image, size: tuple[int, int],
          how: Image.Resampling = Image.BILINEAR) -> Image.Image:
    """The picture at `size` = (rows, columns). Pillow's bilinear filter averages where it shrinks
    (anti-aliasing); `how` can be another one, Image.NEAREST for masks."""
    return picture if picture.size == size[::-1] else picture.resize(size[::-1], how)


def channels_first(picture: Image.Image) -> numpy.ndarray:
    """The pixels of an RGB picture, (3, h, w) uint8. By numpy, in this thread: for so little, torch
    would wake up others."""
    return numpy.asarray(picture).transpose(2, 0, 1).copy()                       # (3, h, w)


def to_pil(pixels: Tensor) -> Image.Image:
    """An RGB picture of pixels, (3, h, w) uint8 or float 0..1; floats outside 0..1 are clipped.

    Raises ValueError on another shape.
    """
    if pixels.ndim != 3 or len(pixels) != 3:
        raise ValueError(f"to_pil needs a tensor (3, h, w), got {tuple(pixels.shape)}")
    if pixels.is_floating_point():
        pixels = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())                 # (h, w, 3)
