import math

from PIL import Image
import pytest
import torch

from minifast.recorder import Recorder, smoothed


def recorder_of(losses: list[float], fits: list[int]) -> Recorder:
    recorder = Recorder()
    recorder.fits = fits
    for number, loss in enumerate(losses):
        recorder.add_batch(torch.tensor(loss), [0.1 * (number + 1), 1.0], 0.9)
    return recorder


def test_smoothed_by_hand():
    # m1 = .02 * 1 = .02             / (1 - .98)   = 1
    # m2 = .98 * .02 + .02 * 2       = .0596       / (1 - .9604) = 1.5050505
    # m3 = .98 * .0596 + .02 * 3     = .118408     / (1 - .941192) = 2.0134675
    assert smoothed([1.0, 2.0, 3.0]) == pytest.approx([1, 1.5050505, 2.0134675], abs=1e-6)


def test_smoothing_a_constant_changes_nothing():
    assert smoothed([0.7] * 5) == pytest.approx([0.7] * 5)


def test_losses_wait_until_they_are_read():
    recorder = recorder_of([1.0, 2.0], fits=[0])
    assert recorder.losses == []
    assert recorder.read_losses() is None
    assert recorder.losses == [1.0, 2.0]
    assert recorder.read_losses() is None                    # nothing is read twice
    assert recorder.losses == [1.0, 2.0]


def test_the_first_loss_that_is_not_finite_is_found_by_its_number():
    recorder = recorder_of([1.0], fits=[0])
    recorder.read_losses()
    for loss in (2.0, math.inf, math.nan):
        recorder.add_batch(torch.tensor(loss), [0.1], 0.9)
    assert recorder.read_losses() == 2


def test_rates_and_momenta_are_noted_batch_by_batch():
    recorder = recorder_of([1.0, 2.0], fits=[0])
    assert recorder.rates == [[0.1, 1.0], [0.2, 1.0]]
    assert recorder.momenta == [0.9, 0.9]


def test_smoothing_starts_anew_with_each_fit():
    recorder = recorder_of([1.0, 2.0, 5.0, 6.0], fits=[0, 2])
    recorder.read_losses()
    # 5.5050505 = (.98 * .1 + .02 * 6) / .0396
    assert recorder.smoothed_losses() == pytest.approx([1, 1.5050505, 5, 5.5050505], abs=1e-6)
    assert recorder.train_loss() == pytest.approx(5.5050505, abs=1e-6)


def test_before_the_first_batch_the_training_loss_is_not_a_number():
    assert math.isnan(recorder_of([], fits=[0]).train_loss())
    assert math.isnan(Recorder().train_loss())


def test_per_epoch_has_nan_where_an_epoch_lacks_an_entry():
    recorder = Recorder()
    recorder.epochs = [{"batch": 5, "valid_loss": 0.4}, {"batch": 10},
                       {"batch": 15, "valid_loss": 0.2}]
    first, second, third = recorder.per_epoch("valid_loss")
    assert (first, third) == (0.4, 0.2) and math.isnan(second)
    assert recorder.per_epoch("batch") == [5, 10, 15]


def drawn_series(monkeypatch, plot) -> list[dict]:
    """What a plot hands to draw.chart, call by call; its own tests look at pixels."""
    calls = []

    def chart(series, x_label, y_label, log="", size=(640, 400)):
        # lists, whatever sequences came
        series = {name: tuple(map(list, points)) for name, points in series.items()}
        calls.append({"series": series, "labels": (x_label, y_label), "log": log, "size": size})
        return Image.new("RGB", size)

    monkeypatch.setattr("minifast.tools.draw.chart", chart)
    assert isinstance(plot(), Image.Image)
    return calls


def full_recorder() -> Recorder:
    recorder = recorder_of([1.0, 2.0], fits=[0])
    recorder.read_losses()
    recorder.epochs = [{"batch": 2, "train_loss": 1.5, "valid_loss": 0.5, "fbeta": 0.9,
                        "seconds": 3.0}]
    return recorder


def test_plot_losses_shows_training_raw_and_smoothed_and_validation(monkeypatch):
    [drawn] = drawn_series(monkeypatch, full_recorder().plot_losses)
    assert drawn["labels"] == ("batch", "loss")
    assert drawn["series"]["train"] == ([0, 1], [1.0, 2.0])
    assert drawn["series"]["smoothed"][1] == pytest.approx([1, 1.5050505], abs=1e-6)
    assert drawn["series"]["valid"] == ([2], [0.5])


def test_plot_lr_shows_the_rate_of_each_group_on_a_logarithmic_axis_and_the_momentum(monkeypatch):
    rates, momentum = drawn_series(monkeypatch, full_recorder().plot_lr)
    assert rates["labels"] == ("batch", "learning rate") and rates["log"] == "y"
    assert rates["series"] == {"group 0": ([0, 1], [0.1, 0.2]), "group 1": ([0, 1], [1.0, 1.0])}
    assert momentum["labels"] == ("batch", "momentum") and momentum["log"] == ""
    assert momentum["series"] == {"": ([0, 1], [0.9, 0.9])}             # one line needs no name
    assert rates["size"] == momentum["size"] == (640, 280)


def test_plot_lr_has_one_picture_below_the_other_without_captions(monkeypatch):
    width, height = full_recorder().plot_lr().size
    assert 640 <= width < 700 and 560 <= height < 640
    monkeypatch.setattr("minifast.tools.draw.grid", lambda pictures, captions, columns: captions)
    assert full_recorder().plot_lr() == ["", ""]


def test_plot_metrics_shows_the_metrics_and_nothing_else_epoch_by_epoch(monkeypatch):
    recorder = full_recorder()
    recorder.epochs.append({**recorder.epochs[0], "batch": 4, "fbeta": 0.95})
    [drawn] = drawn_series(monkeypatch, recorder.plot_metrics)
    assert drawn["series"] == {"fbeta": ([1, 2], [0.9, 0.95])}
    assert drawn["labels"] == ("epoch", "metric")


def test_an_epoch_without_a_metric_has_nan_there(monkeypatch):
    recorder = full_recorder()
    bare = {"batch": 1, "train_loss": 2.0, "seconds": 1.0}
    recorder.epochs = [bare, *recorder.epochs, bare]
    [drawn] = drawn_series(monkeypatch, recorder.plot_metrics)
    numbers, (first, second, third) = drawn["series"]["fbeta"]
    assert numbers == [1, 2, 3] and math.isnan(first) and second == 0.9 and math.isnan(third)


def test_an_empty_history_can_be_drawn_too():
    for plot in (Recorder().plot_losses, Recorder().plot_lr, Recorder().plot_metrics):
        assert plot().width >= 640
