"""The functions in a source text: found, compared as syntax trees, and emptied.

An emptied function keeps its decorators, signature and docstring, and raises NotImplementedError
with "your turn: <name>". Everything around it stays as it was, character for character.
"""

import ast
from collections.abc import Container
from io import StringIO
from pathlib import Path
from tokenize import COMMENT, generate_tokens

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
    last = last_line(lines, function)
    lines[first - 1:last] = [f'{before}raise NotImplementedError("{YOUR_TURN}{name}")'
                             + ending(lines[last - 1])]


def comments(text: str) -> dict[str, set[str]]:
    """The comments in each function of a source text, by its name."""
    lines, at = lines_of(text), {}
    for token in generate_tokens(StringIO(text.removeprefix("\ufeff")).readline):
        if token.type == COMMENT:
            at[token.start[0]] = token.string
    return {name: {at[line] for line in range(first_line(function), last_line(lines, function) + 1)
                   if line in at} for name, function in functions(text).items()}


def last_line(lines: list[str], function: Function) -> int:
    """The number of a function's last line, comments below that are indented like it included."""
    last = function.end_lineno
    for number, line in enumerate(lines[last:], last + 1):
        if not is_passive(line):
            break
        if line.strip() and len(line) - len(line.lstrip()) > function.col_offset:
            last = number
    return last


def first_line(node: ast.stmt) -> int:
    """The number of the line on which a statement begins, its decorators included."""
    return min(part.lineno for part in (node, *getattr(node, "decorator_list", ())))


def lines_of(text: str) -> list[str]:
    """Lines as Python counts them, each with its ending; str.splitlines splits elsewhere too."""
    return StringIO(text, newline="").readlines()


def ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")):]


def cut(line: str, column: int) -> str:
    """A line up to a column of its syntax tree, which counts UTF-8 bytes."""
    return line.encode()[:column].decode()


def is_passive(line: str) -> bool:
    """Whether a line between two statements is blank, or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def source_of(text: str, name: str) -> str:
    """The text of one function, from its first decorator on, with the line ends of its file."""
    function = functions(text)[name]
    return "".join(lines_of(text)[first_line(function) - 1:function.end_lineno])
