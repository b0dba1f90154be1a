"""The lessons' own tools; the lessons themselves are run by CI, and here in their quickest form."""

from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Sequence
import csv
from dataclasses import dataclass
from io import BytesIO, StringIO
import json
import os
from pathlib import Path
import re
import subprocess
import sys
from time import sleep

import numpy
from PIL import Image
import pytest
import torch

from minifast.databunch import DataBunch
from minifast.extras.inference import load_learner
from minifast.learner import Learner
from minifast.lr_finder import LRCurve
from minifast.resnet import resnet18
from minifast.targets import Categories
from minifast.tools.files import load_tensors
from kit.page import HEAD, Page, cell_html, show
from kit.sample_data import CODES, camvid, draw_street, draw_tile, planet, planet_tags
from kit.settings import read_settings
from kit.stages import Run
from kit.timing import (Figure, bare_loop, bars, device_name, our_loop, race, ratio,
                        training_step)

LESSONS = Path(__file__).parents[2] / "lessons"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (LESSONS.parent, LESSONS)))}


@dataclass
class Settings:
    data: str = ""                                  # where the pictures are
    sizes: tuple[int, ...] = (128, 256)             # small and big
    lr: float = 1e-2                                # 100% of the rate
    names: tuple[str, ...] = ()                     # of some things
    lr_low: float = 1e-5                            # first group
    quick: bool = False                             # in seconds


def settings_of(monkeypatch, *argv: str, program: str = "06_planet.py") -> Settings:
    monkeypatch.setattr(sys, "argv", [program, *argv])
    return read_settings(Settings, "A lesson.\n\nMore of it.",
                         without_data={"sizes": (64, 128), "lr": 1.0}, quick={"lr": 0.5})


def test_without_flags_the_presets_hold_and_one_flag_changes_the_defaults_of_others(monkeypatch):
    assert settings_of(monkeypatch) == Settings(sizes=(64, 128), lr=1.0)
    assert settings_of(monkeypatch, "--data", "x") == Settings(data="x")


def test_what_is_said_wins_over_presets(monkeypatch):
    given = settings_of(monkeypatch, "--sizes", "96", "192", "--lr-low", "1e-4", "--quick",
                        "--names", "a", "b", "c")
    assert given == Settings("", (96, 192), 0.5, ("a", "b", "c"), 1e-4, True)     # lr: of quick


