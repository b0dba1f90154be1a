from pathlib import Path

import pytest

from minifast.findings import Look
from minifast.leaks import FRAME, copies, neighbours


def look(part: str, name: str, digest: bytes = b"", *names: str) -> Look:
    return Look(part, Path(f"data/x/{name}"), digest=digest, names=names)


# Files that are the same

def test_a_picture_that_stands_twice_in_a_set_is_named():
    found, = copies([look("training", "a.jpg", b"1"), look("training", "b.jpg", b"2"),
                     look("training", "c.jpg", b"1"), look("training", "d.jpg", b"1")])
    assert found.level == "warning" and found.files == (Path("data/x/c.jpg"), Path("data/x/d.jpg"))
    assert found.text.startswith("2 of 4 training pictures are copies of another one: "
                                 "x/c.jpg (= x/a.jpg), x/d.jpg (= x/a.jpg)")


def test_a_picture_on_both_sides_of_the_split_is_named():
    found, = copies([look("training", "a.jpg", b"1"), look("validation", "b.jpg", b"1"),
                     look("validation", "c.jpg", b"2")])
    assert found.level == "warning" and found.files == (Path("data/x/b.jpg"),)
    assert found.text.startswith("1 of 2 validation pictures are training pictures too: x/b.jpg "
                                 "(= x/a.jpg)") and "score" in found.text


def test_a_picture_for_testing_that_is_known_is_named():
    test = look("test", "t.jpg", b"1")
    for part in ("training", "validation"):
        found, = copies([look(part, "a.jpg", b"1"), test])
        assert found.text.startswith(f"1 of 1 test pictures are {part} pictures too: x/t.jpg")


def test_the_same_file_in_two_sets_is_named():
    assert copies([look("training", "a.jpg", b"1"), look("validation", "a.jpg", b"1")])


def test_different_pictures_are_no_copies():
    assert copies([look("training", "a.jpg", b"1"), look("validation", "b.jpg", b"2")]) == []


# Neighbours in a film

@pytest.mark.parametrize("stem, film, frame", [
    ("0001TP_006690", "0001TP", 6690), ("0006R0_f00930", "0006R0", 930),
    ("Seq05VD_f00000", "Seq05VD", 0), ("0016E5_00390", "0016E5", 390)])
def test_the_file_names_of_camvid_tell_film_and_frame(stem, film, frame):
    match = FRAME.fullmatch(stem)
    assert (match[1], int(match[2])) == (film, frame)


@pytest.mark.parametrize("stem", ["train_123", "train_12345", "street_0007", "2007_000033", "a1_1",
                                  "COCO_train2014_000000000009", "0001TP_006690_P", "a1_123"])
def test_other_file_names_are_no_frames(stem):
    assert FRAME.fullmatch(stem) is None


def frames(part: str, *numbers: int, film: str = "0001TP") -> list[Look]:
    return [look(part, f"{film}_{number:06}.png") for number in numbers]


def test_a_validation_frame_next_to_one_of_training_is_named():
    # 60 lies between 30 and 100: 40 from 100 and 30 from 30. 900's neighbours are 800 and 1000.
    found, = neighbours([*frames("training", 100, 30, 1000), *frames("validation", 60, 800, 900)])
    assert found.level == "warning"
    assert {file.name for file in found.files} == {
        "0001TP_000060.png", "0001TP_000800.png", "0001TP_000900.png"}
    assert found.text.startswith("3 of 3 validation pictures")
    assert "half of them at most 100 frames away" in found.text
    assert "x/0001TP_000060.png (30 from x/0001TP_000030.png)" in found.text
    assert "x/0001TP_000800.png (700 from x/0001TP_000100.png)" in found.text


def test_the_nearer_neighbour_may_come_later_in_the_film():
    found, = neighbours([*frames("training", 0, 13), *frames("validation", 10)])
    assert "x/0001TP_000010.png (3 from x/0001TP_000013.png)" in found.text


def test_a_frame_behind_another_one_is_no_neighbour():
    for part in ("validation", "test"):
        seen = [*frames("validation", 60), *frames(part, 90), *frames("training", 120)]
        assert all("0001TP_000060" not in found.text for found in neighbours(seen))


def test_the_same_frame_in_two_sets_and_its_neighbours_are_named_in_any_order():
    seen = [look("training", "0001TP_00005.png"), look("validation", "0001TP_00005.jpg"),
            look("validation", "0001TP_00006.png")]
    for looks in (seen, seen[::-1]):
        found, = neighbours(looks)
        assert found.text.startswith("2 of 2 validation pictures")
        assert "(0 from x/0001TP_00005.png)" in found.text


def test_frames_of_different_films_are_no_neighbours():
    assert neighbours([*frames("training", 30), *frames("validation", 60, film="0006R0")]) == []


def test_frames_between_training_and_test_are_not_looked_at():
    assert neighbours([*frames("training", 30), *frames("test", 60)]) == []


def test_all_validation_pictures_are_counted():
    found, = neighbours([*frames("training", 30), *frames("validation", 60, 90),
                         look("validation", "street_0031.png")])
    assert found.text.startswith("1 of 3 validation pictures")
