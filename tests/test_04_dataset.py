from math import log
from pathlib import Path
import warnings

import numpy
from PIL import Image, JpegImagePlugin
import pytest
import torch

from minifast.dataset import Categories, Dataset, Tags, target_for

FILES = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]


def numbered(folder: Path, shape: tuple[int, int] = (12, 4), count: int = 3) -> list[Path]:
    """Pictures (h, w): row r is 10 r in red, column c 10 c in green, file number n is n in blue."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = numpy.zeros((*shape, 3), dtype=numpy.uint8)
        pixels[:, :, 0] = numpy.arange(shape[0])[:, None] * 10
        pixels[:, :, 1] = numpy.arange(shape[1]) * 10
        pixels[:, :, 2] = number
        Image.fromarray(pixels).save(path)
    return paths


def first_row(picture: torch.Tensor) -> int:
    return int(picture[0, 0, 0]) // 10


# One class a picture

def test_a_category_is_the_number_of_its_class():
    target = Categories(["sea", "land", "air"]).encode("land")
    assert (target.dtype, target.ndim, int(target)) == (torch.int64, 0, 1)


def test_an_unknown_category_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"class.*\blnd\b.*\bland\b"):
        Categories(["sea", "land"]).encode("lnd")


def test_the_caption_of_a_category_is_its_class():
    target = Categories(("sea", "land", "air"))
    assert [target.caption(torch.tensor(number)) for number in (2, 0)] == ["air", "sea"]
    assert target.classes == ["sea", "land", "air"]


def test_the_loss_of_categories_is_cross_entropy():
    # -log(3/4) and -log(1/2), mean .4904146
    loss = Categories(["a", "b"]).loss(torch.tensor([[0, log(3)], [5, 5]]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(0.4904146, abs=1e-6)


# Any number of classes a picture

def test_tags_are_a_0_or_a_1_per_class():
    target = Tags(["cloudy", "haze", "road"]).encode(["road", "cloudy"])
    assert target.dtype == torch.float32
    assert target.tolist() == [1, 0, 1]
    assert Tags(["cloudy", "haze"]).encode([]).tolist() == [0, 0]


def test_a_tag_that_stands_twice_counts_once():
    assert Tags(["haze", "road"]).encode(["road", "road"]).tolist() == [0, 1]


def test_an_unknown_tag_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"tag.*\braod\b.*\broad\b"):
        Tags(["haze", "road"]).encode(["haze", "raod"])


def test_the_caption_of_tags_is_those_that_there_are():
    tags = Tags(("cloudy", "haze", "road"))
    assert tags.caption(torch.tensor([1., 0, 1])) == "cloudy;road"
    assert tags.caption(torch.zeros(3)) == ""
    assert tags.classes == ["cloudy", "haze", "road"]


def test_the_loss_of_tags_is_binary_cross_entropy_over_pictures_and_classes():
    logits = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])
    targets = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])
    assert Tags("abcd").loss(logits, targets).item() == pytest.approx(0.7571945, abs=1e-6)


# Which kind of target the labels make

def test_strings_make_categories_with_sorted_classes_of_all_items():
    target = target_for(["sea", "land", "sea"], FILES, train=[0, 1])
    assert isinstance(target, Categories)
    assert target.classes == ["land", "sea"]


def test_lists_of_strings_make_tags_with_sorted_classes_of_all_items():
    target = target_for([["road", "haze"], ["haze"], []], FILES, train=[0, 1, 2])
    assert isinstance(target, Tags)
    assert target.classes == ["haze", "road"]


def test_classes_that_are_given_keep_their_order():
    target = target_for(["sea", "land"], FILES[:2], train=[0, 1], classes=("sea", "land"))
    assert target.classes == ["sea", "land"]


def test_a_class_that_only_validation_has_is_kept_and_warned_of():
    with pytest.warns(UserWarning, match=r"^(?!.*\bsea\b).*\bair\W+land\b"):
        target = target_for(["sea", "land", "air"], FILES, train=[0])
    assert target.classes == ["air", "land", "sea"]
    with pytest.warns(UserWarning, match=r"^(?!.*\bhaze\b).*\broad\b"):
        assert target_for([["haze"], ["haze", "road"]], FILES[:2], train=[0]).classes == [
            "haze", "road"]


def test_a_class_that_no_item_has_is_warned_of():
    with pytest.warns(UserWarning, match=r"^(?!.*\b(sea|land)\b).*\bfire\b"):
        target_for(["sea", "land"], FILES[:2], train=[0, 1], classes=["sea", "fire", "land"])


def test_there_is_no_warning_where_training_has_every_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target_for(["sea", "land", "sea"], FILES, train=[1, 2])
        target_for([["haze"], ["haze", "road"]], FILES[:2], train=[1])


def test_a_class_that_is_not_among_those_given_is_refused_with_its_file():
    with pytest.raises(ValueError, match=r"\bb\.jpg.*\bair\b.*\bsea\W+land\b"):
        target_for(["sea", "air", "land"], FILES, train=[0, 1, 2], classes=["sea", "land"])


def test_tags_that_are_not_among_those_given_are_refused_with_their_file():
    with pytest.raises(ValueError, match=r"\bc\.jpg.*\b(fire\W+smoke|smoke\W+fire)\b.*\bhaze\b"):
        target_for([["haze"], [], ["smoke", "haze", "fire"]], FILES, train=[0, 1, 2],
                   classes=["haze"])


def test_an_empty_class_is_refused_with_its_file():
    with pytest.raises(ValueError, match=r"\bb\.jpg.*(''|empty)"):
        target_for(["sea", "", "sea"], FILES, train=[0, 1, 2])
    with pytest.raises(ValueError, match=r"\ba\.jpg.*(''|empty)"):
        target_for([["haze", ""], ["road"]], FILES[:2], train=[0, 1], classes=["", "haze", "road"])


# The data set

def test_a_dataset_has_a_length_and_pairs_of_picture_and_target(tmp_path):
    target = Categories(["low", "high"])
    dataset = Dataset(numbered(tmp_path), ["low", "high", "low"], target)
    assert len(dataset) == 3
    picture, number = dataset[1]
    assert (picture.dtype, tuple(picture.shape)) == (torch.uint8, (3, 12, 4))
    assert picture[:, 7, 2].tolist() == [70, 20, 1] and int(number) == 1
    assert dataset.target is target


def test_a_dataset_without_labels_gives_empty_targets(tmp_path):
    picture, target = Dataset(numbered(tmp_path))[2]
    assert int(picture[2, 0, 0]) == 2
    assert target.numel() == 0 and isinstance(target, torch.Tensor)


def test_the_lists_may_be_any_sequence_and_are_not_held_on_to(tmp_path):
    paths = numbered(tmp_path)
    dataset = Dataset(paths)
    paths.clear()
    assert len(dataset) == 3


def test_a_plain_number_asks_for_the_central_cut(tmp_path):
    # 12 rows, 4 wanted: int((12 - 4 + 1) * .5) = 4
    assert first_row(Dataset(numbered(tmp_path), size=(4, 4))[0][0]) == 4


def test_the_same_key_gives_the_same_pixels(tmp_path):
    paths = numbered(tmp_path)
    one, other = (Dataset(paths, size=(4, 4), moving=True) for _ in range(2))
    for key in [(0, 42, 0), (2, 42, 7), (1, 3, 1)]:
        torch.rand(3), numpy.random.rand(3)                      # the global states do not matter
        assert torch.equal(one[key][0], other[key][0])
        assert int(one[key][0][2, 0, 0]) == key[0]


def test_another_epoch_seed_or_item_moves_the_cut(tmp_path):
    dataset = Dataset(numbered(tmp_path)[:1] * 20, size=(4, 4))  # the same picture 20 times
    rows_by_epoch = [first_row(dataset[0, 42, epoch][0]) for epoch in range(20)]
    rows_by_seed = [first_row(dataset[0, seed, 0][0]) for seed in range(20)]
    rows_by_item = [first_row(dataset[i, 42, 0][0]) for i in range(20)]
    for rows in (rows_by_epoch, rows_by_seed, rows_by_item):
        assert len(set(rows)) >= 5                               # of 9 places
    assert len({tuple(rows) for rows in (rows_by_epoch, rows_by_seed, rows_by_item)}) == 3


def test_every_place_of_the_cut_comes_up_about_as_often(tmp_path):
    tall = Dataset(numbered(tmp_path), size=(4, 4))              # 9 places from top to bottom
    rows = [first_row(tall[0, 42, epoch][0]) for epoch in range(270)]
    assert min(rows.count(row) for row in range(9)) >= 15        # 30 on average
    wide = Dataset(numbered(tmp_path, (4, 12)), size=(4, 4))     # and from left to right
    columns = [int(wide[0, 42, epoch][0][1, 0, 0]) // 10 for epoch in range(270)]
    assert min(columns.count(column) for column in range(9)) >= 15
    assert rows != columns                                       # each has a draw of its own


def test_size_and_method_are_those_of_open_image(tmp_path):
    paths = numbered(tmp_path)
    assert first_row(Dataset(paths, size=(6, 2), method="squish")[0][0]) == 0
    padded = Dataset(paths, size=(12, 8), method="pad")[0][0]    # 4 columns and 2 + 2 mirrored
    assert padded[1, 0].tolist() == [20, 10, 0, 10, 20, 30, 20, 10]
    assert tuple(Dataset(paths)[0][0].shape) == (3, 12, 4)


@pytest.mark.parametrize("reduced, wanted", [(True, (32, 32)), (False, (64, 64))])
def test_decoding_at_reduced_scale_can_be_forbidden(tmp_path, monkeypatch, reduced, wanted):
    sizes, load = set(), JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load",
                        lambda picture: (load(picture), sizes.add(picture.size))[0])
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    assert tuple(Dataset([tmp_path / "a.jpg"], size=(32, 32), reduced=reduced)[0][0].shape) == (
        3, 32, 32)
    assert sizes == {wanted}


def test_a_dataset_takes_plain_numbers_and_allows_reduced_decoding_unless_told_otherwise(tmp_path):
    dataset = Dataset(numbered(tmp_path))
    assert (dataset.moving, dataset.reduced, dataset.method) == (False, True, "crop")
    assert Dataset(dataset.files, moving=True).moving


def test_an_item_that_cannot_be_read_is_named(tmp_path):
    paths = numbered(tmp_path)
    paths[1].write_bytes(b"no picture")
    for key in (1, (1, 42, 0)):
        with pytest.raises(ValueError, match=r"\b1\.png"):
            Dataset(paths, size=(4, 4))[key]


def test_strings_and_lists_of_strings_are_not_mixed():
    with pytest.raises(ValueError, match=r"(?=.*\bb\.jpg.*\broad\b).*\ba\.jpg.*\bhaze\b"):
        target_for([["haze"], "road", "road"], FILES, [0])


@pytest.mark.parametrize("labels, named", [(["haze", 3, "road"], r"b\.jpg.*3"),
                                           ([3, 3, 3], r"a\.jpg.*3")])
def test_a_label_that_is_neither_a_string_nor_a_list_is_refused_with_its_file(labels, named):
    with pytest.raises(ValueError, match=named):
        target_for(labels, FILES, [0])


def test_a_label_none_is_one_that_nobody_needs():
    assert target_for([None, "haze", "road"], FILES, [1, 2]).classes == ["haze", "road"]
