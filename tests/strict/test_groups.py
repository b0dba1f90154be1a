from collections import OrderedDict
import math
import re

import numpy
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.groups import (ConcatPool, body_of, computes_the_same, ends_body, freeze_to,
                             group_rates, head, split_groups, summary)
from minifast.resnet import resnet18, resnet34, resnet50

PICTURE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def row(**layers) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def conv(c_in: int, c_out: int, stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1)


class DenseLike(nn.Module):
    """As torchvision's DenseNet: features and classifier; ReLU in place and pooling in forward."""

    def __init__(self):
        super().__init__()
        self.features = row(conv0=conv(3, 4), norm0=nn.BatchNorm2d(4), block=conv(4, 6),
                            norm5=nn.BatchNorm2d(6))
        self.classifier = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.features(x), inplace=True)
        return self.classifier(F.adaptive_avg_pool2d(out, (1, 1)).flatten(1))


class SqueezeLike(nn.Module):
    """As torchvision's SqueezeNet: the classifier is a convolution, and pools at its end."""

    def __init__(self):
        super().__init__()
        self.features = row(first=conv(3, 4), second=nn.ReLU(inplace=True), third=conv(4, 6))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(6, 10, 1), nn.ReLU(inplace=True),
                                        nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


class MobileLike(nn.Module):
    """As torchvision's MobileNetV2: pooling in forward, dropout and Linear in the classifier."""

    def __init__(self):
        super().__init__()
        self.features = row(first=conv(3, 4), second=nn.Sequential(conv(4, 6), nn.ReLU6()))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class SelectAdaptivePool2d(nn.Module):
    """As in timm, with the pooling inside a function: only the name says what it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class TimmLike(nn.Module):
    """As timm's ResNet: the children up to global_pool run one after the other."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.act1 = conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(conv(4, 5), conv(5, 6))
        self.global_pool, self.fc = SelectAdaptivePool2d(), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.global_pool(self.layer1(self.act1(self.bn1(self.conv1(x))))))


class Base(nn.Module):
    """Two convolutions, pooling and a classifier; what forward does with them differs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 3, stride=1), conv(3, 3, stride=1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 10)

    def top(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(x).flatten(1))


class OtherOrder(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.a(self.b(x)))


class Skip(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.b(self.a(x) + x))


class Between(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.b(F.relu(self.a(x))))


class LastUnused(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.a(x))


class AsksForItsSize(Base):
    """As torchvision's and timm's vision transformers do."""

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.shape[2] == 224, "Wrong image height!")
        return self.top(self.b(self.a(x)))


class OtherArguments(Base):
    """Its second child takes two pictures."""

    def __init__(self):
        super().__init__()
        self.b = nn.Bilinear(64, 64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.b(self.a(x), x))


class Pairs(Base):
    """Its second child gives two tensors."""

    def __init__(self):
        super().__init__()
        self.b = nn.LSTM(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.b(self.a(x)[0])[0][None])


class RefusesItsSize(Base):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("wanted pictures of 224 pixels")


class TransformerLike(nn.Module):
    """Patches in a row go through a transformer, and there are features (n, length, f)."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, stride=16)
        self.encoder = nn.Sequential(nn.LayerNorm(8))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.patches(x).flatten(2).transpose(1, 2))    # (n, length, 8)
        return self.head(x.mean(1))


class PatchesFirst(nn.Module):
    """Its children run in a row, but give (n, length, f): no rows and columns are left."""

    def __init__(self):
        super().__init__()
        self.patches, self.flat = nn.Conv2d(3, 8, 16, stride=16), nn.Flatten(2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.patches(x)))


class FlatNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3 * 64 * 64, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def with_norms(*channels: int) -> list[nn.Module]:
    """Layer groups, each a convolution (9 c*c + c numbers) and a BatchNorm (2c)."""
    return [nn.Sequential(conv(c, c), nn.BatchNorm2d(c)) for c in channels]


def trains(groups: list[nn.Module]) -> list[list[bool]]:
    return [[p.requires_grad for p in group.parameters()] for group in groups]


# Cutting a body

