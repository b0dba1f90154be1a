"""How long things take, measured in turns: so that all of them see the same moods of a machine."""

from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
import os
from statistics import median
from time import perf_counter, process_time

from PIL import Image, ImageDraw
import torch
from torch import Tensor

from minifast.learner import Learner
from minifast.loader import Batch
from minifast.tools.draw import COLOURS, FONT, INK, LINE_HEIGHT, MARGIN


@dataclass(frozen=True)
class Figure:
    """What several rounds of one piece of work took.

    seconds, cpu   for one picture, of each round: on the clock; and of processor time, of this
                   process and of its children that have ended
    """

    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Pictures a second, the median of the rounds."""
        return 1 / median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The slowest and the quickest round, in pictures a second."""
        return 1 / max(self.seconds), 1 / min(self.seconds)


def race(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, Figure]:
    """Do each of the works, by name, once per round, after one more round that does not count.

    A work returns how many pictures it was done on. What it left to a GPU is waited for.
    """
    notes = {name: [] for name in works}
    for _ in range(1 + rounds):
        for name, work in works.items():
            begun, busy = perf_counter(), processor_seconds()
            pictures = work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            notes[name].append(((perf_counter() - begun) / pictures,
                                (processor_seconds() - busy) / pictures))
    return {name: Figure(*zip(*taken[1:])) for name, taken in notes.items()}


def difference(whole: Figure, part: Figure) -> Figure:
    """What a work takes without a part of it, measured in the same rounds; never below 0."""
    return Figure(*(tuple(max(1e-9, all_of_it - some) for all_of_it, some in zip(*pair))
                    for pair in ((whole.seconds, part.seconds), (whole.cpu, part.cpu))))


def processor_seconds() -> float:
    """Of all cores, for this process and for those of its children that have ended."""
    times = os.times()                                  # in hundredths, which is coarse for our own
    return process_time() + times.children_user + times.children_system


def ratio(figure: Figure, parts: Iterable[Figure], what: str = "seconds") -> float:
    """How much longer a work took than its parts alone, summed: the median over the rounds, each of
    which is compared with itself. what: "seconds", or "cpu" for processor time."""
    return median(whole / sum(pieces) for whole, *pieces in
                  zip(getattr(figure, what), *(getattr(part, what) for part in parts)))


class Training:
    """A new learner, and the pieces of its training."""

    def __init__(self, learn: Learner):
        self.learn, self.model, self.optimizer = learn, learn.model.train(), learn.optimizer

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch (x, y)."""
        with self.learn.autocast:
            logits = self.model(batch[0])
        return self.learn.loss_func(logits.float(), batch[1])

    def backward(self, batch: Batch) -> None:
        """Forward, and then backward: gradients of a batch (x, y)."""
        self.optimizer.zero_grad()
        self.forward(batch).backward()

    def bare(self, batches: Iterable[Batch]) -> int:
        """A training loop with nothing around it. Returns how many pictures there were."""
        done = 0
        for batch in batches:
            self.backward(batch)
            self.optimizer.step()
            done += len(batch[0])
        return done

    def epoch(self) -> int:
        """The same by Learner.fit, with all that it does around it."""
        with redirect_stdout(StringIO()):               # its table
            self.learn.fit(1, 1e-3)
        return sum(map(len, self.learn.data.train_dl.item_numbers(0)))


def bars(figures: dict[str, Figure], width: int = 760) -> Image.Image:
    """A picture with a bar for each figure, by name: the longer, the longer a picture takes. Behind
    it stands how many a second that makes."""
    height, left = LINE_HEIGHT + MARGIN, 12 + int(max(map(FONT.getlength, figures)))
    picture = Image.new("RGB", (width, MARGIN + height * len(figures)), "white")
    pen, longest = ImageDraw.Draw(picture), width - left - 140
    slowest = min(figure.rate for figure in figures.values())
    for i, (name, figure) in enumerate(figures.items()):
        top, length = MARGIN + i * height, longest * slowest / figure.rate
        pen.text((MARGIN / 2, top), name, INK, FONT)
        pen.rectangle((left, top, left + length, top + LINE_HEIGHT), COLOURS[0])
        pen.text((left + length + MARGIN / 2, top), f"{figure.rate:,.0f} a second", INK, FONT)
    return picture
