from dataclasses import replace
from functools import partial
import weakref

from PIL import Image
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.metrics import Score, accuracy
from minifast.recorder import Recorder
from minifast.targets import Categories, pixel_loss
from minifast.training import (broken_loss, dropout_key, evaluating, fit, full_gpu, outputs,
                               refuse_single_picture, scores, set_rates, train_batch, train_epoch,
                               validate)

FLOAT32 = torch.autocast("cpu", torch.bfloat16, enabled=False)


class Function(nn.Module):
    """A module without weights that computes a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


class Points:
    """Items (picture (3, 1, 2), class): two numbers in each of three channels, and whether the
    first of them is above 0."""

    def __init__(self, n: int, seed: int = 0):
        self.x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
        self.files = [f"point{i}" for i in range(n)]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i].expand(3, 1, -1), (self.x[i, 0] > 0).long()


def flat(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A transform for Points: the numbers of each picture, (n, 2)."""
    return x[:, 0, 0], y


def points(n: int = 20, bs: int = 4, n_valid: int = 10) -> DataBunch:
    valid = Points(n_valid, seed=1) if n_valid else None
    return DataBunch.create(Points(n), valid, target=Categories(["low", "high"]), bs=bs,
                            tfms=(flat, flat), device=torch.device("cpu"))


def names(data: DataBunch, epoch: int, batch: int) -> str:
    """The points of a training batch, as errors list them."""
    return ", ".join(f"point{i}" for i in data.train_dl.item_numbers(epoch)[batch])


def linear(seed: int = 0) -> nn.Linear:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.99))


def constant(batch: int) -> tuple[list[float], float]:
    return [0.1], 0.9


def run(model: nn.Module, data: DataBunch, epochs: int = 2, schedule=constant, metrics=(),
        loss=F.cross_entropy, optimizer=None) -> Recorder:
    recorder = Recorder()
    fit(model, data, loss, optimizer or adamw(model), epochs, schedule, metrics, recorder, FLOAT32)
    return recorder


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [*(p.detach().clone() for p in model.state_dict().values()),
            *(value.clone() for value in moments)]


def test_train_batch_is_one_step_down_the_gradient():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.tensor([[3.0]]), torch.tensor([[5.0]])
    # loss (2*3 - 5)^2 = 1; gradient 2 (6 - 5) 3 = 6; weight 2 - .1*6 = 1.4
    loss = train_batch(model, batch, F.mse_loss, optimizer, FLOAT32)
    assert loss.item() == pytest.approx(1.0) and not loss.requires_grad
    assert model.weight.item() == pytest.approx(1.4)
    # again: 1.4*3 - 5 = -.8, loss .64; gradient 2 (-.8) 3 = -4.8, and nothing of the 6 is left
    assert train_batch(model, batch, F.mse_loss, optimizer, FLOAT32).item() == pytest.approx(0.64)
    assert model.weight.item() == pytest.approx(1.88)


def test_the_model_runs_in_bfloat16_and_the_loss_in_float32():
    seen = []

    def loss(logits, y):
        seen.append(logits.dtype)
        return F.cross_entropy(logits, y)

    model, (x, y) = linear(), points().one_batch()
    model.register_forward_hook(lambda layer, args, out: seen.append(out.dtype))
    train_batch(model, (x, y), loss, adamw(model), torch.autocast("cpu", torch.bfloat16))
    assert seen == [torch.bfloat16, torch.float32]


def test_set_rates_gives_each_group_its_rate_and_all_the_momentum():
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.AdamW([{"params": a.parameters()}, {"params": b.parameters()}],
                                  betas=(0.9, 0.99))
    set_rates(optimizer, [0.1, 0.2], 0.85)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert [group["betas"] for group in optimizer.param_groups] == [(0.85, 0.99)] * 2
    with pytest.raises(ValueError, match="zip|rates"):
        set_rates(optimizer, [0.1], 0.85)


@pytest.mark.parametrize("bs", [1, 3, 4, 10])
def test_validation_is_exact_for_every_batch_size(bs):
    data, model = points(bs=bs), linear()
    x, y = data.valid_ds.x, (data.valid_ds.x[:, 0] > 0).long()
    found = validate(model, data.valid_dl, F.cross_entropy, [accuracy], FLOAT32)
    assert found["valid_loss"] == pytest.approx(F.cross_entropy(model(x), y).item(), abs=1e-6)
    assert found["accuracy"] == (model(x).argmax(1) == y).double().mean().item()