@pytest.mark.parametrize("arch, features", [(resnet18, 512), (resnet50, 2048)])
def test_the_body_of_a_resnet_is_its_first_eight_children(arch, features):
    net = arch()
    body = body_of(net, "resnet")
    assert [name for name, _ in body.named_children()] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert all(child is getattr(net, name) for name, child in body.named_children())
    with torch.no_grad():
        assert body(PICTURE).shape == (2, features, 2, 2)


@pytest.mark.parametrize("arch, names, then", [
    (DenseLike, ["conv0", "norm0", "block", "norm5"],
     lambda net, out: net.classifier(out.relu().mean((2, 3)))),
    (SqueezeLike, ["first", "second", "third"], lambda net, out: net.classifier(out).flatten(1)),
    (MobileLike, ["first", "second"], lambda net, out: net.classifier(out.mean((2, 3)))),
    (TimmLike, ["conv1", "bn1", "act1", "layer1"], lambda net, out: net.fc(out.mean((2, 3))))])
def test_bodies_are_cut_from_nets_of_other_kinds(arch, names, then):
    net = arch()
    body = body_of(net, arch.__name__)
    assert [name for name, _ in body.named_children()] == names
    net.eval()
    with torch.no_grad():
        features = body.eval()(PICTURE)
        assert features.ndim == 4 and features.shape[1] == 6
        assert torch.allclose(then(net, features), net(PICTURE), atol=1e-6)


@pytest.mark.parametrize("arch", [OtherOrder, Skip, Between, TransformerLike, PatchesFirst, FlatNet,
                                  LastUnused, AsksForItsSize])
def test_nets_whose_children_do_not_run_in_a_row_are_refused_by_name(arch):
    net = arch()
    with pytest.raises(ValueError, match=rf"\b{arch.__name__}\b"):
        body_of(net, arch.__name__)
    assert not any(layer._forward_hooks for layer in net.modules())   # nothing watches any more


@pytest.mark.parametrize("training", [True, False])
def test_cutting_leaves_a_body_as_fresh_as_it_was(training):
    torch.manual_seed(3)
    net = DenseLike().train(training)
    before = {name: value.clone() for name, value in net.features.state_dict().items()}
    random_state = torch.get_rng_state()
    body = body_of(net, "net")
    assert all(torch.equal(body.state_dict()[name], value) for name, value in before.items())
    assert body.norm0.num_batches_tracked == 0
    assert all(layer.training for layer in body.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not body[-1]._forward_hooks                                 # nothing watches any more
    assert all(p.grad is None and p.requires_grad for p in body.parameters())


@pytest.mark.parametrize("child, ends", [
    (nn.Linear(1, 1), True), (nn.AdaptiveAvgPool2d(1), True), (nn.AdaptiveMaxPool2d(1), True),
    (SelectAdaptivePool2d(), True), (nn.Sequential(nn.Dropout(), nn.Linear(1, 1)), True),
    (nn.Sequential(conv(1, 1), nn.AdaptiveAvgPool2d(1)), True), (conv(1, 1), False),
    (nn.MaxPool2d(2), False), (nn.AvgPool2d(2), False),
    # blocks with squeeze-and-excitation pool too, deeper down, and go on
    (nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Linear(1, 1))), False)])
def test_a_body_ends_at_adaptive_pooling_or_linear_or_what_holds_one(child, ends):
    assert ends_body(child) is ends


def test_a_body_is_compared_with_what_the_net_gives_at_that_layer():
    net = DenseLike()
    assert computes_the_same(net.features, net)
    assert computes_the_same(net.features[:2], net)
    assert not computes_the_same(net.features[1:], net)                # the channels do not fit
    assert not computes_the_same(nn.Sequential(net.features[0], net.features[3]), net)


# The head

def test_concat_pool_has_the_maxima_first_and_then_the_averages():
    x = torch.tensor([[[[1.0, 2], [3, 6]], [[0, 0], [-4, 0]]]])         # (1, 2, 2, 2)
    pooled = ConcatPool()(x)
    assert pooled.shape == (1, 4, 1, 1)
    assert pooled.flatten().tolist() == [6, 0, 3, -1]
    assert ConcatPool()(torch.rand(5, 3, 2, 7)).shape == (5, 6, 1, 1)


