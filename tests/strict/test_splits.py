from pathlib import Path
import re
import warnings

import numpy
import pytest

from minifast.splits import by_folder, by_idx, by_names, by_rand_pct

FILES = [Path("data") / name for name in ("train/a/1.png", "valid/1.png", "train/2.png",
                                          "valid/b/2.png", "valid/3.png")]


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("n, valid_pct, count", [(10, 0.2, 2), (9, 0.2, 1), (7, 0.5, 3)])
def test_a_seed_means_the_draw_of_fast_ais_v1(n, valid_pct, count, seed):
    before = numpy.random.get_state()
    try:
        numpy.random.seed(seed)
        drawn = numpy.random.permutation(n).tolist()
    finally:
        numpy.random.set_state(before)
    train, valid = by_rand_pct(n, valid_pct, seed)
    assert valid == drawn[:count]                                      # count = int(valid_pct * n)
    assert train == sorted(drawn[count:])


def test_a_drawn_split_leaves_numpys_random_state_as_it_was():
    before = str(numpy.random.get_state())
    by_rand_pct(10, 0.5, 1)
    assert str(numpy.random.get_state()) == before


@pytest.mark.parametrize("valid_pct", [-0.1, 1.01, 20, float("nan")])
def test_a_share_is_from_0_to_1(valid_pct):
    with pytest.raises(ValueError, match=rf"valid_pct.*{re.escape(str(valid_pct))}"):
        by_rand_pct(10, valid_pct, 0)


@pytest.mark.parametrize("n, valid_pct", [(10, 0), (10, 0.05), (10, 1), (1, 0.5)])
def test_neither_side_of_a_split_is_empty(n, valid_pct):
    with pytest.raises(ValueError, match=rf"valid.*\b({round(n * valid_pct)}|{valid_pct})\b"):
        by_rand_pct(n, valid_pct, 0)


def test_split_by_idx_keeps_the_order_for_validation_and_sorts_for_training():
    assert by_idx(6, [4, 1]) == ([0, 2, 3, 5], [4, 1])
    assert by_idx(2, [0]) == ([1], [0])
    train, valid = by_idx(20, numpy.array([19, 0]))
    assert train == list(range(1, 19)) and valid == [19, 0]
    assert all(type(i) is int for i in train + valid)


@pytest.mark.parametrize("valid_idx", [[], [0, 1, 2], [3], [-1], [1, 1], [0, 5, 5]])
def test_numbers_of_no_item_doubled_none_or_all_are_refused(valid_idx):
    with pytest.raises(ValueError, match="valid.*" + ", ".join(map(str, valid_idx))):
        by_idx(3, valid_idx)


def test_split_by_folder_goes_by_the_first_folder_below_the_path():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_folder(FILES, Path("data"), "train", "valid") == ([0, 2], [1, 3, 4])
        assert by_folder(FILES, Path("data"), "valid", "train") == ([1, 3, 4], [0, 2])


def test_files_of_other_folders_are_left_out_with_a_warning():
    files = [Path("data/test/1.png"), *FILES, Path("data/extra/1.png")]
    with pytest.warns(UserWarning, match=r"\bextra\W+test\b(?!.*\b(train|valid)\b)"):
        assert by_folder(files, Path("data"), "train", "valid") == ([1, 3], [2, 4, 5])


@pytest.mark.parametrize("train, valid, missing", [("train", "val", "val"), ("x", "valid", "x")])
def test_a_folder_that_is_not_there_is_refused_and_those_there_are_named(train, valid, missing):
    with pytest.raises(ValueError, match=rf"folder.*\b{missing}\b.*\btrain\W+valid\b"):
        by_folder(FILES, Path("data"), train, valid)


def test_split_by_names_goes_by_the_names_in_a_text_file_whatever_their_folders(tmp_path):
    files = [Path("images", name) for name in ("a.png", "b.png", "sub/c.png", "d.png")]
    names = tmp_path / "valid.txt"
    names.write_text("\ufeffc.png\r\n\n elsewhere/a.png \n", encoding="utf-8")
    assert by_names(files, names) == ([1, 3], [0, 2])


def test_a_list_that_is_missing_or_no_text_or_names_no_such_file_is_refused(tmp_path):
    names = tmp_path / "valid.txt"
    with pytest.raises(ValueError, match=r"valid\.txt does not exist"):
        by_names([Path("a.png")], names)
    names.write_text("a.jpg\nb.png\nc.jpg\n")
    with pytest.raises(ValueError, match=r"valid\.txt.*\b2\b.*a\.jpg, c\.jpg"):
        by_names([Path("a.png"), Path("b.png")], names)
    names.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"valid\.txt is no text"):
        by_names([Path("a.png"), Path("b.png")], names)
    names.write_text("\n")
    with pytest.raises(ValueError, match=r"valid\.txt is empty"):
        by_names([Path("a.png"), Path("b.png")], names)
