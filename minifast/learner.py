"""Everything that belongs to one model in one hand: data, loss, optimiser, history."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from minifast import check
from minifast.databunch import DataBunch
from minifast.device import uses_bfloat16
from minifast.files import load_tensors, save_tensors
from minifast.groups import freeze_to, group_rates
from minifast.metrics import metric
from minifast.predictions import get_preds, predict, show_results
from minifast.recorder import COLUMNS, Recorder
from minifast.schedules import one_cycle
from minifast.scores import Metric, Score, check_metric, name_of
from minifast.training import Loss, Schedule, fit, scores, validate

MOMENTUM = 0.9                                          # Adam's beta1 outside fit_one_cycle


class Learner:
    """A model and what it takes to train it. Its methods hand on to the modules before this one.

    data       a DataBunch; `learn.data = bigger` goes on with other pictures of the same classes
    model      any module that turns (n, 3, h, w) into logits
    loss_func  (logits, targets) -> 0-dim mean; None takes the one that goes with data.target
    metrics    functions, partials, or names in metrics.METRICS
    groups     layer groups, first to last; None makes the model one group
    wd         weight decay, unless a fit says otherwise
    precision  "auto" or "float32": device.uses_bfloat16
    recorder   the history of all fits
    """

    def __init__(self, data: DataBunch, model: nn.Module, loss_func: Loss | None = None,
                 metrics: Sequence[Metric | str] = (), groups: list[nn.Module] | None = None,
                 wd: float = 1e-2, precision: str = "auto"):
        if loss_func is None and data.target is None:
            raise ValueError("which loss? give Learner(loss_func=...), or data with a target")
        self._data, self.loss_func = data, loss_func or data.target.loss
        self.metrics = [metric(entry) if isinstance(entry, str) else entry for entry in metrics]
        for function in self.metrics:
            check_metric(function)
        check.unique("columns of the history", [*COLUMNS, *map(name_of, self.metrics)])
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
        """Train for some epochs at constant rates: lr as in groups.group_rates. wd, the weight
        decay, is the learner's own where it is None. Errors: see training.fit."""
        rates = group_rates(lr, len(self.groups))
        self._fit(epochs, lambda batch: (rates, MOMENTUM), wd)

    def fit_one_cycle(self, epochs: int, max_lr: float | slice, pct_start: float = 0.3,
                      wd: float | None = None) -> None:
        """Train with the one-cycle policy (schedules.one_cycle), each group up to its own rate.

        Rates go from max/25 to max, for a share pct_start of the batches, and down to max/250000,
        momentum .95 to .85 to .95. max_lr as in groups.group_rates; epochs, wd, errors as in fit.
        """
        check.between("pct_start", pct_start, 0, 1)
        peaks, batches = group_rates(max_lr, len(self.groups)), epochs * len(self.data.train_dl)

        def schedule(batch: int) -> tuple[list[float], float]:
            rates = [one_cycle(batch, batches, peak / 25, peak, peak / 25e4, pct_start)
                     for peak in peaks]
            return rates, one_cycle(batch, batches, 0.95, 0.85, 0.95, pct_start)

        self._fit(epochs, schedule, wd)

    def _fit(self, epochs: int, schedule: Schedule, wd: float | None) -> None:
        check.between("epochs", epochs, 1)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.wd if wd is None else wd
        fit(self.model, self.data, self.loss_func, self.optimizer, epochs, schedule, self.metrics,
            self.recorder, self.autocast)

    def validate(self) -> dict[str, float]:
        """valid_loss and the metrics on the validation set; see training.validate."""
        loader = self.data.known_loader("valid_dl")
        return validate(self.model, loader, self.loss_func, self.metrics, self.autocast)

    def score(self, function: Metric) -> Score:
        """A metric function's Score on the validation set: what it has per class is still there."""
        loader = self.data.known_loader("valid_dl")
        totals = scores(self.model, loader, self.loss_func, [function], self.autocast)
        return totals[name_of(function)]

    def get_preds(self, test: bool = False) -> tuple[Tensor, Tensor]:
        """(probabilities, targets) of validation, or of the test set, in the order of their files;
        see predictions.get_preds. Raises ValueError where there is no such set."""
        loader = self.data.known_loader("test_dl" if test else "valid_dl")
        return get_preds(self.model, loader, self.data.known_target(), self.autocast)

    def predict(self, file: Path | str, thresh: float = 0.5) -> tuple[str, Tensor, Tensor]:
        """(caption, decision, probabilities) of a picture file; thresh: see predictions.predict."""
        return predict(self.model, self.data, file, thresh, self.autocast)

    def show_results(self, rows: int = 3, thresh: float = 0.5,
                     void_code: int | None = None) -> Image.Image:
        """Validation pictures with the truth and the answer; rows, thresh and void_code as in
        predictions.show_results."""
        return show_results(self.model, self.data, rows, thresh, void_code, self.autocast)

    def summary(self) -> str:
        """A table with a line per layer group: how many parameters it has, and how many train."""
        lines = ["group    parameters     trainable"]
        for number, group in enumerate(self.groups):
            sizes = [(p.numel(), p.requires_grad) for p in group.parameters()]
            trainable = sum(size for size, trains in sizes if trains)
            lines.append(f"{number:5} {sum(size for size, _ in sizes):13,} {trainable:13,}")
        return "\n".join(lines)

    def save(self, file: Path | str) -> Path:
        """Weights, optimiser, freeze state and classes to a file, whole or not at all."""
        return save_tensors(file, {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "frozen_to": self.frozen_to, "classes": self.data.classes,
            "groups": self.group_sizes()})

    def group_sizes(self) -> list[int]:
        """How many weights, counted as tensors, each layer group has."""
        return [len(list(group.parameters())) for group in self.groups]

    def load(self, file: Path | str, with_opt: bool = True) -> None:
        """Back to what `save` wrote, and say what that was.

        with_opt  False: weights alone; freeze state and optimiser stay as they are

        Raises ValueError, and changes nothing, where the file is unreadable, or its classes, layer
        groups or weights are not those of this learner.
        """
        saved = load_tensors(file)
        for name, mine in (("classes", self.data.classes), ("groups", self.group_sizes())):
            if saved.get(name) != mine:
                raise ValueError(f"{file} has {name} {saved.get(name)}, this learner has {mine}")
        check.same_weights(file, saved["model"], self.model.state_dict())
        self.model.load_state_dict(saved["model"])
        report = "optimiser and freeze state stay as they are"
        if with_opt:
            self.freeze_to(saved["frozen_to"])
            self.optimizer.load_state_dict(saved["optimizer"])
            for parameter, state in self.optimizer.state.items():
                for name, value in state.items():
                    # AdamW's fused kernel wants a moment to lie in memory as its parameter does,
                    # which channels_last changes; torch keeps the layout of the file.
                    if value.shape == parameter.shape:
                        state[name] = torch.empty_like(parameter).copy_(value)
            report = (f"optimiser ({len(saved['optimizer']['state'])} entries), freeze state "
                      f"(groups from {self.frozen_to} on train)")
        print(f"{file}: restored {len(saved['model'])} weights; {report}")
