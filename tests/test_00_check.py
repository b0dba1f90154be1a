from pathlib import Path

import pytest
import torch

from minifast import check


def test_tensors_of_one_shape_pass():
    check.same_shape("accuracy", logits=torch.zeros(2, 3), targets=torch.ones(2, 3))


def test_tensors_of_different_shapes_are_named_with_their_shapes():
    wanted = r"accuracy needs tensors of one shape, got logits \(2, 3\), targets \(2,\)$"
    with pytest.raises(ValueError, match=wanted):
        check.same_shape("accuracy", logits=torch.zeros(2, 3), targets=torch.zeros(2))


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_a_value_between_the_limits_or_at_one_passes(value):
    check.between("pct", value, 0, 1)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_value_outside_the_limits_or_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match=f"pct must be between 0 and 1, got {value}"):
        check.between("pct", value, 0, 1)


def test_a_limit_may_be_below_only():
    check.between("bs", 10 ** 9, 1)
    with pytest.raises(ValueError, match="bs must be at least 1, got 0"):
        check.between("bs", 0, 1)


def test_of_a_tensor_each_value_must_lie_between_the_limits():
    check.between("k", torch.tensor([0, 7, 3]), 0, 7)
    check.between("k", torch.tensor(0.5), 0, 1)
    for wrong in (torch.tensor([0, 8]), torch.tensor([-1, 0]), torch.tensor([float("nan"), 1])):
        with pytest.raises(ValueError, match="k must be between 0 and 7, got tensor"):
            check.between("k", wrong, 0, 7)


def test_a_choice_passes_and_choices_may_be_an_iterator():
    check.one_of("method", "pad", ["crop", "pad"])
    check.one_of("number", 2, iter(range(3)))


def test_what_is_no_choice_is_refused_with_the_nearest_and_all_that_there_are():
    wanted = r"^no method 'padd'; did you mean 'pad'\? there are: crop, pad$"
    with pytest.raises(ValueError, match=wanted):
        check.one_of("method", "padd", iter(["crop", "pad"]))
    with pytest.raises(ValueError, match="^no method 'xyz'; there are: crop, pad$"):
        check.one_of("method", "xyz", ["crop", "pad"])
    with pytest.raises(ValueError, match="^no column 7; there are: 0, 1$"):
        check.one_of("column", 7, [0, 1])


def test_a_file_or_folder_that_is_there_passes(tmp_path):
    (tmp_path / "a.csv").touch()
    check.exists("CSV", tmp_path / "a.csv", "check the name")
    check.exists("folder", tmp_path, "check the name")


def test_a_file_that_is_not_there_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="^CSV nowhere/a.csv does not exist; check the name$"):
        check.exists("CSV", Path("nowhere/a.csv"), "check the name")


def test_some_shows_the_first_few_and_counts_the_rest():
    assert check.some(["a", "b"]) == "a, b"
    assert check.some(range(5)) == "0, 1, 2, 3, 4"
    assert check.some(range(8)) == "0, 1, 2, 3, 4 (+3 more)"
    assert check.some(iter("abc"), 2) == "a, b (+1 more)"
    assert check.some([]) == ""


def test_names_that_differ_pass():
    check.unique("classes", ["a", "b", "ab"])


def test_names_that_repeat_are_refused_each_once():
    with pytest.raises(ValueError, match="^classes must differ; more than once there: a, c$"):
        check.unique("classes", iter("abcaca"))


def weights(**shapes: tuple) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_weights_with_the_same_names_and_shapes_pass_in_any_order():
    check.same_weights("a.pt", weights(w=(2, 3), b=(3,)), weights(b=(3,), w=(2, 3)))
    check.same_weights("a.pt", {"steps": 3}, {"steps": 4})       # plain values have no shape


@pytest.mark.parametrize("have", [weights(w=(2, 3)), weights(w=(2, 3), b=(3,), c=()),
                                  weights(w=(3, 2), b=(3,)), weights(w=(2, 3), b=(1,))])
def test_weights_that_are_missing_unknown_or_of_another_shape_are_refused(have):
    wanted = weights(w=(2, 3), b=(3,))
    refusal = r"weights of a\.pt do not fit this model: 1 are missing, unknown or .*: [wbc]$"
    with pytest.raises(ValueError, match=refusal):
        check.same_weights("a.pt", have, wanted)


def test_all_weights_that_do_not_fit_are_counted_and_named():
    with pytest.raises(ValueError, match="3 are missing, unknown or of another shape: w, x, b"):
        check.same_weights("a.pt", weights(w=(2,), x=(1,)), weights(w=(3,), b=(3,)))


def test_names_that_are_not_as_many_are_refused():
    check.one_each("names", ["haze", "road"], 2, "tag")
    with pytest.raises(ValueError, match=r"names .* one for each tag, 3, got 2: haze, road"):
        check.one_each("names", ["haze", "road"], 3, "tag")
