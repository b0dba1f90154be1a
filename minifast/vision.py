"""The lesson's two constructors: data and architecture in, a Learner ready to be fine-tuned out."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from minifast.databunch import DataBunch
from minifast.groups import body_of, head, split_groups
from minifast.learner import Learner
from minifast.scores import Metric
from minifast.seeds import seeded
from minifast.targets import Masks
from minifast.training import Loss
from minifast.unet import DynamicUNet, shapes_in
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
    metrics, wd, precision  see Learner

    With pretrained weights all groups but the head are frozen; without, nothing is: a body that
    knows nothing has to learn. Raises ValueError where arch cannot be cut, weights do not fit, or
    targets are masks. Source: fastai v1, cnn_learner.
    """
    if isinstance(data.target, Masks):
        raise ValueError("cnn_learner answers for whole pictures, these have masks: unet_learner")
    with seeded(seed):
        body = body_from(arch, pretrained)
        top = head(shapes_in(body)[-1][0], data.c, ps=ps)
    model = nn.Sequential(OrderedDict(body=body, head=top))
    learn = Learner(data, model, None, metrics, split_groups(body, top), wd, precision)
    if pretrained:
        learn.freeze()
    return learn


def unet_learner(data: DataBunch, arch: Callable[[], nn.Module],
                 metrics: Sequence[Metric | str] = (), pretrained: bool | str | Path = True,
                 bottle: bool = False, wd: float = 1e-2, loss_func: Loss | None = None,
                 precision: str = "auto", seed: int = 42) -> Learner:
    """A DynamicUNet over a body cut from `arch`, for the classes of `data`, in three layer groups.

    arch, pretrained, seed   as in cnn_learner; the third group is all but the body
    bottle                   see DynamicUNet
    loss_func                None: targets.pixel_loss, in which void counts
    metrics, wd, precision   see Learner

    With pretrained weights the body is frozen. Raises ValueError where arch cannot be cut, weights
    do not fit, or targets are no masks. Source: fastai v1, unet_learner.
    """
    if not isinstance(data.target, Masks):
        raise ValueError("unet_learner answers for each pixel, which needs masks: see cnn_learner")
    with seeded(seed):
        model = DynamicUNet(body_from(arch, pretrained), data.c, bottle)
    rest = nn.ModuleList(part for name, part in model.named_children() if name != "body")
    learn = Learner(data, model, loss_func, metrics, split_groups(model.body, rest), wd, precision)
    if pretrained:
        learn.freeze()
    return learn


def body_from(arch: Callable[[], nn.Module], pretrained: bool | str | Path) -> nn.Sequential:
    """The body of a net that `arch` makes, with pretrained weights or without: see cnn_learner. The
    net is known by arch.__name__."""
    name = getattr(arch, "__name__", str(arch))
    net = arch()
    if pretrained:
        load_pretrained(net, name, pretrained)
    return body_of(net, name)