def test_some_settings_are_given_by_their_place(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lesson.py", "x", "--lr", "1"])
    assert read_settings(Settings, "A lesson.", bare=("data",)) == Settings(data="x", lr=1.0)


@pytest.mark.parametrize("argv", [["--sise", "1"], ["--lr", "fast"], ["--sizes", "64"]])
def test_wrong_flags_end_with_a_usage_message(monkeypatch, capsys, argv):
    with pytest.raises(SystemExit):
        settings_of(monkeypatch, *argv)
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize("argv, lr", [([], "1.0"), (["--data", "x"], "0.01")])
def test_help_has_the_comment_behind_each_field_and_its_default(monkeypatch, capsys, argv, lr):
    with pytest.raises(SystemExit):
        settings_of(monkeypatch, *argv, "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "A lesson." in shown and "More of it" not in shown
    assert f"100% of the rate (default: {lr})" in shown and "--lr-low" in shown


@pytest.mark.parametrize("program", ["ipykernel_launcher.py", "colab_kernel_launcher.py"])
def test_a_notebooks_own_arguments_are_left_alone(monkeypatch, program):
    given = settings_of(monkeypatch, "-f", "kernel-1.json", program=program)
    assert given == Settings(sizes=(64, 128), lr=1.0)


def rows_of(folder: Path) -> dict[str, set[str]]:
    with open(folder / "train_v2.csv", newline="") as file:
        return {row["image_name"]: set(row["tags"].split()) for row in csv.DictReader(file)}


def test_tiles_come_in_kaggles_layout(tmp_path):
    rows = rows_of(planet(tmp_path / "tiles", n=6, size=40))
    assert list(rows) == [f"train_{i}" for i in range(6)]
    for name in rows:
        with Image.open(tmp_path / "tiles" / "train-jpg" / f"{name}.jpg") as tile:
            assert (tile.format, tile.mode, tile.size) == ("JPEG", "RGB", (40, 40))


def test_every_tile_has_one_weather_and_cloudy_stands_alone(tmp_path):
    weather = {"clear", "partly_cloudy", "haze", "cloudy"}
    for tags in rows_of(planet(tmp_path / "tiles", n=200, size=32)).values():
        assert len(tags & weather) == 1
        assert "cloudy" not in tags or len(tags) == 1


def test_tags_are_as_frequent_as_planets():
    counts = Counter(tag for tags in planet_tags(1500, seed=0) for tag in tags)
    # counted over the 40,479 rows of Planet's train_v2.csv
    real = {"primary": .927, "clear": .702, "agriculture": .304, "road": .199, "water": .183,
            "partly_cloudy": .179, "cultivation": .111, "habitation": .090, "haze": .067,
            "cloudy": .052, "bare_ground": .021}
    for tag, share in real.items():
        assert counts[tag] / 1500 == pytest.approx(share, abs=0.015), tag


def test_all_17_tags_occur():
    assert len({tag for tags in planet_tags(40000, seed=0) for tag in tags}) == 17


def test_a_tile_depends_on_its_number_and_the_seed_alone(tmp_path):
    few, many, other = (planet(tmp_path / str(n), n=n, size=32, seed=seed)
                        for n, seed in ((3, 1), (5, 1), (4, 2)))
    tile = "train-jpg/train_2.jpg"
    assert (few / tile).read_bytes() == (many / tile).read_bytes() != (other / tile).read_bytes()
    assert list(rows_of(many).items())[:3] == list(rows_of(few).items())


def test_a_drawn_set_is_used_again_and_nothing_else_is_overwritten(tmp_path):
    folder = planet(tmp_path / "tiles", n=3, size=32)
    (folder / "train-jpg" / "train_0.jpg").write_bytes(b"mark")
    planet(folder, n=3, size=32)
    assert (folder / "train-jpg" / "train_0.jpg").read_bytes() == b"mark"
    with pytest.raises(ValueError, match="tiles.*another or delete"):
        planet(folder, n=4, size=32)
    (folder / "train_v2.csv").unlink()                      # as if the drawing had been stopped
    planet(folder, n=3, size=32)
    assert (folder / "train-jpg" / "train_0.jpg").read_bytes() != b"mark"


@pytest.mark.parametrize("wrong", [{"n": 0}, {"size": 8}, {"seed": -1}, {"n": 2.5}])
def test_impossible_sets_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
        planet(tmp_path / "tiles", **wrong)
    assert not (tmp_path / "tiles").exists()


def test_a_cloudy_tile_is_brighter_and_greyer_than_the_forest():
    forest, clouds = (draw_tile(tags, 64, numpy.random.default_rng(0)).astype(float)
                      for tags in (["clear", "primary"], ["cloudy"]))
    assert clouds.mean() > forest.mean() + 50
    assert clouds.std(axis=2).mean() < forest.std(axis=2).mean()


def test_the_mask_of_a_street_tells_what_each_pixel_shows():
    street, mask = draw_street(numpy.random.default_rng(0), 120)
    assert street.shape == (120, 160, 3) and street.dtype == numpy.uint8
    assert mask.shape == (120, 160) and mask.dtype == numpy.int64
    sky, tree, road = (street[mask == CODES.index(name)].mean(axis=0)
                       for name in ("Sky", "Tree", "Road"))
    assert sky[2] > sky[0] and sky.mean() > road.mean()         # blue or white, above grey
    assert tree[1] > tree[2] and abs(road - road.mean()).max() < 20     # green, and grey
    again, other = (draw_street(numpy.random.default_rng(seed), 120)[0] for seed in (0, 1))
    assert (again == street).all() and (other != street).any()


def test_streets_are_in_perspective_and_have_all_classes():
    masks = [draw_street(numpy.random.default_rng(seed), 90)[1] for seed in range(30)]
    counts = numpy.bincount(numpy.concatenate([mask.flat for mask in masks]), minlength=12)
    assert (counts > 0).all() and len(counts) == 12
    # As in CamVid, much is road, house, sky and tree; void is little.
    assert {CODES[k] for k in counts.argsort()[-4:]} <= {"Road", "Building", "Sky", "Tree", "Car"}
    assert counts[CODES.index("Void")] < 0.05 * counts.sum()
    # What lies below is nearer, so the road gets wider all the way down; above is the sky.
    wide = [numpy.mean([(mask[row] == CODES.index("Road")).mean() for mask in masks])
            for row in (50, 60, 70, 89)]
    assert wide == sorted(wide) and wide[0] < 0.4 < 0.7 < wide[-1]
    assert not any((mask[60:] == CODES.index("Sky")).any() for mask in masks)


def test_streets_come_in_camvids_layout(tmp_path):
    folder = camvid(tmp_path / "streets", n=11, size=48)
    assert (folder / "codes.txt").read_text().split() == list(CODES)
    assert (folder / "valid.txt").read_text().split() == ["street_0004.png", "street_0009.png"]
    pictures = sorted((folder / "images").iterdir())
    assert [file.name for file in pictures] == [f"street_{i:04}.png" for i in range(11)]
    for i, file in enumerate(pictures):
        with Image.open(file) as picture, Image.open(
                folder / "labels" / f"{file.stem}_P.png") as mask:
            street, classes = draw_street(numpy.random.default_rng([42, i]), 48)
            assert (picture.mode, picture.size, mask.mode, mask.size) == (
                "RGB", (64, 48), "P", (64, 48))
            assert (numpy.array(picture) == street).all() and (numpy.array(mask) == classes).all()


def test_a_street_depends_on_its_number_and_the_seed_alone(tmp_path):
    few, many, other = (camvid(tmp_path / str(n), n=n, size=36, seed=seed)
                        for n, seed in ((5, 1), (7, 1), (6, 2)))
    file = "images/street_0002.png"
    assert (few / file).read_bytes() == (many / file).read_bytes() != (other / file).read_bytes()
    with pytest.raises(ValueError, match="n must be a whole number 5"):
        camvid(tmp_path / "none", n=4)


def test_the_command_draws_a_set_and_says_what_is_there(tmp_path):
    done = subprocess.run([sys.executable, str(LESSONS / "kit" / "sample_data.py"), "camvid",
                           str(tmp_path / "set"), "--n", "5", "--size", "36"],
                          capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(LESSONS.parent)})
    assert [Path(line).name for line in done.stdout.split()] == [
        "codes.txt", "images", "labels", "sample.json", "valid.txt"]
    with Image.open(tmp_path / "set" / "images" / "street_0000.png") as picture:
        assert picture.size == (48, 36)


def test_show_saves_a_picture_says_where_and_returns_it(tmp_path, capsys):
    picture = Image.new("RGB", (4, 3))
    file = tmp_path / "new" / "picture.png"
    assert show(picture, file) is picture
    assert capsys.readouterr().out == f"{file}\n"
    with Image.open(file) as saved:
        assert saved.size == picture.size


def run(lesson: Path | str, out: Path, *flags: str, ends: int = 0) -> str:
    """What a lesson prints, run as a reader would run it."""
    done = subprocess.run([sys.executable, str(LESSONS / lesson), "--out", str(out), *flags],
                          capture_output=True, text=True, cwd=out.parent, env=ENVIRONMENT)
    assert done.returncode == ends, done.stderr
    return done.stdout


# Lessons that take long run on another core, from the first test of the suite on: see conftest.

CAMVID = ("--quick", "--size", "48", "64", "--epochs", "1", "2", "1", "1")
Ran = tuple[Path, str]                          # where a lesson's pictures are, and what it printed


def begin() -> dict[str, Callable[[Path], Ran]]:
    """What runs meanwhile, one after the other, by name."""
    def lesson(name: str, *flags: str) -> Callable[[Path], Ran]:
        return lambda out: ran(name, out, flags)

    return {"data_block": lesson("01_data_block"), "metrics": lesson("03_metrics"),
            "unet": lesson("07_unet", "--streets", "10", "--rows", "36", "--epochs", "2"),
            "fine_tuning": lesson("05_fine_tuning", "--tiles", "40", "--size", "32"),
            "camvid": lesson("08_camvid", *CAMVID), "planet": run_planet,
            "where_time_goes": lesson("09_where_time_goes", "--pictures", "3", "--bs", "3",
                                      "--size", "32", "--net-size", "32", "--rounds", "1"),
            "pretrained": run_on_a_pretrained_body,
            "learning_rate": lesson("04_learning_rate", "--tiles", "200")}


def ran(lesson: str, out: Path, flags: Sequence[str]) -> Ran:
    return out / "run", run(f"{lesson}.py", out / "run", *flags)


def run_planet(out: Path) -> Ran:
    """The Planet lesson in its quickest form, with tiles to submit."""
    folders = out / "test-jpg", out / "test-jpg-additional"
    for i in (2, 0, 1, 3):
        folder = folders[i % 2]
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (20 * i, 90, 60)).save(folder / f"test_{i}.jpg")
    return out, run("06_planet.py", out, "--quick", "--sizes", "32", "64", "--test-folder",
                    *map(str, folders))


