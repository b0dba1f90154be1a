from dataclasses import FrozenInstanceError, replace
from pathlib import Path
import re

import numpy
from PIL import Image
import pytest
import torch

from minifast.datablock import ImageList, SegmentationList
from minifast.databunch import DataBunch
from minifast.targets import Categories, Masks, Tags

CPU = torch.device("cpu")
TAGS = ["clear primary", "haze  primary ", "clear water clear", "cloudy"]       # of item 0, 1, ...


def save_picture(file: Path, grey: int = 0, rows: int = 8, columns: int = 8) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (columns, rows), (grey, grey, grey)).save(file)


def listed(folder: Path, fields: list[str] = TAGS, header: str = "name,tags") -> ImageList:
    """data.csv with a row for each field, and for each row pics/itemI.png, of grey I."""
    rows = [f"item{i},{field}" for i, field in enumerate(fields)]
    (folder / "data.csv").write_text("\n".join([header, *rows]) + "\n")
    for i in range(len(fields)):
        save_picture(folder / "pics" / f"item{i}.png", i)
    return ImageList.from_csv(folder, "data.csv", folder="pics", suffix=".png")


def labelled(folder: Path) -> ImageList:
    """Tagged items, of which number 1 is for validation; no training item has its haze."""
    return listed(folder).split_by_idx([1]).label_from_csv(label_delim=" ")


def made_up(*files: str) -> ImageList:
    """A list whose files do not exist."""
    return ImageList(Path("data"), tuple(Path("data", file) for file in files))


def labels_for(labels: list, train: list[int] | None = None, **more) -> ImageList:
    """Pictures 0.jpg, 1.jpg, ... with these labels; for training those in `train`, else all."""
    split = made_up(*(f"{i}.jpg" for i in range(len(labels)))).split_none()
    if train:
        split = replace(split, train=tuple(train), valid=tuple({*split.train} - {*train}))
    return split.label_from_func(lambda file: labels[int(file.stem)], **more)


def bunch(src: ImageList, **more) -> DataBunch:
    return src.databunch(device=CPU, **more)


def targets(dataset: object) -> list:
    return [dataset[i][1].tolist() for i in range(len(dataset))]


def plus_1(x, y, rng):
    return x + 1, y


def plus_2(x, y, rng):
    return x + 2, y


# Step 1: files

@pytest.mark.parametrize("column", [1, "name"])
def test_from_csv_lists_path_folder_name_and_suffix_in_the_order_of_the_csv(tmp_path, column):
    listed(tmp_path, ["a", "b"])
    (tmp_path / "data.csv").write_text("label,name\nx,item1\ny,item0\n")
    src = ImageList.from_csv(str(tmp_path), "data.csv", "pics", ".png", column)
    assert src.path == tmp_path
    assert src.files == (tmp_path / "pics/item1.png", tmp_path / "pics/item0.png")
    assert src.split_none().label_from_csv(column="label").labels == ("x", "y")


@pytest.mark.parametrize("names, wanted", [(["item0", "b", "dir", "item1", "e"], r"3 of 5.*b\.png"),
                                           (["item0", "item1", "item0"], r"item0\.png$")])
def test_names_without_a_file_or_that_stand_twice_are_refused(tmp_path, names, wanted):
    listed(tmp_path, ["a", "b"])
    (tmp_path / "pics" / "dir.png").mkdir()                              # a folder is no picture
    (tmp_path / "data.csv").write_text("\n".join(["name", *names]))
    with pytest.raises(ValueError, match=rf"data\.csv.*{wanted}"):
        ImageList.from_csv(tmp_path, "data.csv", "pics", ".png")


@pytest.mark.parametrize("ending, suffix", [(".png", ""), ("", ".png")])
def test_a_csv_without_a_header_is_refused(tmp_path, ending, suffix):
    save_picture(tmp_path / "p0.png")
    save_picture(tmp_path / "sub" / "p1.png")
    rows = f"p0{ending},clear\nsub/p1{ending},haze\n"
    (tmp_path / "data.csv").write_text("name,tag\n" + rows)
    files = ImageList.from_csv(tmp_path, "data.csv", suffix=suffix).files
    assert files == (tmp_path / "p0.png", tmp_path / "sub" / "p1.png")
    (tmp_path / "data.csv").write_text(rows)
    with pytest.raises(ValueError, match=r"data\.csv.*\bheader\b"):
        ImageList.from_csv(tmp_path, "data.csv", suffix=suffix)


