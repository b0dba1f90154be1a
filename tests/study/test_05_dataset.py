from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch

from minifast.dataset import Dataset
from minifast.targets import Categories, Masks, Tags


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Three pictures, 4 rows and 6 columns: each pixel has its column, its row, and the file's
    number as red, green and blue."""
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        rows, columns = numpy.indices((4, 6))
        pixels = numpy.stack([columns, rows, numpy.full((4, 6), number)], axis=2)
        Image.fromarray(pixels.astype(numpy.uint8)).save(file)
    return files


@pytest.fixture
def masks(tmp_path) -> list[Path]:
    """A mask for each of the pictures: each pixel has its column."""
    masks = [tmp_path / f"{number}_mask.png" for number in range(3)]
    for mask in masks:
        Image.fromarray(numpy.indices((4, 6))[1].astype(numpy.uint8)).save(mask)
    return masks


def test_a_data_set_has_a_length(files):
    assert len(Dataset(files)) == 3 and len(Dataset(files[:1])) == 1


def test_an_item_is_a_picture_and_its_target(files):
    picture, target = Dataset(files, ["low", "high", "low"], Categories(["high", "low"]))[2]
    assert picture.dtype == torch.uint8 and picture.shape == (3, 4, 6)
    assert picture[:, 3, 5].tolist() == [5, 3, 2] and target == 1


def test_the_kind_of_target_encodes_the_label(files):
    labels = [["road"], [], ["sea", "road"]]
    dataset = Dataset(files, labels, Tags(["road", "sea"]))
    assert [target.tolist() for _, target in (dataset[0], dataset[1], dataset[2])] == [
        [1, 0], [0, 0], [1, 1]]


def test_without_labels_the_target_is_empty(files):
    picture, target = Dataset(files)[1]
    assert picture[2].unique().tolist() == [1] and target.shape == (0,)


def test_a_picture_comes_to_the_size_and_by_the_method_wanted(files):
    cropped, _ = Dataset(files, size=(4, 4))[0]
    assert cropped[0, 0].tolist() == [1, 2, 3, 4]               # the central columns
    squished, _ = Dataset(files, size=(4, 3), method="squish")[0]
    assert squished.shape == (3, 4, 3) and squished[0, 0].tolist() != [1, 2, 3]


def test_a_mask_comes_to_the_same_size_as_its_picture(files, masks):
    for size, method in ((None, "crop"), ((4, 4), "crop"), ((8, 6), "squish")):
        picture, mask = Dataset(files, masks, Masks(list("abcdef")), size, method)[0]
        assert mask.dtype == torch.int64 and torch.equal(mask, picture[0].long())


def test_an_item_is_always_the_same(files):
    dataset = Dataset(files, size=(3, 3))
    assert torch.equal(dataset[1][0], dataset[1][0])


def test_a_file_that_cannot_be_read_is_refused_when_it_is_needed(files):
    files[1].write_bytes(b"no picture")
    dataset = Dataset(files)
    dataset[0], dataset[2]
    with pytest.raises(ValueError):
        dataset[1]


def test_a_mask_of_another_size_is_refused(files, masks):
    Image.new("L", (4, 6)).save(masks[1])                       # 6 rows and 4 columns
    dataset = Dataset(files, masks, Masks(list("abcdef")), (4, 4))
    dataset[0]
    with pytest.raises(ValueError):
        dataset[1]