def test_validation_names_its_columns_and_takes_plain_functions():
    def always_seven(logits, y):
        return 7.0

    found = validate(linear(), points().valid_dl, F.cross_entropy,
                     [always_seven, partial(accuracy)], FLOAT32)
    assert list(found) == ["valid_loss", "always_seven", "accuracy()"]
    assert found["always_seven"] == 7.0


@pytest.mark.parametrize("bs", [1, 2, 3, 4])
def test_a_loss_that_ignores_pixels_is_exact_for_every_batch_size(bs):
    # Logits 0 and x: the loss of a pixel is log(1 + e^x), less x where it is class 2. Of the four
    # pictures of two pixels, one is all void (class 1), one half. Void counts, as a loss of 0.
    x = torch.tensor([[1., 2], [3, 4], [5, 6], [7, 8]])
    y = torch.tensor([[0, 2], [1, 1], [2, 1], [0, 0]])
    pixels = TensorDataset(x[:, None, None].expand(4, 3, 1, 2), y[:, None])
    data = DataBunch.create(pixels, pixels, bs=bs, device=torch.device("cpu"))

    def model(x):
        x = x[:, 0]
        return torch.stack([torch.zeros_like(x), torch.full_like(x, -99), x], dim=1)  # (n, 3, 1, 2)

    wanted = (torch.log1p(x.exp()) - x * (y == 2))[y != 1].sum() / 8  # of 8 pixels
    loss = partial(pixel_loss, ignore=1)
    found = validate(Function(model), data.valid_dl, loss, [], FLOAT32)["valid_loss"]
    assert found == pytest.approx(wanted.item(), rel=1e-6)
    void = DataBunch.create(pixels, [pixels[1]], bs=bs, device=torch.device("cpu"))
    assert validate(Function(model), void.valid_dl, loss, [], FLOAT32)["valid_loss"] == 0


def test_the_loss_of_a_batch_counts_as_often_as_it_has_pictures_and_nan_stays_nan():
    # Ten points in batches of 4, 4 and 2, whose losses are 1, 2 and 6: (4 + 8 + 12) / 10
    for losses, wanted in (([1., 2, 6], 2.4), ([1., float("nan"), 6], float("nan"))):
        script = iter(losses)
        totals = scores(linear(), points().valid_dl, lambda *_: torch.tensor(next(script)), [],
                        FLOAT32)
        assert float(totals["valid_loss"]) == pytest.approx(wanted, nan_ok=True)
        assert totals["valid_loss"].out_of == 10


def test_training_and_scoring_a_batch_never_wait_for_the_device():
    # The device "meta" has shapes but no numbers: to look at one raises, see test_01_metrics.
    meta = torch.device("meta")
    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2)).to(meta)
    items = [(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4).long())] * 4
    data = DataBunch.create(items, items, target=Categories(["a", "b"]), bs=2, num_workers=0,
                            device=meta).normalize(([.5] * 3, [.2] * 3))
    loss, optimizer = partial(pixel_loss, ignore=1), torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder()
    for batch in data.train_dl:
        found = train_batch(model, batch, loss, optimizer, FLOAT32)
        recorder.add_batch(found, [0.1], 0.9)
        with pytest.raises((NotImplementedError, RuntimeError)):
            found.item()
    assert len(recorder.waiting) == 2
    with evaluating(model):
        for logits, y in outputs(model, data.valid_dl, FLOAT32):
            assert loss(logits, y).device == meta
    assert scores(model, data.valid_dl, loss, [], FLOAT32)["valid_loss"].hits.device == meta


def test_scores_keep_hits_and_out_of():
    totals = scores(linear(), points(bs=3).valid_dl, F.cross_entropy, [accuracy], FLOAT32)
    assert list(totals) == ["valid_loss", "accuracy"]
    assert [float(total.out_of) for total in totals.values()] == [10, 10]
    values = validate(linear(), points().valid_dl, F.cross_entropy, [accuracy], FLOAT32)
    assert {name: float(total) for name, total in totals.items()} == pytest.approx(values)


