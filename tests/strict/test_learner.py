from copy import deepcopy
from functools import partial
import random

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast import results
from minifast.databunch import DataBunch
from minifast.learner import Learner
from minifast.metrics import METRICS, Score, accuracy, foreground_accuracy, register
from minifast.targets import Categories, Masks, Tags, pixel_loss
from minifast.tools.files import load_tensors

CPU, NAN = torch.device("cpu"), float("nan")
LOW_HIGH = ["low", "high"]


class Points:
    """Items (picture (3, 1, 4), class): four numbers in each of three channels, and whether the
    first of them is above 0."""

    def __init__(self, n: int, seed: int = 0):
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
        self.files = [f"point{i}" for i in range(n)]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i].expand(3, 1, -1), (self.x[i, 0] > 0).long()


def flat(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A transform for Points: the numbers of each picture, (n, 4)."""
    return x[:, 0, 0], y


def shaken(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return flat(x + torch.rand(x.shape, generator=rng), y, rng)


def points(n: int = 20, n_valid: int = 8, classes=LOW_HIGH, target=Categories,
           **knobs) -> DataBunch:
    """20 points make 5 batches."""
    return DataBunch.create(Points(n), Points(n_valid, seed=1) if n_valid else None,
                            target=target(classes), device=CPU,
                            **{"bs": 4, "tfms": (flat, flat), **knobs})


def learner(data: DataBunch | None = None, seed: int = 0, **knobs) -> Learner:
    """A small net in three layer groups, with dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        groups = [nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5)),
                  nn.Linear(6, 2)]
    return Learner(data or points(), nn.Sequential(*groups), groups=groups, precision="float32",
                   **knobs)


def linear(data: DataBunch | None = None, **knobs) -> Learner:
    """A learner of one linear layer, always the same."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))
    return Learner(data or points(), model, **{"precision": "float32", **knobs})


def everything(learn: Learner) -> dict:
    """A copy of what a learner is, but for the seconds that an epoch took."""
    state = deepcopy({**learn.state(), "history": vars(learn.recorder)})
    for row in state["history"]["epochs"]:
        del row["seconds"]
    return state


def same(one: object, other: object) -> bool:
    """Whether both are equal, tensors bit by bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def moved(learn: Learner, before: dict) -> list[bool]:
    """For each weight or buffer, whether it is another one than before."""
    return [not torch.equal(a, b)
            for a, b in zip(before["model"].values(), learn.model.state_dict().values())]


def at_batch(learn: Learner, number: int, happens) -> None:
    """Let something happen to the loss of the training batch with this number, counted from now;
    an error is raised. The check before training and validation do not count: no gradients."""
    batches, loss_func = [], learn.loss_func

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        batches.extend([1] * logits.requires_grad)
        if not logits.requires_grad or len(batches) != number + 1:
            return loss_func(logits, y)
        if isinstance(happens, BaseException):
            raise happens
        return loss_func(logits, y) * happens

    learn.loss_func = loss


def drawn(seed: int) -> tuple[float, float, float]:
    """The next random number of each kind, which are then seeded."""
    numbers = random.random(), numpy.random.rand(), torch.rand(1).item()
    random.seed(seed), numpy.random.seed(seed), torch.manual_seed(seed)
    return numbers


# What a learner is made of

def test_the_loss_is_the_one_that_goes_with_the_labels_or_is_given():
    assert learner().loss_func is F.cross_entropy
    assert learner(points(target=Tags)).loss_func is F.binary_cross_entropy_with_logits
    assert learner(loss_func=F.multi_margin_loss).loss_func is F.multi_margin_loss
    unknown = DataBunch.create(Points(8), None, device=CPU, bs=4, tfms=flat)
    with pytest.raises(ValueError, match="target"):
        learner(unknown)
    learner(unknown, loss_func=F.cross_entropy).fit(1, 0.1)


def test_metrics_are_functions_partials_or_names():
    register("for_this_test", partial(accuracy))
    try:
        assert learner(metrics=["for_this_test", accuracy]).metrics == [METRICS["for_this_test"],
                                                                        accuracy]
    finally:
        del METRICS["for_this_test"]
    assert len(learner(metrics=partial(foreground_accuracy, void_code=1)).metrics) == 1
    for metric in ("foreground_accuracy", foreground_accuracy, partial(foreground_accuracy)):
        with pytest.raises(TypeError, match="void_code"):
            learner(metrics=[metric])

    def valid_loss(logits, y):
        return 1.0

    # A wrong name; the name of another metric, or of the loss
    for metrics, name in (("acuracy", "acuracy"), (["accuracy", accuracy], "accuracy"),
                          (valid_loss, "valid_loss")):
        with pytest.raises(ValueError, match=name):
            learner(metrics=metrics)


