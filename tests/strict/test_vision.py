from functools import partial

import numpy
from PIL import Image
import pytest
import torch
from torch import nn

from minifast import vision
from minifast.datablock import ImageList
from minifast.databunch import DataBunch
from minifast.groups import freeze_to
from minifast.learner import Learner
from minifast.resnet import resnet18, resnet34, resnet50
from minifast.targets import pixel_loss
from minifast.tools.files import save_tensors
from minifast.unet import DynamicUNet, UNet
from minifast.vision import ARCHS, body_from, build, cnn, cnn_learner, unet, unet_learner


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
def data(tmp_path) -> DataBunch:
    """24 pictures of 32 pixels: "bright" ones, of which the odd ones are "striped" too."""
    rng = numpy.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(120, 250, (32, 32, 3), dtype=numpy.uint8)
        pixels[::4] //= 1 + 4 * (i % 2)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    return (ImageList.from_folder(tmp_path).split_by_rand_pct(0.25)
            .label_from_func(lambda file: ["bright", "striped"][:1 + int(file.stem) % 2])
            .transform(size=32).databunch(bs=8, device=torch.device("cpu")))


def test_the_model_is_a_body_and_a_head_in_three_groups(data):
    learn = cnn_learner(data, SmallNet, pretrained=False, precision="float32")
    assert [name for name, _ in learn.model.named_children()] == ["body", "head"]
    assert [name for name, _ in learn.model.body.named_children()] == ["conv", "norm", "relu"]
    assert learn.model.head[4].in_features == 16 and learn.model.head[8].out_features == 2
    assert learn.groups[2] is learn.model.head
    assert [layer for group in learn.groups[:2] for layer in group] == list(learn.model.body)


def test_planets_groups_have_v1s_sizes(data):
    learn = cnn_learner(data, resnet18, pretrained=False, precision="float32")
    # v1's counts are for 17 classes in the last layer; two classes are 15 * 513 fewer.
    assert learn.summary().split()[3::3] == ["0", "1", "2"]
    assert learn.summary().split()[4::3] == ["683,072", "10,493,440", f"{536593 - 15 * 513:,}"]


def test_without_pretrained_weights_everything_trains(data):
    learn = cnn_learner(data, SmallNet, pretrained=False, precision="float32")
    assert learn.frozen_to == 0 and all(p.requires_grad for p in learn.model.parameters())


def test_with_pretrained_weights_the_body_has_them_and_is_frozen(data, tmp_path):
    net = SmallNet()
    file = save_tensors(tmp_path / "small.pth", net.state_dict())
    learn = cnn_learner(data, SmallNet, pretrained=file, precision="float32")
    assert learn.frozen_to == 2
    assert torch.equal(learn.model.body.conv.weight, net.conv.weight)
    assert learn.model.body.norm.num_batches_tracked == 0       # measuring it left no trace
    assert all(layer.training for layer in learn.model.modules())
    assert not learn.model.body.conv.weight.requires_grad
    assert learn.model.body.norm.weight.requires_grad


def test_a_body_trained_here_can_be_the_start_of_another_model(data, tmp_path):
    first = cnn_learner(data, SmallNet, pretrained=False, precision="float32", seed=1)
    file = save_tensors(tmp_path / "body.pth", first.model.body.state_dict())
    learn = cnn_learner(data, SmallNet, pretrained=file, precision="float32", seed=2)
    assert torch.equal(learn.model.body.conv.weight, first.model.body.conv.weight)
    assert not torch.equal(learn.model.head[4].weight, first.model.head[4].weight)


def test_imagenet_weights_of_an_unknown_net_are_refused_by_its_name(data):
    with pytest.raises(ValueError, match="ImageNet weights for 'SmallNet'"):
        cnn_learner(data, SmallNet)


def test_a_net_that_cannot_be_cut_is_refused_by_its_name(data):
    def no_rows():
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

    with pytest.raises(ValueError, match="no_rows cannot be cut"):
        cnn_learner(data, no_rows, pretrained=False)


