from functools import partial
from math import isnan

import pytest
import torch

from minifast.metrics import (Score, accuracy, accuracy_thresh, chosen, confusion, fbeta,
                              foreground_accuracy, mean_iou, metric, name_of, register, score)

# Three pictures and four tags. Probabilities:     .88 .27 .12 .50      .05 .73 .62 .23      all .01
# So above .2 these are predicted:                 yes yes no  yes      no  yes yes yes      none
LOGITS = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])
TAGS = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])

# Two masks of 1 x 4 pixels, and three classes; class 2 is void
TRUTH = torch.tensor([[[0, 0, 1, 1]], [[2, 2, 0, 1]]])
PREDICTED = torch.tensor([[[0, 1, 1, 2]], [[0, 1, 0, 1]]])
MAPS = torch.nn.functional.one_hot(PREDICTED, 3).permute(0, 3, 1, 2).float()    # (2, 3, 1, 4)


def test_a_score_is_hits_out_of_out_of():
    assert Score(3, 4).values == 0.75
    assert float(Score(1, 3)) == pytest.approx(1 / 3, abs=1e-15)                # float64


def test_scores_add_hits_to_hits_and_out_of_to_out_of():
    assert Score(1, 2) + Score(3, 8) == Score(4, 10)


def test_a_score_with_classes_is_the_mean_over_the_classes_that_occur():
    per_class = Score(torch.tensor([1, 0, 3]), torch.tensor([2, 0, 4]))         # 1/2, none, 3/4
    assert per_class.values[0] == 1 / 2 and isnan(per_class.values[1])
    assert float(per_class) == 0.625


def test_accuracy_compares_the_largest_logit_with_the_class():
    logits = torch.tensor([[1., 3, 2], [0, -1, -2], [5, 4, 6], [-3, -1, -2]])   # 1, 0, 2, 1
    assert accuracy(logits, torch.tensor([1, 0, 0, 1])) == Score(3, 4)
    assert accuracy(MAPS, TRUTH) == Score(4, 8)                                 # of pixels


def test_accuracy_thresh_counts_right_answers_of_all_pictures_and_tags():
    # Each picture has one wrong: a tag too many, a tag too many, a tag too few
    assert accuracy_thresh(LOGITS, TAGS, thresh=0.2) == Score(9, 12)
    # At .5, which is the default, the first has one wrong, the second has two, the third has one
    assert accuracy_thresh(LOGITS, TAGS) == Score(8, 12)
    # A probability that is exactly at the threshold is not above it
    at, above = torch.tensor([[0.25]]), torch.tensor([[0.26]])
    assert accuracy_thresh(at, torch.ones(1, 1), thresh=0.25, sigmoid=False) == Score(0, 1)
    assert accuracy_thresh(above, torch.ones(1, 1), thresh=0.25, sigmoid=False) == Score(1, 1)


def test_fbeta_by_hand():
    # The first two pictures have 2 hits among 3 predicted tags, and 2 true ones: precision 2/3,
    # recall 1, F2 = 5 * 2/3 / (4 * 2/3 + 1) = 10/11. The third has no hit: 0.
    assert float(fbeta(LOGITS, TAGS)) == pytest.approx(20 / 33, abs=1e-8)
    # F1 = 2 * 2/3 / (2/3 + 1) = 4/5, twice
    assert float(fbeta(LOGITS, TAGS, beta=1)) == pytest.approx(8 / 15, abs=1e-8)
    # Above .5: precision 1, recall 1/2, F2 = 5/9; precision 1/2, recall 1/2, F2 = 1/2; 0
    assert float(fbeta(LOGITS.sigmoid(), TAGS, 0.5, sigmoid=False)) == pytest.approx(19 / 54)


def test_fbeta_adds_eps_to_each_divisor():
    # 1 hit, 1 predicted, 2 true; eps = 0.1: precision 1 / 1.1, recall 1 / 2.1,
    # F2 = 5 * (10/11 * 10/21) / (4 * 10/11 + 10/21 + 1/10) = 5000 / 9731
    logits, tags = torch.tensor([[9., -9, -9]]), torch.tensor([[1., 1, 0]])
    assert float(fbeta(logits, tags, eps=0.1)) == pytest.approx(5000 / 9731, abs=1e-12)   # float64


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_of_any_size_give_the_same_fbeta(size):
    batches = [fbeta(*batch) for batch in zip(LOGITS.split(size), TAGS.split(size))]
    assert float(sum(batches, Score(0, 0))) == pytest.approx(float(fbeta(LOGITS, TAGS)), abs=1e-12)


def test_confusion_counts_pixels_by_true_class_and_predicted_class():
    found = confusion(MAPS, TRUTH)
    assert found.hits.tolist() == [[2, 1, 0], [0, 2, 1], [1, 1, 0]]
    assert found.out_of.tolist() == [[3], [3], [2]]
    assert confusion(MAPS, TRUTH, void_code=2).hits.tolist() == [[2, 1, 0], [0, 2, 1], [0, 0, 0]]


def test_foreground_accuracy_leaves_void_out():
    assert float(foreground_accuracy(MAPS, TRUTH, void_code=2)) == 4 / 6


def test_mean_iou_by_hand():
    # Without the two void pixels, class 0 has 2 of 2 + 1 pixels, and class 1 has 2 of 2 + 1 + 1
    assert float(mean_iou(MAPS, TRUTH, void_code=2)) == pytest.approx((2 / 3 + 2 / 4) / 2)
    # With them: 2 of 4, 2 of 5, and 0 of 3
    assert float(mean_iou(MAPS, TRUTH)) == pytest.approx((2 / 4 + 2 / 5 + 0 / 3) / 3)


def test_a_metric_is_known_by_name_and_may_have_arguments_preset():
    assert metric("fbeta") is fbeta
    assert metric("fbeta", beta=1)(LOGITS, TAGS) == fbeta(LOGITS, TAGS, beta=1)
    with pytest.raises(ValueError):
        metric("f_beta")


def test_a_metric_of_yours_can_be_registered_and_chosen_by_name():
    register("my_metric", accuracy)
    assert metric("my_metric") is accuracy
    assert chosen("my_metric") == [accuracy] and chosen([fbeta, "accuracy"]) == [fbeta, accuracy]


def test_a_partial_is_named_after_its_function_and_preset_arguments():
    assert name_of(accuracy) == "accuracy"
    assert name_of(partial(partial(fbeta, thresh=0.2), beta=1)) == "fbeta(thresh=0.2, beta=1)"


def test_a_metric_may_return_a_number_which_is_a_mean_over_pictures():
    # 0.5 for three pictures is 1.5 hits
    assert float(score(lambda logits, targets: 0.5, LOGITS, TAGS) + Score(0, 1)) == 1.5 / 4
    nothing = score(lambda logits, targets: torch.tensor(float("nan")), LOGITS, TAGS)
    assert float(nothing + Score(1, 2)) == 0.5
    assert score(fbeta, LOGITS, TAGS) == fbeta(LOGITS, TAGS)