def test_a_head_has_fast_ais_layers_in_their_order():
    layers = head(features=100, classes=17)
    assert [type(layer) for layer in layers] == [
        ConcatPool, nn.Flatten, nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU,
        nn.BatchNorm1d, nn.Dropout, nn.Linear]
    assert (layers[2].num_features, layers[6].num_features) == (200, 512)
    assert (layers[3].p, layers[7].p) == (0.25, 0.5)
    assert layers[4].weight.shape == (512, 200) and layers[8].weight.shape == (17, 512)
    assert layers(torch.rand(4, 100, 3, 5)).shape == (4, 17)


def test_a_head_may_have_another_width_and_dropout():
    layers = head(4, 3, hidden=8, ps=0.2)
    assert (layers[3].p, layers[7].p) == (0.1, 0.2)
    assert layers[4].out_features == layers[6].num_features == layers[8].in_features == 8
    for ps in (0, 1):
        assert head(4, 3, ps=ps)[7].p == ps
    for ps in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"\bps\b.*{re.escape(str(ps))}"):
            head(4, 3, ps=ps)


def test_a_head_begins_with_kaimings_weights_and_no_bias():
    torch.manual_seed(0)
    layers = head(features=64, classes=100)
    for linear, fan_in in ((layers[4], 128), (layers[8], 512)):
        assert (linear.bias == 0).all()
        assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        assert linear.weight.abs().max() > 2.5 * linear.weight.std()    # normal, not uniform
    for norm in (layers[2], layers[6]):
        assert (norm.weight == 1).all() and (norm.bias == 0).all()


# Layer groups

@pytest.mark.parametrize("arch, features, sizes", [
    (resnet18, 512, [683_072, 10_493_440, 536_593]),
    (resnet34, 512, [1_347_904, 19_936_768, 536_593]),
    (resnet50, 2048, [1_444_928, 22_063_104, 2_115_601])])
def test_the_groups_of_resnets_have_fast_ais_sizes_and_frozen_ones_keep_batchnorm(arch, features,
                                                                                  sizes):
    with torch.device("meta"):                                          # shapes alone: quick
        body, top = nn.Sequential(*list(arch().children())[:8]), head(features, classes=17)
    groups = split_groups(body, top)
    assert [sum(p.numel() for p in group.parameters()) for group in groups] == sizes
    assert len(groups[0]) == 6 and len(groups[1]) == 2 and groups[2] is top
    freeze_to(groups, -1)
    if arch is resnet50:                    # the head, and all BatchNorm layers of the body
        trainable = sum(p.numel() for group in groups for p in group.parameters()
                        if p.requires_grad)
        assert trainable == 2_115_601 + 53_120


@pytest.mark.parametrize("children, first", [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (12, 9)])
def test_three_quarters_of_the_children_are_the_first_group_but_at_least_one(children, first):
    body, top = nn.Sequential(*(nn.Linear(1, 1) for _ in range(children))), nn.Linear(1, 1)
    groups = split_groups(body, top)
    assert [len(group) for group in groups[:2]] == [first, children - first]
    assert [*groups[0], *groups[1]] == list(body) and groups[2] is top


@pytest.mark.parametrize("n, frozen", [(0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1), (-3, 0)])
def test_freeze_to_trains_the_groups_from_n_on(n, frozen):
    groups = with_norms(1, 2, 3)
    freeze_to(groups, n)
    # weight and bias of the convolution, then weight and bias of BatchNorm
    assert trains(groups) == [[i >= frozen, i >= frozen, True, True] for i in range(3)]


def test_freeze_to_can_be_called_again_in_either_direction():
    groups = with_norms(1, 2, 3)
    for n in (2, 0, 1):
        freeze_to(groups, n)
        assert trains(groups) == [[i >= n, i >= n, True, True] for i in range(3)]


