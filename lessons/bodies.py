"""The functions in a source text: found, compared as syntax trees, and emptied.

An emptied function keeps its decorators, signature and docstring, and raises NotImplementedError
with "your turn: <name>". Everything around it stays as it was, character for character.
"""

import ast
from collections.abc import Container
from io import StringIO
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
YOUR_TURN = "your turn: "
Function = ast.FunctionDef | ast.AsyncFunctionDef


def read(path: Path) -> str:
    """The text of a Python file, line endings as they are.

    Raises ValueError, with file and line, where it is not Python, or not any more.
    """
    with open(path, encoding="utf-8", newline="") as file:
        try:
            text = file.read()
            parse(text)
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
            raise ValueError(f"{path}{line}: {getattr(error, 'msg', error)}") from None
    return text


def parse(text: str) -> ast.Module:
    """The syntax tree of a source text. Some editors begin files with a mark, which is no code."""
    return ast.parse(text.removeprefix("\ufeff"))


def functions(text: str) -> dict[str, Function]:
    """The functions and methods of a source text by name, in its order.

    A method is `Class.method`, what sets a property `Class.name.setter`. A function inside of a
    function is part of that. Where a name comes again (in an `if` and its `else`), it is `name.2`.
    """
    found = {}

    def look(nodes: list[ast.AST], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, FUNCTIONS):
                roles = [mark.attr for mark in node.decorator_list
                         if getattr(mark, "attr", None) in ("setter", "deleter")]
                name, times = ".".join([prefix + node.name, *roles]), 1
                while name + f".{times}" * (times > 1) in found:
                    times += 1
                found[name + f".{times}" * (times > 1)] = node
            elif isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.If, ast.Try)):
                look(list(ast.iter_child_nodes(node)), prefix)

    look(parse(text).body, "")
    return found


def body_of(function: Function) -> list[ast.stmt]:
    """The statements of a function after its docstring."""
    return function.body[ast.get_docstring(function) is not None:]


def is_empty(function: Function) -> bool:
    """Whether nothing but `raise NotImplementedError("your turn: ...")` is in a function."""
    body = body_of(function)
    return len(body) == 1 and isinstance(body[0], ast.Raise) and YOUR_TURN in ast.dump(body[0])


def same(one: Function | None, other: Function | None) -> bool:
    """Whether two functions are one syntax tree: layout and comments do not count."""
    return one is not None and other is not None and ast.dump(one) == ast.dump(other)


def exercise(function: Function | None) -> str | None:
    """What a learner is given of a function: its syntax tree up to the docstring."""
    if function is None:
        return None
    kept = {name: value for name, value in ast.iter_fields(function)}
    kept["body"] = function.body[:len(function.body) - len(body_of(function))]
    return ast.dump(type(function)(**kept))


def emptied(text: str, names: Container[str]) -> str:
    """A source text in which the named functions wait for a body, and all else stays as it was."""
    lines = lines_of(text)
    for name, function in reversed(functions(text).items()):      # so that line numbers still hold
        if name in names and body_of(function):
            empty(lines, name, function)
    return "".join(lines)


def empty(lines: list[str], name: str, function: Function) -> None:
    """Put `raise NotImplementedError(...)` into the lines of a source, where the body was.

    From what comes after the signature (and its comment) or the docstring, to the last line of the
    body and of the comments below that are indented like it.
    """
    body = body_of(function)
    first = first_line(body[0])
    before = cut(lines[first - 1], body[0].col_offset)
    if not before.strip():                                   # the body begins on a line of its own
        indent, first = before, first - 1
        while is_passive(lines[first - 1]):
            first -= 1
        if len(body) < len(function.body):                   # a docstring, perhaps with a comment
            docstring = function.body[0]
            before = cut(lines[first - 1], docstring.end_col_offset)
        else:
            before = lines[first - 1].rstrip("\r\n")
        before += ending(lines[first - 1]) + indent
    last = body[-1].end_lineno
    for number in range(last, len(lines)):
        if not is_passive(lines[number]):
            break
        comment = lines[number].strip()
        if comment and indentation(lines[number]) > function.col_offset:
            last = number + 1
    lines[first - 1:last] = [f'{before}raise NotImplementedError("{YOUR_TURN}{name}")'
                             + ending(lines[last - 1])]


def lines_of(text: str) -> list[str]:
    """Lines as Python counts them, each with its ending; str.splitlines splits elsewhere too."""
    return StringIO(text, newline="").readlines()


def ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")):]


def cut(line: str, column: int) -> str:
    """A line up to a column of its syntax tree, which counts UTF-8 bytes."""
    return line.encode()[:column].decode()


def indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_passive(line: str) -> bool:
    """Whether a line between two statements is blank, or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def source_of(text: str, name: str) -> str:
    """The text of one function, from its first decorator on, with the line ends of its file."""
    function = functions(text)[name]
    return "".join(lines_of(text)[first_line(function) - 1:function.end_lineno])


def body_text(text: str, name: str) -> str:
    """The lines of the body of one function, after its docstring."""
    body = body_of(functions(text)[name])
    return "".join(lines_of(text)[first_line(body[0]) - 1:body[-1].end_lineno]) if body else ""


def first_line(node: ast.stmt) -> int:
    """The number of the line on which a statement begins, its decorators included."""
    return min(part.lineno for part in (node, *getattr(node, "decorator_list", ())))


def with_function(text: str, ours: str, name: str) -> str:
    """A source text with a function as it is in ours, in place of its own or put back.

    What was missing goes behind the function that it follows in ours, or else to the end of its
    class or file. Raises ValueError where its class is missing.
    """
    theirs, functions_of_ours = functions(text), functions(ours)
    home = home_of(name, functions_of_ours[name])
    lines, new = lines_of(text), source_of(ours, name)
    if name in theirs:
        start, end = first_line(theirs[name]) - 1, theirs[name].end_lineno
    else:
        start = end = place_for(name, text, functions_of_ours)
        new = ("\n" if home else "\n\n") + new
    if start and not ending(lines[start - 1]):                # the file ended without a new line
        lines[start - 1] += "\n"
    new = "".join(line.rstrip("\r\n") + ending(lines[0]) for line in lines_of(new))
    return "".join([*lines[:start], new, *lines[end:]])


def place_for(name: str, text: str, functions_of_ours: dict[str, Function]) -> int:
    """The number of the line behind which a missing function of ours belongs."""
    home, theirs, place = home_of(name, functions_of_ours[name]), functions(text), None
    for other, function in functions_of_ours.items():
        if other == name:
            break
        if other in theirs and home_of(other, function) == home:
            place = theirs[other].end_lineno
    if place is None:
        tree = parse(text)
        for part in filter(None, home.split(".")):
            tree = next((node for node in tree.body if getattr(node, "name", None) == part), None)
            if tree is None:
                raise ValueError(f"class {home} is missing; copy it from ours")
        place = tree.body[-1].end_lineno
    return place


def home_of(name: str, function: Function) -> str:
    """The class that a function is in, by its name: "" for none, "A" for `A.p.setter`."""
    return f".{name}".rpartition(f".{function.name}")[0][1:]
