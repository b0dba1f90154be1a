"""What happened while training: numbers, and pictures of them.

Losses are kept as they come, on the device: turning one into a number makes a GPU's queue run dry.
"""

from math import isfinite, nan

from PIL import Image
import torch
from torch import Tensor

from minifast.tools import draw

SMOOTHING = 0.98
COLUMNS = ("batch", "train_loss", "valid_loss", "seconds")      # of an epoch, besides the metrics


def smoothed(losses: list[float]) -> list[float]:
    """A running average of the losses up to each one, in which recent ones weigh most.

    m_0 = 0;  m_n = 0.98 m_(n-1) + 0.02 loss_n;  the n-th value (from 1) is m_n / (1 - 0.98^n),
    which undoes the pull of the zero at the start. Source: fastai v1, SmoothenValue.
    """
    mean, values = 0.0, []
    for n, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        values.append(mean / (1 - SMOOTHING ** n))
    return values


class Recorder:
    """The history of a learner over all its fits; only fitting writes to it.

    losses, rates, momenta   one per batch: training loss, list of a rate per layer group, momentum
    fits                     for each fit, the number of its first batch
    epochs                   for each finished epoch a dict: batch (how many there were by then),
                             train_loss (smoothed), valid_loss, a value per metric, seconds
    """

    def __init__(self):
        self.losses: list[float] = []
        self.rates: list[list[float]] = []
        self.momenta: list[float] = []
        self.fits: list[int] = []
        self.epochs: list[dict[str, float]] = []
        self.waiting: list[Tensor] = []      # losses of the latest batches, still on the device

    def add_batch(self, loss: Tensor, rates: list[float], momentum: float) -> None:
        """Note a training batch, without waiting for the device: its loss (0-dim), its rates (one
        per layer group) and its momentum."""
        self.waiting.append(loss)
        self.rates.append(rates)
        self.momenta.append(momentum)

    def read_losses(self) -> int | None:
        """Fetch the losses that wait on the device, all at once.

        Returns the number of the first batch among them whose loss is not finite, or None.
        """
        first = len(self.losses)
        if self.waiting:
            self.losses += torch.stack(self.waiting).tolist()
            self.waiting = []
        broken = [i for i in range(first, len(self.losses)) if not isfinite(self.losses[i])]
        return broken[0] if broken else None

    def smoothed_losses(self) -> list[float]:
        """The smoothed loss after each batch; it starts anew with each fit, as in v1."""
        bounds = [*self.fits, len(self.losses)]
        return [value for first, end in zip(bounds, bounds[1:])
                for value in smoothed(self.losses[first:end])]

    def train_loss(self) -> float:
        """The smoothed loss of the latest fit, after its latest loss that was read; else NaN."""
        losses = self.losses[self.fits[-1]:] if self.fits else []
        return (smoothed(losses) or [nan])[-1]

    def plot_losses(self) -> Image.Image:
        """Training loss per batch, raw ("train") and "smoothed", and that on the validation set
        ("valid") at each epoch's `batch`; the axes are "batch" and "loss"."""
        batches = list(range(len(self.losses)))
        series = {"train": (batches, self.losses), "smoothed": (batches, self.smoothed_losses()),
                  "valid": (self.per_epoch("batch"), self.per_epoch("valid_loss"))}
        return draw.chart(series, "batch", "loss")

    def plot_lr(self) -> Image.Image:
        """The "learning rate" of each layer group ("group 0", ...) per "batch", on a logarithmic
        axis; below it the "momentum" (series ""): charts of 640 x 280 pixels with these axes."""
        batches, size = list(range(len(self.rates))), (640, 280)
        groups = {f"group {g}": (batches, rates) for g, rates in enumerate(zip(*self.rates))}
        rates = draw.chart(groups, "batch", "learning rate", "y", size)
        momentum = draw.chart({"": (batches, self.momenta)}, "batch", "momentum", "", size)
        return draw.grid([rates, momentum], ["", ""], columns=1)

    def plot_metrics(self) -> Image.Image:
        """Each "metric" on the validation set by "epoch" (the axes), from 1 over all fits."""
        names = dict.fromkeys(name for row in self.epochs for name in row if name not in COLUMNS)
        numbers = list(range(1, len(self.epochs) + 1))
        series = {name: (numbers, self.per_epoch(name)) for name in names}
        return draw.chart(series, "epoch", "metric")

    def per_epoch(self, name: str) -> list[float]:
        """The entry `name` of each epoch; NaN, which is not drawn, where an epoch has none."""
        return [row.get(name, nan) for row in self.epochs]
