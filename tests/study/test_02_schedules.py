import pytest
import torch

from minifast.schedules import cosine, exponential, linear, one_cycle


def test_linear_goes_in_equal_steps():
    assert [linear(2, 6, pct) for pct in (0, 0.25, 0.5, 0.75, 1)] == [2, 3, 4, 5, 6]
    assert linear(6, 2, 0.25) == 5


def test_linear_takes_a_tensor_of_progress():
    assert linear(-10, 10, torch.tensor([0, 0.5, 1])).tolist() == [-10, 0, 10]


def test_cosine_is_slow_then_fast_then_slow():
    # (1 - cos(45 degrees)) / 2 = (1 - .7071068) / 2
    values = [cosine(0, 1, pct) for pct in (0, 0.25, 0.5, 0.75, 1)]
    assert values == pytest.approx([0, 0.1464466, 0.5, 0.8535534, 1], abs=1e-7)


def test_cosine_can_go_down():
    # cos(60 degrees) is 1/2, so a third of the way is a quarter of the height
    assert cosine(5, 3, 1 / 3) == pytest.approx(4.5)


def test_exponential_multiplies_by_the_same_factor_in_each_step():
    values = [exponential(1, 10000, pct) for pct in (0, 0.25, 0.5, 0.75, 1)]
    assert values == pytest.approx([1, 10, 100, 1000, 10000])
    assert exponential(8, 2, torch.tensor([0, 0.5, 1])).tolist() == pytest.approx([8, 4, 2])


def test_one_cycle_goes_up_to_the_peak_and_down():
    # 4 batches, half of them before the peak: 2 steps up from 0 to 8, 2 steps down to 4
    values = [one_cycle(batch, 4, 0, 8, 4, pct_start=0.5) for batch in range(4)]
    assert values == pytest.approx([0, 4, 8, 6])


def test_one_cycle_reaches_the_end_after_the_last_batch():
    assert one_cycle(4, 4, 0, 8, 4, pct_start=0.5) == pytest.approx(4)


def test_one_cycle_gives_the_rates_of_fastai_v1():
    rates = [one_cycle(batch, 10, 0.01 / 25, 0.01, 0.01 / 25e4) for batch in range(10)]
    assert rates == pytest.approx([.0004, .0028, .0076, .01, .00950485, .00811746, .00611262,
                                   .00388742, .00188258, .000495194], rel=1e-5)


def test_momentum_goes_through_the_same_cycle_upside_down():
    # .95 - .10 * (1 - cos(60 degrees)) / 2 = .925, and its mirror image .875
    momenta = [one_cycle(batch, 10, 0.95, 0.85, 0.95) for batch in range(4)]
    assert momenta == pytest.approx([0.95, 0.925, 0.875, 0.85])


def test_the_number_of_batches_before_the_peak_is_rounded_down():
    assert one_cycle(2, 10, 0, 1, 0, pct_start=0.28) == 1


def test_with_pct_start_0_the_peak_is_at_the_second_batch():
    # 4 steps down from batch 1, so batch 5 would be at the end
    values = [one_cycle(batch, 4, 0.1, 1, 0, pct_start=0) for batch in range(4)]
    assert values == pytest.approx([0.1, 1, 0.8535534, 0.5])


def test_pct_start_is_between_0_and_1():
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError):
            one_cycle(0, 10, 0, 1, 0, pct_start=wrong)
