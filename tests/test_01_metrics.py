from functools import partial
from math import isnan

import numpy
import pytest
import torch

from minifast import metrics
from minifast.metrics import (METRICS, accuracy, accuracy_thresh, chosen, confusion, fbeta,
                              foreground_accuracy, mean_iou, metric, register)
from minifast.scores import Score, check_metric, name_of, score

# Three pictures, four tags. The probabilities are about
#   .88 .27 .12 .50      at .2 said: yes yes no  yes     at .5: yes no  no  no
#   .05 .73 .62 .23                  no  yes yes yes            no  yes yes no
#   .01 .01 .01 .01                  no  no  no  no             no  no  no  no
LOGITS = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])
TAGS = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry, so that a test leaves nothing in it."""
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))
    return metrics.METRICS


def seven_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    return (torch.randn(7, 5, generator=rng),
            (torch.rand(7, 5, generator=rng) < 0.4).float())


def over_batches(function, logits, targets, size: int) -> float:
    batches = zip(logits.split(size), targets.split(size))
    scores = [score(function, *batch) for batch in batches]
    return float(sum(scores[1:], start=scores[0]))


# Score

def test_a_score_is_hits_over_out_of():
    assert float(Score(3, 4)) == 0.75
    assert float(Score(torch.tensor(3), torch.tensor(4))) == 0.75


def test_a_score_is_divided_in_double_precision():
    for share in (Score(1, 3), Score(0.1, 0.3), Score(torch.tensor(1), torch.tensor(3))):
        assert float(share) == pytest.approx(1 / 3, abs=1e-15)


def test_scores_add_hits_to_hits_and_out_of_to_out_of():
    total = Score(1, 2) + Score(3, 8)
    assert (total.hits, total.out_of) == (4, 10)


def test_a_per_class_score_is_the_mean_over_the_classes_that_occur():
    # 1/2 and 3/4; the class between has no pixel, and counts neither as 0 nor as 1
    per_class = Score(torch.tensor([1, 0, 3]), torch.tensor([2, 0, 4]))
    assert float(per_class) == 0.625


def test_per_class_scores_add_class_by_class_before_they_are_divided():
    # (1 + 1) / (2 + 6) = .25 and (0 + 3) / (0 + 4) = .75
    total = (Score(torch.tensor([1, 0]), torch.tensor([2, 0]))
             + Score(torch.tensor([1, 3]), torch.tensor([6, 4])))
    assert float(total) == 0.5


def test_where_nothing_occurs_a_score_is_not_a_number():
    assert isnan(float(Score(0, 0)))
    assert isnan(float(Score(torch.zeros(3), torch.zeros(3))))


# The metrics

def test_accuracy_counts_the_pictures_whose_largest_logit_is_the_right_one():
    logits = torch.tensor([[1., 3, 2], [0, -1, -2], [5, 4, 6], [-3, -1, -2]])   # 1, 0, 2, 1
    right = accuracy(logits, torch.tensor([1, 0, 0, 1]))
    assert (int(right.hits), right.out_of) == (3, 4)


def test_accuracy_refuses_another_number_of_targets():
    with pytest.raises(ValueError, match=r"accuracy.*\(3,.*\(2,"):
        accuracy(LOGITS, torch.tensor([0, 1]))


def test_accuracy_thresh_at_the_golden_numbers():
    # at .2 each picture has one wrong cell, 9 of 12; at .5 the second has two, 8 of 12
    assert float(accuracy_thresh(LOGITS, TAGS, thresh=0.2)) == pytest.approx(0.75)
    assert float(accuracy_thresh(LOGITS, TAGS, thresh=0.5)) == pytest.approx(0.6666667)


def test_accuracy_thresh_counts_cells():
    right = accuracy_thresh(LOGITS, TAGS, thresh=0.2)
    assert (int(right.hits), right.out_of) == (9, 12)


def test_accuracy_thresh_takes_one_half_unless_told_otherwise():
    probabilities, yes = torch.tensor([[0.49, 0.51]]), torch.ones(1, 2)
    assert float(accuracy_thresh(probabilities, yes, sigmoid=False)) == 0.5
    assert float(accuracy_thresh(torch.tensor([[-0.04, 0.04]]), yes)) == 0.5


def test_fbeta_at_the_golden_numbers():
    # At .2 two pictures have 2 hits of 3 said and 2 true: precision 2/3, recall 1,
    # F2 = 5 (2/3) / (4 (2/3) + 1) = 10/11, F1 = 4/5; the third has 0: 20/33 and 8/15.
    assert float(fbeta(LOGITS, TAGS, thresh=0.2)) == pytest.approx(0.6060606, abs=1e-7)
    assert float(fbeta(LOGITS, TAGS, thresh=0.2, beta=1)) == pytest.approx(0.5333333, abs=1e-7)
    # At .5: precision 1, recall 1/2, F2 = 5/9; precision 1/2, recall 1/2, F2 = 1/2; 0.
    assert float(fbeta(LOGITS, TAGS, thresh=0.5)) == pytest.approx(0.3518519, abs=1e-7)


def test_fbeta_takes_the_lessons_threshold_and_beta_2_unless_told_otherwise():
    assert float(fbeta(LOGITS, TAGS)) == pytest.approx(0.6060606, abs=1e-7)


def test_fbeta_is_out_of_pictures():
    assert fbeta(LOGITS, TAGS).out_of == 3


def test_the_sigmoid_taken_twice_gives_another_number():
    assert float(fbeta(LOGITS.sigmoid(), TAGS)) == pytest.approx(0.7638889, abs=1e-7)


@pytest.mark.parametrize("function", [accuracy_thresh, fbeta])
def test_probabilities_without_sigmoid_give_what_logits_give_with_it(function):
    for thresh in (0.2, 0.5):
        as_probabilities = function(LOGITS.sigmoid(), TAGS, thresh=thresh, sigmoid=False)
        assert float(as_probabilities) == float(function(LOGITS, TAGS, thresh=thresh))


@pytest.mark.parametrize("function", [accuracy_thresh, fbeta])
def test_exactly_at_the_threshold_the_answer_is_no(function):
    one_tag = torch.ones(1, 1)
    for at_threshold in (0.25, 0.5):
        probability = torch.tensor([[at_threshold]])
        assert float(function(probability, one_tag, thresh=at_threshold, sigmoid=False)) == 0
        assert float(function(probability, one_tag, thresh=at_threshold - 0.01,
                              sigmoid=False)) == pytest.approx(1)


def test_pictures_without_a_hit_give_an_fbeta_of_0():
    yes, no = torch.full((1, 3), 9.0), torch.full((1, 3), -9.0)
    assert float(fbeta(no, torch.zeros(1, 3))) == 0              # nothing said, nothing true
    assert float(fbeta(yes, torch.zeros(1, 3))) == 0             # nothing true
    assert float(fbeta(no, torch.ones(1, 3))) == 0               # nothing said


def test_eps_stands_in_each_of_the_three_divisors():
    # 1 hit, 1 said, 2 true; eps = 1: precision 1/2, recall 1/3,
    # F2 = 5 (1/2) (1/3) / (4 (1/2) + 1/3 + 1) = (5/6) / (10/3) = 1/4
    logits, tags = torch.tensor([[9., -9, -9]]), torch.tensor([[1., 1, 0]])
    assert float(fbeta(logits, tags, eps=1)) == pytest.approx(0.25)


def test_eps_is_a_billionth_unless_told_otherwise():
    # all right: precision and recall 1 / (1 + eps), F2 = 1 - 1.2 eps + ...
    f = float(fbeta(torch.tensor([[9.]]), torch.ones(1, 1)))
    assert 1 - f == pytest.approx(1.2e-9, rel=1e-3)


def test_fbeta_is_summed_in_double_precision():
    # 10/11 in float32 is wrong by 2e-8; epochs of thousands of pictures would add that up
    assert float(fbeta(LOGITS[:1], TAGS[:1], eps=0)) == pytest.approx(10 / 11, abs=1e-12)


@pytest.mark.parametrize("function", [accuracy_thresh, fbeta])
def test_tag_metrics_refuse_targets_of_another_shape(function):
    wanted = rf"{function.__name__}\b.*\(3, 4\).*\(3, 3\)"
    with pytest.raises(ValueError, match=wanted):
        function(LOGITS, TAGS[:, :3])


@pytest.mark.parametrize("size", range(1, 8))
def test_batches_of_any_size_give_the_same_fbeta(size):
    logits, tags = seven_pictures()
    said, true = (logits.sigmoid() > 0.2).numpy(), tags.bool().numpy()
    hits = (said & true).sum(1)
    wanted = numpy.mean(5 * hits / (4 * true.sum(1) + said.sum(1)))   # the same F2, by counts
    assert over_batches(fbeta, logits, tags, size) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("size", range(1, 8))
def test_batches_of_any_size_give_the_same_accuracies(size):
    logits, tags = seven_pictures()
    wanted = ((logits > 0).numpy() == tags.bool().numpy()).mean()
    assert over_batches(accuracy_thresh, logits, tags, size) == pytest.approx(wanted, abs=1e-12)
    classes = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    wanted = (logits.numpy().argmax(1) == classes.numpy()).mean()
    assert over_batches(accuracy, logits, classes, size) == pytest.approx(wanted, abs=1e-12)


# The registry

def test_the_lessons_metrics_are_found_by_name():
    assert metric("accuracy") is accuracy
    assert metric("accuracy_thresh") is accuracy_thresh
    assert metric("fbeta") is fbeta


def test_a_metric_by_name_can_have_its_knobs_preset():
    assert float(metric("fbeta", thresh=0.5)(LOGITS, TAGS)) == pytest.approx(0.3518519)
    assert float(metric("fbeta", thresh=0.2, beta=1)(LOGITS, TAGS)) == pytest.approx(0.5333333)


def test_a_registered_partial_is_found_as_it_is(registry):
    acc_02 = partial(accuracy_thresh, thresh=0.2)
    register("acc_02", acc_02)
    assert metric("acc_02") is acc_02


def test_a_registered_partial_keeps_its_knobs_and_takes_more(registry):
    register("f_half", partial(fbeta, thresh=0.5))
    assert float(metric("f_half", beta=2)(LOGITS, TAGS)) == pytest.approx(0.3518519)


def test_a_name_registered_again_is_replaced(registry):
    register("mine", accuracy)
    register("mine", fbeta)
    assert metric("mine") is fbeta


def test_what_cannot_be_called_is_not_registered(registry):
    with pytest.raises(TypeError, match=r"\bf2\b.*0\.9"):
        register("f2", 0.9)
    assert "f2" not in registry


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"\bf_beta\b.*\bfbeta\b"):
        metric("f_beta")


def test_unknown_knobs_are_refused_with_those_that_there_are():
    wanted = r"\bfbeta\b.*\b(alpha\W+tresh|tresh\W+alpha)\b.*\bthresh\b.*\bbeta\b.*\beps\b"
    with pytest.raises(TypeError, match=wanted):
        metric("fbeta", tresh=0.2, alpha=1, beta=1)


# Names

class Always:
    def __call__(self, logits, targets):
        return 1.0


def exact_match(logits, targets, thresh=0.5):
    """A user's metric: share of pictures with no wrong tag, as a 0-dim tensor."""
    return ((logits.sigmoid() > thresh) == targets.bool()).all(dim=1).float().mean()


