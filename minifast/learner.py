"""Everything that belongs to one model, in one place: data, loss, optimiser, history."""

from collections.abc import Callable, Sequence
from inspect import isbuiltin, signature
from pathlib import Path

from PIL import Image
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from minifast.checkpoints import (export, open_checkpoint, read_state, report, restore_optimizer,
                                  save_checkpoint)
from minifast.databunch import DataBunch
from minifast.groups import freeze_to, group_rates, summary
from minifast.images import File
from minifast.metrics import Metric, Metrics, Score, chosen, name_of
from minifast.predictions import get_preds, predict, show_results
from minifast.recorder import COLUMNS, Recorder
from minifast.schedules import one_cycle
from minifast.tools import check
from minifast.tools.device import uses_bfloat16
from minifast.tools.files import refuse_existing, save_tensors
from minifast.training import Loss, Schedule, fit, scores, validate

MOMENTUM = 0.9                                          # Adam's beta1 outside fit_one_cycle


class Learner:
    """A model and what it takes to train it. Its methods hand on to the modules before this one.

    data       a DataBunch; `learn.data = bigger` goes on with other pictures of the same classes
    model      any module that turns (n, 3, h, w) into logits
    loss_func  (logits, targets) -> 0-dim mean; None takes the one that goes with data.target
    metrics    functions, partials, or names: metrics.chosen
    groups     layer groups, first to last; None makes the model one group
    wd         weight decay, unless a fit says otherwise
    precision  "auto" or "float32": device.uses_bfloat16
    recorder   the history of all fits
    """

    def __init__(self, data: DataBunch, model: nn.Module, loss_func: Loss | None = None,
                 metrics: Metrics = (), groups: list[nn.Module] | None = None,
                 wd: float = 1e-2, precision: str = "auto"):
        if loss_func is None and data.target is None:
            raise ValueError("which loss? give Learner(loss_func=...), or data with a target")
        self._data, self.loss_func = data, loss_func or data.target.loss
        self.metrics = chosen(metrics)
        for function in self.metrics:
            try:
                if not isbuiltin(getattr(function, "func", function)):      # without a signature
                    signature(function).bind("logits", "targets")
            except (TypeError, ValueError) as error:
                raise TypeError(f"metric {name_of(function)} cannot take (logits, targets) alone: "
                                f"{error}; preset the rest with partial") from error
        columns = [*COLUMNS, *map(name_of, self.metrics)]
        if len(set(columns)) < len(columns):
            raise ValueError(f"columns of the history must differ, got {', '.join(columns)}")
        device = data.train_dl.device
        fast = uses_bfloat16(device, precision)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=fast)
        layout = torch.channels_last if fast else torch.preserve_format
        self.model = model.to(device, memory_format=layout)
        self.groups, self.wd = groups or [self.model], wd
        self.recorder = Recorder()
        self.freeze_to(0)

    @property
    def data(self) -> DataBunch:
        """The data of the next fit. Raises ValueError where the new one has other classes."""
        return self._data

    @data.setter
    def data(self, data: DataBunch) -> None:
        """Go on with other data, of the same kind of target and the same classes."""
        if (type(data.target), data.classes) != (type(self._data.target), self._data.classes):
            raise ValueError(f"the model answers for {self._data.classes}, the new data has "
                             f"{data.classes}; make a new learner for other classes")
        self._data = data

    def freeze_to(self, n: int) -> None:
        """Train the layer groups from number n on (groups.freeze_to), with a new optimiser."""
        freeze_to(self.groups, n)
        self.frozen_to = n % len(self.groups)
        self.optimizer = AdamW(
            [{"params": [p for p in group.parameters() if p.requires_grad]}
             for group in self.groups],
            betas=(MOMENTUM, 0.99), eps=1e-8, weight_decay=self.wd, fused=True)

    def freeze(self) -> None:
        """Train the last layer group only, and BatchNorm."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train everything."""
        self.freeze_to(0)

    def fit(self, epochs: int, lr: float | slice, wd: float | None = None) -> None:
        """Train for some epochs at constant rates: lr as in groups.group_rates; wd, the weight
        decay, is the learner's where it is None. Errors: training.fit."""
        rates = group_rates(lr, len(self.groups))
        self._fit(epochs, lambda batch: (rates, MOMENTUM), wd)

    def fit_one_cycle(self, epochs: int, max_lr: float | slice, pct_start: float = 0.3,
                      wd: float | None = None, checkpoint: Path | str | None = None,
                      resume: bool = False) -> None:
        """Train with the one-cycle policy: each layer group's rate goes from peak / 25 up to peak
        and down to peak / 250000, momentum from .95 to .85 and back. The peaks are max_lr, as in
        groups.group_rates; epochs, wd, errors as in fit. Source: fastai v1, fit_one_cycle.

        pct_start   share of the batches, 0..1, in which rates rise
        checkpoint  a file in which all is saved before the first epoch and after each
        resume      if that file is there, go on where the same fit was cut off: bit-equal on a CPU

        Raises ValueError where the checkpoint is there and resume is False, or its plan differs.
        """
        check.between("pct_start", pct_start, 0, 1)
        loader, wd = self.data.train_dl, self.wd if wd is None else wd
        peaks, batches = group_rates(max_lr, len(self.groups)), epochs * len(loader)
        plan = {"epochs": int(epochs), "max_lr": peaks, "pct_start": float(pct_start),
                "wd": float(wd), "bs": loader.bs, "seed": loader.seed,
                "pictures": [len(self.data.train_ds), len(self.data.valid_ds or ())],
                "size": list(map(int, getattr(self.data.train_ds, "size", None) or ())),
                "frozen_to": self.frozen_to, "metrics": list(map(name_of, self.metrics))}

        def save(done: int) -> None:
            save_checkpoint(checkpoint, self.state(), self.recorder, loader.epoch, plan, done)

        saved, done = open_checkpoint(checkpoint, plan, resume), 0
        if saved is not None:
            self.load(checkpoint)
            vars(self.recorder).update(saved["history"])
            done, loader.epoch = saved["done"], saved["next_epoch"]
        elif checkpoint is not None:
            save(0)                         # a full disk or a wrong folder shows now

        def schedule(batch: int) -> tuple[list[float], float]:
            rates = [one_cycle(batch, batches, peak / 25, peak, peak / 25e4, pct_start)
                     for peak in peaks]
            return rates, one_cycle(batch, batches, 0.95, 0.85, 0.95, pct_start)

        self._fit(epochs, schedule, wd, done, None if checkpoint is None else save)

    def _fit(self, epochs: int, schedule: Schedule, wd: float | None, done: int = 0,
             save: Callable[[int], None] | None = None) -> None:
        check.between("epochs", epochs, 1)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.wd if wd is None else wd
        fit(self.model, self.data, self.loss_func, self.optimizer, epochs, schedule, self.metrics,
            self.recorder, self.autocast, done, save)

    def validate(self) -> dict[str, float]:
        """valid_loss and the metrics on the validation set; see training.validate."""
        loader = self.data.need("valid_dl")
        return validate(self.model, loader, self.loss_func, self.metrics, self.autocast)

    def score(self, function: Metric) -> Score:
        """A metric function's Score on the validation set: what it has per class is still there."""
        loader = self.data.need("valid_dl")
        return scores(self.model, loader, self.loss_func, [function],
                      self.autocast)[name_of(function)]

    def get_preds(self, test: bool = False) -> tuple[Tensor, Tensor]:
        """(probabilities, targets) of validation, or of the test set, in the order of their files;
        see predictions.get_preds. Raises ValueError where there is no such set."""
        loader = self.data.need("test_dl" if test else "valid_dl")
        return get_preds(self.model, loader, self.data.need("target"), self.autocast)

    def predict(self, file: File, thresh: float = 0.5) -> tuple[str, Tensor, Tensor]:
        """(caption, decision, probabilities) of a picture: see predictions.predict."""
        return predict(self.model, self.data, file, thresh, self.autocast)

    def show_results(self, rows: int = 3, thresh: float = 0.5, void_code: int | None = None,
                     items: Sequence[int] | None = None) -> Image.Image:
        """Validation pictures, truth, answer; rows, thresh, void_code, items as in predictions."""
        return show_results(self.model, self.data, rows, thresh, void_code, self.autocast, items)

    def summary(self) -> str:
        """A table of the layer groups, their parameters and how many of them train."""
        return summary(self.groups)

    def state(self) -> dict:
        """What `save` writes: weights, optimiser, freeze state, classes, and how many weights,
        counted as tensors, each layer group has."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "frozen_to": self.frozen_to, "classes": self.data.classes,
                "groups": [len(list(group.parameters())) for group in self.groups]}

    def save(self, file: Path | str, overwrite: bool = False) -> Path:
        """Write state() to a file, whole or not at all, and return its path. Raises ValueError
        where the file is there, unless `overwrite`."""
        refuse_existing(file, "give another name, or overwrite=True", overwrite)
        return save_tensors(file, self.state())

    def load(self, file: Path | str, with_opt: bool = True) -> None:
        """Back to what `save` or a checkpoint wrote, and say what was and was not restored.

        with_opt  False: weights alone; freeze state and optimiser stay as they are

        Raises ValueError, and changes nothing, where the file cannot be read, or does not fit.
        """
        saved = read_state(file, self.state())
        print(f"{file}: {report(saved, with_opt, self.frozen_to)}")
        self.model.load_state_dict(saved["model"])
        if with_opt:
            self.freeze_to(saved["frozen_to"])
            restore_optimizer(self.optimizer, saved["optimizer"])

    def export(self, file: Path | str, thresh: float | Tensor = 0.5,
               overwrite: bool = False) -> Path:
        """Write to a file what inference.load_learner needs, and return its path: see thresh in
        checkpoints.export. Raises ValueError where the file is there, unless `overwrite`."""
        refuse_existing(file, "give another name, or overwrite=True", overwrite)
        return export(file, self.model, self.data, thresh)
