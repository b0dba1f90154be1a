from math import cos, pi
import re

import pytest

from minifast.schedules import cosine, exponential, linear, one_cycle, one_cycle_of

# fast.ai v1, 10 batches, pct_start .3, highest rate .01, first .01/25, last .01/25e4
TEN_RATES = [.0004, .0028, .0076, .01, .00950485, .00811746, .00611262, .00388742, .00188258,
             .000495194]


def rates(batches: int, pct_start: float) -> list[float]:
    """The learning rate of each batch, and the one after the last batch."""
    return [one_cycle(batch, batches, 0.01 / 25, 0.01, 0.01 / 25e4, pct_start)
            for batch in range(batches + 1)]


def test_linear_goes_in_equal_steps():
    assert [linear(2, 6, pct) for pct in (0, 0.25, 0.5, 0.75, 1)] == [2, 3, 4, 5, 6]
    assert linear(6, 2, 0.25) == 5


@pytest.mark.parametrize("pair", [(0.1, 0.7), (0.95, 0.85), (1e-7, 10.0), (3e-3, 4e-8)])
def test_linear_reaches_both_ends_exactly(pair):
    assert linear(*pair, 0) == pair[0]
    assert linear(*pair, 1) == pair[1]


def test_cosine_is_slow_then_fast_then_slow():
    # (1 - cos(pi / 4)) / 2 = .1464466 and its mirror image
    values = [cosine(0, 1, pct) for pct in (0, 0.25, 0.5, 0.75, 1)]
    assert values == pytest.approx([0, 0.1464466, 0.5, 0.8535534, 1], abs=1e-7)


def test_cosine_downhill_from_any_start_to_any_end():
    # 3 + (5 - 3) / 2 (1 + cos(pi / 3)) = 3 + 1.5
    assert cosine(5, 3, 1 / 3) == pytest.approx(4.5)
    assert cosine(5, 3, 0) == pytest.approx(5)
    assert cosine(5, 3, 1) == pytest.approx(3)


