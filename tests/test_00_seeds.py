import random

import numpy
import pytest
import torch

from minifast.seeds import generator_for, seed_of, seeded


def test_seeds_depend_on_each_number_and_on_their_order():
    keys = [(1, 2), (2, 1), (1, 3), (3, 2), (1, 2, 3), (3, 2, 1), (0,), (1,)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(seed_of(*key) == seed_of(*key) and type(seed_of(*key)) is int for key in keys)


def test_a_longer_key_is_another_key_even_if_it_ends_in_0():
    # numpy alone fills short keys with zeros
    assert seed_of(42, 2) != seed_of(42, 2, 0)


def test_a_generator_for_a_key_repeats_itself_and_touches_nothing_else():
    before = torch.get_rng_state()
    first, again, other = (torch.rand(3, generator=generator_for(*key))
                           for key in ((1, 2), (1, 2), (2, 1)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert generator_for(1).device.type == "cpu"
    assert torch.equal(torch.get_rng_state(), before)


def global_numbers() -> list[float]:
    """The next global random numbers of Python, numpy and torch."""
    return [random.random(), float(numpy.random.random()), torch.rand(1).item()]


def seed_all(seed: int) -> None:
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def test_within_seeded_random_numbers_are_those_of_the_key_and_outside_as_if_nothing_was():
    seed_all(7)
    wanted = global_numbers()
    seed_all(seed_of(3, 1))
    inside = global_numbers()
    seed_all(7)
    with seeded(3, 1):
        assert global_numbers() == inside
    assert global_numbers() == wanted


def test_the_random_state_is_put_back_after_an_error_too():
    seed_all(7)
    wanted = global_numbers()
    seed_all(7)
    with pytest.raises(ValueError, match="a broken file"):
        with seeded(3):
            global_numbers()
            raise ValueError("a broken file")
    assert global_numbers() == wanted


@pytest.mark.parametrize("in_use", [True, False])
def test_gpus_are_seeded_and_put_back_where_cuda_is_in_use(monkeypatch, in_use):
    kept, seeds, fork = [], [], torch.random.fork_rng
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.random, "fork_rng",
                        lambda devices: (kept.append(devices), fork([]))[1])
    with seeded(3):
        pass
    assert list(map(list, kept)) == [[0, 1] if in_use else []]
    assert seeds == ([seed_of(3)] if in_use else [])
