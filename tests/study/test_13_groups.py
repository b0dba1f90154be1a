from collections import OrderedDict
from math import inf, nan
import pickle

import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.groups import (ConcatPool, body_of, freeze_to, group_rates, head, split_groups,
                             summary)


class Skipping(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:                 # not one child after the other
        return self[3](self[2](self[1](self[0](x)) + x))


def trains(groups: list[nn.Module]) -> list[list[bool]]:
    return [[parameter.requires_grad for parameter in group.parameters()] for group in groups]


def test_the_body_of_a_network_ends_before_its_pooling_layer():
    net = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3), bn1=nn.BatchNorm2d(4),
                                    pool=nn.AdaptiveAvgPool2d(1), fc=nn.Linear(1, 1)))
    body = body_of(net, "resnet")
    assert type(body) is nn.Sequential and body.training
    assert list(body.named_children()) == list(net.named_children())[:2]
    # Trying the network out left nothing behind: no running statistics, and no hook to be pickled
    assert body.bn1.running_mean.eq(0).all() and pickle.dumps(body)


def test_the_body_may_be_in_one_child():
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))
    top = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    assert list(body_of(nn.Sequential(features, top), "densenet")) == list(features)


@pytest.mark.parametrize("net", [
    Skipping(*(nn.Conv2d(3, 3, 1) for _ in range(3)), nn.AdaptiveAvgPool2d(1)), nn.Linear(64, 3),
    nn.Sequential(nn.Conv2d(3, 4, 64), nn.Flatten(), nn.Linear(4, 3))])         # no (n, f, h, w)
def test_a_network_whose_children_are_no_body_cannot_be_cut(net):
    with pytest.raises(ValueError):
        body_of(net, "strange")


def test_concat_pool_has_the_maxima_first_and_then_the_averages():
    x = torch.tensor([[[[1., 2], [3, 6]], [[0, 0], [-4, 0]]]])              # (1, 2, 2, 2)
    assert ConcatPool()(x).tolist() == [[[[6]], [[0]], [[3]], [[-1]]]]


def test_a_head_pools_and_has_two_linear_layers():
    torch.manual_seed(0)
    layers, x = head(4, 3, hidden=8, ps=0), torch.randn(5, 4, 2, 3)
    out = torch.cat([x.amax((2, 3)), x.mean((2, 3))], dim=1)                # (5, 8)
    out = F.linear(F.batch_norm(out, None, None, training=True), layers[4].weight).relu()
    out = F.linear(F.batch_norm(out, None, None, training=True), layers[8].weight)
    assert out.shape == (5, 3) and torch.allclose(layers(x), out, atol=1e-5)


def test_a_head_drops_half_as_much_before_its_first_linear_layer():
    kinds = [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, nn.Linear]
    layers = head(64, 100)
    assert [type(layer) for layer in layers[2:]] == kinds
    assert (layers[3].p, layers[7].p) == (0.25, 0.5)
    # Kaiming: sqrt(2 / 128), sqrt(2 / 512)
    for linear, shape, std in ((layers[4], (512, 128), 0.125), (layers[8], (100, 512), 0.0625)):
        assert linear.weight.shape == shape and linear.bias.eq(0).all()
        assert linear.weight.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("children, first", [(8, 6), (12, 9), (3, 2), (2, 1), (1, 1)])
def test_three_quarters_of_the_body_are_the_first_group_but_at_least_one_child(children, first):
    body, top = nn.Sequential(*(nn.ReLU() for _ in range(children))), nn.Linear(1, 1)
    groups = split_groups(body, top)
    assert [*groups[0], *groups[1]] == [*body] and len(groups[0]) == first and groups[2] is top


@pytest.mark.parametrize("n, trained", [(0, "TTT"), (1, "FTT"), (-1, "FFT"), (-2, "FTT")])
def test_groups_are_frozen_up_to_number_n(n, trained):
    groups = [nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1)), nn.Linear(1, 1)]
    freeze_to(groups, 2)                                    # what was frozen may train again
    freeze_to(groups, n)
    assert trains(groups) == [[group == "T"] * 2 for group in trained]


def test_batchnorm_trains_in_a_frozen_group_too():
    inner = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
    groups = [nn.Sequential(inner, nn.LayerNorm(4), nn.BatchNorm1d(4)), nn.Linear(4, 4)]
    freeze_to(groups, 1)
    assert trains(groups) == [[True, True, False, False, False, True, True], [True, True]]
    for n in (2, -3):
        with pytest.raises(ValueError):
            freeze_to(groups, n)


def test_the_summary_counts_parameters_group_by_group():
    groups = [nn.Linear(40, 50), nn.BatchNorm1d(4)]
    groups[0].bias.requires_grad_(False)
    # 40 * 50 weights train, 50 biases do not; 4 + 4
    assert [line.split() for line in summary(groups).splitlines()] == [
        ["group", "parameters", "trainable"], ["0", "2,050", "2,000"], ["1", "8", "8"]]


@pytest.mark.parametrize("lr, rates", [
    (0.01, [0.01, 0.01, 0.01]), (slice(0.01), [0.001, 0.001, 0.01]),
    (slice(1e-5, 1e-3), [1e-5, 1e-4, 1e-3]), (slice(1, 8), [1, 2, 4, 8]), (slice(1, 8), [8]),
    (slice(1, 9), [1, 9]), (slice(0.01), [0.01]), (slice(2), [0.2, 2])])
def test_each_group_has_its_learning_rate(lr, rates):
    found = group_rates(lr, len(rates))
    assert found == pytest.approx(rates) and {type(rate) for rate in found} == {float}


@pytest.mark.parametrize("lr", [0, nan, inf, slice(-1), slice(0, 1), "0.1", slice(1, 2, 3)])
def test_a_learning_rate_is_positive_and_finite(lr):
    with pytest.raises(ValueError):
        group_rates(lr, 3)
