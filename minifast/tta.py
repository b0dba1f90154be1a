"""Test-time augmentation: ask for several views of a picture, and take the mean of the answers.

A satellite tile is as good upside down; a street is as good in a mirror.
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Generator, Tensor

from minifast.learner import Learner
from minifast.loader import Batch, Loader
from minifast.results import get_preds
from minifast.targets import Masks


def tta(learn: Learner, test: bool = False, flip_vert: bool = False) -> tuple[Tensor, Tensor]:
    """(probabilities, targets) as learn.get_preds(test) gives them, the mean over views: over the
    picture and its mirror image; with flip_vert over all eight that a square can be turned into."""
    loader = learn.data.need("test_dl" if test else "valid_dl")
    return mean_over_views(learn, loader, 8 if flip_vert else 2)


def mean_over_views(learn: object, loader: Loader, views: int) -> tuple[Tensor, Tensor]:
    """What results.get_preds(learn, loader) gives, but probabilities are the mean over the views of
    each picture that have the numbers 0 to views - 1 (see `turned`).

    What a model says of each pixel is turned back first. The targets are those of view 0, which is
    the picture itself.
    """
    total, targets = get_preds(learn, loader)
    is_mask = isinstance(learn.data.target, Masks)
    for number in range(1, views):
        likely, _ = get_preds(learn, seen_as(loader, number))
        total += turned(likely, number, back=True) if is_mask else likely
    return total / views, targets


def seen_as(loader: Loader, number: int) -> Loader:
    """The loader, with each batch of pictures turned into view `number` after its own transforms;
    targets stay as they are."""
    def view(x: Tensor, y: Tensor, rng: Generator) -> Batch:
        if loader.tfms is not None:
            x, y = loader.tfms(x, y, rng)
        return turned(x, number), y

    return replace(loader, tfms=view)


def turned(x: Tensor, number: int, back: bool = False) -> Tensor:
    """View 0..7 of x, (..., h, w): number & 1 turns left into right, then & 2 top into bottom,
    then & 4 rows into columns: (..., w, h). If `back`, what x is that view of: the same steps, each
    its own inverse, from last to first."""
    for bit, turn in reversed(TURNS) if back else TURNS:
        x = turn(x) if number & bit else x
    return x


TURNS: list[tuple[int, Callable[[Tensor], Tensor]]] = [
    (1, lambda x: x.flip(-1)), (2, lambda x: x.flip(-2)), (4, lambda x: x.transpose(-1, -2))]
