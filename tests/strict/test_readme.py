"""The README as a test: what it shows is what there is."""

import ast
from collections import defaultdict
from importlib import import_module
from inspect import getsource, isclass, signature
import re
from runpy import run_path
import sys
from textwrap import dedent

import pytest

from minifast import READING_ORDER
from rebuild import OURS, ROOT
from kit.sample_data import planet

MODULES = [*READING_ORDER, *(f"{folder}.{file.stem}" for folder in ("tools", "extras")
                             for file in (OURS / folder).glob("[!_]*.py"))]
README = (ROOT / "README.md").read_text()
NOTEBOOK = (ROOT / "lessons" / "NOTEBOOK.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
FIGURES = ROOT / "lessons" / "figures"
COURSE = sorted(file.stem for file in (ROOT / "lessons").glob("[0-9]*.py"))
ALL_LESSONS = "for lesson in lessons/0[1-9]_*.py"
# Names in the README's code that are the reader's, Python's or torch's.
OF_THE_READER = {"x", "path", "file", "picture", "codes", "data", "learn", "names", "predictions",
                 "get_y_fn", "acc_02", "f_score", "acc_camvid", "void", "bs", "tfms", "partial",
                 "slice", "lr", "keep", "index", "shape", "recorder", "train"}

# What runs each command of the README: a line of .ci/run, or a test.
RUN_BY = {
    'pip install -e ".[dev]"': 'pip install --quiet -e ".[dev]"',
    'pip install -e ".[test]"': "'^    pip install .* python -m pytest' README.md",
    "python -m pytest": "'^    pip install .* python -m pytest' README.md",
    "bash .ci/run": "#!/usr/bin/env bash",
    **{f"python lessons/{lesson}.py": ALL_LESSONS for lesson in COURSE},
    "python lessons/09_where_time_goes.py --unit": "python lessons/09_where_time_goes.py --unit",
    "python lessons/kit/sample_data.py planet tiles --n 200":
        "python lessons/kit/sample_data.py planet",
    "python lessons/06_planet.py --data DIR": "python lessons/06_planet.py --data",
    "python lessons/08_camvid.py --data camvid":
        "test_lessons::"
        "test_the_camvid_lesson_on_a_pretrained_body_has_the_notebooks_four_stages",
    "torchrun --nproc-per-node=2 lessons/06_planet.py": "torchrun --nproc-per-node=2",
    "python lessons/predict.py runs/planet/model.pth FILE_OR_FOLDER":
        "test_lessons::test_the_planet_lesson_ends_in_a_model_and_a_submission",
    "python lessons/rebuild.py schedules":
        "test_rebuild::test_the_copy_is_whole_and_only_the_module_is_empty_in_it",
    "python lessons/rebuild.py --answer cosine": "test_rebuild::test_an_answer_is_our_source",
    "python -m pytest --mine": "test_rebuild::test_the_verdict_names_function_test_and_place",
    "python tests/empty_each.py": "python tests/empty_each.py"}


def rows(text: str) -> list[list[str]]:
    """The cells of the first table of a text, row by row, without the header."""
    table = text.split("|\n|---")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in table.splitlines()[1:]]


def commands() -> set[str]:
    """Every command line of the README, in a block or between backticks, but for downloads."""
    lines = re.findall(r"^    ((?:pip|python|torchrun) .*)$", README, re.MULTILINE)
    lines += re.findall(r"`((?:pip|python|torchrun|bash) [^`]*)`", README)
    parts = [part.partition("  ")[0] for line in lines for part in line.split(" && ")]
    return {re.sub(r" # .*", "", part).strip() for part in parts}