def test_in_bfloat16_weights_lie_otherwise_and_losses_and_metrics_get_float32(monkeypatch):
    monkeypatch.setattr("minifast.tools.device.uses_bfloat16",
                        lambda device, how: how == "auto" and device == CPU)
    seen = []

    def metric(logits, y):
        seen.append(logits.dtype)
        return 1.0

    def loss(logits, y):
        metric(logits, y)
        return F.cross_entropy(logits, y)

    full = torch.float32
    for how, layout, half in (("auto", torch.channels_last, torch.bfloat16),
                              ("float32", torch.contiguous_format, full)):
        seen.clear()
        net = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 2, 1), nn.Flatten())
        learn = Learner(points(n=4, n_valid=4), net, loss, [metric], precision=how)
        learn.model.register_forward_hook(lambda layer, args, out: seen.append(out.dtype))
        learn.fit(1, 0.1)
        assert seen == [half, full] * 2 + [half, full, full]    # check, training, validation
        net = Learner(points(), nn.Conv2d(3, 8, 3), precision=how).model
        assert net.weight.is_contiguous(memory_format=layout)


# The optimizer, and freezing

def test_the_optimizer_is_v1s_default_adamw():
    for learn, wd in ((learner(wd=0.3), 0.3), (linear(), 1e-2)):
        assert type(learn.optimizer) is torch.optim.AdamW
        assert len(learn.optimizer.param_groups) == len(learn.groups)   # of linear the model is one
        for group in learn.optimizer.param_groups:
            assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.99), 1e-8, wd)
            assert group["fused"]                           # all weights in one go


def test_train_batch_is_one_step_of_adamw():
    learn = Learner(points(), nn.Linear(1, 1, bias=False), F.mse_loss, wd=0.3, precision="float32")
    nn.init.constant_(learn.model.weight, 2.0)
    x, y = torch.tensor([[3.0]]), torch.tensor([[5.0]])
    # The loss is (2*3 - 5)^2 = 1, the gradient 2 (6 - 5) 3 = 6. The first step of Adam is as long
    # as the rate: 2 (1 - .1*.3) - .1 = 1.84.
    loss = learn.train_batch(learn.model, x, y, [0.1], 0.9)
    assert loss.item() == pytest.approx(1) and loss.shape == () and not loss.requires_grad
    assert learn.model.weight.item() == pytest.approx(1.84)
    # (1.84*3 - 5)^2 = .2704; the gradient is 3.12, and nothing of the 6 is left in it.
    # m = .8*.6 + .2*3.12 = 1.104, / (1 - .8^2) = 3.066667; v = .99*.36 + .01*3.12^2 = .453744,
    # / (1 - .99^2) = 22.80121; 1.84 (1 - .1*.3) - .1 * 3.066667 / sqrt(22.80121) = 1.720577
    assert learn.train_batch(learn.model, x, y, [0.1], 0.8).item() == pytest.approx(0.2704)
    assert learn.model.weight.item() == pytest.approx(1.720577)


def test_freezing_leaves_the_last_group_and_batchnorm_to_a_new_optimizer():
    learn = learner()
    for change, frozen_to, tensors in ((learn.freeze, 2, [0, 2, 2]), (learn.unfreeze, 0, [2] * 3),
                                       (partial(learn.freeze_to, 1), 1, [0, 2, 2]),
                                       (partial(learn.freeze_to, -3), 0, [2] * 3)):
        learn.fit(1, 0.1)
        optimizer = learn.optimizer
        assert optimizer.state
        learn.fit(1, 0.1)
        assert learn.optimizer is optimizer                 # fitting again makes no new one
        change()
        assert learn.frozen_to == frozen_to and not learn.optimizer.state
        assert [len(group["params"]) for group in learn.optimizer.param_groups] == tensors
    assert all(p.requires_grad for p in learn.model.parameters())


