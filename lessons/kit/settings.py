"""A lesson's settings: a dataclass on top of the script, with a flag for each field."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from dataclasses import fields
from inspect import getsource
from pathlib import Path
import re
import sys


def read_settings(settings: type, about: str, without_data: dict = {}, quick: dict = {},
                  bare: tuple[str, ...] = ()) -> object:
    """The dataclass, filled from the command line. The comment behind a field is its flag's help.

    without_data, quick  other defaults, by name: if --data is not given, and if --quick is
    bare                 fields that are given by their place, without a flag
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
    # In a Jupyter kernel, the command line is not the lesson's.
    words = [] if "kernel_launcher" in Path(sys.argv[0]).name else sys.argv[1:]
    given = vars(parser.parse_args([word for word in words if word not in ("-h", "--help")]))
    parser.set_defaults(**{} if given.get("data") else without_data)
    parser.set_defaults(**quick if given.get("quick") else {})
    values = vars(parser.parse_args(words)).items()
    return settings(**{name: tuple(value) if isinstance(value, list) else value
                       for name, value in values})
