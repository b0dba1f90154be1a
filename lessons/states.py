"""The learner's copy beside ours: what is empty in it, what is theirs, and what ours has since.

A second copy, mine/original, keeps ours as it was copied: so it shows what each side has changed.
"""

import ast
import os
from pathlib import Path
from typing import Literal, NamedTuple

from bodies import comments, exercise, functions, is_empty, parse, read, same
from floors import MINE, ORDER, ORIGINAL, OURS
from patches import with_function

State = Literal["ours", "empty", "yours", "missing", "gone"]


class Entry(NamedTuple):
    """A function, as it is in the learner's copy."""

    module: str
    name: str                   # with its class: `Score.__add__`
    state: State                # yours: written by the learner; gone: ours has it no more
    noted: bool                 # the learner wrote comments in it, or another docstring
    outdated: bool              # ours has another text for it since it was copied


def entries(module: str) -> list[Entry]:
    """What became of each function of a module, in our order.

    Bodies are compared as syntax trees: one that says the same as ours is ours. What outdates a
    function that is empty or the learner's is another signature or docstring in ours: another
    exercise. Raises ValueError where a file is not Python.
    """
    texts = [read(path) if path.exists() else "" for path in files_of(module)]
    ours, mine, original = map(functions, texts)
    if texts[0] == texts[1]:
        return [Entry(module, name, "ours", False, False) for name in ours]
    notes = [comments(text) for text in texts]
    found = []
    for name in {**ours, **{name: None for name in mine if name in original}}:
        now, have, was = ours.get(name), mine.get(name), original.get(name)
        noted = bool(notes[1].get(name, set()) - notes[0].get(name, set())
                     - notes[2].get(name, set())) or not any(
            same(exercise(have), exercise(given)) for given in (now, was) if have and given)
        if have is None:
            state = "missing"
        elif now is None:
            state = "gone"
        elif is_empty(have):
            state = "empty"
        else:
            state = "ours" if not noted and (same(have, now) or same(have, was)) else "yours"
        outdated = None not in (now, have, was) and not same(was, now) and (
            same(have, was) or not any(same(exercise(now), exercise(old)) for old in (have, was)))
        found.append(Entry(module, name, state, noted, outdated))
    return found


def changed_outside(module: str) -> bool:
    """Whether ours has changed outside of functions since it was copied, and the copy has not."""
    if not all(path.exists() for path in files_of(module)):
        return False
    ours, mine, original = (outside(read(path)) for path in files_of(module))
    return original != ours != mine


def outside(text: str) -> str:
    """The syntax tree of a source text without its functions: imports, constants, classes."""
    class Without(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

    return ast.dump(Without().visit(parse(text)))


def refresh_copy() -> list[str]:
    """Copy our modules to mine/, and what changed in ours since, as far as nobody wrote it there.

    Returns what was brought up to date of an older copy: modules, and functions of others.
    """
    renewed, first_time = [], not MINE.exists()
    for module in ["__init__", *ORDER]:
        ours, mine, original = files_of(module)
        if mine.exists() and (not original.exists() or mine.read_bytes() == ours.read_bytes()):
            write(original, ours.read_bytes())
        if not mine.exists() or mine.read_bytes() == original.read_bytes() != ours.read_bytes():
            write(mine, ours.read_bytes())
            write(original, ours.read_bytes())
            renewed += [] if first_time else [f"{module}.py"]
        else:
            renewed += [f"{module}.{name}" for name in refresh_functions(module)]
    return renewed


def refresh_functions(module: str) -> list[str]:
    """Bring functions of one copied module up to date that nobody wrote; returns their names."""
    ours, mine, original = files_of(module)
    try:
        found = entries(module)
    except ValueError:                  # a syntax error; who needs that file will be told
        return []
    renewed = [entry.name for entry in found if entry.state == "ours" and entry.outdated
               or entry.state == "missing" and entry.name not in functions(read(original))]
    for name in renewed:
        for path in (mine, original):
            write(path, with_function(read(path), read(ours), name).encode())
    return renewed


def files_of(module: str) -> list[Path]:
    """Ours, the learner's, and ours as it was copied."""
    return [folder / f"{module}.py" for folder in (OURS, MINE, ORIGINAL)]


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there as it was, or as it shall be, and never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")     # two runs may write at once
    temporary.write_bytes(content)
    os.replace(temporary, path)
