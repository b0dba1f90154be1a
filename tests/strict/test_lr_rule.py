"""Curves of known answer: each is a loss as a function of u, the power of ten of the rate."""

from collections.abc import Callable

import numpy
import pytest

from minifast.lr_rule import (Suggestion, elbow, falling, flat_start, local_lines, no_answer,
                              rising, rounded, suggestion, until_blow_up, way_down)

Curve = Callable[[numpy.ndarray], numpy.ndarray]


def falls_at(centre: float) -> Curve:
    """From .9 down to .4, steepest at the centre, and up again from 10^-.5 on."""
    return lambda u: .9 - .5 / (1 + numpy.exp((centre - u) / .3)) + 10 * (u + .5).clip(0) ** 2


def rises_from(bend: float, level: float = .09, slope: float = .0235) -> Curve:
    """Flat, then a straight rise. The preset is the notebook's: .09 up to .167 at 0.2, so
    (.167 - .09) / (log10(.2) + 4) = .0235 a decade from 1e-4 on."""
    return lambda u: level + slope * (u - bend).clip(0)


def shoots_up_from(bend: float) -> Curve:
    """Flat, then a straight line in the rate itself: it doubles at twice the rate of the bend."""
    return lambda u: .1 * numpy.maximum(1, 10 ** (u - bend))


def asked(curve: Curve, noise: float = 0, seed: int = 0, num_it: int = 100, first: float = -7,
          **knobs) -> Suggestion:
    """What is suggested for a curve from 10^first to 10; noise is a share of each loss."""
    u = first + (1 - first) * numpy.arange(num_it) / num_it
    factors = 1 + noise * numpy.random.default_rng(seed).standard_normal(num_it)
    return suggestion(list(10 ** u), list(curve(u) * factors), **knobs)


# A falling curve

@pytest.mark.parametrize("centre, wanted", [(-2, 1e-2), (-3, 1e-3), (-1.3, 5e-2)])
def test_a_falling_curve_gives_the_rate_of_its_steepest_descent(centre, wanted):
    assert asked(falls_at(centre)).lr == wanted


@pytest.mark.parametrize("num_it, noise, off", [(100, .05, 2.5), (50, .05, 2.5), (100, .1, 5)])
def test_noise_moves_the_steepest_descent_by_a_few_steps_at_most(num_it, noise, off):
    rates = [asked(falls_at(-2), noise, seed, num_it).lr for seed in range(20)]
    assert 1e-2 / off <= min(rates) <= 1e-2 <= max(rates) <= 1e-2 * off
    assert numpy.median(rates) == 1e-2


def test_a_tenth_of_the_minimum_is_told_beside_it():
    # up from 10^-.5 on, so the mean over half a decade to both sides is lowest at about 10^-1
    told = asked(falls_at(-2))
    assert told.marks == {"steepest": 0.01, "minimum / 10": 0.01}
    assert "steepest at 0.01" in told.reason and "a tenth of the minimum: 0.01" in told.reason


@pytest.mark.parametrize("drift", [0, .005])
def test_the_steepest_descent_is_not_looked_for_before_the_fall(drift):
    def curve(u):                   # after three spikes it falls steeply, and all the while a bit
        spikes = 9 * sum(abs(u - at) < .01 for at in (-5.24, -5.08, -4.92))
        return falls_at(-2)(u) + spikes - drift * (u + 7)
    assert asked(curve).lr == 1e-2


def test_the_steepest_descent_is_not_looked_for_in_the_blow_up():
    assert asked(lambda u: falls_at(-2)(u) + 50 * (u > .3) - 45 * (u > .6)).lr == 1e-2


def steepest(means: list[float], slopes: list[float], level: float) -> int:
    return way_down(numpy.array(means), numpy.array(slopes), level, first=0)[0]


