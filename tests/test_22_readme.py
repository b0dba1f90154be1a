"""The README as a test: what it shows is what there is."""

import ast
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from inspect import isclass, signature
import re
from runpy import run_path
import sys

import pytest

from figures import COURSE
from floors import FLOORS, ORDER, OURS, ROOT, TOP
from sample_data import planet

README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
FIGURES = ROOT / "lessons" / "figures"
ALL_LESSONS = "python lessons/figures.py --quick"

# What runs each command of the README: a line of .ci/run, or a test.
RUN_BY = {
    "pip install -e .": "pip install",
    'pip install -e ".[test]"': "README.md",                        # where .ci/run takes it from
    "python -m pytest": "README.md",
    "bash .ci/run": "",
    **{f"python lessons/{lesson}.py": ALL_LESSONS for lesson in COURSE},
    "python lessons/figures.py": ALL_LESSONS,
    "python lessons/sample_data.py planet tiles --n 100": "python lessons/sample_data.py planet",
    "python lessons/planet.py --data DIR": "python lessons/planet.py --data",
    "python lessons/camvid.py --data camvid":
        "test_23_lessons::"
        "test_the_camvid_lesson_on_a_pretrained_body_has_the_notebooks_four_stages",
    "torchrun --nproc-per-node=2 lessons/planet.py": "torchrun --nproc-per-node=2",
    "python lessons/predict.py runs/planet/model.pth FILE_OR_FOLDER":
        "test_23_lessons::test_the_planet_lesson_ends_in_a_model_and_a_submission",
    "python lessons/rebuild.py schedules":
        "test_20_rebuild::test_the_copy_is_whole_and_only_the_targets_are_empty_in_it",
    "python lessons/rebuild.py --help":
        "test_22_readme::test_help_of_a_lesson_says_what_it_is_and_does_nothing",
    "python -m pytest --mine":
        "test_20_rebuild::test_the_first_thing_to_write_is_named_and_nothing_after_it_runs",
    "python lessons/rebuild.py --audit": "python lessons/rebuild.py --audit",
    "--audit --mutate MODULE":
        "test_20_rebuild::test_small_mistakes_that_no_test_notices_are_listed_with_line_and_change"}


def section(title: str) -> str:
    """The part of the README below a heading that begins so."""
    return README.split(f"\n## {title}")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the last table below a heading, row by row, without the header."""
    table = section(title).split("|\n|---")[-1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in table.splitlines()[1:]]


def commands() -> set[str]:
    """Every command line of the README, in a block or between backticks, but for downloads."""
    lines = re.findall(r"^    ((?:pip|python|torchrun) .*)$", README, re.MULTILINE)
    lines += re.findall(r"`((?:pip|python|torchrun|bash|--audit) [^`]*)`", README)
    parts = [part.partition("  ")[0] for line in lines for part in line.split(" && ")]
    return {re.sub(r" # .*", "", part).strip() for part in parts}


def names_of_tests(place: str) -> set[str]:
    """The names of the tests in a file, test_<place>.py."""
    tree = ast.parse((ROOT / "tests" / f"{place}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def callables() -> dict[str, list[Callable]]:
    """All functions, classes and methods of minifast by their bare names."""
    found = defaultdict(list)
    for module in map(import_module, (f"minifast.{name}" for name in ORDER)):
        for name, thing in vars(module).items():
            methods = {each: getattr(thing, each) for each in vars(thing)} if isclass(thing) else {}
            for each, function in {name: thing, **methods}.items():
                if callable(function):
                    found[each].append(function)
    return found


def test_it_has_at_most_150_lines():
    assert len(README.splitlines()) <= 150


def test_each_command_is_run_by_a_test_or_by_ci():
    assert commands() == set(RUN_BY)
    for command, where in RUN_BY.items():
        if "::" in where:
            file, test = where.split("::")
            assert test in names_of_tests(file), command
        else:
            assert where in CI, command


def test_the_six_steps_print_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    planet("tiles", n=100)
    lines = re.findall(r"^    (.*)$", section("The six steps"), re.MULTILINE)
    imports = sum(line.startswith("from ") for line in lines)
    assert len(lines) == imports + 10
    capsys.readouterr()
    exec("\n".join(lines), {})
    said = [re.split(" {2,}# ", line)[1] for line in lines if line.startswith("print")]
    assert capsys.readouterr().out.splitlines() == said


def test_the_table_of_floors_is_the_house():
    table = rows("The floors")
    assert [int(row[0]) for row in table] == list(range(TOP + 1))
    for number, modules, _, lines, tests, _ in table:
        names = re.findall(r"`(\w+)`", modules)
        assert names == [name for name in ORDER if FLOORS[name] == int(number)]
        real = sum(len((OURS / f"{name}.py").read_text().splitlines()) for name in names)
        assert abs(int(lines) - real) <= 10, number                 # so that a comment may change
        assert tests == f"`test_{number}_*`" and list(ROOT.glob(f"tests/test_{number}_*.py"))


@pytest.mark.parametrize("says, ours, tests", rows("The notebook says"))
def test_a_call_of_the_notebooks_is_here(says, ours, tests):
    known = callables()
    for code in re.findall(r"`([^`]+)`", ours):
        tree = ast.parse("x" * code.startswith(".") + code)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", None))
            if name in ("partial", "slice", "index"):               # Python's own
                continue
            given = [keyword.arg for keyword in call.keywords]
            assert any(set(given) <= set(signature(each).parameters)
                       or "knobs" in signature(each).parameters for each in known[name]), code
    for place, test in re.findall(r"`(\w+)::(\w+)`", tests):
        assert f"test_{test}" in names_of_tests(f"test_{place}")
    assert "`" in says and "::" in tests


def test_names_of_the_lecture_are_in_the_table():
    says = " ".join(row[0] for row in rows("The notebook says"))
    for name in ("create_cnn", "ImageItemList", "ImageFileList", "random_split_by_pct", "sep=' '",
                 "create_unet", "SegmentationItemList", ".datasets()"):
        assert name in says


def test_figures_are_there_small_and_shown():
    shown = set(re.findall(r"\(lessons/figures/([^)]+)\)", README))
    made = {f"{lesson}-{name}.png" for lesson, names in COURSE.items() for name in names}
    assert shown == made | {"cover.png"} == {file.name for file in FIGURES.iterdir()}
    assert sum(file.stat().st_size for file in FIGURES.iterdir()) < 1e6


@pytest.mark.parametrize("lesson", [*COURSE, "predict", "sample_data", "rebuild", "figures"])
def test_help_of_a_lesson_says_what_it_is_and_does_nothing(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = ROOT / "lessons" / f"{lesson}.py"
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    with pytest.raises(SystemExit) as end:
        run_path(str(file), run_name="__main__")
    assert end.value.code == 0 and not list(tmp_path.iterdir())
    said = " ".join(capsys.readouterr().out.split())
    about = ast.get_docstring(ast.parse(file.read_text())).partition("\n")[0]
    assert f"usage: {lesson}.py" in said and about in said
