"""The history of training, as numbers and as pictures."""

from math import nan

from PIL import Image
import torch
from torch import Tensor

from minifast.tools import draw, processes


def smoothed(losses: list[float]) -> list[float]:
    """A running average after each loss: it keeps 98 % of itself and takes 2 % of the loss. To make
    up for its start at 0, the n-th value is divided by 1 - 0.98^n. Source: fastai v1."""
    mean, values = 0.0, []
    for n, loss in enumerate(losses, start=1):
        mean = 0.98 * mean + (1 - 0.98) * loss
        values.append(mean / (1 - 0.98 ** n))
    return values


class Recorder:
    """The history of a learner over all its fits. Only fitting writes to it."""

    def __init__(self):
        self.losses: list[float] = []           # of each training batch
        self.rates: list[list[float]] = []      # of each batch, one per layer group
        self.momenta: list[float] = []          # of each batch
        self.fits: list[int] = []               # the number of the first batch of each fit
        self.epochs: list[dict] = []            # of each: batch, losses, metrics by name, seconds
        self.waiting: list[Tensor] = []         # losses of the latest batches, on the device

    def add_batch(self, loss: Tensor, rates: list[float], momentum: float) -> None:
        """Note a batch: its loss (0-dim), a rate per layer group, the momentum. The loss stays on
        the device until read_losses: to read each one at once would slow a GPU down."""
        self.waiting.append(loss)
        self.rates.append(rates)
        self.momenta.append(momentum)

    def read_losses(self) -> None:
        """Move the losses that wait on the device to `losses`, as floats."""
        if self.waiting:
            self.losses += processes.mean(torch.stack(self.waiting)).tolist()
            self.waiting = []

    def train_loss(self) -> float:
        """The latest smoothed loss of the latest fit; NaN before its first batch was read."""
        losses = self.losses[self.fits[-1]:] if self.fits else []
        return (smoothed(losses) or [nan])[-1]

    def smoothed_losses(self) -> list[float]:
        """The smoothed loss after each batch. It starts anew with each fit, as in v1."""
        bounds = [*self.fits, len(self.losses)]
        return [value for first, end in zip(bounds, bounds[1:])
                for value in smoothed(self.losses[first:end])]

    def plot_losses(self) -> Image.Image:
        """The training loss of each batch, the smoothed one, and each epoch's valid_loss."""
        numbers, ends = range(len(self.losses)), [row["batch"] for row in self.epochs]
        valid = [row.get("valid_loss", nan) for row in self.epochs]
        return draw.chart({"train": (numbers, self.losses),
                           "smoothed": (numbers, self.smoothed_losses()),
                           "valid": (ends, valid)}, "batch", "loss")

    def plot_lr(self) -> Image.Image:
        """The learning rate of each layer group, and below it the momentum, for each batch."""
        numbers, size = range(len(self.rates)), (640, 280)
        groups = {f"group {g}": (numbers, rates) for g, rates in enumerate(zip(*self.rates))}
        rates = draw.chart(groups, "batch", "learning rate", "y", size)
        momentum = draw.chart({"": (numbers, self.momenta)}, "batch", "momentum", "", size)
        return draw.grid([rates, momentum], ["", ""], columns=1)
