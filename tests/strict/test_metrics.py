from functools import partial
from math import inf, isnan

import numpy
import pytest
import torch

from minifast import metrics
from minifast.metrics import (METRICS, Score, accuracy, accuracy_thresh, chosen, confusion, fbeta,
                              foreground_accuracy, mean_iou, metric, name_of, register, score)

LOGITS = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])
TAGS = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])
# Two pictures of 1 x 4 pixels, and three classes; class 2 is void
TRUTH = torch.tensor([[[0, 0, 1, 1]], [[2, 2, 0, 1]]])
PREDICTED = torch.tensor([[[0, 1, 1, 2]], [[0, 1, 0, 1]]])
MAPS = torch.nn.functional.one_hot(PREDICTED, 3).permute(0, 3, 1, 2).float()    # (2, 3, 1, 4)


def over_batches(function, logits, targets, size: int) -> Score:
    batches = zip(logits.split(size), targets.split(size))
    return sum((score(function, *batch) for batch in batches), Score(0, 0))


def test_fbeta_at_its_borders():
    yes, no, true = torch.full((1, 3), 9.), torch.full((1, 3), -9.), torch.ones(1, 3)
    for logits, tags in ((no, 1 - true), (yes, 1 - true), (no, true)):
        assert float(fbeta(logits, tags)) == 0                          # no hit, and no NaN
    assert float(fbeta(true / 2, true, 0.5, sigmoid=False)) == 0        # not above the threshold
    assert float(fbeta(LOGITS.sigmoid(), TAGS)) == pytest.approx(0.7638889, abs=1e-7)   # as in v1
    # All right: precision and recall are 1 / (1 + eps / 3), so F2 is 1 - eps / 3 - eps / 5 + ...
    assert 1 - float(fbeta(yes, true)) == pytest.approx(8 / 15 * 1e-9, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_metrics_count_in_double_precision_whatever_the_logits_are(dtype):
    # 10/11 is wrong by 2e-8 in float32; float16 counts to 2048, and bfloat16 to 256
    first = LOGITS[:1].to(dtype), TAGS[:1].to(dtype)
    assert float(fbeta(*first, eps=0)) == pytest.approx(10 / 11, abs=1e-12)
    many = torch.ones(1, 3001, dtype=dtype)
    assert float(accuracy_thresh(many, many)) == 1 == float(fbeta(many, many, eps=0))
    assert float(Score(torch.tensor(1, dtype=dtype), 3)) == pytest.approx(1 / 3, abs=1e-15)


@pytest.mark.parametrize("size", range(1, 8))
def test_batches_of_any_size_give_what_numpy_counts(size):
    rng = torch.Generator().manual_seed(3)
    logits, tags = torch.randn(7, 5, generator=rng), torch.rand(7, 5, generator=rng) < 0.4
    tags[:4] = logits[:4] > 0                                   # four pictures without a fault
    classes = torch.tensor([0, 1, 2, 3, 4, 0, 1])

    def all_right(logits, tags):                                # a user's, a mean over pictures
        return ((logits > 0) == tags.bool()).all(dim=1).float().mean()

    predicted, true = (logits.sigmoid() > 0.2).numpy(), tags.numpy()
    f2 = 5 * (predicted & true).sum(1) / (4 * true.sum(1) + predicted.sum(1))   # by counts
    right = (logits > 0).numpy() == true
    for function, targets, values in [
            (fbeta, tags.float(), f2), (accuracy_thresh, tags.float(), right),
            (accuracy, classes, logits.numpy().argmax(1) == classes.numpy()),
            (all_right, tags.float(), right.all(1))]:
        found = over_batches(function, logits, targets, size)
        assert float(found) == pytest.approx(values.mean(), abs=1e-7)
        assert found.out_of == values.size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1, 3, 7])
def test_pixel_metrics_are_those_of_numpy_pixel_by_pixel_for_every_batch_size(seed, size):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, 20, 6, 8, generator=rng)            # 20 * 20 is too much for a byte
    masks = torch.randint(20, (7, 6, 8), generator=rng, dtype=torch.uint8)
    masks[::2, :, :6] = masks[5] = 3                            # void; picture 5 is nothing else
    predicted, true = logits.argmax(dim=1).numpy(), masks.numpy()
    labelled, counts = true != 3, numpy.zeros((20, 20), dtype=int)
    numpy.add.at(counts, (true[labelled], predicted[labelled]), 1)
    right, classes = (predicted == true)[labelled], [k for k in range(20) if k != 3]
    ious = [((predicted == k) & (true == k)).sum()
            / (((predicted == k) | (true == k)) & labelled).sum() for k in classes]

    def found(function) -> Score:
        return over_batches(partial(function, void_code=3), logits, masks, size)

    assert found(confusion).hits.tolist() == counts.tolist()
    assert found(confusion).out_of.tolist() == counts.sum(1, keepdims=True).tolist()
    assert found(foreground_accuracy) == Score(right.sum(), right.size)
    assert found(mean_iou).values[classes].tolist() == pytest.approx(ious)
    assert float(found(mean_iou)) == pytest.approx(numpy.mean(ious))
    assert float(over_batches(accuracy, logits, masks, size)) == (predicted == true).mean()


