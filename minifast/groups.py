"""Fine-tuning: cut the body off a trained network, give it a new head, train each at its own rate.

A body that has seen many pictures needs little change, a new head needs much. So a model has layer
groups: the first ones can be frozen, and each has a learning rate of its own.
"""

from collections import OrderedDict
from contextlib import suppress
from itertools import takewhile
from math import inf

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from minifast.schedules import exponential
from minifast.tools import check


def body_of(net: nn.Module, name: str) -> nn.Sequential:
    """The children of a network before the first that is, or directly holds, an adaptive pooling or
    a linear layer; if that is a single child (`features`), its children. They turn pictures
    (n, 3, h, w) into features (n, f, h', w'). Raises ValueError with the name if the last of them
    gives something else than within the network."""
    def ends_body(child: nn.Module) -> bool:
        return any(isinstance(layer, nn.Linear) or "Adaptive" in type(layer).__name__
                   for layer in (child, *child.children()))

    row = OrderedDict(takewhile(lambda item: not ends_body(item[1]), net.named_children()))
    if len(row) == 1:
        row = OrderedDict(*(child.named_children() for child in row.values()))
    body, seen, x = nn.Sequential(row), [], torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    # The last layer's output in the network and in the body. Copies, as networks go on in place.
    with torch.no_grad(), suppress(Exception), body[-1].register_forward_hook(
            lambda layer, args, out: seen.append(out.clone())):
        net.eval()(x), body.eval()(x)
    if len(seen) != 2 or seen[0].ndim != 4 or not torch.equal(*seen):
        raise ValueError(f"{name} cannot be cut: its children do not run one after the other up to "
                         "a pooling layer; a ResNet, DenseNet, SqueezeNet or MobileNet would do")
    return body.train()


class ConcatPool(nn.Module):
    """(n, f, h, w) -> (n, 2f, 1, 1): over h and w, first the maximum, then the average."""

    def forward(self, x: Tensor) -> Tensor:
        # Not the adaptive pools: on a GPU their gradients are not deterministic.
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


def head(features: int, classes: int, hidden: int = 512, ps: float = 0.5) -> nn.Sequential:
    """From a body's features (n, features, h, w) to logits (n, classes): ConcatPool, flatten, then
    twice BatchNorm, dropout (first ps / 2, then ps) and linear, with a ReLU between. Weights begin
    as kaiming_normal_, biases as 0. Source: fastai v1, create_head."""
    layers = nn.Sequential(
        ConcatPool(), nn.Flatten(),                                             # (n, 2 * features)
        nn.BatchNorm1d(2 * features), nn.Dropout(ps / 2), nn.Linear(2 * features, hidden),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(hidden), nn.Dropout(ps), nn.Linear(hidden, classes))     # (n, classes)
    for linear in (layers[4], layers[8]):
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    return layers


def split_groups(body: nn.Sequential, top: nn.Module) -> list[nn.Module]:
    """Three layer groups: the first 3/4 of the body's children (rounded down, at least one), its
    other children, and the top. In a ResNet: conv1 to layer2, then layer3 and layer4, the head."""
    cut = max(1, len(body) * 3 // 4)
    return [body[:cut], body[cut:], top]


def freeze_to(groups: list[nn.Module], n: int) -> None:
    """Train the groups from number n on; -1 is the last one. Before them, train BatchNorm only: its
    few numbers fit the frozen features to other pictures, and its running statistics move anyway.
    Source: fastai v1, freeze_to with train_bn=True."""
    check.between("group number", n, -len(groups), len(groups) - 1)
    for number, group in enumerate(groups):
        group.requires_grad_(number >= n % len(groups))
        norms = [layer for layer in group.modules() if isinstance(layer, _BatchNorm)]
        nn.ModuleList(norms).requires_grad_(True)


def summary(groups: list[nn.Module]) -> str:
    """A table with a line for each group: how many parameters it has, and how many train."""
    lines = ["group    parameters     trainable"]
    for number, group in enumerate(groups):
        sizes = {p: p.numel() for p in group.parameters()}
        trainable = sum(size for p, size in sizes.items() if p.requires_grad)
        lines.append(f"{number:5} {sum(sizes.values()):13,} {trainable:13,}")
    return "\n".join(lines)


def group_rates(lr: float | slice, groups: int) -> list[float]:
    """A learning rate for each layer group; `groups` is how many there are.

    0.01               the same for all
    slice(0.01)        0.01 for the last group, a tenth of it for all others
    slice(1e-5, 1e-3)  from the first to the last group by equal factors: 1e-5, 1e-4, 1e-3

    A single group gets the last rate. Raises ValueError unless every rate is positive and finite.
    Source: fastai v1, basic_train.lr_range.
    """
    first, last, *step = (lr.start, lr.stop, lr.step) if isinstance(lr, slice) else (lr, lr)
    for rate in (last if first is None else first, last):
        if not isinstance(rate, (int, float)) or not 0 < rate < inf or any(step):
            raise ValueError(f"lr must be positive, a number or a slice of one or two, got {lr!r}")
    last = float(last)                  # no number of numpy, which a checkpoint could not hold
    if first is None:
        return [last / 10] * (groups - 1) + [last]
    return [exponential(last, float(first), i / max(1, groups - 1)) for i in range(groups)][::-1]
