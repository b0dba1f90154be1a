"""Rebuild minifast yourself: empty its functions in a copy, and write them again.

    python lessons/rebuild.py                           the floors, and what is still to do there
    python lessons/rebuild.py schedules                 empties a module, in the copy mine/minifast
    python lessons/rebuild.py Score metrics.fbeta       a class; a function or a method
    python -m pytest --mine                             tests your copy, says what to write next
    python lessons/rebuild.py --hint cosine             its docstring, its tests, its source
    python lessons/rebuild.py --answer cosine           our body beside yours
    PYTHONPATH=mine python lessons/planet.py --quick    the lesson, on what you wrote
    python lessons/rebuild.py --audit                   does a test need each function?
    python lessons/rebuild.py --audit --mutate          and does it notice small mistakes?

What you wrote is never overwritten. To start a function afresh, delete it and empty it again.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
import ast
from collections import Counter
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
import re
from shutil import get_terminal_size
import sys
from textwrap import dedent, fill

from bodies import (body_text, emptied, functions, home_of, parse, read, source_of,
                    with_function)
from floors import FLOORS, MINE, ORDER, OURS, ROOT, TOP, title
from states import Entry, entries, refresh_copy, write

Name = tuple[str, str]                                  # module and function: ("metrics", "fbeta")
HEADINGS = {"empty": "to write", "missing": "missing", "yours": "written by you"}


def main() -> None:
    """The command."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET",
                        help="module, class, function or method, to be emptied or audited")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--hint", metavar="NAME", help="what a function is to do")
    what.add_argument("--answer", metavar="NAME", help="our body beside yours")
    what.add_argument("--audit", action="store_true", help="test the tests")
    parser.add_argument("--mutate", action="store_true", help="with --audit: by small mistakes")
    asked = parser.parse_args()
    if asked.targets and (asked.hint or asked.answer) or asked.mutate and not asked.audit:
        parser.error("--hint and --answer take one name; --mutate goes with --audit")
    try:
        if asked.hint or asked.answer:
            for module, name in chosen(asked.hint or asked.answer, modules_first=False):
                print(hint(module, name) if asked.hint else answer(module, name))
        elif asked.audit:
            names = [name for target in asked.targets for name in chosen(target)]
            numbered = [name for name in everything() if FLOORS[name[0]] > 0]
            sys.exit(audit(names or numbered, asked.mutate))
        elif asked.targets:
            rebuild(asked.targets)
        else:
            show_floors()
    except ValueError as error:
        sys.exit(f"rebuild.py: {error}")


def everything() -> list[Name]:
    """All functions of ours, in study order."""
    return [(module, name) for module in ORDER
            for name in functions(read(OURS / f"{module}.py"))]


def chosen(target: str, modules_first: bool = True) -> list[Name]:
    """The functions that a target names, in study order.

    target         a module, a class, a function or a method; `module.name` as well as `name`
    modules_first  what `scores` is: the module of that name, or the function

    Raises ValueError, with the nearest names, where there is no such thing.
    """
    spellings = [(pair, {pair[1], ".".join(pair)}) for pair in everything()]
    readings = [[pair for pair, _ in spellings if pair[0] == target],
                [pair for pair, names in spellings if target in names],
                [pair for pair, names in spellings
                 if any(name.startswith(f"{target}.") for name in names)]]
    if not modules_first:
        readings[:2] = readings[1::-1]
    if any(readings):
        return next(filter(None, readings))
    words = {word for (module, name), names in spellings
             for word in (module, name.partition(".")[0], *names)}
    near = get_close_matches(target, sorted(words), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"minifast has no {target!r}{hint}\na target is a module, a class, a function "
                     "or a method: schedules, Score, metrics.fbeta")


def rebuild(targets: list[str]) -> None:
    """Copy the package to mine/minifast, and empty the targets there, unless they are written."""
    wanted = sorted({name for target in targets for name in chosen(target)},
                    key=everything().index)
    for name in refresh_copy():
        print(f"{name}: ours has changed and you had not touched it, so it was copied anew")
    for module in dict.fromkeys(module for module, _ in wanted):
        chosen_entries = [entry for entry in entries(module) if (module, entry.name) in wanted]
        empty_in(MINE / f"{module}.py", read(OURS / f"{module}.py"), chosen_entries)
        for entry in chosen_entries:
            print(f"{module}.{entry.name}: {outcome(entry)}")
    print("\n`python -m pytest --mine` says what to write first, in mine/minifast")


