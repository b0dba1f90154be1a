from pathlib import Path
import re
import struct
import zlib

import numpy
from PIL import ExifTags, Image, JpegImagePlugin
import pytest
import torch

from minifast.images import (channels_first, image_size, open_image, open_mask, read_image,
                             read_mask, scale, to_pil, to_rgb, upright_size)

RED, ORANGE = (255, 0, 0), (200, 100, 50)
ORANGE_IN_GREY = (124, 124, 124)         # .299 * 200 + .587 * 100 + .114 * 50 = 124.2


def saved(picture: Image.Image, path: Path, orientation: int | None = None, **options) -> Path:
    exif = Image.Exif()
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    picture.save(path, exif=exif, **options) if orientation else picture.save(path, **options)
    return path


def from_array(values: list | numpy.ndarray) -> Image.Image:
    """A grey picture (h, w), in RGB."""
    return Image.fromarray(numpy.array(values, dtype=numpy.uint8)).convert("RGB")


def grey(picture: Image.Image) -> list:
    return numpy.array(picture)[:, :, 0].tolist()


@pytest.fixture
def decoded(monkeypatch) -> set[tuple[int, int]]:
    """Fills with the sizes (width, height) at which JPEG files are decoded."""
    sizes, load = set(), JpegImagePlugin.JpegImageFile.load

    def noted(picture):
        waits = bool(picture.tile)              # what was decoded is not decoded again
        result = load(picture)
        sizes.update([picture.size] * waits)
        return result

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noted)
    return sizes


# Any file becomes RGB

@pytest.mark.parametrize("mode, name, wanted", [
    ("L", "a.png", ORANGE_IN_GREY), ("L", "a.jpg", ORANGE_IN_GREY), ("LA", "a.png", ORANGE_IN_GREY),
    ("P", "a.png", (204, 102, 51)), ("P", "a.gif", (204, 102, 51)), ("P", "a.bmp", (204, 102, 51)),
    ("RGB", "a.png", ORANGE), ("RGB", "a.bmp", ORANGE), ("RGB", "a.jpg", ORANGE),
    ("RGB", "a.ppm", ORANGE), ("RGBA", "a.png", ORANGE), ("RGBA", "a.tif", ORANGE),
    ("CMYK", "a.jpg", ORANGE), ("CMYK", "a.tif", ORANGE), ("YCbCr", "a.jpg", ORANGE),
    ("LAB", "a.tif", ORANGE), ("F", "a.tif", ORANGE_IN_GREY)])
def test_a_file_of_any_mode_becomes_rgb(tmp_path, mode, name, wanted):
    # 204, 102, 51 is the nearest colour of Pillow's fixed palette; JPEG loses a little
    picture = Image.new("RGB", (3, 2), ORANGE).convert(mode)
    pixels = open_image(saved(picture, tmp_path / name))
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (3, 2, 3))
    assert pixels[:, 1, 2].tolist() == pytest.approx(wanted, abs=2)


def test_a_file_of_single_bits_becomes_black_and_white(tmp_path):
    picture = Image.new("1", (3, 2))
    picture.putpixel((2, 1), 1)
    pixels = open_image(saved(picture, tmp_path / "a.png"))
    assert pixels.tolist() == [[[0, 0, 0], [0, 0, 255]]] * 3


@pytest.mark.parametrize("kind, name", [(numpy.uint16, "a.png"), (numpy.uint16, "a.tif"),
                                        (numpy.int32, "a.tif")])
def test_a_picture_of_16_bits_keeps_its_upper_8_and_does_not_turn_white(tmp_path, kind, name):
    # 256 = 1 * 256, 32768 = 128 * 256, 65535 = 255 * 256 + 255
    picture = Image.fromarray(numpy.array([[0, 255, 256, 32768, 65535]], dtype=kind))
    pixels = open_image(saved(picture, tmp_path / name))
    assert pixels.tolist() == [[[0, 0, 1, 128, 255]]] * 3