def test_the_seed_decides_the_first_weights_and_the_global_random_state_stays(data):
    state = torch.get_rng_state()
    heads = [cnn_learner(data, SmallNet, pretrained=False, seed=seed).model.head[4].weight
             for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert torch.equal(state, torch.get_rng_state())


def test_knobs_reach_the_head_and_the_learner(data):
    learn = cnn_learner(data, SmallNet, metrics=["fbeta"], pretrained=False, ps=0.2, wd=0.3,
                        precision="float32")
    assert [learn.model.head[i].p for i in (3, 7)] == [0.1, 0.2]
    assert learn.wd == 0.3 and len(learn.metrics) == 1
    usual = cnn_learner(data, SmallNet, pretrained=False)
    assert [usual.model.head[i].p for i in (3, 7)] == [0.25, 0.5] and usual.wd == 1e-2
    assert learn.model[0].conv.weight.is_contiguous()
    with pytest.raises(ValueError, match="precision 'half'"):
        cnn_learner(data, SmallNet, pretrained=False, precision="half")


def test_it_learns_what_a_child_could_tell(data):
    learn = cnn_learner(data, SmallNet, metrics=["accuracy_thresh"], pretrained=False, ps=0.0)
    learn.fit_one_cycle(30, 3e-2)
    assert learn.recorder.epochs[-1]["accuracy_thresh"] == 1.0


def test_the_same_seed_gives_the_same_losses_with_0_and_with_2_workers(tmp_path, data):
    losses = []
    for workers in (0, 2, 2):
        again = DataBunch.create(data.train_ds, data.valid_ds, bs=8, num_workers=workers,
                                 device=torch.device("cpu"))
        learn = cnn_learner(again, SmallNet, pretrained=False)
        learn.fit_one_cycle(2, 1e-2)
        losses.append((learn.recorder.losses, learn.recorder.epochs[-1]["valid_loss"]))
    assert losses[0] == losses[1] == losses[2]


def test_masks_are_not_for_cnn_learner_nor_whole_pictures_for_unet_learner(data, masks):
    with pytest.raises(ValueError, match="masks.*unet_learner"):
        cnn_learner(masks, SmallNet, pretrained=False)
    with pytest.raises(ValueError, match="masks.*cnn_learner"):
        unet_learner(data, SmallNet, pretrained=False)


# A class for each pixel

@pytest.fixture
def masks(tmp_path) -> DataBunch:
    """24 pictures of 24 x 32 pixels, in patches: red is class 1, green class 2, the rest is 0."""
    rng = numpy.random.default_rng(0)
    for i in range(24):
        values = rng.integers(3, size=(6, 8), dtype=numpy.uint8).repeat(4, axis=0).repeat(4, axis=1)
        pixels = rng.integers(0, 60, (24, 32, 3), dtype=numpy.uint8)
        pixels[values == 1, 0] += 180
        pixels[values == 2, 1] += 180
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "masks" / f"{i:02}.png")
    files = sorted(tmp_path.glob("*.png"))
    return (ImageList(tmp_path, tuple(files)).split_by_rand_pct(0.25)
            .label_from_func(lambda file: tmp_path / "masks" / file.name, ["no", "red", "green"])
            .transform(size=(24, 32)).databunch(bs=6, device=torch.device("cpu")))


def test_a_unet_has_three_groups_body_body_and_all_else(masks):
    learn = unet_learner(masks, SmallNet, pretrained=False, precision="float32")
    body = list(learn.model.body)
    assert [layer for group in learn.groups[:2] for layer in group] == body
    rest = {id(p) for p in learn.groups[2].parameters()}
    of_body = {id(p) for p in learn.model.body.parameters()}
    assert rest | of_body == {id(p) for p in learn.model.parameters()} and not rest & of_body
    assert learn.model.last.out_channels == 3 and learn.frozen_to == 0


