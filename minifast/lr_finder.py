"""LR range test: train on some batches at ever higher rates, and see what the loss does.

Source: Smith 2015, arXiv 1506.01186; fastai v1, lr_find.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from math import inf, isfinite

import numpy
from PIL import Image
from torch import nn
from torch.optim import Optimizer

from minifast.groups import group_rates
from minifast.learner import MOMENTUM, Learner
from minifast.lr_rule import Suggestion, suggestion
from minifast.recorder import smoothed
from minifast.schedules import exponential
from minifast.tools import check, draw, processes
from minifast.tools.progress import bar
from minifast.tools.seeds import seeded
from minifast.training import (Loss, dropout_key, full_gpu, refuse_single_picture, set_rates,
                               train_batch)


@dataclass
class LRCurve:
    """What the LR range test measured: three numbers per batch.

    rates     the learning rate of the last layer group
    losses    the training loss
    smoothed  its running average (recorder.smoothed)
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    def suggest(self, earlier_lr: float | slice | None = None, div: float = 5) -> Suggestion:
        """What to pass to fit_one_cycle, and why: lr_rule.suggestion.

        earlier_lr, div  after unfreezing: the rate of the training before, and what to divide it by
        """
        return suggestion(self.rates, self.losses, earlier_lr, div)

    def plot(self, skip_start: int = 10, skip_end: int = 5) -> Image.Image:
        """The loss and the smoothed loss over the rate, on a logarithmic axis.

        skip_start, skip_end  how many points to leave out: unsteady or blown up; v1's numbers

        The marks of suggest() stand on the smoothed loss as `name: rate`, where that is shown.
        Losses above all smoothed ones shown are drawn at their height, or all else would be flat.
        """
        shown = slice(skip_start, max(0, len(self.rates) - skip_end))
        rates, losses, smooth = self.rates[shown], self.losses[shown], self.smoothed[shown]
        most = max(filter(isfinite, smooth), default=inf)
        losses = [min(loss, most) for loss in losses]
        marks = {f"{name}: {rate:g}": (rate, float(numpy.interp(rate, rates, smooth)))
                 for name, rate in self.suggest().marks.items()
                 if rates and rates[0] <= rate <= rates[-1]}
        return draw.chart({"loss": (rates, losses), "smoothed": (rates, smooth)},
                          "learning rate", "loss", log="x", marks=marks)


def lr_find(learn: Learner, start_lr: float | slice = 1e-7, end_lr: float | slice = 10,
            num_it: int = 100, stop_div: bool = True, wd: float | None = None) -> LRCurve:
    """Train on num_it batches, batch t at the rate start_lr (end_lr / start_lr)^(t / num_it).

    start_lr, end_lr  numbers or slices, as in groups.group_rates: each layer group goes from its
                      own first rate to its own last one
    stop_div          stop after a batch whose smoothed loss is NaN or above 4 times its lowest yet
    wd                weight decay; None is the learner's

    It goes on from where model and optimiser of `learn` are, in any freeze state, in train mode, at
    momentum 0.9. The batches are those of the next epochs, and dropout is the next epoch's; no
    validation. It leaves no trace, however it ends, in weights, buffers, loss function, optimiser,
    modes, history, random states or on disk: all happens to copies in memory (`copies_of`).

    Raises ValueError where a start_lr is not below its end_lr, num_it is below 1, a training batch
    is a single picture, or the model cannot be copied.
    Source: fastai v1, train.lr_find, callbacks/lr_finder.py.
    """
    starts, ends = (group_rates(lr, len(learn.groups)) for lr in (start_lr, end_lr))
    if any(start >= end for start, end in zip(starts, ends)):
        raise ValueError(f"start_lr must be below end_lr, got {start_lr} and {end_lr}")
    check.between("num_it", num_it, 1)
    loader = learn.data.train_dl
    refuse_single_picture(learn.model, loader)
    model, optimizer, loss_func = copies_of(learn)
    model.train()
    model = processes.parallel(model)
    for group in optimizer.param_groups:
        group["weight_decay"] = learn.wd if wd is None else wd
    curve, best = LRCurve([], [], []), inf
    loader = replace(loader)                                # whose epochs do not count
    batches = islice(chain.from_iterable(repeat(loader)), num_it)
    with full_gpu(loader), seeded(*dropout_key(loader)):
        for t, batch in enumerate(bar(batches, num_it, "lr_find")):
            rates = [exponential(start, end, t / num_it) for start, end in zip(starts, ends)]
            set_rates(optimizer, rates, MOMENTUM)
            loss = train_batch(model, batch, loss_func, optimizer, learn.autocast)
            curve.rates.append(rates[-1])
            curve.losses.append(loss.item())
            curve.smoothed = smoothed(curve.losses)
            best = min(best, curve.smoothed[-1])
            if stop_div and not curve.smoothed[-1] <= 4 * best:                 # NaN is not
                break
    return curve


def copies_of(learn: Learner) -> tuple[nn.Module, Optimizer, Loss]:
    """Model, optimiser and loss function of `learn`, copied together: alone, the copied optimiser
    would train parameters that no model has. Plain functions, and what they refer to, stay the same
    ones. Raises ValueError where copy.deepcopy fails, as for a model that keeps its last output."""
    try:
        return deepcopy((learn.model, learn.optimizer, learn.loss_func))
    except Exception as error:                              # of any layer, for any reason
        raise ValueError(f"lr_find needs a model that copy.deepcopy can copy: {error}") from error