def test_to_rgb_clips_what_lies_outside_16_bits():
    picture = Image.fromarray(numpy.array([[-70000, -1, 512, 70000]], dtype=numpy.int32))
    assert grey(to_rgb(picture)) == [[0, 0, 2, 255]]


def test_a_path_may_be_a_string_and_pixels_come_as_channel_row_column(tmp_path):
    picture = Image.new("RGB", (3, 2))
    picture.putpixel((2, 0), (10, 20, 30))                       # column 2, row 0
    pixels = open_image(str(saved(picture, tmp_path / "a.png")))
    assert pixels[:, 0, 2].tolist() == [10, 20, 30]
    assert int(pixels.sum()) == 60


# EXIF orientation

# where the top left corner of the file belongs, and whether rows and columns are swapped
ORIENTATIONS = {1: ("top left", False), 2: ("top right", False), 3: ("bottom right", False),
                4: ("bottom left", False), 5: ("top left", True), 6: ("top right", True),
                7: ("bottom right", True), 8: ("bottom left", True)}


def lit_corner(pixels: torch.Tensor) -> str:
    """The quarter of the picture that is the brightest."""
    row, column = divmod(int(pixels.float().mean(0).argmax()), pixels.shape[2])
    return (("top " if row < pixels.shape[1] / 2 else "bottom ")
            + ("left" if column < pixels.shape[2] / 2 else "right"))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_picture_is_turned_as_its_camera_says(tmp_path, orientation):
    picture = Image.new("RGB", (5, 3))
    picture.putpixel((0, 0), RED)
    pixels = open_image(saved(picture, tmp_path / "a.png", orientation))
    corner, turned = ORIENTATIONS[orientation]
    assert tuple(pixels.shape) == ((3, 5, 3) if turned else (3, 3, 5))
    assert lit_corner(pixels) == corner
    assert int(pixels.sum()) == 255


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_upright_size_is_read_from_the_header(tmp_path, orientation):
    path = saved(Image.new("RGB", (5, 3)), tmp_path / "a.png", orientation)
    with Image.open(path) as picture:
        assert upright_size(picture) == ((5, 3) if ORIENTATIONS[orientation][1] else (3, 5))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_jpeg_can_be_decoded_at_reduced_scale_to_a_size_that_is_not_square(
        tmp_path, decoded, orientation):
    picture = Image.new("RGB", (128, 64))
    picture.paste(RED, (0, 0, 64, 32))
    path = saved(picture, tmp_path / "a.jpg", orientation, quality=95)
    corner, turned = ORIENTATIONS[orientation]
    pixels = open_image(path, (32, 16) if turned else (16, 32))
    assert decoded == {(32, 16)}                                 # a quarter: as wanted, unturned
    assert lit_corner(pixels) == corner
    lit = (pixels[0] > 127).float()
    assert float(lit.mean()) == pytest.approx(1 / 4, abs=0.05)


def test_a_turned_jpeg_is_not_decoded_smaller_than_wanted(tmp_path, decoded):
    # upright it has 128 rows and 64 columns, of which 16 and 32 are wanted: only 1/2 will do
    path = saved(Image.new("RGB", (128, 64)), tmp_path / "a.jpg", 6)
    open_image(path, (16, 32), "squish")
    assert decoded == {(64, 32)}


# To another size

TALL = from_array([[10 * row + column for column in range(5)] for row in range(8)])


