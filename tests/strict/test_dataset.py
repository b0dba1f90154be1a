from pathlib import Path

import numpy
from PIL import Image, JpegImagePlugin
import pytest
import torch

from minifast.cache import Cache
from minifast.dataset import Dataset
from minifast.targets import Categories, Masks


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


# Masks are cut as their pictures are

def with_masks(folder: Path, shape: tuple[int, int] = (12, 4)) -> Dataset:
    """Pictures as `numbered`, whose masks tell the row of each pixel."""
    files = numbered(folder, shape)
    masks = [file.with_name(f"{file.stem}_P.png") for file in files]
    for mask in masks:
        rows = numpy.arange(shape[0], dtype=numpy.uint8)[:, None].repeat(shape[1], axis=1)
        Image.fromarray(rows).save(mask)
    return Dataset(files, masks, Masks([f"row {i}" for i in range(shape[0])]), size=(4, 4))


def test_without_a_size_picture_and_mask_come_as_they_are(tmp_path):
    dataset = with_masks(tmp_path)
    dataset.size = None
    picture, mask = dataset[1]
    assert mask.dtype == torch.int64 and torch.equal(mask * 10, picture[0].long())


def test_wherever_the_cut_lies_a_mask_is_cut_as_its_picture(tmp_path):
    dataset = with_masks(tmp_path)
    for key in [0, *((1, 42, epoch) for epoch in range(20))]:
        picture, mask = dataset[key]
        assert torch.equal(mask * 10, picture[0].long())
    assert len({int(dataset[1, 42, epoch][1][0, 0]) for epoch in range(20)}) > 3


def test_the_method_is_the_same_for_picture_and_mask(tmp_path):
    dataset = with_masks(tmp_path)
    dataset.size, dataset.method = (12, 8), "pad"                   # 4 columns and 2 + 2 mirrored
    picture, mask = dataset[0]
    assert tuple(mask.shape) == (12, 8) and torch.equal(mask * 10, picture[0].long())
    dataset.size, dataset.method = (4, 2), "squish"                 # rows 1, 4, 7, 10 are nearest
    assert dataset[0][1].tolist() == [[1, 1], [4, 4], [7, 7], [10, 10]]


# A cache: a file is decoded once

def keep_decoded(dataset: Dataset) -> None:
    dataset.caches = [Cache(*each) for each in dataset.decoded_shapes()]


def both(dataset: Dataset) -> list[tuple[torch.Tensor, ...]]:
    """All items, by number and by some keys."""
    return [dataset[key] for i in range(len(dataset)) for key in (i, (i, 42, 0), (i, 42, 1))]


def no_files(*where) -> None:
    raise AssertionError("a file was read")


@pytest.mark.parametrize("size, method", [((4, 4), "crop"), ((12, 8), "pad"), ((4, 2), "squish"),
                                          (None, "crop")])
@pytest.mark.parametrize("masks", [False, True])
def test_with_a_cache_items_are_the_same_and_files_are_read_once(tmp_path, monkeypatch, size,
                                                                 method, masks):
    plain = with_masks(tmp_path) if masks else Dataset(numbered(tmp_path))
    cached = with_masks(tmp_path) if masks else Dataset(numbered(tmp_path))
    for dataset in (plain, cached):
        dataset.size, dataset.method = size, method
    keep_decoded(cached)
    first = both(cached)
    monkeypatch.setattr("minifast.dataset.read_image", no_files)
    monkeypatch.setattr(Masks, "read", no_files)
    again = both(cached)
    monkeypatch.undo()
    for items in (first, again):
        for one, other in zip(items, both(plain), strict=True):
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other))


def test_what_is_done_to_an_item_does_not_reach_the_cache(tmp_path):
    dataset = with_masks(tmp_path)
    keep_decoded(dataset)
    for _ in range(2):
        picture, mask = dataset[1]
        assert picture[2].unique().tolist() == [1] and mask.max() == 7
        picture.zero_(), mask.zero_()


