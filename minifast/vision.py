"""The lesson's constructor: data and an architecture in, a Learner ready to be fine-tuned out."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from minifast.databunch import DataBunch
from minifast.groups import body_of, head, split_groups
from minifast.learner import Learner
from minifast.metrics import Metric
from minifast.seeds import seeded
from minifast.weights import load_pretrained


def cnn_learner(data: DataBunch, arch: Callable[[], nn.Module],
                metrics: Sequence[Metric | str] = (), pretrained: bool | str | Path = True,
                ps: float = 0.5, wd: float = 1e-2, precision: str = "auto",
                seed: int = 42) -> Learner:
    """A body cut from `arch`, a new head for the classes of `data`, in three layer groups.

    arch        a constructor without arguments of a net that groups.body_of can cut: resnet50, ...
    pretrained  True: ImageNet weights; a file of weights; False: none
    ps          dropout before the last layer
    seed        of the head's first weights, and of the body's where nothing is pretrained

    With pretrained weights all groups but the head are frozen; without, nothing is: a body that
    knows nothing has to learn. Raises ValueError where arch cannot be cut or weights do not fit.
    Source: fastai v1, cnn_learner.
    """
    name = getattr(arch, "__name__", str(arch))
    with seeded(seed):
        net = arch()
        if pretrained:
            load_pretrained(net, name, pretrained)
        body = body_of(net, name)
        with torch.no_grad():
            features = body.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
        body.train()
        top = head(features, data.c, ps=ps)
    model = nn.Sequential(OrderedDict(body=body, head=top))
    learn = Learner(data, model, None, metrics, split_groups(body, top), wd, precision)
    if pretrained:
        learn.freeze()
    return learn