def rows_of(picture: Image.Image) -> list[int]:
    return [row[0] // 10 for row in grey(picture)]


def test_squish_changes_the_shape_and_cuts_nothing(tmp_path):
    quarters = Image.new("RGB", (40, 20))
    quarters.paste(RED, (30, 10, 40, 20))
    pixels = open_image(saved(quarters, tmp_path / "a.png"), (20, 20), "squish")[0]
    assert pixels.shape == (20, 20)                              # red from row 10 and column 15 on
    assert (pixels[11:, 16:] == 255).all()
    assert (pixels[:9] == 0).all() and (pixels[:, :14] == 0).all()


def test_shrinking_averages_so_that_a_fine_checkerboard_becomes_grey(tmp_path):
    board = from_array(numpy.indices((64, 64)).sum(axis=0) % 2 * 255)
    for size in (16, 32):
        small = numpy.array(scale(board, (size, size)))[2:-2, 2:-2].astype(int)
        assert abs(small - 127).max() <= 3
    small = open_image(saved(board, tmp_path / "a.png"), (16, 16))[:, 2:-2, 2:-2].int()
    assert (small - 127).abs().max() <= 3


def test_enlarging_is_bilinear_or_as_told():
    # two pixels to four: their centres lie at 1 and 3; at .5, 1.5, 2.5, 3.5 are 0 1/4 3/4 1
    small = from_array([[0, 100], [0, 100]])
    assert grey(scale(small, (2, 4))) == [[0, 25, 75, 100]] * 2
    assert grey(scale(small, (3, 4), Image.NEAREST)) == [[0, 0, 100, 100]] * 3


def test_a_picture_that_has_the_size_is_not_scaled():
    assert scale(TALL, (8, 5)) is TALL


@pytest.mark.parametrize("method, rows", [("crop", (12, 8)), ("pad", (8, 5)), ("squish", (8, 8))])
def test_read_image_scales_but_neither_pads_nor_cuts(tmp_path, method, rows):
    # 12 x 8 to 8 x 8: crop has ratio 1, pad 1.5
    path = saved(Image.new("RGB", (8, 12), ORANGE), tmp_path / "a.png")
    pixels = read_image(path, (8, 8), method)
    assert isinstance(pixels, numpy.ndarray) and pixels.dtype == numpy.uint8
    assert pixels.shape == (3, *rows) and (pixels == numpy.array(ORANGE)[:, None, None]).all()


@pytest.mark.parametrize("method, rows", [("crop", (12, 8)), ("pad", (8, 5)), ("squish", (8, 8))])
def test_read_mask_scales_but_neither_pads_nor_cuts(tmp_path, method, rows):
    values = read_mask(mask_of([[7] * 8] * 12, tmp_path / "a.png"), (8, 8), method)
    assert isinstance(values, numpy.ndarray) and values.dtype == numpy.int64
    assert values.shape == rows and (values == 7).all()


# Files at a size

@pytest.mark.parametrize("method", ["crop", "pad", "squish"])
def test_a_file_opens_at_the_wanted_rows_and_columns(tmp_path, method):
    path = saved(Image.new("RGB", (50, 30), ORANGE), tmp_path / "a.png")
    pixels = open_image(path, (20, 24), method)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (3, 20, 24))
    assert (pixels == torch.tensor(ORANGE)[:, None, None]).all()


def test_a_file_is_cropped_in_the_centre_unless_told_otherwise(tmp_path):
    path = saved(TALL, tmp_path / "a.png")
    assert rows_of(to_pil(open_image(path, (5, 5)))) == [2, 3, 4, 5, 6]
    assert rows_of(to_pil(open_image(path, (5, 5), window=(1, 0)))) == [3, 4, 5, 6, 7]
    assert rows_of(to_pil(open_image(path, (5, 5), "squish"))) != [2, 3, 4, 5, 6]


@pytest.mark.parametrize("size, method, wanted", [
    ((120, 128), "squish", (128, 120)),                          # just half of 240 x 256
    ((121, 128), "squish", (256, 240)),                          # one row more than half
    ((120, 129), "squish", (256, 240)),
    ((60, 60), "crop", (64, 60)),
    ((64, 64), "pad", (64, 60)),
    ((30, 20), "crop", (32, 30)),
    (None, "crop", (256, 240))])
def test_a_jpeg_is_decoded_at_reduced_scale_where_that_is_still_enough(tmp_path, decoded, size,
                                                                       method, wanted):
    open_image(saved(Image.new("RGB", (256, 240)), tmp_path / "a.jpg"), size, method)
    assert decoded == {wanted}


