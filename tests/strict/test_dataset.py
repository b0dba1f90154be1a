from pathlib import Path

import numpy
from PIL import ExifTags, Image
import pytest
import torch

from minifast.dataset import Dataset
from minifast.targets import Categories, Masks


def numbered(folder: Path) -> list[Path]:
    """Pictures (12, 4): row r is 10 r in red, column c 10 c in green, file number n is n in blue.
    """
    paths = [folder / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        pixels = numpy.zeros((12, 4, 3), dtype=numpy.uint8)
        pixels[:, :, 0] = numpy.arange(12)[:, None] * 10
        pixels[:, :, 1] = numpy.arange(4) * 10
        pixels[:, :, 2] = number
        Image.fromarray(pixels).save(path)
    return paths


def with_masks(folder: Path, *how) -> Dataset:
    """Pictures as `numbered`, whose masks tell the row of each pixel."""
    files = numbered(folder)
    masks = [file.with_name(f"{file.stem}_P.png") for file in files]
    for mask in masks:
        rows = numpy.arange(12, dtype=numpy.uint8)[:, None].repeat(4, axis=1)
        Image.fromarray(rows).save(mask)
    return Dataset(files, masks, Masks([f"row {i}" for i in range(12)]), *how)


def save_again(file: Path, orientation: int, turned: bool = False) -> None:
    """Give a file an EXIF orientation; turned: 90 degrees, so that rows and columns swap."""
    with Image.open(file) as picture:
        pixels = picture.transpose(Image.ROTATE_90) if turned else picture.copy()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels.save(file, exif=exif)


def test_a_dataset_has_a_length_and_pairs_of_picture_and_target(tmp_path):
    dataset = Dataset(numbered(tmp_path), ("low", "high", "low"), Categories(["low", "high"]))
    assert len(dataset) == 3
    for i, wanted in enumerate([0, 1, 0]):
        picture, number = dataset[i]
        assert (picture.dtype, picture.shape) == (torch.uint8, (3, 12, 4))
        assert picture[:, 7, 2].tolist() == [70, 20, i] and int(number) == wanted


def test_a_dataset_without_labels_gives_empty_targets(tmp_path):
    picture, target = Dataset(numbered(tmp_path), target=Categories(["low"]))[2]
    assert int(picture[2, 0, 0]) == 2
    assert target.numel() == 0 and isinstance(target, torch.Tensor)


def test_nothing_is_random_and_a_cut_is_central(tmp_path):
    dataset = Dataset(numbered(tmp_path), size=(4, 4))          # of 12 rows, (12 - 4 + 1) // 2 = 4
    for _ in range(3):
        assert dataset[1][0][0, :, 0].tolist() == [40, 50, 60, 70]


@pytest.mark.parametrize("how, rows, columns", [
    ((None, "crop"), range(12), [0, 1, 2, 3]),
    (((4, 4), "crop"), [4, 5, 6, 7], [0, 1, 2, 3]),
    (((12, 2), "squish"), range(12), None)])
def test_picture_and_mask_get_to_the_same_size_in_the_same_way(tmp_path, how, rows, columns):
    picture, mask = with_masks(tmp_path, *how)[1]
    assert mask.dtype == torch.int64 and torch.equal(mask * 10, picture[0].long())
    assert mask[:, 0].tolist() == [*rows]
    assert columns is None and picture.shape == (3, 12, 2) or (
        picture[1, 0].tolist() == [10 * column for column in columns])


@pytest.mark.parametrize("broken", ["1.png", "1_P.png"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, broken):
    dataset = with_masks(tmp_path, (4, 4))
    (tmp_path / broken).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"\b{broken}"):
        dataset[1]
    dataset[0]


@pytest.mark.parametrize("size", [None, (4, 4)])
@pytest.mark.parametrize("name, rows", [("1.png", (12, 11)), ("1_P.png", (11, 12))])
def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path, name, rows, size):
    dataset = with_masks(tmp_path, size)
    with Image.open(tmp_path / name) as picture:
        picture.resize((4, 11)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"\b1_P\.png.*%d.*\b1\.png.*%d.*EXIF" % rows):
        dataset[1]
    save_again(tmp_path / name, 6)                              # a quarter turn: 4 rows, 11 columns
    with pytest.raises(ValueError, match=r"\(4, 11\).*EXIF"):
        dataset[1]
