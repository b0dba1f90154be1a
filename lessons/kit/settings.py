"""A lesson's settings: one dataclass on top of the script, and a command-line flag for each field.

The comment behind a field is the flag's help. In a notebook the defaults hold: its own command
line belongs to the notebook.
"""

from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Callable
from dataclasses import fields
from inspect import getsource
from pathlib import Path
import re
import sys
from typing import Literal, Union, get_args, get_origin, get_type_hints


def read_settings(settings: type, about: str,
                  presets: Callable[[object], dict] = lambda given: {},
                  bare: tuple[str, ...] = ()) -> object:
    """The settings dataclass, filled from the command line.

    about    what --help says first: the lesson's docstring
    bare     fields, of one value each, that are given by their place on the command line, not by a
             flag; they may be left out
    presets  a function from the settings as first read to other defaults, by field name. So one
             flag can change the defaults of others, and what was said on the command line wins.

    A field of type bool becomes --name / --no-name, a tuple takes as many values as its default
    has (one or more, where that is empty), a Literal one of its choices, tuple | Literal (its
    default is a tuple) either of these, int, float and str one value. Exits with a usage message on
    an unknown flag, a value of the wrong type or a wrong number of values. --help shows each
    default as it is with the flags beside it.
    """
    types, helps = get_type_hints(settings), comments(settings)

    def parser_with(defaults: dict) -> ArgumentParser:
        parser = ArgumentParser(description=about.partition("\n")[0])
        for field in fields(settings):
            default = defaults[field.name]
            how = how_to_read(types[field.name], field.default)
            name = "--" + field.name.replace("_", "-")
            if field.name in bare:
                name, how = field.name, how | {"nargs": "?", "metavar": field.name}
            parser.add_argument(name, default=default,
                                help=helps.get(field.name, "") + in_brackets(default), **how)
        return parser

    given = [] if in_notebook() else sys.argv[1:]
    usual = {field.name: field.default for field in fields(settings)}
    no_help = [word for word in given if word not in ("-h", "--help")]
    parser = parser_with(usual | presets(parser_with(usual).parse_args(no_help)))
    values = vars(parser.parse_args(given))
    for name, value in values.items():
        if isinstance(value, list) and get_origin(types[name]) is Union:
            words = [entry for entry in value if isinstance(entry, str)]
            wanted = 1 if words else len(getattr(settings, name))
            if len(value) != wanted:
                parser.error(f"--{name} takes {wanted} here, got {len(value)}: {value}")
            values[name] = words[0] if words else tuple(value)
        elif isinstance(value, list):
            values[name] = tuple(value)
    return settings(**values)


def how_to_read(kind: type, default: object) -> dict:
    """What argparse's add_argument has to know of a flag for a field of that type."""
    if kind is bool:
        return {"action": BooleanOptionalAction}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
        return {"nargs": len(default) or "+", "type": kind, "metavar": kind.__name__}
    if get_origin(kind) is Union:                           # tuple[float, ...] | Literal["auto"]
        numbers, words = map(get_args, get_args(kind))
        name = " or ".join([numbers[0].__name__, *words])
        return {"nargs": "+", "type": one_of(words, numbers[0], name), "metavar": name}
    return {"type": kind, "metavar": kind.__name__}


def in_brackets(default: object) -> str:
    """A default as --help shows it behind the flag's comment: ` [128 256]`; of an empty one, and
    of False, nothing."""
    if default is False or default in ("", ()):
        return ""
    return f" [{' '.join(map(str, default)) if isinstance(default, tuple) else default}]"


def one_of(words: tuple[str, ...], number: type, name: str) -> Callable[[str], object]:
    """What reads a text as one of some words, or else as a number; messages call that `name`."""
    def read(text: str) -> object:
        return text if text in words else number(text)

    read.__name__ = name
    return read


def comments(settings: type) -> dict[str, str]:
    """The comment behind each field in the source of a dataclass; none where there is no source."""
    try:
        source = getsource(settings)
    except (OSError, TypeError):
        return {}
    # Doubled, because argparse expands % in a help text.
    return {name: text.replace("%", "%%")
            for name, text in re.findall(r"^    (\w+): .*?#\s*(.+)$", source, re.MULTILINE)}


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs the cells (a notebook, an editor); then sys.argv is its own."""
    return "kernel_launcher" in Path(sys.argv[0]).name