def run_on_a_pretrained_body(out: Path) -> Ran:
    """The CamVid lesson on a set in the layout of the real one, and with weights."""
    streets = camvid(out / "real", n=10, size=48)
    for file in (streets / "images").iterdir():         # as in the set of 12 classes: JPEG and PNG
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
    names = streets / "valid.txt"
    names.write_text(names.read_text().replace(".png", ".jpg"))
    torch.save(resnet18().state_dict(), out / "body.pth")
    return ran("08_camvid", out, ["--data", str(streets), "--arch", "resnet18", "--weights",
                                  str(out / "body.pth"), "--quick"])


@pytest.fixture
def planet_run(meanwhile) -> Ran:
    return meanwhile["planet"].result()


@pytest.fixture
def camvid_run(meanwhile) -> Ran:
    return meanwhile["camvid"].result()


def pictures_on(page: str) -> list[bytes]:
    """The PNGs inside a page, in order."""
    return [b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]


LESSON = '''"""Squares & cubes.

Read first: nothing.
"""

import os
import sys
from threading import Thread
from PIL import Image
from kit.page import show, start_page

out = start_page(sys.argv[2])
pages = [(out / "index.html").read_text()]

# %% One <cell>
# With a comment, over
# two lines.
print("1 < 4", 9)
show(Image.new("RGB", (3, 2)), out / "a & b.png")
print("after the picture")


# %% A cell with a function

def square(n):
    print("a bar", end="\\r")
    print("another bar \\r           \\r", end="")
    print("the square of", n, "is", n * n)


# A comment inside.
print("with another function")
pages.append((out / "index.html").read_text())
os.chdir("/")


# %% It is called from another cell

square(5)
thread = Thread(target=square, args=[7])
thread.start()
thread.join()
assert ["after the picture" in page.split("</pre>")[3] for page in pages] == [False, True]
assert [page.count("<img") for page in pages] == [0, 1]
assert len(sys.argv) < 4, "one flag too many"
'''