def test_camvids_groups_have_v1s_sizes_and_frozen_trains_what_v1_trains(masks):
    learn = unet_learner(masks, resnet34, pretrained=False, bottle=True, precision="float32")
    learn.freeze()
    # v1 has 41,133,018 parameters with 12 classes, and 19,865,370 of them train; the last
    # layer, 99 channels and a bias, has 9 classes fewer here. 2.6: the body's two groups.
    total, trains = (sum(p.numel() for p in learn.model.parameters() if p.requires_grad or every)
                     for every in (True, False))
    assert (total, trains) == (41_133_018 - 900, 19_865_370 - 900)
    assert [sum(p.numel() for p in group.parameters()) for group in learn.groups[:2]] == [
        1_347_904, 19_936_768]
    learn.fit_one_cycle(1, slice(1e-5, 1e-3))
    assert [group["lr"] / learn.recorder.rates[-1][2] for group in
            learn.optimizer.param_groups] == pytest.approx([.01, .1, 1])


def test_a_pretrained_body_is_frozen_under_a_new_way_up(masks, tmp_path):
    net = SmallNet()
    file = save_tensors(tmp_path / "small.pth", net.state_dict())
    learn = unet_learner(masks, SmallNet, pretrained=file, precision="float32")
    assert learn.frozen_to == 2 and torch.equal(learn.model.body.conv.weight, net.conv.weight)
    before = [p.clone() for p in (learn.model.body.conv.weight, learn.model.last.weight)]
    learn.fit(1, 1e-2)
    after = learn.model.body.conv.weight, learn.model.last.weight
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    freeze_to(learn.groups, 0)
    assert all(p.requires_grad for p in learn.model.parameters())


def test_knobs_reach_the_unet_and_its_learner(masks):
    loss = partial(pixel_loss, ignore=0)
    learn = unet_learner(masks, SmallNet, ["accuracy"], False, bottle=True, wd=0.3, loss_func=loss,
                         precision="float32")
    assert learn.model.cross[0][0].out_channels == 11 // 2      # 8 channels and 3 of the picture
    assert (learn.wd, learn.loss_func, len(learn.metrics)) == (0.3, loss, 1)
    usual = unet_learner(masks, SmallNet, pretrained=False)
    assert usual.model.cross[0][0].out_channels == 11
    assert usual.wd == 1e-2 and usual.loss_func is pixel_loss
    assert usual.autocast is not learn.autocast
    with pytest.raises(ValueError, match="precision 'half'"):
        unet_learner(masks, SmallNet, pretrained=False, precision="half")


def test_the_seed_decides_the_first_weights_of_a_unet(masks):
    state = torch.get_rng_state()
    first = [[p.clone() for p in unet_learner(masks, SmallNet, pretrained=False,
                                              seed=seed).model.parameters()] for seed in (1, 1, 2)]
    assert all(map(torch.equal, first[0], first[1]))
    assert not torch.equal(first[0][0], first[2][0]) and not torch.equal(first[0][-2], first[2][-2])
    assert torch.equal(state, torch.get_rng_state())


def test_a_unet_learns_what_a_child_could_tell(masks):
    learn = unet_learner(masks, SmallNet, ["accuracy", "mean_iou"], pretrained=False)
    learn.fit_one_cycle(15, 1e-2)
    assert learn.recorder.epochs[-1]["mean_iou"] > 0.8


def test_a_unet_goes_big_by_loading_into_a_new_learner_that_is_frozen_again(masks, tmp_path):
    net = save_tensors(tmp_path / "small.pth", SmallNet().state_dict())
    learn = unet_learner(masks, SmallNet, pretrained=net, precision="float32")
    learn.unfreeze()
    learn.fit(1, 1e-3)
    learn.save(tmp_path / "stage-2.pth")
    bigger = (ImageList(tmp_path, tuple(masks.train_ds.files)).split_by_idx([0, 1])
              .label_from_func(lambda file: tmp_path / "masks" / file.name, masks.classes)
              .transform(size=(45, 61)).databunch(bs=6, device=torch.device("cpu")))
    other = unet_learner(bigger, SmallNet, pretrained=net, precision="float32", seed=9)
    other.load(tmp_path / "stage-2.pth", with_opt=False)
    assert other.frozen_to == 2
    assert all(map(torch.equal, learn.model.state_dict().values(),
                   other.model.state_dict().values()))
    other.fit(1, 1e-3)
    assert isinstance(other, Learner) and other.get_preds()[0].shape == (2, 3, 45, 61)


