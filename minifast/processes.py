"""One process or several: `torchrun --nproc-per-node=2 lessons/planet.py` starts two, one per GPU.

All run the same script. Each trains on its part of every batch (the pictures of one step), and
torch's DistributedDataParallel takes the mean of their gradients: so their weights stay the same.
The first one speaks for all. If one fails, torchrun ends the others: these may complain of it.
"""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
import gc
import os
import sys
import warnings

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from minifast import check


def join() -> None:
    """Where torchrun has started this process, meet the others; else, or a second time, do nothing.

    Each takes the GPU of its own number. They talk by NCCL, or, without GPUs, by gloo. From then
    on only the first prints, warns and (files.replacing) writes. Raises ValueError where there are
    GPUs, but fewer than processes.
    """
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return
    gpus = torch.cuda.device_count()
    if gpus:
        check.between("--nproc-per-node", int(os.environ["LOCAL_WORLD_SIZE"]), 1, gpus)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Others wait while the first one draws a set, or looks at a real one on a slow disk.
    distributed.init_process_group("nccl" if gpus else "gloo", timeout=timedelta(hours=2))
    atexit.register(leave)
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")
        warnings.simplefilter("ignore")


def leave() -> None:
    """Part from the other processes, when Python ends; but not after an error: with NCCL one would
    wait for the others, who wait for it, and torchrun would not learn of the error."""
    if not hasattr(sys, "last_value"):
        gc.collect()    # what is left of DistributedDataParallel can crash Python at its end
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0, the first; 0 also where it is the only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def on_this_machine() -> int:
    """How many of the processes share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if distributed.is_initialized() else 1


def share_of(bs: int) -> int:
    """How many pictures each process has of a batch of bs: bs / count(), rounded up."""
    return -(-bs // count())


def part_of(batch: list) -> list:
    """This process's part of a batch: one of count() pieces in order, the first ones with
    share_of(len(batch)) entries, the last ones with fewer or none."""
    size = share_of(len(batch))
    return batch[rank() * size:(rank() + 1) * size]


def gathered(value: object) -> list:
    """The value that each process gives, first to last; tensors in it should be on the CPU. All
    have to call this, and wait for each other here; alone, it is [value]."""
    values = [value] * count()
    if count() > 1:
        distributed.all_gather_object(values, value)
    return values


def first_says(value: object) -> object:
    """The value that the first process gives; all have to call this."""
    return gathered(value)[0]


def in_order(mine: list) -> list:
    """One list of all processes: of each batch what they made of their parts (part_of), in order.

    mine  an entry for each batch of which this process had a part
    """
    parts = gathered(mine)
    return [part[number] for number in range(len(parts[0])) for part in parts if part[number:]]


def mean(number: Tensor) -> Tensor:
    """The mean of a 0-dim tensor over the processes, on its device; alone, the number itself."""
    if count() == 1:
        return number
    total = number.clone()
    distributed.all_reduce(total)
    return total / count()


def parallel(model: nn.Module) -> nn.Module:
    """What to call instead of the model in training: the backward pass through it leaves in all
    processes the mean of their gradients. Its weights begin as the first one's; it trains what
    requires_grad now, so make it anew after freezing layers. Alone, it is the model itself."""
    if count() == 1:
        return model
    gpu = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return DistributedDataParallel(model, device_ids=gpu)


def same_buffers(model: nn.Module) -> None:
    """Give all processes the model's buffers of the first (BatchNorm's running statistics, which
    each has from its own pictures): or they would validate different models."""
    if count() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Inside, the first process is alone; when it is done the others come, and all go on."""
    if rank() > 0:
        gathered(None)
    yield
    if rank() == 0:
        gathered(None)
