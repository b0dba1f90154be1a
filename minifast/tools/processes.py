"""Several processes train one model: `torchrun --nproc-per-node=2 SCRIPT`, one for each GPU. Each
process runs the whole script, which calls join() first, but trains on batch[RANK::COUNT] only.
DistributedDataParallel averages their gradients. The first process prints and writes files.
"""

import atexit
from datetime import timedelta
import gc
import os
import sys

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

RANK = int(os.environ.get("RANK", 0))           # from torchrun: which process this is, from 0,
COUNT = int(os.environ.get("WORLD_SIZE", 1))    # and how many there are


def join() -> None:
    """Connect to the other processes, if any. From then on only the first one prints."""
    if COUNT == 1 or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo",
                                   timeout=timedelta(hours=2))      # while the first checks files
    atexit.register(_leave)
    if RANK > 0:
        sys.stdout = open(os.devnull, "w")


def _leave() -> None:
    if not hasattr(sys, "last_value"):      # after an error, all would wait for each other
        gc.collect()                        # what is left of DistributedDataParallel can crash
        distributed.destroy_process_group()


def parallel(model: nn.Module) -> nn.Module:
    """The model to call in training. Make it again after freezing: it remembers what trains."""
    return DistributedDataParallel(model) if COUNT > 1 else model


def mean(numbers: Tensor) -> Tensor:
    """The mean over the processes of each number."""
    if COUNT > 1:
        distributed.all_reduce(numbers)
    return numbers / COUNT


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's BatchNorm statistics."""
    for buffer in model.buffers() if COUNT > 1 else ():
        distributed.broadcast(buffer, 0)


def wait_for_all() -> None:
    if COUNT > 1:
        distributed.barrier()
