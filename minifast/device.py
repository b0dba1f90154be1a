"""Which device, which precision, how many workers: what differs from machine to machine."""

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
    some of them, and a control group to a share of their time, here rounded down."""
    can_ask = hasattr(os, "sched_getaffinity")              # Linux can, macOS and Windows cannot
    there = [len(os.sched_getaffinity(0)) if can_ask else os.cpu_count()]
    for group in control_groups("cpu"):
        quota = words_in(group / "cpu.max") or (words_in(group / "cpu.cfs_quota_us") +
                                                words_in(group / "cpu.cfs_period_us"))
        if len(quota) == 2 and quota[0] not in ("max", "-1"):
            there.append(int(quota[0]) // int(quota[1]))
    return max(1, min(there))


def free_memory() -> int:
    """Bytes of main memory that can still be taken, also by the limits of control groups; what only
    keeps files for quicker reading is free. 0 where the system does not tell; Linux does."""
    words = words_in(Path("/proc/meminfo"))
    if not words:
        return 0
    free = [1024 * int(words[words.index("MemAvailable:") + 1])]
    for group in control_groups("memory"):
        limit = words_in(group / "memory.max") or words_in(group / "memory.limit_in_bytes")
        used = words_in(group / "memory.current") or words_in(group / "memory.usage_in_bytes")
        if used and limit not in ([], ["max"]):
            words = words_in(group / "memory.stat")
            stat = dict(zip(words[::2], words[1::2]))
            files = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
            free.append(int(limit[0]) - int(used[0]) + files)
    return max(0, min(free))


def control_groups(kind: str) -> list[Path]:
    """The folders of the control groups (containers, a cluster's jobs) that Linux has this process
    in: the innermost, and all around it; each limits its cpu or memory, the `kind`.

    In /proc/self/cgroup stands `0::/GROUP` by version 2; by version 1, with a tree for each kind,
    `4:memory:/GROUP`. A group that a container does not see is left out.
    """
    listed, tree, group = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"), ""
    for line in listed.read_text().splitlines() if listed.is_file() else []:
        _, kinds, path = line.split(":", 2)
        if kind in kinds.split(","):
            tree, group = Path(f"/sys/fs/cgroup/{kind}"), path
            break
        group = group if kinds else path
    inner = tree / group.strip("/")
    return [folder for folder in (inner, *inner.parents)
            if folder.is_relative_to(tree) and folder.exists()]


def words_in(file: Path) -> list[str]:
    """The words in a text file; [] where there is none."""
    return file.read_text().split() if file.is_file() else []


def has_room(device: torch.device, size: int) -> bool:
    """Whether a data set of `size` bytes may stay on the device: of a GPU's free memory at most a
    quarter; the CPU's has it already."""
    return device.type != "cuda" or size <= torch.cuda.mem_get_info(device.index)[0] / 4


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16, floats of 16 bits, natively, as its processor says.

    CUDA: compute capability 8.0 (Ampere) or later. CPU: one of the words avx512_bf16, amx_bf16
    (x86), bf16 (ARM) in Linux's /proc/cpuinfo. No where that file is missing, on any other device,
    and where bfloat16 is emulated, which is slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if device.type == "cpu" and cpuinfo.exists() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether a model shall run in bfloat16 (by torch's autocast; its weights stay float32) and in
    channels_last (the channels of a pixel side by side in memory).

    precision  "auto": where multiplies_bfloat16(device); "float32": never; else ValueError
    """
    check.one_of("precision", precision, ["auto", "float32"])
    return precision == "auto" and multiplies_bfloat16(device)


def fork_context() -> str | None:
    """How to start workers, processes that read pictures: "fork" on Linux, None (none) elsewhere.

    Lessons are cells without a main guard, so a worker that imports the script again (spawn,
    forkserver, the default of Python 3.14) would run the lesson again. On macOS, forks can crash.
    """
    return "fork" if sys.platform == "linux" else None


def default_workers(device: torch.device) -> int:
    """How many workers help a device: on the CPU 0, since there the model itself uses every core;
    else as many as this process has cores, or, of several processes on this machine, its share of
    them, but 1 to 8. 0 also where fork_context() is None.
    """
    if fork_context() is None or device.type == "cpu":
        return 0
    return max(1, min(8, cores() // processes.on_this_machine()))
