from collections import Counter
from pathlib import Path
import random
import struct

import numpy
from PIL import Image
import pytest
import torch

from minifast.datablock import ImageList, SegmentationList
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.doctor import Report, check_data, look_at
from minifast.findings import Finding
from minifast.targets import Categories, Masks, Tags


def pictures(folder: Path, count: int, shape: tuple[int, int] = (4, 6)) -> list[Path]:
    """Files folder/0.png, folder/1.png, ... of noise, so no two are the same."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{i}.png" for i in range(count)]
    for i, file in enumerate(files):
        noise = numpy.random.default_rng([i, *folder.name.encode()]).integers(256, size=(*shape, 3))
        Image.fromarray(noise.astype(numpy.uint8)).save(file)
    return files


def masks(folder: Path, *values: int, shape: tuple[int, int] = (4, 6)) -> list[Path]:
    """Files folder/0_P.png, ..., each of zeros, but for its value in the upper left pixel."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{i}_P.png" for i in range(len(values))]
    for value, file in zip(values, files):
        numbers = numpy.zeros(shape, dtype=numpy.uint8)
        numbers[0, 0] = value
        Image.fromarray(numbers).save(file)
    return files


def bunch(train: Dataset, valid: Dataset | None = None, test: Dataset | None = None,
          bs: int = 2) -> DataBunch:
    return DataBunch.create(train, valid, test, bs=bs, num_workers=0, device=torch.device("cpu"))


def warnings_of(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.level == "warning"]


def texts(findings: list[Finding], word: str = "") -> str:
    """The texts that have a word, one a line."""
    return "\n".join(finding.text for finding in findings if word in finding.text)


# Files

def test_every_bad_picture_is_an_error_and_never_an_exception(tmp_path):
    files = pictures(tmp_path / "x", 6, (40, 40))
    files[0].unlink()
    files[1].write_bytes(b"")
    files[2].write_bytes(b"no picture at all")
    files[3].write_bytes(files[3].read_bytes()[:2000])
    files[4].unlink()
    files[4].mkdir()
    report = check_data(bunch(Dataset(files)))
    assert {file for finding in report.errors for file in finding.files} == set(files[:5])
    said = texts(report.errors)
    for words in ("x/0.png (there is no such file)", "x/1.png (the file is empty); download",
                  "x/2.png (Pillow knows no picture like this)", "x/3.png (image file is truncated",
                  "x/4.png (there is no such file)"):
        assert words in said
    assert report.modes == {"RGB": 1} and report.pictures == {"training": 6}


def test_an_exif_block_that_pillow_cannot_write_again_is_no_error(tmp_path):
    # Two EXIF entries: a width that is text, which Pillow cannot write again, and a quarter turn.
    entries = [(0x0100, 2, 4, b"abc"), (0x0112, 3, 1, b"\6")]
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(
        struct.pack("<HHI4s", *entry) for entry in entries) + bytes(4)
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    report = check_data(bunch(Dataset([tmp_path / "a.jpg"])))
    assert report.findings == () and report.sizes == {(6, 4): 1}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")             # which is Pillow's
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0",
                                  b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_a_rubbish_exif_block_is_no_error(tmp_path, exif):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (6, 4)).save(tmp_path / "a_P.png")
    dataset = Dataset([tmp_path / "a.jpg"] * 10, [tmp_path / "a_P.png"] * 10, Masks("a"))
    report = check_data(bunch(dataset))
    assert report.errors == [] and report.sizes == {(4, 6): 10} and report.masks == 10
    assert texts(warnings_of(report), "EXIF") == ""
    assert dataset[0][0].shape == (3, 4, 6)                     # as training has it


def test_the_report_names_modes_and_upright_sizes(tmp_path):
    files = pictures(tmp_path / "x", 3)
    exif = Image.Exif()
    exif[0x0112] = 6                                            # turned by a quarter
    Image.new("RGB", (4, 6)).save(tmp_path / "x" / "turned.jpg", exif=exif)
    Image.new("RGBA", (6, 4)).save(files[2])
    report = check_data(bunch(Dataset([*files, tmp_path / "x" / "turned.jpg"])))
    assert report.modes == {"RGB": 3, "RGBA with transparency": 1}
    assert report.sizes == {(4, 6): 4}
    assert report.errors == [] and texts(warnings_of(report), "RGBA").startswith("1 of 4 ")