def test_outputs_are_logits_and_targets_batch_by_batch():
    model, data = linear(), points()
    for loader in (data.valid_dl, data.train_dl):
        seen = list(replace(loader))
        batches = list(outputs(model, loader, FLOAT32))
        for (logits, y), (x, wanted) in zip(batches, seen, strict=True):
            assert torch.equal(logits, model(x)) and torch.equal(y, wanted)


def test_outputs_are_float32_whatever_the_model_runs_in():
    fast = torch.autocast("cpu", torch.bfloat16)
    logits, _ = next(outputs(linear(), points().valid_dl, fast))
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())           # it did run in bfloat16


@pytest.mark.parametrize("error", [None, ValueError("a broken file"), KeyboardInterrupt()])
def test_evaluating_ends_with_each_layer_in_the_mode_in_which_it_came(error):
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    model[1].eval()
    try:
        with evaluating(model):
            assert not any(layer.training for layer in model.modules())
            assert not torch.is_grad_enabled()
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as caught:
        assert caught is error
    assert [layer.training for layer in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()


def test_metrics_get_float32_logits():
    def metric(logits, y):
        return Score(logits.dtype == torch.float32, 1)

    found = validate(linear(), points().valid_dl, F.cross_entropy, [metric],
                     torch.autocast("cpu", torch.bfloat16))
    assert found["metric"] == 1.0


def test_validation_switches_dropout_off_and_leaves_the_mode_as_it_was():
    model = nn.Sequential(linear(), nn.Dropout(0.5), nn.BatchNorm1d(2))
    before = [value.clone() for value in model.state_dict().values()]
    for training in (True, False):
        model.train(training)
        found = [validate(model, points().valid_dl, F.cross_entropy, [], FLOAT32) for _ in range(2)]
        assert found[0] == found[1]
        assert model.training == model[1].training == training
    model.train()
    model[2].eval()                                         # as someone may who keeps statistics
    validate(model, points().valid_dl, F.cross_entropy, [], FLOAT32)
    assert [model.training, *(layer.training for layer in model)] == [True, True, True, False]
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values()))


def test_validation_keeps_no_graph_and_counts_no_epoch():
    data = points()

    def loss(logits, y):
        assert not logits.requires_grad
        return F.cross_entropy(logits, y)

    validate(linear(), data.valid_dl, loss, [], FLOAT32)
    assert data.valid_dl.epoch == 0


