"""A walkthrough's run: the checkpoints to go on from, its stages, their table and results.json."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
import platform
from shutil import rmtree
import sys

from PIL import Image
import torch
from torch import Tensor

from minifast import __version__
from minifast.datablock import ImageList
from minifast.databunch import DataBunch
from minifast.extras.interpret import constant_class
from minifast.groups import group_rates
from minifast.images import open_image, to_pil
from minifast.learner import Learner
from minifast.lr_finder import LRCurve
from minifast.metrics import Metric, name_of
from minifast.tools import processes
from minifast.tools.device import cores
from minifast.tools.draw import grid, overlay, with_legend
from minifast.tools.files import load_tensors, save_tensors, write_atomic
from minifast.vision import ARCHS, cnn_learner
from kit.page import save_page
from kit.sample_data import weather_in


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Inside, the first of several processes is alone; when it is done, the others come."""
    if processes.RANK > 0:
        processes.wait_for_all()
    yield
    if processes.RANK == 0:
        processes.wait_for_all()


@dataclass
class Run:
    """The run of a walkthrough. settings have data, out and resume, among others."""

    lesson: str
    settings: object
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: list[dict] = field(default_factory=list)

    def __post_init__(self):
        """Make the folder of checkpoints: with --resume as it was left, otherwise empty. A run that
        was cut off is not thrown away without a word."""
        self.out, self.results = Path(self.settings.out), Path(self.settings.out, "results.json")
        self.kept = self.out / "checkpoints"
        finished = self.results.exists()
        if self.settings.resume and finished:
            sys.exit(f"{self.out} holds a finished run: there is nothing to go on with")
        if not self.settings.resume and processes.RANK == 0:
            if any(self.kept.glob("stage-*")) and not finished:
                sys.exit(f"{self.out} holds a run that was cut off: --resume goes on with it; or "
                         f"delete {self.kept}, or name another folder with --out")
            rmtree(self.kept, ignore_errors=True)
            if finished:                # or a run that is cut off now would pass for finished
                self.results.replace(self.results.with_name("results.before.json"))
        processes.wait_for_all()

    def keep(self, number: int, find: Callable[[], LRCurve]) -> LRCurve:
        """The curve of find(). It is kept, so that --resume need not find it again."""
        file = self.kept / f"lr-{number}.pth"
        if file.exists():
            return LRCurve(**load_tensors(file))
        curve = find()
        save_tensors(file, asdict(curve))
        return curve

    def rate(self, curve: LRCurve, notebook: float | slice,
             earlier_lr: float | slice | None = None) -> float | slice:
        """What the LR range test suggests or, on real data or if it gives no answer, what the
        notebook takes. It says which, and why."""
        found = curve.suggest(earlier_lr)
        print(f"LR range test: {found.reason}")
        if self.settings.data:
            print(f"on real data the notebook's rate holds: {notebook}")
        elif found.lr is None:
            print(f"so this stage takes {notebook}")
        return notebook if self.settings.data or found.lr is None else found.lr

    def checkpoint(self) -> Path:
        """The file in which fit_one_cycle keeps the next stage."""
        return self.kept / f"stage-{len(self.stages) + 1}.pth"

    def note(self, name: str, learn: Learner, epochs: int, lr: float | slice) -> None:
        """Note what a stage has reached, and bring the page up to date."""
        rows, size = learn.recorder.epochs[-epochs:], learn.data.train_ds.size
        self.stages.append({
            "name": name, "size": list(size), "frozen": learn.frozen_to > 0, "epochs": epochs,
            "lr": group_rates(lr, len(learn.groups)), "train_loss": rows[-1]["train_loss"],
            "valid_loss": rows[-1]["valid_loss"], "seconds": sum(row["seconds"] for row in rows),
            "metrics": {each: rows[-1][each] for each in map(name_of, learn.metrics)}})
        save_page()

    def finish(self, device: torch.device) -> None:
        """Print the table of the stages, write results.json, and delete the checkpoints."""
        metrics = list(self.stages[0]["metrics"])
        print("".join(f"{title:>24}" for title in ["stage", "rates", "valid_loss", *metrics]))
        for stage in self.stages:
            rates = " ".join(f"{rate:.2g}" for rate in stage["lr"])
            print(f"{stage['name']:>24}{rates:>24}{stage['valid_loss']:24.6f}",
                  *(f"{stage['metrics'][metric]:23.6f}" for metric in metrics))
        for name, values in self.baselines.items():
            print(f"{name:>24}{'':48}", *(f"{values[metric]:23.6f}" for metric in metrics))
        content = {"lesson": self.lesson, "settings": asdict(self.settings),
                   "baselines": self.baselines, "stages": self.stages,
                   "device": device_name(device),
                   "processes": processes.COUNT,
                   "versions": {"minifast": __version__, "python": platform.python_version(),
                                "torch": torch.__version__}}
        print(write_atomic(self.results, (json.dumps(content, indent=1) + "\n").encode()))
        if processes.RANK == 0:
            rmtree(self.kept)


def weather_body(run: Run, src: ImageList, loaders: Callable[[ImageList], DataBunch]) -> Path:
    """The weights of a body that has learned the weather of drawn tiles, from scratch."""
    s, weather = run.settings, dict(zip(src.files, map(weather_in, src.labels)))
    learn = cnn_learner(loaders(src.label_from_func(weather.get)), ARCHS[s.arch], "accuracy",
                        pretrained=False, precision=s.precision, seed=s.seed)
    learn.fit_one_cycle(s.epochs, 1e-2, checkpoint=run.kept / "weather.pth", resume=True)
    return save_tensors(run.kept / "body.pth", learn.model.body.state_dict())


def always_most_common(data: DataBunch, metrics: list[Metric], void: int) -> dict[str, dict]:
    """The baseline of a mask: accuracy and mean IoU of one class for every validation pixel."""
    counts = sum(mask.flatten().bincount(minlength=data.c) for _, mask in data.valid_ds)
    counts[void] = 0
    common, *scores = constant_class(counts)
    return {f"always {data.classes[common]}": dict(zip(map(name_of, metrics), scores))}


def with_masks(file: Path, names: list[str], **masks: Tensor) -> Image.Image:
    """A picture file, beside it the same with each mask (h, w) over it, and a legend of classes.
    The captions are the names of the arguments."""
    picture = to_pil(open_image(file))
    over = [overlay(picture, mask) for mask in masks.values()]
    seen = torch.cat([mask.flatten() for mask in masks.values()]).unique().tolist()
    return with_legend(grid([picture, *over], [file.name, *masks], 1 + len(over)),
                       {number: names[number] for number in seen})


def device_name(device: torch.device) -> str:
    """The GPU's name, or `cpu, 3 cores`."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {cores()} cores"
