"""A walkthrough's run: checkpoints to resume from, the table of its stages, and results.json."""

from collections.abc import Callable
import json
from pathlib import Path
from shutil import rmtree

import torch

from minifast import __version__
from minifast.groups import group_rates
from minifast.learner import Learner
from minifast.lr_finder import LRCurve
from minifast.metrics import name_of
from minifast.tools import processes
from minifast.tools.files import write_atomic
from minifast.tools.progress import print_row
from kit.timing import device_name


class Run:
    """The run of a walkthrough. Its settings have data, out and resume, among others."""

    def __init__(self, lesson: str, settings: object):
        processes.join()                            # if torchrun started several
        self.lesson, self.settings = lesson, settings
        self.baselines, self.stages = {}, []        # metric values by name; a dict for each stage
        self.kept = Path(settings.out, "checkpoints")
        if self.kept.exists() != settings.resume:
            state = "missing: omit --resume" if settings.resume else "there: --resume, or delete it"
            raise SystemExit(f"{self.kept}, which a run leaves that was cut off, is {state}")

    def data(self, draw: Callable, folder: Path, **how: int) -> Path:
        """The folder of the real data, or of drawn data. Of several processes the first draws."""
        if not self.settings.data and processes.RANK == 0:
            draw(folder, **how)
        processes.wait_for_all()
        return Path(self.settings.data or folder)

    def checkpoint(self) -> Path:
        return self.kept / f"stage-{len(self.stages) + 1}.pth"          # of the next stage

    def rate(self, curve: LRCurve, notebook: float | slice,
             earlier_lr: float | slice | None = None) -> float | slice:
        """The rate of the next stage: the curve's or, for real data, the notebook's. Says why."""
        found = curve.suggest(earlier_lr)
        lr, why = found.lr, "as the test suggests"
        if self.settings.data:
            lr, why = notebook, "the notebook's, because the data is real"
        elif lr is None:
            lr, why = notebook, "the notebook's, because the test gives no answer"
        shown = f"slice({lr.start:g}, {lr.stop:g})" if isinstance(lr, slice) else f"{lr:g}"
        print(f"LR range test: {found.reason}\nthis stage takes {shown}, {why}")
        return lr

    def note(self, name: str, learn: Learner, epochs: int, lr: float | slice) -> None:
        """Note what a stage has reached."""
        rows = learn.recorder.epochs[-epochs:]
        losses = {each: rows[-1][each] for each in ("train_loss", "valid_loss")}
        self.stages.append({
            "name": name, "size": list(learn.data.train_ds.size), "frozen": learn.frozen_to > 0,
            "epochs": epochs, "lr": group_rates(lr, len(learn.groups)), **losses,
            "metrics": {each: rows[-1][each] for each in map(name_of, learn.metrics)},
            "seconds": sum(row["seconds"] for row in rows)})

    def finish(self, device: torch.device) -> None:
        """Print the table of the stages, write results.json, and delete the checkpoints."""
        columns = [f"{'stage':>18}", "valid_loss", *self.stages[0]["metrics"]]
        print_row(columns, columns)
        for stage in self.stages:
            print_row([stage["name"], stage["valid_loss"], *stage["metrics"].values()], columns)
        for name, values in self.baselines.items():
            print_row([name, "", *values.values()], columns)
        results = {"lesson": self.lesson, "settings": vars(self.settings), "stages": self.stages,
                   "baselines": self.baselines, "device": device_name(device),
                   "versions": {"minifast": __version__, "torch": torch.__version__}}
        file = Path(self.settings.out, "results.json")
        print(write_atomic(file, json.dumps(results, indent=1).encode()))
        if processes.RANK == 0:
            rmtree(self.kept)
