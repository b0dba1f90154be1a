from collections import Counter
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
import random
from shutil import copytree

import numpy
from PIL import Image
import pytest
import torch

from kit.sample_data import CODES, camvid
from minifast.datablock import SegmentationList
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.extras.doctor import FINDINGS, Report, blended, check_data
from minifast.targets import Categories, Masks, Tags


def pictures(folder: Path, count: int, shape: tuple[int, int] = (6, 8),
             values: int = 256) -> list[Path]:
    """Files folder/0.png, ... of noise: pictures, or masks if there are few values."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{i}.png" for i in range(count)]
    for i, file in enumerate(files):
        rng = numpy.random.default_rng([i, *folder.name.encode()])
        noise = rng.integers(values, size=(*shape, 3), dtype=numpy.uint8)
        Image.fromarray(noise if values == 256 else noise[..., 0]).save(file)
    return files


def bunch(*datasets: Dataset | None, **how) -> DataBunch:
    how = dict(bs=2, num_workers=0, device=torch.device("cpu")) | how
    return DataBunch.create(*datasets, *[None] * (2 - len(datasets)), **how)


def found(data: DataBunch) -> dict[str, set[str]]:
    """The files with each finding, as folder/name, but for classes that are rare."""
    return {key: {"/".join(Path(file).parts[-2:]) for file in details}
            for key, details in check_data(data).found.items() if key != "few"}


# Streets, whose masks have thin poles, and what may have happened to the masks

@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return camvid(tmp_path_factory.mktemp("drawn"), 15, 60)


@pytest.fixture
def streets(drawn, tmp_path) -> Path:
    return copytree(drawn, tmp_path / "streets")


def street_data(folder: Path) -> DataBunch:
    """With twenty more classes, which no mask has."""
    classes = [*CODES, *map(str, range(20))]
    return (SegmentationList.from_folder(folder / "images").split_by_fname_file("../valid.txt")
            .label_from_func(lambda file: folder / "labels" / f"{file.stem}_P.png", classes)
            .databunch(bs=4, num_workers=0))


def test_of_good_streets_only_rare_classes_are_named_with_their_training_pictures(streets):
    data, count = street_data(streets), Counter()
    for file in data.train_ds.labels:
        with Image.open(file) as mask:
            count.update(CODES[number] for number in numpy.unique(mask))
    rare = {name: str(count[name]) for name in data.classes if count[name] < 10}
    assert check_data(data).found == {"few": rare} and 20 < len(rare) < 32


def spoiled(mask: Image.Image) -> dict[str, Image.Image]:
    """A mask with a palette after what often happens to masks."""
    grey, jpeg = Image.fromarray(numpy.asarray(mask)), BytesIO()
    grey.save(jpeg, "JPEG")
    half = grey.resize((40, 30), Image.NEAREST)
    return {"saved as JPEG": Image.open(jpeg), "a JPEG once": Image.open(jpeg).copy(),
            "averaged": half.resize(mask.size, Image.BILINEAR), "shrunk": half,
            "with another number": mask.point(lambda number: number or 255),
            "with palette and numbers permuted": mask.remap_palette([3, 0, 1, 2, *range(4, 12)]),
            "in colour": mask.convert("RGB")}


@pytest.mark.parametrize("how, keys", [
    ("saved as JPEG", {"jpeg", "blended"}), ("a JPEG once", {"blended"}), ("averaged", {"blended"}),
    ("with palette and numbers permuted", {"palette"}), ("with another number", {"numbers"}),
    ("shrunk", {"mask sizes"}), ("in colour", {"broken"})])
def test_masks_are_found_by_what_happened_to_them_and_no_others_are(streets, how, keys):
    for i in (3, 4):                                # one for training, one for validation
        file = streets / f"labels/street_000{i}_P.png"
        with Image.open(file) as mask:
            picture = spoiled(mask)[how]
            same_look = picture.convert("RGB").tobytes() == mask.convert("RGB").tobytes()
        assert same_look == (how in ("with palette and numbers permuted", "in colour"))
        picture.save(file, picture.format or "PNG")
    bad = {"images/street_0003.png", "images/street_0004.png"}
    assert found(street_data(streets)) == dict.fromkeys(keys, bad)


def test_each_broken_picture_and_each_broken_mask_is_named_and_never_an_exception(streets):
    data, pictures = street_data(streets), sorted((streets / "images").iterdir())
    labels = sorted((streets / "labels").iterdir())
    pictures[0].unlink()
    labels[1].unlink()
    for file, left in ((pictures[2], 0), (labels[3], 0), (pictures[4], 900), (labels[5], 300)):
        file.write_bytes(file.read_bytes()[:left])
    for file in (pictures[6], labels[6]):
        file.write_bytes(b"no picture at all")
    broken = check_data(data).found["broken"]
    assert broken.keys() == {*map(str, pictures[:7])} and found(data).keys() == {"broken"}
    for i in (1, 3, 5):
        assert labels[i].name in broken[str(pictures[i])]


# Masks by hand

@pytest.mark.parametrize("rows, share", [
    ([[0, 0, 3, 3]], 0), ([[0, 1, 3]], 1), ([[3, 2, 0]], 1), ([[0, 0, 1, 2, 3, 3]], 1),
    ([[0, 1, 2], [0, 0, 2]], 1 / 2), ([[0, 1, 2], [0, 2, 2], [0, 0, 2]], 1 / 3),    # of both ways
    ([[0], [4], [9]], 1),                                       # a column
    ([[7, 2, 7, 7, 2, 7]], 0), ([[3, 9, 7]], 0), ([[3, 0, 7]], 0), ([[3, 3, 7], [3, 7, 7]], 0),
    ([[5, 5, 5]] * 3, 0), ([[0, 0, 1, 1]], 0), ([[0, 9]], 0), ([[4]], 0)])
def test_a_pixel_is_blended_if_its_number_is_between_those_beside_it(rows, share):
    assert blended(numpy.array(rows)) == pytest.approx(share)


TEN, TWO, HALVES = Masks(list("abcdefghij")), Masks(["a", "b"]), Masks(["a", "b"], div=True)


@pytest.mark.parametrize("rows, target, keys", [
    ([[0, 0, 4, 9, 9]], TEN, {"blended"}), ([[0, 0, 4, 9, 9, 0, 0]], TEN, set()),   # 1 in 3, in 5
    ([[1, 3, 1, 1, 3, 1, 1, 3]] * 5 + [[5, 3] * 4, [5] * 8], TEN, set()),   # poles, and a road
    ([[0, 1]], TWO, set()), ([[1, 2]], TWO, {"numbers"}), ([[0, 255]], TWO, {"numbers"}),
    ([[0, 255]], HALVES, set()), ([[0, 7]], HALVES, {"broken"}), ([[0, 1]], HALVES, {"broken"})])
def test_a_mask_is_found_by_its_numbers_and_the_classes(tmp_path, rows, target, keys):
    Image.fromarray(numpy.array(rows, dtype=numpy.uint8)).save(tmp_path / "mask.png")
    files = pictures(tmp_path / "x", 1, (len(rows), len(rows[0])))
    data = bunch(Dataset(files, [tmp_path / "mask.png"], target))
    assert found(data) == dict.fromkeys(keys, {"x/0.png"})


@pytest.mark.parametrize("shape, orientation, key", [
    ((6, 6), 6, "turned"), ((6, 6), 3, "turned"), ((6, 8), 3, "turned"), ((6, 8), 2, "turned"),
    ((6, 8), 6, "mask sizes"), ((6, 8), 8, "mask sizes")])
def test_a_picture_that_is_turned_while_its_mask_is_not_is_named(tmp_path, shape, orientation, key):
    files, labels = pictures(tmp_path / "x", 5, shape), pictures(tmp_path / "y", 5, shape, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for file in (files[1], files[2], labels[2], labels[3]):     # 1, both of 2, and the mask 3
        with Image.open(file) as picture:
            picture.load()
        picture.save(file, exif=exif)
    data = bunch(Dataset(files, labels, Masks("ab"), size=(6, 6)))
    assert found(data) == {key: {"x/1.png", "x/3.png"}}


# Pictures and labels

def test_other_sizes_are_found_only_where_pictures_are_stacked(tmp_path):
    x, y = pictures(tmp_path / "x", 3), pictures(tmp_path / "y", 3, (8, 6))
    report = check_data(bunch(Dataset([*x, y[0]]), Dataset([*y, x[0]])))
    assert report.found["sizes"] == {str(y[0]): "8 x 6", str(x[0]): "6 x 8"}
    for data in (bunch(Dataset(x), Dataset(y)), bunch(Dataset([*x, y[0]]), bs=1),
                 bunch(Dataset([*x, y[0]], size=(6, 6))),
                 bunch(Dataset(x), Dataset([*y, x[0]]), val_bs=1)):
        assert "sizes" not in found(data)


def test_a_picture_that_training_has_is_no_test_of_it_whatever_its_file_is_called(tmp_path):
    x, y, z = (pictures(tmp_path / name, 3) for name in "xyz")
    with Image.open(x[0]) as picture:
        picture.save(y[1], compress_level=0)                    # other bytes, the same pixels
    z[2].write_bytes(x[1].read_bytes())
    z[0].write_bytes(y[0].read_bytes())                         # validation and test may share
    x.append(x[2])                                              # and training has it twice
    report = check_data(bunch(Dataset(x), Dataset(y), Dataset(z)))
    assert report.found == {"copies": {str(y[1]): f"as {x[0]}", str(z[2]): f"as {x[1]}"}}


@pytest.mark.parametrize("kind, labels", [(Categories, ["sea"] * 10 + ["air"] * 9),
                                          (Tags, [["sea"]] + [["air", "sea"]] * 9)])
def test_a_class_with_fewer_than_ten_training_pictures_is_named(tmp_path, kind, labels):
    target = kind(["sea", "air", "ice"])
    train = Dataset(pictures(tmp_path / "x", len(labels)), labels, target)
    other = Dataset(pictures(tmp_path / "y", 2), labels[-2:], target)
    assert check_data(bunch(train, other, other)).found == {"few": {"air": "9", "ice": "0"}}


@pytest.mark.parametrize("target, bad", [
    (Tags(["haze", "road"]), [["raod", "haze"], [""], 7, None]),
    (Categories(["haze", "road"]), ["raod", "", ["road"], None]), (Masks("ab"), ["a", "", None])])
def test_each_label_that_would_stop_training_is_broken(tmp_path, target, bad):
    x = pictures(tmp_path / "x", len(bad))
    broken = check_data(bunch(Dataset(x, bad, target))).found["broken"]
    assert broken.keys() == {*map(str, x)} and str(bad[0][0]) in broken[str(x[0])]


def test_a_picture_without_a_tag_is_named_and_a_test_set_needs_no_labels(tmp_path):
    train = Dataset(pictures(tmp_path / "x", 11), [["sea"]] * 10 + [[]], Tags(["sea"]))
    test = Dataset(pictures(tmp_path / "y", 2))
    assert check_data(bunch(train, None, test)).found.keys() == {"empty"}
    test.files[1].unlink()
    assert found(bunch(train, None, test)) == {"broken": {"y/1.png"}, "empty": {"x/10.png"}}
    assert found(bunch(test)) == {"broken": {"y/1.png"}}        # no labels at all


# What comes of it

def test_looking_leaves_no_trace(streets):
    def state() -> list:
        files = {file: (file.read_bytes(), file.stat().st_mtime) for file in streets.glob("*/*")}
        return [files, repr(data.train_dl), torch.get_rng_state().tolist(), random.getstate(),
                str(numpy.random.get_state())]

    data = street_data(streets)
    before = state()
    assert check_data(data) == check_data(data) and state() == before


@pytest.mark.parametrize("key", FINDINGS)
def test_what_would_stop_training_is_an_error_and_all_else_a_warning(key):
    report = Report({"few": {"ice": "3"}} | {key: {f"{i}.png": f"why {i}" for i in range(5)}})
    *_, line = str(report).splitlines()
    is_error = key in {"broken", "sizes", "mask sizes", "numbers"}
    assert line.startswith("error: 5 " if is_error else "warning: 5 ")
    assert "2.png (why 2)" in line and "3.png" not in line and "+2" in line
    with pytest.raises(ValueError, match="why 0") if is_error else nullcontext():
        report.refuse_errors()
    assert "nothing" in str(Report({})) and Report({}).refuse_errors() is None