def test_only_batchnorm_stays_trainable_in_a_frozen_group():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor, self.inner = nn.Parameter(torch.ones(1)), nn.BatchNorm1d(2)

    groups = [nn.Sequential(Scale(), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.BatchNorm2d(2),
                            nn.BatchNorm3d(2)), nn.Linear(2, 2)]
    freeze_to(groups, 1)
    names = {name for name, p in groups[0].named_parameters() if p.requires_grad}
    assert names == {f"{layer}.{part}" for layer in ("0.inner", "3", "4")
                     for part in ("weight", "bias")}
    assert trains(groups[1:]) == [[True, True]]


@pytest.mark.parametrize("n", [3, -4])
def test_freeze_to_refuses_a_group_that_is_not_there(n):
    groups = with_norms(1, 2, 3)
    with pytest.raises(ValueError, match=rf"group.*(?<!-){n}\b"):
        freeze_to(groups, n)
    assert trains(groups) == [[True] * 4] * 3


# Learning rates

@pytest.mark.parametrize("lr, groups, rates", [
    (0.01, 3, [0.01, 0.01, 0.01]), (1, 2, [1, 1]), (0.01, 1, [0.01]),
    (slice(0.01), 3, [0.001, 0.001, 0.01]), (slice(0.01), 2, [0.001, 0.01]),
    (slice(0.01), 1, [0.01]),
    (slice(1e-5, 2e-3), 3, [1e-5, 1.41421e-4, 2e-3]), (slice(1e-5, 1e-3), 3, [1e-5, 1e-4, 1e-3]),
    (slice(1, 8), 4, [1, 2, 4, 8]), (slice(8, 1), 4, [8, 4, 2, 1]), (slice(1, 9), 2, [1, 9])])
def test_rates_of_the_groups(lr, groups, rates):
    assert group_rates(lr, groups) == pytest.approx(rates, rel=1e-5)


def test_a_slice_for_one_group_gives_one_of_its_rates():
    rate, = group_rates(slice(1e-5, 1e-3), 1)
    assert rate in (1e-5, 1e-3)


@pytest.mark.parametrize("lr, wrong", [
    (0, "0"), (0.0, "0.0"), (-0.1, "-0.1"), (float("nan"), "nan"), (float("inf"), "inf"),
    (slice(0), "0"), (slice(0, 1), "0"), (slice(1, 0), "0"), (slice(-1, 1), "-1"),
    (slice(1, float("nan")), "nan"), (slice(float("nan"), 1), "nan"),
    (slice(1, float("inf")), "inf")])
def test_rates_not_above_0_or_not_finite_are_refused(lr, wrong):
    words = "must be.* finite" if wrong == "inf" else "must be above 0"
    with pytest.raises(ValueError, match=rf"(rate|\blr\b).* {words}.*{re.escape(wrong)}\b"):
        group_rates(lr, 3)


@pytest.mark.parametrize("lr", ["0.01", None, [0.1, 0.2], slice(None), slice(0.1, None),
                                slice(1e-5, 1e-3, 2)])
def test_anything_but_a_number_or_a_slice_without_a_step_is_refused(lr):
    with pytest.raises(TypeError, match=rf"\blr\b.*{re.escape(str(lr))}"):
        group_rates(lr, 3)


def test_the_last_group_has_the_last_rate_also_where_it_is_the_only_one():
    assert group_rates(slice(1e-5, 1e-3), 1) == [1e-3]


def test_rates_are_plain_floats_whatever_numbers_came():
    # numpy's are no plain values: a checkpoint with them could not be loaded again
    one = numpy.float64(0.01)
    for lr in (one, slice(one), slice(one / 100, one), slice(1, 2)):
        assert [type(rate) for rate in group_rates(lr, 3)] == [float] * 3


def test_summary_counts_parameters_group_by_group():
    groups = [nn.Linear(40, 50), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    groups[0].bias.requires_grad_(False)
    # 40 * 50 + 50 = 2,050, of which 50 do not train; 4 + 4; 4 * 2 + 2
    assert [line.split() for line in summary(groups).splitlines()] == [
        ["group", "parameters", "trainable"],
        ["0", "2,050", "2,000"], ["1", "8", "8"], ["2", "10", "10"]]
    assert len({len(line) for line in summary(groups).splitlines()}) == 1       # in columns
