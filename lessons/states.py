"""The learner's copy beside ours: what is empty in it, what is theirs, and what ours has since."""

import os
from pathlib import Path
from typing import Literal, NamedTuple

from bodies import exercise, functions, is_empty, read, same
from floors import MINE, ORIGINAL, OURS

State = Literal["ours", "empty", "yours", "missing"]


class Entry(NamedTuple):
    """One of our functions, as it is in the learner's copy."""

    module: str
    name: str                   # with its class: `Score.__add__`
    state: State                # ours: as it was copied; yours: written by the learner
    outdated: bool              # ours has changed since it was copied


def entries(module: str) -> list[Entry]:
    """What became of each function of a module, in our order.

    The body of a function that is empty or the learner's may change in ours: that outdates nothing
    as long as signature and docstring, the exercise, are what the learner was given. Raises
    ValueError where a file is not Python.
    """
    ours, mine, original = (functions(read(path)) if path.exists() else {}
                            for path in (OURS / f"{module}.py", MINE / f"{module}.py",
                                         ORIGINAL / f"{module}.py"))
    found = []
    for name, now in ours.items():
        have, was = mine.get(name), original.get(name, now)
        old_exercise = exercise(have) == exercise(was) != exercise(now)
        if have is None:
            state = "missing"
        elif is_empty(have):
            state = "empty"
        else:
            state = "ours" if same(have, now) or same(have, was) else "yours"
        found.append(Entry(module, name, state, not same(have, now) and
                           (old_exercise or same(have, was))))
    return found


def refresh_copy() -> list[str]:
    """Copy our modules to mine/, those too that changed in ours and not in the learner's hands.

    A second copy, mine/original, shows later what the learner and what we have changed. Returns
    the names of the files that changed since.
    """
    changed = []
    for path in sorted(OURS.glob("*.py")):
        now, mine, original = (file.read_bytes() if file.exists() else None
                               for file in (path, MINE / path.name, ORIGINAL / path.name))
        if mine is None or mine == original != now:
            write(MINE / path.name, now)
            write(ORIGINAL / path.name, now)
            if mine is not None:
                changed.append(path.name)
        elif original is None:
            write(ORIGINAL / path.name, now)
    return changed


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there as it was, or as it shall be, and never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
