"""Pretrained weights: from a named file, torch.hub's cache or the network, and into a net."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.hub import download_url_to_file, get_dir

from minifast import check
from minifast.files import unpickled

WEIGHTS_FOLDER = "https://download.pytorch.org/models/"
WEIGHTS = {"resnet18": "resnet18-f37072fd.pth", "resnet34": "resnet34-b627a593.pth",
           "resnet50": "resnet50-0676ba61.pth"}     # before .pth: how its SHA-256 begins


def pretrained_weights(arch: str, source: bool | str | Path) -> dict[str, Tensor]:
    """Weights by parameter name.

    arch    name of the architecture, for which ImageNet weights are known: see WEIGHTS
    source  a file in torchvision's format; or True: ImageNet's, from torch.hub's cache, or else
            downloaded into it (with its checksum)

    Raises ValueError, naming the file or the way out, where the file is missing or unreadable,
    there is no network, or no weights of this architecture are known.
    """
    file = source
    if source is True:
        check.one_of("ImageNet weights for", arch, WEIGHTS)
        url, file = WEIGHTS_FOLDER + WEIGHTS[arch], Path(get_dir(), "checkpoints", WEIGHTS[arch])
        if not file.exists():
            download(url, file)
    check.exists("weights", Path(file), "check the path")
    return unpickled(file, lambda: torch.load(file, "cpu", weights_only=True))


def download(url: str, file: Path) -> None:
    """Fetch a url as a file whose name ends in its SHA-256's first 8 characters: net-12ab34cd.pth.

    Makes the folder. Raises ValueError, with the way out, without a network or for a wrong file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(url, str(file), hash_prefix=file.stem[-8:])
    except (OSError, RuntimeError) as error:            # no network; another SHA-256 than promised
        raise ValueError(
            f"{url} cannot be downloaded: {error}. Fetch it elsewhere and put it into "
            f"{file.parent}, or name it with pretrained=FILE, or train from scratch with "
            "pretrained=False") from error


def load_pretrained(net: nn.Module, arch: str, source: bool | str | Path) -> None:
    """Put pretrained weights into a net; the classifier, its last child, may differ or be missing.

    arch, source  see pretrained_weights

    Raises ValueError, naming parameters, where any other one is missing, unknown or of another
    shape; the net is then as it was.
    """
    weights = pretrained_weights(arch, source)
    *_, (classifier, _) = net.named_children()
    have, want = ({name: value for name, value in named.items()
                   # torchvision's files are older than this counter, and nothing here reads it
                   if not name.startswith(classifier + ".") and "num_batches_tracked" not in name}
                  for named in (weights, net.state_dict()))
    check.same_weights(source if source is not True else WEIGHTS[arch], have, want)
    net.load_state_dict(have, strict=False)
