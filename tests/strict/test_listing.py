from pathlib import Path

import pytest

from minifast.listing import column_of, picture_files, read_csv, read_lines, unique

PLANET = "image_name,tags\ntrain_0,haze primary\ntrain_1,clear\n"
ROWS = [dict(image_name="train_0", tags="haze primary"), dict(image_name="train_1", tags="clear")]


def csv_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in picture_files(folder)]


# read_csv

@pytest.mark.parametrize("content", [
    PLANET, b"\xef\xbb\xbf" + PLANET.encode(),                           # a byte-order mark
    PLANET.replace("\n", "\r\n"), PLANET.replace("\n", "\r"), PLANET.rstrip(),
    PLANET.replace("\ntrain_1", "\n\n\ntrain_1") + "\n\n", "\n" + PLANET,     # blank lines
    PLANET.replace("train_1", ",\ntrain_1") + ",\n ,, \n",               # rows of empty fields
    PLANET.replace("haze primary", '"haze primary"'), PLANET.replace("clear", ' "clear"'),
    PLANET.replace(",", " , ").replace("train_0", " train_0")])
def test_the_ways_in_which_spreadsheets_write_a_csv_make_no_difference(tmp_path, content):
    assert read_csv(csv_file(tmp_path, content)) == ROWS


def test_quotes_keep_commas_and_letters_of_any_language_stay(tmp_path):
    rows = read_csv(csv_file(tmp_path, 'name,label\n"a,b",Wälder\nc,"say ""hi"""\nd5",\u2028.\n'))
    assert [list(row.values()) for row in rows] == [["a,b", "Wälder"], ["c", 'say "hi"'],
                                                    ['d5"', "."]]


def test_a_column_without_a_name_is_a_column(tmp_path):
    rows = read_csv(csv_file(tmp_path, ",name,label\n0,a,x\n1,b,\n"))           # as pandas writes
    assert rows == [{"": "0", "name": "a", "label": "x"}, {"": "1", "name": "b", "label": ""}]


@pytest.mark.parametrize("lines, line", [
    ([b"p0,x", b"p1,y", b'p5,"haze'], 4), ([b"p0,x", b'p5,"haze', b"p6,y", b"p7,z"], 3),
    ([b'p0,"haze', b"p1,y", b"p2,z", b'p3,x"', b"p4,y"], 2),            # closed three rows later
    ([b"p0,x", b'p1,"haze"s'], 3),                                      # letters after a quote
    ([b"p0,haze,primary"], 2), ([b"p0,x", b"p1,x,,y"], 3),              # more fields
    ([b"p0,x", b"p1", b"p2,y"], 3)])                                    # fewer fields
def test_a_row_that_does_not_fit_is_refused_with_file_and_line(tmp_path, lines, line):
    path = csv_file(tmp_path, b"\n".join([b"image_name,tags", *lines]) + b"\n")
    with pytest.raises(ValueError, match=rf"train\.csv.*line {line}\b"):
        read_csv(path)


def test_blank_lines_count_where_a_line_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"train\.csv.*line 5\b"):
        read_csv(csv_file(tmp_path, 'name,tags\np0,x\n\n\np5,"haze\n'))


@pytest.mark.parametrize("header", ["name,tags,tags", "tags,name, tags", "name,tags,tags "])
def test_a_repeated_column_is_refused(tmp_path, header):
    with pytest.raises(ValueError, match=r"train\.csv.*\btags\b"):
        read_csv(csv_file(tmp_path, f"{header}\np0,x,y\n"))


@pytest.mark.parametrize("content", ["", "\n", "image_name,tags\n\n", "image_name,tags\n,\n"])
def test_a_csv_without_rows_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"rows.*train\.csv.*got 0"):
        read_csv(csv_file(tmp_path, content))


