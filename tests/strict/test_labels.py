from pathlib import Path
import warnings

import numpy
from PIL import Image
import pytest

from minifast.labels import first_group, tags_in, target_for
from minifast.targets import Categories, Masks, Tags

FILES = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]


# Which kind of target the labels make

def test_strings_make_categories_with_sorted_classes_of_all_items():
    target = target_for(["sea", "land", "sea"], FILES, train=[0, 1])
    assert isinstance(target, Categories)
    assert target.classes == ["land", "sea"]


def test_lists_of_strings_make_tags_with_sorted_classes_of_all_items():
    target = target_for([["road", "haze"], ["haze"], []], FILES, train=[0, 1, 2])
    assert isinstance(target, Tags)
    assert target.classes == ["haze", "road"]


def test_classes_that_are_given_keep_their_order():
    target = target_for(["sea", "land"], FILES[:2], train=[0, 1], classes=("sea", "land"))
    assert target.classes == ["sea", "land"]


def test_a_class_that_only_validation_has_is_kept_and_warned_of():
    # v1 dropped it silently
    with pytest.warns(UserWarning, match=r"^(?!.*\bsea\b).*\bair\W+land\b"):
        target = target_for(["sea", "land", "air"], FILES, train=[0])
    assert target.classes == ["air", "land", "sea"]
    with pytest.warns(UserWarning, match=r"^(?!.*\bhaze\b).*\broad\b"):
        assert target_for([["haze"], ["haze", "road"]], FILES[:2], train=[0]).classes == [
            "haze", "road"]


def test_a_class_that_no_item_has_is_warned_of():
    with pytest.warns(UserWarning, match=r"^(?!.*\b(sea|land)\b).*\bfire\b"):
        target_for(["sea", "land"], FILES[:2], train=[0, 1], classes=["sea", "fire", "land"])


def test_there_is_no_warning_where_training_has_every_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target_for(["sea", "land", "sea"], FILES, train=[1, 2])
        target_for([["haze"], ["haze", "road"]], FILES[:2], train=[1])


def test_a_class_that_is_not_among_those_given_is_refused_with_its_file():
    with pytest.raises(ValueError, match=r"\bb\.jpg.*\bair\b.*\bsea\W+land\b"):
        target_for(["sea", "air", "land"], FILES, train=[0, 1, 2], classes=["sea", "land"])


def test_tags_that_are_not_among_those_given_are_refused_with_their_file():
    with pytest.raises(ValueError, match=r"\bc\.jpg.*\b(fire\W+smoke|smoke\W+fire)\b.*\bhaze\b"):
        target_for([["haze"], [], ["smoke", "haze", "fire"]], FILES, train=[0, 1, 2],
                   classes=["haze"])


def test_an_empty_class_is_refused_with_its_file():
    with pytest.raises(ValueError, match=r"\bb\.jpg.*(''|empty)"):
        target_for(["sea", "", "sea"], FILES, train=[0, 1, 2])
    with pytest.raises(ValueError, match=r"\ba\.jpg.*(''|empty)"):
        target_for([["haze", ""], ["road"]], FILES[:2], train=[0, 1], classes=["", "haze", "road"])


def test_where_no_picture_has_a_label_the_column_may_be_wrong():
    with pytest.raises(ValueError, match=rf"no picture has a label, from {FILES[0]} on; .* column"):
        target_for([[], []], FILES[:2], train=[0, 1])


def test_strings_and_lists_of_strings_are_not_mixed():
    with pytest.raises(ValueError, match=r"(?=.*\bb\.jpg.*\broad\b).*\ba\.jpg.*\bhaze\b"):
        target_for([["haze"], "road", "road"], FILES, [0])


@pytest.mark.parametrize("labels, named", [(["haze", 3, "road"], r"b\.jpg.*3"),
                                           ([3, 3, 3], r"a\.jpg.*3")])
def test_a_label_that_is_neither_a_string_nor_a_list_is_refused_with_its_file(labels, named):
    with pytest.raises(ValueError, match=named):
        target_for(labels, FILES, [0])


def test_a_label_none_is_one_that_nobody_needs():
    assert target_for([None, "haze", "road"], FILES, [1, 2]).classes == ["haze", "road"]


# Masks

def street(folder: Path, count: int = 3, shape: tuple[int, int] = (4, 6)) -> tuple[list, list]:
    """Pictures and their masks, which have the class 1 in the upper left pixel, else 0."""
    files = [folder / f"{i}.png" for i in range(count)]
    masks = [folder / f"{i}_P.png" for i in range(count)]
    for file, mask in zip(files, masks):
        Image.new("RGB", shape[::-1]).save(file)
        values = numpy.zeros(shape, dtype=numpy.uint8)
        values[0, 0] = 1
        Image.fromarray(values).save(mask)
    return masks, files


