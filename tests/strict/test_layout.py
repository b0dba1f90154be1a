"""The plan of the house: how long it may be, what may import what, and what it never does."""

import ast
import json
from pathlib import Path
import re
import subprocess
import sys

import pytest

from minifast import READING_ORDER
from rebuild import OURS, ROOT, STUDY

CORE = [OURS / f"{module}.py" for module in READING_ORDER]
TOOLS, EXTRAS = (sorted((OURS / folder).glob("*.py")) for folder in ("tools", "extras"))
MODULES = sorted(OURS.rglob("*.py"))
SCRIPTS = [path for folder in ("minifast", "lessons", "tests")
           for path in sorted((ROOT / folder).rglob("*.py"))]
STANDALONE = ["metrics", "schedules", "geometry", "transforms", "resnet", "unet"]

# Ceilings: never raised, and lowered where there is room.
MOST_LINES = {"core": 2250, "tools": 450, "extras": 450}

# Imports modules one after the other, and tells of each what that printed, which files it opened
# but Python's own, and whether it drew random numbers. Other packages are imported before.
WATCH_IMPORTS = """
import contextlib, importlib, io, json, random, sys
import numpy, torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
def state():
    return random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
opened, work = [], {}
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
for module in sys.argv[1:]:
    before, said = state(), io.StringIO()
    opened.clear()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        importlib.import_module(module)
    work[module] = [file for file in opened if not file.endswith((".py", ".pyc", ".so"))]
    work[module] += ["random state"] * (state() != before) + said.getvalue().split()
print(json.dumps({module: done for module, done in work.items() if done}))
"""


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> list[str]:
    """What a file imports, as dotted names: `from minifast.tools import check` is
    minifast.tools.check."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = node.module in ("minifast", "minifast.tools", "minifast.extras")
            found += [f"{node.module}.{a.name}" for a in node.names] if whole else [node.module]
    return found


def ours(path: Path) -> list[str]:
    return [name for name in imports(path) if name.startswith("minifast.")]


def lines(paths: list[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in paths)


def test_the_house_is_no_larger_than_planned():
    sizes = {"core": lines([*CORE, OURS / "__init__.py"]), "tools": lines(TOOLS),
             "extras": lines(EXTRAS)}
    assert all(sizes[part] <= most for part, most in MOST_LINES.items()), sizes
    assert all(most - sizes[part] < 60 for part, most in MOST_LINES.items()), (
        "lower the ceiling to what there is")


def test_every_module_is_once_in_the_reading_order():
    assert sorted(READING_ORDER) == sorted(path.stem for path in OURS.glob("[!_]*.py"))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_a_module_imports_only_earlier_ones_and_tools(path):
    earlier = [dotted(each) for each in [*CORE[:CORE.index(path)], *TOOLS]]
    assert set(ours(path)) <= set(earlier)


@pytest.mark.parametrize("path", EXTRAS, ids=lambda path: path.stem)
def test_extras_do_not_import_each_other(path):
    assert set(ours(path)) <= set(map(dotted, [*CORE, *TOOLS]))


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_tools_import_only_tools(path):
    assert set(ours(path)) <= set(map(dotted, TOOLS))


@pytest.mark.parametrize("module", STANDALONE)
def test_some_modules_can_be_lifted_out_and_used_alone(module):
    allowed = {"minifast.tools.check"} if module not in ("resnet", "unet") else set()
    if module == "transforms":
        allowed |= {"minifast.geometry", "minifast.schedules", "minifast.tools.processes"}
    assert set(ours(OURS / f"{module}.py")) <= allowed


def test_importing_does_no_work():
    done = subprocess.run([sys.executable, "-B", "-c", WATCH_IMPORTS, *map(dotted, MODULES)],
                          cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_nothing_but_the_four_packages_is_imported():
    own = {"minifast", "kit", *(path.stem for path in SCRIPTS)}
    allowed = {"torch", "numpy", "PIL", "pytest"} | own | sys.stdlib_module_names
    assert {name.split(".")[0] for path in SCRIPTS for name in imports(path)} <= allowed


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_names_are_imported_one_by_one(path):
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_document_outside_of_the_project_is_named(path):
    outside = r"\b(REFERENCE|DESIGN|STYLE)( [0-9]|\.md)\b"
    assert path == Path(__file__) or not re.search(outside, path.read_text())


@pytest.mark.parametrize("module", STUDY)
def test_study_tests_are_short_and_few_and_use_public_names(module):
    text = STUDY[module].read_text()
    names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
              for alias in node.names}
    assert len(text.splitlines()) <= (180 if module in ("datablock", "learner") else 120)
    assert 5 <= len(re.findall(r"^def test_", text, re.MULTILINE)) <= 15
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]
    assert not re.search(r"\bmonkeypatch\b|match=", text)


def test_study_tests_are_numbered_in_reading_order():
    assert list(STUDY) == [module for module in READING_ORDER if module in STUDY]