def test_a_function_goes_by_its_name():
    assert name_of(fbeta) == "fbeta"


def test_a_partial_shows_its_knobs():
    assert name_of(partial(accuracy_thresh, thresh=0.2)) == "accuracy_thresh(thresh=0.2)"
    assert name_of(partial(fbeta, beta=1, eps=0.5)) == "fbeta(beta=1, eps=0.5)"


def test_a_partial_of_a_partial_shows_the_knobs_of_both():
    assert name_of(partial(partial(fbeta, thresh=0.2), beta=1)) == "fbeta(thresh=0.2, beta=1)"


def test_a_partial_shows_positional_arguments_and_texts_as_they_are_written():
    assert name_of(partial(pow, 2, exp=3)) == "pow(2, exp=3)"
    assert name_of(partial(print, "a", end="b")) == "print('a', end='b')"


def test_an_object_that_can_be_called_goes_by_its_class():
    assert name_of(Always()) == "Always"
    assert name_of(partial(Always(), 7)) == "Always(7)"


# A user's plain function

def test_a_score_is_handed_on_as_it_is():
    ours = Score(2, 5)
    assert score(lambda logits, targets: ours, LOGITS, TAGS) is ours


def test_the_metric_is_given_logits_first_and_targets_second():
    assert float(score(lambda logits, targets: logits.sum(), LOGITS, TAGS)) == pytest.approx(-23.7)
    assert float(score(lambda logits, targets: targets.sum(), LOGITS, TAGS)) == 5