def test_a_frozen_group_stays_as_it_is_and_the_others_move():
    learn = learner()
    learn.fit(1, 0.1)                                       # leaves gradients behind
    learn.freeze()
    before = everything(learn)
    learn.fit(1, 0.1)
    assert moved(learn, before) == [False, False, *[True] * 7]      # BatchNorm has three buffers
    # Linear(4, 6) has 30 parameters, BatchNorm1d(6) 12, Linear(6, 2) 14
    assert learn.summary().split()[3:] == ["0", "30", "0", "1", "12", "12", "2", "14", "14"]


# Rates

def test_fit_keeps_rates_and_momentum():
    learn = learner()
    learn.fit(2, slice(0.01))
    assert learn.recorder.rates == [[0.001, 0.001, 0.01]] * 10
    assert learn.recorder.momenta == [0.9] * 10
    x, y = learn.data.one_batch()
    learn.train_batch(learn.model, x, y, [0.1, 0.2, 0.3], 0.85)
    groups = [(group["lr"], group["betas"]) for group in learn.optimizer.param_groups]
    assert groups == [(rate, (0.85, 0.99)) for rate in (0.1, 0.2, 0.3)]
    with pytest.raises(ValueError, match="zip"):
        learn.train_batch(learn.model, x, y, [0.1], 0.85)


def test_each_fit_of_one_cycle_goes_through_v1s_values_in_each_group():
    learn = learner()
    for _ in range(2):
        learn.fit_one_cycle(2, slice(0.01))                 # 10 batches
    expected = [.0004, .0028, .0076, .01, .00950485, .00811746, .00611262, .00388742, .00188258,
                .0004951937] * 2
    for group, factor in ((0, 0.1), (1, 0.1), (2, 1)):
        assert [rates[group] for rates in learn.recorder.rates] == pytest.approx(
            [factor * rate for rate in expected], rel=2e-6)
    # .95 -> .85 -> .95 with the same clock: half way up after 1.5 batches of 3, so at 1: .925
    momenta = learn.recorder.momenta
    assert momenta[:4] == pytest.approx([0.95, 0.925, 0.875, 0.85])
    assert momenta[9] == pytest.approx(0.85 + 0.1 * (1 - 0.0495155), abs=1e-4)
    assert momenta[10:] == momenta[:10] and learn.recorder.fits == [0, 10]
    for group in learn.optimizer.param_groups:              # as the last batch had them
        assert group["lr"] in learn.recorder.rates[9] and group["betas"][0] == momenta[9]


def test_pct_start_moves_the_peak():
    learn = learner()
    learn.fit_one_cycle(2, 0.01, pct_start=0.9)
    assert max(range(10), key=lambda t: learn.recorder.rates[t][0]) == 9
    assert learn.recorder.momenta[9] == pytest.approx(0.85)


def test_weight_decay_may_be_set_for_one_fit():
    learn = learner(wd=0.02)
    for fit in (learn.fit, learn.fit_one_cycle):
        for wd, wanted in ((0.5, 0.5), (None, 0.02), (0, 0)):
            fit(1, 0.1, wd=wd)
            assert [g["weight_decay"] for g in learn.optimizer.param_groups] == [wanted] * 3


@pytest.mark.parametrize("fit, reason", [
    (lambda learn, file: learn.fit(0, 0.1), "epochs"), (lambda learn, file: learn.fit(1, 0), "lr"),
    (lambda learn, file: learn.fit_one_cycle(0, 0.1, checkpoint=file), "epochs"),
    (lambda learn, file: learn.fit_one_cycle(1, -0.1, checkpoint=file), "-0.1"),
    (lambda learn, file: learn.fit_one_cycle(1, 0.1, -0.5, checkpoint=file), "-0.5"),
    (lambda learn, file: learn.fit_one_cycle(1, 0.1, 1.5, checkpoint=file), "1.5")])
def test_wrong_numbers_are_refused_before_anything_is_noted_or_saved(tmp_path, fit, reason):
    learn = learner()
    before = everything(learn)
    with pytest.raises(ValueError, match=reason):
        fit(learn, tmp_path / "fit.pth")
    assert same(everything(learn), before) and list(tmp_path.iterdir()) == []


# Training

