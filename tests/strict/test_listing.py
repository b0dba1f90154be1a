from pathlib import Path

import pytest

from minifast.listing import is_picture, listed_files, picture_files, read_column, read_lines

PLANET = "image_name,tags\ntrain_0,haze primary\ntrain_1,clear primary\n"


def csv_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


# read_column

def test_a_column_is_read_by_its_number_or_its_name(tmp_path):
    path = csv_file(tmp_path, PLANET)
    assert read_column(path, 0) == read_column(path, "image_name") == ["train_0", "train_1"]
    assert read_column(path, 1) == read_column(path, "tags") == ["haze primary", "clear primary"]


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbf" + PLANET.encode(),                           # a byte-order mark
    PLANET.replace("\n", "\r\n"),
    PLANET.rstrip(),
    PLANET.replace("\ntrain_1", "\n\n\ntrain_1") + "\n\n",       # blank lines
    PLANET.replace("train_0", '"train_0"'),
    PLANET.replace("image_name", ' "image_name" ').replace("train_0", " train_0 ")
    .replace(' "image_name" ', " image_name ")])
def test_the_ways_in_which_spreadsheets_write_a_csv_make_no_difference(tmp_path, content):
    path = csv_file(tmp_path, content)
    assert read_column(path, "image_name") == ["train_0", "train_1"]


def test_quotes_keep_commas_and_letters_of_any_language_stay(tmp_path):
    path = csv_file(tmp_path, 'name,label\n"a,b",Wälder\nc,"say ""hi"""\n')
    assert read_column(path, 0) == ["a,b", "c"]
    assert read_column(path, 1) == ["Wälder", 'say "hi"']


def test_an_empty_field_is_kept_but_a_blank_line_is_none(tmp_path):
    assert read_column(csv_file(tmp_path, "name,label\na,\n\nb,x\n"), "label") == ["", "x"]


def test_a_row_that_is_too_short_is_refused_with_its_line(tmp_path):
    path = csv_file(tmp_path, "name,label\na,x\n\nb\n")
    wanted = r"CSV .*train\.csv cannot be read: line 4 has 1 fields, but column 'label' is .* 1$"
    with pytest.raises(ValueError, match=wanted):
        read_column(path, "label")
    assert read_column(path, "name") == ["a", "b"]


def test_a_column_that_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    path = csv_file(tmp_path, PLANET)
    with pytest.raises(ValueError, match=r"no column of .*train\.csv 'tag'; did you mean 'tags'?"):
        read_column(path, "tag")
    for number in (2, -1):
        with pytest.raises(ValueError, match=rf"no column of .*{number}; .*0, 1, image_name, tags"):
            read_column(path, number)


def test_a_missing_csv_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"CSV .*no\.csv does not exist; check the path"):
        read_column(tmp_path / "no.csv", 0)


def test_a_header_alone_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"CSV .*train\.csv has no rows"):
        read_column(csv_file(tmp_path, "image_name,tags\n\n"), 0)


@pytest.mark.parametrize("content", ["", b"name,label\na,W\xe4lder\n"])
def test_an_empty_csv_or_one_that_is_not_utf_8_is_refused_with_its_name(tmp_path, content):
    with pytest.raises(ValueError, match=r"CSV .*train\.csv cannot be read"):
        read_column(csv_file(tmp_path, content), 0)


def test_a_field_without_end_is_refused_with_the_files_name(tmp_path):
    path = csv_file(tmp_path, 'name\n"' + "x" * 200_000 + "\n")  # a quote that is never closed
    with pytest.raises(ValueError, match=r"CSV .*train\.csv cannot be read: field larger than"):
        read_column(path, 0)


# listed_files

def test_the_listed_files_are_in_the_order_of_the_csv(tmp_path):
    folder = touched(tmp_path / "jpg", "b.jpg", "a.jpg", "c.jpg")
    path = csv_file(tmp_path, "tags,name\nx,b\ny,a\n")
    assert listed_files(path, 1, folder, ".jpg") == (folder / "b.jpg", folder / "a.jpg")
    assert listed_files(path, "name", folder, ".jpg") == (folder / "b.jpg", folder / "a.jpg")


