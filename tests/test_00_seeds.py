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


def test_within_seeded_random_numbers_are_those_of_the_key_and_outside_as_if_nothing_was():
    torch.manual_seed(7)
    wanted = torch.rand(2)
    torch.manual_seed(seed_of(3, 1))
    inside = torch.rand(2)
    torch.manual_seed(7)
    with seeded(3, 1):
        assert torch.equal(torch.rand(2), inside)
    assert torch.equal(torch.rand(2), wanted)


def test_the_random_state_is_put_back_after_an_error_too():
    before = torch.random.get_rng_state()
    with pytest.raises(ValueError, match="a broken file"):
        with seeded(3):
            torch.rand(2)
            raise ValueError("a broken file")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("in_use", [True, False])
def test_of_the_gpus_only_the_one_in_use_is_seeded_and_put_back(monkeypatch, in_use):
    kept, seeds, fork = [], [], torch.random.fork_rng
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    monkeypatch.setattr(torch.random, "fork_rng", lambda gpus: (kept.append(gpus), fork([]))[1])
    with seeded(3):
        pass
    assert kept == [[2] if in_use else []]
    assert seeds == ([seed_of(3)] if in_use else [])