@pytest.mark.parametrize("value", [0.5, 1, torch.tensor(0.5)])
def test_a_plain_number_or_a_tensor_of_one_value_weighs_as_many_as_there_are_pictures(value):
    plain = score(lambda logits, targets: value, LOGITS, TAGS)
    assert (float(plain.hits), plain.out_of) == (3 * float(value), 3)


@pytest.mark.parametrize("size", range(1, 8))
def test_a_users_mean_over_pictures_is_exact_for_every_batch_size(size):
    logits, tags = seven_pictures()
    tags[:3] = (logits[:3] > 0).float()                          # three pictures without a fault
    wanted = sum(bool((row > 0).eq(tag.bool()).all()) for row, tag in zip(logits, tags)) / 7
    assert over_batches(exact_match, logits, tags, size) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("wrong", [None, "0.5", [0.5], torch.tensor([0.5, 0.5])])
def test_anything_else_is_refused_with_the_name_of_the_metric(wrong):
    def my_metric(logits, targets, knob):
        return wrong

    with pytest.raises(TypeError, match=r"my_metric\(knob=1\)"):
        score(partial(my_metric, knob=1), LOGITS, TAGS)


# A class for each pixel: three classes, of which 2 is void, in two pictures of 1 x 4 pixels
#   truth   0 0 1 1    2 2 0 1
#   said    0 1 1 2    0 1 0 1        right of the six that are not void: 0 . 1 .  0 1 = four

