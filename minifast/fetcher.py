"""Where batches come from: out of files, by worker processes or without; or out of memory."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate

from minifast import check
from minifast.device import fork_context, has_room
from minifast.workers import Watched, ignore_ctrl_c, let_go, number_of

Batch = tuple[Tensor, Tensor]


class Fetcher:
    """Collated batches of a data set, on the CPU or already on the device.

    dataset      anything with len() and [key], see Watched; one with whole(few), as a Dataset with
                 a cache, may say that it has all items in memory
    num_workers  processes that fetch items, 0 for none (as on platforms that do not fork)
    device       where the batches will be needed
    """

    def __init__(self, dataset: object, num_workers: int, device: torch.device):
        self.dataset, self.device = dataset, device
        self.context = fork_context() if num_workers else None      # refused without workers
        self.num_workers = num_workers if self.context else 0
        self.idle: DataLoader | None = None     # one whose workers wait for the next epoch
        self.watched: Watched | None = None     # what the workers of the latest epoch are at
        self.memory: Batch | None = None        # all pictures and targets

    def batches(self, keys: Sequence[list], rng: Generator) -> Iterator[Batch]:
        """The batches of an epoch, as collated: keys are lists of what to ask the data set for.

        rng  seeds the workers of an own data set that draws random numbers
        """
        if self.memory is None and hasattr(self.dataset, "whole"):
            self.memory = self.all_in_memory(few=len(keys[0]))
        if self.memory is not None:
            self.idle = None                                        # its workers end
            yield from self.gathered(keys)
            return
        loader = self.idle or self.data_loader(rng)
        # Taken away meanwhile: whoever asks for a second epoch during this one gets own workers,
        # and those of an epoch that is not finished end with it.
        self.idle, self.watched = None, loader.dataset
        loader.batch_sampler[:] = keys
        yield from let_go(loader) if self.num_workers else loader
        self.idle = loader

    def data_loader(self, rng: Generator) -> DataLoader:
        """torch's DataLoader, with batches still to be named. Its workers, once started, stay; rng
        seeds them."""
        return DataLoader(
            Watched(self.dataset, self.num_workers), batch_sampler=[], collate_fn=collate,
            num_workers=self.num_workers, multiprocessing_context=self.context,
            worker_init_fn=ignore_ctrl_c, persistent_workers=self.num_workers > 0,
            pin_memory=self.device.type == "cuda",
            # torch asks the global random state for a seed otherwise: looking would leave a trace.
            generator=rng)

    def all_in_memory(self, few: int) -> Batch | None:
        """The data set's whole(few), on the device where that has room, else on the CPU; or None"""
        whole = self.dataset.whole(few)
        if whole is None or not has_room(self.device, sum(part.nbytes for part in whole)):
            return whole
        return tuple(part.to(self.device) for part in whole)

    def gathered(self, keys: Sequence[list]) -> Iterator[Batch]:
        """The batches with these keys, out of memory: what collate makes of the same items."""
        pictures, targets = self.memory
        for batch in keys:
            numbers = torch.tensor(list(map(number_of, batch)), device=pictures.device)     # (n)
            y = targets.index_select(0, numbers)
            yield pictures.index_select(0, numbers), y.long() if y.ndim == 3 else y       # a mask


def collate(items: list[tuple]) -> Batch:
    """The items (picture, target), n of them, as one batch (n, 3, h, w), (n, ...).

    Raises ValueError where the pictures differ in size.
    """
    sizes = {tuple(picture.shape) for picture, _ in items}
    if len(sizes) > 1:
        raise ValueError(f"pictures of one batch differ in size: {check.some(sorted(sizes))}; "
                         "give transform(size=...)")
    return tuple(default_collate(items))
