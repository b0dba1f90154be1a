"""From a picture or mask file to a tensor of the wanted size, and from a tensor back to a picture.

Sizes are (rows, columns), as in tensors; Pillow's own are (width, height).
"""

from collections.abc import Callable
from pathlib import Path

import numpy
from PIL import ExifTags, Image, ImageOps
import torch
from torch import Tensor

from minifast import check

METHODS = ["crop", "pad", "squish"]
CENTRE = (0.5, 0.5)
TURNED = (5, 6, 7, 8)                       # EXIF orientations that swap rows and columns
NUMBERS = ("L", "P", "I", "I;16")           # Pillow's modes with one whole number for each pixel
STRETCHED = {"L;2": 85, "L;4": 17}          # grey PNGs of 2 and 4 bits: it makes them 0..255


def open_image(path: Path | str, size: tuple[int, int] | None = None, method: str = "crop",
               window: tuple[float, float] = CENTRE, reduced: bool = True) -> Tensor:
    """The picture in the file `path`, of any format and mode that Pillow opens, as RGB.

    size     (rows, columns) wanted, or None for the file's own
    method   how to get there, see `resize`
    window   which part stays where there is too much: see `resize`
    reduced  allow a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size where that is still at least
             its scaled_size: much faster, and the average over pixels that a reduction is anyway
    returns  (3, rows, columns) uint8

    A camera's EXIF orientation is respected. Raises ValueError, naming the file, where it is
    missing, empty, truncated, no picture, or so large that Pillow suspects an attack; and, before
    the file is looked at, on a wrong size or method.
    """
    if size is not None:
        check_size(size)
        check.one_of("method", method, METHODS)

    def read(picture: Image.Image) -> Tensor:
        have = upright_size(picture)
        scaled = have if size is None else scaled_size(have, size, method)
        if reduced:
            turned = have != (picture.height, picture.width)
            picture.draft(None, scaled if turned else scaled[::-1])
        picture = to_rgb(ImageOps.exif_transpose(picture))
        if size is not None:
            picture = resize(picture, size, method, window, scaled)
        return to_tensor(picture)

    return opened("picture", path, read)


def open_mask(path: Path | str, size: tuple[int, int] | None = None, method: str = "crop",
              window: tuple[float, float] = CENTRE, div: bool = False) -> Tensor:
    """The class number of each pixel of the file `path`, a grey picture, or one with a palette: not
    the colours of that, but their numbers. It is turned as its EXIF orientation says.

    size, method, window  as in open_image, but every pixel is one of the file's, the nearest:
                          between two classes lies no third one
    div      for a mask of 0 and 255 alone: 255 becomes 1
    returns  (rows, columns) int64, the values of the file; single bits (mode 1) are 0 and 255

    Raises ValueError, naming the file, as open_image does; with Pillow's mode, where pixels are no
    whole numbers (see NUMBERS); with all values, where `div` meets others. Source: fastai v1.
    """
    def read(picture: Image.Image) -> Tensor:
        stretch = STRETCHED.get(str(picture.tile[0][3]), 1)
        picture = ImageOps.exif_transpose(picture)
        picture = picture.convert("L") if picture.mode == "1" else picture     # 0 and 255, as in v1
        if picture.mode not in NUMBERS:
            raise ValueError(f"its mode is {picture.mode}, wanted one class number a pixel: a grey "
                             "or a palette picture")
        if size is not None:
            picture = resize(picture, size, method, window, nearest=True)
        values = torch.from_numpy(numpy.array(picture).astype(numpy.int64))   # (rows, columns)
        if div and not ((values == 0) | (values == 255)).all():
            raise ValueError(f"div=True is for masks of 0 and 255, this one has "
                             f"{check.some(values.unique().tolist())}")
        return values // (255 if div else stretch)

    return opened("mask", path, read)


def image_size(path: Path | str) -> tuple[int, int]:
    """(rows, columns) of the picture in the file `path`, upright."""
    return opened("picture", path, upright_size)


def opened(what: str, path: Path | str, read: Callable[[Image.Image], object]) -> object:
    """read(picture), of the picture at `path`. Raises ValueError, naming `what` and the path, where
    it does not exist, is an empty file, or cannot be read: for any complaint of Pillow or `read`.
    """
    path = Path(path)
    check.exists(what, path, "check the folder and the suffix")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{what} {path} is an empty file; download or copy it again")
    try:
        with Image.open(path) as picture:
            return read(picture)
    # Pillow's decoders complain in a dozen ways (OSError, SyntaxError, struct.error, ...).
    except Exception as error:
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
    return picture.convert("RGB")


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


def resize(picture: Image.Image, size: tuple[int, int], method: str = "crop",
           window: tuple[float, float] = CENTRE, scaled: tuple[int, int] | None = None,
           nearest: bool = False) -> Image.Image:
    """A picture, or a mask, at `size` = (rows, columns): scaled, padded and cut, as is needed.

    Scaled with Pillow's bilinear filter, which averages where it shrinks (anti-aliasing).

    method   crop: cover the size and cut what is over; pad: fit into it and mirror the border;
             squish: change the shape
    window   (row, column) share in 0..1: the cut begins at int((have - wanted + 1) * share), with
             a share of 1 taken as 1 - 1e-7; (0.5, 0.5) is the centre
    scaled   the size before cutting, where the caller knows it better than this picture's own
             size tells (a JPEG decoded at reduced scale); None: scaled_size of the picture
    nearest  not bilinear, but the nearest pixel: for masks

    Padding adds (wanted - have + 1) // 2 mirrored pixels on both sides, edge pixel not repeated,
    again and again where the picture is smaller than its padding. Source: fastai v1, crop_pad.
    """
    rows, columns = scaled or scaled_size((picture.height, picture.width), size, method)
    if (columns, rows) != picture.size:
        picture = picture.resize((columns, rows), Image.NEAREST if nearest else Image.BILINEAR)
    if (rows, columns) == tuple(size):
        return picture
    pixels = numpy.asarray(picture)                                 # (rows, columns[, 3])
    borders = [(max(0, wanted - have + 1) // 2,) * 2 for have, wanted in zip((rows, columns), size)]
    pixels = numpy.pad(pixels, [*borders, (0, 0)][:pixels.ndim], mode="reflect")
    top, left = (int((have - wanted + 1) * min(part, 1 - 1e-7))
                 for have, wanted, part in zip(pixels.shape, size, window))
    return Image.fromarray(pixels[top:top + size[0], left:left + size[1]])


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as a tensor (3, h, w) uint8."""
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1).contiguous()   # (3, h, w)


def to_pil(pixels: Tensor) -> Image.Image:
    """An RGB picture of pixels, (3, h, w) uint8 or float 0..1; floats outside 0..1 are clipped.

    Raises ValueError on another shape.
    """
    if pixels.ndim != 3 or len(pixels) != 3:
        raise ValueError(f"to_pil needs a tensor (3, h, w), got {tuple(pixels.shape)}")
    if pixels.is_floating_point():
        pixels = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())                 # (h, w, 3)
