"""Refuse wrong input early: each message names the argument, what came, and the way out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor


def same_shape(where: str, **tensors: Tensor) -> None:
    """Raise ValueError, naming `where` and each shape, unless all tensors have one shape."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        came = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{where} needs tensors of one shape, got {came}")


def between(name: str, value: float | Tensor, low: float, high: float = float("inf")) -> None:
    """Raise ValueError, calling the value `name`, unless low <= value <= high. NaN is refused too.

    value  a number, or a tensor, all of whose numbers must be so
    """
    inside = (low <= value) & (value <= high)
    if not (inside.all() if isinstance(inside, Tensor) else inside):
        wanted = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def one_of(name: str, value: object, choices: Iterable) -> None:
    """Raise ValueError unless value, a `name`, is one of choices; it names them and the nearest."""
    choices = list(choices)
    if value not in choices:
        near = get_close_matches(str(value), map(str, choices), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no {name} {value!r}; {hint}there are: {', '.join(map(str, choices))}")


def exists(what: str, path: Path, remedy: str) -> None:
    """Raise ValueError unless the file or folder is there, naming `what` it is, path and remedy."""
    if not path.exists():
        raise ValueError(f"{what} {path} does not exist; {remedy}")


def some(values: Iterable, most: int = 5) -> str:
    """The first `most` values joined by commas, then how many more there are: `a, b (+3 more)`."""
    values = [str(value) for value in values]
    more = f" (+{len(values) - most} more)" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def unique(what: str, names: Iterable[str]) -> None:
    """Raise ValueError where names repeat, saying `what` must differ, and which of them do not."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"{what} must differ; more than once there: {some(repeated)}")


def one_each(what: str, values: Sequence, wanted: int, of: str) -> None:
    """Raise ValueError, naming `what` the values are, unless they are as many as wanted, which is
    one for each `of`: "names must be one for each tag, 3, got 2: clear, haze"."""
    if len(values) != wanted:
        raise ValueError(f"{what} must be one for each {of}, {wanted}, got {len(values)}: "
                         f"{some(values)}")


def same_weights(source: object, have: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Raise ValueError, naming source and parameters, unless `have`, the tensors by name from that
    source, and `want`, those of the model, agree in all names and shapes."""
    shapes = [{name: getattr(value, "shape", None) for name, value in weights.items()}
              for weights in (have, want)]
    wrong = [name for name in {**have, **want} if shapes[0].get(name) != shapes[1].get(name)]
    if wrong:
        raise ValueError(f"the weights of {source} do not fit this model: {len(wrong)} are "
                         f"missing, unknown or of another shape: {some(wrong)}")
