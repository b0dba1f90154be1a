"""Put a function of ours into another source text, where that has it or where it belongs."""

import ast

from bodies import (FUNCTIONS, Function, check_edit, ending, first_line, functions, label, lines_of,
                    parse)

Named = Function | ast.ClassDef


def with_function(text: str, ours: str, name: str) -> str:
    """A source text with a function as it is in ours: in place of its own, or put back.

    What was missing goes behind the statement that it follows in ours, or before the one that
    follows it. Where its class is missing, that is put back whole.
    Raises ValueError where the layout of the text is too odd for that.
    """
    theirs, wanted, edited = functions(text), functions(ours)[name], {name}
    home = home_of(name, wanted)
    if name in theirs:
        start, end = first_line(theirs[name]) - 1, theirs[name].end_lineno
        after = spliced(text, start, end, source_of(ours, wanted))
    elif home and class_in(text, home) is None:
        while "." in home and class_in(text, home.rpartition(".")[0]) is None:
            home = home.rpartition(".")[0]
        edited = {other for other in functions(ours) if other.startswith(f"{home}.")}
        after = put_back(text, ours, home.rpartition(".")[0], class_in(ours, home))
    else:
        after = put_back(text, ours, home, wanted)
    check_edit(text, after, edited)
    return after


def put_back(text: str, ours: str, home: str, wanted: Named) -> str:
    """A source text with a function or class of ours in its place, at the top or in a class."""
    gap, new = "\n" if home else "\n\n", source_of(ours, wanted)
    there = {mark(node): node for node in statements_in(text, home)}
    order = [mark(node) for node in statements_in(ours, home)]
    number = order.index(mark(wanted))
    for other in reversed(order[:number]):
        if other in there:
            end = there[other].end_lineno
            return spliced(text, end, end, gap + new)
    for other in order[number + 1:]:
        if other in there:
            start = first_line(there[other]) - 1
            return spliced(text, start, start, new + gap)
    inside = class_in(text, home)
    end = inside.end_lineno if inside else len(lines_of(text))
    return spliced(text, end, end, gap + new)


def spliced(text: str, start: int, end: int, new: str) -> str:
    """A text in which lines start to end (counted from 0, end excluded) gave way to new ones."""
    lines = lines_of(text)
    newline = ending(lines[0]) if lines else "\n"
    if start and not ending(lines[start - 1]):               # the file ended without a new line
        lines[start - 1] += newline
    return "".join([*lines[:start], *(line.rstrip("\r\n") + newline for line in lines_of(new)),
                    *lines[end:]])


def statements_in(text: str, home: str) -> list[ast.stmt]:
    """The statements of a class, or of the whole text (home "")."""
    return (class_in(text, home) if home else parse(text)).body


def mark(node: ast.stmt) -> str:
    """By what a statement is known again: a function or class by its name."""
    return label(node) if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else ast.dump(node)


def class_in(text: str, name: str) -> ast.ClassDef | None:
    """The class of that name, which may be `Outer.Inner`."""
    node = parse(text)
    for part in name.split("."):
        node = next((child for child in node.body if isinstance(child, ast.ClassDef)
                     and child.name == part), None)
        if node is None:
            break
    return node


def home_of(name: str, function: Function) -> str:
    """The class that a function is in, by its name: "" for none, "A" for `A.p.setter`."""
    return f".{name}".rpartition(f".{function.name}")[0][1:]


def source_of(text: str, node: Named) -> str:
    """The text of a function or class, from its first decorator on."""
    return "".join(lines_of(text)[first_line(node) - 1:node.end_lineno])
