"""The loaders of one task, in one place: training, validation and, if there is one, a test set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
import torch
from torch import Tensor

from minifast.cache import Cache, bytes_of
from minifast.dataset import Dataset
from minifast.images import to_pil
from minifast.loader import Batch, Loader, Stats, Transform, as_pair, denormalize
from minifast.targets import Masks, Target
from minifast.tools import draw, processes
from minifast.tools.device import default_device
from minifast.workers import default_workers


CACHE_SHARE = 0.5                               # of the free memory: what decoded pictures may take


def keep_decoded(datasets: Sequence[Dataset]) -> None:
    """Have each of the datasets decode a file once: give it caches, if all of them together take no
    more than CACHE_SHARE of free_memory(); else print why not, and all is as before.

    Processes on one machine share that, and each keeps what it has decoded for itself. A file that
    is changed later is not seen. Raises TypeError where one is no Dataset.
    """
    for dataset in datasets:
        if not isinstance(dataset, Dataset):
            raise TypeError("cache=True is for minifast.dataset.Dataset; a "
                            f"{type(dataset).__name__} has to keep its own pictures")
    free = free_memory() // processes.COUNT
    wanted = [dataset.decoded_shapes() for dataset in datasets]
    size = sum(bytes_of(*each) for shapes in wanted for each in shapes)
    if size > CACHE_SHARE * free:
        print(f"cache=True is left out, and files are decoded in each epoch: decoded, they take "
              f"{size / 1e9:.2f} GB, " + (f"more than {CACHE_SHARE:.0%} of the {free / 1e9:.2f} GB "
                                          "of free memory" if free else
                                          "and this system does not tell how much memory is free"))
        return
    for dataset, shapes in zip(datasets, wanted):
        dataset.caches = [Cache(*each) for each in shapes]


def free_memory() -> int:
    """Bytes of main memory that can still be taken; 0 where the system does not tell. Linux does"""
    if not Path("/proc/meminfo").exists():
        return 0
    words = Path("/proc/meminfo").read_text().split()
    return 1024 * int(words[words.index("MemAvailable:") + 1])


@dataclass(frozen=True)
class DataBunch:
    """Loaders and the kind of target. It is no Dataset and no DataLoader: it holds them.

    train_dl, valid_dl, test_dl   loaders; the last two may be None
    target                        Categories, Tags or Masks; None where the caller brings a loss
    """

    train_dl: Loader
    valid_dl: Loader | None
    test_dl: Loader | None
    target: Target | None

    @classmethod
    def create(cls, train_ds: object, valid_ds: object | None, test_ds: object | None = None,
               target: Target | None = None,
               tfms: Transform | Sequence[Transform | None] | None = None,
               bs: int = 64, val_bs: int | None = None, num_workers: int | None = None,
               device: torch.device | None = None, seed: int = 42,
               cache: bool = False) -> "DataBunch":
        """Loaders over any data sets with items (picture, target), one to three of them.

        train_ds, valid_ds, test_ds   the data sets; the last two may be None
        target       kind of target; None takes that of train_ds, if it has one
        tfms         (x, y, rng) -> (x, y) for training; or a pair, also for validation and test
        bs, val_bs   batch sizes; val_bs None is bs
        num_workers, device   None: what suits this machine
        seed         of shuffling, cuts and transforms
        cache        keep decoded pictures (and masks) of training and validation in memory, see
                     keep_decoded; the batches are the same
        """
        device = device or default_device()
        num_workers = default_workers(device) if num_workers is None else num_workers
        if cache:
            keep_decoded([each for each in (train_ds, valid_ds) if each is not None])
        how = seed, num_workers, device
        for_training, for_validation = as_pair(tfms)
        valid_dl, test_dl = (None if dataset is None
                             else Loader(dataset, bs if val_bs is None else val_bs, False, *how,
                                         for_validation)
                             for dataset in (valid_ds, test_ds))
        return cls(Loader(train_ds, bs, True, *how, for_training), valid_dl, test_dl,
                   target or getattr(train_ds, "target", None))

    @property
    def train_ds(self) -> object:
        """The data set of training."""
        return self.train_dl.dataset

    @property
    def valid_ds(self) -> object | None:
        """The data set of validation, or None."""
        return None if self.valid_dl is None else self.valid_dl.dataset

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, in the order of the model's outputs; None if unknown."""
        return None if self.target is None else self.target.classes

    @property
    def c(self) -> int:
        """The number of classes. Raises ValueError where the kind of target is unknown."""
        return len(self.known_target().classes)

    def known_target(self) -> Target:
        """The kind of target. Raises ValueError where it is unknown."""
        if self.target is None:
            raise ValueError("the classes are unknown; give DataBunch.create(target=...), one of "
                             "targets.Categories, Tags, Masks")
        return self.target

    def normalize(self, stats: Stats) -> "DataBunch":
        """The same data, each batch normalized with stats, (mean, std) per channel.

        Raises ValueError where the data is normalized already: twice would spoil the pictures.
        """
        if self.train_dl.stats is not None:
            raise ValueError("this data is normalized already; call normalize once")
        train, valid, test = (None if loader is None else replace(loader, stats=stats)
                              for loader in (self.train_dl, self.valid_dl, self.test_dl))
        return replace(self, train_dl=train, valid_dl=valid, test_dl=test)

    def one_batch(self, train: bool = True) -> Batch:
        """One ready batch (x, y) of training, or of validation if not `train`; it leaves no trace.

        Raises ValueError where there is no validation set.
        """
        return self.known_loader("train_dl" if train else "valid_dl").one_batch()

    def known_loader(self, name: str) -> Loader:
        """The loader `name`: train_dl, valid_dl or test_dl. Raises ValueError where it is None."""
        if getattr(self, name) is None:
            remedy = {"valid_dl": "no validation pictures (split_none?): split, or take train=True",
                      "test_dl": "no test pictures: call add_test_folder before databunch"}
            raise ValueError(f"there are {remedy[name]}")
        return getattr(self, name)

    def show_batch(self, rows: int = 3, train: bool = True) -> Image.Image:
        """A picture of rows x rows pictures of one_batch(train), as the model gets them, with
        labels; masks are drawn over them, with a legend of the classes that are there."""
        x, y = (part[:rows ** 2].cpu() for part in self.one_batch(train))
        pictures = self.pictures(x)
        if not isinstance(self.target, Masks):
            captions = [self.target.caption(target) if self.target else "" for target in y]
            return draw.grid(pictures, captions, rows)
        pictures = [draw.overlay(picture, mask) for picture, mask in zip(pictures, y)]
        return draw.with_legend(draw.grid(pictures, [""] * len(y), rows), self.target.names_in(y))

    def pictures(self, x: Tensor) -> list[Image.Image]:
        """A batch x, (n, 3, h, w), as a loader delivers it, as pictures to look at."""
        stats = self.train_dl.stats
        return [to_pil(pixels) for pixels in (denormalize(x, stats) if stats else x)]

    def __getattr__(self, name: str):
        """Reached only by names that are not here: explain those that belong to an earlier step."""
        if name.startswith(("split_", "label_", "transform", "add_test", "databunch")):
            raise AttributeError(f"{name} comes before databunch(): keep the ImageList in a "
                                 "variable, and make another DataBunch from it")
        raise AttributeError(f"a DataBunch has no {name!r}")
