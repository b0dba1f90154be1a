"""Pretrained weights in torchvision's format: from a file, torch.hub's cache, or the network."""

from pathlib import Path

from torch import Tensor, nn
from torch.hub import get_dir, load_state_dict_from_url

from minifast.tools import check
from minifast.tools.files import load_tensors

WEIGHTS_FOLDER = "https://download.pytorch.org/models/"
WEIGHTS = {"resnet18": "resnet18-f37072fd.pth", "resnet34": "resnet34-b627a593.pth",
           "resnet50": "resnet50-0676ba61.pth"}     # with the first 8 digits of the SHA-256


def pretrained_weights(arch: str, source: bool | str | Path) -> dict[str, Tensor]:
    """Weights by parameter name: ImageNet's if source is True, else from the file `source`."""
    if source is not True:
        return load_tensors(source, digest=False)
    check.one_of("ImageNet weights for", arch, WEIGHTS)
    url = WEIGHTS_FOLDER + WEIGHTS[arch]
    try:
        return load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:              # no network, a wrong checksum, a broken file
        raise ValueError(f"no weights from {url}: {error}. Put the file into {get_dir()}/"
                         "checkpoints, or use pretrained=FILE or pretrained=False") from error


def load_pretrained(net: nn.Module, arch: str, source: bool | str | Path) -> None:
    """Load pretrained weights into a net, except for its last child, the classifier. They may lie
    under a key such as "state_dict", with a prefix such as "module." before each name. Raises
    ValueError if any other parameter is missing, unknown or of another shape."""
    weights, first = pretrained_weights(arch, source), next(iter(net.state_dict()))
    weights = {f"{key}.{name}": weight for key, value in weights.items() if isinstance(value, dict)
               for name, weight in value.items() if isinstance(weight, Tensor)} or weights
    prefix = min((n.removesuffix(first) for n in weights if n.endswith("." + first)), default="")
    if prefix and all(name.startswith(prefix) for name in weights):
        weights = {name.removeprefix(prefix): weight for name, weight in weights.items()}
        print(f"{source}: found the weights under {prefix}")
    *_, (classifier, _) = net.named_children()
    state = {name: value for name, value in weights.items()
             if not name.startswith(classifier + ".")}
    state |= getattr(net, classifier).state_dict(prefix=classifier + ".")
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"pretrained={source} does not fit {arch}: {error}") from error
