from dataclasses import FrozenInstanceError
from pathlib import Path
import re
import warnings

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor

from minifast.datablock import ImageList, SegmentationList
from minifast.databunch import DataBunch
from minifast.loader import imagenet_stats
from minifast.targets import Categories, Masks, Tags

CPU = torch.device("cpu")
TAGS = ["clear primary", "haze  primary ", "clear water clear", "cloudy"]       # of item 0, 1, ...


def save_picture(file: Path, grey: int = 0, rows: int = 8, columns: int = 8) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (columns, rows), (grey, grey, grey)).save(file)


def write_csv(folder: Path, fields: list[str], header: str = "name,tags") -> None:
    """data.csv with a row per field, and pics/itemI.png, of grey I, for each."""
    rows = [f"item{i},{field}" for i, field in enumerate(fields)]
    (folder / "data.csv").write_text("\n".join([header, *rows]) + "\n")
    for i in range(len(fields)):
        save_picture(folder / "pics" / f"item{i}.png", i)


def listed(folder: Path, fields: list[str] = TAGS) -> ImageList:
    write_csv(folder, fields)
    return ImageList.from_csv(folder, "data.csv", folder="pics", suffix=".png")


def labelled(folder: Path, fields: list[str] = TAGS) -> ImageList:
    """Tagged items, of which number 1 is for validation; no training item has its haze."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return listed(folder, fields).split_by_idx([1]).label_from_csv(label_delim=" ")


def in_folders(path: Path, *files: str) -> ImageList:
    for i, file in enumerate(files):
        save_picture(path / file, i)
    return ImageList.from_folder(path)


def bunch(src: ImageList, **more) -> DataBunch:
    return src.databunch(device=CPU, **more)


def targets(dataset: object) -> list:
    return [dataset[i][1].tolist() for i in range(len(dataset))]


def plus_1(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + 1, y


def plus_2(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + 2, y


# Step 1: inputs

def test_from_csv_lists_path_folder_name_and_suffix_in_the_order_of_the_csv(tmp_path):
    write_csv(tmp_path, ["a", "b"])
    (tmp_path / "data.csv").write_text("label,name\nx,item1\ny,item0\n")
    files = (tmp_path / "pics" / "item1.png", tmp_path / "pics" / "item0.png")
    for column in (1, "name"):
        for path in (tmp_path, str(tmp_path)):
            assert ImageList.from_csv(path, "data.csv", "pics", ".png", column).files == files


def test_from_csv_needs_no_folder_and_no_suffix(tmp_path):
    save_picture(tmp_path / "one.png")
    (tmp_path / "data.csv").write_text("name,tag\none.png,a\n")
    assert ImageList.from_csv(tmp_path, "data.csv").files == (tmp_path / "one.png",)


def test_from_folder_finds_all_pictures_below_sorted(tmp_path):
    found = in_folders(tmp_path, "b/2.png", "c.png", "b/1.jpg", "a/9.png")
    assert found.files == tuple(tmp_path / name for name in ("a/9.png", "b/1.jpg", "b/2.png",
                                                             "c.png"))
    assert ImageList.from_folder(str(tmp_path)) == found


# Step 2: split

def test_split_by_rand_pct_is_the_draw_of_numpy(tmp_path):
    src = listed(tmp_path, ["a"] * 10)
    drawn = numpy.random.RandomState(3).permutation(10).tolist()
    split = src.split_by_rand_pct(0.3, seed=3)
    assert (split.train, split.valid) == (tuple(sorted(drawn[3:])), tuple(drawn[:3]))
    drawn = numpy.random.RandomState(42).permutation(10).tolist()
    assert src.split_by_rand_pct().valid == tuple(drawn[:2])           # 0.2 and seed 42


def test_split_by_idx_and_split_none(tmp_path):
    src = listed(tmp_path, ["a"] * 4)
    one, none = src.split_by_idx([2, 0]), src.split_none()
    assert (one.train, one.valid) == ((1, 3), (2, 0))
    assert (none.train, none.valid) == ((0, 1, 2, 3), ())


def test_split_by_folder(tmp_path):
    src = in_folders(tmp_path, "train/1.png", "valid/1.png", "valid/2.png")
    split, swapped = src.split_by_folder(), src.split_by_folder(train="valid", valid="train")
    assert (split.train, split.valid) == ((0,), (1, 2)) == (swapped.valid, swapped.train)


# Step 3: labels

def test_tags_are_sorted_classes_and_each_counts_once(tmp_path):
    src = labelled(tmp_path)
    assert isinstance(src.target, Tags)
    assert src.target.classes == ["clear", "cloudy", "haze", "primary", "water"]
    assert [sorted(tags) for tags in src.labels] == [["clear", "primary"], ["haze", "primary"],
                                                     ["clear", "water"], ["cloudy"]]
    data = bunch(src)
    assert data.c == 5 and data.classes == src.target.classes
    assert targets(data.train_ds) == [[1, 0, 0, 1, 0], [1, 0, 0, 0, 1], [0, 1, 0, 0, 0]]
    assert targets(data.valid_ds) == [[0, 0, 1, 1, 0]]


def test_tags_may_stand_between_other_characters_and_in_any_column(tmp_path):
    write_csv(tmp_path, ["1,x; y", "2,y;", "3,z z"], header="name,number,tags")
    src = ImageList.from_csv(tmp_path, "data.csv", "pics", ".png").split_none()
    for column in (2, "tags"):
        assert src.label_from_csv(";", column).target.classes == ["x", "y", "z z"]


def test_tags_that_no_training_picture_has_are_named(tmp_path):
    src = listed(tmp_path).split_by_idx([1])
    with pytest.warns(UserWarning, match=r"\bhaze\b"):
        src.label_from_csv(label_delim=" ")


def test_a_picture_without_a_tag_is_named_and_its_target_is_0(tmp_path):
    src = listed(tmp_path, ["a b", "", "b"]).split_none()
    with pytest.warns(UserWarning, match=r"\bdata\.csv\b(?!.*item[02]).*\bitem1\.png"):
        src = src.label_from_csv(label_delim=" ")
    assert targets(bunch(src).train_ds) == [[1, 1], [0, 0], [0, 1]]


def test_without_a_delimiter_a_field_is_one_class(tmp_path):
    src = listed(tmp_path, ["blue sky", "ant", "blue sky"]).split_none()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        src = src.label_from_csv()
    assert isinstance(src.target, Categories) and src.target.classes == ["ant", "blue sky"]
    assert targets(bunch(src).train_ds) == [1, 0, 1]


def test_label_from_csv_needs_a_csv(tmp_path):
    src = in_folders(tmp_path, "1.png", "2.png").split_none()
    with pytest.raises(ValueError, match=r"\bImageList\.from_csv\b"):
        src.label_from_csv()


def test_label_from_folder_takes_the_folder_in_which_a_picture_lies(tmp_path):
    src = in_folders(tmp_path, "train/dog/1.png", "train/cat/1.png", "valid/dog/1.png")
    src = src.split_by_folder().label_from_folder()
    assert src.target.classes == ["cat", "dog"]
    data = bunch(src)
    assert targets(data.train_ds) == [0, 1] and targets(data.valid_ds) == [1]


def test_label_from_func_takes_a_class_or_a_list_of_tags(tmp_path):
    src = in_folders(tmp_path, "ant1.png", "bee2.png").split_none()
    single = src.label_from_func(lambda file: file.stem[:3])
    assert isinstance(single.target, Categories) and targets(bunch(single).train_ds) == [0, 1]
    tagged = src.label_from_func(lambda file: ["animal", file.stem[:3]])
    assert isinstance(tagged.target, Tags)
    assert tagged.target.classes == ["animal", "ant", "bee"]
    assert targets(bunch(tagged).train_ds) == [[1, 1, 0], [1, 0, 1]]


def test_given_classes_keep_their_order_and_others_are_refused(tmp_path):
    src = in_folders(tmp_path, "ant1.png", "bee2.png").split_none()
    named = src.label_from_func(lambda file: file.stem[:3], classes=["bee", "ant"])
    assert targets(bunch(named).train_ds) == [1, 0]
    with pytest.raises(ValueError, match=r"\bbee2\.png.*\bbee\b.*\bant\b"):
        src.label_from_func(lambda file: file.stem[:3], classes=["ant"])


def test_label_from_re_takes_the_first_group_found_in_the_path(tmp_path):
    src = in_folders(tmp_path, "x/cat_12.png", "x/old_dog_7.png").split_none()
    assert src.label_from_re(r"x/([a-z_]+)_(\d+)").labels == ("cat", "old_dog")
    with pytest.raises(ValueError, match=r"(?=.*\(dog\)).*\bcat_12\.png"):
        src.label_from_re("(dog)")


# Step 4: transform

@pytest.mark.parametrize("size, method, wanted, how", [
    (16, None, (16, 16), "crop"), ((16, 8), None, (16, 8), "squish"),
    ([16, 8], None, (16, 8), "squish"), (numpy.array([16, 8]), None, (16, 8), "crop"),
    (16, "pad", (16, 16), "pad"), ((16, 8), "crop", (16, 8), "crop"), (None, None, None, "crop")])
def test_a_number_means_crop_and_a_tuple_squish_unless_said(size, method, wanted, how, tmp_path):
    src = labelled(tmp_path).transform(size=size, method=method)
    assert (src.size, src.method) == (wanted, how)
    dataset = bunch(src).train_ds
    assert (dataset.size, dataset.method) == (wanted, how)
    assert dataset[0][0].shape == (3, *(wanted or (8, 8)))


@pytest.mark.parametrize("size", [0, -8, (8, 0), (0, 8), (8,), (8, 8, 3), 8.5])
def test_a_size_is_one_whole_number_from_1_or_two(size, tmp_path):
    with pytest.raises(ValueError, match=rf"\bsize\b.*{re.escape(str(size))}"):
        labelled(tmp_path).transform(size=size)


def test_without_transform_pictures_come_as_they_are(tmp_path):
    dataset = bunch(labelled(tmp_path)).train_ds
    assert (dataset.size, dataset.method, dataset.reduced) == (None, "crop", True)


def test_the_smallest_picture_has_one_pixel(tmp_path):
    assert labelled(tmp_path).transform(size=1).size == (1, 1)


def test_unknown_methods_and_transforms_are_refused(tmp_path):
    src = labelled(tmp_path)
    with pytest.raises(ValueError, match=r"method.*\bcroop\b.*\bcrop\b"):
        src.transform(size=8, method="croop")
    with pytest.raises(TypeError, match=r"\btfms\b.*\bflip\b"):
        src.transform("flip")


@pytest.mark.parametrize("reduced", [True, False])
def test_reduced_reaches_every_data_set(reduced, tmp_path):
    save_picture(tmp_path / "test" / "1.png")
    src = labelled(tmp_path).transform(reduced=reduced).add_test_folder("test")
    data = bunch(src)
    for dataset in (data.train_ds, data.valid_ds, data.test_dl.dataset):
        assert dataset.reduced is reduced
    assert bunch(src.transform()).train_ds.reduced is True


def test_transforms_are_for_training_or_a_pair_for_validation_too(tmp_path):
    src = labelled(tmp_path)
    for tfms, train, valid in ((None, 0, 0), (plus_1, 1, 0), ((plus_1, plus_2), 1, 2)):
        data = bunch(src.transform(tfms))
        assert round(data.one_batch()[0].mean().item()) == train       # pictures are nearly black
        assert round(data.one_batch(train=False)[0].mean().item()) == valid


def test_only_the_cuts_of_training_move(tmp_path):
    save_picture(tmp_path / "test" / "1.png")
    data = bunch(labelled(tmp_path).transform(size=8).add_test_folder("test"))
    moving = [loader.dataset.moving for loader in (data.train_dl, data.valid_dl, data.test_dl)]
    assert moving == [True, False, False]


# Step 5: test set

def test_a_test_folder_becomes_test_dl_in_the_order_of_its_files_without_labels(tmp_path):
    for name, grey in (("b", 20), ("a", 10), ("c", 30)):
        save_picture(tmp_path / "test" / f"{name}.png", grey, rows=32, columns=64)
    src = labelled(tmp_path).transform(plus_1, size=16, method="pad").add_test_folder("test")
    data = bunch(src, bs=3, val_bs=2)
    batches = list(data.test_dl)
    assert [x.shape for x, _ in batches] == [(2, 3, 16, 16), (1, 3, 16, 16)]
    greys = [value.item() for x, _ in batches for value in (x[:, 0, 0, 0] * 255).round()]
    assert greys == [10, 20, 30]
    assert [y.shape for _, y in batches] == [(2, 0), (1, 0)]
    assert bunch(labelled(tmp_path)).test_dl is None


def test_a_second_test_folder_adds_to_the_first(tmp_path):
    # as the notebook does with Planet's test-jpg-additional
    for name in ("test/b", "test/a", "more/0"):
        save_picture(tmp_path / f"{name}.png")
    src = labelled(tmp_path).add_test_folder("test")
    both = src.add_test_folder(tmp_path / "more")
    files = [tmp_path / f"{name}.png" for name in ("test/a", "test/b", "more/0")]
    assert bunch(both).test_dl.dataset.files == files
    assert bunch(src).test_dl.dataset.files == files[:2]


# Step 6: loaders

def test_databunch_hands_on_batch_sizes_workers_device_and_seed(tmp_path, monkeypatch):
    data = labelled(tmp_path).databunch(bs=3, val_bs=2, num_workers=1, device=CPU, seed=9)
    assert (data.train_dl.bs, data.valid_dl.bs) == (3, 2)
    for loader in (data.train_dl, data.valid_dl):
        assert (loader.num_workers, loader.device, loader.seed) == (1, CPU, 9)
    monkeypatch.setattr("minifast.databunch.default_workers", lambda device: 3)
    usual = bunch(labelled(tmp_path))
    assert usual.train_dl.num_workers == 3
    assert (usual.train_dl.bs, usual.valid_dl.bs, usual.train_dl.seed) == (64, 64, 42)


def test_each_set_has_its_files_in_the_order_of_the_split(tmp_path):
    src = listed(tmp_path, list("abcde")).split_by_idx([3, 1])
    with pytest.warns(UserWarning, match=r"\bb\W+d\b"):
        data = bunch(src.label_from_csv())
    assert [file.name for file in data.valid_ds.files] == ["item3.png", "item1.png"]
    assert [file.name for file in data.train_ds.files] == ["item0.png", "item2.png", "item4.png"]
    assert targets(data.valid_ds) == [3, 1] and targets(data.train_ds) == [0, 2, 4]
    assert [data.valid_ds[i][0].max().item() for i in (0, 1)] == [3, 1]


def test_split_none_means_no_validation(tmp_path):
    data = bunch(listed(tmp_path).split_none().label_from_csv())
    assert data.valid_dl is None and len(data.train_ds) == 4


# All of them

def test_no_step_changes_the_list_before_it(tmp_path):
    save_picture(tmp_path / "test" / "1.png")
    src = listed(tmp_path, ["a b", "b", "a"])
    for step in (lambda src: src.split_by_idx([0]), lambda src: src.label_from_csv(" "),
                 lambda src: src.transform(plus_1, size=16),
                 lambda src: src.add_test_folder("test"), lambda src: src.databunch(device=CPU)):
        before = dict(vars(src))
        after = step(src)
        assert vars(src) == before and after is not src
        src = after


def test_a_list_cannot_be_changed(tmp_path):
    src = labelled(tmp_path)
    with pytest.raises(FrozenInstanceError):
        src.size = (16, 16)


def test_one_labelled_list_serves_for_small_pictures_and_then_for_bigger_ones(tmp_path):
    src = labelled(tmp_path)
    small, big = (bunch(src.transform(size=size)) for size in (8, 16))
    assert small.train_ds[0][0].shape == (3, 8, 8)
    assert big.train_ds[0][0].shape == (3, 16, 16)
    assert big.classes == small.classes and big.valid_ds.files == small.valid_ds.files


def test_steps_in_the_wrong_order_say_which_comes_first(tmp_path):
    src = listed(tmp_path)
    split = src.split_none()
    for too_early, first in (
            (lambda: src.label_from_csv(" "), r"label comes too early.*\bsplit"),
            (lambda: src.label_from_folder(), r"label comes too early.*\bsplit"),
            (lambda: split.transform(size=8), r"^transform comes too early.*\blabel_from"),
            (lambda: split.add_test_folder("x"), r"^add_test_folder comes too.*\blabel_from"),
            (lambda: split.databunch(), r"^databunch comes too early.*\blabel_from"),
            (lambda: src.databunch(), r"^databunch comes too early.*\b(split|label)")):
        with pytest.raises(ValueError, match=first):
            too_early()


def test_a_split_and_labels_are_given_once(tmp_path):
    src = labelled(tmp_path)
    for again in (src.split_none, lambda: src.split_by_rand_pct(0.5)):
        with pytest.raises(ValueError, match=r"\bsplit\b"):
            again()
    with pytest.raises(ValueError, match=r"\blabel(s|led)\b"):
        src.label_from_csv(" ")


@pytest.mark.parametrize("name", ["normalize", "show_batch", "one_batch", "train_ds", "train_dl"])
def test_what_belongs_to_a_databunch_says_so(name, tmp_path):
    with pytest.raises(AttributeError, match=rf"\b{name}\b.*\bdatabunch\b"):
        getattr(labelled(tmp_path), name)


def test_other_names_are_just_not_there(tmp_path):
    with pytest.raises(AttributeError, match=r"^(?!.*(?i:databunch)).*\blable_from_csv\b"):
        labelled(tmp_path).lable_from_csv
    assert not hasattr(labelled(tmp_path), "__len__")


def test_steps_out_of_place_after_databunch(tmp_path):
    data = bunch(labelled(tmp_path)).normalize(imagenet_stats)
    with pytest.raises(AttributeError, match=r"\bsplit_none\b.*\bdatabunch\b"):
        data.split_none()
    with pytest.raises(ValueError, match=r"\bnormali[sz]ed?\b"):
        data.normalize(imagenet_stats)


@pytest.mark.filterwarnings("ignore:split_by_folder")
def test_files_that_a_split_left_out_are_not_labelled_and_make_no_class(tmp_path):
    src = in_folders(tmp_path, "test/1.png", "train/cat/2.png", "train/dog/3.png",
                     "valid/cat/4.png").split_by_folder()
    asked = []
    assert src.label_from_folder().target.classes == ["cat", "dog"]
    assert src.label_from_re("(cat|dog)").target.classes == ["cat", "dog"]
    src.label_from_func(lambda file: asked.append(file.name) or "x")
    assert asked == ["2.png", "3.png", "4.png"]


def test_a_column_without_any_tag_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="no tag"), pytest.raises(ValueError, match="column"):
        listed(tmp_path, ["", "", ""]).split_by_idx([0]).label_from_csv(" ")


# Masks

def streets(path: Path, count: int = 4, colours: tuple[int, int] = (0, 1)) -> None:
    """images/I.png, upper half black, lower half white, and labels/I_P.png, of two classes."""
    for i in range(count):
        half = numpy.repeat(numpy.arange(2, dtype=numpy.uint8), 8)[:, None].repeat(24, axis=1)
        for file, values in (("images", half * 255), ("labels", numpy.array(colours)[half])):
            name = f"{i}_P.png" if file == "labels" else f"{i}.png"
            (path / file).mkdir(exist_ok=True)
            Image.fromarray(values.astype(numpy.uint8)).save(path / file / name)
    (path / "valid.txt").write_text(f"{count - 1}.png\n")


def mask_of(file: Path) -> Path:
    return file.parents[1] / "labels" / f"{file.stem}_P{file.suffix}"


def segmentation(path: Path) -> ImageList:
    streets(path)
    return (SegmentationList.from_folder(path / "images").split_by_fname_file("../valid.txt")
            .label_from_func(mask_of, classes=["sky", "road"]))


def test_segmentation_goes_through_the_notebooks_steps(tmp_path):
    data = bunch(segmentation(tmp_path).transform(size=(8, 12)), bs=3)
    assert isinstance(data.target, Masks) and data.classes == ["sky", "road"] and data.c == 2
    x, y = data.one_batch()
    assert tuple(x.shape) == (3, 3, 8, 12) and torch.equal(y, (x[:, 0] > 0.5).long())
    assert y.dtype == torch.int64 and len(data.valid_ds) == 1
    assert data.valid_ds.files == [tmp_path / "images" / "3.png"]


def test_transforms_move_masks_with_their_pictures(tmp_path):
    def upside_down(x, y, rng):
        return x.flip(2), y.flip(1)

    data = bunch(segmentation(tmp_path).transform(upside_down), bs=3)
    x, y = data.one_batch()
    assert torch.equal(y, (x[:, 0] > 0.5).long()) and y[:, 0].all()


def test_masks_of_0_and_255_are_divided_where_that_is_said(tmp_path):
    streets(tmp_path, colours=(0, 255))
    split = SegmentationList.from_folder(tmp_path / "images").split_by_idx([0])
    assert split.label_from_func(mask_of, classes=["no", "yes"], div=True).target.div
    with pytest.raises(ValueError, match=r"_P\.png.*255 \(192 pixels\).*div=True"):
        split.label_from_func(mask_of, classes=["no", "yes"])


def test_masks_may_lie_in_folders_of_their_own_and_other_folders_are_reported(tmp_path):
    for folder in ("train", "val", "test"):
        streets(tmp_path, 2)
        (tmp_path / "images").rename(tmp_path / folder)
        (tmp_path / "labels").rename(tmp_path / f"{folder}annot")
    with pytest.warns(UserWarning, match="test, testannot, trainannot, valannot"):
        split = SegmentationList.from_folder(tmp_path).split_by_folder(valid="val")
    src = split.label_from_func(
        lambda file: file.parents[1] / f"{file.parent.name}annot" / f"{file.stem}_P.png",
        classes=["sky", "road"])
    assert [src.files[i].parent.name for i in src.train + src.valid] == ["train"] * 2 + ["val"] * 2


def test_a_label_none_is_refused_where_it_is_needed(tmp_path):
    streets(tmp_path)
    split = ImageList.from_folder(tmp_path / "images").split_by_idx([0])
    with pytest.raises(ValueError, match=r"2 files have None as a label: .*0\.png, .*3\.png"):
        split.label_from_func(lambda file: "a" if file.stem in "12" else None)


def test_a_list_of_names_is_looked_for_from_the_pictures_on(tmp_path):
    streets(tmp_path)
    with pytest.raises(ValueError, match=r"images.valid\.txt does not exist"):
        SegmentationList.from_folder(tmp_path / "images").split_by_fname_file("valid.txt")
