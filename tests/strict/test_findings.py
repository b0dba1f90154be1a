from dataclasses import replace
from pathlib import Path

import pytest

from minifast.findings import (Look, about, bad_items, by, lost, odd_modes, odd_sizes, rare_classes,
                               usual, without_tags)


def looks(count: int, part: str = "training", **seen: object) -> list[Look]:
    """Looks at set/0.jpg, set/1.jpg, ..., at which all the same was seen."""
    return [Look(part, Path(f"data/{part}/{i}.jpg"), **seen) for i in range(count)]


# A finding

def test_a_look_goes_by_the_folder_and_the_name_of_its_file():
    assert str(looks(1)[0]) == "training/0.jpg"


def test_a_finding_says_how_many_which_and_the_way_out():
    found, = about("error", looks(2), "of 9 pictures are blue", "paint them")
    assert found.level == "error"
    assert found.text == "2 of 9 pictures are blue: training/0.jpg, training/1.jpg; paint them"


def test_a_finding_names_three_files_and_holds_all():
    found, = about("warning", looks(5), "are blue", "paint them", ["so", "so", "very", "", ""])
    assert found.text == ("5 are blue: training/0.jpg (so), training/1.jpg (so), training/2.jpg "
                          "(very) (+2 more); paint them")
    assert found.files == tuple(Path(f"data/training/{i}.jpg") for i in range(5))


def test_there_is_no_finding_about_nothing():
    assert about("error", [], "are blue", "paint them") == []


def test_troubles_with_one_way_out_are_one_error():
    fine, empty, torn = looks(3)
    empty = replace(empty, troubles=("empty; copy it", "no label; give one"))
    torn = replace(torn, troubles=("torn; copy it",))
    copy, give = bad_items([fine, empty, torn])
    assert copy.level == give.level == "error"
    assert copy.files == (empty.file, torn.file) and give.files == (empty.file,)
    assert copy.text.startswith("2 of 3 ") and copy.text.endswith(
        ": training/1.jpg (empty), training/2.jpg (torn); copy it")


def test_a_trouble_without_a_way_out_gets_one():
    found, = bad_items(looks(1, troubles=("torn",)))
    assert "(torn); repair" in found.text and "leave it out" in found.text


# Modes

def test_the_usual_value_is_that_of_more_than_half():
    assert usual("aab") == "a"
    assert usual("aabb") is None and usual("") is None


def test_a_mode_that_others_have_not_is_odd():
    found, = odd_modes([*looks(2, mode="RGB"), *looks(1, "test", mode="L")])
    assert (found.level, found.files) == ("warning", (Path("data/test/0.jpg"),))
    assert found.text.startswith("1 of 3 ") and "L (most have RGB)" in found.text


def test_pictures_that_are_all_cmyk_are_not_odd():
    assert odd_modes(looks(3, mode="CMYK")) == odd_modes([]) == []


def test_where_no_mode_is_usual_none_is_odd():
    assert odd_modes([*looks(2, mode="RGB"), *looks(2, mode="L")]) == []


@pytest.mark.parametrize("mode, loss", [("I;16", "upper 8 of 16 bits"), ("I", "upper 8 of 16 bits"),
                                        ("F", "outside 0..255"),
                                        ("RGBA with transparency", "transparency is dropped")])
def test_a_mode_that_loses_something_is_named_even_where_all_have_it(mode, loss):
    found, = odd_modes(looks(3, mode=mode))
    assert loss in lost(mode) and found.text.startswith("3 of 3 ")
    assert loss in found.text and "most" not in found.text


def test_the_other_modes_lose_nothing():
    assert [lost(mode) for mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr")] == [""] * 6


# Sizes

def test_a_size_that_others_have_not_is_odd():
    found, = odd_sizes([*looks(2, size=(4, 6)), *looks(1, "test", size=(6, 4))], stacked=False)
    assert (found.level, found.files) == ("warning", (Path("data/test/0.jpg"),))
    assert found.text.startswith("1 of 3 ")
    assert " 4 x 6 " in found.text and "(6 x 4)" in found.text


def test_where_no_size_is_usual_none_is_odd():
    assert odd_sizes([*looks(1, size=(4, 6)), *looks(1, size=(6, 4))], stacked=False) == []
    assert odd_sizes([], stacked=False) == odd_sizes([], stacked=True) == []


def test_pictures_of_different_size_make_no_batch():
    two = [*looks(1, size=(4, 6)), *looks(1, "test", size=(6, 4))]
    found, = odd_sizes(two, stacked=True)
    assert (found.level, found.files) == ("error", (two[1].file,))
    assert "transform(size=...)" in found.text
    assert odd_sizes([*two, *looks(2, size=(6, 4))], stacked=True)[0].files == (two[0].file,)
    assert odd_sizes(looks(2, size=(6, 4)), stacked=True) == []


def test_a_size_is_said_as_rows_by_columns():
    assert by((4, 6)) == "4 x 6"


# Labels

def test_pictures_without_a_tag_are_named():
    bare, = looks(1, names=())
    found, = without_tags([bare, *looks(2, names=("haze",))])
    assert (found.level, found.files) == ("warning", (bare.file,))
    assert found.text.startswith("1 of 3 pictures have no tag")
    assert without_tags(looks(2, names=("haze",))) == []


def test_a_class_that_training_never_sees_is_named():
    # a label that only validation has
    seen = [*looks(10, names=("road",)), *looks(2, "validation", names=("fire", "road"))]
    found, = rare_classes(seen, ["fire", "road", "snow"])
    assert found.level == "warning" and found.files == (seen[10].file, seen[11].file)
    assert "2 of 3 classes" in found.text and "training" in found.text
    assert "fire (2 in validation), snow (0 in validation)" in found.text
    assert rare_classes(seen, ["road"]) == []
    assert "19 (0 in validation) (+1 more);" in rare_classes([], [*map(str, range(21))])[0].text


def test_a_class_with_fewer_than_10_training_pictures_is_named_with_their_number():
    seen = [*looks(7, names=("a", "b", "c")), *looks(2, names=("b", "c")), *looks(1, names=("c",)),
            *looks(5, "test", names=("b",))]
    found, = rare_classes(seen, ["b", "a", "c"])
    assert found.level == "warning" and len(found.files) == 14
    assert "2 of 3 classes" in found.text and "fewer than 10 training" in found.text
    assert ": a (7), b (9);" in found.text
