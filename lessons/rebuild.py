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

What you wrote is never overwritten; what says the same as ours, without a comment of yours, counts
as ours. To start a function afresh, delete it and empty it again.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from difflib import get_close_matches
from pathlib import Path
import sys
from textwrap import fill

from bodies import emptied, functions, read
from floors import FLOORS, MINE, ORDER, ORIGINAL, OURS, TOP, title
from hints import answer, hint
from patches import with_function
from states import Entry, changed_outside, entries, refresh_copy, write

Name = tuple[str, str]                                  # module and function: ("metrics", "fbeta")
HEADINGS = {"empty": "to write", "missing": "missing (empty them, and they are back)",
            "yours": "written by you", "gone": "gone from ours"}


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
            names = chosen(asked.hint or asked.answer, modules_first=False)
            print(hint(names) if asked.hint else "\n\n".join(answer(*name) for name in names))
        elif asked.audit:
            names = [name for target in asked.targets for name in chosen(target)]
            numbered = [name for name in everything() if FLOORS[name[0]] > 0]
            sys.exit(show_survivors(names or numbered, asked.mutate))
        elif asked.targets:
            rebuild(asked.targets)
        else:
            show_floors()
    except (OSError, ValueError) as error:
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
    refresh()
    for module in dict.fromkeys(module for module, _ in wanted):
        chosen_entries = [entry for entry in entries(module) if (module, entry.name) in wanted]
        empty_in(MINE / f"{module}.py", read(OURS / f"{module}.py"), chosen_entries)
        for entry in chosen_entries:
            print(f"{module}.{entry.name}: {outcome(entry)}")
    print("\n`python -m pytest --mine` says what to write first, in mine/minifast")


def refresh() -> None:
    """Make the copy, or bring it up to date where the learner wrote nothing; say what is new."""
    renewed = refresh_copy()
    if renewed:
        print(fill("brought up to date in your copy, where you had written nothing: "
                   + ", ".join(renewed), 100))


def empty_in(path: Path, ours: str, wanted: list[Entry]) -> None:
    """Empty functions in a file of the learner's copy, but for what the learner wrote."""
    before = text = read(path)
    blank = emptied(ours, {entry.name for entry in wanted})
    for entry in wanted:
        renewed = entry.state == "empty" and entry.outdated and not entry.noted
        if renewed or entry.state == "missing":
            text = with_function(text, blank, entry.name)
            original = ORIGINAL / path.name                 # where the next pull starts from
            write(original, with_function(read(original), ours, entry.name).encode())
    text = emptied(text, {entry.name for entry in wanted if entry.state == "ours"})
    if text != before:
        write(path, text.encode())


def outcome(entry: Entry) -> str:
    """What emptying did to a function that was in a state."""
    if entry.state == "yours":
        return "you wrote it, so it stays; to start afresh, delete it and empty it again"
    if entry.state == "empty" and entry.outdated:
        return ("what you noted stays; ours has another text now, see --hint" if entry.noted else
                "empty, with the new text of ours")
    return {"ours": "empty", "empty": "was empty already",
            "missing": "was missing, is back, empty"}[entry.state]


def show_floors() -> None:
    """Print the floors in study order: their modules, and what is still to do in each."""
    if MINE.exists():
        refresh()
    outdated, outside = [], []
    for floor in range(TOP + 1):
        modules = [module for module in ORDER if FLOORS[module] == floor]
        print(f"{title(floor):16}{', '.join(modules)}")
        for module in modules if MINE.exists() else []:
            try:
                found = entries(module)
                outside += [module] * changed_outside(module)
            except ValueError as error:
                print(f"{'':16}repair {error}")
                continue
            outdated += [entry.name for entry in found if entry.outdated]
            show_module(module, found)
    if not MINE.exists():
        print("\nmine/minifast is not there yet; `python lessons/rebuild.py schedules` makes it,\n"
              "and empties a module")
    if outdated:
        print("\n" + fill("ours has another signature or docstring now: "
                          + ", ".join(outdated), 100))
        print("`python lessons/rebuild.py NAME` takes the new text where you wrote nothing; --hint "
              "NAME and\n--answer NAME show it")
    if outside:
        print("\n" + fill("ours has changed outside of functions (imports, constants, classes), "
                          f"which you have to copy yourself: in {', '.join(outside)}", 100))


def show_module(module: str, found: list[Entry]) -> None:
    """Print what is to do in a module, and what was done."""
    for state, heading in HEADINGS.items():
        names = [entry.name for entry in found if entry.state == state]
        if names:
            print(fill(f"{module}: {heading}: {', '.join(names)}", 100, initial_indent=" " * 16,
                       subsequent_indent=" " * 18))


def show_survivors(names: list[Name], mutate: bool) -> int:
    """Test the tests of some functions, print what they do not notice; 0 if that is nothing."""
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
