"""Several processes train one model: `torchrun --nproc-per-node=2 lessons/planet.py`, one per GPU.

All run the same script. Only training is divided: each process trains on batch[RANK::COUNT], and
DistributedDataParallel averages their gradients. Everything else runs in full in each process. The
first one prints and writes files.
"""

import os
import sys
import warnings

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

RANK = int(os.environ.get("RANK", 0))           # from torchrun: which process this is, from 0,
COUNT = int(os.environ.get("WORLD_SIZE", 1))    # and how many there are


def join() -> None:
    """Connect to the other processes, if any. From then on only the first prints and warns."""
    if COUNT == 1 or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if RANK > 0:
        sys.stdout = open(os.devnull, "w")
        warnings.simplefilter("ignore")


def parallel(model: nn.Module) -> nn.Module:
    """The model to call in training. Make it again after freezing: it remembers what trains."""
    if COUNT == 1:
        return model
    gpu = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return DistributedDataParallel(model, device_ids=gpu)


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if COUNT > 1:
        distributed.barrier()