def test_a_csv_that_is_missing_or_not_utf_8_or_has_an_endless_field_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no\.csv"):
        read_csv(tmp_path / "no.csv")
    for content in (b"name,label\na,W\xe4lder\n", "a,b\nc,d\n".encode("utf-16"),
                    b'name\n"' + b"x" * 200_000):
        with pytest.raises(ValueError, match=r"train\.csv"):
            read_csv(csv_file(tmp_path, content))


def test_a_column_is_given_by_its_number_or_its_name():
    assert [column_of(ROWS, column) for column in (0, 1, "tags")] == ["image_name", "tags", "tags"]
    for column, named in (("tag", "'tags'"), (2, "image_name, tags"), (-1, "image_name, tags")):
        with pytest.raises(ValueError, match=rf"column.*{column}.*{named}"):
            column_of(ROWS, column)


# read_lines

def test_the_lines_of_a_list_come_without_blank_ones_and_spaces(tmp_path):
    (tmp_path / "codes.txt").write_bytes("\ufeffSky\r\n\r\n  Tr\u00e4e \nRoad".encode())
    assert read_lines(tmp_path / "codes.txt") == ["Sky", "Tr\u00e4e", "Road"]


def test_a_list_that_is_missing_or_no_text_is_refused_with_its_name(tmp_path):
    file = tmp_path / "codes.txt"
    with pytest.raises(ValueError, match=r"codes\.txt.*exist"):
        read_lines(file)
    file.write_bytes(b"Sky\nTr\xe4e\n")                                  # latin-1
    with pytest.raises(ValueError, match=r"codes\.txt.*utf-8"):
        read_lines(file)


# picture_files

def test_pictures_are_found_in_all_folders_and_sorted_by_their_parts(tmp_path):
    names = ["B.jpg", "a/z.jpeg", "a/z/y.png", "a-b/x.gif", "a.png", "b.jpg", "e.bmp",
             "sub/c.JPG", "sub/deep/d.tif"]
    assert found(touched(tmp_path, *names)) == sorted(names, key=lambda name: name.split("/"))


def test_hidden_files_and_folders_and_other_kinds_are_passed_over(tmp_path):
    folder = touched(tmp_path / ".fastai", "a.jpg", "._a.jpg", ".cache/b.jpg", "sub/.c.jpg",
                     "labels.csv", "jpg", "a.jpg.zip")          # that `folder` is hidden is fine
    (folder / "b.jpg").mkdir()
    assert found(folder) == ["a.jpg"]


@pytest.mark.parametrize("suffix", "jpg jpeg jfif png tif tiff bmp gif webp ppm".split())
def test_a_picture_is_known_by_its_suffix(tmp_path, suffix):
    assert found(touched(tmp_path, f"a.{suffix}")) == [f"a.{suffix}"]


def test_a_folder_that_is_missing_or_holds_no_pictures_is_refused(tmp_path):
    touched(tmp_path, "text/labels.csv")
    for folder, named in (("nothing", "nothing.*exist"), ("text", "text.*pictures")):
        with pytest.raises(ValueError, match=rf"folder.*\b{named}"):
            picture_files(tmp_path / folder)


def test_the_folder_may_be_a_link_and_links_to_folders_below_it_are_not_followed(tmp_path):
    touched(tmp_path, "data/1.png", "data/sub/2.png", "disk/3.png")
    for link, to in (("more", "disk"), ("sub/again", "data/sub"), ("itself", "data")):
        (tmp_path / "data" / link).symlink_to(tmp_path / to)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert found(tmp_path / "data") == found(tmp_path / "link") == ["1.png", "sub/2.png"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "more").symlink_to(tmp_path / "disk")
    with pytest.raises(ValueError, match=r"\bother\b.*\blinks\b"):
        picture_files(tmp_path / "other")


# unique

def test_names_that_repeat_are_refused_each_once():
    unique("classes", ["a", "b", "ab"])
    with pytest.raises(ValueError, match="classes .*: a, c$"):
        unique("classes", iter("abcaca"))
