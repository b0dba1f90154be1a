import os
import sys

import pytest
import torch
from torch import nn

from minifast import processes


def test_alone_there_is_one_process_and_nothing_is_shared_out():
    assert (processes.rank(), processes.count(), processes.on_this_machine()) == (0, 1, 1)
    assert processes.part_of([1, 2, 3]) == [1, 2, 3]
    assert processes.gathered("said") == ["said"] and processes.in_order([1, 2]) == [1, 2]
    assert processes.share_of(5) == 5 and processes.first_says(False) is False
    number, model = torch.tensor(3.), nn.Linear(1, 1)
    assert processes.mean(number) is number and processes.parallel(model) is model
    processes.same_buffers(nn.BatchNorm1d(2))
    with processes.first_goes_ahead():
        pass


def test_without_torchrun_there_is_nobody_to_join(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = sys.stdout
    processes.join()
    assert sys.stdout is before and not torch.distributed.is_initialized()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "environ", {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"})
    with pytest.raises(ValueError, match="--nproc-per-node must be between 1 and 2, got 3"):
        processes.join()


@pytest.mark.parametrize("count, parts", [
    (1, ["abcdefg"]), (2, ["abcd", "efg"]), (3, ["abc", "def", "g"]), (4, ["ab", "cd", "ef", "g"]),
    (5, ["ab", "cd", "ef", "g", ""])])
def test_the_first_parts_of_a_batch_are_an_even_share_rounded_up(monkeypatch, count, parts):
    monkeypatch.setattr(processes, "count", lambda: count)
    for rank, part in enumerate(parts):
        monkeypatch.setattr(processes, "rank", lambda: rank)
        assert processes.part_of(list("abcdefg")) == list(part)


def test_the_first_process_decides(monkeypatch):
    monkeypatch.setattr(processes, "gathered", lambda mine: ["first", mine])
    assert processes.first_says("mine") == "first"


def test_what_processes_made_of_their_parts_comes_in_the_order_of_the_batches(monkeypatch):
    # three batches, of two processes; of the last one there was nothing left for the second
    monkeypatch.setattr(processes, "gathered", lambda mine: [mine, ["b", "d"]])
    assert processes.in_order(["a", "c", "e"]) == ["a", "b", "c", "d", "e"]
