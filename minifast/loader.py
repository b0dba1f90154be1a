"""A DataLoader that delivers ready batches on the device.

A Fetcher, with torch's DataLoader, has items collated as small uint8 batches. The rest happens
here, on the device, to a whole batch at once: bytes to floats, transform, normalize.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import clear_frames

import numpy
import torch
from torch import Generator, Tensor

from minifast.fetcher import Batch, Fetcher, collate
from minifast.tools import check, processes
from minifast.tools.seeds import generator_for, seed_of
from minifast.workers import name_of_item

Transform = Callable[[Tensor, Tensor, Generator], Batch]    # x, y on the device; rng on the CPU
Stats = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]         # mean and std per channel

imagenet_stats: Stats = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize(x: Tensor, stats: Stats) -> Tensor:
    """(x - mean) / std per channel; stats are (mean, std), x is (n, 3, h, w) float, 0..1 before."""
    mean, std = (torch.as_tensor(part, device=x.device)[:, None, None] for part in stats)
    return (x - mean).div_(std)                                       # (3, 1, 1) on (n, 3, h, w)


def denormalize(x: Tensor, stats: Stats) -> Tensor:
    """What normalize was given, with the same stats: x * std + mean per channel."""
    mean, std = (torch.as_tensor(part, device=x.device)[:, None, None] for part in stats)
    return x * std + mean                                             # (n, 3, h, w) by (3, 1, 1)


@dataclass
class Loader:
    """Batches (x, y) of a data set, ready for the model.

    dataset      anything with len() and [i]; items are (picture, target)
    bs           pictures a batch; where there are several processes, all of them together
    train        shuffle anew each epoch, move cuts (if dataset.moving), and drop a last batch that
                 is shorter than bs where more than one batch exists; else all in order
    seed, epoch  what the shuffling, the cuts and the transforms follow from; the epoch counts up
                 with each iteration, so the same loader made anew repeats itself
    num_workers  processes that fetch items, 0 for none (as on platforms that do not fork, see
                 workers.FORK); the batches are the same
    device       where the batches go
    tfms         (x, y, rng) -> (x, y) on a batch (n, 3, h, w) of floats 0..1, or None; rng is a
                 generator on the CPU, whatever the device, so that results do not depend on it
    stats        what to normalize with, or None
    """

    dataset: object
    bs: int
    train: bool
    seed: int
    num_workers: int
    device: torch.device
    tfms: Transform | None = None
    stats: Stats | None = None
    epoch: int = 0
    fetcher: Fetcher = field(init=False, repr=False)

    def __post_init__(self):
        check.between("bs", self.bs, 1)
        check.between("num_workers", self.num_workers, 0)
        check.between("number of items in a data set", len(self.dataset), 1)
        if self.stats:
            # Once and for all on the device: each copy to a GPU would make its queue run dry.
            self.stats = tuple(torch.as_tensor(part, device=self.device) for part in self.stats)
        self.fetcher = Fetcher(self.dataset, self.num_workers, self.device)

    def __len__(self) -> int:
        return len(self.item_numbers(0))

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        self.epoch += 1
        return self.batches(self.epoch - 1)

    def item_numbers(self, epoch: int) -> list[list[int]]:
        """The numbers of the items in each batch of an epoch (0, 1, ...), as `train` says above;
        of all processes together. Several processes share each training batch evenly, so it has a
        multiple of their number.

        Raises ValueError where there are more processes than pictures in a training batch.
        """
        n, bs = len(self.dataset), self.bs
        order = list(range(n))
        if self.train:
            check.between("bs", min(n, bs), processes.COUNT)
            order = numpy.random.default_rng(seed_of(self.seed, epoch)).permutation(n).tolist()
            bs -= bs % processes.COUNT
            order = order[:n - n % (bs if n >= bs else processes.COUNT)]
        return [order[start:start + bs] for start in range(0, len(order), bs)]

    def keys(self, epoch: int) -> list[list]:
        """What this process asks the data set for: for each batch item numbers, or (number, seed,
        epoch) where cuts move; of a training batch its part of them."""
        first, step = (processes.RANK, processes.COUNT) if self.train else (0, 1)
        return [self.keys_of(numbers[first::step], epoch) for numbers in self.item_numbers(epoch)]

    def keys_of(self, numbers: Sequence[int], epoch: int) -> list:
        """What to ask the data set for, in an epoch, to have the items with these numbers."""
        moving = self.train and getattr(self.dataset, "moving", False)
        return [(i, self.seed, epoch) if moving else i for i in numbers]

    def dropout_key(self) -> tuple[int, ...]:
        """The key of seeds.seeded for dropout in the next epoch; each process has its own."""
        part = processes.RANK
        return (self.seed, self.epoch, part) if part else (self.seed, self.epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of any epoch, without counting it as one.

        Raises ValueError, naming item and cause, where one cannot be had, or a worker died on it.
        """
        fetched = self.fetcher.batches(self.keys(epoch), seed_of(self.seed, epoch))
        with self.explained():
            for number, (x, y) in enumerate(fetched):
                yield self.ready(x, y, generator_for(self.seed, epoch, number))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Inside, two errors of torch become ValueErrors that say what to do. To be put around what
        is done with the batches, since the news of a dead worker comes at any moment.

        a GPU's memory is full   `with bs=4: try bs=2` (val_bs, unless it is for training); with
                                 one picture a batch, smaller ones; then what torch said.
                                 What the broken computation held is let go of: a notebook, which
                                 keeps the last error, would keep all variables that it passed
        a worker process died    which item it was at, and the cause: Watched.obituary
        """
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            clear_frames(error.__traceback__)
            knob = "bs" if self.train else "val_bs"
            remedy = (f"try {knob}={self.bs // 2}" if self.bs > 1
                      else "try smaller pictures, transform(size=...)")
            raise ValueError(f"the GPU's memory is full, with {knob}={self.bs}: {remedy}, or a "
                             f"smaller net. {error}") from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ValueError(self.fetcher.watched.obituary(error)) from error

    def ready(self, x: Tensor, y: Tensor, rng: Generator) -> Batch:
        """Collated x and y on the device: uint8 to float 0..1, transformed by rng, normalized."""
        x, y = (part.to(self.device, non_blocking=True) for part in (x, y))
        # In place where the memory is ours, as in normalize: new memory takes longer than numbers.
        x = x.float().div_(255) if x.dtype == torch.uint8 else x
        if self.tfms is not None:
            x, y = self.tfms(x, y, rng)
        return (normalize(x, self.stats) if self.stats else x), y

    def one_batch(self, items: Sequence[int] | None = None) -> Batch:
        """The first batch of the next epoch, or one of the items with these numbers, without
        workers and without counting an epoch."""
        first = self.keys_of(self.item_numbers(self.epoch)[0], self.epoch)
        keys = first if items is None else items
        x, y = collate([self.dataset[key] for key in keys])
        return self.ready(x, y, generator_for(self.seed, self.epoch, 0))

    def names(self, epoch: int, number: int) -> list[str]:
        """File names of an epoch's batch `number`, from 0; item numbers if there are no files."""
        return [name_of_item(self.dataset, i) for i in self.item_numbers(epoch)[number]]


def as_pair(tfms: Transform | Sequence[Transform | None] | None) -> tuple[Transform | None, ...]:
    """tfms as (for training, for validation): a pair is kept, one or None is for training alone.

    Raises TypeError on anything else.
    """
    pair = tuple(tfms) if isinstance(tfms, (tuple, list)) else (tfms, None)
    if len(pair) != 2 or not all(tfm is None or callable(tfm) for tfm in pair):
        raise TypeError("tfms must be a callable on a batch (x, y, rng) -> (x, y), or a pair of "
                        f"them for training and validation, got {tfms!r}")
    return pair
