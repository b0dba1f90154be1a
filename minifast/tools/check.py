"""Refuse wrong input at once, with an error that names the argument and the value."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor


def same_shape(where: str, **tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have the same shape."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        came = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{where} needs tensors of one shape, got {came}")


def between(name: str, value: float | Tensor, low: float, high: float = float("inf")) -> None:
    """Raise ValueError unless low <= value <= high, for a tensor in every entry. NaN is refused."""
    inside = (low <= value) & (value <= high)
    if not (inside.all() if isinstance(inside, Tensor) else inside):
        wanted = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def one_of(name: str, value: object, choices: Iterable) -> None:
    """Raise ValueError unless value is one of the choices. The message proposes the nearest one."""
    choices = list(choices)
    if value not in choices:
        near = get_close_matches(str(value), map(str, choices), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no {name} {value!r}; {hint}there are: {', '.join(map(str, choices))}")


def exists(what: str, path: Path, remedy: str) -> None:
    """Raise ValueError unless there is a file or folder at path."""
    if not path.exists():
        raise ValueError(f"{what} {path} does not exist; {remedy}")


def some(values: Iterable, most: int = 5) -> str:
    """The first few values and how many more there are: `a, b, c, d, e (+3 more)`."""
    values = [str(value) for value in values]
    more = f" (+{len(values) - most} more)" if len(values) > most else ""
    return ", ".join(values[:most]) + more