@pytest.fixture
def lesson(tmp_path) -> Path:
    """A lesson of three cells."""
    (tmp_path / "squares.py").write_text(LESSON, encoding="utf-8-sig")     # a byte-order mark
    return tmp_path / "squares.py"


def test_a_page_has_the_cells_what_they_printed_and_their_pictures_in_order(lesson, tmp_path):
    run(lesson, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    places = [page.index(text) for text in (
        "<h2>Squares &amp; cubes.</h2>", "<p>Read first: nothing.", "import sys",
        "<h2>One &lt;cell&gt;</h2>", "<p>With a comment, over\ntwo lines.", "show(Image.new(",
        ">1 &lt; 4 9</span>", "data:image/png", "a &amp; b.png</span>",
        ">after the picture</span></pre>", "<h2>A cell with a function</h2>", "# A comment inside.",
        ">with another function</span></pre>", "<h2>It is called from another cell</h2>",
        "square(5)\n", ">the square of 5 is 25</span>",
        ">the square of 7 is 49</span>", ">The lesson has ended. Page: ")]
    assert places == sorted(places)
    assert page.count("Read first") == 1                        # the docstring is not code as well
    assert pictures_on(page) == [(tmp_path / "out" / "a & b.png").read_bytes()]
    assert "a bar" not in page.split("<h2>It is called")[1]     # progress bars leave nothing
    assert "<script" not in page and "http" not in page
    assert 'name="viewport"' in page and "max-width: 100%" in page
    assert [file.name for file in (tmp_path / "out").iterdir()
            if file.suffix not in (".html", ".png")] == []      # nothing temporary is left


def test_the_terminal_shows_where_the_page_is_and_the_title_of_each_cell_that_prints(
        lesson, tmp_path):
    lines = run(lesson, tmp_path / "out").splitlines()
    page = str(tmp_path / "out" / "index.html")
    assert page in lines[0] and page in lines[-1]
    assert [line for line in lines if line.startswith("# ")] == [
        "# One <cell>", "# A cell with a function", "# It is called from another cell"]
    assert lines[lines.index("# One <cell>") + 1] == "1 < 4 9"


def test_a_page_is_found_from_any_folder_and_however_the_lesson_is_named(lesson, tmp_path):
    run("../" + os.path.relpath(lesson, LESSONS.parent), tmp_path / "out")
    assert "square of 5 is 25" in (tmp_path / "out" / "index.html").read_text()


def test_the_page_of_a_lesson_that_fails_says_so_and_has_what_came_before(lesson, tmp_path):
    run(lesson, tmp_path / "out", "<extra>", ends=1)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "The lesson failed: AssertionError" in page and "one flag too many" in page
    assert "the square of 5 is 25" in page


def test_a_page_hands_on_what_is_printed(lesson, tmp_path):
    terminal = StringIO()
    page = Page(str(lesson), tmp_path / "index.html", terminal)
    assert page.write("text") == 4 and terminal.getvalue() == "text"
    assert not page.isatty() and page.encoding == terminal.encoding
    terminal.isatty = lambda: True
    assert page.isatty()


def test_a_printed_file_name_may_hold_bytes_that_are_no_text(lesson, tmp_path):
    page = Page(str(lesson), tmp_path / "index.html", StringIO())
    page.write(os.fsdecode(b"caf\xe9.jpg"))
    page.save()
    assert "caf" in page.file.read_text()


def test_a_page_is_written_whole_or_not_at_all(monkeypatch, lesson, tmp_path):
    page = Page(str(lesson), tmp_path / "index.html", StringIO())
    page.save()
    before = page.file.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)                     # what write_atomic ends with
    page.write("more")
    with pytest.raises(OSError, match="no space left"):
        page.save()
    assert page.file.read_bytes() == before


def test_a_lesson_goes_on_if_its_page_cannot_be_written(tmp_path):
    (tmp_path / "lesson.py").write_text("""import sys
from kit.page import start_page
page = start_page(sys.argv[2]) / "index.html"
page.unlink()
page.mkdir()                                        # no file can take its place
# %% One
print("one")
# %% Two
print("two")
""")
    assert "# Two\ntwo\n" in run(tmp_path / "lesson.py", tmp_path / "out")


def test_sentences_are_wrapped_on_a_narrow_screen_and_tables_are_not():
    assert cell_html("Title\n", "why\nepoch  loss\n").endswith(
        '<pre class="printed"><span>why</span>\nepoch  loss</pre>')