def test_what_caches_have_to_hold_is_known_from_the_headers(tmp_path):
    assert Dataset(numbered(tmp_path)).decoded_shapes() == [([(3, 12, 4)] * 3, numpy.uint8)]
    # 12 x 4 to 4 x 4: crop has ratio 1, and keeps all 12 rows
    masks = with_masks(tmp_path)
    assert masks.decoded_shapes() == [([(3, 12, 4)] * 3, numpy.uint8), ([(12, 4)] * 3, numpy.uint8)]
    masks.target = Masks([f"class {i}" for i in range(256)])     # a byte is enough, and then not
    assert masks.decoded_shapes()[1][1] == numpy.uint8
    masks.target = Masks([f"class {i}" for i in range(257)])
    masks.size, masks.method = (6, 6), "squish"
    assert masks.decoded_shapes() == [([(3, 6, 6)] * 3, numpy.uint8), ([(6, 6)] * 3, numpy.int32)]


def test_a_file_that_changed_its_size_is_refused_by_name(tmp_path):
    dataset = with_masks(tmp_path)
    keep_decoded(dataset)
    for file, name in ((dataset.files[1], r"\b1\.png"), (dataset.labels[0], r"\b0_P\.png")):
        Image.new("L", (9, 9)).save(file)
        with pytest.raises(ValueError, match=rf"{name} has changed.*12, 4.*anew"):
            dataset[int(file.name[0])]


def test_whole_is_all_of_it_once_all_was_decoded_and_nothing_is_to_be_cut(tmp_path):
    dataset = Dataset(numbered(tmp_path), ["a", "b", "a"], Categories("ab"), (6, 2), "squish")
    assert dataset.whole() is None                               # there is no cache
    keep_decoded(dataset)
    dataset[0], dataset[2]
    assert dataset.whole() is None                               # item 1 is missing
    assert dataset.whole(few=0) is None
    pictures, targets = dataset.whole(few=1)                     # and is decoded now
    assert (pictures.dtype, tuple(pictures.shape)) == (torch.uint8, (3, 3, 6, 2))
    assert all(torch.equal(pictures[i], dataset[i][0]) for i in range(3))
    assert targets.tolist() == [0, 1, 0]


def test_where_something_is_to_be_cut_there_is_no_whole(tmp_path):
    dataset = Dataset(numbered(tmp_path), size=(4, 4))           # of 12 rows
    keep_decoded(dataset)
    assert dataset.whole(few=3) is None
    assert not dataset.caches[0].filled.any()                    # for nothing was decoded


@pytest.mark.parametrize("shapes, is_whole", [([(12, 4), (12, 4)], True),
                                              ([(12, 4), (4, 12)], False)])
def test_without_a_size_there_is_a_whole_where_all_have_one(tmp_path, shapes, is_whole):
    files = []
    for i, shape in enumerate(shapes):
        (tmp_path / str(i)).mkdir()
        files += numbered(tmp_path / str(i), shape, 1)
    dataset = Dataset(files)
    keep_decoded(dataset)
    assert (dataset.whole(few=2) is not None) == is_whole


def test_a_whole_without_labels_has_empty_targets_and_masks_as_bytes(tmp_path):
    plain, masks = Dataset(numbered(tmp_path), size=(12, 4)), with_masks(tmp_path)
    masks.size = (12, 4)
    for dataset in (plain, masks):
        keep_decoded(dataset)
    assert tuple(plain.whole(few=3)[1].shape) == (3, 0)
    _, targets = masks.whole(few=3)
    assert targets.dtype == torch.uint8 and tuple(targets.shape) == (3, 12, 4)
    assert torch.equal(targets[2].long(), masks[2][1])


def test_a_file_without_a_header_is_named_when_the_cache_is_made(tmp_path):
    paths = numbered(tmp_path)
    paths[1].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"\b1\.png"):
        Dataset(paths, size=(4, 4)).decoded_shapes()
