"""A walkthrough's run: checkpoints to resume from, the table of its stages, and results.json."""

from collections.abc import Callable
from dataclasses import asdict
import json
from pathlib import Path
import platform
from shutil import rmtree
import sys

import torch

from minifast import __version__
from minifast.groups import group_rates
from minifast.learner import Learner
from minifast.lr_finder import LRCurve
from minifast.metrics import name_of
from minifast.tools import processes
from minifast.tools.device import cores
from minifast.tools.files import write_atomic
from minifast.tools.progress import print_row


class Run:
    """The run of a walkthrough. Its settings have data, out and resume, among others."""

    def __init__(self, lesson: str, settings: object):
        processes.join()                            # if torchrun started several
        self.lesson, self.settings = lesson, settings
        self.baselines, self.stages = {}, []        # metric values by name; a dict for each stage
        self.kept = Path(settings.out, "checkpoints")
        begun = any(self.kept.glob("*"))
        if begun and not settings.resume:
            sys.exit(f"{settings.out} holds a run that was cut off. Go on with --resume, delete "
                     f"{self.kept}, or name another folder with --out")
        if settings.resume and not begun:
            sys.exit(f"{settings.out} holds no run to go on with: leave out --resume")
        processes.wait_for_all()                    # until all of them have looked

    def data(self, draw: Callable[..., Path], *where: object, **how: int) -> Path:
        """The folder of the real data, or of drawn data. Only one of several processes draws."""
        if self.settings.data:
            return Path(self.settings.data)
        if processes.RANK == 0:
            draw(*where, **how)
        processes.wait_for_all()
        return draw(*where, **how)                  # which is drawn by now

    def checkpoint(self) -> Path:
        """The file in which fit_one_cycle keeps the next stage."""
        return self.kept / f"stage-{len(self.stages) + 1}.pth"

    def rate(self, curve: LRCurve, notebook: float | slice,
             earlier_lr: float | slice | None = None) -> float | slice:
        """The rate of the next stage, and a printed reason: what the curve suggests, or what the
        notebook takes if the data is real or the curve gives no answer."""
        found = curve.suggest(earlier_lr)
        print("LR range test:", found.reason)
        lr, why = found.lr, "as the test suggests"
        if self.settings.data:
            lr, why = notebook, "the notebook's, because the data is real"
        elif lr is None:
            lr, why = notebook, "the notebook's, because the test gives no answer"
        shown = f"slice({lr.start:g}, {lr.stop:g})" if isinstance(lr, slice) else f"{lr:g}"
        print(f"this stage takes {shown}, {why}")
        return lr

    def note(self, name: str, learn: Learner, epochs: int, lr: float | slice) -> None:
        """Note what a stage has reached."""
        rows, last = learn.recorder.epochs[-epochs:], learn.recorder.epochs[-1]
        self.stages.append({
            "name": name, "size": list(learn.data.train_ds.size), "frozen": learn.frozen_to > 0,
            "epochs": epochs, "lr": group_rates(lr, len(learn.groups)),
            "train_loss": last["train_loss"], "valid_loss": last["valid_loss"],
            "metrics": {each: last[each] for each in map(name_of, learn.metrics)},
            "seconds": sum(row["seconds"] for row in rows)})

    def finish(self, device: torch.device) -> None:
        """Print the table of the stages, write results.json, and delete the checkpoints."""
        columns = [f"{'stage':>18}", f"{'rates':>24}", "valid_loss", *self.stages[0]["metrics"]]
        print_row(columns, columns)
        for stage in self.stages:
            rates = " ".join(f"{rate:.2g}" for rate in stage["lr"])
            print_row([stage["name"], rates, stage["valid_loss"], *stage["metrics"].values()],
                      columns)
        for name, values in self.baselines.items():
            print_row([name, "", "", *values.values()], columns)
        results = {"lesson": self.lesson, "settings": asdict(self.settings),
                   "baselines": self.baselines, "stages": self.stages,
                   "device": device_name(device), "versions": {
                       "minifast": __version__, "python": platform.python_version(),
                       "torch": torch.__version__}}
        file = Path(self.settings.out, "results.json")
        print(write_atomic(file, json.dumps(results, indent=1).encode()))
        if processes.RANK == 0:
            rmtree(self.kept)


def device_name(device: torch.device) -> str:
    """The GPU's name, or `cpu, 3 cores`."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {cores()} cores"
