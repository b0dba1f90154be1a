from math import cos, pi

import pytest
import torch

from minifast.schedules import cosine, exponential, linear, one_cycle


def rates(batches: int, pct_start: float) -> list[float]:
    """The learning rate of each batch, and the one after the last batch."""
    return [one_cycle(batch, batches, 0.01 / 25, 0.01, 0.01 / 25e4, pct_start)
            for batch in range(batches + 1)]


@pytest.mark.parametrize("start, end", [(0.1, 0.7), (0.95, 0.85), (1e-7, 10.0), (3e-3, 4e-8)])
@pytest.mark.parametrize("function", [linear, cosine])
def test_both_ends_are_reached_exactly(function, start, end):
    assert (function(start, end, 0), function(start, end, 1)) == (start, end)


def test_exponential_gives_the_rates_of_the_learning_rate_finder():
    # 100 steps from 1e-7 towards 10, which is never used
    found = exponential(1e-7, 10, torch.tensor([0.1, 0.99]))
    assert found.tolist() == pytest.approx([6.31e-7, 8.3176], rel=1e-3)


def test_of_40_batches_the_peak_is_number_12_and_the_last_rate_is_not_yet_the_end():
    values = rates(40, 0.3)
    assert values.index(max(values)) == 12 and values[12] == 0.01
    # 4e-8 + (.01 - 4e-8) / 2 (1 + cos(27/28 pi)) = .00003147
    assert values[39:] == pytest.approx([3.147e-5, 4e-8], abs=1e-8)


@pytest.mark.parametrize("pct_start", [0, 0.001, 0.3, 0.8, 0.9, 0.999, 1])
@pytest.mark.parametrize("batches", [1, 2, 3, 10, 37, 50])
def test_up_and_down_are_each_half_a_cosine_for_every_length_and_share(batches, pct_start):
    up = max(1, int(batches * pct_start))
    for batch, rate in enumerate(rates(batches, pct_start)):
        low, way = ((0.01 / 25, batch / up) if batch <= up else
                    (0.01 / 25e4, 1 - (batch - up) / (batches - int(batches * pct_start))))
        assert rate == pytest.approx(low + (0.01 - low) * (1 - cos(pi * way)) / 2)
        assert 4e-8 * 0.999999 <= rate <= 0.01