def test_exponential_multiplies_by_the_same_factor_in_each_step():
    assert [exponential(1, 10000, pct) for pct in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(
        [1, 10, 100, 1000, 10000])
    assert exponential(8, 2, 0.5) == pytest.approx(4)


def test_exponential_gives_the_rates_of_the_learning_rate_finder():
    # 100 steps from 1e-7 towards 10, which is never used
    assert exponential(1e-7, 10, 0.1) == pytest.approx(6.31e-7, rel=1e-3)
    assert exponential(1e-7, 10, 0.99) == pytest.approx(8.3176, abs=1e-4)


def test_one_cycle_gives_the_rates_of_version_1():
    assert rates(10, 0.3)[:10] == pytest.approx(TEN_RATES, rel=1e-5)


def test_three_tenths_of_the_batches_lie_before_the_peak_unless_told_otherwise():
    values = [one_cycle(batch, 10, 0.01 / 25, 0.01, 0.01 / 25e4) for batch in range(10)]
    assert values == pytest.approx(TEN_RATES, rel=1e-5)
    assert one_cycle(39, 100, 0, 1, 0) < one_cycle(30, 100, 0, 1, 0) == 1


def test_the_end_is_the_value_after_the_last_batch():
    assert rates(10, 0.3)[10] == pytest.approx(4e-8, rel=1e-6)
    assert rates(10, 0.3)[9] > 1e-4


def test_momentum_goes_through_the_same_clock_upside_down():
    # up:   .85 + .05 (1 + cos(pi t / 3)),       t = 0..3:   .95  .925  .875  .85
    # down: .85 + .05 (1 - cos(pi (t - 3) / 7)), at the half (6.5) .90, after the last batch .95
    momenta = [one_cycle(batch, 10, 0.95, 0.85, 0.95, 0.3) for batch in range(11)]
    assert momenta[:4] == pytest.approx([0.95, 0.925, 0.875, 0.85])
    assert momenta[6] + momenta[7] == pytest.approx(2 * 0.90)
    assert momenta[10] == pytest.approx(0.95)


def test_of_40_batches_the_peak_is_number_12_and_the_last_rate_is_not_yet_the_end():
    values = rates(40, 0.3)[:40]
    assert values.index(max(values)) == 12
    # 4e-8 + (.01 - 4e-8) / 2 (1 + cos(27/28 pi)) = .00003147
    assert values[-1] == pytest.approx(3.147e-5, abs=1e-8)


def test_the_share_before_the_peak_is_rounded_down():
    # int(10 * .39) = 3, so up = 3 and down = 7, as for .3
    assert rates(10, 0.39) == rates(10, 0.3)


def test_with_pct_start_0_the_second_batch_is_the_peak():
    # up = 1, down = 4: batch 0 is the start; then (t - 1) / 4 of the way down, which is
    # 1/2 (1 + cos(pi / 4)) = .8535534 and so on
    values = [one_cycle(batch, 4, 0.1, 1, 0, pct_start=0) for batch in range(5)]
    assert values == pytest.approx([0.1, 1, 0.8535534, 0.5, 0.1464466])


def test_with_pct_start_1_the_value_climbs_to_the_peak_until_the_end():
    values = [one_cycle(batch, 4, 0, 1, 0, pct_start=1) for batch in range(5)]
    assert values == pytest.approx([0, 0.1464466, 0.5, 0.8535534, 1])


@pytest.mark.parametrize("pct_start", [0, 0.001, 0.3, 0.8, 0.9, 0.999, 1])
@pytest.mark.parametrize("batches", [1, 2, 3, 10, 37])
def test_every_batch_of_every_training_has_a_rate_between_the_lowest_and_the_peak(batches,
                                                                                  pct_start):
    for rate in rates(batches, pct_start):
        assert 0.01 / 25e4 * 0.999999 <= rate <= 0.01


@pytest.mark.parametrize("pct_start", [0.3, 0.8, 0.9])
def test_up_and_down_are_each_half_a_cosine(pct_start):
    batches, up = 50, round(50 * pct_start)
    for batch, rate in enumerate(rates(batches, pct_start)):
        low, way = (0.01 / 25, batch / up) if batch <= up else (
            0.01 / 25e4, 1 - (batch - up) / (batches - up))
        assert rate == pytest.approx(low + (0.01 - low) * (1 - cos(pi * way)) / 2)


@pytest.mark.parametrize("pct_start", [-0.1, 1.1, 30])
def test_a_share_outside_0_to_1_is_refused(pct_start):
    with pytest.raises(ValueError, match=rf"pct_start.*{re.escape(str(pct_start))}"):
        one_cycle(0, 10, 0, 1, 0, pct_start)


def test_the_policy_of_a_fit_has_a_rate_for_each_group_and_the_momentum():
    schedule = one_cycle_of([0.01, 0.1], 10, 0.3)
    both = [schedule(batch) for batch in range(10)]
    assert [rates[0] for rates, _ in both] == pytest.approx(TEN_RATES, rel=1e-5)
    assert [rates[1] for rates, _ in both] == pytest.approx([10 * r for r in TEN_RATES], rel=1e-5)
    # the numbers of momentum: see above; 0 of 7 batches down at 3, 6 of 7 at 9
    assert [momentum for _, momentum in both[:4]] == pytest.approx([0.95, 0.925, 0.875, 0.85])
    assert both[9][1] == pytest.approx(0.85 + 0.05 * (1 - cos(pi * 6 / 7)))


def test_the_share_of_a_policy_moves_its_peak():
    schedule = one_cycle_of([1.0], 10, 0.9)
    assert schedule(9) == ([1.0], pytest.approx(0.85))
    assert schedule(10)[0] == pytest.approx([4e-6]) and schedule(10)[1] == pytest.approx(0.95)
