import numpy
import pytest
import torch

from minifast import thresholds
from minifast.thresholds import (CANDIDATES, Tuned, best_threshold, check_tags, halves,
                                 middle_of_best, one_per_tag, tag_thresholds, tuned)

# Two tags, yes and no in all pictures. Above .31 and below .62 the first and the third are right.
# At .2 they have one hit of two said, F2 = 5 / (4 + 2) = 5/6; the others are right.
LIKELY = torch.tensor([[.62, .31], [.25, .1], [.74, .22], [.9, .05]])
TAGS = torch.tensor([[1., 0]] * 4)


def some_pictures(seed: int, n: int = 40, c: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers that are better than chance, each tag's with a bias of its own; with two digits, so
    that some are candidates."""
    rng = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, c, generator=rng) < 0.4).float()
    logits = torch.randn(n, c, generator=rng) + 2 * targets + torch.linspace(-3, 1, c)
    return (logits.sigmoid() * 100).round() / 100, targets


def f2(likely: torch.Tensor, tags: torch.Tensor, thresh) -> float:
    """Kaggle's score by counts: of a picture 5 hits / (4 true + said), and the mean of those."""
    said, true = likely.numpy() > numpy.asarray(thresh, dtype=numpy.float32), tags.numpy() > 0
    hits = (said & true).sum(axis=1)
    return numpy.mean(5 * hits / numpy.maximum(4 * true.sum(axis=1) + said.sum(axis=1), 1))


def middle(values: list[float]) -> int:
    equal = [i for i, value in enumerate(values) if value > max(values) - 1e-8]
    return equal[(len(equal) - 1) // 2]


def best(likely: torch.Tensor, tags: torch.Tensor) -> float:
    """The best threshold by brute force."""
    values = [f2(likely, tags, percent / 100) for percent in range(1, 100)]
    return (middle(values) + 1) / 100


def ascent(likely: torch.Tensor, tags: torch.Tensor, start: float) -> tuple[list[float], int]:
    """Coordinate ascent by brute force: the thresholds, and how many rounds there were."""
    found, before, rounds = [start] * 4, None, 0
    while found != before:
        before, rounds = list(found), rounds + 1
        for tag in range(4):
            tried = [found[:tag] + [percent / 100] + found[tag + 1:] for percent in range(1, 100)]
            values = [f2(likely, tags, thresh) for thresh in tried]
            if max(values) > f2(likely, tags, found) + 1e-8:
                found = tried[middle(values)]
    return found, rounds


# The whole of it

@pytest.fixture
def known_halves(monkeypatch):
    """Pictures 0 and 2 choose, 1 and 3 judge."""
    monkeypatch.setattr(thresholds, "halves", lambda n, seed: (
        (torch.tensor([0, 2]), torch.tensor([1, 3])) if (n, seed) == (4, 42) else None))


def test_thresholds_are_chosen_on_one_half_and_judged_on_the_other(known_halves):
    # Chosen is the middle of .31 to .61. On the other half the second picture then says nothing.
    found = tuned(LIKELY, TAGS)
    assert found.given.tolist() == pytest.approx([.2, .2])
    assert found.one == .46 and found.per_tag.tolist() == pytest.approx([.46, .46])
    assert found.f2["given"] == pytest.approx((5 / 6, 1))
    assert found.f2["one for all"] == found.f2["one per tag"] == pytest.approx((1, 1 / 2))


def test_the_gain_is_said_as_it_is_where_it_is_negative_too(known_halves):
    assert [line.split() for line in str(tuned(LIKELY, TAGS)).splitlines()[1:]] == [
        ["given", "0.20", "0.8333", "1.0000", "+0.0000"],
        ["one", "for", "all", "0.46", "1.0000", "0.5000", "-0.5000"],
        ["one", "per", "tag", "0.46", "1.0000", "0.5000", "-0.5000"]]


def test_the_thresholds_of_tags_are_shown_as_lowest_to_highest():
    found = Tuned(torch.tensor([.5, .5]), .3, torch.tensor([.4, .1]),
                  {"given": (.5, .6), "one for all": (.7, .65), "one per tag": (.8, .75)})
    first, *_, last = str(found).splitlines()
    assert first == "thresholds                 F2, tuning half  F2, other half  gain there"
    assert last == "one per tag  0.10 to 0.40           0.8000          0.7500     +0.1500"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_chosen_does_not_depend_on_the_other_half(seed):
    likely, tags = some_pictures(seed)
    found, other = tuned(likely, tags, seed=seed), halves(40, seed)[1]
    tags[other] = 1 - tags[other]
    again = tuned(likely, tags, seed=seed)
    assert again.one == found.one and torch.equal(again.per_tag, found.per_tag)
    for name in found.f2:
        assert again.f2[name][0] == found.f2[name][0] and again.f2[name][1] != found.f2[name][1]


@pytest.mark.parametrize("seed", range(3))
def test_brute_force_finds_the_same_thresholds_and_the_same_f2_of_both_halves(seed):
    likely, tags = some_pictures(seed)
    found = tuned(likely, tags, thresh=torch.tensor([.1, .2, .3, .4]), seed=seed)
    half = halves(40, seed)[0]
    assert found.one == best(likely[half], tags[half])
    assert found.per_tag.tolist() == pytest.approx(ascent(likely[half], tags[half], found.one)[0])
    for thresh, values in zip((found.given, found.one, found.per_tag), found.f2.values()):
        assert values == pytest.approx([f2(likely[half], tags[half], thresh)
                                        for half in halves(40, seed)], abs=1e-7)
    assert found.f2["one per tag"][0] > found.f2["one for all"][0] - 1e-8
    assert found.given.tolist() == pytest.approx([.1, .2, .3, .4])


def test_logits_are_refused(known_halves):
    # sigmoid twice, or not at all
    with pytest.raises(ValueError, match=r"probabilities .*0\.\.1, got -2 to 3.*sigmoid"):
        tuned(torch.tensor([[-2., 3], [0, 1]]), TAGS[:2])


# Halves

@pytest.mark.parametrize("n, sizes", [(2, (1, 1)), (7, (3, 4)), (100, (50, 50))])
def test_each_picture_is_in_one_of_the_halves(n, sizes):
    tuning, other = halves(n, 0)
    assert (len(tuning), len(other)) == sizes
    assert sorted(tuning.tolist() + other.tolist()) == list(range(n))


def test_halves_are_drawn_by_the_seed_alone():
    before = torch.get_rng_state()
    tuning, other = halves(100, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(halves(100, 1)[0], tuning) and not torch.equal(halves(100, 2)[0], tuning)
    assert 10 < sum(i < 50 for i in tuning.tolist()) < 40           # neither first nor last ones


def test_a_single_picture_has_no_halves():
    with pytest.raises(ValueError, match="number of pictures must be at least 2, got 1"):
        halves(1, 0)


# The search

def test_the_best_threshold_is_the_middle_of_those_that_are_equally_good():
    # .31 is not above .31: so .31 to .61 are without a fault, 31 of them, and the 16th is .46
    assert best_threshold(LIKELY[::2], TAGS[::2]) == .46
    # .30 to .61, 32 of them: the 16th
    assert best_threshold(torch.tensor([[.62, .3], [.74, .22]]), TAGS[::2]) == .45


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_that_of_brute_force(seed):
    likely, tags = some_pictures(seed)
    assert best_threshold(likely, tags) == best(likely, tags)


def test_the_candidates_are_the_whole_percents():
    assert CANDIDATES == [percent / 100 for percent in range(1, 100)]


def test_each_tag_has_its_threshold():
    # The first tag is without a fault from .5 to .69, 20 of them: the 10th is .59.
    # The second from .1 to .19: .14. Where the start is among the best, a tag stays there.
    likely = torch.tensor([[.8, .3], [.7, .1], [.5, .2], [.4, .25]])
    tags = torch.tensor([[1., 1], [1, 0], [0, 1], [0, 1]])
    assert tag_thresholds(likely, tags, 0.05).tolist() == pytest.approx([.59, .14])
    assert tag_thresholds(likely, tags, 0.6).tolist() == pytest.approx([.6, .14])
    assert tag_thresholds(likely, tags, 0.5).tolist() == pytest.approx([.5, .14])


@pytest.mark.parametrize("seed, start", [(0, .2), (1, .2), (2, .5), (3, .8)])
def test_the_thresholds_of_tags_are_those_of_brute_force(seed, start):
    likely, tags = some_pictures(seed)
    wanted, rounds = ascent(likely, tags, start)
    assert tag_thresholds(likely, tags, start).tolist() == pytest.approx(wanted)
    assert rounds > 1


def test_a_tag_that_is_never_true_and_never_said_keeps_the_start():
    likely, tags = some_pictures(0)
    likely[:, 1] = tags[:, 1] = 0
    assert tag_thresholds(likely, tags, .3)[1] == pytest.approx(.3)


def test_of_equals_but_for_rounding_the_middle_one_is_best():
    assert middle_of_best(torch.tensor([0, 1, 1, 1, .5], dtype=torch.float64)) == 2
    assert middle_of_best(torch.tensor([1, 1 - 1e-9, 1, 1 - 1e-9], dtype=torch.float64)) == 1
    assert middle_of_best(torch.tensor([1, 1, 1 + 1e-7], dtype=torch.float64)) == 2


# One threshold per tag

def test_a_number_is_the_threshold_of_all_tags():
    assert one_per_tag(.2, LIKELY).tolist() == pytest.approx([.2, .2])
    assert one_per_tag(torch.tensor([0., 1]), LIKELY).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_as_likely_as_the_threshold_is_not_above_it(dtype):
    likely = torch.tensor([[.2, .3]], dtype=dtype)
    assert not (likely > one_per_tag(torch.tensor([.2, .3], dtype=torch.float64), likely)).any()


@pytest.mark.parametrize("thresh, message", [
    (1.5, "thresh must be between 0 and 1, got 1.5"), (-.1, "thresh .*-0.1"),
    (float("nan"), "thresh .*nan"), (torch.tensor([.2, 2]), r"thresh .*2\.0"),
    (torch.tensor([.2, .2, .2]), r"thresh .* one per tag, which are 2; got .*\(3,\)"),
    (torch.tensor([[.2], [.2]]), r"thresh .*\(2, 1\)")])
def test_other_thresholds_are_refused(thresh, message):
    with pytest.raises(ValueError, match=message):
        one_per_tag(thresh, LIKELY)


# What is refused

@pytest.mark.parametrize("likely, tags, message", [
    (LIKELY, TAGS[:3], r"probabilities \(4, 2\), targets \(3, 2\)"),
    (LIKELY[0], TAGS[0], r"targets must be \(n, c\).*got \(2,\)"),
    (LIKELY[:1], TAGS[:1], r"at least 2 pictures.*got \(1, 2\)"),
    (LIKELY[:, :0], TAGS[:, :0], r"a tag, got \(4, 0\)"),
    (LIKELY, TAGS + 1, "targets must be 0 or 1, got 1.0, 2.0"),
    (TAGS, LIKELY, "targets must be 0 or 1, got 0.05.*swapped"),
    (LIKELY + .5, TAGS, r"probabilities must be in 0..1, got 0.55 to 1.4; .*logits.*sigmoid"),
    (LIKELY - .5, TAGS, r"probabilities .*got -0.45 to 0.4;"),
    (LIKELY * float("nan"), TAGS, "probabilities .*nan")])
def test_what_is_no_answer_and_truth_of_tags_is_refused(likely, tags, message):
    with pytest.raises(ValueError, match=message):
        check_tags(likely, tags)


def test_certain_answers_and_whole_numbers_as_targets_are_fine():
    check_tags(TAGS, TAGS)
    check_tags(TAGS[:2], TAGS[:2].long())
    check_tags(1 - TAGS, TAGS.bool())


def test_a_table_has_its_columns_two_spaces_apart():
    rows = [["tag", "pictures", "F2"], ["haze", 1234, .66666], ["a", 5, float("nan")]]
    assert thresholds.table(rows) == ("tag   pictures     F2\n"
                                      "haze     1,234  0.667\n"
                                      "a            5    n/a")