def test_above_the_first_cell_a_docstring_is_text_and_anything_else_is_code():
    html = cell_html('"""One.\n\nTwo.\n\nThree.\n"""\n\nimport os\n', "")
    assert html.startswith(
        '<h2>One.</h2><p>Two.<p>Three.<pre class="code">import os</pre>')


def test_a_cell_without_code_or_without_a_last_line_break_is_a_cell():
    empty = '<pre class="code"></pre><pre class="printed"></pre>'      # which the style hides
    assert cell_html("Title\n# a comment\n\n", "") == f"<h2>Title</h2><p>a comment{empty}"
    assert cell_html("Title", "") == f"<h2>Title</h2><p>{empty}"
    assert cell_html("", "") == f"<h2></h2><p>{empty}" and "pre:empty { display: none }" in HEAD


def test_of_a_line_that_is_written_over_the_last_state_is_left():
    assert ">done</span>" in cell_html("", "a bar\ranother\rdone\n")
    assert "<span>one\r</span>" in cell_html("", "one\r\ntwo\n")


def test_a_picture_on_a_page_takes_no_time():
    picture = f'<img src="{"x" * 3_000_000}">\n'               # a pattern that looks at each x
    assert picture.strip() in cell_html("Title\n", picture)    # from each x on would take hours


def test_in_a_notebook_there_is_no_page(tmp_path):
    before, found = sys.stdout, {}
    cell = "from kit.page import start_page\nout = start_page(folder)"
    exec(compile(cell, "<a cell of a notebook>", "exec"), found | {"folder": str(tmp_path / "out")})
    assert sys.stdout is before and not (tmp_path / "out").exists()


@dataclass
class Given:
    out: str
    data: str = ""
    resume: bool = False


def curve(rise: float = 0.08) -> LRCurve:
    """Flat, and from 1.3e-4 on, at t = 39, rising by `rise` each batch."""
    losses = [1 + rise * max(0, t - 39) for t in range(100)]
    return LRCurve([10 ** (.08 * t - 7) for t in range(100)], losses)


def test_a_suggested_rate_is_taken_unless_the_data_is_real_or_there_is_none(tmp_path, capsys):
    mine = slice(1e-4, 1e-3)
    assert Run("a", Given(str(tmp_path))).rate(curve(), mine, 1e-2) == slice(1e-5, 2e-3)
    assert "takes slice(1e-05, 0.002), as the test suggests" in capsys.readouterr().out
    assert Run("a", Given(str(tmp_path))).rate(curve(0), mine, 1e-2) == mine
    said = capsys.readouterr().out
    assert "no clear answer" in said and "takes slice(0.0001, 0.001), the notebook's" in said
    assert Run("a", Given(str(tmp_path), data="x")).rate(curve(), 1e-2, 1e-2) == 1e-2
    assert "takes 0.01, the notebook's, because the data is real" in capsys.readouterr().out


def test_a_run_that_was_cut_off_goes_on_only_with_resume_under_any_spelling_of_its_folder(
        tmp_path):
    with pytest.raises(SystemExit, match="checkpoints.*omit --resume"):
        Run("a", Given(str(tmp_path), resume=True))
    kept = tmp_path / "checkpoints" / "stage-1.pth"
    kept.parent.mkdir()
    kept.write_bytes(b"kept")
    with pytest.raises(SystemExit, match="checkpoints.*there: --resume"):
        Run("a", Given(str(tmp_path)))
    again = Run("a", Given(f"{tmp_path}/../{tmp_path.name}/", resume=True))
    assert again.checkpoint().samefile(kept) and kept.read_bytes() == b"kept"


def test_the_table_of_stages_is_aligned(tmp_path, capsys):
    run = Run("a", Given(str(tmp_path)))
    run.kept.mkdir()
    run.stages = [{"name": "first", "valid_loss": 345.5,
                   "metrics": {"a_metric_with_a_long_name(thresh=0.2)": 0.5}}]
    run.baselines = {"a constant answer": {"a_metric_with_a_long_name(thresh=0.2)": 0.25}}
    run.finish(torch.device("cpu"))
    lines = capsys.readouterr().out.splitlines()[:3]
    assert [len(line) for line in lines] == [len(lines[0])] * 3
    assert [line.rsplit(maxsplit=1)[1] for line in lines[1:]] == ["0.500000", "0.250000"]


def test_the_transforms_lesson_shows_what_it_says(tmp_path):
    printed = run("02_transforms.py", tmp_path / "transforms")
    assert "as by hand: True" in printed
    three, once = map(float, re.findall(r"off by (\S+)", printed))
    assert once < 1e-5 < 0.005 < three
    before, after = re.search(r"classes before: \[(.*)\] after: \[(.*)\]", printed).groups()
    assert {*after.split(", ")} <= {*before.split(", ")}
    assert int(re.search(r"(\d+) different numbers", printed)[1]) > 100
    for name in ("eight", "matrices", "samplings", "masks", "tiles", "streets",
                 "a street treated as a tile"):
        with Image.open(tmp_path / "transforms" / f"{name}.png") as picture:
            assert picture.width >= 350


