from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor

from minifast.datablock import ImageList, SegmentationList
from minifast.targets import Categories, Masks, Tags

CPU = torch.device("cpu")
ROWS = ["a,road haze", "b,sea", "c,road", "d,sea haze"]


def save(file: Path, grey: int = 0) -> None:
    """A picture of 4 rows and 6 columns, all of one grey."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 4), grey).save(file)


@pytest.fixture
def tiles(tmp_path) -> ImageList:
    """Four pictures a, b, c, d with the greys 0, 1, 2, 3, as a CSV lists them with their tags."""
    for i, name in enumerate("abcd"):
        save(tmp_path / "jpg" / f"{name}.png", i)
    (tmp_path / "tags.csv").write_text("\n".join(["name,tags", *ROWS]) + "\n")
    return ImageList.from_csv(tmp_path, "tags.csv", folder="jpg", suffix=".png")


@pytest.fixture
def streets(tmp_path) -> ImageList:
    """Three pictures with masks: the class of each pixel is the number of its picture."""
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", i)
        save(tmp_path / "labels" / f"{i}_P.png", i)
    return SegmentationList.from_folder(tmp_path / "images").split_by_idx([2])


def mask_of(file: Path) -> Path:
    return file.parents[1] / "labels" / f"{file.stem}_P.png"


def minus(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return -x, y


def names(files: list[Path]) -> str:
    return "".join(file.stem for file in files)


# Step 1: files

def test_a_csv_lists_the_pictures_in_its_order(tiles, tmp_path):
    assert names(tiles.files) == "abcd" and tiles.files[0] == tmp_path / "jpg" / "a.png"
    (tmp_path / "more.csv").write_text("tag,file\nx,d.png\ny,b.png\n")
    for column in (1, "file"):
        found = ImageList.from_csv(tmp_path, "more.csv", folder="jpg", column=column)
        assert names(found.files) == "db"


def test_a_folder_is_searched_for_pictures(tmp_path):
    for name in ("b/1.png", "a.png", "b/c/2.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert names(ImageList.from_folder(tmp_path).files) == "a12"


def test_pictures_can_be_left_out(tiles):
    kept = tiles.filter_by_func(lambda file: file.stem != "b").split_none().label_from_csv(" ")
    assert names(kept.files) == "acd" and kept.labels[1] == ["road"]


# Step 2: split

def test_a_seed_draws_the_pictures_for_validation(tiles):
    drawn = numpy.random.RandomState(7).permutation(4).tolist()
    split = tiles.split_by_rand_pct(0.5, seed=7)
    assert list(split.valid) == drawn[:2] and list(split.train) == sorted(drawn[2:])


def test_pictures_for_validation_can_be_numbered_or_listed(tiles, tmp_path):
    by_number = tiles.split_by_idx([2, 0])
    assert by_number.train == (1, 3) and by_number.valid == (2, 0)
    (tmp_path / "valid.txt").write_text("c.png\n\na.png\n")
    by_name = tiles.split_by_fname_file("valid.txt")
    assert by_name.train == (1, 3) and by_name.valid == (0, 2)
    assert tiles.split_none().train == (0, 1, 2, 3) and tiles.split_none().valid == ()
    with pytest.raises(ValueError):
        tiles.split_by_idx([4])


def test_folders_can_divide_and_label_pictures(tmp_path):
    for name in ("train/cat/1.png", "train/dog/2.png", "val/dog/3.png"):
        save(tmp_path / name)
    src = ImageList.from_folder(tmp_path).split_by_folder(valid="val").label_from_folder()
    assert src.train == (0, 1) and src.valid == (2,)
    assert src.labels == ("cat", "dog", "dog") and src.target == Categories(["cat", "dog"])


# Step 3: labels

def test_tags_come_from_a_column_of_the_csv(tiles):
    src = tiles.split_by_idx([0]).label_from_csv(label_delim=" ")
    assert src.target == Tags(["haze", "road", "sea"])
    assert src.labels[0] == ["haze", "road"] and src.labels[1] == ["sea"]


def test_without_a_delimiter_a_field_is_one_class(tiles):
    src = tiles.split_by_idx([0]).label_from_csv()              # training never sees road haze
    assert src.target == Categories(["road", "road haze", "sea", "sea haze"])


def test_a_function_tells_the_label_of_a_file(tiles):
    src = tiles.split_none().label_from_func(lambda file: file.stem, classes=["d", "c", "b", "a"])
    assert src.target == Categories(["d", "c", "b", "a"])
    assert [src.databunch(device=CPU).train_ds[i][1].item() for i in range(4)] == [3, 2, 1, 0]
    with pytest.raises(ValueError):
        tiles.split_none().label_from_func(lambda file: file.stem, classes=["a", "b"])


def test_the_label_can_be_the_file_of_a_mask(streets):
    src = streets.label_from_func(mask_of, classes=["sky", "road", "car"])
    assert src.target == Masks(["sky", "road", "car"])
    picture, mask = src.databunch(device=CPU).valid_ds[0]
    assert mask.shape == (4, 6) and mask.unique().tolist() == [2] == picture.unique().tolist()
    with pytest.raises(ValueError):
        streets.label_from_func(mask_of)                        # which number is which class?
    with pytest.raises(ValueError):
        streets.label_from_func(lambda file: file.with_suffix(".tif"), classes=["sky", "road"])


# Steps 4, 5, 6: transform, test set, loaders

def test_pictures_get_one_size(tiles):
    src = tiles.split_none().label_from_csv(" ")
    for size, wanted, method in ((3, (3, 3), "crop"), ((2, 6), (2, 6), "squish")):
        sized = src.transform(size=size)
        assert (sized.size, sized.method) == (wanted, method)
        assert sized.databunch(device=CPU).train_ds[0][0].shape == (3, *wanted)
    with pytest.raises(ValueError):
        src.transform(size=(4, 0))


def test_a_test_folder_has_pictures_without_labels(tiles):
    src = tiles.split_none().label_from_csv(" ").add_test_folder("jpg").add_test_folder("jpg")
    test_ds = src.databunch(device=CPU).test_dl.dataset
    assert names(test_ds.files) == "abcdabcd" and test_ds[1][1].shape == (0,)


def test_the_loaders_get_their_pictures_and_transforms(tiles):
    src = tiles.split_by_idx([3, 2]).label_from_csv(" ").transform(minus)
    data = src.databunch(bs=2, val_bs=3, device=CPU, seed=5)
    assert names(data.train_ds.files) == "ab" and names(data.valid_ds.files) == "dc"
    assert data.train_ds[0][1].tolist() == [1, 1, 0] and data.train_dl.seed == 5
    assert data.one_batch()[0].mul(255).round().unique().tolist() == [-1, 0]
    assert data.one_batch(train=False)[0].mul(255).round().unique().tolist() == [2, 3]


def test_a_step_changes_no_list_and_comes_in_order(tiles):
    split = tiles.split_none()
    split.label_from_csv(" ").transform(size=3)
    assert tiles.train is None and split.labels is None
    for too_early in (lambda: tiles.label_from_csv(" "), lambda: split.transform(size=3),
                      lambda: split.add_test_folder("jpg"), split.databunch):
        with pytest.raises(ValueError):
            too_early()