def names_of_tests(place: str) -> set[str]:
    """The names of the tests in a file, test_<place>.py."""
    tree = ast.parse((ROOT / "tests" / "strict" / f"{place}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def things() -> dict[str, list[object]]:
    """What minifast's modules define, and what their classes have, by bare names."""
    found = defaultdict(list)
    for module in map(import_module, (f"minifast.{name}" for name in MODULES)):
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", "minifast").startswith("minifast"):
                found[name].append(thing)
                for each in vars(thing) if isclass(thing) else ():
                    found[each].append(getattr(thing, each))
        for line in re.findall(r"^        (self\.\w.*?) = ", getsource(module), re.MULTILINE):
            for each in re.findall(r"self\.(\w+)", line):          # what __init__ sets
                found[each] += []
    return found


def fits(thing: object, positional: int, knobs: list[str]) -> bool:
    """Whether a function or a class can be called with so many arguments and these knobs."""
    try:
        wanted = signature(thing)
        given = [None] * (positional + (next(iter(wanted.parameters), "") == "self"))
        wanted.bind_partial(*given, **dict.fromkeys(knobs))
    except (TypeError, ValueError):
        return False
    return True


def refuse_unknown(code: str, known: dict[str, list[object]]) -> None:
    """Fail unless all names in a piece of code are known, and what it calls takes what it gives."""
    tree = ast.parse("x" * code.startswith(".") + code)
    for node in ast.walk(tree):
        name = getattr(node, "attr", getattr(node, "id", "x"))
        assert name in known or name in OF_THE_READER, f"{name} in {code}"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function, values = call.func, call.args
        name = getattr(function, "attr", getattr(function, "id", ""))
        if name == "partial":
            name, values = values[0].id, []
        if name not in ("slice", "index"):                          # Python's own
            knobs = [keyword.arg for keyword in call.keywords]
            assert any(fits(each, len(values), knobs) for each in known[name]), code


def test_it_has_at_most_110_lines():
    assert len(README.splitlines()) <= 110


def test_each_command_is_run_by_a_test_or_by_ci():
    assert commands() == set(RUN_BY)
    for command, where in RUN_BY.items():
        if "::" in where:
            file, test = where.split("::")
            assert test in names_of_tests(file), command
        else:
            assert where in CI, command


def test_its_twelve_lines_train_and_print_such_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    planet("tiles", n=60)                               # fewer, to be quick
    code, table = re.findall(r"(?:^    .*\n)+", README, re.MULTILINE)[:2]
    assert len(code.splitlines()) == 12
    capsys.readouterr()
    exec(dedent(code), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == table.splitlines()[0].split() and len(said) == 6
    assert said[-1].split()[0] == table.splitlines()[-1].split()[0] == "4"


def test_the_core_is_listed_in_reading_order_with_its_lines():
    listed = rows(README.split("## The core")[1])
    names = [re.findall(r"`(\w+)`", row[0]) for row in listed]
    assert [name for each in names for name in each] == READING_ORDER
    for modules, row in zip(names, listed):
        lines = sum(len((OURS / f"{name}.py").read_text().splitlines()) for name in modules)
        assert int(row[-1]) == lines, modules


@pytest.mark.parametrize("says, ours", rows(NOTEBOOK))
def test_a_call_of_the_notebooks_is_here(says, ours):
    assert "`" in says
    for code in re.findall(r"`([^`]+)`", ours):
        refuse_unknown(code, things())


@pytest.mark.parametrize("code", ["learn.plot_loss()", "partial(foreground_acc, void_code=30)",
                                  "partial(fbeta, void=1)", "cnn_learner(data, resnet51)",
                                  "data.training_set[0]", "lr_find(learn, 1, 2, 3, 4, 5, 6, 7, 8)"])
def test_a_call_that_is_not_here_is_noticed(code):
    with pytest.raises(AssertionError):
        refuse_unknown(code, things())


def test_names_with_their_modules_are_there():
    named = [(module, name) for module, name in re.findall(r"`([a-z_.]+)\.(\w+)`", NOTEBOOK)
             if module in MODULES]
    assert len(named) > 20
    for module, name in named:
        assert hasattr(import_module(f"minifast.{module}"), name), f"{module}.{name}"


def test_flags_are_those_of_the_lessons():
    results = (ROOT / "lessons" / "RESULTS.md").read_text()
    said = set(re.findall(r"--([a-z][\w-]*)", README + results))
    fields = {name.replace("_", "-") for lesson in (ROOT / "lessons").rglob("*.py") for name in
              re.findall(r"^    (\w+): .*#", lesson.read_text(), re.MULTILINE)}
    assert said <= fields | {"mine", "answer", "help", "n", "nproc-per-node"}


def test_names_of_the_lecture_are_in_the_table():
    says = " ".join(row[0] for row in rows(NOTEBOOK))
    for name in ("create_cnn", "ImageItemList", "ImageFileList", "random_split_by_pct", "sep=' '",
                 "create_unet", "SegmentationItemList", "datasets()", "untar_data", "open_image",
                 "get_image_files", "open_mask", "loadtxt", "read_csv", "from_csv", "label_from_df",
                 "split_by_rand_pct", "label_from_func", "split_by_fname_file", "get_transforms",
                 "transform", "databunch", "normalize", "show_batch", "DatasetType.Valid",
                 "accuracy_thresh", "fbeta", "acc_camvid", "cnn_learner", "unet_learner", "lr_find",
                 "recorder.plot()", "fit_one_cycle", "pct_start", "freeze", "unfreeze", "save",
                 "load", "learn.data", "destroy", "plot_losses", "plot_lr", "show_results",
                 "summary", "to_fp16", "export", "load_learner", "DatasetType.Test", "get_preds",
                 "add(", "to_csv", "random.seed", "tfm_y", "gpu_mem_get_free_no_cache"):
        assert re.search(r"\b" + re.escape(name), says), name


def test_each_lesson_has_a_row_and_a_picture_that_it_writes():
    listed = rows(README.split("These are the lessons")[1])
    assert [row[0] for row in listed] == [f"`python lessons/{lesson}.py`" for lesson in COURSE]
    for lesson, row in zip(COURSE, listed):
        folder, name = re.search(r'"lessons/figures/(\w+)/([\w-]+)\.png"', row[2]).groups()
        source = (ROOT / "lessons" / f"{lesson}.py").read_text()
        assert f'"runs/{folder}"' in source and f'out / "{name}.png"' in source


def test_figures_are_there_small_and_shown():
    files = {str(file.relative_to(FIGURES)) for file in FIGURES.rglob("*.png")}
    assert set(re.findall(r'src="lessons/figures/([^"]+)"', README)) == files
    assert sum((FIGURES / file).stat().st_size for file in files) < 1.2e6


@pytest.mark.parametrize("lesson", [*COURSE, "predict", "kit/sample_data", "rebuild"])
def test_help_of_a_lesson_says_what_it_is_and_does_nothing(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = ROOT / "lessons" / f"{lesson}.py"
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    with pytest.raises(SystemExit) as end:
        run_path(str(file), run_name="__main__")
    assert end.value.code == 0 and not list(tmp_path.iterdir())
    said = " ".join(capsys.readouterr().out.split())
    about = ast.get_docstring(ast.parse(file.read_text())).partition("\n")[0]
    assert f"usage: {file.name}" in said and about in said
