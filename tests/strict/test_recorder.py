from math import isnan, nan

from PIL import Image
import pytest
import torch

from minifast.recorder import Recorder, smoothed


def recorder_of(losses: list[float], fits: list[int]) -> Recorder:
    recorder = Recorder()
    recorder.fits = fits
    for number, loss in enumerate(losses):
        recorder.add_batch(torch.tensor(loss), [0.1 * (number + 1), 1.0], 0.9 - number / 10)
    return recorder


def test_smoothed_by_hand():
    # m1 = .02 * 1 = .02             / (1 - .98)   = 1
    # m2 = .98 * .02 + .02 * 2       = .0596       / (1 - .9604) = 1.5050505
    # m3 = .98 * .0596 + .02 * 3     = .118408     / (1 - .941192) = 2.0134675
    assert smoothed([1.0, 2.0, 3.0]) == pytest.approx([1, 1.5050505, 2.0134675], abs=1e-6)
    assert smoothed([0.7] * 5) == pytest.approx([0.7] * 5)
    assert smoothed([]) == []


def test_losses_wait_until_they_are_read_and_are_then_floats():
    recorder = recorder_of([1.0, 2.0], fits=[0])
    assert recorder.losses == [] and recorder.waiting == [torch.tensor(1.0), torch.tensor(2.0)]
    for _ in range(2):                                          # nothing is read twice
        recorder.read_losses()
        assert recorder.losses == [1.0, 2.0] and recorder.waiting == []
        assert type(recorder.losses[0]) is float
    recorder.add_batch(torch.tensor(nan), [0.1], 0.9)
    recorder.read_losses()
    assert recorder.losses[:2] == [1.0, 2.0] and isnan(recorder.losses[2])


def test_rates_and_momenta_are_noted_batch_by_batch():
    recorder = recorder_of([1.0, 2.0], fits=[0])
    assert recorder.rates == [[0.1, 1.0], [0.2, 1.0]] and recorder.momenta == [0.9, 0.8]


def test_smoothing_starts_anew_with_each_fit():
    recorder = recorder_of([1.0, 2.0, 5.0, 6.0], fits=[0, 2])
    recorder.read_losses()
    # 5.5050505 = (.98 * .1 + .02 * 6) / .0396
    assert recorder.smoothed_losses() == pytest.approx([1, 1.5050505, 5, 5.5050505], abs=1e-6)
    assert recorder.train_loss() == pytest.approx(5.5050505, abs=1e-6)


def test_before_the_first_loss_of_a_fit_is_read_the_training_loss_is_not_a_number():
    recorder = recorder_of([1.0], fits=[0])
    assert isnan(recorder.train_loss())
    recorder.read_losses()
    assert recorder.train_loss() == pytest.approx(1)
    recorder.fits.append(1)
    assert isnan(recorder.train_loss())


def charts(monkeypatch, plot) -> list[tuple]:
    """What a plot hands to draw.chart, call by call; its own tests look at pixels."""
    calls = []

    def chart(series, x_label, y_label, log="", size=(640, 400)):
        # lists, whatever sequences came
        series = {name: tuple(map(list, points)) for name, points in series.items()}
        calls.append((series, (x_label, y_label), log, size))
        return Image.new("RGB", size)

    monkeypatch.setattr("minifast.tools.draw.chart", chart)
    assert isinstance(plot(), Image.Image)
    return calls


def test_plot_losses_shows_training_raw_and_smoothed_and_validation(monkeypatch):
    recorder = recorder_of([1.0, 2.0, 3.0], fits=[0, 2])
    recorder.read_losses()
    recorder.epochs = [{"batch": 1}, {"batch": 2, "valid_loss": 0.5, "fbeta": 0.9}]
    [(series, labels, log, _)] = charts(monkeypatch, recorder.plot_losses)
    assert labels == ("batch", "loss") and log == ""
    assert series.keys() == {"train", "smoothed", "valid"}
    assert series["train"] == ([0, 1, 2], [1.0, 2.0, 3.0])
    assert series["smoothed"] == ([0, 1, 2], pytest.approx([1, 1.5050505, 3], abs=1e-6))
    batches, (first, second) = series["valid"]
    assert batches == [1, 2] and isnan(first) and second == 0.5


def test_plot_lr_shows_the_rate_of_each_group_on_a_logarithmic_axis_and_the_momentum(monkeypatch):
    size = (640, 280)
    assert charts(monkeypatch, recorder_of([1.0, 2.0], fits=[0]).plot_lr) == [
        ({"group 0": ([0, 1], [0.1, 0.2]), "group 1": ([0, 1], [1.0, 1.0])},
         ("batch", "learning rate"), "y", size),
        ({"": ([0, 1], [0.9, 0.8])}, ("batch", "momentum"), "", size)]      # one needs no name


def test_plot_lr_has_one_picture_below_the_other_without_captions(monkeypatch):
    recorder = recorder_of([1.0, 2.0], fits=[0])
    width, height = recorder.plot_lr().size
    assert 640 <= width < 700 and 560 <= height < 640
    monkeypatch.setattr("minifast.tools.draw.chart", lambda series, x, y, *rest: y)
    monkeypatch.setattr("minifast.tools.draw.grid", lambda *arguments, columns: arguments)
    assert recorder.plot_lr() == (["learning rate", "momentum"], ["", ""])


def test_an_empty_history_can_be_drawn_too():
    for plot in (Recorder().plot_losses, Recorder().plot_lr):
        assert plot().width >= 640
