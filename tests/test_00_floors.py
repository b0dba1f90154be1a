"""The plan of the house as a test: budgets, and imports that point down only."""

import ast
from pathlib import Path
import sys
import tokenize

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "minifast").glob("*.py"))
SCRIPTS = [path for folder in ("minifast", "lessons", "tests")
           for path in sorted((ROOT / folder).glob("*.py"))]

# Each module imports from those before it; the number is that of its test file. 0 is the cellar.
FLOORS = {"check": 0, "draw": 0, "progress": 0, "files": 0, "weights": 0, "listing": 0,
          "device": 0, "seeds": 0,
          "scores": 1, "metrics": 1, "schedules": 2, "images": 3, "targets": 4, "labels": 4,
          "dataset": 4, "loader": 5, "splits": 6, "databunch": 6, "datablock": 6, "resnet": 7,
          "groups": 8, "recorder": 9, "training": 10, "predictions": 10, "learner": 10,
          "lr_rule": 11, "lr_finder": 11, "unet": 12, "geometry": 13, "transforms": 14,
          "vision": 15}
ORDER = list(FLOORS)


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def imports(path: Path) -> list[str]:
    """What a file imports, as dotted names: `from minifast import check` is minifast.check."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = node.module == "minifast"
            found += [f"minifast.{a.name}" for a in node.names] if whole else [node.module]
    return found


def minifast_imports(path: Path) -> list[str]:
    return [name.split(".")[1] for name in imports(path) if name.startswith("minifast.")]


def docstring_lines(tree: ast.AST) -> set[int]:
    homes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [node.body[0] for node in ast.walk(tree) if isinstance(node, homes)
             and ast.get_docstring(node) is not None]
    return {line for text in texts for line in range(text.lineno, text.end_lineno + 1)}


def code_lines(path: Path) -> set[int]:
    """Line numbers that hold code: not docstrings, comments or blank lines."""
    passive = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
               tokenize.ENDMARKER)
    with open(path, newline="") as file:
        lines = {line for token in tokenize.generate_tokens(file.readline)
                 if token.type not in passive
                 for line in range(token.start[0], token.end[0] + 1)}
    return lines - docstring_lines(ast.parse(path.read_text()))


def test_every_module_has_its_floor():
    assert set(names(MODULES)) - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_imports_only_from_floors_below(path):
    for module in minifast_imports(path):
        assert ORDER.index(module) < ORDER.index(path.stem)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=lambda p: p.stem)
def test_a_test_file_needs_no_module_above_its_own(path):
    for module in minifast_imports(path):
        assert FLOORS[module] <= int(path.stem.split("_")[1])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_nothing_but_the_four_packages_is_imported(path):
    ours = {"minifast", *names(sorted((ROOT / "lessons").glob("*.py")))}
    for name in imports(path):
        top = name.split(".")[0]
        assert top in {"torch", "numpy", "PIL", "pytest"} | ours or top in sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_has_at_most_200_lines_and_a_function_25_of_code(path):
    assert len(path.read_text().splitlines()) <= 200
    code = code_lines(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0].lineno
            assert len(code & set(range(first, node.end_lineno + 1))) <= 25, node.name


def test_the_house_stays_within_its_budget():
    numbered = [path for path in MODULES if 1 <= FLOORS.get(path.stem, 0) <= 15]
    # The plan had 3,000 and 1,600 lines for all, 2,100 and 1,150 for floors 01 to 15. Before masks,
    # the U-Nets and floors 16 to 18 these were used up: what both walkthroughs need takes more.
    # So these are what there is, and hardly more: to be raised knowingly, or not at all.
    for paths, most_lines, most_code in ((MODULES, 3800, 2010), (numbered, 3135, 1640)):
        assert sum(len(path.read_text().splitlines()) for path in paths) <= most_lines
        assert sum(len(code_lines(path)) for path in paths) <= most_code