def test_fit_does_what_a_loop_written_by_hand_does():
    ours, theirs = linear(), linear().model
    ours.fit(2, 0.1)
    optimizer = torch.optim.AdamW(theirs.parameters(), 0.1, (0.9, 0.99), weight_decay=0.01,
                                  fused=True)
    losses, loader = [], points().train_dl
    for epoch in range(2):
        for x, y in loader:
            loss = F.cross_entropy(theirs(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert ours.recorder.losses == losses and torch.equal(ours.model.weight, theirs.weight)


def test_fit_trains_in_training_mode_also_after_a_validation():
    learn, modes = learner(), []
    learn.model[1].register_forward_hook(lambda layer, args, out: modes.append(layer.training))
    learn.model.eval()
    learn.fit(2, 0.1)                                       # 5 batches, 2 of validation
    assert modes == [True] + ([True] * 5 + [False] * 2) * 2     # the first one is the check's


def test_the_history_has_a_row_per_epoch_and_the_table_shows_it(capsys):
    learn = linear(metrics=[accuracy])
    learn.fit(1, 0.1)
    learn.fit(2, 0.1)
    lines, rows = capsys.readouterr().out.splitlines(), learn.recorder.epochs
    assert [row["batch"] for row in rows] == [5, 10, 15]
    assert list(rows[0]) == ["batch", "train_loss", "valid_loss", "accuracy", "seconds"]
    # The smoothed loss starts anew with each fit: (.02 a .98^4 + .02 b .98^3 ...) / (1 - .98^5)
    weights = 0.02 * 0.98 ** numpy.arange(5)[::-1]
    assert rows[1]["train_loss"] == pytest.approx(
        weights @ learn.recorder.losses[5:10] / (1 - 0.98 ** 5))
    assert rows[2]["valid_loss"] == learn.validate()["valid_loss"] and 0 < rows[2]["seconds"] < 60
    shown = [[f"{row[name]:.6f}" for name in ("train_loss", "valid_loss", "accuracy")]
             for row in rows]
    header = ["epoch", "train_loss", "valid_loss", "accuracy", "time"]
    assert [line.split() for line in lines] == [
        header, ["0", *shown[0], "00:00"],
        header, ["0", *shown[1], "00:00"], ["1", *shown[2], "00:00"]]


def test_meanwhile_a_bar_shows_the_smoothed_loss(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    learn = linear(points(n=48))
    learn.fit(1, 0.1)
    shown = capsys.readouterr().out
    assert "12/12" in shown and "\rtrain █" in shown and "\rvalid █" in shown
    read = numpy.array(learn.recorder.losses[:10])          # the last two are read only later
    weights = 0.02 * 0.98 ** numpy.arange(10)[::-1]
    assert f"loss {weights @ read / (1 - 0.98 ** 10):.4f}" in shown


def test_losses_are_read_every_ten_batches_and_validation_is_not_needed(capsys):
    learn, noted = linear(points(n=100, n_valid=0), metrics=[accuracy]), []
    learn.model.register_forward_hook(lambda *_: noted.append(len(learn.recorder.losses)))
    learn.fit(1, 0.1)
    assert noted[1:] == [0] * 10 + [10] * 10 + [20] * 5
    assert len(learn.recorder.losses) == 25 and learn.recorder.waiting == []
    assert list(learn.recorder.epochs[0]) == ["batch", "train_loss", "seconds"]
    assert capsys.readouterr().out.split()[:4] == ["epoch", "train_loss", "time", "0"]


def test_training_and_scoring_a_batch_never_wait_for_the_device():
    # The device "meta" has shapes but no numbers: to look at one raises, see test_01_metrics.
    meta = torch.device("meta")
    items = [(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4).long())] * 4
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))
    data = DataBunch.create(items, items, target=Masks(["a", "b"]), bs=2, num_workers=0, device=CPU)
    learn = Learner(data, net, partial(pixel_loss, ignore=1), precision="float32")
    learn.model.to(meta)
    learn.optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.99))
    learn.data = DataBunch.create(items, items, target=Masks(["a", "b"]), bs=2, num_workers=0,
                                  device=meta).normalize(([.5] * 3, [.2] * 3))
    for x, y in learn.data.train_dl:
        loss = learn.train_batch(learn.model, x, y, [0.1], 0.9)
        learn.recorder.add_batch(loss, [0.1], 0.9)
        with pytest.raises((NotImplementedError, RuntimeError)):
            loss.item()
    assert len(learn.recorder.waiting) == 2
    assert learn.scores([])["valid_loss"].hits.device == meta