def test_pictures_of_different_size_are_an_error_only_where_they_become_a_batch(tmp_path):
    files = [*pictures(tmp_path / "x", 2), *pictures(tmp_path / "y", 1, (5, 6))]
    assert "y/0.png (5 x 6)" in texts(check_data(bunch(Dataset(files))).errors)
    for data in (bunch(Dataset(files), bs=1), bunch(Dataset(files, size=(4, 5))),
                 bunch(Dataset(files[:2]), Dataset(files[2:]))):
        report = check_data(data)
        assert report.errors == [] and "y/0.png (5 x 6)" in texts(warnings_of(report))


def test_a_picture_on_both_sides_of_the_split_is_named(tmp_path):
    train, valid = pictures(tmp_path / "train", 2), pictures(tmp_path / "valid", 2)
    valid[1].write_bytes(train[0].read_bytes())
    target = Categories(["sea", "land"])
    report = check_data(bunch(Dataset(train, ["sea", "land"], target),
                              Dataset(valid, ["land", "land"], target), Dataset([train[1]])))
    assert report.errors == []
    assert "valid/1.png (= train/0.png)" in texts(warnings_of(report), "training pictures too")
    assert "train/1.png (= train/1.png)" in texts(warnings_of(report), "test pictures")


# Labels

def test_bad_tags_are_errors_and_no_tag_is_a_warning(tmp_path):
    files = pictures(tmp_path / "x", 5)
    labels = [["road"], ["raod", "haze", "fog"], [""], [], 7]
    report = check_data(bunch(Dataset(files, labels, Tags(["haze", "road"]))))
    assert {file for found in report.errors for file in found.files} == {*files[1:3], files[4]}
    assert "x/1.png (its label has 'raod', 'fog'), x/2.png (its label has ''); wanted of: haze, " \
           "road" in texts(report.errors)
    assert "x/4.png" in texts(report.errors, "not iterable")
    assert "x/3.png" in texts(warnings_of(report), "no tag")
    assert "haze (0 in validation)" in texts(warnings_of(report), "no training picture")
    assert "road (1)" in texts(warnings_of(report), "fewer than 10")


def test_an_empty_tag_is_an_error_even_where_it_is_a_class(tmp_path):
    dataset = Dataset(pictures(tmp_path / "x", 1), [["", "haze"]], Tags(["", "haze"]))
    assert "x/0.png (its label has '')" in texts(check_data(bunch(dataset)).errors)


def test_a_class_that_is_unknown_is_an_error(tmp_path):
    dataset = Dataset(pictures(tmp_path / "x", 2), ["sea", "air"], Categories(["sea", "land"]))
    assert "1 of 2 " in texts(check_data(bunch(dataset)).errors, "x/1.png (its label has 'air')")


# Masks

def test_every_bad_mask_is_an_error_with_its_likely_cause(tmp_path):
    # masks with values that are no class
    files = pictures(tmp_path / "images", 8)
    labels = masks(tmp_path / "labels", 1, 3, 3, 255, 255, 1, 1, 1)
    labels[5].unlink()
    Image.new("L", (6, 5)).save(labels[6])
    Image.new("RGB", (6, 4)).save(labels[7])
    report = check_data(bunch(Dataset(files, labels, Masks("ab"))))
    assert {file for finding in report.errors for file in finding.files} == set(files[1:])
    for i, value in ((1, 3), (2, 3), (3, 255), (4, 255)):
        look = look_at("training", Dataset(files, labels, Masks("ab")), i)
        assert look.troubles[0].startswith(f"mask labels/{i}_P.png has the values 0, {value}, but "
                                           "there are 2 classes") and "div=True" in look.troubles[0]
    assert "images/1.png (mask labels/1_P.png has the values 0, 3, " in texts(report.errors, "div")
    assert "labels/5_P.png cannot be read" in texts(report.errors)
    assert "labels/6_P.png has (5, 6) rows and columns, its picture (4, 6)" in texts(report.errors)
    look = look_at("training", Dataset(files, labels, Masks("ab")), 7)
    assert "labels/7_P.png cannot be read: its mode is RGB" in look.troubles[0]
    assert report.masks == 1


def test_the_mask_of_a_bad_picture_is_looked_at_too(tmp_path):
    files, labels = pictures(tmp_path / "images", 1), masks(tmp_path / "labels", 3)
    files[0].write_bytes(b"")
    said = texts(check_data(bunch(Dataset(files, labels, Masks("ab")))).errors)
    assert "the file is empty" in said and "has the values 0, 3," in said


