from collections import OrderedDict
import math
import re

import numpy
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.groups import (ConcatPool, body_of, freeze_to, group_rates, head, split_groups,
                             summary)
from minifast.resnet import resnet18, resnet34, resnet50

PICTURE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def conv(c_in: int, c_out: int, stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1)


class Net(nn.Module):
    """Children by name, and a function (net, x) that is its forward."""

    def __init__(self, forward, **children: nn.Module):
        super().__init__()
        self.run = forward
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class SelectAdaptivePool2d(nn.Module):
    """As in timm, with the pooling inside a function: only the name says what it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def row(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def pooled(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def of_two(features: nn.Module, top, classifier: nn.Module) -> nn.Module:
    """A net of features and classifier, as torchvision's; `top` says what happens in between."""
    return Net(lambda net, x: net.classifier(top(net.features(x))).flatten(1),
               features=features, classifier=classifier)


def dense_like() -> nn.Module:                              # ReLU, in place, and pooling in forward
    return of_two(row(conv0=conv(3, 4), norm0=nn.BatchNorm2d(4), block=conv(4, 6),
                      norm5=nn.BatchNorm2d(6)),
                  lambda x: pooled(F.relu(x, inplace=True)), nn.Linear(6, 10))


CUT = {
    "conv0 norm0 block norm5": dense_like(),
    # SqueezeNet's classifier is a convolution, and pools. MobileNetV2 has its Linear in a row.
    "first second third": of_two(
        row(first=conv(3, 4), second=nn.ReLU(inplace=True), third=conv(4, 6)), lambda x: x,
        nn.Sequential(nn.Conv2d(6, 10, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))),
    "first second": of_two(row(first=conv(3, 4), second=nn.Sequential(conv(4, 6), nn.ReLU6())),
                           pooled, nn.Sequential(nn.Dropout(), nn.Linear(6, 10))),
    # Pooling that is not adaptive, or deep inside a block, does not end a body; timm's does.
    "conv1 act1 max block": Net(
        lambda net, x: net.fc(net.global_pool(net.block(net.max(net.act1(net.conv1(x)))))),
        conv1=conv(3, 4), act1=nn.ReLU(inplace=True), max=nn.MaxPool2d(2),
        block=row(excite=Net(lambda net, x: x * net.pool(x), pool=nn.AdaptiveAvgPool2d(1)),
                  conv=conv(4, 6)),
        global_pool=SelectAdaptivePool2d(), fc=nn.Linear(6, 10))}


def two_convolutions(forward) -> nn.Module:
    """A net of a, b, pool and fc; `forward` says what happens before pool."""
    return Net(lambda net, x: net.fc(net.pool(forward(net, x)).flatten(1)), a=conv(3, 3, 1),
               b=conv(3, 3, 1), pool=nn.AdaptiveAvgPool2d(1), fc=nn.Linear(3, 10))


def of_its_size(net: nn.Module, x: Tensor) -> Tensor:       # as vision transformers
    torch._assert(x.shape[2] == 224, "Wrong image height!")
    return net.b(net.a(x))


REFUSED = {
    "other_order": two_convolutions(lambda net, x: net.a(net.b(x))),
    "skip": two_convolutions(lambda net, x: net.b(net.a(x) + x)),
    "between": two_convolutions(lambda net, x: net.b(F.relu(net.a(x)))),
    "last_unused": two_convolutions(lambda net, x: net.a(x)),
    "last_twice": two_convolutions(lambda net, x: net.b(net.b(net.a(x)))),
    "of_its_size": two_convolutions(of_its_size),
    # as of vision transformers, features (n, length, f): no rows and columns are left
    "patches_first": Net(
        lambda net, x: net.fc(net.flat(net.patches(x))),
        patches=nn.Conv2d(3, 8, 16, stride=16), flat=nn.Flatten(2), fc=nn.Linear(16, 10)),
    "all_linear": Net(lambda net, x: net.b(net.a(x.flatten(1))),
                      a=nn.Linear(3 * 64 * 64, 4), b=nn.Linear(4, 2))}


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
    assert list(body.named_children()) == list(net.named_children())[:8]
    with torch.no_grad():
        assert body(PICTURE).shape == (2, features, 2, 2)


