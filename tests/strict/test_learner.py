from functools import partial

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.learner import Learner
from minifast.metrics import METRICS, Score, accuracy, foreground_accuracy, register
from minifast.targets import Categories, Masks, Tags, pixel_loss
from minifast.tools.files import save_tensors

LOW_HIGH = ["low", "high"]


class Points:
    """Items (picture (3, 1, 4), class): four numbers in each of three channels, and whether the
    first of them is above 0."""

    def __init__(self, n: int, seed: int = 0):
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i].expand(3, 1, -1), (self.x[i, 0] > 0).long()


def flat(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A transform for Points: the numbers of each picture, (n, 4)."""
    return x[:, 0, 0], y


def points(classes: list[str] = LOW_HIGH, n: int = 20, valid: bool = True) -> DataBunch:
    return DataBunch.create(Points(n), Points(8, seed=1) if valid else None,
                            target=Categories(classes), tfms=(flat, flat), bs=4,
                            device=torch.device("cpu"))


def learner(data: DataBunch | None = None, seed: int = 0, **knobs) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        groups = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    return Learner(data or points(), nn.Sequential(*groups), groups=groups, precision="float32",
                   **knobs)


def weights_of(learn: Learner) -> list[Tensor]:
    return [value.clone() for value in learn.model.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_loss_is_the_one_that_goes_with_the_labels():
    assert learner().loss_func is F.cross_entropy
    tags = DataBunch.create(Points(8), None, target=Tags(["a", "b"]), device=torch.device("cpu"))
    assert learner(tags).loss_func is F.binary_cross_entropy_with_logits
    assert learner(loss_func=F.multi_margin_loss).loss_func is F.multi_margin_loss


def test_without_a_target_a_loss_must_be_given():
    data = DataBunch.create(Points(8), None, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="which loss"):
        learner(data)
    assert learner(data, loss_func=F.cross_entropy).loss_func is F.cross_entropy


def test_metrics_are_functions_partials_or_names():
    register("for_this_test", partial(accuracy))
    try:
        assert learner(metrics=["for_this_test", accuracy]).metrics == [METRICS["for_this_test"],
                                                                        accuracy]
    finally:
        del METRICS["for_this_test"]
    with pytest.raises(TypeError, match="metric foreground_accuracy cannot.*'void_code'.*partial"):
        learner(metrics=["foreground_accuracy"])
    with pytest.raises(ValueError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        learner(metrics=["acuracy"])
    with pytest.raises(ValueError, match="accuracy"):
        learner(metrics=["accuracy", accuracy])

    def seconds(logits, y):
        return 1.0

    with pytest.raises(ValueError, match="seconds"):
        learner(metrics=[seconds])


def test_without_groups_the_model_is_one_group():
    learn = Learner(points(), nn.Linear(4, 2), precision="float32")
    assert learn.groups == [learn.model]


def test_precision_decides_autocast_and_memory_layout(monkeypatch):
    monkeypatch.setattr("minifast.learner.uses_bfloat16", lambda device, how: how == "auto")
    data = points()
    fast = Learner(data, nn.Sequential(nn.Conv2d(3, 8, 3)))
    assert fast.model[0].weight.is_contiguous(memory_format=torch.channels_last)
    with fast.autocast:
        assert fast.model(torch.zeros(1, 3, 4, 4)).dtype == torch.bfloat16
    slow = Learner(data, nn.Sequential(nn.Conv2d(3, 8, 3)), precision="float32")
    assert slow.model[0].weight.is_contiguous()
    with slow.autocast:
        assert slow.model(torch.zeros(1, 3, 4, 4)).dtype == torch.float32


def test_the_optimiser_is_v1s_default_adamw():
    # p *= 1 - lr wd, then an Adam step with betas (mom, .99) and eps 1e-8.
    learn = learner(wd=0.3)
    assert type(learn.optimizer) is torch.optim.AdamW
    for group in learn.optimizer.param_groups:
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.99), 1e-8, 0.3)
        assert group["fused"]                               # all weights in one go
    assert learner().optimizer.param_groups[0]["weight_decay"] == 1e-2


def test_freezing_leaves_the_last_group_and_batchnorm_to_the_optimiser():
    learn = learner()
    assert learn.frozen_to == 0
    assert [len(group["params"]) for group in learn.optimizer.param_groups] == [2, 2, 2]
    learn.freeze()
    assert learn.frozen_to == 2
    assert [len(group["params"]) for group in learn.optimizer.param_groups] == [0, 2, 2]
    learn.freeze_to(1)
    assert learn.frozen_to == 1
    learn.unfreeze()
    assert learn.frozen_to == 0
    assert all(p.requires_grad for p in learn.model.parameters())


def test_a_frozen_group_stays_as_it_is_and_the_others_move():
    learn = learner()
    learn.fit(1, 0.1)                                       # leaves gradients behind
    learn.freeze()
    before = weights_of(learn)
    learn.fit(1, 0.1)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights_of(learn))]
    assert moved == [False, False, *[True] * 7]     # linear; BatchNorm with its buffers; linear


def test_freezing_makes_a_new_optimiser_and_fitting_again_does_not():
    learn = learner()
    optimizer = learn.optimizer
    learn.fit(1, 0.1)
    learn.fit(1, 0.1)
    assert learn.optimizer is optimizer and len(optimizer.state) == 6
    learn.unfreeze()
    assert len(learn.optimizer.state) == 0


def test_fit_keeps_rates_and_momentum():
    learn = learner()
    learn.fit(2, slice(0.01))
    assert learn.recorder.rates == [[0.001, 0.001, 0.01]] * 10
    assert learn.recorder.momenta == [0.9] * 10


def test_one_cycle_goes_through_v1s_values_in_each_group():
    learn = learner()
    learn.fit_one_cycle(2, slice(0.01))                     # 10 batches
    expected = [.0004, .0028, .0076, .01, .00950485, .00811746, .00611262, .00388742, .00188258,
                .000495194]
    assert [rates[2] for rates in learn.recorder.rates] == pytest.approx(expected, rel=1e-5)
    assert [rates[0] for rates in learn.recorder.rates] == pytest.approx(
        [rate / 10 for rate in expected], rel=1e-5)
    # .95 -> .85 -> .95 with the same clock: half way up after 1.5 batches of 3, so at 1: .925
    assert learn.recorder.momenta[:4] == pytest.approx([0.95, 0.925, 0.875, 0.85])
    assert learn.recorder.momenta[9] == pytest.approx(0.85 + 0.1 * (1 - 0.0495155), abs=1e-4)


def test_pct_start_moves_the_peak():
    learn = learner()
    learn.fit_one_cycle(2, 0.01, pct_start=0.9)
    assert max(range(10), key=lambda t: learn.recorder.rates[t][0]) == 9
    assert learn.recorder.momenta[9] == pytest.approx(0.85)
    for wrong in (-0.5, 1.5):
        with pytest.raises(ValueError, match=f"pct_start.*{wrong}"):
            learn.fit_one_cycle(1, 0.01, pct_start=wrong)
    assert len(learn.recorder.fits) == 1                    # refused before anything was noted


def test_weight_decay_may_be_set_for_one_fit():
    learn = learner()
    for fit in (learn.fit, learn.fit_one_cycle):
        fit(1, 0.1, wd=0.5)
        assert learn.optimizer.param_groups[0]["weight_decay"] == 0.5
        fit(1, 0.1)
        assert learn.optimizer.param_groups[0]["weight_decay"] == 1e-2


def test_no_epochs_and_no_rate_are_refused():
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        learner().fit(0, 0.1)
    with pytest.raises(ValueError, match="above 0"):
        learner().fit_one_cycle(1, 0.0)


def test_the_same_seed_gives_the_same_losses_bit_for_bit():
    histories = []
    for _ in range(2):
        learn = learner()
        learn.fit_one_cycle(2, 0.1)
        histories.append((learn.recorder.losses, [r["valid_loss"] for r in learn.recorder.epochs]))
    assert histories[0] == histories[1]


def test_validate_scores_and_leaves_no_trace():
    learn = learner(metrics=[accuracy])
    learn.fit(1, 0.1)
    before, state, rows = weights_of(learn), torch.get_rng_state(), len(learn.recorder.epochs)
    found = learn.validate()
    assert found == {name: learn.recorder.epochs[-1][name] for name in ("valid_loss", "accuracy")}
    assert same(before, weights_of(learn)) and torch.equal(state, torch.get_rng_state())
    assert len(learn.recorder.epochs) == rows
    with pytest.raises(ValueError, match="valid_dl"):
        learner(points(valid=False)).validate()


def test_score_keeps_what_a_metric_has_per_class():
    def found(logits, targets):
        """Of each class, how many were found."""
        true = F.one_hot(targets, 2).bool()
        return Score((true & F.one_hot(logits.argmax(dim=1), 2).bool()).sum(0), true.sum(0))

    learn = learner()
    score = learn.score(found)
    x = learn.data.valid_ds.x
    said, truth = learn.model.eval()(x).argmax(dim=1), x[:, 0] > 0
    assert score.out_of.tolist() == [(~truth).sum().item(), truth.sum().item()]
    assert score.hits.tolist() == [((said == k) & (truth == k)).sum().item() for k in (0, 1)]
    with pytest.raises(ValueError, match="valid_dl"):
        learner(points(valid=False)).score(found)


def test_get_preds_are_of_validation_or_of_the_test_set():
    learn = learner(DataBunch.create(Points(8), Points(6, seed=1), Points(4, seed=2),
                                     target=Categories(LOW_HIGH), bs=4,
                                     tfms=(flat, flat), device=torch.device("cpu")))
    for test, dataset in ((False, learn.data.valid_ds), (True, learn.data.test_dl.dataset)):
        likely, targets = learn.get_preds(test=test)
        with torch.no_grad():
            wanted = learn.model.eval()(dataset.x).softmax(dim=1)
        assert torch.allclose(likely, wanted) and torch.equal(targets, (dataset.x[:, 0] > 0).long())
    assert torch.equal(learn.get_preds()[1], learn.get_preds(test=False)[1])
    with pytest.raises(ValueError, match="test_dl.*add_test_folder"):
        learner().get_preds(test=True)


@pytest.fixture
def pixels(tmp_path) -> Learner:
    """A class for each pixel: dark on the left, light on the right, by one 1x1 convolution."""
    halves = numpy.zeros((8, 12), dtype=numpy.uint8)
    halves[:, 6:] = 1
    for i in range(6):
        Image.fromarray(halves * 255).convert("RGB").save(tmp_path / f"{i}.png")
        Image.fromarray(halves).save(tmp_path / f"{i}_P.png")
    files = [[tmp_path / f"{i}{suffix}.png" for i in range(6)] for suffix in ("", "_P")]
    dataset = Dataset(*files, Masks(["dark", "light"]), (4, 6))
    data = DataBunch.create(dataset, dataset, bs=3, device=torch.device("cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Conv2d(3, 2, 1)
    return Learner(data, model, metrics=[accuracy, "mean_iou"], precision="float32")


def test_a_learner_learns_masks_predicts_them_and_shows_them(pixels, tmp_path):
    pixels.fit(10, 0.3)
    assert pixels.validate()["accuracy"] == pixels.validate()["mean_iou"] == 1
    caption, mask, likely = pixels.predict(tmp_path / "0.png")
    assert caption == "dark;light" and likely.shape == (2, 8, 12)
    assert not mask[:, :5].any() and mask[:, 7:].all()
    assert pixels.show_results(rows=2).width == 4 * 162 + 5 * 12        # 6 columns, 27 times
    assert pixels.show_results(rows=2, void_code=1).height > 2 * 108


def test_predict_and_show_results_take_a_threshold(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("minifast.learner.predict", lambda *given: asked.append(given[3]))
    monkeypatch.setattr("minifast.learner.show_results", lambda *given: asked.append(given[2:5]))
    learn = learner()
    learn.predict("a.png")
    learn.predict("a.png", thresh=0.2)
    learn.show_results()
    learn.show_results(2, 0.2, void_code=3)
    assert asked == [0.5, 0.2, (3, 0.5, None), (2, 0.2, 3)]


def test_show_results_may_be_of_certain_items(pixels, monkeypatch):
    asked, one_batch = [], pixels.data.valid_dl.one_batch
    monkeypatch.setattr(pixels.data.valid_dl, "one_batch",
                        lambda items: asked.append(list(items)) or one_batch(items))
    pixels.show_results(2, items=[5, 0, 3])
    pixels.show_results(2)
    assert asked == [[5, 0], [0, 3]]


def test_bigger_masks_by_other_data_or_by_loading_into_a_new_learner(pixels, tmp_path):
    def bigger(size):
        dataset = Dataset(pixels.data.train_ds.files, pixels.data.train_ds.labels,
                          pixels.data.target, size)
        return DataBunch.create(dataset, dataset, bs=3, device=torch.device("cpu"))

    pixels.fit(1, 0.1)
    pixels.save(tmp_path / "small.pth")
    pixels.data = bigger((8, 12))
    other = Learner(bigger((8, 12)), nn.Conv2d(3, 2, 1), metrics=[accuracy, "mean_iou"],
                    precision="float32")
    other.load(tmp_path / "small.pth")
    assert other.validate() == pixels.validate()
    for learn in (pixels, other):
        learn.fit(1, 0.1)
        assert next(iter(learn.data.valid_dl))[1].shape == (3, 8, 12)


def test_void_may_be_left_out_of_the_loss(pixels):
    learn = Learner(pixels.data, pixels.model, partial(pixel_loss, ignore=1), precision="float32")
    learn.fit(20, 0.3)
    assert learn.validate()["valid_loss"] < 0.05            # for it is enough to say 0 everywhere
    assert (learn.get_preds()[0][:, 0] > 0.8).all()


def test_other_data_of_the_same_classes_goes_on_with_the_same_model():
    learn = learner()
    bigger = points(n=40)
    learn.data = bigger
    assert learn.data is bigger
    learn.fit(1, 0.1)
    assert len(learn.recorder.losses) == 10
    with pytest.raises(ValueError, match=r"\['low', 'high'\], the new data has \['a', 'b'\]"):
        learn.data = points(classes=["a", "b"])


def test_data_with_another_kind_of_target_is_refused_even_with_the_same_classes():
    tags = DataBunch.create(Points(8), None, target=Tags(LOW_HIGH), bs=4,
                            device=torch.device("cpu"))
    with pytest.raises(ValueError, match="the new data has"):
        learner().data = tags


def test_summary_counts_parameters_group_by_group():
    learn = learner()
    learn.freeze()
    # Linear(4, 4) has 20 parameters, BatchNorm1d(4) 8, Linear(4, 2) 10
    assert learn.summary().split() == ["group", "parameters", "trainable",
                                       "0", "20", "0", "1", "8", "8", "2", "10", "10"]


def test_a_file_that_is_there_is_overwritten_only_if_that_is_said(tmp_path):
    file = tmp_path / "a.pth"
    file.write_bytes(b"somebody's work")
    learn = learner()
    for write in (learn.save, learn.export):
        with pytest.raises(ValueError, match=r"a\.pth exists already, .*or overwrite=True"):
            write(file)
        assert file.read_bytes() == b"somebody's work"
        assert write(file, overwrite=True) == file
        assert "model" in torch.load(file, weights_only=True)
        file.write_bytes(b"somebody's work")


def test_an_export_has_the_threshold_that_it_is_given(tmp_path):
    learn = learner()
    for knobs, wanted in (({}, 0.5), ({"thresh": 0.25}, 0.25)):
        file = learn.export(tmp_path / "a.pth", overwrite=True, **knobs)
        assert torch.load(file, weights_only=True)["thresh"].item() == wanted


def test_the_state_of_a_learner_is_what_it_is_at_now():
    learn = learner()
    learn.freeze_to(1)
    learn.fit(1, 0.1)
    state = learn.state()
    assert same(list(state["model"].values()), weights_of(learn))
    assert len(state["optimizer"]["state"]) == 4            # BatchNorm's two, the last Linear's two
    assert (state["frozen_to"], state["classes"], state["groups"]) == (1, ["low", "high"], [2] * 3)


def test_load_brings_back_weights_optimiser_and_freeze_state(tmp_path, capsys):
    learn = learner()
    learn.freeze_to(1)
    learn.fit(1, 0.1)
    assert learn.save(tmp_path / "new" / "stage.pth") == tmp_path / "new" / "stage.pth"
    other = learner(seed=1)
    other.load(tmp_path / "new" / "stage.pth")
    assert same(weights_of(learn), weights_of(other)) and other.frozen_to == 1
    assert ("stage.pth: restored 9 weights, optimiser (4 entries), freeze state (groups from 1 on "
            "train; before, from 0 on)") in capsys.readouterr().out
    for each in (learn, other):                             # and both go on in the same way
        each.data = points()
        each.fit(1, 0.1)
    assert same(weights_of(learn), weights_of(other))


def test_load_without_optimiser_leaves_the_freeze_state(tmp_path, capsys):
    learn = learner()
    learn.save(tmp_path / "stage.pth")
    other = learner(seed=1)
    other.freeze()
    other.load(tmp_path / "stage.pth", with_opt=False)
    assert same(weights_of(learn), weights_of(other)) and other.frozen_to == 2
    assert ("stage.pth: restored 9 weights; not restored: optimiser (0 entries), freeze state (in "
            "the file, groups from 0 on train; here, from 2 on)") in capsys.readouterr().out


def test_load_refuses_other_classes_and_other_models_and_changes_nothing(tmp_path):
    learner(points(classes=["high", "low"])).save(tmp_path / "turned.pth")
    Learner(points(), nn.Linear(4, 2), precision="float32").save(tmp_path / "small.pth")
    learn = learner()
    before = weights_of(learn)
    wide = learner()
    wide.model[0] = wide.groups[0] = nn.Linear(5, 4)
    wide.save(tmp_path / "wide.pth")
    save_tensors(tmp_path / "other.pth", {"weight": torch.zeros(2)})
    for name, reason in (("turned", "classes .'high', 'low'."), ("small", r"groups \[2\]"),
                         ("wide", "0.weight"), ("other", "not written"), ("none", "exist")):
        with pytest.raises(ValueError, match=rf"{name}\.pth.*{reason}"):
            learn.load(tmp_path / f"{name}.pth")
    assert same(before, weights_of(learn)) and learn.frozen_to == 0


def convolution(precision: str) -> Learner:
    """A learner whose weights (3, 2, 2, 1) lie in memory otherwise where precision is "auto"."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Unflatten(1, (2, 2, 1)), nn.Conv2d(2, 3, (2, 1)), nn.Flatten(),
                            nn.Linear(3, 2))
    learn = Learner(points(), net, precision=precision)
    learn.autocast = torch.autocast("cpu", enabled=False)   # nothing but the layout shall differ
    return learn