def test_steepest_is_the_lowest_slope_on_the_way_down():
    # a tenth of the way from 3 down to 2 is 2.9: the way begins at number 2, and ends at number 4
    means = [3, 2.8, 2.905, 2.5, 2, 2.5]
    assert steepest(means, [-9, -8, -1, -2, 0, -9], level=3) == 3
    assert steepest(means, [-9, -8, -3, -2, 0, -9], level=3) == 2
    assert steepest(means, [-9, -8, -3, -2, -4, -9], level=3) == 4
    # 9 is a tenth of the way from 10 down to 0, not less: the way begins before it
    assert steepest([10, 9, 5, 0], [-5, -1, -2, -1], level=10) == 0
    # 2.895 is more than a tenth of the way down
    assert steepest([3, 2.8, 2.895, 2.5, 2, 2.5], [-9, -8, -1, -2, 0, -9], level=3) == 0
    # nothing before the lowest is high: the way begins at the first point
    assert steepest(means[1:], [-5, -1, -2, 0, -9], level=4) == 0
    # the last high point, not the first
    assert steepest([1, 1, 1, 0], [-9, -9, -1, -2], level=1) == 3


def test_the_lowest_point_is_not_looked_for_before_the_first_that_can_be_it():
    means, slopes = numpy.array([1, 0, 3, 2, 4]), numpy.array([-9, -8, -1, -2, -3])
    assert way_down(means, slopes, level=5, first=0) == (0, 1)
    assert way_down(means, slopes, level=5, first=2) == (0, 3)
    assert way_down(means, slopes, level=3, first=2) == (3, 3)          # from number 2 on


def test_a_curve_that_still_falls_at_its_end_gives_no_number():
    told = asked(lambda u: 1 - .0625 * (u + 7) ** 2 / 8)        # ever steeper
    assert told.lr is None and "higher end_lr" in told.reason
    # down at 10^-.3, so lowest (half a decade on) at 10^.2; the end is at 10^.92
    assert asked(lambda u: 1 - .5 * (u > -.3)).lr is not None


def test_low_losses_at_the_start_are_no_fall():
    assert asked(lambda u: 1 - .5 * (u < -6.5)).lr is None


def test_an_earlier_rate_does_not_matter_where_the_curve_still_falls():
    assert asked(falls_at(-2), earlier_lr=1e-2).lr == 1e-2


def test_falling_says_which_rates_it_found():
    told = falling(0.0191, 0.0575)
    assert (told.lr, told.marks) == (0.02, {"steepest": 0.02, "minimum / 10": 0.005})
    assert told.reason == "the loss falls, steepest at 0.02; a tenth of the minimum: 0.005"
    # between .005 and .01 the ratio changes sides at their geometric mean, .00707
    assert falling(0.02, 0.072).marks["minimum / 10"] == 0.01
    assert falling(0.02, 0.069).marks["minimum / 10"] == 0.005


# A curve that is flat and then rises

def test_the_notebooks_curve_after_unfreezing_gives_the_notebooks_slice():
    told = asked(rises_from(-4), earlier_lr=1e-2)
    assert told.lr == slice(1e-5, 2e-3)
    assert told.marks == {"elbow": 1e-4, "elbow / 10": 1e-5}
    assert "rises from 0.0001 on" in told.reason and "is 1e-05" in told.reason
    assert "divided, is 0.002" in told.reason


def test_a_little_noise_does_not_change_that():
    slices = [asked(rises_from(-4), .01, seed, earlier_lr=1e-2).lr for seed in range(20)]
    assert slices == [slice(1e-5, 2e-3)] * 20


def test_the_right_end_is_the_earlier_rate_divided_by_what_the_caller_says():
    assert asked(rises_from(-4), earlier_lr=1e-2, div=10).lr == slice(1e-5, 1e-3)
    assert asked(rises_from(-4), earlier_lr=slice(1e-2), div=10).lr == slice(1e-5, 1e-3)
    assert asked(rises_from(-4), earlier_lr=slice(1e-4, 1e-2), div=1).lr == slice(1e-5, 1e-2)


