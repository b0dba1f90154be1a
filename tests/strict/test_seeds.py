from contextlib import nullcontext, suppress
import random

import numpy
import pytest
import torch

from minifast.tools.seeds import generator_for, seed_of, seeded


def test_seeds_depend_on_each_number_and_on_their_order_and_their_count():
    # (1, 2) and (1, 2, 0): numpy alone fills short keys with zeros
    keys = [(1, 2), (2, 1), (1, 3), (3, 2), (1, 2, 3), (3, 2, 1), (1, 2, 0), (0,), (1,)]
    seeds = [seed_of(*key) for key in keys]
    assert len(set(seeds)) == len(keys) and seeds == [seed_of(*key) for key in keys]
    assert all(type(seed) is int and 0 <= seed < 2 ** 32 for seed in seeds)


def test_a_generator_for_a_key_repeats_itself_and_touches_nothing_else():
    before = torch.get_rng_state()
    first, again, other = (generator_for(*key).initial_seed() for key in ((1, 2), (1, 2), (1, 3)))
    assert first == again != other and torch.equal(torch.get_rng_state(), before)


def global_numbers(seed: int | None = None) -> list[float]:     # the next ones, or a seed's
    for seed_one in (random.seed, numpy.random.seed, torch.manual_seed) if seed is not None else ():
        seed_one(seed)
    return [random.random(), float(numpy.random.random()), torch.rand(1).item()]


def test_inside_seeded_numbers_follow_from_the_key_and_afterwards_go_on_even_after_an_error():
    inside = global_numbers(seed_of(3, 1))
    global_numbers(7)
    wanted = global_numbers()
    for index in (0, 1):
        global_numbers(7)
        with suppress(IndexError), seeded(3, 1):
            assert global_numbers() == inside and ["no error"][index]
        assert global_numbers() == wanted


@pytest.mark.parametrize("in_use", [True, False])
def test_gpus_are_seeded_and_put_back_where_cuda_is_in_use(monkeypatch, in_use):
    kept, seeds = [], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.random, "fork_rng", lambda gpus: kept.extend(gpus) or nullcontext())
    with seeded(3):
        pass
    assert (kept, seeds) == (([0, 1], [seed_of(3)]) if in_use else ([], []))