def test_fit_does_what_a_loop_written_by_hand_does():
    ours, theirs, data = linear(), linear(), points()
    recorder = run(ours, data, epochs=2)
    optimizer, losses, loader = adamw(theirs), [], points().train_dl
    for epoch in range(2):
        for x, y in loader:
            loss = F.cross_entropy(theirs(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert recorder.losses == losses
    assert torch.equal(ours.weight, theirs.weight)


def test_fit_trains_in_training_mode_also_after_a_validation():
    modes = []
    model = nn.Sequential(linear(), nn.Dropout(0.1))
    model[1].register_forward_hook(lambda layer, args, out: modes.append(layer.training))
    run(model.eval(), points(), epochs=2)                   # per epoch: 5 batches, 3 of validation
    assert modes == ([True] * 5 + [False] * 3) * 2


def test_the_schedule_counts_batches_over_the_whole_fit():
    asked = []

    def schedule(batch):
        asked.append(batch)
        return [0.1 / (batch + 1)], 0.8

    model = linear()
    optimizer, recorder = adamw(model), Recorder()
    for _ in range(2):
        fit(model, points(), F.cross_entropy, optimizer, 2, schedule, [], recorder, FLOAT32)
    assert asked == [*range(10), *range(10)]
    assert recorder.fits == [0, 10]
    assert recorder.rates[1] == [0.05] and recorder.momenta == [0.8] * 20
    assert optimizer.param_groups[0]["lr"] == 0.01          # the last one asked for


def test_the_history_has_a_row_per_epoch_and_the_table_shows_it(capsys):
    recorder = run(linear(), points(), epochs=2, metrics=[accuracy])
    assert [row["batch"] for row in recorder.epochs] == [5, 10]
    assert list(recorder.epochs[0]) == ["batch", "train_loss", "valid_loss", "accuracy", "seconds"]
    assert recorder.epochs[1]["train_loss"] == recorder.train_loss()
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["epoch", "train_loss", "valid_loss", "accuracy", "time"]
    row = recorder.epochs[1]
    shown = [f"{row[name]:.6f}" for name in ("train_loss", "valid_loss", "accuracy")]
    assert second.split() == ["1", *shown, "00:00"]


def test_meanwhile_a_bar_shows_the_smoothed_loss(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    recorder = run(linear(), points(), epochs=1)
    shown = capsys.readouterr().out
    assert "5/5" in shown and f"loss {recorder.train_loss():.4f}" in shown
    assert "\rtrain █" in shown and "\rvalid █" in shown


def test_without_validation_pictures_there_are_no_such_columns(capsys):
    recorder = run(linear(), points(n_valid=0), metrics=[accuracy])
    assert "valid_loss" not in recorder.epochs[0] and "accuracy" not in recorder.epochs[0]
    assert capsys.readouterr().out.split()[:3] == ["epoch", "train_loss", "time"]


def broken_at(step: int):
    """A loss that is not a number at its step-th call (from 0), nor is its gradient."""
    calls = iter(range(10 ** 6))
    return lambda logits, y: F.cross_entropy(logits, y) * (
        float("nan") if next(calls) == step else 1.0)


def test_a_loss_that_is_not_finite_stops_and_brings_back_the_epochs_start():
    data, good = points(n_valid=0), linear()
    first_epoch = adamw(good)
    run(good, points(n_valid=0), epochs=1, optimizer=first_epoch)
    model = linear()
    optimizer = adamw(model)
    # Steps 0 to 4 are epoch 0; step 7 is batch 2 of epoch 1.
    bad = names(data, 1, 2)
    with pytest.raises(ValueError, match=rf"nan at step 7, batch 2 .* 0\.1;.* in: {bad}$"):
        run(model, data, epochs=3, loss=broken_at(7), optimizer=optimizer)
    for ours, theirs in zip(state_of(model, optimizer), state_of(good, first_epoch), strict=True):
        assert torch.equal(ours, theirs)


def test_after_a_broken_loss_training_can_go_on():
    model = linear()
    optimizer = adamw(model)
    with pytest.raises(ValueError, match="lower rate"):
        run(model, points(), loss=broken_at(0), optimizer=optimizer)
    recorder = run(model, points(), optimizer=optimizer)
    assert recorder.losses[-1] < recorder.losses[0]


def test_ctrl_c_keeps_what_was_learned_and_noted():
    calls = []

    def loss(logits, y):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return F.cross_entropy(logits, y)

    model, recorder = linear(), Recorder()
    start = model.weight.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        train_epoch(model, add_fit(recorder, points()), loss, adamw(model), constant, recorder,
                    FLOAT32)
    assert len(recorder.losses) == len(recorder.rates) == 3
    assert not torch.equal(model.weight, start)
    run(model, points())


def test_ctrl_c_right_after_a_broken_loss_brings_back_the_epochs_start_too():
    losses = iter([1.0, float("nan")])

    def loss(logits, y):
        factor = next(losses, None)
        if factor is None:
            raise KeyboardInterrupt
        return F.cross_entropy(logits, y) * factor

    model = linear()
    optimizer, recorder = adamw(model), Recorder()
    start = state_of(model, optimizer)
    with pytest.raises(ValueError, match="nan at step 1"):
        train_epoch(model, add_fit(recorder, points()), loss, optimizer, constant, recorder,
                    FLOAT32)
    assert all(torch.equal(a, b) for a, b in zip(start, state_of(model, optimizer), strict=True))


def add_fit(recorder: Recorder, data: DataBunch):
    """What fit does before an epoch; returns the loader."""
    recorder.fits.append(0)
    return data.train_dl


def test_broken_loss_says_where_and_what_helps():
    recorder, data = Recorder(), points()
    recorder.losses, recorder.rates = [0.5, float("inf")], [[0.1], [0.001, 0.02]]
    next(iter(data.train_dl))                               # epoch 0 is under way
    text = broken_loss(recorder, 1, data.train_dl, 1)
    assert text.startswith("the loss is inf at step 1, batch 1 of its epoch")
    assert "learning rate 0.001, 0.02" in text and text.endswith(f": {names(data, 0, 1)}")


@pytest.mark.parametrize("n, bs, fine", [(5, 1, False), (1, 4, False), (5, 4, True), (5, 5, True)])
def test_one_picture_a_batch_is_refused_where_batchnorm_sees_single_values(n, bs, fine):
    loader, model = points(n, bs).train_dl, nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    refuse_single_picture(nn.Linear(2, 2), loader)          # without BatchNorm it is no trouble
    if fine:
        refuse_single_picture(model, loader)
    else:
        with pytest.raises(ValueError, match=f"bs={bs}.* at least two"):
            refuse_single_picture(model, loader)
        with pytest.raises(ValueError, match="at least two"):
            run(model, points(n, bs))


def test_of_two_processes_each_needs_two_pictures_a_batch(monkeypatch):
    monkeypatch.setattr("minifast.tools.processes.COUNT", 2)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    refuse_single_picture(model, points(bs=4).train_dl)
    for bs in (2, 3):                                       # 3 cannot be shared evenly
        with pytest.raises(ValueError, match="at least two"):
            refuse_single_picture(model, points(bs=bs).train_dl)


def test_dropout_follows_the_seed_and_the_epoch_and_not_the_global_random_state():
    histories = []
    for start in (1, 2):
        model, data = nn.Sequential(linear(), nn.Dropout(0.5)), points()
        torch.manual_seed(start)
        state = torch.get_rng_state()
        histories.append(run(model, data).losses)
        assert torch.equal(state, torch.get_rng_state())
    assert histories[0] == histories[1]


def test_dropout_differs_from_epoch_to_epoch_and_from_seed_to_seed():
    masks = []
    model = nn.Sequential(nn.Dropout(0.5), linear())
    model[0].register_forward_hook(lambda layer, args, out: masks.append(out == 0))
    ones = [(torch.ones(3, 1, 2), torch.tensor(0))] * 40         # the same picture over and over
    for seed in (1, 2):
        run(model, DataBunch.create(ones, None, target=Categories(["a", "b"]), tfms=flat, bs=40,
                                    seed=seed, device=torch.device("cpu")))
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])


# After a stop

def row(loss: float) -> dict[str, float]:
    return {"batch": 5, "train_loss": loss, "valid_loss": loss / 2, "seconds": 61}


def test_a_fit_goes_on_after_the_epochs_that_were_done_and_shows_them_again(capsys):
    recorder, model, asked, told = Recorder(), linear(), [], []
    recorder.losses, recorder.momenta = [.9] * 13, [.9] * 13    # 3 batches of a fit before, then 10
    recorder.rates, recorder.fits = [[.1]] * 13, [0, 3]
    recorder.epochs = [row(.8), row(.5), row(.25)]

    def schedule(batch):
        asked.append(batch)
        return [0.1], 0.9

    fit(model, points(), F.cross_entropy, adamw(model), 3, schedule, [], recorder, FLOAT32, 2,
        told.append)
    assert asked == [10, 11, 12, 13, 14] and told == [3]
    assert recorder.fits == [0, 3] and len(recorder.losses) == 18 and len(recorder.epochs) == 4
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == [["0", "0.500000", "0.250000", "01:01"],
                          ["1", "0.250000", "0.125000", "01:01"]]
    assert len(lines) == 4 and lines[3][0] == "2"


def test_where_all_epochs_were_done_nothing_is_trained(capsys):
    recorder, model, told = Recorder(), linear(), []
    recorder.fits, recorder.epochs = [0], [row(.5), row(.25)]
    before = state_of(model, adamw(model))
    fit(model, points(), F.cross_entropy, adamw(model), 2, constant, [], recorder, FLOAT32, 2,
        told.append)
    assert all(map(torch.equal, before, state_of(model, adamw(model)))) and told == []
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_after_each_epoch_it_is_told_how_many_are_done():
    recorder, model, told = Recorder(), linear(), []
    fit(model, points(), F.cross_entropy, adamw(model), 3, constant, [], recorder, FLOAT32,
        save=lambda done: told.append((done, len(recorder.epochs), len(recorder.losses))))
    assert told == [(1, 1, 5), (2, 2, 10), (3, 3, 15)]


# Failures that name the way out

class Full(nn.Linear):
    """A model for which a GPU's memory is full, in training mode or in eval mode."""

    def __init__(self, in_training: bool):
        super().__init__(2, 2)
        self.in_training, self.held = in_training, []

    def forward(self, x: Tensor) -> Tensor:
        activations = super().forward(x)
        self.held.append(weakref.ref(activations))
        if self.training == self.in_training:
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")
        return activations


@pytest.mark.parametrize("in_training, bs, remedy", [
    (True, 5, "bs=5: try bs=2"), (False, 5, "val_bs=5: try val_bs=2"),
    (True, 2, "bs=2: try bs=1"),
    (True, 1, "bs=1: try smaller pictures"), (False, 1, "val_bs=1: try smaller pictures")])
def test_where_the_gpus_memory_is_full_half_the_batch_size_is_proposed(in_training, bs, remedy):
    model = Full(in_training)
    with pytest.raises(ValueError, match=f"with {remedy}.* tried to allocate 2 GiB") as raised:
        run(model, points(bs=bs))
    assert raised.value.__traceback__ and model.held[-1]() is None      # though the error is kept


def test_when_the_gpus_memory_is_full_what_was_learned_stays():
    model, recorder = linear(), Recorder()
    start, calls = model.weight.detach().clone(), []

    def loss(logits, y):
        calls.append(1)
        if len(calls) == 3:
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")
        return F.cross_entropy(logits, y)

    with pytest.raises(ValueError, match="try bs=2"):
        train_epoch(model, add_fit(recorder, points()), loss, adamw(model), constant, recorder,
                    FLOAT32)
    assert len(recorder.losses) == 2 and not torch.equal(model.weight, start)


def test_full_gpu_names_the_knob_of_its_loader_and_lets_go_of_what_was_held():
    data, held = points(n=9, bs=7), []
    for loader, remedy in ((data.train_dl, r"\bbs=7: try bs=3,"),
                           (data.valid_dl, "val_bs=7: try val_bs=3,")):
        def compute():
            activations = torch.zeros(3)
            held.append(weakref.ref(activations))
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")

        with pytest.raises(ValueError, match=f"{remedy}.* tried to allocate 2 GiB") as raised:
            with full_gpu(loader):
                compute()
        assert isinstance(raised.value.__cause__, torch.cuda.OutOfMemoryError)
        assert held[-1]() is None                           # though the error is kept


@pytest.mark.parametrize("error", [ValueError("a broken file"), KeyboardInterrupt("Ctrl-C"),
                                   RuntimeError("a bug")])
def test_other_errors_than_a_full_gpu_come_out_as_they_are(error):
    with pytest.raises(type(error)) as raised:
        with full_gpu(points().train_dl):
            raise error
    assert raised.value is error
    with full_gpu(points().train_dl):                       # and none is none
        pass


def test_the_key_of_dropout_is_seed_and_epoch_and_of_other_processes_their_number(monkeypatch):
    loader = points().train_dl
    assert dropout_key(loader) == (42, 0)
    list(loader)
    assert dropout_key(loader) == (42, 1) == dropout_key(replace(loader))
    keys = []
    for rank in range(3):
        monkeypatch.setattr("minifast.tools.processes.RANK", rank)
        keys.append(dropout_key(loader))
    assert keys == [(42, 1), (42, 1, 1), (42, 1, 2)]


def test_without_files_the_items_of_a_broken_loss_are_named_by_number():
    items = [(torch.ones(3, 1, 2), torch.tensor(0))] * 4
    loader = DataBunch.create(items * 5, None, tfms=flat, bs=20,
                              device=torch.device("cpu")).train_dl
    recorder = Recorder()
    recorder.losses, recorder.rates = [float("nan")], [[0.1]]
    next(iter(loader))
    all_of_them = ", ".join(f"item {i}" for i in loader.item_numbers(0)[0])      # none is left out
    assert broken_loss(recorder, 0, loader, 0).endswith(f": {all_of_them}")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_is_broken_is_named_in_training(tmp_path, num_workers):
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for file in files:
        Image.new("RGB", (2, 1)).save(file)
    files[2].write_bytes(files[2].read_bytes()[:30])
    dataset = Dataset(files, ["low", "high"] * 2, Categories(["low", "high"]))
    data = DataBunch.create(dataset, None, tfms=flat, bs=4, num_workers=num_workers,
                            device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"picture \S*2\.png"):
        run(linear(), data)
