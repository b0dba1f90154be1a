from functools import partial

import numpy
from PIL import Image
import pytest
import torch
from torch import nn

from minifast.datablock import ImageList
from minifast.databunch import DataBunch
from minifast.extras.inference import model_of
from minifast.resnet import resnet18, resnet34, resnet50
from minifast.targets import pixel_loss
from minifast.tools.files import save_tensors
from minifast.unet import DynamicUNet, UNet
from minifast.vision import ARCHS, cnn, cnn_learner, unet, unet_learner

both = pytest.mark.parametrize("make, task", [(cnn_learner, "tags"), (unet_learner, "masks")])
plain = {"pretrained": False, "precision": "float32"}


class SmallNet(nn.Module):
    """A net of torchvision's kind, quick enough for tests: 8 features, then a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.relu(self.norm(self.conv(x)))).flatten(1))


@pytest.fixture
def data(tmp_path) -> dict[str, DataBunch]:
    """24 pictures of 24 x 32 pixels in patches. masks: red ones are class 1, green ones 2, the rest
    is 0. tags: all are "patchy", and the odd ones, which have blue stripes, "striped" too."""
    rng, cpu = numpy.random.default_rng(0), torch.device("cpu")
    (tmp_path / "masks").mkdir()
    for i in range(24):
        values = rng.integers(3, size=(6, 8), dtype=numpy.uint8).repeat(4, axis=0).repeat(4, axis=1)
        pixels = rng.integers(0, 60, (24, 32, 3), dtype=numpy.uint8)
        pixels[values == 1, 0] += 180
        pixels[values == 2, 1] += 180
        pixels[::4, :, 2] += 180 * (i % 2)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
        Image.fromarray(values).save(tmp_path / "masks" / f"{i:02}.png")
    pictures = ImageList(tmp_path, tuple(sorted(tmp_path.glob("*.png")))).split_by_rand_pct(0.25)
    tags = pictures.label_from_func(lambda file: ["patchy", "striped"][:1 + int(file.stem) % 2])
    masks = pictures.label_from_func(lambda file: tmp_path / "masks" / file.name,
                                     ["no", "red", "green"])
    return {"tags": tags.transform(size=32).databunch(bs=8, device=cpu),
            "masks": masks.transform(size=(24, 32)).databunch(bs=6, device=cpu)}


@pytest.fixture
def weights(tmp_path):
    return save_tensors(tmp_path / "small.pth", SmallNet().state_dict())


@both
def test_three_groups_two_of_the_body_and_all_else_train_without_pretrained_weights(make, task,
                                                                                    data):
    learn = make(data[task], SmallNet, **plain)
    assert list(learn.model.body._modules) == ["conv", "norm", "relu"]
    assert [layer for group in learn.groups[:2] for layer in group] == list(learn.model.body)
    assert len(learn.groups) == 3 and learn.frozen_to == 0
    rest, body = ({id(p) for p in part.parameters()} for part in (learn.groups[2],
                                                                  learn.model.body))
    assert rest | body == {id(p) for p in learn.model.parameters()} and not rest & body
    assert all(p.requires_grad for p in learn.model.parameters())
    assert data[task].c == {"tags": 2, "masks": 3}[task]
    assert [*learn.model.parameters()][-1].shape == (data[task].c,)


def test_planets_and_camvids_groups_have_v1s_sizes_and_frozen_trains_what_v1_trains(data):
    learn = cnn_learner(data["tags"], resnet18, **plain)
    # v1's counts are for 17 classes in the last layer; two classes are 15 * 513 fewer.
    assert learn.summary().split()[4::3] == ["683,072", "10,493,440", f"{536593 - 15 * 513:,}"]
    learn = unet_learner(data["masks"], resnet34, bottle=True, **plain)
    learn.freeze()
    # v1 has 41,133,018 parameters with 12 classes, and 19,865,370 of them train; the last
    # layer, 99 channels and a bias, has 9 classes fewer here.
    total, trains = (sum(p.numel() for p in learn.model.parameters() if p.requires_grad or every)
                     for every in (True, False))
    assert (total, trains) == (41_133_018 - 900, 19_865_370 - 900)
    assert [sum(p.numel() for p in group.parameters()) for group in learn.groups[:2]] == [
        1_347_904, 19_936_768]


@both
def test_a_pretrained_body_has_its_weights_and_stays_frozen_under_what_is_new(make, task, data,
                                                                              weights):
    learn = make(data[task], SmallNet, pretrained=weights, precision="float32")
    conv, norm, last = learn.model.body.conv, learn.model.body.norm, [*learn.model.parameters()][-1]
    saved = torch.load(weights)["conv.weight"]
    assert learn.frozen_to == 2 and torch.equal(conv.weight, saved)
    assert norm.num_batches_tracked == 0                        # measuring it left no trace
    assert all(layer.training for layer in learn.model.modules())
    assert not conv.weight.requires_grad and norm.weight.requires_grad
    before = last.detach().clone()
    learn.fit(1, slice(1e-4, 1e-2))
    assert torch.equal(conv.weight, saved) and not torch.equal(last, before)
    assert [group["lr"] for group in learn.optimizer.param_groups] == pytest.approx(
        [1e-4, 1e-3, 1e-2])
    learn.unfreeze()
    assert all(p.requires_grad for p in learn.model.parameters())


def test_a_body_trained_here_can_be_the_start_of_another_model(data, tmp_path):
    first = cnn_learner(data["tags"], SmallNet, **plain, seed=1).model
    file = save_tensors(tmp_path / "body.pth", first.body.state_dict())
    again = unet_learner(data["masks"], SmallNet, pretrained=file, precision="float32").model
    assert torch.equal(again.body.conv.weight, first.body.conv.weight)


def no_rows() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


@pytest.mark.parametrize("make, task, arch, how, wrong", [
    (cnn_learner, "tags", SmallNet, {}, "SmallNet"),        # there are no ImageNet weights for it
    (unet_learner, "masks", SmallNet, {}, "SmallNet"),
    (cnn_learner, "tags", no_rows, plain, "no_rows"),
    (unet_learner, "masks", no_rows, plain, "no_rows"),
    (cnn_learner, "tags", SmallNet, {**plain, "precision": "half"}, "half"),
    (unet_learner, "masks", SmallNet, {**plain, "precision": "half"}, "half")])
def test_what_does_not_fit_is_refused(make, task, arch, how, wrong, data):
    with pytest.raises(ValueError, match=wrong):
        make(data[task], arch, **how)


@pytest.mark.parametrize("make, task", [(cnn_learner, "masks"), (unet_learner, "tags")])
def test_the_other_kind_of_target_is_refused_by_fit(make, task, data):
    learn = make(data[task], SmallNet, **plain)
    with pytest.raises(ValueError, match="gives.*data has"):
        learn.fit(1, 1e-3)


@both
def test_the_seed_decides_the_first_weights_and_the_global_random_state_stays(make, task, data):
    state = torch.get_rng_state()
    one, same, usual, other = ([*make(data[task], SmallNet, **plain, **seed).model.parameters()]
                               for seed in ({"seed": 42}, {"seed": 42}, {}, {"seed": 2}))
    assert all(map(torch.equal, one, same)) and all(map(torch.equal, one, usual))
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[-2], other[-2])
    assert torch.equal(state, torch.get_rng_state())


def test_knobs_reach_the_learners(data):
    loss = partial(pixel_loss, ignore=0)
    tags = cnn_learner(data["tags"], SmallNet, ["fbeta"], False, 0.2, 0.3, "float32")
    masks = unet_learner(data["masks"], SmallNet, ["fbeta"], False, True, 0.3, loss, "float32")
    assert [(learn.wd, len(learn.metrics)) for learn in (tags, masks)] == [(0.3, 1)] * 2
    assert tags.model.head[7].p == 0.2 and masks.model.recipe["bottle"] and masks.loss_func is loss
    tags = cnn_learner(data["tags"], SmallNet, pretrained=False)
    masks = unet_learner(data["masks"], SmallNet, pretrained=False)
    assert [(learn.wd, len(learn.metrics)) for learn in (tags, masks)] == [(1e-2, 0)] * 2
    assert tags.model.head[7].p == 0.5 and not masks.model.recipe["bottle"]
    assert masks.loss_func is pixel_loss


def test_the_models_have_so_many_classes_and_tell_how_to_make_them_again():
    x = torch.rand(2, 3, 16, 20)
    for ps, model in ((0.5, cnn(SmallNet, 5)), (0.2, cnn(SmallNet, 5, ps=0.2))):
        assert list(model._modules) == ["body", "head"] and model(x).shape == (2, 5)
        assert model.head[4].in_features == 16                  # 8 maxima and 8 averages
        assert (model.head[3].p, model.head[7].p) == (ps / 2, ps)
        assert model.recipe == {"kind": "cnn", "arch": "SmallNet"}
    for bottle, inner in ((False, 11), (True, 5)):              # 8 channels and 3 of the picture
        model = unet(SmallNet, 5, bottle=bottle)
        assert isinstance(model, DynamicUNet) and model(x).shape == (2, 5, 16, 20)
        assert model.cross[0][0].out_channels == inner
        assert model.recipe == {"kind": "unet", "arch": "SmallNet", "bottle": bottle}
    assert unet(SmallNet, 5).recipe["bottle"] is False
    assert ARCHS == {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


@pytest.mark.parametrize("make, task, metric", [(cnn_learner, "tags", "accuracy_thresh"),
                                                (unet_learner, "masks", "mean_iou")])
def test_they_learn_what_a_child_could_tell(make, task, metric, data):
    learn = make(data[task], SmallNet, [metric], pretrained=False)
    learn.fit_one_cycle(15, 1e-2)
    assert learn.recorder.epochs[-1][metric] > 0.8


# The models again, from their recipes

def shapes(model: nn.Module) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("make", [partial(cnn, SmallNet), partial(unet, SmallNet),
                                  partial(unet, SmallNet, bottle=True),
                                  partial(UNet, channels=4, levels=2)])
@pytest.mark.parametrize("known", [True, False])
def test_a_recipe_makes_a_model_of_the_same_shape_again(monkeypatch, make, known):
    model = make(classes=5)
    if known:
        monkeypatch.setitem(ARCHS, "SmallNet", SmallNet)
    again = model_of(model.recipe, 5, None if known else SmallNet)
    assert type(again) is type(model) and shapes(again) == shapes(model)
    assert again.recipe == model.recipe
    assert shapes(model_of(model.recipe, 3, SmallNet)) != shapes(model)            # other classes


def test_an_own_model_is_what_its_constructor_makes():
    recipe = {"kind": "own", "arch": "Sequential"}
    own = model_of(recipe, 5, lambda: nn.Sequential(nn.Conv2d(3, 5, 1)))
    assert shapes(own) == {"0.weight": (5, 3, 1, 1), "0.bias": (5,)}


@pytest.mark.parametrize("recipe, telling", [
    ({"kind": "own", "arch": "resnet18"}, "resnet18"),      # an own net of that name, not ours
    ({"kind": "cnn", "arch": "SmallNet"}, "SmallNet"),
    ({"kind": "unet", "arch": "SmallNet", "bottle": False}, "SmallNet")])
def test_a_recipe_that_nobody_knows_how_to_follow_is_refused(recipe, telling):
    with pytest.raises(ValueError, match=rf"\b{telling}\b"):
        model_of(recipe, 2)