def test_reduced_decoding_can_be_forbidden(tmp_path, decoded):
    open_image(saved(Image.new("RGB", (256, 243)), tmp_path / "a.jpg"), (32, 32), reduced=False)
    assert decoded == {(256, 243)}


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("share, first", [(0, 0), (0.5, 2), (1, 3)])
def test_the_cut_is_the_same_part_of_the_picture_at_reduced_scale(tmp_path, reduced, share, first):
    # A ramp: column x has the brightness x. 243 rows to 48: 256 columns become 51 (5.02 to one),
    # of which 48 are cut out from number int(4 * share) on. Of the 64 columns that are decoded
    # at 1/4 it would be 50, and int(3 * share).
    ramp = from_array([list(range(256))] * 243)
    path = saved(ramp, tmp_path / "a.jpg", quality=95)
    pixels = open_image(path, (48, 48), window=(0.5, share), reduced=reduced)
    columns = torch.arange(first, first + 48)
    wanted = (columns + 0.5) * 256 / 51 - 0.5
    assert (pixels[0, 24, 1:-1] - wanted[1:-1]).abs().max() < 1.5


# Files that cannot be read

def noise(path: Path) -> Path:
    pixels = numpy.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=numpy.uint8)
    return saved(Image.fromarray(pixels), path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\bno\.jpg(?!.*Errno)"):
        open_image(tmp_path / "no.jpg")
    with pytest.raises(ValueError, match=r"picture .*\bno\.jpg does not exist"):
        open_image(str(tmp_path / "no.jpg"))


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"\bempty\.jpg\b[^/\\]* empty\b"):
        open_image(tmp_path / "empty.jpg")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\btrain\b"):
        (tmp_path / "train").mkdir()
        open_image(tmp_path / "train")


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("image_name,tags")
    with pytest.raises(ValueError, match=r"\btext\.jpg"):
        open_image(tmp_path / "text.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif", "a.gif"])
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_a_truncated_file_is_refused(tmp_path, name, size):
    path = noise(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match=rf"\b{re.escape(name)}"):
        open_image(path, size)


def test_a_picture_so_large_that_it_looks_like_an_attack_is_refused(tmp_path, monkeypatch):
    path = noise(tmp_path / "huge.png")                          # 1,600 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"\bhuge\.png.*1600"):
        open_image(path)


@pytest.mark.parametrize("size, method, reason", [((8, 8), "fit", r"method.*\bfit\b"),
                                                  ((8, 0), "crop", r"size.*\(8, 0\)")])
def test_a_wrong_method_or_size_is_refused(tmp_path, size, method, reason):
    with pytest.raises(ValueError, match=rf"^(?!.*a\.png).*{reason}"):    # the file is not to blame
        open_image(noise(tmp_path / "a.png"), size, method)


# Tensors and pictures

def test_pixels_have_channel_row_column_in_one_piece_of_memory_of_their_own():
    pixels = channels_first(TALL)
    assert (pixels.dtype, pixels.shape) == (numpy.uint8, (3, 8, 5))
    assert pixels[1, 6, 4] == 64 and pixels.flags["C_CONTIGUOUS"]
    pixels[:] = 0
    assert TALL.getpixel((4, 6)) == (64, 64, 64)


def test_to_pil_undoes_channels_first():
    pixels = torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    picture = to_pil(pixels)
    assert (picture.mode, picture.size) == ("RGB", (6, 4))
    assert picture.getpixel((5, 1)) == tuple(pixels[:, 1, 5].tolist())
    assert (channels_first(picture) == pixels.numpy()).all()


def test_to_pil_takes_floats_as_0_to_1_clipped_and_rounded():
    values = torch.tensor([-0.5, 0, 1.4 / 255, 1.6 / 255, 0.2, 1, 7])
    wanted = [0, 0, 1, 2, 51, 255, 255]
    for kind in (torch.float32, torch.float64):
        assert grey(to_pil(values.to(kind).expand(3, 1, 7))) == [wanted]
    halves = torch.tensor([-0.5, 0, 0.2, 0.6, 1, 7])             # in bfloat16 .2002 and .6016
    assert grey(to_pil(halves.bfloat16().expand(3, 1, 6))) == [[0, 0, 51, 153, 255, 255]]


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (4, 5, 3), (1, 3, 4, 5), (3, 3, 4, 5)])
def test_to_pil_refuses_another_shape(shape):
    with pytest.raises(ValueError, match=rf"to_pil.*\({str(shape)[1:-1]}\)"):
        to_pil(torch.zeros(shape))


