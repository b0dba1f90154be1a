"""Files that went bad: 200 corrupted variants, seeded, of each kind of file that minifast reads.

Each must end in a ValueError that names a file, or in what Pillow or csv soundly decodes; files of
our own always in a ValueError. No other exception, and no file is changed.
"""

from collections.abc import Callable
import csv
from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch

from minifast.datablock import ImageList, SegmentationList
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.extras.doctor import check_data
from minifast.images import open_image
from minifast.extras.inference import load_learner
from minifast.learner import Learner
from minifast.listing import read_lines
from minifast.targets import Masks
from minifast.tools.files import load_tensors, save_tensors
from minifast.unet import UNet

CODES = ["sky", "road", "car", "void"]
PICTURE, MASK, CSV, NAMES, MODEL = ("images/0.jpg", "labels/0.png", "labels.csv", "codes.txt",
                                    "model.pth")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """The content of a small set's files, and of a model for it, by name."""
    folder = tmp_path_factory.mktemp("good")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    rng = numpy.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), numpy.uint8)).save(
            folder / f"images/{i}.jpg")
        mask = Image.fromarray(rng.integers(0, 4, (24, 32), numpy.uint8)).convert("P")
        mask.putpalette(range(12))
        mask.save(folder / f"labels/{i}.png")
    with open(folder / CSV, "w", newline="") as file:
        csv.writer(file).writerows([("image_name", "tags"), ("0", "haze road"), ("1", "clear"),
                                    ("2", "road"), ("3", "clear road")])
    (folder / NAMES).write_text("\n".join(CODES) + "\n")
    learn = Learner(masks(folder), UNet(4, channels=2, levels=1), precision="float32")
    learn.export(folder / MODEL)
    return {str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*") if file.is_file()}


def masks(folder: Path) -> DataBunch:
    """The set as pictures with masks."""
    return (SegmentationList.from_folder(folder / "images").split_by_idx([3])
            .label_from_func(lambda file: folder / "labels" / f"{file.stem}.png",
                             classes=read_lines(folder / NAMES))
            .transform(size=(12, 16)).databunch(bs=1, device=torch.device("cpu")))


def tags(folder: Path) -> ImageList:
    """The set as pictures with tags."""
    return (ImageList.from_csv(folder, CSV, folder="images", suffix=".jpg").split_none()
            .label_from_csv(label_delim=" "))


def corrupted(content: bytes, others: list[bytes], seed: int) -> bytes:
    """Cut short, or some bytes changed, or something else altogether."""
    rng = numpy.random.default_rng(seed)
    kind = seed % 4
    if kind == 0:
        return content[:rng.integers(len(content))]
    if kind == 1:
        return others[rng.integers(len(others))]
    changed = numpy.frombuffer(content, numpy.uint8).copy()
    places = rng.integers(len(content), size=1 if kind == 2 else 8)
    changed[places] ^= rng.integers(1, 256, len(places)).astype(numpy.uint8)
    return changed.tobytes()


def picture_is_sound(folder: Path) -> bool:
    return open_image(folder / PICTURE, (12, 16)).shape == (3, 12, 16)


def mask_is_sound(folder: Path) -> bool:
    return set(masks(folder).train_ds[0][1].unique().tolist()) <= {0, 1, 2, 3}


def csv_is_sound(folder: Path) -> bool:
    labelled = tags(folder)
    with open(folder / CSV, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in list(csv.reader(file))[1:] if row]
    return list(labelled.labels) == [sorted({*row[1].split(" ")} - {""}) for row in rows]


def names_are_sound(folder: Path) -> bool:
    classes, lines = masks(folder).classes, (folder / NAMES).read_text().splitlines()
    return classes == [line.strip() for line in lines if line.strip()]


def model_is_sound(folder: Path) -> bool:
    load_learner(folder / MODEL)
    return False                                        # of our own, nothing corrupted may pass


@pytest.mark.filterwarnings("ignore")                   # of tags that no training picture has, ...
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name, sound", [
    (PICTURE, picture_is_sound), (MASK, mask_is_sound), (CSV, csv_is_sound),
    (NAMES, names_are_sound), (MODEL, model_is_sound)], ids=[PICTURE, MASK, CSV, NAMES, MODEL])
def test_a_corrupted_file_is_refused_by_name_or_soundly_decoded(
        good, tmp_path, name: str, sound: Callable[[Path], bool], seed: int):
    others = [content for other, content in good.items() if other != name] + [b"", b"\0" * 99]
    files = good | {name: corrupted(good[name], others, seed)}
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    try:
        assert sound(tmp_path)
    except ValueError as error:
        # Too few names of classes show in a mask that has more; none at all, in the data block.
        assert str(tmp_path / name) in str(error) or name == NAMES and (
            "labels" in str(error) or not read_lines(tmp_path / NAMES))
        assert type(error) is ValueError
    assert {str(file.relative_to(tmp_path)): file.read_bytes()
            for file in tmp_path.rglob("*") if file.is_file()} == files


@pytest.mark.parametrize("seed", range(40))
def test_the_doctor_reports_a_corrupted_picture_or_mask_and_raises_nothing(good, tmp_path, seed):
    name = (PICTURE, MASK)[seed // 4 % 2]
    files = good | {name: corrupted(good[name], [good[CSV], b""], seed)}
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    pictures = [tmp_path / f"images/{i}.jpg" for i in range(4)]
    labels = [tmp_path / f"labels/{i}.png" for i in range(4)]
    report = check_data(DataBunch.create(Dataset(pictures, labels, Masks(CODES), (12, 16)), None,
                                         bs=1, device=torch.device("cpu")))
    try:
        Dataset(pictures, labels, Masks(CODES), (12, 16))[0]
        stops = False
    except ValueError:
        stops = True
    assert [finding.files for finding in report.errors] == [(pictures[0],)] * stops


WRONG = [None, 7, 1.5, True, "text", b"bytes", [], [3], {}, {"a": 1}, torch.zeros(3), (1, 2)]


@pytest.mark.parametrize("field", ["content", "model", "recipe", "target", "classes", "div", "size",
                                   "method", "stats", "thresh"])
def test_an_exported_model_with_a_field_of_another_kind_is_refused_by_name_or_works(
        good, tmp_path, field):
    file = tmp_path / MODEL
    file.write_bytes(good[MODEL])
    content, refused = load_tensors(file), 0
    for value in WRONG:
        try:
            save_tensors(file, {**content, field: value})       # with a digest that is right
            load_learner(file).predict_files([write_picture(tmp_path)])
        except ValueError as error:
            refused += 1
            assert str(file) in str(error)
    assert refused >= len(WRONG) - 3        # None may mean none, a list of one number a size, ...


def write_picture(folder: Path) -> Path:
    file = folder / "new.png"
    Image.new("RGB", (32, 24), "red").save(file)
    return file