def test_paths_make_masks_with_the_classes_in_the_order_of_their_numbers(tmp_path):
    masks, files = street(tmp_path)
    target = target_for(masks, files, train=[0, 1], classes=["sky", "road"])
    assert isinstance(target, Masks)
    assert target.classes == ["sky", "road"] and not target.div


def test_a_picture_without_a_mask_is_named(tmp_path):
    masks, files = street(tmp_path)
    masks[2].unlink()
    masks[1].unlink()
    with pytest.raises(ValueError, match=r"2 of 3 pictures.*\b1\.png.*\b1_P\.png"):
        target_for(masks, files, [0], ["sky", "road"])


def test_a_picture_and_a_mask_of_different_size_are_named(tmp_path):
    masks, files = street(tmp_path)
    for rows, columns in ((5, 6), (3, 6), (4, 7)):
        Image.new("RGB", (columns, rows)).save(files[2])
        with pytest.raises(ValueError, match=rf"\b2_P\.png.*\(4, 6\).*\b2\.png.*"
                                             rf"\({rows}, {columns}\)"):
            target_for(masks, files, [0], ["sky", "road"])


def test_every_mask_is_looked_at_before_training(tmp_path):
    masks, files = street(tmp_path)
    Image.fromarray(numpy.full((4, 6), 2, dtype=numpy.uint8)).save(masks[2])
    with pytest.raises(ValueError, match=r"\b2_P\.png.* 2 \(24 pixels\)"):
        target_for(masks, files, [0], ["sky", "road"])
    assert target_for(masks, files, [0], ["sky", "road", "car"]).classes == ["sky", "road", "car"]


def test_all_bad_masks_are_told_of_at_once(tmp_path):
    masks, files = street(tmp_path)
    for mask in masks[1:]:
        Image.fromarray(numpy.full((4, 6), 2, dtype=numpy.uint8)).save(mask)
    wanted = r"(?s)\b1_P\.png.*2 of 3 masks are bad, also:.*\b2_P\.png"
    with pytest.raises(ValueError, match=wanted):
        target_for(masks, files, [0], ["sky", "road"])


def test_masks_of_0_and_255_are_looked_at_as_they_will_be_read(tmp_path):
    masks, files = street(tmp_path)
    for mask in masks:
        Image.new("L", (6, 4), 255).save(mask)
    assert target_for(masks, files, [0], ["no", "yes"], div=True).div
    with pytest.raises(ValueError, match=r"_P\.png.*255.*div=True"):
        target_for(masks, files, [0], ["no", "yes"])


def test_a_mask_that_nobody_needs_is_not_looked_at(tmp_path):
    masks, files = street(tmp_path)
    masks[1].write_bytes(b"")
    target_for([masks[0], None, masks[2]], files, [0], ["sky", "road"])


def test_masks_do_not_tell_their_classes(tmp_path):
    for classes in (None, [], numpy.array([])):
        with pytest.raises(ValueError, match="classes=codes"):
            target_for(*street(tmp_path), [0], classes)


def test_two_classes_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="names of classes.*road"):
        target_for(*street(tmp_path), [0], ["road", "sky", "road"])


def test_a_string_that_looks_like_a_file_gets_a_hint(tmp_path):
    masks, files = street(tmp_path)
    with pytest.raises(ValueError, match=r"\b0\.png.*0_P\.png' \(is it .* a mask\? .*a Path\)"):
        target_for([str(mask) for mask in masks], files, [0], ["sky", "road"])
    with pytest.raises(ValueError, match=r"^(?!.*mask)"):
        target_for(["air"] * 3, files, [0], ["sky", "road"])
    with pytest.raises(ValueError, match=r"\b0\.png has the label 3; wanted of"):
        target_for([[3]] * 3, files, [0], ["sky", "road"])


def test_paths_and_strings_are_not_mixed(tmp_path):
    masks, files = street(tmp_path)
    with pytest.raises(ValueError, match=r"\b1\.png.*'road'"):
        target_for([masks[0], "road", masks[2]], files, [0], ["sky", "road"])


# Tags from fields

def test_tags_in_a_field_are_sorted_each_once_without_spaces_and_empty_ones():
    fields = ["road; haze", ";road;;road ", "haze"]
    assert tags_in(fields, ";", FILES, Path("x.csv")) == [["haze", "road"], ["road"], ["haze"]]


def test_pictures_without_a_tag_are_named_with_their_csv():
    with pytest.warns(UserWarning, match=r"x\.csv: 2 pictures have no tag: a\.jpg, c\.jpg"):
        assert tags_in([" ", "haze", ""], " ", FILES, Path("x.csv")) == [[], ["haze"], []]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tags_in(["haze"], " ", FILES[:1], Path("x.csv"))


def test_first_group_takes_a_class_from_a_path_with_slashes():
    assert first_group(r"x/([a-z_]+)_(\d+)")(Path("a", "x", "old_dog_7.png")) == "old_dog"
    with pytest.raises(ValueError, match=r"(?=.*\(cat\)).*dog_7\.png"):
        first_group("(cat)")(Path("a", "dog_7.png"))