def test_filter_by_func_leaves_files_out_and_keeps_the_labels_of_the_others(tmp_path):
    src = listed(tmp_path, list("abcab")).filter_by_func(lambda file: file.stem[-1] not in "03")
    assert [file.stem for file in src.files] == ["item1", "item2", "item4"]
    src = src.split_by_idx([2]).label_from_csv()
    assert src.labels == ("b", "c", "b") and src.target.classes == ["b", "c"]
    found = ImageList.from_folder(tmp_path).filter_by_func(lambda file: file.stem == "item3")
    assert found.files == (tmp_path / "pics" / "item3.png",) and found.rows is None
    for late in (src, found.split_none()):                      # a filter forgets the split
        with pytest.raises(ValueError, match="first call split_"):
            late.filter_by_func(lambda file: True).label_from_folder()


def test_a_filter_keeps_something_and_a_second_split_replaces_the_first():
    src = made_up("a/1.jpg", "b/2.jpg", "c/3.jpg")
    with pytest.raises(ValueError, match=r"\b0$"):
        src.filter_by_func(lambda file: False)
    for first in (src.split_none(), src.split_by_idx([1, 0]), src.split_none().label_from_folder()):
        second = first.split_by_idx([2])
        assert (second.train, second.valid) == ((0, 1), (2,))
        assert second.label_from_folder() == src.split_by_idx([2]).label_from_folder()


# Step 2: split

@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("n, valid_pct, count", [(10, 0.2, 2), (9, 0.2, 1), (7, 0.5, 3)])
def test_a_seed_means_the_draw_of_fast_ais_v1(n, valid_pct, count, seed):
    src, before = made_up(*map(str, range(n))), numpy.random.get_state()
    try:
        numpy.random.seed(seed)
        drawn = numpy.random.permutation(n).tolist()
        state = str(numpy.random.get_state())
        split = src.split_by_rand_pct(valid_pct, seed)
        assert str(numpy.random.get_state()) == state
    finally:
        numpy.random.set_state(before)
    assert split.valid == tuple(drawn[:count])                           # int(valid_pct * n)
    assert split.train == tuple(sorted(drawn[count:]))
    if (n, seed) == (10, 42):                                            # the defaults
        assert src.split_by_rand_pct() == split


@pytest.mark.parametrize("valid_pct", [-0.1, 1.01, 20, float("nan"), 0, 0.05, 1])
def test_a_share_is_from_0_to_1_and_leaves_no_side_empty(valid_pct):
    wanted = rf"valid_pct.*{valid_pct}" if not 0 <= valid_pct <= 1 else "some, not all, of 0 to 9"
    with pytest.raises(ValueError, match=wanted):
        made_up(*"abcdefghij").split_by_rand_pct(valid_pct, 0)


@pytest.mark.parametrize("n, valid, train", [
    (6, [4, 1], (0, 2, 3, 5)), (2, (0,), (1,)), (20, numpy.array([19, 0]), tuple(range(1, 19)))])
def test_split_by_idx_keeps_the_order_for_validation_and_sorts_for_training(n, valid, train):
    split = made_up(*map(str, range(n))).split_by_idx(valid)
    assert (split.train, split.valid) == (train, tuple(valid))
    assert all(type(i) is int for i in split.train + split.valid)


@pytest.mark.parametrize("valid_idx", [[], [0, 1, 2], [3], [-1], [1, 1], [0, 5, 5]])
def test_numbers_of_no_item_doubled_none_or_all_are_refused(valid_idx):
    with pytest.raises(ValueError, match="valid.*" + ", ".join(map(str, valid_idx))):
        made_up(*"abc").split_by_idx(valid_idx)


def test_split_by_folder_goes_by_the_first_folder_below_the_path():
    src = made_up("train/a/1.png", "valid/1.png", "train/2.png", "valid/train/2.png", "valid/3.png")
    split, swapped = src.split_by_folder(), src.split_by_folder("valid", "train")
    assert (split.train, split.valid) == ((0, 2), (1, 3, 4)) == (swapped.valid, swapped.train)
    for train, valid, missing in (("train", "val", "val"), ("x", "valid", "x")):
        with pytest.raises(ValueError, match=rf"\b{missing}\b.*\btrain\W+valid\b"):
            src.split_by_folder(train, valid)


def test_files_of_other_folders_are_left_out_and_need_no_label():
    src = made_up("test/1.png", "train/x/2.png", "extra/3.png", "valid/x/4.png", "train/y/5.png")
    split = src.split_by_folder()
    assert split.label_from_folder().target.classes == ["x", "y"]
    asked = {}
    src = split.label_from_func(lambda file: asked.setdefault(file.name, file.parent.name))
    assert sorted(asked) == ["2.png", "4.png", "5.png"]
    assert [file.name for file in src.files] == sorted(asked) and src.labels == ("x", "x", "y")


