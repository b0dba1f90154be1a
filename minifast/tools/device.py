"""What this machine has: which device, how many cores, which precision."""

import os
from pathlib import Path
import sys

import torch

from minifast.tools import check


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cores() -> int:
    """How many cores this process may use. A cluster's scheduler can grant fewer than exist."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether to run a model in bfloat16 and channels_last: with precision "float32" never, with
    "auto" if the hardware has bfloat16. Emulated, bfloat16 is slower than float32."""
    check.one_of("precision", precision, ["auto", "float32"])
    if precision == "float32":
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)       # Ampere or later
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if device.type == "cpu" and cpuinfo.exists() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)    # x86, x86, ARM
