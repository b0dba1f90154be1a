from pathlib import Path
import re
import struct

import numpy
from PIL import Image, JpegImagePlugin
from PIL.ExifTags import Base
import pytest
import torch

from minifast.images import (cropped, header, image_size, open_image, open_mask, scaled_size,
                             to_pil)

ORANGE, IN_GREY = (200, 100, 50), (124, 124, 124)       # .299 * 200 + .587 * 100 + .114 * 50


def saved(picture: Image.Image, path: Path, orientation: int | None = None, **options) -> Path:
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][Base.Orientation] = orientation
    picture.save(path, **options)
    return path


def from_array(values: list | numpy.ndarray, dtype: str = "uint8") -> Image.Image:
    return Image.fromarray(numpy.array(values, dtype=dtype))


def noise(mode: str = "RGB") -> Image.Image:
    pixels = numpy.random.default_rng(0).integers(0, 256, (40, 48, 3))
    return from_array(pixels).convert(mode)


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
    ("L", "a.png", IN_GREY), ("L", "a.jpg", IN_GREY), ("LA", "a.png", IN_GREY),
    ("P", "a.png", (204, 102, 51)), ("P", "a.gif", (204, 102, 51)), ("P", "a.bmp", (204, 102, 51)),
    ("RGB", "a.png", ORANGE), ("RGB", "a.bmp", ORANGE), ("RGB", "a.jpg", ORANGE),
    ("RGB", "a.ppm", ORANGE), ("RGBA", "a.png", ORANGE), ("RGBA", "a.tif", ORANGE),
    ("CMYK", "a.jpg", ORANGE), ("CMYK", "a.tif", ORANGE), ("YCbCr", "a.jpg", ORANGE),
    ("LAB", "a.tif", ORANGE), ("F", "a.tif", IN_GREY)])
def test_a_file_of_any_mode_becomes_rgb(tmp_path, mode, name, wanted):
    # 204, 102, 51 is the nearest colour of Pillow's fixed palette; JPEG loses a little
    pixels = open_image(saved(Image.new("RGB", (3, 2), ORANGE).convert(mode), tmp_path / name))
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (3, 2, 3))
    assert pixels[:, 1, 2].tolist() == pytest.approx(wanted, abs=2) and pixels.is_contiguous()


@pytest.mark.parametrize("dtype, name, values, wanted", [
    ("bool", "a.png", [0, 1], [0, 255]),
    ("uint16", "a.png", [0, 255, 256, 32768, 65535], [0, 0, 1, 128, 255]),      # 128 * 256 = 32768
    ("uint16", "a.tif", [0, 255, 256, 32768, 65535], [0, 0, 1, 128, 255]),
    ("int32", "a.tif", [-70000, -1, 512, 65535, 70000], [0, 0, 2, 255, 255])])
def test_bits_become_black_and_white_and_of_16_bits_the_upper_8_stay(tmp_path, dtype, name, values,
                                                                     wanted):
    pixels = open_image(saved(from_array([values], dtype), tmp_path / name))
    assert pixels.tolist() == [[wanted]] * 3


# A picture that you opened yourself

@pytest.mark.parametrize("name, orientation", [("a.jpg", 6), ("a.png", 6), ("a.gif", None)])
@pytest.mark.parametrize("read", [open_image, open_mask, image_size, header])
def test_an_opened_picture_is_read_as_its_file_and_stays_as_it_was(tmp_path, name, orientation,
                                                                   read):
    path = saved(noise("L"), tmp_path / name, orientation)
    with Image.open(path) as yours, Image.open(path) as other:
        if read in (open_image, open_mask):
            assert read(yours, (8, 10)).shape[-2:] == (8, 10)           # not decoded at 1/4
            assert read(yours).equal(read(path))
            read(yours).zero_()                                         # memory of its own
        else:
            assert read(yours) == read(path)
        assert (yours.size, yours.tobytes()) == ((48, 40), other.tobytes())
        assert dict(yours.getexif()) == dict(other.getexif())