def results_of(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def test_the_planet_lesson_runs_and_its_table_is_in_results_json(planet_run):
    out, printed = planet_run
    results = results_of(out)
    assert [(stage["name"], stage["size"], stage["frozen"]) for stage in results["stages"]] == [
        ("small, frozen", [32, 32], True), ("small, unfrozen", [32, 32], False),
        ("big, frozen", [64, 64], True), ("big, unfrozen", [64, 64], False)]
    for stage in results["stages"]:
        assert f"{stage['metrics']['fbeta(thresh=0.2)']:.6f}" in printed
    assert results["baselines"]["no tag"]["fbeta(thresh=0.2)"] == 0
    names = ["batch", "lr-1", "lr-2", "lr-3", "lr-4", "losses", "results", "worst"]
    page = (out / "index.html").read_text()
    for name, data in zip(names, pictures_on(page), strict=True):
        assert (out / f"{name}.png").read_bytes() == data
        with Image.open(BytesIO(data)) as picture:
            assert picture.width >= 480
    assert printed.count("LR range test") == 4 and "48 tiles for training" in page
    assert not (out / "checkpoints").exists()


def test_the_planet_lesson_ends_in_a_model_and_a_submission(planet_run):
    out, printed = planet_run
    with open(out / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["image_name"] for row in rows]
    assert names == ["test_0", "test_2", "test_1", "test_3"]    # folder after folder, sorted
    model = load_learner(out / "model.pth")
    assert model.size == (64, 64) and float(model.thresh) == pytest.approx(0.2)
    assert {tag for row in rows for tag in row["tags"].split()} <= set(model.target.classes)
    drawn = run("predict.py", out / "predict", str(out / "model.pth"), str(out / "test-jpg"),
                "--views", "8")
    for row in rows[:2]:                        # the submission is the mean over eight views, too
        assert f"{row['image_name']}.jpg  {row['tags'].replace(' ', ';') or '(no tag)'}  " in drawn
    with Image.open(out / "predict" / "predictions.png") as picture:
        assert picture.width > 2 * 160


def test_a_walkthrough_that_was_killed_goes_on_and_ends_as_one_that_was_not(camvid_run):
    whole, out = camvid_run[0], camvid_run[0].parent / "killed"
    command = [sys.executable, str(LESSONS / "08_camvid.py"), "--out", str(out), *CAMVID]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              env=ENVIRONMENT)
    stage = out / "checkpoints" / "stage-2.pth"
    while not (stage.exists() and load_tensors(stage)["done"] > 0):     # there are two epochs
        assert killed.poll() is None, killed.stderr.read()
        sleep(0.01)
    killed.kill()
    killed.wait()
    killed.stderr.close()
    printed = run("08_camvid.py", out, *CAMVID, "--resume")
    assert "stage-2.pth: restored" in printed and printed.count("LR range test") == 4
    for one, other in zip(*(results_of(folder)["stages"] for folder in (whole, out)), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    one, other = (load_tensors(folder / "model.pth")["model"] for folder in (whole, out))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_camvid_lesson_runs_from_scratch_and_its_table_is_in_results_json(camvid_run, tmp_path):
    out, printed = camvid_run
    results = results_of(out)
    assert [(stage["name"], stage["size"], stage["frozen"], stage["epochs"])
            for stage in results["stages"]] == [
        ("half, first", [24, 32], False, 1), ("half, unfrozen", [24, 32], False, 2),
        ("full, first", [48, 64], False, 1), ("full, unfrozen", [48, 64], False, 1)]
    accuracy, iou = "foreground_accuracy(void_code=11)", "mean_iou(void_code=11)"
    for stage in results["stages"]:
        assert f"{stage['metrics'][accuracy]:.6f}" in printed and 0 <= stage["metrics"][iou] <= 1
    baseline = results["baselines"]["always Road"]
    # The masks of validation at full size, without void: the share of the road, over all classes
    streets = out / "streets-20-48"
    masks = numpy.stack([numpy.array(Image.open(streets / "labels" / f"{Path(name).stem}_P.png"))
                         for name in (streets / "valid.txt").read_text().split()])
    masks = masks[masks != 11]
    assert baseline[accuracy] == pytest.approx((masks == 3).mean())
    assert baseline[iou] == pytest.approx((masks == 3).mean() / len(numpy.unique(masks)))
    names = ["mask", "batch", "batch-valid", "lr-1", "lr-2", "lr-3", "lr-4", "losses", "results",
             "confusion", "worst", "one"]
    page = (out / "index.html").read_text()
    for name, data in zip(names, pictures_on(page), strict=True):
        assert (out / f"{name}.png").read_bytes() == data
    drawn = run("predict.py", tmp_path / "predict", str(out / "model.pth"),
                str(out / "streets-20-48" / "images" / "street_0004.png"))
    assert "Masks of 12 classes" in drawn and "street_0004.png  " in drawn
    with Image.open(tmp_path / "predict" / "mask-0-street_0004.png") as picture:
        assert picture.width > 2 * 64


def test_where_time_goes_measures_parts_and_wholes(meanwhile):
    out, printed = meanwhile["where_time_goes"].result()
    figures, ratios = results_of(out)["figures"], results_of(out)["ratios"]
    for name in ("read at full size", "read", "augment", "no workers", "2 workers", "from memory",
                 "bare loop", "ours", "half the size", "float32", "a quarter of the batch"):
        assert len(figures[name]["seconds"]) == 1 and min(figures[name]["seconds"]) > 0
    (ours,), (bare,) = figures["ours"]["seconds"], figures["bare loop"]["seconds"]
    assert ratios["ours / bare loop"] == pytest.approx(ours / bare)
    (whole,), (read,), (augment,) = (figures[name]["cpu"]
                                     for name in ("no workers", "read", "augment"))
    assert ratios["no workers / parts"] == pytest.approx(whole / (read + augment))
    with Image.open(out / "bars.png") as picture:
        assert picture.height > 10 * len(figures)


def test_the_unit_of_time_is_one_training_step(capsys):
    seconds = training_step(rounds=1)
    pictures = float(re.search(r"training step +([\d,]+) pictures", capsys.readouterr().out)[1])
    assert 32 / seconds == pytest.approx(pictures, abs=0.5)


def test_the_data_block_lesson_shows_what_it_says(meanwhile):
    _, printed = meanwhile["data_block"].result()
    assert printed.count("as by hand: True") == 3
    assert "48 for training, 12 for validation\nthe old list is still not split: None" in printed
    assert "6 batches from a Dataset of 48\n2 batches from a Dataset of 12\n8 batches" in printed
    assert "size (64, 64) changes Augment(do_flip=True, flip_vert=True" in printed
    assert "60 files for a test" in printed
    assert "data.c, how many outputs a model needs: 12" in printed


def test_the_metrics_lesson_shows_what_it_says(meanwhile):
    _, printed = meanwhile["metrics"].result()
    # of twelve answers nine are right at 0.2, and eight at 0.5: counted by hand
    assert "by hand 0.75 ours 0.75" in printed and "the threshold is 0.5: 0.6666" in printed
    # five of the eight answers for the first two tiles are right, and three of four for the third
    assert "Score(hits=tensor(5), out_of=8) + Score(hits=tensor(3), out_of=4) = 0.6666" in printed
    assert "the mean of the two is 0.6875" in printed
    assert "above 0.5: 3 tags, 2 of them right [[1.0, 0.0, 0.0, 0.0], " in printed
    assert "above 0.2: 6 tags, 4 of them right" in printed
    assert "as by hand: True" in printed and "as without: True" in printed
    assert "accuracy_thresh(thresh=0.2)\nfbeta(thresh=0.5)" in printed
    # F2 of a precision of 2/3 and a recall of 1: 5 * 2/3 / (4 * 2/3 + 1) = 10/11
    # and F1: 2 * 2/3 / (2/3 + 1) = 4/5
    assert "by hand F1 0.800000 F2 0.909091 ours 0.909091" in printed and "0.606061" in printed
    (no, no_f2), (usual, usual_f2), true = (
        tuple(map(float, scores)) for scores in re.findall(r": accuracy (\S+), F2 (\S+)", printed))
    assert 0.8 < no < usual < 1 and no_f2 == 0 and 0.5 < usual_f2 < 0.8 and true == (1, 1)
    accuracy, f2 = map(float, re.findall(r"best at (\S+)", printed))
    assert f2 < 0.4 < accuracy


def test_the_fine_tuning_lesson_shows_what_it_says(meanwhile):
    _, printed = meanwhile["fine_tuning"].result()
    frozen = "0       683,072         1,920\n    1    10,493,440         7,680"
    assert frozen in printed and "0       683,072       683,072" in printed
    assert "slice(1e-2): [0.001, 0.001, 0.01]" in printed
    assert "slice(5e-4, 2e-3): [0.0005, 0.001, 0.002]" in printed
    before, after = map(float, re.findall(r"training: (\S+) deviations", printed))
    assert after < before
    assert "a batch is now (32, 3, 64, 64)" in printed
    assert "32 -> (32, 512, 1, 1)\n64 -> (32, 512, 2, 2)" in printed
    # epochs: 7 of the body, 4 of the head, 3 of all, and 2 + 2 of bigger tiles
    assert len(re.findall(r"^ +\d  .* 00:\d\d$", printed, re.MULTILINE)) == 18


def test_the_unet_lesson_shows_what_it_says(meanwhile):
    out, printed = meanwhile["unet"].result()
    assert printed.count("as by hand: True") == 2
    by_hand, ours = re.search(r"by hand (0\S+) ours (\S+)", printed).groups()
    assert by_hand == ours
    u, *_ = pictures_on((out / "index.html").read_text())
    with_skips, without = printed.split("with skip connections\n")[1].split("without skip connec")
    assert re.findall(r"\d\.\d{6}", with_skips) != re.findall(r"\d\.\d{6}", without)
    assert "\n[1.0, 1.0, 0.0, 0.0]" in printed                  # the skip connection is cut
    # The U: nine boxes, four skip connections, and below the one in the middle nothing.
    picture = numpy.array(Image.open(BytesIO(u)))
    red, blue = ((picture == colour).all(axis=2) for colour in ((255, 0, 0), (0x1f, 0x77, 0xb4)))
    edges = numpy.diff(numpy.concatenate([[0], blue.any(axis=0), [0]]).astype(int))
    assert (edges == 1).sum() == 9
    wide = numpy.flatnonzero(edges == -1) - numpy.flatnonzero(edges == 1) - 1
    assert wide.tolist() == [4, 8, 16, 32, 64, 32, 16, 8, 4]        # a quarter of the channels
    assert (numpy.diff(numpy.concatenate([[0], red.any(axis=1)]).astype(int)) == 1).sum() == 4


def test_the_camvid_lesson_on_a_pretrained_body_has_the_notebooks_four_stages(meanwhile):
    out, printed = meanwhile["pretrained"].result()
    results = results_of(out)
    assert [(stage["name"], stage["size"], stage["frozen"]) for stage in results["stages"]] == [
        ("half, first", [24, 32], True), ("half, unfrozen", [24, 32], False),
        ("full, first", [48, 64], True), ("full, unfrozen", [48, 64], False)]
    # lr 3e-3: slice(lr), slice(lr / 400, lr / 4); then 1e-3: slice(lr), slice(1e-6, lr / 10)
    rates = [[3e-4, 3e-4, 3e-3], [7.5e-6, 7.5e-5, 7.5e-4], [1e-4, 1e-4, 1e-3], [1e-6, 1e-5, 1e-4]]
    for stage, wanted in zip(results["stages"], rates, strict=True):
        assert stage["lr"] == pytest.approx(wanted)
    assert results["settings"]["bs"] == [8, 3]
    assert "half.pth: restored" in printed and printed.count("because the data is real") == 4


# How the lesson on time measures

def test_a_race_is_in_turns_and_its_first_round_does_not_count(monkeypatch):
    clock, did = iter(range(0, 1000, 3)), []
    monkeypatch.setattr("kit.timing.perf_counter", lambda: next(clock))
    monkeypatch.setattr("kit.timing.processor_seconds", lambda: 0)
    figures = race({"a": lambda: did.append("a") or 3, "b": lambda: did.append("b") or 6}, 2)
    assert did == ["a", "b", "a", "b", "a", "b"]
    assert figures["a"].seconds == (1, 1) and figures["b"].seconds == (0.5, 0.5)
    assert figures["b"].rate == 2


def test_a_ratio_compares_each_round_with_itself():
    figures = {"whole": Figure((2, 9, 6), (1, 1, 1)), "one": Figure((1, 1, 1), (2, 2, 4)),
               "two": Figure((1, 2, 1), (2, 2, 4))}
    assert ratio(figures, "whole", "one", "two") == 3                       # of 1, 3, 3
    assert ratio(figures, "whole", "one", "two", what="cpu") == 0.25        # of 1/4, 1/4, 1/8


def test_bars_are_as_long_as_a_picture_takes():
    picture = numpy.array(bars({"slow": Figure((3, 3, 1), ()), "quick": Figure((1, 1, 1), ())}))
    blue = (picture == (0x1f, 0x77, 0xb4)).all(axis=2).sum(axis=1)
    long, short = sorted(set(blue.tolist()) - {0})[::-1]
    assert long == pytest.approx(3 * short, abs=3)


def test_a_bare_loop_trains_as_the_learner_does():
    items = [(torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(i)), torch.tensor(i % 2))
             for i in range(8)]

    def weights(train) -> torch.Tensor:
        torch.manual_seed(0)
        data = DataBunch.create(items, None, target=Categories("ab"), bs=4,
                                device=torch.device("cpu"))
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
        learn = Learner(data, net, precision="float32")
        assert learn.optimizer.param_groups[0]["lr"] == 1e-3            # and so does our_loop
        assert train(learn) == 8
        return learn.model[1].weight.detach()

    assert torch.allclose(weights(bare_loop), weights(our_loop), atol=1e-7)


def test_the_learning_rate_lesson_shows_what_it_says(meanwhile):
    out, printed = meanwhile["learning_rate"].result()
    assert "as by hand: True" in printed
    assert "the loss falls, steepest at" in printed
    assert "the loss is flat, and rises from" in printed
    assert len(pictures_on((out / "index.html").read_text())) == 5


def test_a_device_is_named_for_the_table_of_results(monkeypatch):
    monkeypatch.setattr("kit.timing.cores", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert device_name(torch.device("cpu")) == "cpu, 3 cores"
    assert device_name(torch.device("cuda")) == "NVIDIA H200"