def empty_in(path: Path, ours: str, wanted: list[Entry]) -> None:
    """Empty functions in a file of the learner's copy, but for those that the learner wrote."""
    before = text = read(path)
    names = {entry.name for entry in wanted if entry.state != "yours"}
    blank = emptied(ours, names)
    for entry in wanted:
        if entry.name in names and (entry.state == "missing" or entry.outdated):
            text = with_function(text, blank, entry.name)
    text = emptied(text, names)
    if text != before:
        write(path, text.encode())


def outcome(entry: Entry) -> str:
    """What emptying did to a function that was in a state."""
    if entry.state == "yours":
        return "you wrote it, so it stays as it is" + "; ours has changed since" * entry.outdated
    if entry.outdated:
        return "empty, with the new text of ours"
    return {"ours": "empty", "empty": "was empty already",
            "missing": "was missing, is back, empty"}[entry.state]


def show_floors() -> None:
    """Print the floors in study order: their modules, and what is still to do in each."""
    outdated = []
    for floor in range(TOP + 1):
        modules = [module for module in ORDER if FLOORS[module] == floor]
        found = [entry for module in modules for entry in entries(module)]
        print(f"{title(floor):16}{len(found)} functions in {', '.join(modules)}")
        for state, heading in HEADINGS.items():
            names = [entry.name for entry in found if entry.state == state and MINE.exists()]
            if names:
                print(fill(f"{heading}: {', '.join(names)}", 100, initial_indent=" " * 16,
                           subsequent_indent=" " * 18))
        outdated += [entry.name for entry in found if entry.outdated]
    if not MINE.exists():
        print("\nmine/minifast is not there yet: `python lessons/rebuild.py schedules` makes it, "
              "\nand empties a module")
    if outdated:
        print(fill(f"ours has changed since you copied it: {', '.join(outdated)}", 100))
        print("`python lessons/rebuild.py NAME` puts the new text there, empty, unless you wrote "
              "it;\n--hint NAME and --answer NAME show it")


def hint(module: str, name: str) -> str:
    """What a function is to do: signature and docstring, the tests that need it, its source."""
    from audit import tests_that_need                          # the only part that imports pytest

    text = read(OURS / f"{module}.py")
    exercise = dedent(source_of(emptied(text, {name}), name))
    cases = Counter(test.partition("[")[0] for test in tests_that_need(module, name))
    needs = [f"    {test}" + f"  ({times} cases)" * (times > 1) for test, times in cases.items()]
    sources = [" ".join(source.split()) for docstring in docstrings(text, name)
               for source in re.findall(r"Source: (.*?)(?:\n\n|$)", docstring, re.DOTALL)]
    return "\n".join([f"minifast/{module}.py\n\n{exercise}", "Tests of its floor that need it:",
                      *needs, "", f"Source: {sources[0] if sources else 'the docstring is all'}"])


def docstrings(text: str, name: str) -> list[str]:
    """The docstrings that are about a function, nearest first: its own, its class's, its file's."""
    function, tree = functions(text)[name], parse(text)
    home = home_of(name, function)
    classes = [node for node in tree.body if getattr(node, "name", None) == home]
    return [ast.get_docstring(node) or "" for node in (function, *classes, tree)]


def answer(module: str, name: str) -> str:
    """Our body of a function beside the learner's, or below it where the terminal is too narrow."""
    columns = []
    for heading, path in (("yours", MINE / f"{module}.py"), ("ours", OURS / f"{module}.py")):
        text = read(path) if path.exists() else ""
        code = body_text(text, name) if name in functions(text) else "(missing)"
        columns.append([f"{heading}, {path.relative_to(ROOT)}", "", *dedent(code).splitlines()])
    yours, ours = columns
    width = max(map(len, yours))
    if width + 3 + max(map(len, ours)) > get_terminal_size().columns:
        return "\n".join([*yours, "", *ours])
    return "\n".join(f"{left:{width}} | {right}".rstrip()
                     for left, right in zip_longest(yours, ours, fillvalue=""))


def audit(names: list[Name], mutate: bool) -> int:
    """Test the tests of some functions, list what they do not notice; 0 if that is nothing."""
    from audit import audit, empty_body, wrong_bodies

    wrong = wrong_bodies if mutate else empty_body
    jobs = [job for name in names for job in wrong(*name)]
    survivors = audit(jobs)
    for job in survivors:
        print(f"survived: {job}" if mutate else f"no test needs {job.name}")
    print(f"{len(jobs) - len(survivors)} of {len(jobs)} wrong bodies turn their floor red")
    return int(bool(survivors))


if __name__ == "__main__":
    main()
