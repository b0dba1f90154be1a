"""The functions in a source text: found, compared as syntax trees, and emptied.

An emptied function keeps its decorators, signature and docstring, and raises NotImplementedError
with "your turn: <name>". Everything around it stays as it was, character for character.
"""

import ast
from collections.abc import Collection, Container, Iterable
from io import StringIO
from itertools import count
from pathlib import Path
from tokenize import COMMENT, generate_tokens

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
YOUR_TURN = "your turn: "
MARK = "\ufeff"                                  # the byte order mark with which some files begin
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
    """The syntax tree of a source text."""
    return ast.parse(text.removeprefix(MARK))


def functions(text: str) -> dict[str, Function]:
    """The functions and methods of a source text by name, in its order.

    A method is `Class.method`, what sets a property `Class.name.setter`. A function inside of a
    function is part of that. Where a name comes again (in an `if` and its `else`), it is `name.2`.
    """
    found = {}

    def look(nodes: Iterable[ast.AST], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, FUNCTIONS):
                name = again = prefix + label(node)
                for times in count(2):
                    if again not in found:
                        break
                    again = f"{name}.{times}"
                found[again] = node
            elif isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")
            else:
                look(ast.iter_child_nodes(node), prefix)

    look(parse(text).body, "")
    return found


def label(node: Function | ast.ClassDef) -> str:
    """The name of a function or class; of what sets or deletes a property, that too."""
    roles = [mark.attr for mark in node.decorator_list
             if getattr(mark, "attr", None) in ("setter", "deleter")]
    return ".".join([node.name, *roles])


def body_of(function: Function) -> list[ast.stmt]:
    """The statements of a function after its docstring."""
    return function.body[ast.get_docstring(function) is not None:]


def is_empty(function: Function) -> bool:
    """Whether nothing but `raise NotImplementedError("your turn: ...")` is in a function."""
    body = body_of(function)
    return len(body) == 1 and isinstance(body[0], ast.Raise) and YOUR_TURN in ast.dump(body[0])


def same(one: ast.AST | None, other: ast.AST | None) -> bool:
    """Whether two functions are one syntax tree: layout and comments do not count."""
    return one is not None and other is not None and ast.dump(one) == ast.dump(other)


def exercise(function: Function) -> Function:
    """What a learner is given of a function: its syntax tree up to the docstring."""
    return changed(function, body=function.body[:len(function.body) - len(body_of(function))])


def changed(node: ast.AST, **fields: object) -> ast.AST:
    """The same node of a syntax tree, but for some fields."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def comments(text: str) -> dict[str, set[str]]:
    """The comments in each function of a source text, by its name."""
    lines, at = lines_of(text), {}
    for token in generate_tokens(StringIO(text.removeprefix(MARK)).readline):
        if token.type == COMMENT:
            at[token.start[0]] = token.string
    return {name: {at[line] for line in range(first_line(function), last_line(lines, function) + 1)
                   if line in at} for name, function in functions(text).items()}


def emptied(text: str, names: Container[str]) -> str:
    """A source text in which the named functions wait for a body, and all else stays as it was.

    Raises ValueError, naming a function, where its layout is too odd for that.
    """
    lines = lines_of(text.removeprefix(MARK))
    chosen = {name: function for name, function in functions(text).items()
              if name in names and body_of(function) and not is_empty(function)}
    for name, function in reversed(chosen.items()):               # so that line numbers still hold
        empty(lines, name, function)
    after = MARK * text.startswith(MARK) + "".join(lines)
    check_edit(text, after, chosen)
    return after


def empty(lines: list[str], name: str, function: Function) -> None:
    """Put `raise NotImplementedError(...)` into the lines of a source, where the body was."""
    first, last = body_lines(lines, function)
    statement = body_of(function)[0]
    before = cut(lines[first_line(statement) - 1], statement.col_offset)
    if not before.strip():                                   # the body begins on a line of its own
        above, indent, first = lines[first - 2], before, first - 1
        if len(body_of(function)) < len(function.body):      # a docstring, perhaps with a comment
            above = cut(above, function.body[0].end_col_offset) + ending(above)
        before = above.rstrip("\r\n") + ending(above) + indent
    lines[first - 1:last] = [f'{before}raise NotImplementedError("{YOUR_TURN}{name}")'
                             + ending(lines[last - 1])]


def body_lines(lines: list[str], function: Function) -> tuple[int, int]:
    """The numbers of the first and last line of a body, with the comments above and below in it."""
    body = body_of(function)
    first = first_line(body[0])
    if not cut(lines[first - 1], body[0].col_offset).strip():
        if len(body) < len(function.body):
            first = function.body[0].end_lineno + 1
        while is_passive(lines[first - 2]) and len(body) == len(function.body):
            first -= 1
    return first, last_line(lines, function)


def check_edit(before: str, after: str, names: Collection[str]) -> None:
    """Raise ValueError where an edit of the named functions broke the source text, or others."""
    try:
        old, new = functions(before), functions(after)
        sound = set(names) <= set(new) and all(same(old.get(name), new.get(name))
                                               for name in {*old, *new} - set(names))
    except SyntaxError:
        sound = False
    if not sound:
        raise ValueError(f"the layout around {', '.join(names)} is too odd to be edited; do it by "
                         "hand")


def last_line(lines: list[str], function: Function) -> int:
    """The number of a function's last line, comments below that are indented like it included."""
    last = function.end_lineno
    for number, line in enumerate(lines[last:], last + 1):
        inside = len(line) - len(line.lstrip()) > function.col_offset
        if not is_passive(line) or line.strip() and not inside:
            break
        if line.strip():
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