def test_without_an_earlier_rate_an_elbow_gives_a_tenth_of_itself():
    assert asked(rises_from(-4)).lr == 1e-5
    assert asked(shoots_up_from(-1)).lr == 1e-2


def test_a_slice_never_runs_downwards():
    # a tenth of the elbow is 1e-2: more than the earlier 1e-2 / 5
    assert asked(shoots_up_from(-1), earlier_lr=1e-2).lr == 2e-3


@pytest.mark.parametrize("curve, wanted", [
    (rises_from(-4), 1e-4), (rises_from(-2, .45, .3), 1e-2), (shoots_up_from(-1), 1e-1)])
@pytest.mark.parametrize("num_it, noise, off", [(100, .05, 2), (50, .05, 2), (100, .1, 5)])
def test_noise_moves_the_elbow_by_a_few_steps_at_most(curve, wanted, num_it, noise, off):
    told = [asked(curve, noise, seed, num_it).marks for seed in range(20)]
    elbows = [marks["elbow"] for marks in told if marks]
    assert len(elbows) >= (20 if noise < .1 else 17)                    # else it is too noisy
    assert wanted / off <= min(elbows) <= max(elbows) <= wanted * off
    assert wanted / 2 <= numpy.median(elbows) <= wanted * 2


def test_a_small_dip_before_the_rise_is_no_fall():
    # the notebook's: .09, .087 near 1e-4, then up
    assert "elbow" in asked(lambda u: rises_from(-4)(u) - .003 * (abs(u + 4) < .5)).marks


def test_a_few_bad_losses_at_the_start_do_not_hide_the_rise():
    def curve(u):
        return rises_from(-4, slope=.03)(u) * numpy.where(numpy.arange(len(u)) % 12 == 5, 3, 1)
    assert "elbow" in asked(curve, .05).marks


def test_rising_joins_the_elbow_and_the_earlier_rate():
    assert rising(9.12e-5, None).lr == 1e-5
    assert rising(9.12e-5, 2e-3).lr == slice(1e-5, 2e-3)
    assert rising(0.072, None).lr == 1e-2 and rising(0.069, None).lr == 5e-3
    assert rising(0.2, 2e-3).lr == 2e-3
    assert rising(0.02, 2e-3).lr == 2e-3                         # equal ends are no slice either
    assert rising(9.12e-5, 3e-3).lr == slice(1e-5, 3e-3)         # what is not measured is exact
    assert rising(0.2, 2e-3).marks == {"elbow": 0.2, "elbow / 10": 0.02}
    assert "rises from 0.2 on: ten times back is 0.02; the earlier" in rising(0.2, 2e-3).reason
    assert rising(0.2, 2e-3).reason.endswith("divided, is 0.002 and enough for all")
    assert rising(9.12e-5, 2e-3).reason.endswith("divided, is 0.002")
    assert "earlier" not in rising(0.2, None).reason


# A curve that says nothing

@pytest.mark.parametrize("noise", [0, .02, .05, .1, .2])
def test_a_flat_curve_gives_no_number_however_noisy(noise):
    for seed in range(20):
        told = asked(lambda u: 0.45 + 0 * u, noise, seed)
        assert told.lr is None and not told.marks
        assert "no clear answer" in told.reason
        assert "higher end_lr" in told.reason or noise >= .1 and "too noisy" in told.reason


def test_a_curve_that_rises_from_the_start_gives_no_number():
    told = asked(lambda u: 0.45 + 0.1 * (u + 7))
    assert told.lr is None and "lower start_lr" in told.reason


