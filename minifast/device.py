"""Which device, which precision, how many workers: what differs from machine to machine."""

import ctypes
import os
from pathlib import Path
import sys

import torch

from minifast import check, processes


def default_device() -> torch.device:
    """torch.device("cuda"), the current CUDA device, where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What a table of results says of the device: the GPU's name, or `cpu, 3 cores` by cores()."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {cores()} cores"


def cores() -> int:
    """How many cores this process really has, at least 1: a cluster's scheduler may have tied it to
    some of them, and a container (control group) to a share of their time, here rounded down."""
    can_ask = hasattr(os, "sched_getaffinity")              # Linux can, macOS and Windows cannot
    there = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count()
    quota = cgroup("cpu.max") or cgroup("cpu/cpu.cfs_quota_us") + cgroup("cpu/cpu.cfs_period_us")
    if len(quota) < 2 or quota[0] in ("max", "-1"):
        return there
    return max(1, min(there, int(quota[0]) // int(quota[1])))


def cgroup(file: str) -> list[str]:
    """The words in a file of the control group that Linux has this process in, [] without such a
    file. Version 2 has them in one folder; version 1 has a folder for each kind of them."""
    path = Path(f"/sys/fs/cgroup/{file}")
    return path.read_text().split() if path.exists() else []


def free_memory() -> int:
    """Bytes of main memory that can still be taken, also by the limit of a container; what only
    keeps files for quicker reading is free. 0 where the system does not tell; Linux does."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return 0
    words = meminfo.read_text().split()
    free = 1024 * int(words[words.index("MemAvailable:") + 1])
    limit = cgroup("memory.max") or cgroup("memory/memory.limit_in_bytes")
    if limit in ([], ["max"]):
        return free
    used = cgroup("memory.current") or cgroup("memory/memory.usage_in_bytes")
    words = cgroup("memory.stat") or cgroup("memory/memory.stat")
    files = sum(int(words[words.index(name) + 1]) for name in ("active_file", "inactive_file"))
    return max(0, min(free, int(limit[0]) - int(used[0]) + files))


def keep_freed_memory() -> None:
    """Have the C library keep large blocks that are freed, for the next batch: it gives them back
    to the system else, which has to clear each page anew. On two cores that made training steps on
    128 pixels 3 to 13 % quicker. Does nothing where the library is not glibc, that of most Linuxes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 2 ** 30)                    # M_MMAP_THRESHOLD: blocks below that
        mallopt(-1, 2 ** 31 - 1)                # M_TRIM_THRESHOLD: up to so many bytes in all


def has_room(device: torch.device, size: int) -> bool:
    """Whether a data set of `size` bytes may stay on the device: of a GPU's free memory at most a
    quarter; the CPU's has it already."""
    return device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] / 4


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
    """Loader workers that help a device: up to 8, as many as this process has cores, or, of several
    processes on this machine, its share of them, at least 1; on the CPU 0.

    There the model itself uses every core, and decoding takes turns with it anyway. 0 also where
    fork_context() is None.
    """
    if fork_context() is None or device.type == "cpu":
        return 0
    return max(1, min(8, cores() // processes.on_this_machine()))