TRUTH = torch.tensor([[[0, 0, 1, 1]], [[2, 2, 0, 1]]])
SAID = torch.tensor([[[0, 1, 1, 2]], [[0, 1, 0, 1]]])
MAPS = torch.nn.functional.one_hot(SAID, 3).permute(0, 3, 1, 2).float()         # (2, 3, 1, 4)
VOID = torch.full((2, 1, 4), 2)


def random_maps(seed: int, n: int = 7, c: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, c, 6, 8), and masks of which some have much void (class 3)."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.randint(c, (n, 6, 8), generator=rng)
    masks[::2, :, :6] = 3
    return torch.randn(n, c, 6, 8, generator=rng), masks


def test_accuracy_of_masks_counts_every_pixel():
    assert accuracy(MAPS, TRUTH) == Score(4, 8)


def test_confusion_has_a_row_per_true_class_and_a_column_per_answer():
    score = confusion(MAPS, TRUTH)
    assert score.hits.tolist() == [[2, 1, 0], [0, 2, 1], [1, 1, 0]]
    assert score.out_of.tolist() == [[3], [3], [2]]
    assert score.values[1].tolist() == pytest.approx([0, 2 / 3, 1 / 3])


def test_void_pixels_are_not_in_the_confusion_but_void_answers_are():
    assert confusion(MAPS, TRUTH, void_code=2).hits.tolist() == [[2, 1, 0], [0, 2, 1], [0, 0, 0]]