# Masks

def mask_of(values: list | numpy.ndarray, path: Path, mode: str = "L") -> Path:
    """A mask file; in mode P class k has the colour (200 - k, 0, k), in which no number shows."""
    picture = Image.fromarray(numpy.array(values, dtype=numpy.uint8))
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([part for k in range(256) for part in ((200 - k) % 256, 0, k)])
    return saved(picture, path)


@pytest.mark.parametrize("mode, name", [("L", "a.png"), ("P", "a.png"), ("L", "a.tif"),
                                        ("P", "a.bmp")])
def test_a_mask_is_the_class_numbers_of_grey_and_palette_pictures_alike(tmp_path, mode, name):
    values = [[0, 1, 2], [11, 30, 2]]
    mask = open_mask(mask_of(values, tmp_path / name, mode))
    assert mask.dtype == torch.int64 and mask.tolist() == values


def test_a_mask_of_4_bits_is_read(tmp_path):
    picture = Image.fromarray(numpy.array([[0, 11, 3]], dtype=numpy.uint8)).convert("P")
    picture.putpalette([10 * k for k in range(12) for _ in range(3)])
    assert open_mask(saved(picture, tmp_path / "a.png", bits=4)).tolist() == [[0, 11, 3]]


@pytest.mark.parametrize("bits, values", [(2, [0, 1, 2, 3]), (4, [0, 1, 7, 15])])
def test_a_grey_mask_of_few_bits_is_read_as_its_numbers_and_not_stretched(tmp_path, bits, values):
    # Pillow writes no such PNG, so by hand: one row, filter 0, packed, each chunk with its CRC
    packed = sum(value << bits * (len(values) - 1 - i) for i, value in enumerate(values))
    row = b"\0" + packed.to_bytes(bits * len(values) // 8, "big")
    header = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks))
    assert open_mask(tmp_path / "a.png").tolist() == [values]
    assert open_mask(tmp_path / "a.png", (1, 8), "squish")[0, ::2].tolist() == values


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_a_mask_may_have_numbers_above_255(tmp_path, dtype):
    picture = Image.fromarray(numpy.array([[0, 256], [1000, 3]], dtype=dtype))
    file = saved(picture, tmp_path / "a.tif")
    assert open_mask(file).tolist() == [[0, 256], [1000, 3]]
    assert open_mask(file, (2, 4), "squish").tolist() == [[0, 0, 256, 256], [1000, 1000, 3, 3]]


def test_div_turns_255_into_1(tmp_path):
    file = mask_of([[0, 255], [255, 255]], tmp_path / "a.png")
    mask = open_mask(file, div=True)
    assert mask.dtype == torch.int64 and mask.tolist() == [[0, 1], [1, 1]]
    assert open_mask(file).tolist() == [[0, 255], [255, 255]]


def test_div_is_for_0_and_255_alone(tmp_path):
    with pytest.raises(ValueError, match=r"mask .*\ba\.png.*div=True.*0, 7, 255"):
        open_mask(mask_of([[0, 255], [7, 255]], tmp_path / "a.png"), div=True)
    for wrong in (-1, 256):
        file = saved(Image.fromarray(numpy.array([[0, wrong]], dtype="int32")), tmp_path / "b.tif")
        with pytest.raises(ValueError, match=rf"b\.tif.*{wrong}"):
            open_mask(file, div=True)


def test_a_mask_of_single_bits_has_0_and_255_as_in_v1(tmp_path):
    file = saved(Image.fromarray(numpy.array([[True, False]])), tmp_path / "a.png")
    assert open_mask(file).tolist() == [[255, 0]]
    assert open_mask(file, div=True).tolist() == [[1, 0]]