def test_dropout_follows_the_seed_and_the_epoch_and_no_random_state():
    masks = []
    for start, seed in ((1, 1), (2, 1), (1, 2)):
        ones = [(torch.ones(3, 1, 4), torch.tensor(0))] * 40        # the same picture over and over
        data = DataBunch.create(ones, None, target=Categories(LOW_HIGH), tfms=flat, bs=20,
                                seed=seed, device=CPU)
        learn = Learner(data, nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), precision="float32")
        drawn(start)
        wanted = drawn(start)
        learn.model[0].register_forward_hook(lambda layer, args, out: masks.append(out == 0))
        learn.fit(2, 0.1)
        assert drawn(start) == wanted
    masks = [torch.cat(masks[i + 1:i + 5]) for i in (0, 5, 10)]     # without the check's
    assert torch.equal(masks[0], masks[1])
    batches = [*masks[0].split(20), *masks[2].split(20)]
    assert all(not torch.equal(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_each_process_has_a_dropout_of_its_own(monkeypatch):
    losses = []
    for rank in (0, 1, 0):
        monkeypatch.setattr("minifast.tools.processes.RANK", rank)
        learn = learner(points(n=8))
        monkeypatch.setattr(type(learn.data.train_dl), "__iter__",
                            lambda loader: iter([loader.one_batch()]))
        learn.recorder.fits.append(0)
        learn.train_epoch(lambda batch: ([0.1] * 3, 0.9))
        losses += learn.recorder.losses
    assert losses[0] == losses[2] != losses[1]


# What stops it

@pytest.mark.parametrize("loss", [NAN, float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_step_the_rates_and_the_files(tmp_path, loss):
    learn, file = learner(points(n=60)), tmp_path / "fit.pth"       # 15 batches
    at_batch(learn, 18, loss)                                       # batch 3 of epoch 1
    names = ", ".join(f"point{i}" for i in learn.data.train_dl.item_numbers(1)[3])
    # The peak is at batch 9 of 30, and the way down has 21: .1 (1 + cos(pi 9/21)) / 2 = .061126
    with pytest.raises(ValueError, match=rf"{loss} at batch 18\b.*\[0\.061126.*: {names}$"):
        learn.fit_one_cycle(2, 0.1, checkpoint=file)
    history = learn.recorder
    assert len(history.losses) == len(history.rates) == len(history.momenta) == 20
    assert [row["batch"] for row in history.epochs] == [15]
    assert load_tensors(file)["done"] == 1
    assert not all(p.isfinite().all() for p in learn.model.parameters())    # it is not undone


def test_a_broken_loss_is_noticed_at_the_end_of_an_epoch_and_is_no_trouble_later(tmp_path):
    items = [(torch.full((3, 1, 4), i / 8), torch.tensor(0)) for i in range(8)]
    learn = linear(DataBunch.create(items, None, target=Categories(LOW_HIGH), tfms=flat, bs=4,
                                    device=CPU))
    good = learn.save(tmp_path / "good.pth")
    at_batch(learn, 1, NAN)
    numbers = ", ".join(str(i) for i in learn.data.train_dl.item_numbers(0)[1])    # without files
    with pytest.raises(ValueError, match=rf"batch 1, with rates \[0\.1\].*: {numbers}$"):
        learn.fit(1, 0.1)
    assert learn.recorder.epochs == [] and len(learn.recorder.losses) == 2
    learn.load(good)
    learn.fit(1, 0.1)
    assert len(learn.recorder.epochs) == 1 and numpy.isfinite(learn.recorder.losses[2:]).all()


class Interrupted(Points):
    """Points during whose third epoch somebody types Ctrl-C."""

    loader = None

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        if i == 7 and self.loader.epoch == 3:               # the number of the next one
            raise KeyboardInterrupt
        return super().__getitem__(i)


@pytest.mark.parametrize("where", ["loss", "data set"])
def test_after_ctrl_c_what_was_learned_stays_and_a_later_fit_works(where):
    learn, whole = learner(), learner()
    before, history, loader = everything(learn), learn.recorder, learn.data.train_dl
    if where == "loss":
        at_batch(learn, 12, KeyboardInterrupt())            # batch 2 of epoch 2
        done = 12
    else:
        loader.dataset = Interrupted(20)
        loader.dataset.loader = loader
        done = 10 + sum(loader.item_numbers(2), []).index(7) // 4
    with pytest.raises(KeyboardInterrupt):
        learn.fit(4, 0.1)
    assert len(history.losses) == len(history.rates) == len(history.momenta) == done
    assert [row["batch"] for row in history.epochs] == [5, 10] and any(moved(learn, before))
    whole.fit(4, 0.1)
    assert history.losses == whole.recorder.losses[:done]
    learn.data, learn.loss_func = points(), F.cross_entropy
    learn.fit(1, 0.1)
    assert history.fits == [0, done]
    assert [row["batch"] for row in history.epochs] == [5, 10, done + 5]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt("a bug")])
def test_where_a_metric_fails_the_epoch_is_kept_and_resume_goes_on_after_it(tmp_path, error):
    def fails(logits, y):
        calls.append(1)
        if len(calls) == 4:                                 # 2 batches: in the second epoch
            raise error
        return accuracy(logits, y)

    calls, whole, file = [], learner(), tmp_path / "fit.pth"
    first, second = learner(metrics=[fails]), learner(metrics=[accuracy], seed=1)
    whole.fit_one_cycle(3, 0.1)
    with pytest.raises(type(error), match="a bug"):
        first.fit_one_cycle(3, 0.1, checkpoint=file)
    assert [row["batch"] for row in first.recorder.epochs] == [5, 10]
    assert first.recorder.epochs[1].keys() == {"batch", "train_loss", "seconds"}
    assert first.model[1].training and torch.is_grad_enabled()
    saved = load_tensors(file)
    assert saved["done"] == 2 and saved["history"]["epochs"] == first.recorder.epochs
    second.fit_one_cycle(3, 0.1, checkpoint=file, resume=True)
    assert same(second.state(), whole.state()) and len(second.recorder.epochs) == 3
    assert second.recorder.losses == whole.recorder.losses


def test_where_the_last_validation_was_cut_off_resume_does_it_again(tmp_path):
    def fails(logits, y):
        raise KeyboardInterrupt("a bug")

    whole, cut, again = learner(metrics=[accuracy]), learner(metrics=[fails]), learner(
        metrics=[accuracy], seed=1)
    whole.fit_one_cycle(1, 0.1)
    with pytest.raises(KeyboardInterrupt):
        cut.fit_one_cycle(1, 0.1, checkpoint=tmp_path / "fit.pth")
    again.fit_one_cycle(1, 0.1, checkpoint=tmp_path / "fit.pth", resume=True)
    assert same(everything(again), everything(whole))


def full_gpu(logits: Tensor, y: Tensor) -> Tensor:
    raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")


@pytest.mark.parametrize("in_training, bs, remedy", [
    (True, 5, r"\bbs=5; try bs=2"), (False, 5, "val_bs=5; try val_bs=2"),
    (True, 1, r"\bbs=1; try smaller"), (False, 1, "val_bs=1; try smaller")])
def test_where_the_gpus_memory_is_full_half_the_batch_size_is_proposed(in_training, bs, remedy):
    learn = linear(points(bs=bs), metrics=[full_gpu])
    if in_training:
        at_batch(learn, 3, torch.cuda.OutOfMemoryError("tried to allocate 2 GiB"))
    with pytest.raises(ValueError, match=f"{remedy}.* 2 GiB"):
        learn.fit(1, 0.1)
    assert len(learn.recorder.losses) == (3 if in_training else 20 // bs)   # what was learned stays


# Before the first step

class Noisy(Points):
    """Points that draw random numbers."""

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        drawn(random.randrange(9))
        return super().__getitem__(i)


class More(nn.Module):
    """A model that gives more in training mode than in eval mode."""

    def __init__(self, what):
        super().__init__()
        self.net, self.what = learner().model, what

    def forward(self, x: Tensor) -> object:
        return self.what(self.net(x)) if self.training else self.net(x)


def pixels(classes: list[str]) -> DataBunch:
    """Masks of 4 x 4 pixels."""
    items = [(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4).long())] * 8
    return DataBunch.create(items, None, target=Masks(classes), bs=4, device=CPU)


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    raise KeyError("my own mistake")


THREE, THOUSAND = ["a", "b", "c"], nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1000))


