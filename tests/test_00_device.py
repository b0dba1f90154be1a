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


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write files as Linux has them in /proc and /sys/fs/cgroup: none, at first."""
    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    monkeypatch.setattr(device, "Path", lambda name: tmp_path / name.lstrip("/"))
    return write


def test_cores_are_those_that_this_process_may_use(monkeypatch, groups):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    asked = {0: {0, 5, 9}}                                       # 0 stands for this process
    monkeypatch.setattr(os, "sched_getaffinity", asked.get, raising=False)
    assert device.cores() == 3


def test_cores_are_those_of_the_machine_where_the_system_cannot_be_asked(monkeypatch, groups):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert device.cores() == 64


@pytest.mark.parametrize("files, wanted", [
    ({"cpu.max": "200000 100000"}, 2), ({"cpu.max": "250000 100000"}, 2),
    ({"cpu.max": "max 100000"}, 8),
    ({"cpu.max": "50000 100000"}, 1), ({"cpu.max": "900000 100000"}, 8),
    ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8)])
def test_cores_are_as_many_as_a_container_may_use_the_time_of(monkeypatch, groups, files, wanted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    version_1 = any("/" in name for name in files)
    groups({"proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/a1\n" * version_1 + "0::/\n",
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}})
    assert device.cores() == wanted


@pytest.mark.parametrize("inner, outer, wanted", [("max 100000", "300000 100000", 3),
                                                  ("200000 100000", "300000 100000", 2),
                                                  ("300000 100000", "100000 100000", 1)])
def test_the_groups_around_the_own_one_limit_it_too(monkeypatch, groups, inner, outer, wanted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    groups({"proc/self/cgroup": "0::/system.slice/my job\n",
            "sys/fs/cgroup/system.slice/cpu.max": outer,
            "sys/fs/cgroup/system.slice/my job/cpu.max": inner})
    assert device.cores() == wanted


STAT = "anon 5\nfile 9\ninactive_file 200\nactive_file 100\n"


@pytest.mark.parametrize("files, wanted", [
    ({}, 4096 * 1024),
    ({"memory.max": "max"}, 4096 * 1024),
    # limit, less what is used, but for files that are only kept for quicker reading
    ({"memory.max": "2000", "memory.current": "900", "memory.stat": STAT}, 2000 - 900 + 300),
    ({"memory/memory.limit_in_bytes": "2000", "memory/memory.usage_in_bytes": "900",
      "memory/memory.stat": STAT}, 1400),
    ({"memory.max": "1000", "memory.current": "900"}, 100),
    ({"memory.max": "500", "memory.current": "900", "memory.stat": STAT}, 0)])
def test_free_memory_is_what_machine_and_container_have_left(groups, files, wanted):
    version_1 = any("/" in name for name in files)
    groups({"proc/self/cgroup": "4:memory:/job\n" * version_1 + "0::/\n"})
    groups({"proc/meminfo": "MemTotal: 9999 kB\nMemFree: 7 kB\nMemAvailable: 4096 kB\n"})
    groups({f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert device.free_memory() == wanted


def test_no_memory_is_known_to_be_free_where_the_system_does_not_tell(groups):
    assert device.free_memory() == 0


def test_a_data_set_may_take_a_quarter_of_a_gpus_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", {0: (400, 1000), None: (40, 1000)}.get)
    assert device.has_room(GPU, 100) and not device.has_room(GPU, 101)
    current = torch.device("cuda")                              # has no number
    assert device.has_room(current, 10) and not device.has_room(current, 11)
    assert device.has_room(CPU, 10 ** 18)                        # is there already


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


@pytest.mark.parametrize("processes, wanted", [(1, 8), (2, 6), (5, 2), (16, 1)])
def test_processes_on_one_machine_share_its_cores(monkeypatch, processes, wanted):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(device, "cores", lambda: 12)
    monkeypatch.setattr("minifast.processes.on_this_machine", lambda: processes)
    assert device.default_workers(GPU) == wanted
