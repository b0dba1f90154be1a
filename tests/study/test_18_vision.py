import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.resnet import resnet18
from minifast.targets import Masks, Tags, Target, pixel_loss
from minifast.unet import DynamicUNet
from minifast.vision import cnn, cnn_learner, unet, unet_learner

TAGS, MASKS = (kind(["haze", "road", "sea"]) for kind in (Tags, Masks))


class SmallNet(nn.Module):
    """A network with 8 features (n, 8, h/2, w/2), and then pooling and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.relu, self.pool, self.fc = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.relu(self.norm(self.conv(x)))).flatten(1))


def bunch(target: Target) -> DataBunch:
    """Four pictures of 8 x 8 pixels, with masks or three tags each."""
    y = torch.zeros(4, 8, 8).long() if isinstance(target, Masks) else torch.zeros(4, 3)
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return DataBunch.create(list(zip(x, y)), None, target=target, bs=4, device=torch.device("cpu"))


@pytest.fixture
def trained(tmp_path) -> str:
    """A file of weights for SmallNet: all are 0.5."""
    file = str(tmp_path / "small.pth")
    torch.save({name: value * 0 + 0.5 for name, value in SmallNet().state_dict().items()}, file)
    return file


LEARNERS = pytest.mark.parametrize("make, target", [(cnn_learner, TAGS), (unet_learner, MASKS)])


def test_cnn_is_a_body_and_a_head():
    model = cnn(SmallNet, 3, ps=0.2)
    assert [name for name, _ in model.named_children()] == ["body", "head"]
    assert [name for name, _ in model.body.named_children()] == ["conv", "norm", "relu"]
    # The head pools 8 features in two ways; half of the dropout comes first
    assert [layer.in_features for layer in model.head if isinstance(layer, nn.Linear)] == [16, 512]
    assert [layer.p for layer in model.head if isinstance(layer, nn.Dropout)] == [0.1, 0.2]
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 3)
    assert model.recipe == {"kind": "cnn", "arch": "SmallNet"}


def test_unet_is_a_dynamic_unet_around_a_body():
    # The body has 8 features, and the picture 3 channels: 11, or 5 in a bottle
    for bottle, inner in ((False, 11), (True, 5)):
        model = unet(SmallNet, 3, bottle=bottle)
        assert isinstance(model, DynamicUNet) and isinstance(model.body.conv, nn.Conv2d)
        assert model.cross[1][0].in_channels == inner
        assert model(torch.rand(2, 3, 20, 20)).shape == (2, 3, 20, 20)
        assert model.recipe == {"kind": "unet", "arch": "SmallNet", "bottle": bottle}


@pytest.mark.parametrize("make", [cnn, unet])
def test_a_body_can_have_trained_weights(make, trained):
    assert (make(SmallNet, 3, trained).body.conv.weight == 0.5).all()


def test_a_resnet_has_v1s_layer_groups():
    learn = cnn_learner(bunch(TAGS), resnet18, pretrained=False)
    # conv1 to layer2, layer3 and layer4; BatchNorm of 1024 features, 1024 x 512 and a bias,
    # BatchNorm of 512, 512 x 3 and a bias: 2048 + 524800 + 1024 + 1539
    assert learn.summary().split()[4::3] == ["683,072", "10,493,440", "529,411"]


@LEARNERS
def test_a_learner_has_three_groups_that_hold_all_weights_once(make, target):
    learn = make(bunch(target), SmallNet, pretrained=False)
    assert list(learn.groups[0]) == list(learn.model.body[:2])
    parts = [p for group in learn.groups for p in group.parameters()]
    assert len(parts) == len({*parts}) and {*parts} == {*learn.model.parameters()}


@LEARNERS
def test_a_trained_body_is_frozen_and_an_untrained_one_is_not(make, target, trained):
    assert make(bunch(target), SmallNet, pretrained=False).frozen_to == 0
    learn = make(bunch(target), SmallNet, pretrained=trained)
    assert learn.frozen_to == 2 and (learn.model.body.conv.weight == 0.5).all()


@LEARNERS
def test_the_seed_decides_the_first_weights_and_nothing_else(make, target):
    state = torch.get_rng_state()
    same, again, other = ([*make(bunch(target), SmallNet, pretrained=False, seed=seed)
                           .model.parameters()][-2] for seed in (1, 1, 2))
    assert torch.equal(same, again) and not torch.equal(same, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_learner_gets_what_is_asked_for():
    learn = cnn_learner(bunch(TAGS), SmallNet, "fbeta", False, 0.2, 0.3, "float32")
    assert learn.model.head[7].p == 0.2 and learn.wd == 0.3 and len(learn.metrics) == 1
    assert learn.loss_func is F.binary_cross_entropy_with_logits
    learn = unet_learner(bunch(MASKS), SmallNet, "mean_iou", False, True, 0.3)
    assert learn.model.recipe["bottle"] and learn.wd == 0.3 and len(learn.metrics) == 1
    assert learn.loss_func is pixel_loss
    learn = unet_learner(bunch(MASKS), SmallNet, (), False, loss_func=F.cross_entropy)
    assert learn.loss_func is F.cross_entropy


@LEARNERS
def test_each_learner_trains_and_is_for_its_own_kind_of_target(make, target):
    learn = make(bunch(target), SmallNet, pretrained=False)
    learn.fit(2, 1e-3)
    assert len(learn.recorder.losses) == 2
    other = make(bunch(MASKS if target is TAGS else TAGS), SmallNet, pretrained=False)
    with pytest.raises(ValueError):
        other.fit(1, 1e-3)
