"""One model and its training.

    learn = Learner(data, UNet(data.c), metrics="accuracy")
    learn.fit_one_cycle(5, 1e-3)                # five times train_epoch, then validate

There are no callbacks: to have something else happen in training, change it here.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from inspect import signature
from math import isfinite
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from minifast import results
from minifast.databunch import DataBunch
from minifast.groups import freeze_to, group_rates, summary
from minifast.listing import unique
from minifast.metrics import Metric, Metrics, Score, chosen, name_of, score
from minifast.recorder import Recorder
from minifast.schedules import one_cycle
from minifast.tools import check, device, files, processes, progress, seeds

Loss = Callable[[Tensor, Tensor], Tensor]               # (logits, targets) -> 0-dim, a mean
Schedule = Callable[[int], tuple[list[float], float]]   # batch of a fit -> rates, momentum
MOMENTUM = 0.9                                          # Adam's beta1 outside fit_one_cycle
EXPORTED = "a model for minifast.inference"             # what a file of export says of itself


class Learner:
    """A model, and what its training needs: data, loss, metrics, optimizer and history (recorder).

    loss_func  None: the loss that goes with data.target
    metrics    functions or names, see metrics.chosen
    groups     layer groups, first to last; None: the whole model is one
    wd         weight decay
    precision  "auto" or "float32", see device.uses_bfloat16
    """

    def __init__(self, data: DataBunch, model: nn.Module, loss_func: Loss | None = None,
                 metrics: Metrics = (), groups: list[nn.Module] | None = None,
                 wd: float = 1e-2, precision: str = "auto"):
        self.data, self.wd, self.recorder = data, float(wd), Recorder()
        self.kind, self.classes = type(data.target), data.classes
        self.loss_func = data.need("target").loss if loss_func is None else loss_func
        self.metrics = chosen(metrics)
        for metric in self.metrics:
            signature(metric).bind("logits", "targets")     # TypeError: partial should preset more
        unique("columns of the history", ["batch", "train_loss", "valid_loss", "seconds",
                                          *map(name_of, self.metrics)])
        where = data.train_dl.device
        fast = device.uses_bfloat16(where, precision)
        self.autocast = torch.autocast(where.type, torch.bfloat16, enabled=fast)
        layout = torch.channels_last if fast else torch.preserve_format
        self.model = model.to(where, memory_format=layout)
        self.groups = groups or [self.model]
        self.unfreeze()

    def freeze_to(self, n: int) -> None:
        """Train the layer groups from number n on, as groups.freeze_to says, with a new AdamW."""
        freeze_to(self.groups, n)
        self.frozen_to = n % len(self.groups)
        trained = [[p for p in group.parameters() if p.requires_grad] for group in self.groups]
        self.optimizer = torch.optim.AdamW([{"params": part} for part in trained], fused=True,
                                           betas=(MOMENTUM, 0.99), weight_decay=self.wd)

    def freeze(self) -> None:
        """Train the last layer group and BatchNorm only."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        self.freeze_to(0)

    def summary(self) -> str:
        return summary(self.groups)

    def train_batch(self, model: nn.Module, x: Tensor, y: Tensor, rates: list[float],
                    momentum: float) -> Tensor:
        """One step of the optimizer, with a rate for each layer group, and momentum, Adam's beta1.
        Returns the loss before it, 0-dim, detached. model is self.model, or the parallel one."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"], group["betas"] = rate, (momentum, group["betas"][1])
        with self.autocast:
            logits = model(x)
        loss = self.loss_func(logits.float(), y)        # bfloat16 has only 2 or 3 digits
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def train_epoch(self, schedule: Schedule) -> None:
        """Train on each batch of the next epoch, and note it in the recorder. schedule counts the
        batches of this fit from 0. Raises ValueError if a loss is not finite."""
        loader, history, first = self.data.train_dl, self.recorder, len(self.recorder.rates)
        model = processes.parallel(self.model.train())
        try:
            with results.full_gpu(loader), seeds.seeded(loader.seed + processes.RANK, loader.epoch):
                for x, y in progress.bar(loader, len(loader), "train", history.train_loss):
                    rates, momentum = schedule(len(history.rates) - history.fits[-1])
                    loss = self.train_batch(model, x, y, rates, momentum)
                    history.add_batch(loss, rates, momentum)
                    if len(history.rates) % 10 == 0:
                        self._refuse_broken_loss(first)
            self._refuse_broken_loss(first)
        finally:
            if processes.COUNT == 1:            # after an error, the others would wait
                history.read_losses()           # after Ctrl-C: what was learned stays
        processes.share_buffers(self.model)

    def _refuse_broken_loss(self, first: int) -> None:
        """Raise ValueError unless all losses from batch `first` on are finite."""
        history, loader = self.recorder, self.data.train_dl
        history.read_losses()
        for step, loss in enumerate(history.losses[first:], first):
            if not isfinite(loss):
                names = getattr(loader.dataset, "files", range(len(loader.dataset)))
                names = [names[i] for i in loader.item_numbers(loader.epoch - 1)[step - first]]
                raise ValueError(f"loss {loss} at batch {step}, with rates {history.rates[step]}; "
                                 f"load other weights; lower lr, or mend: {check.some(names, 99)}")

    def scores(self, metrics: Sequence[Metric]) -> dict[str, Score]:
        """valid_loss and metrics, by name, on the validation set: exact for any batch size."""
        loader, names = self.data.need("valid_dl"), list(map(name_of, metrics))
        totals = dict.fromkeys(["valid_loss", *names], Score(0, 0))
        with results.full_gpu(loader), results.evaluating(self.model):
            for logits, y in results.outputs(self, loader):
                loss = self.loss_func(logits, y).double()
                totals["valid_loss"] += Score(loss * len(y), len(y))
                for name, metric in zip(names, metrics):
                    totals[name] += score(metric, logits, y)
        return totals

    def score(self, metric: Metric) -> Score:
        """The Score of one metric, such as metrics.mean_iou: it has the values per class."""
        return self.scores([metric])[name_of(metric)]

    def validate(self) -> dict[str, float]:
        """valid_loss and the learner's metrics, by name, on the validation set."""
        return {name: float(total) for name, total in self.scores(self.metrics).items()}

    def check_outputs(self) -> None:
        """Try a copy of the model and the loss on two training pictures. Raises ValueError unless
        they fit the targets and classes of the data. Changes no weights or random numbers."""
        loader, target, came = self.data.train_dl, self.data.target, "nothing"
        with seeds.seeded(0), torch.no_grad():
            x, y = loader.one_batch(loader.item_numbers(0)[0][processes.RANK::processes.COUNT][:2])
            try:
                with results.full_gpu(loader), self.autocast:
                    out = deepcopy(self.model).train()(x)   # some give more in training: a tuple
                came = getattr(out, "shape", type(out).__name__)
                # cross_entropy itself would accept too many classes.
                fits = target is None or out.shape[1] == len(target.classes)
                same = (type(target), self.data.classes) == (self.kind, self.classes)
                if not (same and fits) or self.loss_func(out.float(), y).ndim > 0:
                    raise ValueError("wanted an output for each class, the same classes, one loss")
            except Exception as error:              # a model or loss of your own can raise anything
                raise ValueError(f"the model for {self.kind.__name__} {self.classes} gives {came}; "
                                 f"the data has targets {y.shape} of {target}: {error}") from error

    def fit(self, epochs: int, lr: float | slice, wd: float | None = None) -> None:
        """Train at constant rates. lr is as in groups.group_rates, wd None is the learner's."""
        rates = group_rates(lr, len(self.groups))
        self._fit(epochs, lambda batch: (rates, MOMENTUM), wd)

    def fit_one_cycle(self, epochs: int, max_lr: float | slice, pct_start: float = 0.3,
                      wd: float | None = None, checkpoint: Path | str | None = None,
                      resume: bool = False) -> None:
        """Train with the one-cycle policy. The rate of each layer group rises from a 25th of its
        peak, and falls to 1/250000 of it. Momentum falls from 0.95 to 0.85 and rises again.
        Source: fastai v1, callbacks/one_cycle.py.

        max_lr      the peaks, as in groups.group_rates
        pct_start   share of the batches in which the rates rise
        checkpoint  a file in which everything is saved before the first epoch and after each
        resume      go on from that file, if it is there; on a CPU the end is the same to the bit
        """
        peaks, batches = group_rates(max_lr, len(self.groups)), epochs * len(self.data.train_dl)
        plan = {"epochs": int(epochs), "max_lr": peaks, "pct_start": float(pct_start),
                "wd": float(self.wd if wd is None else wd), "batches": int(batches),
                "data": str([self.data.train_dl.bs, self.data.train_dl.seed,
                             getattr(self.data.train_ds, "size", None)])}

        def schedule(batch: int) -> tuple[list[float], float]:
            rates = [one_cycle(batch, batches, peak / 25, peak, peak / 25e4, pct_start)
                     for peak in peaks]
            return rates, one_cycle(batch, batches, 0.95, 0.85, 0.95, pct_start)

        check.between("pct_start", pct_start, 0, 1)
        done = 0
        if resume and Path(checkpoint).exists():
            saved = files.load_tensors(checkpoint)
            if saved.get("plan") != plan:
                raise ValueError(f"{checkpoint} is of another fit: {saved.get('plan')} there, "
                                 f"{plan} here; go on as it began, or name another file")
            self.load(checkpoint)
            vars(self.recorder).update(saved["history"])
            done, self.data.train_dl.epoch = saved["done"], saved["next_epoch"]
        elif checkpoint is not None:
            files.refuse_existing(checkpoint, "resume=True goes on from it; or name another file")
        self._fit(epochs, schedule, wd, done, checkpoint, plan)

    def _fit(self, epochs: int, schedule: Schedule, wd: float | None, done: int = 0,
             checkpoint: Path | str | None = None, plan: dict | None = None) -> None:
        """Train for all epochs from number `done` on. After each one, validate, save and print."""
        def save(done: int) -> None:
            if checkpoint is not None:
                files.save_tensors(checkpoint, {
                    **self.state(), "history": vars(self.recorder), "plan": plan, "done": done,
                    "next_epoch": self.data.train_dl.epoch})

        check.between("epochs", epochs, 1)
        self.check_outputs()
        save(done)                              # a full disk or a wrong folder shows now
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.wd if wd is None else float(wd)
        history, valid = self.recorder, self.data.valid_dl is not None
        names = ["valid_loss", *map(name_of, self.metrics)] if valid else []
        columns = ["epoch", "train_loss", *names, "time"]
        progress.print_row(columns, columns)
        if done == 0:
            history.fits.append(len(history.rates))
        elif valid and "valid_loss" not in history.epochs[-1]:
            history.epochs[-1].update(self.validate())          # it was cut off there
        for epoch in range(done, epochs):
            started = perf_counter()
            self.train_epoch(schedule)
            row = {"batch": len(history.losses), "train_loss": history.train_loss()}
            history.epochs.append(row)
            try:
                row.update(self.validate() if valid else {})
            finally:                            # a metric that fails does not lose the epoch
                row["seconds"] = perf_counter() - started
                save(epoch + 1)
            progress.print_row([epoch, *(row[name] for name in columns[1:-1]),
                                progress.minutes(row["seconds"])], columns)

    predict, show_results = results.predict, results.show_results       # with self as learn

    def get_preds(self, test: bool = False) -> tuple[Tensor, Tensor]:
        """(probabilities, targets) of the validation or the test set, see results.get_preds."""
        return results.get_preds(self, self.data.need("test_dl" if test else "valid_dl"))

    def state(self) -> dict:
        """What save writes."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "frozen_to": self.frozen_to, "classes": self.classes}

    def save(self, file: Path | str, overwrite: bool = False) -> Path:
        files.refuse_existing(file, "give another name, or overwrite=True", overwrite)
        return files.save_tensors(file, self.state())

    def load(self, file: Path | str, with_opt: bool = True) -> None:
        """Restore what save or a checkpoint wrote, and say so. with_opt=False: only the weights.
        Raises ValueError, and changes no weights, if the file has other classes or weights."""
        saved = files.load_tensors(file)
        groups = len(saved.get("optimizer", {"param_groups": ()})["param_groups"])
        if (saved.get("classes"), groups) != (self.classes, len(self.groups)):
            raise ValueError(f"{file} has classes {saved.get('classes')} and {groups} layer groups "
                             f"with an optimizer, here are {self.classes}, {len(self.groups)}")
        try:
            deepcopy(self.model).load_state_dict(saved["model"])    # a copy: it may fail halfway
        except RuntimeError as error:
            raise ValueError(f"{file} has other weights: {error}") from error
        if with_opt:
            self.freeze_to(saved["frozen_to"])
            self.optimizer.load_state_dict(saved["optimizer"])
            for parameter, values in self.optimizer.state.items():
                for name in ("exp_avg", "exp_avg_sq"):
                    # The fused AdamW is wrong unless they lie in memory as the parameter does.
                    values[name] = torch.empty_like(parameter).copy_(values[name])
        self.model.load_state_dict(saved["model"])
        print(f"{file}: restored {len(saved['model'])} weights {'with' if with_opt else 'without'} "
              f"the optimizer; groups from {self.frozen_to} on train")

    def export(self, file: Path | str, thresh: float | Tensor = 0.5,
               overwrite: bool = False) -> Path:
        """Write what load_learner needs to a file, and return its path. thresh is for tags: which
        probability is high enough; a number, or one for each tag."""
        files.refuse_existing(file, "give another name, or overwrite=True", overwrite)
        thresh = torch.as_tensor(thresh, dtype=torch.float32)
        check.one_of("shape of thresholds", tuple(thresh.shape), [(), (self.data.c,)])
        # The recipe says how to make the model again. Your own is made by calling its class.
        own = {"kind": "own", "arch": type(self.model).__name__}
        size = getattr(self.data.train_ds, "size", None)
        return files.save_tensors(file, {
            "content": EXPORTED, "model": self.model.state_dict(), "thresh": thresh,
            "recipe": getattr(self.model, "recipe", own), "stats": self.data.train_dl.stats,
            "target": type(self.data.target).__name__, "classes": self.classes,
            "div": getattr(self.data.target, "div", False), "size": size and list(map(int, size)),
            "method": getattr(self.data.train_ds, "method", "crop")})
