import runpy
import sys
import warnings

import pytest

from minifast.tools import processes


@pytest.fixture
def asked(monkeypatch):
    """What torch was asked to do, in one of two processes; nothing of it is done."""
    calls = []
    monkeypatch.setattr(processes, "COUNT", 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr("torch.cuda.set_device", calls.append)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    monkeypatch.setattr("torch.distributed.init_process_group", calls.append)
    monkeypatch.setattr("torch.distributed.barrier", lambda: calls.append("barrier"))
    monkeypatch.setattr(processes, "DistributedDataParallel",
                        lambda model, device_ids: calls.append(device_ids))
    return calls


def test_rank_and_count_are_torchruns_variables(monkeypatch):
    for wanted in ((0, 1), (2, 3)):                             # at first without the variables
        found = runpy.run_path(processes.__file__)
        assert (found["RANK"], found["COUNT"]) == wanted
        monkeypatch.setenv("RANK", "2")
        monkeypatch.setenv("WORLD_SIZE", "3")


@pytest.mark.parametrize("count, gpu, wanted", [
    (1, True, []), (2, True, [3, "nccl", "barrier", [3]]), (2, False, ["gloo", "barrier", None])])
def test_processes_meet_once_and_share_the_gradients(asked, monkeypatch, count, gpu, wanted):
    monkeypatch.setattr(processes, "COUNT", count)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    processes.join()
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    processes.join()
    processes.wait_for_all()
    assert (processes.parallel("the model") == "the model") == (count == 1) and asked == wanted


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_prints_and_warns(asked, monkeypatch, capsys, rank):
    monkeypatch.setattr(processes, "RANK", rank)
    monkeypatch.setattr(sys, "stdout", sys.stdout)              # so that it is put back
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        processes.join()
        print("hello")
        warnings.warn("careful")
    assert (capsys.readouterr().out, len(warned)) == (("", 0) if rank else ("hello\n", 1))
