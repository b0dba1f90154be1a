"""What a learner may ask about a function: what it is to do, and our answer."""

import ast
from collections import Counter
from itertools import zip_longest
import re
from shutil import get_terminal_size
from textwrap import dedent

from bodies import body_lines, emptied, first_line, functions, lines_of, parse, read
from floors import MINE, OURS, ROOT
from patches import class_in, home_of, source_of


def hint(names: list[tuple[str, str]]) -> str:
    """What functions are to do: signature and docstring, the tests that need them, the source."""
    from audit import tests_that_call                          # the only part that imports pytest

    try:
        tests = tests_that_call(names)
    except ValueError as error:                                # on Windows, or where a test fails
        tests = dict.fromkeys(names, [f"unknown here: {error}"])
    parts = []
    for module, name in names:
        text = read(OURS / f"{module}.py")
        cases = Counter(test.partition("[")[0] for test in tests[module, name])
        needs = [f"    {test}" + f"  ({times} cases)" * (times > 1)
                 for test, times in cases.items()]
        sources = [" ".join(source.split()) for docstring in docstrings(text, name)
                   for source in re.findall(r"Source: (.*?)(?:\n\n|$)", docstring, re.DOTALL)]
        parts += [f"mine/minifast/{module}.py", "", exercise_text(text, name),
                  "Tests of its floor that need it:", *needs, "",
                  f"Source: {sources[0] if sources else 'nothing but the docstring'}", ""]
    return "\n".join(parts)


def exercise_text(text: str, name: str) -> str:
    """A function as it is when it is empty; a method with the docstring of its class before it."""
    home, blank = class_in(text, home_of(name, functions(text)[name])), emptied(text, {name})
    lines = source_of(blank, functions(blank)[name])
    if home is None:
        return lines
    doc = home.body[0] if ast.get_docstring(home) is not None else None
    head = lines_of(text)[first_line(home) - 1:doc.end_lineno if doc else home.lineno]
    return "".join([*head, "\n", lines])


def docstrings(text: str, name: str) -> list[str]:
    """The docstrings that are about a function: its own, its class's, its file's."""
    function = functions(text)[name]
    about = [function, class_in(text, home_of(name, function)), parse(text)]
    return [ast.get_docstring(node) or "" for node in about if node]


def answer(module: str, name: str) -> str:
    """Our body of a function beside the learner's, or below it where the terminal is too narrow."""
    columns = []
    for heading, path in (("yours", MINE / f"{module}.py"), ("ours", OURS / f"{module}.py")):
        text = read(path) if path.exists() else ""
        lines, function = lines_of(text), functions(text).get(name)
        first, last = body_lines(lines, function) if function else (1, 0)
        code = dedent("".join(lines[first - 1:last])) or "(missing)"
        columns.append([f"{heading}: {name}, {path.relative_to(ROOT)}", "", *code.splitlines()])
    yours, ours = columns
    width = max(map(len, yours))
    if width + 3 + max(map(len, ours)) > get_terminal_size().columns:
        return "\n".join([*yours, "", *ours])
    return "\n".join(f"{left:{width}} | {right}".rstrip()
                     for left, right in zip_longest(yours, ours, fillvalue=""))
