"""Files that went bad, or that mean harm.

Of each kind of file that minifast reads, twenty corrupted variants, seeded: each must end in a
ValueError that names a file, or in what Pillow or csv soundly decodes; files of our own always in a
ValueError. No other exception, and no file is changed.
"""

from contextlib import nullcontext
import csv
from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch

from minifast.datablock import ImageList, SegmentationList
from minifast.databunch import DataBunch
from minifast.extras.doctor import ERRORS, check_data
from minifast.extras.inference import load_learner
from minifast.images import open_image
from minifast.learner import Learner
from minifast.listing import read_lines
from minifast.tools.files import load_tensors, save_tensors
from minifast.unet import UNet
from minifast.vision import resnet18, unet_learner
from test_files import Trap

PICTURE, MASK, CSV, NAMES, MODEL = "images/0.jpg labels/0.png tags.csv codes.txt model.pth".split()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """The content of a small set's files, and of a model for it, by name."""
    folder = tmp_path_factory.mktemp("good")
    rng = numpy.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for i in range(4):
        picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3), numpy.uint8))
        picture.save(folder / f"images/{i}.jpg")
        mask = Image.fromarray(rng.integers(0, 4, (24, 32), numpy.uint8)).convert("P")
        mask.putpalette(range(12))
        mask.save(folder / f"labels/{i}.png")
    (folder / CSV).write_text("image_name,tags\n0,haze road\n1,clear\n2,road\n3,clear road\n")
    (folder / NAMES).write_text("sky\nroad\ncar\nvoid\n")
    small(folder).export(folder / MODEL)
    return contents(folder)


def masks(folder: Path) -> DataBunch:
    return (SegmentationList.from_folder(folder / "images").split_by_idx([3])
            .label_from_func(lambda file: folder / "labels" / f"{file.stem}.png",
                             classes=read_lines(folder / NAMES))
            .transform(size=(12, 16)).databunch(bs=1, device=torch.device("cpu")))


def small(folder: Path) -> Learner:
    return Learner(masks(folder), UNet(4, channels=2, levels=1), precision="float32")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*") if file.is_file()}


def put(folder: Path, files: dict[str, bytes]) -> None:
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def corrupted(good: dict[str, bytes], name: str, seed: int) -> dict[str, bytes]:
    """The set with one file cut short, with 1 or 8 bytes changed, or exchanged for another."""
    rng, content = numpy.random.default_rng(seed), good[name]
    others = [other for key, other in good.items() if key != name] + [b"", b"\0" * 99]
    changed = numpy.frombuffer(content, numpy.uint8).copy()
    places = rng.integers(len(content), size=1 if seed % 4 == 2 else 8)
    changed[places] ^= rng.integers(1, 256, len(places)).astype(numpy.uint8)
    variants = content[:places[0]], others[places[0] % len(others)], changed.tobytes()
    return good | {name: variants[min(seed % 4, 2)]}


def picture_is_sound(folder: Path) -> bool:
    pixels = open_image(folder / PICTURE, (12, 16))
    Image.open(folder / PICTURE).load()                 # an OSError where Pillow finds fault
    return pixels.shape == (3, 12, 16)


def mask_is_sound(folder: Path) -> bool:
    values = masks(folder).train_ds[0][1].unique().tolist()
    return set(values) <= set(numpy.unique(Image.open(folder / MASK)).tolist()) & {0, 1, 2, 3}


def csv_is_sound(folder: Path) -> bool:
    named = ImageList.from_csv(folder, CSV, folder="images", suffix=".jpg").split_none()
    labels = named.label_from_csv(label_delim=" ").labels
    lines = (folder / CSV).read_text("utf-8-sig").splitlines()
    rows = [row for row in list(csv.reader(lines))[1:] if row]
    return list(labels) == [sorted({*row[1].split(" ")} - {""}) for row in rows]


def names_are_sound(folder: Path) -> bool:
    classes, lines = masks(folder).classes, (folder / NAMES).read_text("utf-8-sig").splitlines()
    return classes == [line.strip() for line in lines if line.strip()]


def model_is_sound(folder: Path) -> bool:
    load_learner(folder / MODEL)
    return False                                        # of our own, nothing corrupted may pass


SOUND = {PICTURE: picture_is_sound, MASK: mask_is_sound, CSV: csv_is_sound, NAMES: names_are_sound,
         MODEL: model_is_sound}


@pytest.mark.filterwarnings("ignore")                   # of tags that no training picture has, ...
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", SOUND)
def test_a_corrupted_file_is_refused_by_name_or_soundly_decoded(good, tmp_path, name, seed):
    files = corrupted(good, name, seed)
    put(tmp_path, files)
    try:
        assert SOUND[name](tmp_path)
    except ValueError as error:
        # Too few names of classes show in a mask that has more; none at all, in the data block.
        assert str(tmp_path / name) in str(error) or name == NAMES and (
            "labels" in str(error) or not read_lines(tmp_path / NAMES))
        assert type(error) is ValueError
    assert contents(tmp_path) == files


@pytest.mark.filterwarnings("ignore")                   # of what Pillow thinks of bad EXIF blocks
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", [PICTURE, MASK])
def test_the_doctor_reports_an_error_exactly_where_training_would_stop(good, tmp_path, name, seed):
    put(tmp_path, corrupted(good, name, seed))
    data = masks(tmp_path)
    found = check_data(data).found
    errors = [file for key in ERRORS for file in found.get(key, ())]
    assert errors in ([], [str(tmp_path / PICTURE)])
    with pytest.raises(ValueError) if errors else nullcontext():
        data.train_ds[0]


@pytest.mark.filterwarnings("ignore")                   # of torch, about a net for no class, ...
@pytest.mark.parametrize("field", ["content", "model", "recipe", "target", "classes"])
def test_an_exported_model_with_a_field_of_another_kind_is_refused_by_name(good, tmp_path, field):
    put(tmp_path, good)
    content = load_tensors(tmp_path / MODEL)
    for wrong in (None, 7, True, "text!", b"bytes", [], [3], {}, {"a": 1}, torch.zeros(3), (1, 2)):
        save_tensors(tmp_path / MODEL, {**content, field: wrong})       # its digest is right
        with pytest.raises(ValueError, match=r"model\.pth"):
            load_learner(tmp_path / MODEL)


@pytest.mark.parametrize("read", [
    lambda learn: load_tensors(MODEL), lambda learn: load_learner(MODEL),
    lambda learn: learn.load(MODEL), lambda learn: learn.load(MODEL, with_opt=False),
    lambda learn: learn.fit_one_cycle(1, 0.1, checkpoint=MODEL, resume=True),
    lambda learn: unet_learner(learn.data, resnet18, pretrained=MODEL)])
def test_no_code_in_a_file_of_weights_is_run(good, tmp_path, monkeypatch, read):
    put(tmp_path, good)
    monkeypatch.chdir(tmp_path)
    learn = small(tmp_path)
    for name in ("model", "optimizer", "classes", "plan", "content"):
        save_tensors(MODEL, {**learn.state(), name: [Trap()]})          # its digest is right
        with pytest.raises(ValueError, match=r"model\.pth is damaged"):
            read(learn)
    assert not Path("trapped").exists()
