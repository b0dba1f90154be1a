"""The lesson's two constructors: data and architecture in, a Learner ready for fine-tuning out."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from torch import nn

from minifast.databunch import DataBunch
from minifast.groups import body_of, head, split_groups
from minifast.learner import Learner, Loss
from minifast.metrics import Metrics, name_of
from minifast.resnet import resnet18, resnet34, resnet50
from minifast.tools import seeds, weights
from minifast.unet import DynamicUNet, shapes_in

Arch = Callable[[], nn.Module]              # resnet50, or another that groups.body_of can cut
Weights = bool | str | Path                 # see cnn_learner, pretrained
ARCHS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def cnn_learner(data: DataBunch, arch: Arch, metrics: Metrics = (), pretrained: Weights = True,
                ps: float = 0.5, wd: float = 1e-2, precision: str = "auto",
                seed: int = 42) -> Learner:
    """A body cut from arch(), and a new head for the classes of the data, in three layer groups.
    Source: fastai v1, cnn_learner.

    pretrained  True: ImageNet weights; or a file of weights; False: none. With weights the body is
                frozen; without them it has to learn
    ps          dropout before the last layer
    seed        of new weights
    """
    with seeds.seeded(seed):
        model = cnn(arch, data.c, pretrained, ps)
    learn = Learner(data, model, None, metrics, split_groups(model.body, model.head), wd, precision)
    learn.freeze_to(-1 if pretrained else 0)
    return learn


def unet_learner(data: DataBunch, arch: Arch, metrics: Metrics = (), pretrained: Weights = True,
                 bottle: bool = False, wd: float = 1e-2, loss_func: Loss | None = None,
                 precision: str = "auto", seed: int = 42) -> Learner:
    """A DynamicUNet around a body cut from arch(), in three layer groups: two of the body, and the
    rest. Arguments as in cnn_learner, DynamicUNet, Learner. Source: fastai v1, unet_learner."""
    with seeds.seeded(seed):
        model = unet(arch, data.c, pretrained, bottle)
    rest = nn.ModuleList(part for name, part in model.named_children() if name != "body")
    learn = Learner(data, model, loss_func, metrics, split_groups(model.body, rest), wd, precision)
    learn.freeze_to(-1 if pretrained else 0)
    return learn


def cnn(arch: Arch, classes: int, pretrained: Weights = False, ps: float = 0.5) -> nn.Sequential:
    """The model of cnn_learner. Its `recipe` tells how to make it again."""
    body = _body_from(arch, pretrained)
    model = nn.Sequential(OrderedDict(body=body, head=head(shapes_in(body)[-1][0], classes, ps=ps)))
    model.recipe = {"kind": "cnn", "arch": name_of(arch)}
    return model


def unet(arch: Arch, classes: int, pretrained: Weights = False,
         bottle: bool = False) -> DynamicUNet:
    """The model of unet_learner. Its `recipe` tells how to make it again."""
    model = DynamicUNet(_body_from(arch, pretrained), classes, bottle)
    model.recipe = {"kind": "unet", "arch": name_of(arch), "bottle": bottle}
    return model


def _body_from(arch: Arch, pretrained: Weights) -> nn.Sequential:
    net = arch()
    if pretrained:
        weights.load_pretrained(net, name_of(arch), pretrained)
    return body_of(net, name_of(arch))