@pytest.mark.parametrize("hard, elbow_from, elbow_to", [(2.75, .1, 5), (2.85, 1e-4, 1e-3)])
def test_three_hard_batches_are_a_blow_up_only_beyond_six_times_the_noise(hard, elbow_from,
                                                                          elbow_to):
    # losses go .7, 1, 1.3, .7, ...: the level is 1, the noise .3, and 1 + 6 (.3) is 2.8
    def curve(u):
        i = numpy.arange(len(u))                        # three hard ones at about 10^-3.7
        return numpy.where(abs(i - 41) < 2, hard, .7 + .3 * (i % 3)) + 9 * (u > .3)
    assert elbow_from <= asked(curve).marks["elbow"] <= elbow_to


def test_few_points_give_no_number():
    def steps_down(u):
        return 1 - .5 * (u > -2.1)
    for few in (1, 3, 39):
        told = asked(steps_down, num_it=few)
        assert told.lr is None and f"{few} of {few} batches count" in told.reason
    assert asked(steps_down, num_it=40).lr is not None


def test_rates_that_are_too_near_to_each_other_give_no_number():
    for first, answers in ((-.9, False), (-1.1, True)):         # to almost 10^1: 1.9 or 2.1 decades
        told = asked(lambda u: numpy.where(u > -.2, .5, 1.), num_it=1000, first=first)
        assert (told.lr is not None) == answers


def test_two_decades_are_enough():
    rates = list(10 ** numpy.linspace(-3, -1, 41))
    rates[0], rates[-1] = 1e-3, 1e-1
    curve = [.1] * 20 + [.1 + .005 * i for i in range(21)]
    assert suggestion(rates, curve).lr is not None
    assert "41 of 41 batches count" in suggestion(rates[:-1] + [.0999], curve).reason


def test_a_curve_must_go_on_beyond_the_quarter_that_tells_the_level():
    for flat, counted in ((48, 50), (49, 51)):      # the first two of the blow-up are kept
        told = asked(lambda u: numpy.where(numpy.arange(200) < flat, 1, 9), num_it=200, first=-9)
        assert (f"{counted} of 200 batches count" in told.reason) == (counted == 50)


def steps(*pieces: tuple[int, float]) -> Suggestion:
    """What is suggested for so many losses of one value, then so many of another, and so on, at
    rates that are .06 decades apart."""
    losses = [loss for count, loss in pieces for _ in range(count)]
    return suggestion([10 ** (.06 * i - 6) for i in range(len(losses))], losses)


def test_what_falls_by_exactly_a_tenth_is_flat():
    assert "neither falls nor rises" in steps((40, 10.), (40, 9.), (40, 10.)).reason
    assert "the loss falls" in steps((40, 10.), (40, 8.99), (40, 10.)).reason


def test_what_falls_by_exactly_four_times_the_noise_is_too_noisy():
    wild = [(1, 9.5), (1, 10.5)] * 20                  # 10, and .5 away from it
    assert "too noisy" in steps(*wild, (40, 8.), (40, 10.)).reason
    assert "the loss falls" in steps(*wild, (40, 7.99), (40, 10.)).reason


def test_the_minimum_must_be_half_a_decade_from_the_end():
    # Means over 8 points on each side, .48 decades, have the one dip in them up to 8 points after
    # it; since all else still falls a little, the last of these is the lowest.
    for dip, reason in ((102, "the loss falls"), (103, "it still falls at its end")):
        losses = [10.] * 40 + [9 - i / 1e6 for i in range(80)]
        losses[dip] = -20.
        assert reason in steps(*((1, loss) for loss in losses)).reason        # 110 of 0..119: .54


def test_what_rises_by_exactly_a_tenth_is_not_clear():
    assert "neither falls nor rises" in steps((80, 10.), (40, 11.)).reason
    assert "the loss is flat, and rises" in steps((80, 10.), (40, 11.01)).reason


def test_an_elbow_at_the_end_of_the_first_quarter_will_do():
    # 80 points: the quarter is 0..19
    for bend, clear in ((20, True), (19, False)):
        losses = [1 + .01 * max(0, i - bend) for i in range(80)]
        told = suggestion([10 ** (i / 10 - 7) for i in range(80)], losses)
        assert (told.lr is not None) == clear