@pytest.mark.parametrize("names, net", CUT.items(), ids=list(CUT))
def test_bodies_are_cut_from_nets_of_other_kinds(names, net):
    body = body_of(net, "net")
    assert [name for name, _ in body.named_children()] == names.split()
    with torch.no_grad():
        x, features = PICTURE, body.eval()(PICTURE)
        for name in names.split():
            x = getattr(getattr(net, "features", net), name)(x)
    assert features.shape[:2] == (2, 6) and torch.equal(features, x)


@pytest.mark.parametrize("name, net", REFUSED.items(), ids=list(REFUSED))
def test_nets_whose_children_do_not_run_in_a_row_are_refused_by_name(name, net):
    with pytest.raises(ValueError, match=name):
        body_of(net, name)
    assert not any(layer._forward_hooks for layer in net.modules())    # nothing watches any more


@pytest.mark.parametrize("training", [True, False])
def test_cutting_leaves_a_body_as_fresh_as_it_was(training):
    torch.manual_seed(3)
    net = dense_like().train(training)
    before = {name: value.clone() for name, value in net.features.state_dict().items()}
    random_state = torch.get_rng_state()
    body = body_of(net, "net")
    assert all(torch.equal(body.state_dict()[name], value) for name, value in before.items())
    assert all(layer.training for layer in body.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not body[-1]._forward_hooks                                  # nothing watches any more
    assert all(p.grad is None and p.requires_grad for p in body.parameters())


# The head

def test_concat_pool_has_the_maxima_first_and_then_the_averages():
    x = torch.tensor([[[[1.0, 2], [3, 6]], [[0, 0], [-4, 0]]]])         # (1, 2, 2, 2)
    pooled = ConcatPool()(x)
    assert pooled.shape == (1, 4, 1, 1) and pooled.flatten().tolist() == [6, 0, 3, -1]
    assert ConcatPool()(torch.rand(5, 3, 2, 7)).shape == (5, 6, 1, 1)


@pytest.mark.parametrize("knobs, hidden, ps", [
    ({}, 512, (0.25, 0.5)), ({"hidden": 8, "ps": 0.2}, 8, (0.1, 0.2)), ({"ps": 0}, 512, (0, 0)),
    ({"ps": 1}, 512, (0.5, 1))])
def test_a_head_has_fast_ais_layers_in_their_order(knobs, hidden, ps):
    layers = head(100, 17, **knobs)
    assert [type(layer) for layer in layers] == [
        ConcatPool, nn.Flatten, nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU,
        nn.BatchNorm1d, nn.Dropout, nn.Linear]
    assert (layers[2].num_features, layers[6].num_features) == (200, hidden)
    assert (layers[3].p, layers[7].p) == ps
    assert layers[4].weight.shape == (hidden, 200) and layers[8].weight.shape == (17, hidden)
    assert layers(torch.rand(4, 100, 3, 5)).shape == (4, 17)


@pytest.mark.parametrize("ps", [-0.1, 1.1])
def test_dropout_is_a_share(ps):
    with pytest.raises(ValueError, match="dropout"):
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

@pytest.mark.parametrize("arch, features, sizes, frozen", [
    (resnet18, 512, [683_072, 10_493_440, 536_593], 536_593 + 9_600),
    (resnet34, 512, [1_347_904, 19_936_768, 536_593], 536_593 + 17_024),
    (resnet50, 2048, [1_444_928, 22_063_104, 2_115_601], 2_115_601 + 53_120)])
def test_the_groups_of_resnets_have_v1s_sizes_and_frozen_ones_keep_batchnorm(arch, features, sizes,
                                                                             frozen):
    with torch.device("meta"):                                          # shapes alone: quick
        body, top = nn.Sequential(*list(arch().children())[:8]), head(features, classes=17)
    groups = split_groups(body, top)
    assert [sum(p.numel() for p in group.parameters()) for group in groups] == sizes
    freeze_to(groups, -1)
    assert sum(p.numel() for group in groups for p in group.parameters()
               if p.requires_grad) == frozen        # the head, and all BatchNorm of the body


@pytest.mark.parametrize("children, first", [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (12, 9)])
def test_three_quarters_of_the_children_are_the_first_group_but_at_least_one(children, first):
    body, top = nn.Sequential(*(nn.Linear(1, 1) for _ in range(children))), nn.Linear(1, 1)
    groups = split_groups(body, top)
    assert [len(group) for group in groups[:2]] == [first, children - first]
    assert [*groups[0], *groups[1]] == list(body) and groups[2] is top


def test_freeze_to_trains_the_groups_from_n_on_whatever_was_frozen_before():
    groups = with_norms(1, 2, 3)
    for n, frozen in ((0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1), (-3, 0), (2, 2), (0, 0)):
        freeze_to(groups, n)
        # weight and bias of the convolution, then weight and bias of BatchNorm
        assert trains(groups) == [[i >= frozen, i >= frozen, True, True] for i in range(3)]


def test_only_batchnorm_stays_trainable_in_a_frozen_group():
    scale = nn.Module()
    scale.factor, scale.inner = nn.Parameter(torch.ones(1)), nn.BatchNorm1d(2)
    groups = [nn.Sequential(scale, nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.BatchNorm2d(2),
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


def test_summary_counts_parameters_group_by_group():
    groups = [nn.Linear(40, 50), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)]
    groups[0].bias.requires_grad_(False)
    # 40 * 50 weights train, 50 biases do not; 4 + 4; nothing; 4 * 2 + 2
    lines = summary(groups).splitlines()
    assert [line.split() for line in lines] == [
        ["group", "parameters", "trainable"],
        ["0", "2,050", "2,000"], ["1", "8", "8"], ["2", "0", "0"], ["3", "10", "10"]]
    assert len({len(line) for line in lines}) == 1                      # in columns


# Learning rates

@pytest.mark.parametrize("lr, groups, rates", [
    (0.01, 3, [0.01, 0.01, 0.01]), (1, 2, [1, 1]), (0.01, 1, [0.01]),
    (slice(0.01), 3, [0.001, 0.001, 0.01]), (slice(0.01), 2, [0.001, 0.01]),
    (slice(0.01), 1, [0.01]), (slice(1e-5, 1e-3), 1, [1e-3]),
    (slice(1e-5, 2e-3), 3, [1e-5, 1.41421e-4, 2e-3]), (slice(1e-5, 1e-3), 3, [1e-5, 1e-4, 1e-3]),
    (slice(1, 8), 4, [1, 2, 4, 8]), (slice(8, 1), 4, [8, 4, 2, 1]), (slice(1, 9), 2, [1, 9])])
def test_rates_of_the_groups(lr, groups, rates):
    assert group_rates(lr, groups) == pytest.approx(rates, rel=1e-5)


@pytest.mark.parametrize("lr", [
    0, -0.1, math.nan, math.inf, slice(0), slice(0, 1), slice(1, 0), slice(-1, 1),
    slice(1, math.nan), slice(math.nan, 1), slice(1, math.inf), slice(math.inf, 1),
    "0.01", None, [0.1, 0.2], slice(None), slice(0.1, None), slice(1e-5, 1e-3, 2)])
def test_rates_that_are_not_positive_finite_numbers_are_refused(lr):
    with pytest.raises(ValueError, match=rf"\blr\b.*{re.escape(str(lr))}"):
        group_rates(lr, 3)


def test_rates_are_plain_floats_whatever_numbers_came():
    # numpy's are no plain values: a checkpoint with them could not be loaded again
    one = numpy.float64(0.01)
    for lr in (one, slice(one), slice(one / 100, one), slice(1, 2)):
        assert [type(rate) for rate in group_rates(lr, 3)] == [float] * 3
