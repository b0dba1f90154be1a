"""The stages of a walkthrough: find a rate, train, and tell what came out, as a table and JSON."""

from dataclasses import asdict
import json
from pathlib import Path
import platform

import numpy as np
import PIL
from PIL import Image
import torch

from minifast import __version__
from minifast.databunch import DataBunch
from minifast.extras.doctor import check_data
from minifast.groups import group_rates
from minifast.images import open_image, to_pil
from minifast.learner import Learner
from minifast.lr_finder import LRCurve, lr_find
from minifast.metrics import name_of
from minifast.tools import processes
from minifast.tools.device import cores
from minifast.tools.draw import grid, overlay, with_legend
from minifast.tools.files import load_tensors, save_tensors, write_atomic
from kit.page import save_page, show
from kit.runs import checkpoints


def check_first(data: DataBunch, skip: bool) -> None:
    """Look at all files, unless told to skip that: print what doctor.check_data finds, and raise
    ValueError where something of it would stop the training."""
    if not skip and processes.RANK == 0:
        report = check_data(data)
        print(report)
        report.refuse_errors()


def find_rate(learn: Learner, picture: Path, chosen: float | slice, follow: bool,
              earlier_lr: float | slice | None = None, div: float = 5,
              num_it: int = 100) -> float | slice:
    """The LR range test: show its curve, and what it suggests beside what the lesson chose.

    picture          where the curve goes; its numbers go to the folder of checkpoints beside it,
                     and where they are already, by a run that was cut off, no test is needed
    chosen           the rate the lesson takes otherwise
    follow           whether to return the suggestion, where there is one, and not `chosen`
    earlier_lr, div  see LRCurve.suggest
    num_it           how many batches the test takes
    """
    file = checkpoints(picture.parent) / f"{picture.stem}.pth"
    if file.exists():
        curve = LRCurve(**load_tensors(file))
    else:
        curve = lr_find(learn, num_it=num_it)
        save_tensors(file, asdict(curve))
    show(curve.plot(), picture)
    found = curve.suggest(earlier_lr, div)
    followed = found.lr if follow and found.lr is not None else chosen
    print(f"\nLR range test: {found.reason}\nsuggested {in_words(found.lr)}, "
          f"the lesson's choice {in_words(chosen)}, taken {in_words(followed)}")
    return followed


def in_words(lr: float | slice | None) -> str:
    """A rate as one writes it: 0.01, slice(1e-05, 0.002), or none."""
    if isinstance(lr, slice):
        return f"slice({', '.join(f'{end:g}' for end in (lr.start, lr.stop) if end is not None)})"
    return "none" if lr is None else f"{lr:g}"


def train_stage(learn: Learner, out: Path, number: int, name: str, epochs: int, lr: float | slice,
                pct_start: float = 0.3) -> dict:
    """Train some epochs of one-cycle, and return what results.json says of the stage.

    Each epoch is kept in out/checkpoints/stage-<number>.pth, which learn.load reads; where a run
    was cut off, it goes on from there. It prints the layer groups and their rates
    (groups.group_rates) first. The losses and metrics are those after the last epoch; seconds count
    training and validation.
    """
    size, rates = learn.data.train_ds.size, group_rates(lr, len(learn.groups))
    print(f"\n{name}: {size[0]}x{size[1]} pixels, learning rates of the groups {spaced(rates)}")
    print(learn.summary())
    learn.fit_one_cycle(epochs, lr, pct_start, resume=True,
                        checkpoint=checkpoints(out) / f"stage-{number}.pth")
    save_page()
    rows = learn.recorder.epochs[-epochs:]
    return {"name": name, "size": list(size), "frozen": learn.frozen_to > 0, "epochs": epochs,
            "lr": rates, "train_loss": rows[-1]["train_loss"], "valid_loss": rows[-1]["valid_loss"],
            "metrics": {metric: rows[-1][metric] for metric in map(name_of, learn.metrics)},
            "seconds": sum(row["seconds"] for row in rows)}


def with_masks(file: Path, names: list[str], **masks: torch.Tensor) -> Image.Image:
    """A picture file, beside it the same with each mask (h, w) over it, and a legend of classes.

    masks  caption=mask
    """
    picture = to_pil(open_image(file))
    over = [overlay(picture, mask) for mask in masks.values()]
    seen = torch.cat([mask.flatten() for mask in masks.values()]).unique().tolist()
    return with_legend(grid([picture, *over], [file.name, *masks], 1 + len(over)),
                       {number: names[number] for number in seen})


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
                "torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    content = {"lesson": lesson, "settings": asdict(settings), "baselines": baselines,
               "stages": stages, "versions": versions, "device": device_name(device),
               "processes": processes.COUNT}
    print(write_atomic(file, (json.dumps(content, indent=1) + "\n").encode()))


def device_name(device: torch.device) -> str:
    """What a table of results says of the device: the GPU's name, or `cpu, 3 cores`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {cores()} cores"


def spaced(rates: list[float]) -> str:
    """Rates with two digits each: '0.001 0.001 0.01'."""
    return " ".join(f"{rate:.2g}" for rate in rates)