@pytest.mark.parametrize("first, then", [("auto", "float32"), ("float32", "auto")])
def test_training_goes_on_the_same_where_weights_lie_otherwise_in_memory(tmp_path, monkeypatch,
                                                                         first, then):
    monkeypatch.setattr("minifast.learner.uses_bfloat16", lambda device, how: how == "auto")
    saved = convolution(first)
    saved.fit(1, 0.01)
    file, after = saved.save(tmp_path / "stage.pth"), []
    for precision in (first, then):
        learn = convolution(precision)
        learn.load(file)
        learn.fit(1, 0.01)
        after.append(weights_of(learn))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*after, strict=True))


def test_what_is_saved_is_tensors_and_plain_values(tmp_path):
    saved = torch.load(learner().save(tmp_path / "a.pth"), weights_only=True)
    assert set(saved) == {"model", "optimizer", "frozen_to", "classes", "groups"}
    assert saved["groups"] == [2, 2, 2]                     # a weight and a bias each
    assert saved["classes"] == ["low", "high"]


def test_a_metric_that_cannot_take_logits_and_targets_alone_is_refused_by_name():
    for metric in (foreground_accuracy, partial(foreground_accuracy)):
        with pytest.raises(TypeError, match="foreground_accuracy"):
            learner(metrics=[metric])
    assert len(learner(metrics=partial(foreground_accuracy, void_code=1)).metrics) == 1
