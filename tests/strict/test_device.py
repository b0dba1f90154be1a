import os
import sys

import pytest
import torch

from minifast.tools.device import cores, default_device, uses_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


def test_the_gpu_is_taken_if_there_is_one(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
        assert default_device().type == ("cuda" if there else "cpu")


def test_linux_tells_which_cores_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", {0: {0, 5, 9}}.get, raising=False)
    for platform, wanted in (("linux", 3), ("darwin", 64)):
        monkeypatch.setattr(sys, "platform", platform)
        assert cores() == wanted


def test_gpus_multiply_bfloat16_from_compute_capability_8_on(monkeypatch):
    for capability, wanted in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", {GPU: capability}.get)
        assert uses_bfloat16(GPU, "auto") == wanted and not uses_bfloat16(GPU, "float32")


@pytest.mark.parametrize("flags, wanted", [
    ("fpu avx2 avx512f", False), ("avx512f avx512_bf16 amx_tile", True), ("amx_bf16", True),
    ("fp asimd bf16", True), ("fp asimd ebf16x", False)])
def test_cpus_multiply_bfloat16_where_their_flags_say_so(tmp_path, monkeypatch, flags, wanted):
    monkeypatch.setattr("minifast.tools.device.Path", lambda name: tmp_path / name.split("/")[-1])
    assert not uses_bfloat16(CPU, "auto")                       # no such file: not Linux
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert uses_bfloat16(CPU, "auto") == wanted and not uses_bfloat16(CPU, "float32")
    assert not uses_bfloat16(torch.device("mps"), "auto")       # the flags are the CPU's
    with pytest.raises(ValueError, match="float16"):
        uses_bfloat16(CPU, "float16")
