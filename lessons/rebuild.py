"""Rebuild a module yourself: write its functions again until their tests pass.

    python lessons/rebuild.py schedules         empties the module, in a copy: mine/minifast
    python -m pytest --mine                     tests the copy, and says which function is next
    python lessons/rebuild.py --answer cosine   shows our version

schedules is the shortest module to begin with. It helps to read its tests first, in
tests/study/test_02_schedules.py, from top to bottom. What you have written is never overwritten. To
start a module afresh, delete its file in mine/minifast and run the first command again.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
import ast
from pathlib import Path
import re
import sys

ROOT = Path(__file__).resolve().parents[1]
OURS, MINE = ROOT / "minifast", ROOT / "mine" / "minifast"
YOUR_TURN = "your turn: "
# The study tests of each module, in reading order.
STUDY = {file.stem.split("_", 2)[2]: file
         for file in sorted((ROOT / "tests" / "study").glob("test_*.py"))}


def text(file: Path) -> str:
    """The text of a file, with \\n at the end of each line on every system; "" if it is missing."""
    # Some editors begin a file with a byte-order mark, and some use other encodings.
    return file.read_text(encoding="utf-8-sig", errors="replace") if file.exists() else ""


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """The functions of a module, and the methods of its classes as Class.method, by name.

    Helpers that begin with one underscore are left out: nobody has to write them.
    """
    found = {}
    for node in ast.parse(source).body:
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in node.body if prefix else [node]:
            if isinstance(each, ast.FunctionDef) and (each.name[0] != "_" or each.name[:2] == "__"):
                found[prefix + each.name] = each
    return found


def emptied(source: str, names: list[str]) -> str:
    """The source without the bodies of these functions. Signatures and docstrings stay."""
    lines, found = source.splitlines(), functions(source)
    # From the last one on, so that the line numbers of the others still hold.
    for name in reversed([name for name in found if name in names]):
        body = found[name].body
        has_docstring = ast.get_docstring(found[name]) is not None
        first = body[0].end_lineno if has_docstring else body[0].lineno - 1
        lines[first:found[name].end_lineno] = [
            f'{" " * body[0].col_offset}raise NotImplementedError("{YOUR_TURN}{name}")']
    return "\n".join(lines) + "\n"


def rebuild(module: str) -> None:
    """Copy the package to mine/, and empty a module there unless its copy differs from ours."""
    for file in OURS.rglob("*.py"):
        copy = MINE / file.relative_to(OURS)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text(file), encoding="utf-8")
    ours, copy = text(OURS / f"{module}.py"), MINE / f"{module}.py"
    if text(copy) == ours:
        copy.write_text(emptied(ours, list(functions(ours))), encoding="utf-8")
    else:
        print(f"Your {module} differs from ours, so it stays as it is. Delete it to start afresh.")
    empty = re.findall(rf"{YOUR_TURN}([\w.]+)", text(copy))
    print(f"{copy.relative_to(ROOT)}: still empty: {', '.join(empty) or 'nothing'}\n"
          "Now run `python -m pytest --mine`.")


def answer(name: str) -> str:
    """Our source of a function: `cosine`, `schedules.cosine`, `Score.values`."""
    found = []
    for file in sorted(OURS.rglob("*.py")):
        for each, node in functions(text(file)).items():
            if name in (each, f"{file.stem}.{each}", each.split(".")[-1]):
                first = min(part.lineno for part in [node, *node.decorator_list])
                source = text(file).splitlines()[first - 1:node.end_lineno]
                found.append("\n".join([f"# {file.relative_to(ROOT)}, line {first}", *source]))
    return "\n\n".join(found) or sys.exit(f"there is no function {name!r}")


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="?", help=f"one of: {', '.join(STUDY)}")
    parser.add_argument("--answer", metavar="FUNCTION", help="show our source of a function")
    given = parser.parse_args()
    if given.answer:
        print(answer(given.answer))
    elif given.module in STUDY:
        rebuild(given.module)
    elif given.module:
        why = "has no study tests yet" if (OURS / f"{given.module}.py").exists() else "is unknown"
        sys.exit(f"the module {given.module} {why}; you can rebuild: {', '.join(STUDY)}")
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