def test_a_metric_never_waits_for_the_device():
    # The device "meta" has shapes but no numbers: whatever needs to know one raises there, and on a
    # GPU it would have to wait for all that was asked of it before.
    logits, tags = torch.rand(4, 3, device="meta"), torch.ones(4, 3, device="meta")
    maps, pixels = torch.rand(2, 3, 1, 4, device="meta"), torch.zeros(2, 1, 4, device="meta").long()
    with pytest.raises((NotImplementedError, RuntimeError)):
        tags[tags > 0]
    for function, x, y in [
            (accuracy, maps, pixels), (accuracy_thresh, logits, tags), (fbeta, logits, tags),
            (partial(confusion, void_code=2), maps, pixels), (mean_iou, maps, pixels),
            (partial(foreground_accuracy, void_code=2), maps, pixels),
            (lambda x, y: (x - y).mean(), logits, tags)]:
        total = Score(0, 0) + score(function, x, y) + score(function, x, y)
        assert torch.as_tensor(total.hits).device.type == "meta"


def test_a_score_goes_to_the_cpu_as_it_is():
    moved = Score(torch.tensor([1, 2]), 0.3).cpu()
    assert moved.hits.tolist() == [1, 2] and moved.out_of == 0.3


def test_foreground_accuracy_leaves_void_out():
    score = foreground_accuracy(MAPS, TRUTH, void_code=2)
    assert (int(score.hits), int(score.out_of)) == (4, 6)
    assert float(foreground_accuracy(MAPS, TRUTH, void_code=0)) == 2 / 5    # not 0: 1 and 1 of 5


def test_mean_iou_by_hand():
    # class 0: 2 of 2 + 1 = 3;  class 1: 2 of 2 + 1 + 1 = 4;  void is left out
    score = mean_iou(MAPS, TRUTH, void_code=2)
    assert score.values.tolist()[:2] == pytest.approx([2 / 3, 2 / 4]) and isnan(score.values[2])
    assert float(score) == pytest.approx((2 / 3 + 1 / 2) / 2)
    # void counted: 0: 2 of 4, 1: 2 of 5, 2: 0 of 3
    assert mean_iou(MAPS, TRUTH).values.tolist() == pytest.approx([2 / 4, 2 / 5, 0])


