"""Put a function of ours into another source text, where that has it or where it belongs."""

import ast

from bodies import Function, ending, first_line, functions, lines_of, parse


def source_of(text: str, node: Function | ast.ClassDef) -> str:
    """The text of a function or class, from its first decorator on."""
    return "".join(lines_of(text)[first_line(node) - 1:node.end_lineno])


def with_function(text: str, ours: str, name: str) -> str:
    """A source text with a function as it is in ours: in place of its own, or put back.

    What was missing goes behind the function that it follows in ours; before the one that follows
    it; or to the end of its class, which is put back whole where that is missing too.
    Raises ValueError where that class is inside of another, which is there.
    """
    theirs, functions_of_ours = functions(text), functions(ours)
    home = home_of(name, functions_of_ours[name])
    if name in theirs:
        start, end = first_line(theirs[name]) - 1, theirs[name].end_lineno
        return spliced(text, start, end, source_of(ours, functions_of_ours[name]), "", "")
    if home and class_in(text, home) is None:
        whole = class_in(ours, home.partition(".")[0])
        if class_in(text, whole.name):
            raise ValueError(f"class {home} is missing; copy it from ours")
        return spliced(text, None, None, source_of(ours, whole), "\n\n", "")
    gap, new = "\n" if home else "\n\n", source_of(ours, functions_of_ours[name])
    order = [other for other, function in functions_of_ours.items()
             if home_of(other, function) == home]
    for other in reversed(order[:order.index(name)]):
        if other in theirs:
            return spliced(text, theirs[other].end_lineno, None, new, gap, "")
    for other in order[order.index(name) + 1:]:
        if other in theirs:
            return spliced(text, first_line(theirs[other]) - 1, None, new, "", gap)
    end = class_in(text, home).body[-1].end_lineno if home else None
    return spliced(text, end, None, new, gap, "")


def spliced(text: str, start: int | None, end: int | None, new: str, before: str,
            after: str) -> str:
    """A text whose lines from start to end (None: start) give way to new ones, with gaps around.

    start counts from 0, None is the end of the text. The new lines get its line endings.
    """
    lines = lines_of(text)
    start = len(lines) if start is None else start
    end = start if end is None else end
    if start and not ending(lines[start - 1]):               # the file ended without a new line
        lines[start - 1] += "\n"
    new = new if ending(lines_of(new)[-1]) else new + "\n"
    new = "".join(line.rstrip("\r\n") + ending(lines[0]) for line in lines_of(before + new + after))
    return "".join([*lines[:start], new, *lines[end:]])


def class_in(text: str, name: str) -> ast.ClassDef | None:
    """The class of that name, which may be `Outer.Inner`."""
    node = parse(text)
    for part in name.split("."):
        node = next((child for child in node.body if isinstance(child, ast.ClassDef)
                     and child.name == part), None)
        if node is None:
            return None
    return node


def home_of(name: str, function: Function) -> str:
    """The class that a function is in, by its name: "" for none, "A" for `A.p.setter`."""
    return f".{name}".rpartition(f".{function.name}")[0][1:]