def turned(file: Path, orientation: int) -> Path:
    """The file anew, a mask as .png and a picture as .jpg, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(file) as picture:
        other = file.with_suffix(".png" if picture.mode == "L" else ".jpg")
        picture.load()
    file.unlink()
    picture.save(other, exif=exif)
    return other


@pytest.mark.parametrize("orientation, shape", [(3, (4, 6)), (2, (4, 6)), (6, (6, 6)), (8, (6, 6))])
def test_a_picture_that_is_turned_while_its_mask_is_not_is_a_warning_that_names_it(
        tmp_path, orientation, shape):
    files = pictures(tmp_path / "images", 12, shape)
    labels = masks(tmp_path / "labels", *[1] * 12, shape=shape)
    files[5] = turned(files[5], orientation)
    files[7], labels[7] = turned(files[7], orientation), turned(labels[7], orientation)    # both
    labels[9] = turned(labels[9], orientation)                  # the mask alone
    report = check_data(bunch(Dataset(files, labels, Masks("ab"))))
    assert report.errors == []
    found, = [finding for finding in report.findings if "EXIF" in finding.text]
    assert found.level == "warning" and found.files == (files[5], files[9])
    assert found.text.startswith("2 of 12 ") and "images/5.jpg, images/9.png" in found.text


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_quarter_turn_of_a_picture_alone_is_an_error_that_says_orientation(tmp_path, orientation):
    files, labels = pictures(tmp_path / "images", 12), masks(tmp_path / "labels", *[1] * 12)
    files[5] = turned(files[5], orientation)
    files[6] = turned(files[6], orientation)
    labels[6] = turned(labels[6], orientation)                  # both: fine
    labels[7].unlink()
    Image.new("L", (9, 9)).save(labels[7])                      # another mask: another error
    report = check_data(bunch(Dataset(files, labels, Masks("ab"), (4, 4))))
    assert {file for finding in report.errors for file in finding.files} == {files[5], files[7]}
    said = texts(report.errors, "orientation")
    assert said.startswith("1 of 12 ") and "images/5.jpg" in said and "(6, 4)" in said
    assert "another picture" in texts(report.errors, "images/7.png")
    assert texts(warnings_of(report), "EXIF") == ""             # it is told once


def test_a_class_that_no_mask_has_is_named(tmp_path):
    files, labels = pictures(tmp_path / "images", 12), masks(tmp_path / "labels", *[1] * 12)
    target = Masks(["sky", "road", "car"])
    report = check_data(bunch(Dataset(files, labels, target)))
    assert [found.text.partition(";")[0] for found in report.findings] == [
        "1 of 3 classes are in no training picture: car (0 in validation)"]


def test_only_with_masks_are_names_of_files_taken_for_frames(tmp_path):
    files = [file.rename(file.with_name(f"0001TP_{i:06}.png"))
             for i, file in enumerate(pictures(tmp_path / "x", 2))]
    labels = masks(tmp_path / "labels", 1, 1)
    target = Masks("ab")
    data = bunch(Dataset(files[:1], labels[:1], target), Dataset(files[1:], labels[1:], target))
    assert texts(warnings_of(check_data(data)), "film").startswith("1 of 1 ")
    target = Categories("ab")
    data = bunch(Dataset(files[:1], "a", target), Dataset(files[1:], "b", target))
    assert texts(warnings_of(check_data(data)), "film") == ""


# Data of the data block, and other data

def test_good_data_of_the_data_block_has_no_findings(tmp_path):
    pictures(tmp_path / "images", 15)
    masks(tmp_path / "labels", *[1] * 15)
    data = (SegmentationList.from_folder(tmp_path / "images").split_by_idx([0, 5, 9])
            .label_from_func(lambda file: tmp_path / "labels" / f"{file.stem}_P.png", classes="ab")
            .databunch(bs=4, num_workers=0))
    report = check_data(data)
    assert (report.findings, report.masks) == ((), 15)
    assert 0 < report.seconds < 60                              # and no time of day
    assert report.pictures == {"training": 12, "validation": 3}
    assert "nothing found" in str(report)


@pytest.mark.filterwarnings("ignore:.*have no tag")
def test_tags_of_the_data_block_are_looked_at(tmp_path):
    pictures(tmp_path / "train", 12)
    pictures(tmp_path / "test", 2)[1].write_bytes(b"")
    rows = [f"{i},{'' if i == 4 else 'haze'}" for i in range(12)]
    (tmp_path / "tags.csv").write_text("\n".join(["name,tags", *rows]))
    data = (ImageList.from_csv(tmp_path, "tags.csv", "train", ".png").split_none()
            .label_from_csv(label_delim=" ").add_test_folder("test").databunch(num_workers=0))
    report = check_data(data)
    assert report.pictures == {"training": 12, "test": 2} and report.masks == 0
    assert [found.text[:7] for found in report.findings] == ["1 of 14", "1 of 12"]
    assert "test/1.png" in report.errors[0].text and "train/4.png" in warnings_of(report)[0].text


def test_other_data_sets_are_refused(tmp_path):
    files = pictures(tmp_path / "x", 1)
    other = torch.utils.data.TensorDataset(torch.zeros(2, 3, 4, 4), torch.zeros(2))
    with pytest.raises(TypeError, match="Dataset.*validation set is a TensorDataset"):
        check_data(bunch(Dataset(files), other))


def test_looking_leaves_no_trace(tmp_path):
    data = bunch(Dataset(pictures(tmp_path / "x", 3)), Dataset(pictures(tmp_path / "y", 2)))
    before = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
    epochs = data.train_dl.epoch, data.valid_dl.epoch
    check_data(data)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), str(numpy.random.get_state()))
    assert epochs == (data.train_dl.epoch, data.valid_dl.epoch)


def test_files_that_lie_in_no_folder_keep_their_slashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = masks(tmp_path / "labels", 3)
    look = look_at("training", Dataset([Path("/a.png")], labels, Masks("ab")), 0)
    assert f"mask {labels[0]} has" in look.troubles[1]
    look = look_at("training", Dataset([Path("a.png")], labels, Masks("ab")), 0)
    assert f"mask {labels[0]} has" in look.troubles[1]


# The report

def report(*findings: Finding) -> Report:
    return Report(findings, {"training": 1200, "test": 3}, 1203, Counter({"L": 1, "RGB": 1202}),
                  Counter({(4, 6): 1203}), 2.04)


def test_a_report_is_a_table():
    wide = Finding("warning", "3 of 4 " + "long " * 40, ())
    lines = str(report(Finding("error", "torn", ()), wide)).splitlines()
    assert lines[:4] == ["pictures  1,200 training, 3 test, 1,203 masks; looked at in 2.0 s",
                         "modes     RGB (1,202), L (1)", "sizes     4 x 6 (1,203)",
                         "error     torn"]
    assert lines[4].startswith("warning   3 of 4 long ")
    assert all(line.startswith(" " * 10 + "long") for line in lines[5:])
    assert len(lines) == 7 and 90 < max(map(len, lines)) <= 100
    assert str(report()).splitlines()[3:] == ["findings  nothing found"]
    tags = Report((), {"training": 2}, 0, Counter(), Counter(), 0.)
    assert str(tags).startswith("pictures  2 training; looked at in 0.0 s\n")


def test_a_line_is_as_wide_as_the_page_and_names_of_files_stay_whole():
    exact, name = "x" * 45 + " " + "y" * 44, "train-jpg/" + "long-" * 25 + "name.jpg"
    lines = str(report(Finding("error", f"{exact} {name} torn", ()))).splitlines()
    assert lines[3:] == ["error     " + exact, " " * 10 + name, " " * 10 + "torn"]
    assert str(report(Finding("error", exact + "y", ()))).splitlines()[3:] == [
        "error     " + "x" * 45, " " * 10 + "y" * 45]


def test_a_report_tells_errors_from_warnings_and_refuses_errors():
    error, other = (Finding("error", text, ()) for text in ("torn", "empty"))
    warning = Finding("warning", "small", ())
    both = report(error, other, warning)
    assert both.errors == [error, other]
    with pytest.raises(ValueError, match=r"^(?!.*small)[^\n]+:\n- torn\n- empty$"):
        both.refuse_errors()
    report(warning).refuse_errors()


def test_errors_come_first(tmp_path):
    files = pictures(tmp_path / "x", 3)
    Image.new("L", (7, 4)).save(files[2])
    levels = [finding.level for finding in check_data(bunch(Dataset(files))).findings]
    assert levels == ["error", "warning"]