def test_void_may_be_class_0_or_unknown_or_everything():
    assert float(foreground_accuracy(MAPS, TRUTH, 0)) == 2 / 5  # two of the three 1s, no 2
    assert float(foreground_accuracy(MAPS, TRUTH, None)) == 4 / 8
    assert mean_iou(MAPS, TRUTH, 0).out_of.tolist() == [0, 4, 3]
    for function in (foreground_accuracy, mean_iou, confusion):
        assert isnan(float(function(MAPS, torch.full_like(TRUTH, 2), 2)))


def test_a_metric_never_waits_for_the_device():
    # The device "meta" has shapes but no numbers: whatever needs to know one raises there, and on a
    # GPU it would have to wait for all that was asked of it before.
    logits, tags = torch.rand(4, 3, device="meta"), torch.ones(4, 3, device="meta")
    maps, pixels = torch.rand(2, 3, 1, 4, device="meta"), torch.zeros(2, 1, 4, device="meta").long()
    for function, x, y in [
            (accuracy, maps, pixels), (accuracy_thresh, logits, tags), (fbeta, logits, tags),
            (partial(mean_iou, void_code=2), maps, pixels), (confusion, maps, pixels),
            (partial(foreground_accuracy, void_code=2), maps, pixels),
            (lambda x, y: (x - y).mean(), logits, tags)]:
        total = score(function, x, y) + score(function, x, y)
        assert total.hits.device.type == "meta"
        with pytest.raises((NotImplementedError, RuntimeError)):
            total.values                                        # comes to the CPU, so it waits


def test_other_shapes_and_void_codes_are_refused():
    for function, logits, targets in [                          # the first three would broadcast
            (accuracy_thresh, LOGITS, TAGS[:, :1]), (fbeta, LOGITS, TAGS[:, :1]),
            (accuracy, LOGITS, torch.tensor([0])), (confusion, MAPS, TRUTH.mT)]:
        with pytest.raises(ValueError, match=function.__name__):
            function(logits, targets)
    for void_code in (-1, 3):
        with pytest.raises(ValueError, match="void_code"):
            confusion(MAPS, TRUTH, void_code)


def test_the_notebooks_acc_camvid_works_unchanged():
    void_code = 2

    def acc_camvid(input, target):
        target = target.squeeze(1)
        mask = target != void_code
        return (input.argmax(dim=1)[mask] == target[mask]).float().mean()

    maps, truth = MAPS.reshape(2, 3, 2, 2), TRUTH.reshape(2, 2, 2)
    total = over_batches(acc_camvid, maps, truth, 1)
    assert float(total) == .75                                  # the mean of 2 of 4 and 2 of 2
    void = score(acc_camvid, maps, torch.full_like(truth, void_code))
    assert float(total + void) == .75 and isnan(float(void))    # NaN weighs nothing


def test_a_plain_number_weighs_as_many_as_there_are_pictures():
    for value in (0.5, 1, torch.tensor(0.5), inf, -inf):
        assert score(lambda logits, targets: value, LOGITS, TAGS) == Score(3 * value, 3)
    assert float(score(lambda logits, targets: logits.sum(), LOGITS, TAGS)) == pytest.approx(-23.7)


def test_metrics_are_known_by_name_and_a_name_can_be_given_again(monkeypatch):
    for function in (accuracy, accuracy_thresh, fbeta, foreground_accuracy, mean_iou):
        assert metric(function.__name__) is function
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))      # a copy
    f_half = partial(fbeta, thresh=0.5)
    register("mine", accuracy)
    register("mine", f_half)
    assert metric("mine") is f_half
    # At .5, F1 is 2/3 (precision 1, recall 1/2), 1/2 (both 1/2), and 0
    assert float(metric("mine", beta=1)(LOGITS, TAGS)) == pytest.approx(7 / 18)
    assert (chosen(f_half), chosen((f_half, "mine")), chosen(())) == ([f_half], [f_half] * 2, [])
    with pytest.raises(ValueError, match="'accuracy'"):         # the nearest
        chosen("acuracy")


def test_the_name_of_a_metric_shows_what_is_preset():
    assert name_of(partial(pow, 2, exp=3)) == "pow(2, exp=3)"
    assert name_of(partial(print, "a", end="b")) == "print('a', end='b')"
    assert name_of(torch.nn.ReLU()) == "ReLU" and name_of(partial(torch.nn.ReLU(), 7)) == "ReLU(7)"