def test_a_curve_that_blows_up_at_once_gives_no_number():
    # .08 decades a point; the first two above twice the level belong to the curve
    def steps_up_at(t):
        return lambda u: numpy.where(u < -7 + .08 * (t - .5), 1.0, 5.0)
    told = asked(steps_up_at(37))
    assert told.lr is None and "39 of 100 batches count" in told.reason
    assert asked(steps_up_at(38)).marks["elbow"] == 1e-4        # 10 ^ (.08 * 37 - 7)
    told = asked(lambda u: numpy.where(u < -7 + .04 * 37.5, 1.0, 5.0), num_it=200)
    assert told.lr is None and "40 of 200" in told.reason       # in the first quarter


def test_losses_that_are_not_finite_end_the_curve_and_nothing_else():
    whole = asked(rises_from(-4), earlier_lr=1e-2)
    assert asked(lambda u: numpy.where(u > .5, numpy.nan, rises_from(-4)(u)),
                 earlier_lr=1e-2) == whole


@pytest.mark.parametrize("wrong", [{"earlier_lr": 0}, {"earlier_lr": -1e-2}, {"div": 0.5}])
def test_impossible_earlier_rates_and_divisors_are_refused(wrong):
    with pytest.raises(ValueError, match="above 0|div must be at least 1"):
        asked(rises_from(-4), **wrong)


def test_no_answer_says_why():
    assert no_answer("it rains") == Suggestion(None, "no clear answer: it rains", {})


# What is clear

def test_one_bad_loss_at_the_end_is_no_rise():
    told = asked(lambda u: 0.45 + 3.0 * (u > .9))
    assert told.lr is None and "neither falls nor rises" in told.reason


def test_two_bad_losses_at_the_end_are_a_rise():
    assert asked(lambda u: 0.45 + 3.0 * (u > .8)).marks["elbow"] == 5.0
    assert "elbow" in asked(lambda u: 1 + .15 * (u > .8)).marks


def test_a_blow_up_is_a_rise_however_noisy_the_losses():
    def curve(u):                           # .5, 1, 1.5, .5, ...: the noise is half of the level
        return .5 + .5 * (numpy.arange(len(u)) % 3) + 9 * (u > .5)
    assert "elbow" in asked(curve).marks
    assert asked(lambda u: curve(u).clip(max=2)).lr is None


def test_of_the_last_three_losses_the_middle_one_counts():
    # 1.19, 1.19 and 1 or less: the third from the last does not matter
    assert "elbow" in asked(lambda u: 1 + .19 * (u > .8) - .3 * (abs(u - .76) < .01)).marks


def test_the_level_is_the_median_and_the_noise_the_median_distance():
    assert flat_start(numpy.array([1, 2, 4, 8, 100])) == (4, 3)     # distances 3, 2, 0, 4, 96
    # distances from 8: 7, 6, 0, and two that are huge
    assert flat_start(numpy.array([numpy.nan, 1, 2, 8, numpy.inf])) == (8, 7)


def test_the_level_is_that_of_the_first_quarter():
    def curve(early):               # 1.3, and from that point on 1; the quarter is 25 points
        return lambda u: 1 + .3 * (numpy.arange(len(u)) < early)
    assert asked(curve(12)).lr is None
    assert "steepest" in asked(curve(13)).marks


def test_an_elbow_cannot_be_in_the_quarter_that_tells_the_level():
    assert "first rates" in asked(rises_from(-5.1, 1, .2)).reason       # the quarter ends at 10^-5
    assert asked(rises_from(-4.9, 1, .2)).lr == 1e-6