@pytest.mark.parametrize("model, data, loss, gives, has", [
    (More(lambda logits: {"out": logits}), points(), None, "dict", "low"),
    (More(lambda logits: (logits, logits)), points(), None, "tuple", "low"),
    (More(lambda logits: (logits, logits)), points(), wrong, "tuple", "low"),
    (nn.Conv2d(3, 1, 1), pixels(LOW_HIGH), None, "2, 1, 4, 4", "2, 4, 4.*low"),
    (nn.Conv2d(3, 2, 3), pixels(LOW_HIGH), None, "2, 2, 2, 2", "2, 4, 4"),
    (THOUSAND, points(classes=THREE), None, "2, 1000", r"\['a', 'b', 'c'\]"),
    (THOUSAND, points(classes=THREE, target=Tags), None, "2, 1000", r"\['a', 'b', 'c'\]"),
    (nn.Linear(4, 2), points(target=Tags), None, r"2, 2\]", "low"),    # whose targets are numbers
    (nn.Linear(4, 2), points(), nn.CrossEntropyLoss(reduction="none"), r"2, 2\]", "one loss"),
    (nn.Linear(4, 2), points(), wrong, r"2, 2\]", "my own mistake")])
def test_what_does_not_fit_together_is_refused_and_changes_nothing(tmp_path, model, data, loss,
                                                                   gives, has):
    learn = Learner(data, model, loss, precision="float32")
    before = everything(learn)
    if isinstance(data.train_ds, Points):
        data.train_dl.dataset = Noisy(20)
    for fit in (learn.check_outputs, partial(learn.fit, 1, 0.1),
                partial(learn.fit_one_cycle, 1, 0.1, checkpoint=tmp_path / "fit.pth")):
        drawn(5)
        wanted = drawn(5)
        with pytest.raises(ValueError, match=f"(?s)gives.*{gives}.*data has.*{has}"):
            fit()
        assert drawn(5) == wanted and same(everything(learn), before)
        assert data.train_dl.epoch == 0 and list(tmp_path.iterdir()) == []


