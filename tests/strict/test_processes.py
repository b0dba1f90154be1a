import runpy
import sys

import pytest
import torch
from torch import nn

from minifast.tools import processes


@pytest.fixture
def asked(monkeypatch):
    """What torch was asked to do, in one of two processes; nothing of it is done."""
    calls = []
    monkeypatch.setattr(processes, "COUNT", 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr("torch.cuda.set_device", calls.append)
    monkeypatch.setattr("torch.distributed.init_process_group",
                        lambda backend, timeout: calls.append(backend))
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: calls.append("left"))
    monkeypatch.setattr("atexit.register", calls.append)
    monkeypatch.setattr("torch.distributed.barrier", lambda: calls.append("barrier"))
    monkeypatch.setattr(processes, "DistributedDataParallel",
                        lambda model: calls.append(model))
    monkeypatch.setattr("torch.distributed.all_reduce", lambda numbers: numbers.add_(10))
    monkeypatch.setattr("torch.distributed.broadcast", lambda buffer, rank: buffer.fill_(rank + 7))
    return calls


def test_rank_and_count_are_torchruns_variables(monkeypatch):
    for wanted in ((0, 1), (2, 3)):                             # at first without the variables
        found = runpy.run_path(processes.__file__)
        assert (found["RANK"], found["COUNT"]) == wanted
        monkeypatch.setenv("RANK", "2")
        monkeypatch.setenv("WORLD_SIZE", "3")


@pytest.mark.parametrize("count, gpu, wanted", [
    (1, True, []), (2, True, [3, "nccl", "barrier", "model"]),
    (2, False, ["gloo", "barrier", "model"])])
def test_processes_meet_once_and_share_the_gradients(asked, monkeypatch, count, gpu, wanted):
    monkeypatch.setattr(processes, "COUNT", count)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    processes.join()
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    processes.join()
    processes.wait_for_all()
    assert (processes.parallel("model") == "model") == (count == 1)
    ends = [asked.pop(asked.index(each)) for each in [*asked] if callable(each)]
    assert asked == wanted and len(ends) == count - 1


@pytest.mark.parametrize("count, mean, statistics", [(1, [2, 4], [0, 0]), (2, [6, 7], [7, 7])])
def test_of_several_processes_numbers_are_averaged_and_buffers_are_the_first_ones(
        asked, monkeypatch, count, mean, statistics):
    # all_reduce, which sums up, says that the other process has 10 more; broadcast gives 7.
    monkeypatch.setattr(processes, "COUNT", count)
    model = nn.BatchNorm1d(2)
    weight = model.weight.clone()
    processes.share_buffers(model)
    assert model.running_mean.tolist() == statistics and torch.equal(model.weight, weight)
    assert processes.mean(torch.tensor([2., 4])).tolist() == mean
    assert float(processes.mean(torch.tensor(2.))) == mean[0]


@pytest.mark.parametrize("failed, wanted", [(False, ["left"]), (True, [])])
def test_at_the_end_a_process_parts_from_the_others_but_not_after_an_error(asked, monkeypatch,
                                                                           failed, wanted):
    processes.join()
    end, = [each for each in asked if callable(each)]
    monkeypatch.delattr(sys, "last_value", raising=False)
    if failed:
        monkeypatch.setattr(sys, "last_value", ValueError(), raising=False)
    asked.clear()
    end()
    assert asked == wanted


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_prints(asked, monkeypatch, capsys, rank):
    monkeypatch.setattr(processes, "RANK", rank)
    monkeypatch.setattr(sys, "stdout", sys.stdout)              # so that it is put back
    processes.join()
    print("hello")
    assert capsys.readouterr().out == ("" if rank else "hello\n")
    if rank:
        sys.stdout.close()