@pytest.mark.parametrize("mode, name", [("RGB", "a.png"), ("RGBA", "a.png"), ("LA", "a.png"),
                                        ("F", "a.tif"), ("CMYK", "a.jpg")])
def test_colours_are_no_class_numbers(tmp_path, mode, name):
    with pytest.raises(ValueError, match=rf"mask .*\b{name}.*mode is {mode}\b.*grey or a palette"):
        open_mask(saved(Image.new(mode, (3, 2)), tmp_path / name))


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("size, method", [((5, 7), "crop"), ((40, 64), "crop"), ((9, 30), "pad"),
                                          ((50, 20), "pad"), ((8, 8), "squish"),
                                          ((33, 47), "squish"), ((20, 30), "crop")])
def test_a_mask_is_never_interpolated(tmp_path, mode, size, method):
    # Between 3 and 90 lie many numbers, and after any resizing none of them is there.
    rng = numpy.random.default_rng(0)
    values = rng.choice([3, 90, 201], (20, 30))
    mask = open_mask(mask_of(values, tmp_path / "a.png", mode), size, method, (0.2, 0.9))
    assert tuple(mask.shape) == size and set(mask.unique().tolist()) == {3, 90, 201}


def test_the_nearest_pixel_is_the_one_in_which_the_middle_of_the_new_one_lies(tmp_path):
    # 6 columns as 3: the middles are at 1, 3, 5 of 0..6, in columns 1, 3, 5; as 4: .75 2.25 3.75
    # 5.25; 5 rows as 1: the middle is at 2.5, in row 2
    values = numpy.arange(30).reshape(5, 6)
    file = mask_of(values, tmp_path / "a.png")
    assert open_mask(file, (5, 4), "squish")[0].tolist() == [0, 2, 3, 5]
    assert open_mask(file, (1, 3), "squish").tolist() == [[13, 15, 17]]


@pytest.mark.parametrize("size, method", [((8, 12), "crop"), ((16, 8), "crop"), ((20, 12), "pad"),
                                          ((8, 8), "squish")])
def test_a_mask_stays_on_its_picture(tmp_path, size, method):
    # Two halves of one colour each: where the picture is all black or all white, so is the mask.
    values = numpy.zeros((32, 48), dtype=numpy.uint8)
    values[10:, 20:] = 1
    picture = saved(from_array(values * 255), tmp_path / "a.png")
    x = open_image(picture, size, method, (0.3, 0.8))[0]
    y = open_mask(mask_of(values, tmp_path / "a_P.png"), size, method, (0.3, 0.8))
    assert not y[x == 0].any() and y[x == 255].all() and 0 < y.float().mean() < 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_is_turned_as_its_camera_says(tmp_path, orientation):
    picture = Image.fromarray(numpy.array([[1, 2, 3]], dtype=numpy.uint8))
    mask = open_mask(saved(picture, tmp_path / "a.png", orientation))
    assert mask.tolist() == ([[3, 2, 1]] if orientation == 3 else [[1], [2], [3]])


def test_a_mask_that_cannot_be_read_is_refused_as_a_mask(tmp_path):
    with pytest.raises(ValueError, match=r"mask .*\bnone\.png does not exist"):
        open_mask(tmp_path / "none.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"mask .*\ba\.png is an empty file"):
        open_mask(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no mask")
    with pytest.raises(ValueError, match=r"mask .*\bb\.png cannot be read"):
        open_mask(tmp_path / "b.png")


def test_image_size_is_rows_and_columns_upright(tmp_path):
    file = saved(Image.new("RGB", (30, 20)), tmp_path / "a.jpg", 6)
    assert image_size(file) == (30, 20)
    assert image_size(str(saved(Image.new("L", (30, 20)), tmp_path / "b.png"))) == (20, 30)
    with pytest.raises(ValueError, match=r"picture .*\bnone\.png"):
        image_size(tmp_path / "none.png")
