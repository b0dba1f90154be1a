"""Which device, which precision, how many workers: what differs from machine to machine."""

import os
from pathlib import Path
import sys

import torch

from minifast import check


def default_device() -> torch.device:
    """torch.device("cuda"), the current CUDA device, where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What a table of results says of the device: the GPU's name, or `cpu, 3 cores` by cores()."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {cores()} cores"


def cores() -> int:
    """How many cores this process may use, which a cluster's scheduler may have limited."""
    can_ask = hasattr(os, "sched_getaffinity")              # Linux can, macOS and Windows cannot
    return len(os.sched_getaffinity(0)) if can_ask else os.cpu_count()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively, by what the processor itself reports.

    CUDA: compute capability 8.0 (Ampere) or later. CPU: one of the words avx512_bf16, amx_bf16
    (x86), bf16 (ARM) in Linux's /proc/cpuinfo; where that file is missing, and on any other device,
    the answer is no. Emulated bfloat16 is slower than float32, so it is a no.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if device.type == "cpu" and cpuinfo.exists() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether a model shall run in bfloat16 (autocast) and channels_last; its weights stay float32.

    precision  "auto": where the device multiplies bfloat16 natively; "float32": never
    Raises ValueError on any other precision.
    """
    check.one_of("precision", precision, ["auto", "float32"])
    return precision == "auto" and multiplies_bfloat16(device)


def fork_context() -> str | None:
    """The way to start loader workers: "fork" on Linux, None (no workers) elsewhere.

    Lessons are cells without a main guard, so a worker that imports the script again (spawn,
    forkserver, the default of Python 3.14) would run the lesson again. On macOS, forks can crash.
    """
    return "fork" if sys.platform == "linux" else None


def default_workers(device: torch.device) -> int:
    """Loader workers that help a device: up to 8 of the cores this process may use, 0 on the CPU.

    There the model itself uses every core, and decoding takes turns with it anyway. 0 also where
    fork_context() is None.
    """
    if fork_context() is None or device.type == "cpu":
        return 0
    return min(8, cores())
