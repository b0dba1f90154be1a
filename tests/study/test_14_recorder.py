import math

import pytest
import torch

from minifast.recorder import Recorder, smoothed
from minifast.tools import draw


def recorder_of(losses: list[float], fits: list[int]) -> Recorder:
    """Two layer groups: the rate of the first one is .1, .2, ..., the other one's is 1."""
    recorder = Recorder()
    for number, loss in enumerate(losses, start=1):
        recorder.add_batch(torch.tensor(loss), [number / 10, 1.], 0.9)
    recorder.read_losses()
    recorder.fits = fits
    return recorder


def test_a_loss_that_stays_the_same_is_smooth():
    assert smoothed([0.7] * 5) == pytest.approx([0.7] * 5)
    assert smoothed([]) == []


def test_smoothed_by_hand():
    # 1: .02 * 1 = .02, divided by 1 - .98 is 1
    # 2: .98 * .02 + .02 * 2 = .0596, divided by 1 - .98 * .98 = .0396 is 1.5050505
    # 3: .98 * .0596 + .02 * 3 = .118408, divided by 1 - .98^3 = .058808 is 2.0134675
    assert smoothed([1., 2, 3]) == pytest.approx([1, 1.5050505, 2.0134675], abs=1e-6)


def test_a_recorder_begins_empty():
    recorder = Recorder()
    assert recorder.losses == recorder.rates == recorder.momenta == []
    assert recorder.fits == recorder.epochs == recorder.waiting == []
    recorder.read_losses()
    assert recorder.losses == [] and recorder.smoothed_losses() == []


def test_each_batch_has_its_rates_and_its_momentum():
    recorder = Recorder()
    recorder.add_batch(torch.tensor(3.), [0.1, 1.], 0.95)
    recorder.add_batch(torch.tensor(2.), [0.2, 2.], 0.85)
    assert recorder.rates == [[0.1, 1], [0.2, 2]] and recorder.momenta == [0.95, 0.85]


def test_losses_wait_as_tensors_until_they_are_read():
    recorder, loss = Recorder(), torch.tensor(3.)
    recorder.add_batch(loss, [0.1], 0.9)
    assert recorder.waiting[0] is loss and recorder.losses == []
    recorder.read_losses()
    assert recorder.waiting == [] and recorder.losses == [3] and type(recorder.losses[0]) is float


def test_losses_are_read_once_and_in_their_order():
    recorder = recorder_of([3., 1.], fits=[0])
    recorder.add_batch(torch.tensor(2.), [0.1, 1.], 0.9)
    for _ in range(2):
        recorder.read_losses()
    assert recorder.losses == [3, 1, 2]


def test_smoothing_starts_anew_with_each_fit():
    # 5 and 6, smoothed from .1: (.98 * .1 + .02 * 6) / .0396 = 5.5050505
    recorder = recorder_of([1., 2, 5, 6], fits=[0, 2])
    assert recorder.smoothed_losses() == pytest.approx([1, 1.5050505, 5, 5.5050505], abs=1e-6)


def test_the_training_loss_is_the_latest_smoothed_one_of_the_latest_fit():
    assert recorder_of([1., 2], fits=[0]).train_loss() == pytest.approx(1.5050505, abs=1e-6)
    assert recorder_of([1., 2, 5, 6], fits=[0, 2]).train_loss() == pytest.approx(5.5050505)
    assert math.isnan(recorder_of([1., 2], fits=[0, 2]).train_loss())       # has just begun


def test_plot_losses_shows_three_lines_over_the_batches():
    recorder = recorder_of([1., 2, 5, 6], fits=[0, 2])      # its second epoch had no validation
    recorder.epochs = [{"batch": 2, "valid_loss": 8.}, {"batch": 3}, {"batch": 4, "valid_loss": 0.}]
    expected = draw.chart({"train": ([0, 1, 2, 3], [1, 2, 5, 6]),
                           "smoothed": ([0, 1, 2, 3], [1, 1.5050505, 5, 5.5050505]),
                           "valid": ([2, 4], [8, 0])}, "batch", "loss")
    assert recorder.plot_losses().tobytes() == expected.tobytes()


def test_plot_lr_shows_each_groups_rate_on_a_logarithmic_scale_and_the_momentum_below():
    expected = draw.grid([
        draw.chart({"group 0": ([0, 1], [0.1, 0.2]), "group 1": ([0, 1], [1, 1])}, "batch",
                   "learning rate", log="y", size=(640, 280)),
        draw.chart({"": ([0, 1], [0.9, 0.9])}, "batch", "momentum", size=(640, 280))],
        captions=["", ""], columns=1)
    found = recorder_of([1., 2], fits=[0]).plot_lr()
    assert found.size == expected.size and found.tobytes() == expected.tobytes()
