"""The lesson's two constructors: data and architecture in, a Learner ready to be fine-tuned out."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from torch import nn

from minifast.databunch import DataBunch
from minifast.groups import body_of, head, split_groups
from minifast.learner import Learner
from minifast.metrics import Metrics, name_of
from minifast.resnet import resnet18, resnet34, resnet50
from minifast.targets import Masks
from minifast.tools import check
from minifast.tools.seeds import seeded
from minifast.tools.weights import load_pretrained
from minifast.training import Loss
from minifast.unet import DynamicUNet, UNet, shapes_in

ARCHS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def cnn_learner(data: DataBunch, arch: Callable[[], nn.Module], metrics: Metrics = (),
                pretrained: bool | str | Path = True, ps: float = 0.5, wd: float = 1e-2,
                precision: str = "auto", seed: int = 42) -> Learner:
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
        model = cnn(arch, data.c, pretrained, ps)
    groups = split_groups(model.body, model.head)
    learn = Learner(data, model, None, metrics, groups, wd, precision)
    if pretrained:
        learn.freeze()
    return learn


def unet_learner(data: DataBunch, arch: Callable[[], nn.Module], metrics: Metrics = (),
                 pretrained: bool | str | Path = True, bottle: bool = False, wd: float = 1e-2,
                 loss_func: Loss | None = None, precision: str = "auto",
                 seed: int = 42) -> Learner:
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
        model = unet(arch, data.c, pretrained, bottle)
    rest = nn.ModuleList(part for name, part in model.named_children() if name != "body")
    learn = Learner(data, model, loss_func, metrics, split_groups(model.body, rest), wd, precision)
    if pretrained:
        learn.freeze()
    return learn


def cnn(arch: Callable[[], nn.Module], classes: int, pretrained: bool | str | Path = False,
        ps: float = 0.5) -> nn.Sequential:
    """The model of cnn_learner, for so many classes: its `body` and a new `head`; arch, pretrained
    and ps as there. Its attribute `recipe` tells, in an exported file, how to make it again."""
    body = body_from(arch, pretrained)
    model = nn.Sequential(OrderedDict(body=body, head=head(shapes_in(body)[-1][0], classes, ps=ps)))
    model.recipe = {"kind": "cnn", "arch": name_of(arch)}
    return model


def unet(arch: Callable[[], nn.Module], classes: int, pretrained: bool | str | Path = False,
         bottle: bool = False) -> DynamicUNet:
    """The model of unet_learner, for so many classes; arch, pretrained and bottle as there. Its
    attribute `recipe` tells, in an exported file, how to make it again."""
    model = DynamicUNet(body_from(arch, pretrained), classes, bottle)
    model.recipe = {"kind": "unet", "arch": name_of(arch), "bottle": bottle}
    return model


def build(recipe: dict, classes: int, arch: Callable[[], nn.Module] | None) -> nn.Module:
    """The model that a recipe describes, for so many classes, with new weights.

    recipe  a dict; its "kind" says what else is in it
            UNet       channels, levels              UNet
            cnn        arch                          cnn
            unet       arch, bottle                  unet
            own        arch                          the whole model is what arch() returns
    arch    the constructor; None: for cnn and unet the one in ARCHS that has the recipe's name

    Raises ValueError on another kind, and where there is no such constructor ("own" needs one).
    """
    kind, name = recipe.get("kind"), recipe.get("arch")
    check.one_of("kind of model", kind, ["UNet", "cnn", "unet", "own"])
    if kind == "UNet":
        return UNet(classes, recipe["channels"], recipe["levels"])
    if arch is None and (kind == "own" or name not in ARCHS):
        raise ValueError(f"it is made of {name!r}, which is none of ours; give "
                         "load_learner(file, arch=its constructor)")
    arch = arch or ARCHS[name]
    if kind == "own":
        return arch()
    return cnn(arch, classes) if kind == "cnn" else unet(arch, classes, bottle=recipe["bottle"])


def body_from(arch: Callable[[], nn.Module], pretrained: bool | str | Path) -> nn.Sequential:
    """The body of a net that `arch` makes, with pretrained weights or without: see cnn_learner. The
    net is known by metrics.name_of(arch)."""
    net = arch()
    if pretrained:
        load_pretrained(net, name_of(arch), pretrained)
    return body_of(net, name_of(arch))