def test_split_by_fname_file_goes_by_names_whatever_their_folders(tmp_path):
    src = ImageList(tmp_path / "x", tuple(map(Path, ("a.png", "b.png", "sub/c.png", "d.png"))))
    (tmp_path / "valid.txt").write_text("c.png\n\n elsewhere/a.png \n")
    (tmp_path / "bad.txt").write_text("a.jpg\nb.png\nc.jpg\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "x").mkdir()
    split = src.split_by_fname_file("../valid.txt")
    assert (split.train, split.valid) == ((1, 3), (0, 2))
    for name, wanted in (("valid", r"x.valid\.txt"), ("../empty", "valid"),
                         ("../bad", r"bad\.txt.*a\.jpg, c\.jpg")):
        with pytest.raises(ValueError, match=wanted):
            src.split_by_fname_file(name + ".txt")


# Step 3: labels

def test_tags_of_a_csv_are_sorted_each_once_and_classes_are_those_of_all_items(tmp_path):
    src = labelled(tmp_path)
    assert src.target == Tags(["clear", "cloudy", "haze", "primary", "water"])
    assert src.labels == (["clear", "primary"], ["haze", "primary"], ["clear", "water"], ["cloudy"])
    data = bunch(src)
    assert data.c == 5 and data.classes == src.target.classes
    assert targets(data.train_ds) == [[1, 0, 0, 1, 0], [1, 0, 0, 0, 1], [0, 1, 0, 0, 0]]
    assert targets(data.valid_ds) == [[0, 0, 1, 1, 0]]


@pytest.mark.parametrize("column", [2, "tags"])
def test_tags_may_stand_between_other_characters_and_in_any_column(tmp_path, column):
    src = listed(tmp_path, ["1,x; y", "2,;y;;y", "3,z z"], header="name,number,tags").split_none()
    assert src.label_from_csv(";", column).labels == (["x", "y"], ["y"], ["z z"])
    with pytest.raises(ValueError, match=r"column.*'tag'.*\btags\b"):
        src.label_from_csv(column="tag")


def test_the_target_of_a_picture_without_a_tag_is_0(tmp_path):
    src = listed(tmp_path, ["a b", "", "b"]).split_none().label_from_csv(label_delim=" ")
    assert targets(bunch(src).train_ds) == [[1, 1], [0, 0], [0, 1]]


def test_without_a_delimiter_a_field_is_one_class(tmp_path):
    src = listed(tmp_path, ["blue sky", "ant", "blue sky"]).split_none().label_from_csv()
    assert src.target == Categories(["ant", "blue sky"]) and src.train == (0, 1, 2)
    assert targets(bunch(src).train_ds) == [1, 0, 1] and bunch(src).valid_dl is None


@pytest.mark.parametrize("labels, classes, target", [
    (["sea", "land", "sea"], None, Categories(["land", "sea"])),
    (["sea", "land"], ("sea", "land"), Categories(["sea", "land"])),     # in the order given
    ([["road", "haze"], ["haze"]], None, Tags(["haze", "road"])),
    ([("road", "haze"), {"haze"}], None, Tags(["haze", "road"]))])
def test_strings_make_categories_and_lists_make_tags(labels, classes, target):
    assert labels_for(labels, [0, 1], classes=classes).target == target


@pytest.mark.parametrize("labels, train, classes", [
    (["sea", "land", "air"], [0], None), ([["haze"], ["haze", "road"]], [0], None),
    (["sea", "land"], [0, 1], ["sea", "fire", "land"])])
def test_a_class_that_no_training_picture_has_is_kept(labels, train, classes):
    src = labels_for(labels, train, classes=classes)                    # v1 dropped it silently
    assert src.target.classes == (classes or sorted({*numpy.hstack(labels)}))


@pytest.mark.parametrize("labels, classes, named", [
    (["sea", "air", "land"], ["sea", "land"], r"\b1\.jpg.*\bair\b.*\bsea\W+land\b"),
    ([["haze"], [], ["smoke", "haze"]], ["haze"], r"\b2\.jpg.*\bsmoke\b.*\bhaze\b"),
    (["sea", "", "sea"], None, r"\b1\.jpg.*''"), ([["haze"], ["haze", ""]], None, r"\b1\.jpg.*''"),
    ([["haze"], "road"], None, r"\b1\.jpg.*'road'"), (["haze", 3], None, r"\b1\.jpg: 3\."),
    ([3, 3], None, r"\b0\.jpg: 3\."), (["haze", None], None, r"\b1\.jpg: None\."),
    ([[3], [3]], None, r"\b0\.jpg: \[3\]"), (["haze", Path("x")], None, r"\b1\.jpg.*'x'"),
    (["haze", float("nan")], None, r"\b1\.jpg: nan"), ([[], []], None, r"\bclasses\b")])
def test_labels_that_are_odd_or_no_given_class_are_refused_with_their_file(labels, classes, named):
    with pytest.raises(ValueError, match=named):
        labels_for(labels, classes=classes)


@pytest.mark.parametrize("labels, classes, named", [
    (["a", "b"], ["a", "b", "a"], r"classes.*\ba$"), ([["a"], ["b"]], ["b", "b", "a"], r"\bb$"),
    ([[["a"]], ["b"]], None, r"0\.jpg"), ([["a", 1], ["b"]], ["a", 1, "b"], r"0\.jpg"),
    (["masks/0_P.png", "masks/1_P.png"], ["sky", "road"], r"0\.jpg.*Path")])
def test_classes_twice_nested_or_numbers_and_paths_as_text_are_refused(labels, classes, named):
    with pytest.raises(ValueError, match=named):
        labels_for(labels, classes=classes)


# Step 4: transform

@pytest.mark.parametrize("size, method, wanted, how", [
    (16, None, (16, 16), "crop"), ((16, 8), None, (16, 8), "squish"), (1, None, (1, 1), "crop"),
    ([16, 8], None, (16, 8), "squish"), (numpy.array([16, 8]), None, (16, 8), "crop"),
    (16, "squish", (16, 16), "squish"), ((16, 8), "crop", (16, 8), "crop"),
    (None, None, None, "crop")])
def test_a_number_means_crop_and_a_tuple_squish_unless_said(size, method, wanted, how, tmp_path):
    src = labelled(tmp_path)
    assert (src.size, src.method) == (None, "crop")
    data = bunch(src.transform(size=size, method=method).add_test_folder("pics"))
    for dataset in (data.train_ds, data.valid_ds, data.test_dl.dataset):
        assert (dataset.size, dataset.method) == (wanted, how)
        assert dataset[0][0].shape == (3, *(wanted or (8, 8)))


def test_sizes_that_are_not_whole_numbers_from_1_and_unknown_methods_are_refused():
    src = labels_for(["a"])
    for size in (0, -8, (8, 0), (0, 8), (8,), (8, 8, 3), 8.5, (8, 8.5)):
        with pytest.raises(ValueError, match=rf"\bsize\b.*{re.escape(str(size))}"):
            src.transform(size=size)
    with pytest.raises(ValueError, match=r"method.*\bcroop\b.*\bcrop\b"):
        src.transform(size=8, method="croop")


@pytest.mark.parametrize("tfms, train, valid", [(None, 0, 0), (plus_1, 1, 0),
                                                ((plus_1, plus_2), 1, 2), ((None, plus_2), 0, 2)])
def test_transforms_are_for_training_or_a_pair_for_validation_too(tmp_path, tfms, train, valid):
    src = labelled(tmp_path).transform(tfms)
    assert src.tfms is tfms
    means = [bunch(src).one_batch(train)[0].mean().item() for train in (True, False)]
    assert [round(mean) for mean in means] == [train, valid]             # pictures are nearly black


# Step 5: test set

def test_test_folders_become_test_dl_in_the_order_of_their_files_without_labels(tmp_path):
    # as the notebook does with Planet's test-jpg-additional
    for name, grey in (("test/b", 20), ("test/a", 10), ("more/0", 30)):
        save_picture(tmp_path / f"{name}.png", grey, rows=32, columns=64)
    one = labelled(tmp_path).transform(plus_1, size=16, method="squish").add_test_folder("test")
    src = one.add_test_folder(tmp_path / "more")
    assert [file.stem for file in one.test] == ["a", "b"]
    batches = list(bunch(src, bs=3, val_bs=2).test_dl)
    assert [x.shape for x, _ in batches] == [(2, 3, 16, 16), (1, 3, 16, 16)]
    greys = [value.item() for x, _ in batches for value in (x[:, 0, 0, 0] * 255).round()]
    assert greys == [10, 20, 30]
    assert [y.shape for _, y in batches] == [(2, 0), (1, 0)]
    assert bunch(labelled(tmp_path)).test_dl is None


# Step 6: loaders

def test_databunch_hands_on_batch_sizes_workers_device_and_seed(tmp_path):
    data = bunch(labelled(tmp_path), bs=3, val_bs=2, num_workers=1, seed=9)
    assert (data.train_dl.bs, data.valid_dl.bs, bunch(labelled(tmp_path)).train_dl.bs) == (3, 2, 64)
    for loader in (data.train_dl, data.valid_dl):
        assert (loader.num_workers, loader.device, loader.seed) == (1, CPU, 9)


def test_each_set_has_its_files_in_the_order_of_the_split(tmp_path):
    data = bunch(listed(tmp_path, list("abcde")).split_by_idx([3, 1]).label_from_csv())
    assert targets(data.valid_ds) == [3, 1] and targets(data.train_ds) == [0, 2, 4]
    assert [data.valid_ds[i][0].max().item() for i in (0, 1)] == [3, 1]
    assert [data.train_ds[i][0].max().item() for i in (0, 1, 2)] == [0, 2, 4]


# All of them

def test_no_step_changes_the_list_before_it_and_none_can_be_changed(tmp_path):
    src = listed(tmp_path, ["a b", "b", "a"])
    for step in (lambda src: src.filter_by_func(lambda file: True),
                 lambda src: src.split_by_idx([0]), lambda src: src.label_from_csv(" "),
                 lambda src: src.transform(plus_1, size=16),
                 lambda src: src.add_test_folder("pics"), bunch):
        before = dict(vars(src))
        after = step(src)
        assert vars(src) == before and after is not src
        with pytest.raises(FrozenInstanceError):
            src.size = (16, 16)
        src = after


@pytest.mark.parametrize("step, first", [
    (ImageList.label_from_folder, "split"), (lambda src: src.label_from_csv(" "), "from_csv"),
    (lambda src: src.split_none().transform(size=8), "label_from"),
    (lambda src: src.split_none().add_test_folder("x"), "label_from"),
    (lambda src: src.split_none().databunch(), "label_from"), (ImageList.databunch, "label_from")])
def test_steps_in_the_wrong_order_say_which_comes_first(step, first):
    with pytest.raises(ValueError, match=rf"\b{first}"):
        step(made_up("1.png"))


# Masks

def mask_of(file: Path) -> Path:
    return file.parents[1] / "labels" / f"{file.stem}_P{file.suffix}"


def streets(path: Path, colours: tuple[int, int] = (0, 1)) -> ImageList:
    """Four images/I.png, upper half black, lower half white, and their masks of two classes."""
    half = numpy.repeat(numpy.arange(2, dtype=numpy.uint8), 8)[:, None].repeat(24, axis=1)
    for file in (path / "images" / f"{i}.png" for i in range(4)):
        for name, values in ((file, (0, 255)), (mask_of(file), colours)):
            name.parent.mkdir(exist_ok=True)
            Image.fromarray(numpy.array(values, dtype=numpy.uint8)[half]).save(name)
    (path / "valid.txt").write_text("3.png\n")
    return SegmentationList.from_folder(path / "images").split_by_fname_file("../valid.txt")


def test_masks_go_through_the_notebooks_steps_and_move_with_their_pictures(tmp_path):
    def upside_down(x, y, rng):
        return x.flip(2), y.flip(1)

    src = streets(tmp_path).label_from_func(mask_of, classes=numpy.array(["sky", "road"]))
    assert src.target == Masks(["sky", "road"], div=False)
    data = bunch(src.transform(upside_down, size=(8, 12)), bs=3)
    x, y = data.one_batch()
    assert x.shape == (3, 3, 8, 12) and y.dtype == torch.int64 and y[:, 0].all()
    assert torch.equal(y, (x[:, 0] > 0.5).long())
    assert data.c == 2 and data.valid_ds.files == [tmp_path / "images" / "3.png"]


def test_masks_of_0_and_255_are_divided_where_that_is_said(tmp_path):
    src = streets(tmp_path, (0, 255)).label_from_func(mask_of, classes=["no", "yes"], div=True)
    assert src.target.div and bunch(src).train_ds[0][1].unique().tolist() == [0, 1]


def test_masks_that_are_missing_or_no_path_and_classes_without_a_name_are_refused(tmp_path):
    src, codes = streets(tmp_path), ["sky", "road"]
    for classes, named in ((None, "codes"), ([], "codes"), (["road", "sky", "road"], "road")):
        with pytest.raises(ValueError, match=named):
            src.label_from_func(mask_of, classes=classes)
    with pytest.raises(ValueError, match=r"\.png: "):
        src.label_from_func(lambda file: "road" if file.stem == "1" else mask_of(file), codes)
    for name in ("2", "1"):
        (tmp_path / "labels" / f"{name}_P.png").unlink()
    (tmp_path / "labels" / "2_P.png").mkdir()                   # a folder is no mask either
    with pytest.raises(ValueError, match=r"2 of 4.*\b1\.png.*\b1_P\.png"):
        src.label_from_func(mask_of, codes)
