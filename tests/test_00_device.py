import os
import sys

import pytest
import torch

from minifast import device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("there, wanted", [(True, "cuda"), (False, "cpu")])
def test_the_gpu_is_taken_where_there_is_one(monkeypatch, there, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device.default_device() == torch.device(wanted)


def test_a_device_is_named_for_the_table_of_results(monkeypatch):
    monkeypatch.setattr(device, "cores", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert device.device_name(CPU) == "cpu, 3 cores"
    assert device.device_name(GPU) == "NVIDIA H200"


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    asked = {0: {0, 5, 9}}                                       # 0 stands for this process
    monkeypatch.setattr(os, "sched_getaffinity", asked.get, raising=False)
    assert device.cores() == 3


def test_cores_are_those_of_the_machine_where_the_system_cannot_be_asked(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert device.cores() == 64


@pytest.mark.parametrize("capability, wanted", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_multiply_bfloat16_from_compute_capability_8_on(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert device.multiplies_bfloat16(GPU) == wanted


@pytest.mark.parametrize("flags, wanted", [
    ("fpu avx2 avx512f", False), ("avx512f avx512_bf16 amx_tile", True), ("amx_bf16", True),
    ("fp asimd bf16", True), ("fp asimd ebf16x", False)])
def test_cpus_multiply_bfloat16_where_their_flags_say_so(tmp_path, monkeypatch, flags, wanted):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(device, "Path", lambda name: tmp_path / os.path.basename(name))
    assert device.multiplies_bfloat16(CPU) == wanted


def test_bfloat16_is_not_used_where_the_cpu_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "Path", lambda name: tmp_path / "nothing")
    assert not device.multiplies_bfloat16(CPU)
    (tmp_path / "nothing").write_text("bf16")                    # the CPU's, not that of the device
    assert not device.multiplies_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("can", [True, False])
def test_auto_uses_bfloat16_where_it_is_native_and_float32_never(monkeypatch, can):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda device: can)
    assert device.uses_bfloat16(CPU, "auto") == can
    assert device.uses_bfloat16(CPU, "float32") is False


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="no precision 'float16'; did you mean 'float32'?"):
        device.uses_bfloat16(CPU, "float16")


@pytest.mark.parametrize("platform, wanted", [("linux", "fork"), ("darwin", None), ("win32", None)])
def test_workers_are_forked_on_linux_only(monkeypatch, platform, wanted):
    monkeypatch.setattr(sys, "platform", platform)
    assert device.fork_context() == wanted


@pytest.mark.parametrize("platform, where, cores, wanted", [
    ("linux", GPU, 3, 3), ("linux", GPU, 64, 8), ("linux", CPU, 64, 0), ("darwin", GPU, 64, 0)])
def test_there_are_workers_for_a_gpu_only_as_many_as_cores_up_to_8(monkeypatch, platform, where,
                                                                   cores, wanted):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(device, "cores", lambda: cores)
    assert device.default_workers(where) == wanted
