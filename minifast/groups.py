"""Fine-tuning: cut the body off a trained net, give it a new head, train each at its own rate.

A body that has seen many pictures needs little change, a new head much. So the model is split in
layer groups, the first ones can be frozen, and each group gets a learning rate of its own.
"""

from collections import OrderedDict
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from minifast.schedules import exponential
from minifast.tools import check


def body_of(net: nn.Module, name: str) -> nn.Sequential:
    """A net's children before its pooling layer, in a row, under their own names, in training mode.

    The row ends before the first child that is an adaptive pooling layer or a linear layer, or has
    one among its own children. Where it has one child only (`features`), that child's children are
    the row. Pictures (n, 3, h, w) go in, features (n, f, h', w') come out.

    Raises ValueError, with the name, unless the row computes what the net does, tried on a picture.
    """
    row = OrderedDict(takewhile(lambda item: not ends_body(item[1]), net.named_children()))
    if len(row) == 1:
        row = OrderedDict(next(iter(row.values())).named_children())
    body = nn.Sequential(row)
    if not row or not computes_the_same(body, net):
        raise ValueError(f"{name} cannot be cut: its children do not run one after the other up to "
                         "a pooling layer; a ResNet, DenseNet, SqueezeNet or MobileNet would do")
    return body.train()


def ends_body(child: nn.Module) -> bool:
    """Whether a child is, or directly holds, a linear or an adaptive pooling layer: one whose class
    has "Adaptive" in its name, since other libraries have classes of their own."""
    return any(isinstance(module, nn.Linear) or "Adaptive" in type(module).__name__
               for module in (child, *child.children()))


def computes_the_same(body: nn.Sequential, net: nn.Module) -> bool:
    """Whether the body turns a picture into what its last layer gives when the whole net runs.

    Both in eval mode, on a picture (1, 3, 64, 64) that leaves the random state alone. A copy of the
    output is compared, since the net may change it in place. False unless 4-dim, and on any error.
    """
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    # A copy, since the net may go on in place (ReLU) on what it got.
    watch = body[-1].register_forward_hook(lambda layer, args, out: seen.append(out.clone()))
    try:
        with torch.no_grad():
            net.eval()(x)
            watch.remove()
            features = body.eval()(x)
        return features.ndim == 4 and torch.equal(features, seen[0])
    except Exception:                   # whatever the net complains of, its children are no row
        return False
    finally:
        watch.remove()


class ConcatPool(nn.Module):
    """(n, f, h, w) -> (n, 2f, 1, 1): over h and w first the maximum, then the average."""

    def forward(self, x: Tensor) -> Tensor:
        """The features x of a body, pooled in both ways."""
        # amax and mean, and not the adaptive pools: on a GPU those add gradients in any order.
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


def head(features: int, classes: int, hidden: int = 512, ps: float = 0.5) -> nn.Sequential:
    """What turns a body's features into classes: (n, features, h, w) -> (n, classes).

    ConcatPool, flatten, then twice BatchNorm, dropout, linear (2 features -> hidden -> classes),
    with a ReLU between. Dropout is ps / 2 first and ps the second time.
    The linear weights begin as kaiming_normal_, their biases as 0.
    Raises ValueError where ps is not in 0..1. Source: fastai v1, vision/learner.create_head.
    """
    check.between("ps", ps, 0, 1)
    layers = nn.Sequential(
        ConcatPool(), nn.Flatten(),                                                 # (n, 2f)
        nn.BatchNorm1d(2 * features), nn.Dropout(ps / 2), nn.Linear(2 * features, hidden),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(hidden), nn.Dropout(ps), nn.Linear(hidden, classes))         # (n, classes)
    for linear in (layers[4], layers[8]):
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    return layers


def split_groups(body: nn.Sequential, top: nn.Module) -> list[nn.Module]:
    """Layer groups: the first 3/4 of the body's children (rounded down, at least 1), others, top.

    Of a ResNet's eight children that is [conv1 .. layer2], [layer3, layer4], [head], as in v1.
    """
    cut = max(1, len(body) * 3 // 4)
    return [body[:cut], body[cut:], top]


def freeze_to(groups: list[nn.Module], n: int) -> None:
    """Train the groups from number n on, and of those before it the BatchNorm layers alone.

    Group numbers count from 0, or, below 0, from the end: -1 leaves the last group.
    Each parameter's requires_grad says whether it trains. BatchNorm stays trainable, as in v1: its
    few numbers fit the frozen features to pictures of another kind, and its running statistics
    move in training anyway. Raises ValueError where there is no such group.
    """
    check.between("group number", n, -len(groups), len(groups) - 1)
    for number, group in enumerate(groups):
        frozen = number < n % len(groups)
        for layer in group.modules():
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(isinstance(layer, _BatchNorm) or not frozen)


def summary(groups: list[nn.Module]) -> str:
    """A table of layer groups: of each of the `groups` its number, how many parameters it has, with
    commas between thousands, and how many of them train. Its header: group parameters trainable."""
    lines = ["group    parameters     trainable"]
    for number, group in enumerate(groups):
        sizes = [(p.numel(), p.requires_grad) for p in group.parameters()]
        trainable = sum(size for size, trains in sizes if trains)
        lines.append(f"{number:5} {sum(size for size, _ in sizes):13,} {trainable:13,}")
    return "\n".join(lines)


def group_rates(lr: float | slice, groups: int) -> list[float]:
    """A learning rate, a plain float, for each layer group; `groups` is how many there are, and lr:

    0.01               the same for all
    slice(0.01)        0.01 for the last group, a tenth of it for all others
    slice(1e-5, 1e-3)  from the first to the last group in equal ratios: 1e-5, 1e-4, 1e-3

    The last group always has the last rate, also where it is the only one.
    Raises ValueError, `must be above 0 and finite`, on other rates; on all else a TypeError for lr.
    Source: fastai v1, basic_train.lr_range.
    """
    if isinstance(lr, slice) and lr.stop is not None and lr.step is None:
        low, high = lr.start, lr.stop
    elif isinstance(lr, (int, float)):
        low = high = lr
    else:
        raise TypeError(f"lr must be a number, slice(last) or slice(first, last), got {lr!r}")
    for rate in (high, high if low is None else low):
        if not 0 < rate < float("inf"):
            raise ValueError(f"a learning rate must be above 0 and finite, got {rate} in {lr!r}")
    high = float(high)                  # numpy's numbers could not be loaded from a checkpoint
    if low is None:
        return [high / 10] * (groups - 1) + [high]
    return [exponential(high, float(low), i / max(1, groups - 1)) for i in range(groups)][::-1]