def test_names_may_hold_the_suffix_and_a_folder(tmp_path):
    folder = touched(tmp_path / "jpg", "sub/b.jpg")
    assert listed_files(csv_file(tmp_path, "name\nsub/b.jpg\n"), 0, folder, "") == (
        folder / "sub" / "b.jpg",)


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = csv_file(tmp_path, "name\na\nb\na\n")
    with pytest.raises(ValueError, match=r"picture names in .*train\.csv must differ; .*: a$"):
        listed_files(path, 0, touched(tmp_path, "a.jpg", "b.jpg"), ".jpg")


def test_names_without_a_file_are_refused_with_a_hint(tmp_path):
    path = csv_file(tmp_path, "name\na\nb\nc\nd\ne\n")
    wanted = (r"train\.csv names 4 of 5 pictures that have no file: \S+b\.jpg, \S+c\.jpg, \S+d\.jpg"
              r" \(\+1 more\); check the folder and suffix='\.jpg'")
    with pytest.raises(ValueError, match=wanted):
        listed_files(path, 0, touched(tmp_path, "a.jpg"), ".jpg")


def test_a_folder_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ValueError, match="names 1 of 1 pictures that have no file"):
        listed_files(csv_file(tmp_path, "name\na\n"), 0, tmp_path, ".jpg")


# read_lines

def test_the_lines_of_a_list_come_without_blank_ones_and_spaces(tmp_path):
    (tmp_path / "codes.txt").write_bytes("\ufeffSky\r\n\r\n  Tr\u00e4e \nRoad".encode())
    assert read_lines(tmp_path / "codes.txt") == ["Sky", "Tr\u00e4e", "Road"]


def test_a_list_that_is_missing_no_text_or_empty_is_refused_with_its_name(tmp_path):
    file = tmp_path / "codes.txt"
    with pytest.raises(ValueError, match=r"list .*codes\.txt does not exist; check the path"):
        read_lines(file)
    file.write_bytes(b"Sky\nTr\xe4e\n")                         # latin-1
    with pytest.raises(ValueError, match=r"list .*codes\.txt is no text: .*utf-8"):
        read_lines(file)
    file.write_text(" \n\n")
    with pytest.raises(ValueError, match=r"list .*codes\.txt is empty; wanted a name in each line"):
        read_lines(file)


# picture_files

def test_pictures_are_found_in_all_folders_and_sorted(tmp_path):
    touched(tmp_path, "b.jpg", "a.png", "sub/c.JPG", "sub/deep/d.tif", "a/z.jpeg", "e.bmp")
    names = [file.relative_to(tmp_path).as_posix() for file in picture_files(tmp_path)]
    assert names == ["a/z.jpeg", "a.png", "b.jpg", "e.bmp", "sub/c.JPG", "sub/deep/d.tif"]


def test_hidden_files_and_folders_and_other_kinds_are_passed_over(tmp_path):
    touched(tmp_path, "a.jpg", "._a.jpg", ".cache/b.jpg", "sub/.c.jpg", "labels.csv", "jpg")
    assert picture_files(tmp_path) == (tmp_path / "a.jpg",)


def test_a_hidden_folder_above_does_not_matter(tmp_path):
    folder = touched(tmp_path / ".fastai" / "planet", "a.jpg")
    assert picture_files(folder) == (folder / "a.jpg",)


def test_a_folder_that_is_missing_or_holds_no_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="folder .*nothing does not exist; check the path"):
        picture_files(tmp_path / "nothing")
    with pytest.raises(ValueError, match="folder .* holds no pictures; wanted files such as .jpg"):
        picture_files(touched(tmp_path, "labels.csv"))


@pytest.mark.parametrize("name, wanted", [("a.jpg", True), ("a.jpeg", True), ("sub/a.PNG", True),
                                          ("a.csv", False), ("jpg", False), (".a.jpg", False),
                                          (".git/a.jpg", False), ("a.jpg.zip", False)])
def test_a_picture_is_known_by_its_suffix(name, wanted):
    assert is_picture(Path(name)) == wanted


def test_a_folder_with_the_name_of_a_picture_is_none(tmp_path):
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "a.jpg").touch()
    assert picture_files(tmp_path) == (tmp_path / "a.jpg",)


def test_names_that_repeat_are_refused_each_once():
    from minifast.listing import unique
    unique("classes", ["a", "b", "ab"])
    with pytest.raises(ValueError, match="classes .*: a, c$"):
        unique("classes", iter("abcaca"))
