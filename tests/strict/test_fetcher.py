import gc
from multiprocessing import active_children
import os
import random

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from minifast.fetcher import Fetcher, collate

CPU = torch.device("cpu")


class Numbered:
    """Item i is a picture (3, 2, 2) of bytes i with the target i, or a mask of bytes i.

    Once `ready`, the data set says that it has all in memory."""

    def __init__(self, n: int = 12, masks: bool = False):
        self.n, self.masks, self.ready, self.asked = n, masks, False, []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: int | tuple) -> tuple[Tensor, Tensor]:
        i = key[0] if isinstance(key, tuple) else key
        self.asked.append(i)
        target = torch.full((2, 2), i) if self.masks else torch.tensor(i)
        return torch.full((3, 2, 2), i, dtype=torch.uint8), target

    def whole(self, few: int) -> tuple[Tensor, Tensor] | None:
        self.few = few
        if not self.ready:
            return None
        pictures = torch.arange(self.n, dtype=torch.uint8)[:, None, None, None]
        targets = torch.arange(self.n)
        if self.masks:
            targets = targets.to(torch.uint8)[:, None, None].expand(self.n, 2, 2).contiguous()
        return pictures.expand(self.n, 3, 2, 2).contiguous(), targets


class Workers:
    """Item i is a picture (3, 1, 1) and the process that made it."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        assert get_worker_info() is not None
        return torch.zeros(3, 1, 1, dtype=torch.uint8), torch.tensor(os.getpid())


def processes_of(fetcher: Fetcher) -> set[int]:
    return {pid for _, y in fetcher.batches([[0, 1], [2, 3], [4, 5], [6]], 0)
            for pid in y.tolist()}


def test_batches_have_the_items_that_were_asked_for_in_their_order():
    batches = list(Fetcher(Numbered(), 0, CPU).batches([[3, 1], [5]], 0))
    assert [y.tolist() for _, y in batches] == [[3, 1], [5]]
    assert [x[:, 2, 1, 1].tolist() for x, _ in batches] == [[3, 1], [5]]
    assert batches[0][0].dtype == torch.uint8


def test_workers_stay_for_the_next_epoch():
    fetcher = Fetcher(Workers(), 2, CPU)
    first, second = processes_of(fetcher), processes_of(fetcher)
    assert first == second and len(first) == 2 and os.getpid() not in first


def test_the_keys_of_an_epoch_may_be_others_than_those_of_the_one_before():
    fetcher = Fetcher(Numbered(), 2, CPU)
    for keys in ([[1, 2], [3, 4]], [[5]], [[(6, 42, 0)], [7, 8], [9]]):
        numbers = [[key[0] if isinstance(key, tuple) else key for key in batch] for batch in keys]
        assert [y.tolist() for _, y in fetcher.batches(keys, 0)] == numbers


class Random(Workers):
    """Items are what the global random states of torch, Python and numpy give next."""

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        assert get_worker_info() is not None
        numbers = [torch.rand(()).item(), random.random(), numpy.random.rand()]
        return torch.zeros(3, 1, 1, dtype=torch.uint8), torch.tensor(numbers)


def test_what_workers_draw_follows_from_the_seed_of_the_epoch_alone():
    def drawn(fetcher: Fetcher, seed: int) -> Tensor:
        return torch.cat([y for _, y in fetcher.batches([[0, 1], [2, 3], [4], [5]], seed)])

    fetcher = Fetcher(Random(), 2, CPU)
    first, second, again = drawn(fetcher, 5), drawn(fetcher, 6), drawn(fetcher, 5)
    assert len(first.flatten().unique()) == 18                      # each worker draws its own
    assert torch.equal(first, again) and not (first == second).any()
    assert torch.equal(drawn(Fetcher(Random(), 2, CPU), 6), second)


def test_two_epochs_at_once_do_not_disturb_each_other():
    fetcher = Fetcher(Numbered(), 2, CPU)
    for (_, one), (_, other) in zip(fetcher.batches([[0], [1], [2]], 0),
                                    fetcher.batches([[3], [4], [5]], 0), strict=True):
        assert one.item() + 3 == other.item()


def test_the_workers_of_an_epoch_that_is_not_finished_end_with_it():
    before = set(active_children())
    fetcher = Fetcher(Numbered(), 2, CPU)
    batches = fetcher.batches([[i] for i in range(12)], 0)
    next(batches)
    assert len(set(active_children()) - before) == 2
    batches.close()
    gc.collect()
    assert set(active_children()) <= before
    assert len(list(fetcher.batches([[1], [2]], 0))) == 2       # and others can be had


def test_workers_end_with_their_fetcher():
    before = set(active_children())
    fetcher = Fetcher(Numbered(), 1, CPU)
    list(fetcher.batches([[1]], 0))
    assert len(set(active_children()) - before) == 1
    del fetcher
    gc.collect()
    assert set(active_children()) <= before


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_out_of_memory_come_the_same_batches(masks, workers):
    dataset, keys = Numbered(masks=masks), [[4, (2, 42, 0), 2], [(0, 42, 0)]]
    fetcher = Fetcher(dataset, workers, CPU)
    from_items = list(fetcher.batches(keys, 0))
    dataset.ready = True
    dataset.asked.clear()
    from_memory = list(fetcher.batches(keys, 0))
    assert dataset.asked == [] and fetcher.idle is None             # nor are there workers
    for one, other in zip(from_items, from_memory, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other))


def test_as_few_as_a_batch_may_still_be_missing():
    dataset = Numbered()
    list(Fetcher(dataset, 0, CPU).batches([[1, 2, 3], [4]], 0))
    assert dataset.few == 3


def test_a_batch_out_of_memory_is_a_copy():
    dataset = Numbered()
    dataset.ready = True
    fetcher = Fetcher(dataset, 0, CPU)
    for _ in range(2):
        x, y = next(fetcher.batches([[3]], 0))
        assert x.unique().tolist() == [3] and y.tolist() == [3]
        x.zero_(), y.zero_()


@pytest.mark.parametrize("free, sends", [(4, 2), (3.9, 0)])
def test_a_data_set_goes_to_a_gpu_that_has_four_times_the_room(monkeypatch, free, sends):
    size = 12 * 12 + 12 * 8                                         # 12 bytes, and an int64
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free * size, 9 ** 9))
    monkeypatch.setattr(Tensor, "to", lambda tensor, device: sent.append(device) or tensor)
    sent, dataset = [], Numbered()
    dataset.ready = True
    Fetcher(dataset, 0, torch.device("cuda", 0)).all_in_memory(few=0)
    assert sent == [torch.device("cuda", 0)] * sends


def test_collate_stacks_pictures_and_targets():
    items = [(torch.full((3, 2, 4), i, dtype=torch.uint8), torch.tensor([i, 1.0]))
             for i in range(5)]
    x, y = collate(items)
    assert x.shape == (5, 3, 2, 4) and x.dtype == torch.uint8
    assert x[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(y, torch.tensor([[0, 1.0], [1, 1], [2, 1], [3, 1], [4, 1]]))


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state(), str(numpy.random.get_state())
    for workers in (0, 1):
        list(Fetcher(Numbered(), workers, CPU).batches([[1]], 0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(numpy.random.get_state())