def test_what_fits_together_changes_nothing_either():
    learn = learner(loss_func=lambda logits, y: F.cross_entropy(logits, y) + 0 * drawn(3)[0])
    before = everything(learn)
    learn.data.train_dl.dataset = Noisy(20)
    drawn(5)
    wanted = drawn(5)
    learn.check_outputs()
    assert drawn(5) == wanted and same(everything(learn), before)


def test_a_model_that_fails_half_way_keeps_its_buffers():
    learn = Learner(points(), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(5, 2)),
                    precision="float32")
    before = everything(learn)
    with pytest.raises((ValueError, RuntimeError), match="shapes"):
        learn.fit(1, 0.1)
    assert same(everything(learn), before)


@pytest.mark.parametrize("n, bs, processes, fine", [
    (5, 1, 1, False), (1, 4, 1, False), (5, 4, 1, True), (5, 5, 1, True), (8, 4, 2, True),
    (8, 2, 2, False), (8, 3, 2, False)])                    # 3 cannot be shared evenly
def test_one_picture_a_batch_is_refused_where_batchnorm_sees_single_values(monkeypatch, n, bs,
                                                                           processes, fine):
    monkeypatch.setattr("minifast.tools.processes.COUNT", processes)
    data = points(n=n, bs=bs)
    linear(data).check_outputs()                            # without BatchNorm it is no trouble
    if fine:
        learner(data).check_outputs()
    else:
        with pytest.raises(ValueError, match="more than 1 value"):
            learner(data).check_outputs()


def test_other_data_of_the_same_classes_goes_on_with_the_same_model():
    learn = learner()
    learn.fit(1, 0.1)
    learn.data = points(n=40)
    learn.fit(1, 0.1)
    assert learn.recorder.fits == [0, 5] and len(learn.recorder.losses) == 15
    before = everything(learn)
    for other in (points(classes=["a", "b"]), points(classes=["high", "low"]),
                  points(classes=THREE), points(target=Tags),
                  DataBunch.create(Points(8), None, tfms=flat, device=CPU)):
        learn.data = other
        with pytest.raises(ValueError, match="'low', 'high'"):
            learn.fit(1, 0.1)
        assert same(everything(learn), before)


# Validation

