from copy import deepcopy
from signal import SIGINT, default_int_handler as ctrl_c

from PIL import Image
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.learner import Learner
from minifast.metrics import Score, accuracy
from minifast.targets import Categories, Tags
from minifast.tools import draw

# Six numbers in three channels, and whether the first is above 0: 20 for training, 7 to validate
X = torch.randn(27, 3, 1, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0, 0, 0] > 0).long()
ITEMS, CPU = list(zip(X, Y)), torch.device("cpu")


def learner(classes: str = "low high", seed: int = 0, **more) -> Learner:
    """A small net in three layer groups, and five batches of training."""
    target = Categories(classes.split())
    data = DataBunch.create(ITEMS[:20], ITEMS[20:], target=target, bs=4, device=CPU)
    torch.manual_seed(seed)
    groups = [nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    return Learner(data, nn.Sequential(*groups), groups=groups, precision="float32", **more)


def weights(model: nn.Module) -> Tensor:
    """All weights and buffers, one after the other."""
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_a_learner_holds_what_training_needs():
    learn = learner(metrics="accuracy")
    assert learn.loss_func is F.cross_entropy and learn.metrics == [accuracy]
    assert learn.frozen_to == 0 and len(learn.groups) == 3
    assert Learner(learn.data, learn.model).groups == [learn.model]


def test_frozen_groups_train_batchnorm_only():
    learn = learner(wd=0.3)
    learn.freeze()
    assert learn.frozen_to == 2
    assert [len(group["params"]) for group in learn.optimizer.param_groups] == [0, 2, 2]
    # Linear(6, 4) has 28 parameters, BatchNorm1d(4) has 8, Linear(4, 2) has 10
    assert learn.summary().split()[3:] == ["0", "28", "0", "1", "8", "8", "2", "10", "10"]


def test_a_batch_is_one_step_of_adamw_with_a_rate_for_each_group():
    learn = learner(wd=0.1)
    twin, (x, y) = deepcopy(learn.model), learn.data.one_batch()
    adamw = torch.optim.AdamW([{"params": part.parameters()} for part in twin], weight_decay=0.1)
    for rates, momentum in (([0.01, 0.02, 0.03], 0.95), ([0.06, 0.05, 0.04], 0.85)):
        for group, rate in zip(adamw.param_groups, rates):
            group["lr"], group["betas"] = rate, (momentum, 0.99)
        wanted = F.cross_entropy(twin(x), y)
        adamw.zero_grad()
        wanted.backward()
        adamw.step()
        loss = learn.train_batch(learn.model, x, y, rates, momentum)
        assert torch.allclose(loss, wanted) and not loss.requires_grad
    assert torch.allclose(weights(learn.model), weights(twin), atol=1e-6)


def test_an_epoch_trains_on_each_batch_as_the_schedule_says():
    learn, other, rates = learner(), learner(), [0.01, 0.02, 0.03, 0.04, 0.05]
    for epoch in range(2):                              # each of them a fit of its own
        learn.model.eval(), learn.recorder.fits.append(5 * epoch)
        learn.train_epoch(lambda batch: ([rates[batch]] * 3, 0.9))
        learn.recorder.epochs.append({})
        losses = [other.train_batch(other.model, x, y, [rate] * 3, 0.9).item()
                  for rate, (x, y) in zip(rates, other.data.train_dl)]
        assert learn.recorder.losses[-5:] == pytest.approx(losses)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_validation_is_exact_for_any_batch_size(size):
    learn = learner(metrics="accuracy")
    learn.data.valid_dl.bs = size
    logits, y = deepcopy(learn.model).eval()(X[20:]), Y[20:]
    hits = (logits.argmax(dim=1) == y).sum().item()
    wanted = {"valid_loss": F.cross_entropy(logits, y).item(), "accuracy": hits / 7}
    assert learn.validate() == pytest.approx(wanted) and learn.model.training
    assert learn.score(accuracy) == learn.scores([accuracy])["accuracy"] == Score(hits, 7)


def test_outputs_that_do_not_fit_the_data_are_refused_and_so_is_a_loss_of_nan():
    learn, net = learner(), nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    before = weights(learn.model)
    learn.check_outputs()
    assert torch.equal(before, weights(learn.model))        # BatchNorm's statistics, too
    other = learner()
    other.data = learner("high low").data                   # other numbers for the classes
    nan, tags = (learner(loss_func=f) for f in (lambda x, y: x.sum() / 0, F.binary_cross_entropy))
    for wrong in (other, Learner(learn.data, net), tags, nan):
        with pytest.raises(ValueError):
            wrong.fit(1, 0.1)


def test_fit_trains_at_constant_rates_and_notes_each_epoch():
    learn = learner(metrics="accuracy")
    learn.fit(2, slice(0.01), wd=0.5)
    history = learn.recorder
    assert history.rates == [[0.001, 0.001, 0.01]] * 10 and history.momenta == [0.9] * 10
    assert learn.optimizer.param_groups[0]["weight_decay"] == 0.5
    assert [row["batch"] for row in history.epochs] == [5, 10] and history.fits == [0]
    assert learn.validate().items() <= history.epochs[1].items()


def test_one_cycle_has_v1s_rates_and_momenta():
    learn = learner()
    learn.fit_one_cycle(2, slice(0.01))                             # 10 batches
    rates = [.0004, .0028, .0076, .01, .00950485, .00811746, .00611262, .00388742, .00188258,
             .000495194]
    assert [last for _, _, last in learn.recorder.rates] == pytest.approx(rates, rel=1e-5)
    assert [10 * first for first, _, _ in learn.recorder.rates] == pytest.approx(rates, rel=1e-5)
    momenta = [.95, .925, .875, *(.95 - .1 * rate / .01 for rate in rates[3:])]     # the mirror
    assert learn.recorder.momenta == pytest.approx(momenta, abs=1e-5)
    learn.fit_one_cycle(2, 0.01, pct_start=0.9, wd=0.5)
    assert max(range(10, 20), key=lambda batch: learn.recorder.rates[batch]) == 19
    assert learn.optimizer.param_groups[0]["weight_decay"] == 0.5


def test_ctrl_c_leaves_what_was_learned_and_a_fit_goes_on_from_its_checkpoint(tmp_path):
    whole, cut, resumed = learner(), learner(), learner(seed=1)
    for learn in (whole, cut, resumed):
        learn.model.insert(1, nn.Dropout())
    whole.fit_one_cycle(3, 0.01)
    steps = [0] + [1] * 9       # to try, five of training, two of validation, one more, and Ctrl-C
    cut.loss_func = lambda *xy: (steps.pop() or ctrl_c(SIGINT, None)) * F.cross_entropy(*xy)
    how = {"max_lr": 0.01, "checkpoint": tmp_path / "fit.pth", "resume": True}
    with pytest.raises(KeyboardInterrupt):
        cut.fit_one_cycle(3, **how)                                 # there is no file yet
    assert cut.recorder.losses == whole.recorder.losses[:6]
    resumed.fit_one_cycle(3, **how)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert resumed.recorder.losses == whole.recorder.losses


def test_what_was_saved_can_be_loaded(tmp_path):
    learn, other = learner(), learner(seed=1)
    learn.freeze_to(1)
    learn.fit(1, 0.1)
    file = learn.save(tmp_path / "new" / "stage.pth")
    other.load(file)
    for each in (learn, other):                     # go on in the same way
        each.train_batch(each.model, X[:4], Y[:4], [0.1] * 3, 0.9)
    assert torch.equal(weights(learn.model), weights(other.model)) and other.frozen_to == 1
    other.freeze()
    other.load(learn.save(file, overwrite=True), with_opt=False)
    assert torch.equal(weights(learn.model), weights(other.model)) and other.frozen_to == 2
    for refused in (learner("high low").load, learn.save):     # the file is there already
        with pytest.raises(ValueError):
            refused(file)


def test_an_export_has_all_that_predicting_needs(tmp_path):
    learn = learner()
    learn.data = learn.data.normalize(([0.5] * 3, [0.25] * 3))
    saved = torch.load(learn.export(tmp_path / "a.pth", thresh=0.25), weights_only=True)
    assert torch.equal(saved["model"]["0.1.bias"], learn.model[0][1].bias)
    assert [part.tolist() for part in saved["stats"]] == [[0.5] * 3, [0.25] * 3]
    wanted = {"target": "Categories", "classes": ["low", "high"], "div": False, "method": "crop",
              "size": None, "thresh": 0.25, "recipe": {"kind": "own", "arch": "Sequential"}}
    assert {name: saved[name] for name in wanted} == wanted


def test_pictures_are_predicted_and_shown():
    # The logits are the means of red, green and blue: magenta has 1, 0, 1, and green has 0, 1, 0
    net, magenta = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.tensor([1., 0, 1])
    items = [(x[:, None, None].expand(3, 2, 4), x) for x in (1 - magenta, magenta)]
    data = DataBunch.create(items, items, items[1:], target=Tags(list("rgb")), device=CPU)
    learn, image = Learner(data, net, precision="float32"), Image.new("RGB", (4, 2), "magenta")
    assert [len(learn.get_preds(test)[1]) for test in (False, True)] == [2, 1]
    for more, said in (({}, "r;b"), ({"thresh": 0.4}, "r;g;b")):    # probabilities .5 and .73
        assert learn.predict(image, **more)[0] == said
        assert learn.show_results(1, items=[1], **more) == draw.grid([image], [f"r;b / {said}"], 1)