def test_the_file_of_an_opened_picture_stays_open_and_at_its_frame(tmp_path):
    path, frames = tmp_path / "a.tif", [Image.new("L", (4, 3), grey) for grey in (10, 20, 30)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with open(path, "rb") as file, Image.open(path) as by_path, Image.open(file) as by_file:
        for picture in (by_path, by_file):
            picture.seek(1)
            for read in (open_image, open_mask):
                assert read(picture).unique().tolist() == [20] and image_size(picture) == (3, 4)
            picture.seek(2)
            assert picture.getpixel((0, 0)) == 30


# EXIF orientation: where the file's top left corner belongs, and whether rows become columns

ORIENTATIONS = {1: ("top left", False), 2: ("top right", False), 3: ("bottom right", False),
                4: ("bottom left", False), 5: ("top left", True), 6: ("top right", True),
                7: ("bottom right", True), 8: ("bottom left", True)}


def lit_corner(pixels: torch.Tensor) -> str:
    """The quarter of a picture (3, h, w) or a mask (h, w) in which its first brightest pixel is."""
    h, w = pixels.shape[-2:]
    row, column = divmod(int(pixels.reshape(-1, h * w).float().mean(0).argmax()), w)
    return ("top " if row < h / 2 else "bottom ") + ("left" if column < w / 2 else "right")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pictures_and_masks_are_turned_as_the_camera_says(tmp_path, orientation):
    picture, (corner, turned) = Image.new("L", (5, 3)), ORIENTATIONS[orientation]
    picture.putpixel((0, 0), 255)
    path, size = saved(picture, tmp_path / "a.png", orientation), (5, 3) if turned else (3, 5)
    assert header(path) == (size, orientation) and image_size(path) == size
    for pixels in (open_image(path), open_mask(path)):
        assert pixels.shape[-2:] == size and lit_corner(pixels) == corner
        assert (pixels > 0).float().mean() == pytest.approx(1 / 15)
    assert open_mask(path, (10, 8), "squish").shape == (10, 8)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_jpeg_is_decoded_at_a_quarter_of_its_size(tmp_path, decoded, orientation):
    picture, (corner, turned) = Image.new("L", (128, 64)), ORIENTATIONS[orientation]
    picture.paste(255, (0, 0, 64, 32))
    path = saved(picture, tmp_path / "a.jpg", orientation, quality=95)
    pixels = open_image(path, (32, 16) if turned else (16, 32))
    assert decoded == {(32, 16)} and lit_corner(pixels) == corner       # before it is turned
    assert (pixels[0] > 127).float().mean() == pytest.approx(1 / 4, abs=0.05)


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack(">HHII", tag, kind, count, value)


def exif(*entries: bytes) -> bytes:
    """An EXIF block: the header of a big-endian TIFF, whose directory begins at byte 8."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries)


TURN = entry(Base.Orientation, 3, 1, 6 << 16)                           # kind 3: 16 bits
BROKEN = {"zeros": b"Exif\0\0" + b"\0" * 32, "ends in its header": b"Exif\0\0MM\0*\0",
          "ends in its directory": exif(TURN)[:-6],
          "no number": exif(entry(Base.Orientation, 3, 0, 0)),
          "a text": exif(entry(Base.Orientation, 2, 2, ord("6") << 24)),
          "number 9": exif(entry(Base.Orientation, 3, 1, 9 << 16))}
BESIDES = {"nothing": exif(TURN), "no kind": exif(entry(Base.Make, 99, 1, 0), TURN),
           "a text longer than the block": exif(TURN, entry(Base.Software, 2, 9999, 9999)),
           "a resolution beyond the end": exif(TURN, entry(Base.XResolution, 5, 1, 9999))}


@pytest.mark.filterwarnings("ignore")                                   # Pillow's, of corrupt data
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("block", BROKEN | BESIDES)
def test_broken_exif_means_upright_unless_its_orientation_can_be_read(tmp_path, name, block):
    # With dpi: without, Pillow reads the block as soon as it opens a JPEG, and forgives.
    path = saved(Image.new("L", (5, 3), 7), tmp_path / name, exif=(BROKEN | BESIDES)[block],
                 dpi=(72, 72))
    size, orientation = ((5, 3), 6) if block in BESIDES else ((3, 5), 1)
    assert header(path) == (size, orientation)
    for pixels in (open_image(path), open_mask(path)):
        assert pixels.shape[-2:] == size and (pixels == 7).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_turned_tiff_is_turned_once(tmp_path, mode, compression):
    values = numpy.arange(15).reshape(3, 5) * 10
    picture, turned = from_array(values).convert(mode), values[::-1].T.tolist()     # to the right
    path = saved(picture, tmp_path / "a.tif", 6, compression=compression)
    assert image_size(path) == (5, 3) and header(path) == ((5, 3), 1)   # Pillow turned it already
    assert open_image(path).tolist() == [turned] * 3
    assert open_image(path, (5, 1))[0].tolist() == [row[1:2] for row in turned]
    if mode != "RGB":
        assert open_mask(path).tolist() == turned
        assert open_mask(path, (10, 6))[::2, ::2].tolist() == turned


# To another size

@pytest.mark.parametrize("have, size, method, wanted", [
    ((101, 67), (32, 32), "crop", (48, 32)), ((67, 101), (32, 32), "crop", (32, 48)),   # v1's
    ((101, 67), (32, 32), "squish", (32, 32)), ((100, 200), [10, 20], "squish", (10, 20)),
    ((2, 5), (1, 1), "crop", (1, 2)), ((5, 2), (1, 1), "crop", (2, 1)),     # 2.5: half to even
    ((2, 7), (1, 1), "crop", (1, 4)),                                       # 3.5
    ((100, 200), (50, 50), "crop", (50, 100)), ((100, 200), (50, 20), "crop", (50, 100)),
    ((10, 20), (40, 40), "crop", (40, 80)), ((10, 10), (1, 1), "crop", (1, 1))])
def test_scaled_size_by_hand(have, size, method, wanted):
    assert scaled_size(have, size, method) == wanted


@pytest.mark.parametrize("refusing", [lambda method: scaled_size((9, 9), (5, 5), method),
                                      lambda method: open_image(noise(), (8, 8), method),
                                      lambda method: open_mask(noise("L"), (8, 8), method)])
def test_an_unknown_method_is_refused(refusing):
    with pytest.raises(ValueError, match=r"sqish.*squish"):
        refusing("sqish")


TALL = numpy.array([[10 * row + column for column in range(5)] for row in range(8)])


@pytest.mark.parametrize("rows, first", [(8, 0), (7, 1), (6, 1), (5, 2), (1, 4)])
def test_pixels_are_cut_from_the_centre(rows, first):                   # (8 - rows + 1) // 2
    rgb = numpy.stack([TALL, TALL + 100, TALL + 200])                   # (3, 8, 5)
    for size in [(rows, 2), [rows, 2]]:
        assert cropped(rgb, size).tolist() == rgb[:, first:first + rows, 2:4].tolist()
    assert cropped(TALL.T, (5, rows)).tolist() == TALL.T[:, first:first + rows].tolist()
    assert cropped(rgb, None).tolist() == rgb.tolist()


def test_a_picture_is_cropped_in_the_centre_unless_told_otherwise():
    picture = from_array([[10 * row] * 4 for row in range(8)])
    assert open_image(picture, (4, 4))[0, :, 3].tolist() == [20, 30, 40, 50]
    assert open_mask(picture, (4, 4))[:, 3].tolist() == [20, 30, 40, 50]
    squished = open_image(picture, (4, 4), "squish")[0]                 # means of about two rows
    assert squished[:, 3].tolist() == pytest.approx([5, 25, 45, 65], abs=4)


def test_shrinking_averages_and_enlarging_is_bilinear():
    board = from_array(numpy.indices((64, 64)).sum(axis=0) % 2 * 255)
    for size in (16, 32):
        assert (open_image(board, (size, size))[:, 2:-2, 2:-2].int() - 127).abs().max() <= 3
    # two pixels to four: their centres lie at 1 and 3; at .5, 1.5, 2.5, 3.5 are 0 1/4 3/4 1
    small = open_image(from_array([[0, 100], [0, 100]]), (2, 4), "squish")
    assert small[0].tolist() == [[0, 25, 75, 100]] * 2


@pytest.mark.parametrize("size, method, orientation, wanted", [
    ((120, 128), "squish", 1, (128, 120)),                              # just half of 240 x 256
    ((121, 128), "squish", 1, (256, 240)),                              # one row more than half
    ((120, 129), "squish", 1, (256, 240)), ((128, 120), "squish", 6, (128, 120)),
    ((120, 128), "squish", 6, (256, 240)),                              # upright it is 256 x 240
    ((60, 60), "crop", 1, (64, 60)), ((30, 20), "crop", 1, (32, 30)),
    (None, "crop", 1, (256, 240)), (None, "squish", 6, (256, 240))])
def test_a_jpeg_is_decoded_at_reduced_scale_where_that_is_still_enough(
        tmp_path, decoded, size, method, orientation, wanted):
    open_image(saved(Image.new("L", (256, 240)), tmp_path / "a.jpg", orientation), size, method)
    assert decoded == {wanted}


def test_the_cut_is_the_same_part_of_the_picture_at_reduced_scale(tmp_path, decoded):
    # A ramp: column x has the brightness x. 243 rows to 48: 256 columns become 51 (5.02 to one),
    # The cut takes 48 of them, from (51 - 48 + 1) // 2 = 2 on, although a quarter is decoded.
    path = saved(from_array([list(range(256))] * 243), tmp_path / "a.jpg", quality=95)
    wanted = (torch.arange(2, 50) + 0.5) * 256 / 51 - 0.5
    assert (open_image(path, (48, 48))[0, 24] - wanted).abs().max() < 1.5
    assert decoded == {(64, 61)}


# Files that cannot be read

@pytest.mark.parametrize("read, what", [(open_image, "picture"), (open_mask, "mask"),
                                        (image_size, "file"), (header, "file")])
def test_what_cannot_be_read_is_refused_by_its_name(tmp_path, read, what, monkeypatch):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("image_name,tags")
    (tmp_path / "folder.png").mkdir()
    saved(noise("L"), tmp_path / "huge.png")                    # so large that it may be an attack
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("missing", "empty", "text", "folder", "huge"):
        with pytest.raises(ValueError, match=rf"\b{what}\b.*\b{name}\.png"):
            read(str(tmp_path / f"{name}.png"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif", "a.gif"])
@pytest.mark.parametrize("read", [open_image, open_mask])
def test_a_truncated_file_is_refused(tmp_path, name, read):
    path = saved(noise("L"), tmp_path / name)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    for size in (None, (8, 8)):
        with pytest.raises(ValueError, match=rf"\b{re.escape(name)}"):
            read(path, size)


# From a tensor to a picture

def test_to_pil_undoes_open_image_and_takes_floats_as_0_to_1_clipped_and_rounded():
    picture = to_pil(open_image(noise()))
    assert (picture.mode, picture.size) == ("RGB", (48, 40))
    assert picture.tobytes() == noise().tobytes()
    values = torch.tensor([-0.5, 0, 1.4 / 255, 1.6 / 255, 0.2, 0.6, 1, 7])      # .2 * 255 = 51
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        picture = to_pil(values.to(kind).expand(3, 1, 8))               # in bfloat16 .2002, .6016
        assert numpy.array(picture)[0, :, 1].tolist() == [0, 0, 1, 2, 51, 153, 255, 255]


# Masks

def mask_of(values: list | numpy.ndarray, mode: str = "L") -> Image.Image:
    """In mode P class k has the colour (200 - k, 0, k), in which no number shows."""
    picture = from_array(values)
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([part for k in range(256) for part in ((200 - k) % 256, 0, k)])
    return picture


@pytest.mark.parametrize("picture, name, options", [
    (mask_of([[0, 1, 15, 11]]), "a.png", {}), (mask_of([[0, 1, 15, 11]]), "a.tif", {}),
    (mask_of([[0, 1, 15, 11]], "P"), "a.png", {}), (mask_of([[0, 1, 15, 11]], "P"), "a.bmp", {}),
    (mask_of([[0, 1, 15, 11]], "P"), "a.png", {"bits": 4}),
    (from_array([[0, 256, 999, 3]], "uint16"), "a.png", {}),
    (from_array([[0, 256, 999, 3]], "uint16"), "a.tif", {}),
    (from_array([[0, 256, 70000, 3]], "int32"), "a.tif", {})])
def test_a_mask_is_the_numbers_of_grey_and_palette_pictures_alike(tmp_path, picture, name, options):
    values, file = numpy.array(picture), saved(picture, tmp_path / name, **options)
    assert open_mask(file).dtype == torch.int64 and open_mask(file).tolist() == values.tolist()
    assert open_mask(str(file), (2, 8), "squish").tolist() == values.repeat(2, 1).tolist() * 2


def test_div_turns_0_and_255_and_nothing_else_into_classes_0_and_1(tmp_path):
    for picture in (mask_of([[0, 255], [255, 255]]), from_array([[0, 1], [1, 1]], "bool")):
        mask = open_mask(picture, div=True)
        assert mask.dtype == torch.int64 and mask.tolist() == [[0, 1], [1, 1]]
        assert open_mask(picture).tolist() == [[0, 255], [255, 255]]
    for wrong in (-1, 1, 7, 256, 510):
        file = saved(from_array([[0, 255, wrong]], "int32"), tmp_path / "a.tif")
        with pytest.raises(ValueError, match=rf"mask .*\ba\.tif.*{wrong}\b"):
            open_mask(file, div=True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F", "CMYK"])
def test_colours_are_no_class_numbers(tmp_path, mode):
    with pytest.raises(ValueError, match=rf"mask .*\ba\.tif.*\b{mode}\b"):
        open_mask(saved(Image.new(mode, (3, 2)), tmp_path / "a.tif"))


def test_the_nearest_pixel_is_the_one_in_which_the_middle_of_the_new_one_lies():
    # 6 columns as 3: the middles are at 1, 3, 5 of 0..6, in columns 1, 3, 5; as 4: .75 2.25 3.75
    # 5.25; 5 rows as 1: the middle is at 2.5, in row 2
    picture = mask_of(numpy.arange(30).reshape(5, 6))
    assert open_mask(picture, (5, 4), "squish")[0].tolist() == [0, 2, 3, 5]
    assert open_mask(picture, (1, 3), "squish").tolist() == [[13, 15, 17]]


@pytest.mark.parametrize("size", [(8, 12), (16, 8), (20, 12), (9, 60), (40, 64), (33, 47)])
@pytest.mark.parametrize("method", ["crop", "squish"])
def test_a_mask_is_never_interpolated_and_stays_on_its_picture(size, method):
    # Two parts of one colour each: where the picture is all black or all white, so is the mask.
    values = numpy.zeros((32, 48), dtype=numpy.uint8)
    values[10:, 20:] = 255
    x = open_image(from_array(values), size, method)
    for mode in "LP":
        y = open_mask(mask_of(values // 255 * 90 + 3, mode), size, method)
        assert tuple(x.shape) == (3, *size) and y.unique().tolist() == [3, 93]
        assert (y[x[0] == 0] == 3).all() and (y[x[0] == 255] == 93).all()
