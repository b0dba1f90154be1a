import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

from minifast.inference import Predictions
from minifast.submission import read_back, rows_of, write_submission
from minifast.targets import Categories, Masks, Tags

TAGS = ["clear", "primary", "road"]
LIKELY = torch.tensor([[.9, .3, .1], [.1, .2, .8], [.7, .6, .5]])
NAMES = ["test_2", "test_0", "test_1"]                          # not in the order of the files


def predictions(likely: Tensor = LIKELY, classes: list[str] = TAGS,
                names=("test_0", "test_1", "test_2")) -> Predictions:
    return Predictions([Path(f"tiles/{name}.jpg") for name in names], likely, Tags(classes))


def rows_in(file: Path) -> list[list[str]]:
    with open(file, newline="") as text:
        return list(csv.reader(text))


# What is written

def test_a_submission_has_a_row_for_each_name_in_the_order_of_the_names(tmp_path):
    file = write_submission(tmp_path / "s.csv", NAMES, predictions(), 0.25)
    assert file == tmp_path / "s.csv"
    assert file.read_bytes() == (b"image_name,tags\ntest_2,clear primary road\n"
                                 b"test_0,clear primary\ntest_1,road\n")


def test_the_standard_library_reads_what_was_written(tmp_path):
    names = ["a, b", 'the "x"', "\u00e4"]
    file = write_submission(str(tmp_path / "deep" / "s.csv"), names, predictions(names=names), 0.25)
    assert file == tmp_path / "deep" / "s.csv"
    assert rows_in(file) == [["image_name", "tags"], ["a, b", "clear primary"], ['the "x"', "road"],
                             ["\u00e4", "clear primary road"]]


# At .2 and .7, too, which float32 and float64 round to different numbers
@pytest.mark.parametrize("thresh, rows", [
    (0.5, ["clear primary", "clear", "road"]),
    (0.2, ["clear primary road", "clear primary", "road"]),
    (0.7, ["", "clear", "road"])])
@pytest.mark.filterwarnings("ignore:1 pictures have no tag")
def test_a_tag_is_said_strictly_above_the_threshold(tmp_path, thresh, rows):
    for number, same in enumerate((thresh, torch.tensor(thresh))):
        file = write_submission(tmp_path / f"{number}.csv", NAMES, predictions(), same)
        assert [row[1] for row in rows_in(file)[1:]] == rows


def test_each_tag_may_have_a_threshold_of_its_own(tmp_path):
    thresh = torch.tensor([0.8, 0.1, 0.5])
    file = write_submission(tmp_path / "s.csv", NAMES, predictions(), thresh)
    assert rows_in(file)[1:] == [["test_2", "primary"], ["test_0", "clear primary"],
                                 ["test_1", "primary road"]]


def test_rows_are_names_with_their_tags_in_the_order_of_the_classes():
    assert rows_of(NAMES[:2], predictions(), 0.25) == [("test_2", TAGS), ("test_0", TAGS[:2])]
    assert rows_of(["test_0"], predictions(), 0.95) == [("test_0", [])]


def test_pictures_without_a_tag_are_named_in_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="^2 pictures have no tag .* are empty: test_2, test_1$"):
        file = write_submission(tmp_path / "s.csv", NAMES, predictions(), 0.85)
    assert rows_in(file)[1:] == [["test_2", ""], ["test_0", "clear"], ["test_1", ""]]


# What is refused, and leaves everything as it was

@pytest.mark.parametrize("names, message", [
    (["test_0", "test_1"], r"0 are missing \(\), 1 are of no test picture \(test_2\)"),
    ([*NAMES, "test_9", "test_8"], r"2 are missing \(test_8, test_9\), 0 are of no test pict"),
    (["test_0", "test_1", "TEST_2"], r"1 are missing \(TEST_2\), 1 are of no .* \(test_2\)"),
    ([*NAMES, "test_1"], "names of the test pictures must differ.*: test_1")])
def test_every_test_picture_must_be_there_once_and_no_other(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        write_submission(tmp_path / "s.csv", names, predictions(), 0.25)
    assert not list(tmp_path.iterdir())


def test_a_picture_predicted_twice_is_refused(tmp_path):
    twice = predictions(names=["test_0", "test_1", "test_0"])
    with pytest.raises(ValueError, match="names of the predicted pictures must differ.*: test_0"):
        write_submission(tmp_path / "s.csv", ["test_0", "test_1"], twice, 0.25)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [Categories, Masks])
def test_answers_that_are_no_tags_are_refused(tmp_path, kind):
    other = Predictions(predictions().files, LIKELY, kind(TAGS))
    with pytest.raises(ValueError, match=f"a submission has tags, these are {kind.__name__}"):
        write_submission(tmp_path / "s.csv", NAMES, other, 0.25)


@pytest.mark.parametrize("thresh", [[0.2], [0.2, 0.3], [0.2] * 4])
def test_thresholds_that_are_not_one_for_each_tag_are_refused(tmp_path, thresh):
    with pytest.raises(ValueError, match=f"thresholds.* 3, got {len(thresh)}"):
        write_submission(tmp_path / "s.csv", NAMES, predictions(), torch.tensor(thresh))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("thresh, message", [
    ([[0.2]] * 3, "number of dimensions of thresholds must be between 0 and 1, got 2"),
    (20, "thresholds must be between 0 and 1, got 20"), (float("nan"), "thresholds .* got nan")])
def test_thresholds_that_would_say_nonsense_are_refused(tmp_path, thresh, message):
    with pytest.raises(ValueError, match=message):
        write_submission(tmp_path / "s.csv", NAMES, predictions(), thresh)


def test_logits_are_refused_and_a_list_of_thresholds_is_fine(tmp_path):
    good = predictions()
    logits = Predictions(good.files, good.probabilities * 9 - 4, good.target)
    with pytest.raises(ValueError, match="probabilities must be between 0 and 1"):
        write_submission(tmp_path / "s.csv", NAMES, logits, 0.2)
    one, other = (write_submission(tmp_path / f"{i}.csv", NAMES, good, thresh).read_text()
                  for i, thresh in enumerate([[0.2] * 3, 0.2]))
    assert one == other


@pytest.mark.parametrize("classes", [["clear", "blow down", "road"], ["blow", "blow down", "down"],
                                     ["clear", "primary ", "road"], ["clear", "", "road"]])
def test_a_tag_that_would_be_read_as_others_is_refused_with_nothing_left_behind(tmp_path, classes):
    wanted = "not say what was written: of 3 rows 3 were read, wrong ones: .* Has a name or a tag a"
    with pytest.raises(ValueError, match=wanted):
        write_submission(tmp_path / "s.csv", NAMES, predictions(classes=classes), 0.25)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays_unless_it_may_be_overwritten(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text("of yesterday")
    with pytest.raises(ValueError, match=r"s\.csv exists already, and stays.*overwrite=True"):
        write_submission(file, NAMES, predictions(), 0.25)
    assert file.read_text() == "of yesterday"
    write_submission(file, NAMES, predictions(), 0.25, overwrite=True)
    assert len(rows_in(file)) == 4


def test_reading_back_compares_names_and_tags_row_by_row():
    text = "image_name,tags\na,clear road\nb,\n"
    read_back(text, [("a", ["clear", "road"]), ("b", [])])
    for wrong in ([("b", []), ("a", ["clear", "road"])], [("a", ["road", "clear"]), ("b", [])],
                  [("a", ["clear", "road"])], [("a", ["clear road"]), ("b", [])]):
        with pytest.raises(ValueError, match="does not say what was written"):
            read_back(text, wrong)
