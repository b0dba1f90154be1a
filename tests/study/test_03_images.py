from pathlib import Path

import numpy
from PIL import ExifTags, Image
import pytest
import torch

from minifast.images import (cropped, header, image_size, open_image, open_mask, scaled_size,
                             to_pil)

COUNT = numpy.arange(24, dtype=numpy.uint8).reshape(4, 6)       # 4 rows, 6 columns: 0, 1, 2, ...


def saved(pixels: numpy.ndarray, path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def test_a_tensor_becomes_a_picture():
    pixels = torch.tensor([255, 100, 0], dtype=torch.uint8)[:, None, None].expand(3, 2, 5)
    assert to_pil(pixels).size == (5, 2)                        # Pillow: width, then height
    assert to_pil(pixels).getpixel((4, 1)) == (255, 100, 0)
    floats = torch.tensor([-1., 0.2, 7.])[:, None, None]        # 0.2 * 255 = 51
    assert to_pil(floats).getpixel((0, 0)) == (0, 51, 255)


def test_a_file_becomes_a_tensor_channel_row_column(tmp_path):
    pixels = numpy.zeros((4, 6, 3), dtype=numpy.uint8)
    pixels[3, 1] = 10, 20, 30
    x = open_image(saved(pixels, tmp_path / "a.png"))
    assert x.dtype == torch.uint8 and x.shape == (3, 4, 6)
    assert x[:, 3, 1].tolist() == [10, 20, 30] and x.sum() == 60
    assert image_size(tmp_path / "a.png") == (4, 6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_a_picture_of_any_mode_becomes_rgb(tmp_path, mode):
    Image.new("RGB", (6, 4), (51, 102, 204)).convert(mode).save(tmp_path / "a.tif")
    x = open_image(tmp_path / "a.tif")
    grey = round(0.299 * 51 + 0.587 * 102 + 0.114 * 204)
    assert x[:, 0, 0].tolist() == ([grey] * 3 if mode == "L" else [51, 102, 204])


def test_a_camera_that_was_turned_is_turned_back(tmp_path):
    file = saved(COUNT, tmp_path / "a.png", orientation=6)      # a quarter turn to the right
    assert header(file) == ((6, 4), 6) and image_size(file) == (6, 4)
    assert torch.equal(open_image(file)[0], torch.tensor(COUNT).rot90(-1))
    assert torch.equal(open_mask(file), torch.tensor(COUNT).rot90(-1))


def test_a_mask_is_the_class_numbers_of_its_pixels(tmp_path):
    mask = open_mask(saved(COUNT, tmp_path / "a.png"))
    assert mask.dtype == torch.int64 and mask.tolist() == COUNT.tolist()
    palette = Image.fromarray(COUNT, "P")
    palette.putpalette([200] * 72)                              # its colours do not matter
    palette.save(tmp_path / "b.png")
    assert open_mask(tmp_path / "b.png").tolist() == COUNT.tolist()


def test_masks_of_0_and_255_can_be_divided(tmp_path):
    file = saved(numpy.array([[0, 255]], dtype=numpy.uint8), tmp_path / "a.png")
    assert open_mask(file).tolist() == [[0, 255]]
    assert open_mask(file, div=True).tolist() == [[0, 1]]
    with pytest.raises(ValueError):
        open_mask(saved(COUNT, tmp_path / "b.png"), div=True)


@pytest.mark.parametrize("method, wanted", [("crop", (48, 32)), ("squish", (32, 32))])
def test_crop_covers_a_size_and_keeps_the_shape(method, wanted):
    # 101 / 32 = 3.156 and 67 / 32 = 2.094, the smaller one: 101 / 2.094 = 48.2
    assert scaled_size((101, 67), (32, 32), method) == wanted
    assert scaled_size((67, 101), (32, 32), method) == wanted[::-1]


def test_what_is_too_long_is_cut_around_the_centre():
    assert cropped(COUNT, (2, 4)).tolist() == COUNT[1:3, 1:5].tolist()
    assert cropped(COUNT, (1, 6)).tolist() == COUNT[2:3].tolist()       # (4 - 1 + 1) // 2 = 2
    assert cropped(numpy.stack([COUNT] * 3), (2, 4)).shape == (3, 2, 4)
    assert cropped(COUNT, None).tolist() == COUNT.tolist()


def test_a_picture_and_its_mask_come_to_the_size_wanted(tmp_path):
    # 8 rows and 16 columns, which count, to 8 x 8
    file = saved(numpy.arange(16, dtype=numpy.uint8)[None].repeat(8, 0), tmp_path / "a.png")
    rows = {"crop": [4, 5, 6, 7, 8, 9, 10, 11],                 # 4 columns less on each side
            "squish": [1, 3, 5, 7, 9, 11, 13, 15]}              # each second column
    for method, row in rows.items():
        x, mask = open_image(file, (8, 8), method), open_mask(file, (8, 8), method)
        assert x.shape == (3, 8, 8) and mask.tolist() == [row] * 8
        assert (x - mask).float().abs().max() <= 1


def test_a_picture_shrinks_by_averages_and_a_mask_by_its_nearest_pixels(tmp_path):
    board = numpy.indices((64, 64)).sum(0) % 2 * 3              # a board of 0 and 3
    file = saved(board.astype(numpy.uint8), tmp_path / "a.png")
    assert (open_image(file, (16, 16))[:, 2:-2, 2:-2].float() - 1.5).abs().max() <= 1
    assert set(open_mask(file, (16, 16)).unique().tolist()) <= {0, 3}


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(COUNT, tmp_path / "b.png").read_bytes()[:60])
    for name in ("a.png", "missing.png"):
        with pytest.raises(ValueError):
            open_image(tmp_path / name)
        with pytest.raises(ValueError):
            open_mask(tmp_path / name)
    with pytest.raises(ValueError):
        open_image(tmp_path / "b.png", (2, 2), "stretch")
