"""Where batches come from: out of files, by worker processes or without; or out of memory."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate

from minifast.tools import check
from minifast.workers import FORK, Watched, ignore_ctrl_c, let_go, number_of

Batch = tuple[Tensor, Tensor]


class Fetcher:
    """Batches of a data set, its items stacked (collated), on the CPU or already on the device.

    dataset      anything with len() and [key], see Watched; one with whole(few), as a Dataset with
                 a cache, may say that it has all items in memory
    num_workers  processes that fetch items, 0 for none (as on platforms that do not fork)
    device       where the batches will be needed

    What is changed in the data set later is not seen: by workers that wait, or by the memory.
    """

    def __init__(self, dataset: object, num_workers: int, device: torch.device):
        self.dataset, self.device = dataset, device
        self.context = FORK if num_workers else None      # refused without workers
        self.num_workers = num_workers if self.context else 0
        self.idle: DataLoader | None = None     # one whose workers wait for the next epoch
        self.watched: Watched | None = None     # what the workers of the latest epoch are at
        self.memory: Batch | None = None        # all pictures and targets

    def batches(self, keys: Sequence[list], seed: int) -> Iterator[Batch]:
        """The batches of an epoch, as collated: keys are lists of what to ask the data set for.

        seed  of the workers' random numbers, which a data set of your own may draw
        """
        if self.memory is None and hasattr(self.dataset, "whole"):
            self.memory = self.all_in_memory(few=len(keys[0]))
        if self.memory is not None:
            self.idle = None                                        # its workers end
            yield from self.gathered(keys)
            return
        loader = self.idle or self.data_loader()
        # Taken away meanwhile: whoever asks for a second epoch during this one gets own workers,
        # and those of an epoch that is not finished end with it.
        self.idle, self.watched = None, loader.dataset
        loader.batch_sampler[:] = keys
        self.watched.reseed(seed)
        yield from let_go(loader) if self.num_workers else loader
        self.idle = loader

    def data_loader(self) -> DataLoader:
        """torch's DataLoader, with batches still to be named. Its workers, once started, stay."""
        return DataLoader(
            Watched(self.dataset, self.num_workers), batch_sampler=[], collate_fn=collate,
            num_workers=self.num_workers, multiprocessing_context=self.context,
            worker_init_fn=ignore_ctrl_c, persistent_workers=self.num_workers > 0,
            pin_memory=self.device.type == "cuda",
            # torch asks the global random state for a seed otherwise: looking would leave a trace.
            generator=Generator())

    def all_in_memory(self, few: int) -> Batch | None:
        """The data set's whole(few), on the device where that has room, else on the CPU; or None"""
        whole = self.dataset.whole(few)
        if whole is None or self.device.type != "cuda":
            return whole
        free, _ = torch.cuda.mem_get_info(self.device.index)
        has_room = sum(part.nbytes for part in whole) <= free / 4
        return tuple(part.to(self.device) for part in whole) if has_room else whole

    def gathered(self, keys: Sequence[list]) -> Iterator[Batch]:
        """The batches with these keys, out of memory: what collate makes of the same items."""
        pictures, targets = self.memory
        # To the device once for all batches, since each time it would have to be waited for.
        order = torch.tensor([number_of(key) for batch in keys for key in batch])
        to_gpu = self.device.type == "cuda" and not pictures.is_cuda
        for numbers in order.to(pictures.device).split([len(batch) for batch in keys]):     # (n)
            x, y = pictures.index_select(0, numbers), targets.index_select(0, numbers)
            y = y.long() if y.ndim == 3 else y                                              # masks
            yield (x.pin_memory(), y.pin_memory()) if to_gpu else (x, y)


def collate(items: list[tuple]) -> Batch:
    """The items (picture, target), n of them, as one batch (n, 3, h, w), (n, ...).

    Raises ValueError where the pictures differ in size.
    """
    sizes = {tuple(picture.shape) for picture, _ in items}
    if len(sizes) > 1:
        raise ValueError(f"pictures of one batch differ in size: {check.some(sorted(sizes))}; "
                         "give transform(size=...)")
    return tuple(default_collate(items))
