import pytest
from torch import tensor, zeros

from minifast.tools import check


def test_tensors_of_different_shapes_are_named_with_their_shapes():
    check.same_shape("accuracy", logits=zeros(2, 3), targets=zeros(2, 3))
    with pytest.raises(ValueError, match=r"accuracy .*logits \(2, 3\), targets \(2,\)"):
        check.same_shape("accuracy", logits=zeros(2, 3), targets=zeros(2))


def test_each_value_must_lie_between_the_limits_or_at_one():
    for value in (0, 0.5, 1, tensor(0.5), tensor([0, 1])):
        check.between("pct", value, 0, 1)
    for value in (-0.01, 1.01, float("nan"), tensor([0.5, 1.5]), tensor([-1, 0])):
        with pytest.raises(ValueError, match="pct .*between 0 and 1, got "):
            check.between("pct", value, 0, 1)
    check.between("bs", 10 ** 9, 1)
    with pytest.raises(ValueError, match="bs .*at least 1, got 0"):
        check.between("bs", 0, 1)


def test_what_is_no_choice_is_refused_with_the_nearest_and_all_there_are():
    check.one_of("method", "pad", iter(["crop", "pad"]))
    for value, telling in (("padd", "'padd'; did you mean 'pad'.* crop, pad, 7$"),
                           ("xyz", "'xyz'; there are: crop, pad, 7$"), (8, "8; there are: ")):
        with pytest.raises(ValueError, match=f"method {telling}"):
            check.one_of("method", value, iter(["crop", "pad", 7]))


def test_a_missing_file_is_refused_with_the_remedy(tmp_path):
    check.exists("folder", tmp_path, "check the name")
    with pytest.raises(ValueError, match="CSV .*nowhere .*check the name"):
        check.exists("CSV", tmp_path / "nowhere", "check the name")


def test_some_shows_the_first_few_values_and_counts_the_rest():
    assert check.some(range(5)) == "0, 1, 2, 3, 4" and check.some([]) == ""
    assert check.some(range(8)) == "0, 1, 2, 3, 4 (+3 more)"
    assert check.some(iter("abc"), 2) == "a, b (+1 more)"