@pytest.mark.parametrize("height, clear", [(.098, False), (.102, True)])
def test_without_noise_a_change_of_more_than_a_tenth_is_clear(height, clear):
    step = height / 2.04                                        # decades to the last but one, .84
    assert ("elbow" in asked(rises_from(-1.2, 1, step)).marks) == clear
    assert ("steepest" in asked(lambda u: 1 - height * ((u > -3) & (u < -1))).marks) == clear


def test_with_noise_a_fall_must_be_four_times_the_median_distance():
    def curve(height: float) -> Curve:                          # losses go .9, 1, 1.1, .9, ...
        return lambda u: .9 + .1 * (numpy.arange(len(u)) % 3) - height * ((u > -3) & (u < -1))
    for height in (.11, .38):
        told = asked(curve(height))
        assert told.lr is None and "too noisy" in told.reason and "bigger batch" in told.reason
    assert "steepest" in asked(curve(.42)).marks


def test_a_dip_within_the_noise_is_flat():
    def curve(depth: float) -> Curve:                           # .6, 1, 1.4: the noise is .4
        return lambda u: (.6 + .4 * (numpy.arange(len(u)) % 3) + 9 * (u > .5)
                          - depth * ((u > -3) & (u < -1)))
    assert "elbow" in asked(curve(.3)).marks
    assert "too noisy" in asked(curve(.48)).reason


def test_with_noise_a_rise_must_be_four_times_the_median_distance():
    def curve(height: float) -> Curve:                          # the noise is .1, the last loss .9
        return lambda u: .9 + .1 * (numpy.arange(len(u)) % 3) + height * (u > .7)
    assert asked(curve(.38)).lr is None                         # the median of the last three: 1.38
    assert "elbow" in asked(curve(.43)).marks


# The parts

def test_rounded_to_one_two_or_five():
    assert [rounded(x) for x in (0.0123, 0.0191, 0.03, 0.034, 0.068, 0.075, 0.1)] == [
        0.01, 0.02, 0.02, 0.05, 0.05, 0.1, 0.1]
    assert rounded(9.12e-5) == 1e-4 and rounded(8.3176) == 10.0 and rounded(1) == 1


def test_a_blow_up_begins_with_three_losses_in_a_row():
    losses = numpy.array([1, 5, 5, 1, 3, 3, 9, 1])
    assert until_blow_up(losses, 2).tolist() == [1, 2, 2, 1, 2, 2]
    assert until_blow_up(losses, 9).tolist() == losses.tolist()
    assert until_blow_up(numpy.array([2, 2, 2, 2, 1]), 2).tolist() == [2, 2, 2, 2, 1]   # not above
    nan, inf = numpy.nan, numpy.inf
    assert until_blow_up(numpy.array([1, nan, 1, nan, inf, nan, nan]), 2).tolist() == [
        1, 2, 1, 2, 2]


def test_local_lines_of_a_straight_line_are_that_line():
    x = numpy.arange(12) / 4
    means, slopes = local_lines(x, 3 * x + 1)
    assert slopes == pytest.approx(numpy.full(12, 3))
    assert means[2:-2] == pytest.approx((3 * x + 1)[2:-2])
    assert means[0] == pytest.approx((1 + 1.75 + 2.5) / 3)      # its own and two more, to the right


def test_local_lines_by_hand():
    means, slopes = local_lines(numpy.array([0., 1, 2, 3]), numpy.array([0., 1, 4, 9]))
    assert means == pytest.approx([.5, 5 / 3, 14 / 3, 6.5])     # one on each side: 1 apart
    assert slopes == pytest.approx([1, 2, 4, 5])
    shifted, _ = local_lines(numpy.array([5., 6, 7, 8]), numpy.array([0., 1, 4, 9]))
    assert shifted.tolist() == means.tolist()                   # how far apart they are counts


def test_the_elbow_is_where_the_line_bends():
    x = numpy.arange(10.)
    for bend in (0, 4, 8):
        assert elbow(x, 2 + 3 * (x - bend).clip(0)) == bend
