"""Small wrong bodies: what a test that knows its function must notice.

Each mutant of a function has one change in its body:

    number      n becomes n + 1, from 100 on 2 n; True becomes False
    text        "mean" becomes "meanx", unless it has a space in it: that is for readers
    comparison  < becomes <= and >=, == becomes !=, `is` becomes `is not`, `in` becomes `not in`,
                and the other way round; in a < b < c each by itself
    sign        + becomes -, * becomes /, // becomes *, and the other way round; % becomes *,
                ** becomes *, & becomes |; -x and ~x become x
    logic       `and` becomes `or` and the other way round; `not x` becomes x
    line        a line is dropped: a call, an assignment, return, raise, del, break, continue
    arguments   the first two arguments of a call are swapped (max and min do not mind), and the
                sides of @

Left as they are: messages (what is raised; an f-string outside of its braces; the names that a
function of `check` is given), annotations and docstrings.
"""

import ast
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

from bodies import Function, body_of, changed

SIGNS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
         ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
         ast.BitOr: ast.BitAnd}
COMPARISONS = {ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
               ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
               ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
               ast.NotIn: (ast.In,)}
LINES = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Raise, ast.Delete,
         ast.Break, ast.Continue)


class Mutant(NamedTuple):
    """A function with one small mistake."""

    function: Function
    line: int
    change: str                     # what was there -> what is there now


def mutants(function: Function) -> Iterator[Mutant]:
    """All mutants of a function, line by line. The function itself stays as it is."""
    spots = list(spots_in(function))
    for number, spot in sorted(enumerate(spots), key=lambda pair: pair[1].lineno):
        for which, wrong in enumerate(wrong_versions(spot)):
            copy = deepcopy(function)
            twin = list(spots_in(copy))[number]
            replace(copy, twin, list(wrong_versions(twin))[which])
            if ast.dump(copy) != ast.dump(function):
                what = "dropped" if isinstance(wrong, ast.Pass) else shown(wrong)
                yield Mutant(ast.fix_missing_locations(copy), spot.lineno,
                             f"{shown(spot)} -> {what}")


def spots_in(function: Function) -> Iterator[ast.stmt | ast.expr]:
    """The nodes of a body that may be changed, parents before their children."""
    for statement in body_of(function):
        yield from spots_below(statement)


def spots_below(node: ast.AST) -> Iterator[ast.stmt | ast.expr]:
    if isinstance(node, (ast.stmt, ast.expr)):
        yield node
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not is_message(node, field, child):
                yield from spots_below(child)


def is_message(parent: ast.AST, field: str, node: ast.AST) -> bool:
    """Whether a node is for readers: words, or an annotation."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    checks = isinstance(parent, ast.Call) and ast.unparse(parent.func).startswith("check.")
    return (isinstance(parent, ast.Raise) or field in ("annotation", "returns")
            or is_text and (checks or isinstance(parent, (ast.JoinedStr, ast.Expr))))


def wrong_versions(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand there instead of a node, wrongly."""
    if isinstance(node, ast.Constant):
        yield from map(ast.Constant, wrong_constants(node.value))
    elif isinstance(node, ast.Compare):
        for number, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                yield changed(node, ops=[*node.ops[:number], other(), *node.ops[number + 1:]])
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in SIGNS:
        yield changed(node, op=SIGNS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif (isinstance(node, ast.Call) and len(node.args) > 1
          and getattr(node.func, "id", None) not in ("max", "min")):
        yield changed(node, args=[node.args[1], node.args[0], *node.args[2:]])
    if isinstance(node, LINES) and not is_text_line(node):
        yield ast.Pass()


def wrong_constants(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1 if value < 100 else value * 2
    elif isinstance(value, str) and " " not in value:
        yield value + "x"


def is_text_line(node: ast.AST) -> bool:
    """Whether a line is a docstring, of a function or class inside of the function."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put a node in the place of another, somewhere in a tree, on the same line."""
    ast.copy_location(new, old)
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if child is old else child for child in value]


def shown(node: ast.AST) -> str:
    """The source of a node, short enough for a list."""
    text = ast.unparse(node).partition("\n")[0]
    return text if len(text) <= 60 else text[:57] + "..."
