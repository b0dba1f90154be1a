"""What a lesson leaves behind: pictures, and of a walkthrough its stages as a table and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
import json
from pathlib import Path
import platform

import numpy
import PIL
from PIL import Image
import torch
from torch import Tensor

from minifast import __version__
from minifast.device import device_name
from minifast.draw import grid
from minifast.files import write_atomic
from minifast.groups import group_rates
from minifast.images import to_pil
from minifast.learner import Learner
from minifast.metrics import name_of


def show(picture: Image.Image, file: Path) -> Image.Image:
    """Save a picture, print where, and return it: as the last line of a cell, a notebook shows it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    print(file)
    return picture


def sheet(pictures: Iterable[Tensor], captions: list[str], columns: int) -> Image.Image:
    """Tensors (3, h, w) as pictures in rows of `columns`, with captions: see draw.grid."""
    return grid([to_pil(picture) for picture in pictures], captions, columns)


def train_stage(learn: Learner, name: str, epochs: int, lr: float | slice,
                pct_start: float = 0.3) -> dict:
    """Train some epochs of one-cycle, and return what results.json says of the stage.

    It prints the layer groups and their rates (groups.group_rates) first. The losses and metrics
    are those after the last epoch; seconds count training and validation.
    """
    size, rates = learn.data.train_ds.size, group_rates(lr, len(learn.groups))
    print(f"\n{name}: {size[0]}x{size[1]} pixels, learning rates of the groups {spaced(rates)}")
    print(learn.summary())
    learn.fit_one_cycle(epochs, lr, pct_start)
    rows = learn.recorder.epochs[-epochs:]
    return {"name": name, "size": list(size), "frozen": learn.frozen_to > 0, "epochs": epochs,
            "lr": rates, "train_loss": rows[-1]["train_loss"], "valid_loss": rows[-1]["valid_loss"],
            "metrics": {metric: rows[-1][metric] for metric in map(name_of, learn.metrics)},
            "seconds": sum(row["seconds"] for row in rows)}


def print_table(stages: list[dict], baselines: dict[str, dict[str, float]]) -> None:
    """A line per stage, then a line per baseline: {"no tag": {metric: value}}."""
    metrics = list(stages[0]["metrics"])
    line = "{:18} {:8} {:22} {:>10} {:>10} " + "".join(f"{{:>{len(m) + 1}}} " for m in metrics)
    line += "{:>8}"
    print("\n" + line.format("stage", "size", "learning rates", "train_loss", "valid_loss",
                             *metrics, "seconds"))
    for stage in stages:
        print(line.format(stage["name"], "x".join(map(str, stage["size"])), spaced(stage["lr"]),
                          f"{stage['train_loss']:.6f}", f"{stage['valid_loss']:.6f}",
                          *(f"{value:.6f}" for value in stage["metrics"].values()),
                          f"{stage['seconds']:.1f}"))
    for name, values in baselines.items():
        print(line.format(name, "", "", "", "", *(f"{values[m]:.6f}" for m in metrics), ""))


def write_results(file: Path, lesson: str, settings: object, baselines: dict[str, dict],
                  stages: list[dict], device: torch.device) -> None:
    """results.json: the settings (a dataclass), baselines, stages, versions and the device."""
    versions = {"minifast": __version__, "python": platform.python_version(),
                "torch": torch.__version__, "numpy": numpy.__version__, "pillow": PIL.__version__}
    content = {"lesson": lesson, "settings": asdict(settings), "baselines": baselines,
               "stages": stages, "versions": versions, "device": device_name(device)}
    print(write_atomic(file, (json.dumps(content, indent=1) + "\n").encode()))


def spaced(rates: list[float]) -> str:
    """Rates with two digits each: '0.001 0.001 0.01'."""
    return " ".join(f"{rate:.2g}" for rate in rates)
