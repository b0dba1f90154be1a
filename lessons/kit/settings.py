"""A lesson's settings: a dataclass on top of the script, with a flag for each field."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Callable
from dataclasses import fields
from inspect import getsource
from pathlib import Path
import re
import sys


def read_settings(settings: type, about: str,
                  presets: Callable[[object], dict] = lambda given: {},
                  bare: tuple[str, ...] = ()) -> object:
    """The dataclass, filled from the command line. A flag has the type of the field's default,
    a bool, a number, a text, or a tuple of them. Its help is the comment behind the field.

    presets  from the settings as given to other defaults, by name. Flags that are given win
    bare     fields that are given by their place, without a flag
    """
    helps = dict(re.findall(r"^    (\w+): .*?#\s*(.+)$", getsource(settings), re.MULTILINE))
    parser = ArgumentParser(description=about.partition("\n")[0],
                            formatter_class=ArgumentDefaultsHelpFormatter)
    for field in fields(settings):
        default, how = field.default, {"action": "store_true"}
        if isinstance(default, tuple):
            how = {"nargs": len(default) or "+", "type": type(default[0]) if default else str}
        elif not isinstance(default, bool):
            how = {"type": type(default)} | ({"nargs": "?"} if field.name in bare else {})
        name = field.name if field.name in bare else "--" + field.name.replace("_", "-")
        parser.add_argument(name, default=default, help=helps[field.name].replace("%", "%%"), **how)
    words = [] if in_notebook() else sys.argv[1:]
    given = parser.parse_args([word for word in words if word not in ("-h", "--help")])
    parser.set_defaults(**presets(given))
    values = vars(parser.parse_args(words)).items()
    return settings(**{name: tuple(value) if isinstance(value, list) else value
                       for name, value in values})


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs the cells; then the command line is the kernel's own."""
    return "kernel_launcher" in Path(sys.argv[0]).name
