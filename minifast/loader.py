"""From items to batches on the device, with torch's DataLoader.

    dataset[i], stack   here or in worker processes     bytes: a quarter of the size of floats
    ready               here, on the device             floats 0..1, random transforms, normalize
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
import signal
import sys

import numpy
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate

from minifast.tools import check, processes, seeds

Batch = tuple[Tensor, Tensor]                               # x, y
Transform = Callable[[Tensor, Tensor, Generator], Batch]    # x, y on the device; rng on the CPU
Transforms = Transform | None | Sequence[Transform | None]  # a pair: training, validation and test
Stats = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]       # mean and std per channel

imagenet_stats: Stats = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize(x: Tensor, stats: Stats) -> Tensor:
    """(x - mean) / std for each channel of x (n, 3, h, w), which is 0..1 before."""
    mean, std = (torch.as_tensor(part, device=x.device)[:, None, None] for part in stats)
    return (x - mean).div_(std)                             # (3, 1, 1) on (n, 3, h, w)


def denormalize(x: Tensor, stats: Stats) -> Tensor:
    """The inverse of normalize."""
    mean, std = (torch.as_tensor(part, device=x.device)[:, None, None] for part in stats)
    return x * std + mean


@dataclass
class Loader:
    """Iterating over it gives the batches (x, y) of an epoch, ready for the model."""
    dataset: object                     # anything with a length and items (picture, target)
    bs: int                             # pictures in a batch, over all processes
    train: bool                         # shuffle, and leave out what does not fill a batch
    seed: int                           # of the order and of the transforms
    num_workers: int                    # processes that read items, in which nothing is random
    device: torch.device                # where the batches go
    tfms: Transform | None = None       # for x (n, 3, h, w) float 0..1
    stats: Stats | None = None          # for normalize
    epoch: int = 0                      # number of the next one; validation is always epoch 0
    memory: Batch | None = field(default=None, repr=False)      # all items, after preload

    def __post_init__(self):
        check.between("bs, and the number of items in a data set,",
                      min(self.bs, len(self.dataset)), processes.COUNT if self.train else 1)
        if self.stats:
            # Once and for all: a copy for each batch would make a GPU wait.
            self.stats = tuple(torch.as_tensor(part, device=self.device) for part in self.stats)

    def __len__(self) -> int:
        return len(self.item_numbers(0))

    def __iter__(self) -> Iterator[Batch]:
        epoch, batches = self.epoch, self.item_numbers(self.epoch)
        if self.train:
            self.epoch += 1
            batches = [items[processes.RANK::processes.COUNT] for items in batches]     # a share
        for number, (x, y) in enumerate(self.read(batches, self.num_workers)):
            yield self.ready(x, y, seeds.generator_for(self.seed, epoch, number))

    def item_numbers(self, epoch: int) -> list[list[int]]:
        """The numbers of the items in each batch of an epoch. In training (seed, epoch) shuffles
        them, and several processes share each batch evenly, so bs is rounded down."""
        n, bs = len(self.dataset), self.bs
        order = list(range(n))
        if self.train:
            rng = numpy.random.default_rng(seeds.seed_of(self.seed, epoch))
            order = rng.permutation(n).tolist()
            bs = min(n, bs) // processes.COUNT * processes.COUNT
            order = order[:n // bs * bs]
        return [order[start:start + bs] for start in range(0, len(order), bs)]

    def one_batch(self, items: Sequence[int] | None = None) -> Batch:
        """The first batch of the next epoch, or of these items. The next epoch stays the next."""
        items = self.item_numbers(self.epoch)[0] if items is None else items
        x, y = next(self.read([items], num_workers=0))
        return self.ready(x, y, seeds.generator_for(self.seed, self.epoch, 0))

    def ready(self, x: Tensor, y: Tensor, rng: Generator) -> Batch:
        """A batch of stack() on the device: x float 0..1, masks int64; transformed, normalized."""
        x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
        x = x.float().div_(255) if x.dtype == torch.uint8 else x    # in place: new memory is slow
        y = y.long() if y.dtype == torch.uint8 else y               # masks in memory
        if self.tfms is not None:
            x, y = self.tfms(x, y, rng)
        return (normalize(x, self.stats) if self.stats else x), y

    def read(self, batches: list[Sequence[int]], num_workers: int) -> Iterator[Batch]:
        """Batches of the items with these numbers: from memory, read here, or read by workers."""
        # Workers are forked, on Linux. Elsewhere each would run the script, a lesson, once more.
        if self.memory is not None or num_workers == 0 or sys.platform != "linux":
            for items in batches:
                if self.memory is None:
                    yield stack([self.dataset[i] for i in items])
                else:
                    yield tuple(part[torch.tensor(items, device=part.device)]
                                for part in self.memory)
            return
        loader = DataLoader(
            self.dataset, batch_sampler=batches, collate_fn=stack, num_workers=num_workers,
            multiprocessing_context="fork", pin_memory=self.device.type == "cuda",
            # Ctrl-C reaches workers too, but the parent should react.
            worker_init_fn=lambda worker: signal.signal(signal.SIGINT, signal.SIG_IGN),
            generator=seeds.generator_for(self.seed, self.epoch))     # not torch's global one
        try:
            yield from loader
        except Exception as error:
            raise error.with_traceback(None)    # which would keep the iterator, and so the workers


def stack(items: list[tuple]) -> Batch:
    """n items (picture, target) as one batch (n, 3, h, w), (n, ...)."""
    if len({picture.shape for picture, _ in items}) > 1:
        raise ValueError("pictures of one batch differ in size; give transform(size=...)")
    return tuple(default_collate(items))