def test_a_class_that_does_not_occur_is_left_out_of_mean_iou_and_one_only_said_is_not():
    # Truth 0 everywhere; of four classes 0 and 1 are said: 1 of 2 for the one, 0 of 1 for the other
    maps = torch.nn.functional.one_hot(torch.tensor([[[0, 1]]]), 4).permute(0, 3, 1, 2).float()
    score = mean_iou(maps, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert score.values.tolist()[:2] == [.5, 0] and score.values[2:].isnan().all()
    assert float(score) == .25


@pytest.mark.parametrize("seed", range(3))
def test_pixel_metrics_are_those_of_numpy_pixel_by_pixel(seed):
    logits, masks = random_maps(seed)
    said, true = logits.argmax(dim=1).numpy(), masks.numpy()
    counts = numpy.zeros((5, 5), dtype=int)
    for i, j in zip(true[true != 3], said[true != 3]):
        counts[i, j] += 1
    assert confusion(logits, masks, 3).hits.tolist() == counts.tolist()
    assert float(foreground_accuracy(logits, masks, 3)) == pytest.approx(
        (said == true)[true != 3].mean())
    ious = [((said == k) & (true == k)).sum() / (((said == k) | (true == k)) & (true != 3)).sum()
            for k in (0, 1, 2, 4)]
    assert float(mean_iou(logits, masks, 3)) == pytest.approx(numpy.mean(ious))


@pytest.mark.parametrize("function", [accuracy, *(
    partial(function, void_code=3) for function in (confusion, foreground_accuracy, mean_iou))])
@pytest.mark.parametrize("bs", [1, 2, 3, 7])
def test_batches_of_any_size_give_the_same_pixel_metric(function, bs):
    logits, masks = random_maps(0)
    whole, total = function(logits, masks), Score(0, 0)
    for start in range(0, 7, bs):
        total += score(function, logits[start:start + bs], masks[start:start + bs])
    assert torch.equal(torch.as_tensor(total.hits), torch.as_tensor(whole.hits))
    assert torch.equal(torch.as_tensor(total.out_of), torch.as_tensor(whole.out_of))


@pytest.mark.parametrize("function", [foreground_accuracy, mean_iou, confusion])
def test_a_batch_of_void_alone_is_harmless(function):
    empty = function(MAPS, VOID, void_code=2)
    assert isnan(float(empty))                                              # 0 of 0
    assert float(function(MAPS, TRUTH, void_code=2) + empty) == float(
        function(MAPS, TRUTH, void_code=2))


def test_masks_of_bytes_do_not_overflow():
    maps = torch.zeros(1, 32, 1, 1)
    maps[0, 31] = 1
    counts = confusion(maps, torch.tensor([[[30]]], dtype=torch.uint8)).hits
    assert counts[30, 31] == 1 and counts.sum() == 1


@pytest.mark.parametrize("function, fine", [
    (accuracy, True), (partial(foreground_accuracy, void_code=2), True), (max, True),
    (lambda logits, targets, knob=1: 0, True), (foreground_accuracy, False),
    (lambda logits: 0, False), (partial(accuracy_thresh, 1, 2, 3), False)])
def test_a_metric_must_take_logits_and_targets_alone(function, fine):
    if fine:
        check_metric(function)
    else:
        knob = "'void_code'.*" if function is foreground_accuracy else ""
        wanted = rf"metric .+ cannot .*\(logits, targets\) alone.*{knob}partial"
        with pytest.raises(TypeError, match=wanted):
            check_metric(function)


def test_metrics_are_chosen_by_function_by_name_or_alone():
    acc_02 = partial(accuracy_thresh, thresh=0.2)
    assert chosen([acc_02, "fbeta"]) == [acc_02, fbeta] == chosen((acc_02, "fbeta"))
    assert chosen(acc_02) == [acc_02] and chosen("fbeta") == [fbeta] and chosen(()) == []


def test_a_metric_that_cannot_be_chosen_is_refused():
    with pytest.raises(ValueError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        chosen("acuracy")
    with pytest.raises(TypeError, match="metric foreground_accuracy cannot.*'void_code'.*partial"):
        chosen([accuracy, "foreground_accuracy"])


def test_void_may_be_unknown():
    assert float(foreground_accuracy(MAPS, TRUTH, void_code=None)) == .5


@pytest.mark.parametrize("void_code", [-1, 3, 30])
def test_void_must_be_a_class(void_code):
    with pytest.raises(ValueError, match=rf"void_code.*{void_code}"):
        confusion(MAPS, TRUTH, void_code)


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"answers \(2, 1, 4\).*targets \(2, 4, 1\)"):
        confusion(MAPS, TRUTH.transpose(1, 2))


def test_the_notebooks_acc_camvid_works_unchanged():
    void_code = 2

    def acc_camvid(input, target):
        target = target.squeeze(1)
        mask = target != void_code
        return (input.argmax(dim=1)[mask] == target[mask]).float().mean()

    maps, truth = MAPS.reshape(2, 3, 2, 2), TRUTH.reshape(2, 2, 2)
    # Each picture weighs the same: 2 of 4 and 2 of 2
    total = score(acc_camvid, maps[:1], truth[:1]) + score(acc_camvid, maps[1:], truth[1:])
    assert float(total) == .75
    # One of void alone gives NaN, and weighs nothing
    void = score(acc_camvid, maps, torch.full_like(truth, void_code))
    assert float(total + void) == .75 and isnan(float(void))


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_a_metric_that_is_infinite_stays_so(value):
    assert float(score(lambda logits, targets: value, MAPS, TRUTH)) == value


def test_values_of_a_score_are_those_of_each_class_and_nan_where_it_does_not_occur():
    values = Score(torch.tensor([1, 0, 3]), torch.tensor([2, 0, 3])).values
    assert values.dtype == torch.float64
    assert values[[0, 2]].tolist() == [.5, 1] and isnan(values[1])


def test_pixel_metrics_are_registered():
    assert metric("mean_iou") is mean_iou
    acc = metric("foreground_accuracy", void_code=2)
    assert float(acc(MAPS, TRUTH)) == pytest.approx(4 / 6)
    assert name_of(acc) == "foreground_accuracy(void_code=2)"