# The models, and how to make them again

def shapes(model: nn.Module) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_a_cnn_is_a_body_and_a_head_for_so_many_classes():
    model = cnn(SmallNet, 5, ps=0.2)
    assert [name for name, _ in model.named_children()] == ["body", "head"]
    assert model(torch.rand(2, 3, 16, 20)).shape == (2, 5)
    assert [model.head[i].p for i in (3, 7)] == [0.1, 0.2] and cnn(SmallNet, 5).head[7].p == 0.5
    assert model.recipe == {"kind": "cnn", "arch": "SmallNet"}


def test_a_unet_stands_on_a_body_for_so_many_classes():
    model = unet(SmallNet, 5)
    assert isinstance(model, DynamicUNet) and model(torch.rand(2, 3, 16, 20)).shape == (
        2, 5, 16, 20)
    assert model.recipe == {"kind": "unet", "arch": "SmallNet", "bottle": False}
    slim = unet(SmallNet, 5, bottle=True)
    assert slim.recipe["bottle"] is True and slim.cross[0][0].out_channels == 11 // 2


def test_models_have_pretrained_weights_where_a_file_of_them_is_given(tmp_path):
    net = SmallNet()
    file = save_tensors(tmp_path / "small.pth", net.state_dict())
    for body in (cnn(SmallNet, 2, file).body, unet(SmallNet, 2, file).body,
                 body_from(SmallNet, file)):
        assert torch.equal(body.conv.weight, net.conv.weight)
    assert not torch.equal(body_from(SmallNet, False).conv.weight, net.conv.weight)


def test_archs_are_ours_by_the_names_that_recipes_have():
    assert ARCHS == {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


@pytest.mark.parametrize("make", [
    lambda: cnn(SmallNet, 5), lambda: unet(SmallNet, 5), lambda: UNet(5, 4, 2),
    lambda: unet(SmallNet, 5, bottle=True)], ids=["cnn", "unet", "UNet", "bottle"])
@pytest.mark.parametrize("known", [True, False])
def test_a_recipe_makes_a_model_of_the_same_shape_again(monkeypatch, make, known):
    model = make()
    if known:
        monkeypatch.setitem(vision.ARCHS, "SmallNet", SmallNet)
    again = build(model.recipe, 5, None if known else SmallNet)
    assert type(again) is type(model) and shapes(again) == shapes(model)
    assert again.recipe == model.recipe
    assert shapes(build(model.recipe, 3, SmallNet)) != shapes(model)            # other classes


def test_an_own_model_is_what_its_constructor_makes():
    own = build({"kind": "own", "arch": "Sequential"}, 5, lambda: nn.Sequential(nn.Conv2d(3, 5, 1)))
    assert shapes(own) == {"0.weight": (5, 3, 1, 1), "0.bias": (5,)}


def test_an_own_model_needs_its_constructor_even_where_it_has_the_name_of_ours():
    with pytest.raises(ValueError, match=r"'resnet18', which is none of ours.*arch=its constr"):
        build({"kind": "own", "arch": "resnet18"}, 2, None)


@pytest.mark.parametrize("kind", ["cnn", "unet"])
def test_a_body_that_is_none_of_ours_is_named_unless_its_constructor_is_given(kind):
    with pytest.raises(ValueError, match=r"made of 'SmallNet', which is none of ours; give load"):
        build({"kind": kind, "arch": "SmallNet", "bottle": False}, 2, None)


@pytest.mark.parametrize("recipe", [{}, {"kind": "unets"}, {"kind": None}, {"kind": 1}])
def test_a_recipe_of_another_kind_is_refused(recipe):
    with pytest.raises(ValueError, match="no kind of model .*there are: UNet, cnn, unet, own"):
        build(recipe, 2, SmallNet)