@pytest.mark.parametrize("bs", [1, 3, 4, 10])
def test_validation_is_exact_for_every_batch_size_and_leaves_no_trace(bs):
    def always_seven(logits, y):
        assert not logits.requires_grad
        return 7.0

    learn = learner(points(n_valid=10, val_bs=bs),
                    metrics=[accuracy, always_seven, partial(accuracy)])
    learn.fit(1, 0.1)
    learn.model.train()
    learn.model[1][0].eval()                                # as someone may who keeps statistics
    before, rows = everything(learn), deepcopy(learn.recorder.epochs)
    modes = [layer.training for layer in learn.model.modules()]
    drawn(5)
    wanted = drawn(5)
    found = learn.validate()
    assert drawn(5) == wanted and same(everything(learn), before) and learn.recorder.epochs == rows
    assert [layer.training for layer in learn.model.modules()] == modes
    assert learn.data.valid_dl.epoch == 0
    x = learn.data.valid_ds.x
    y, logits = (x[:, 0] > 0).long(), learn.model.eval()(x)
    right = (logits.argmax(1) == y).double().mean().item()
    assert list(found) == ["valid_loss", "accuracy", "always_seven", "accuracy()"]
    assert list(found.values()) == pytest.approx([F.cross_entropy(logits, y).item(), right, 7,
                                                  right], abs=1e-6)
    assert [float(total.out_of) for total in learn.scores([accuracy]).values()] == [10, 10]
    assert learn.score(accuracy) == Score(round(10 * right), 10)


@pytest.mark.parametrize("losses, wanted", [
    ([1., 2, 6], 2.4), ([1., NAN, 6], NAN), ([1e8, 1, 1], 40_000_000.6)])   # float32 has no .6
def test_the_loss_of_a_batch_counts_as_often_as_it_has_pictures(losses, wanted):
    # Ten points in batches of 4, 4 and 2: (4*1 + 4*2 + 2*6) / 10
    losses = iter(losses)
    learn = linear(points(n_valid=10), loss_func=lambda *_: torch.tensor(next(losses)))
    assert learn.validate()["valid_loss"] == pytest.approx(wanted, 1e-12, nan_ok=True)


def test_masks_are_learned_and_then_bigger_ones():
    # A class for each pixel: dark on the left, light on the right
    def halves(h, w):
        mask = (torch.arange(w) >= w // 2).long().expand(h, w)
        items = [((mask * 255).byte().expand(3, h, w), mask)] * 6
        return DataBunch.create(items, items, target=Masks(["dark", "light"]), bs=3, device=CPU)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Conv2d(3, 2, 1)
    learn = Learner(halves(4, 6), net, metrics=["accuracy", "mean_iou"], precision="float32")
    learn.fit(10, 0.3)
    learn.data = halves(8, 12)
    learn.fit(1, 0.01)
    assert learn.get_preds()[0].shape == (6, 2, 8, 12)
    assert learn.validate()["accuracy"] == learn.validate()["mean_iou"] == 1
    assert learn.predict(Image.new("RGB", (6, 4)))[0] == "dark"


def test_tags_are_learned():
    items = [(torch.full((3, 1, 4), float(i % 2)), torch.tensor([1., i % 2, 0])) for i in range(8)]
    data = DataBunch.create(items, items, target=Tags(["a", "b", "c"]), bs=4, tfms=(flat, flat),
                            device=CPU)
    learn = Learner(data, nn.Linear(4, 3), metrics="accuracy_thresh", precision="float32")
    learn.fit(20, 0.3)
    assert learn.validate()["accuracy_thresh"] == 1


def test_predictions_are_those_of_results(monkeypatch):
    test, asked = Points(4, seed=2), []
    data = DataBunch.create(Points(8), Points(6), test, Categories(LOW_HIGH), bs=4, device=CPU)
    learn = learner(data)
    monkeypatch.setattr("minifast.results.get_preds", lambda *given: asked.append(given))
    learn.get_preds(), learn.get_preds(test=True)
    assert asked == [(learn, data.valid_dl), (learn, data.test_dl)]
    assert (Learner.predict, Learner.show_results) == (results.predict, results.show_results)
    learn.data = points(n_valid=0)
    for ask in (learn.validate, partial(learn.score, accuracy), learn.get_preds):
        with pytest.raises(ValueError, match="valid_dl"):
            ask()
