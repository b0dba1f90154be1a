"""How long things take, measured in turns: a slow moment of the machine hits them all."""

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from PIL import Image, ImageDraw
import torch

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.learner import Learner
from minifast.listing import picture_files
from minifast.loader import imagenet_stats
from minifast.targets import Categories, Tags
from minifast.tools.device import cores
from minifast.tools.draw import COLOURS, FONT, INK, LINE_HEIGHT, MARGIN
from minifast.transforms import get_transforms
from minifast.vision import ARCHS


@dataclass(frozen=True)
class Figure:
    """Seconds for one picture, in each round: on the clock, and of the processor's time."""

    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Pictures a second, the median of the rounds."""
        return 1 / median(self.seconds)


def race(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, Figure]:
    """Do each work once per round, after a first round that does not count, and print how fast.
    A work is a function that returns the number of its pictures."""
    notes = {name: [] for name in works}
    for _ in range(1 + rounds):
        for name, work in works.items():
            began, busy = perf_counter(), processor_seconds()
            pictures = work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()                # wait for what the GPU still has to do
            notes[name].append(((perf_counter() - began) / pictures,
                                (processor_seconds() - busy) / pictures))
    figures = {name: Figure(*zip(*each[1:])) for name, each in notes.items()}
    for name, figure in figures.items():
        print(f"{name:24}{figure.rate:8,.0f} pictures a second")
    return figures


def processor_seconds() -> float:
    """Of all cores, for this process and for those of its children that have ended."""
    times = os.times()                                  # too coarse for our own process
    return process_time() + times.children_user + times.children_system


def ratio(figures: dict[str, Figure], whole: str, *parts: str, what: str = "seconds") -> float:
    """How many times as long as its parts together a work took, the median of the rounds."""
    rounds = zip(*(getattr(figures[name], what) for name in (whole, *parts)))
    return median(time / sum(times) for time, *times in rounds)


def tiles_of(folder: Path, size: int, bs: int, num_workers: int = 0,
             cache: bool = False) -> DataBunch:
    """Training batches of the pictures in a folder, with Planet's transforms and made-up tags."""
    files, target = picture_files(folder), Tags(["one tag", "another tag"])
    dataset = Dataset(files, [["one tag"]] * len(files), target, (size, size))
    tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)
    data = DataBunch.create(dataset, None, target=target, tfms=tfms, bs=bs,
                            num_workers=num_workers, cache=cache)
    return data.normalize(imagenet_stats)


def batches_of(data: DataBunch, epochs: int = 10) -> int:
    """Make the training batches of some epochs. Returns the number of pictures, as all below do."""
    return sum(len(x) for epoch in range(epochs) for x, y in data.train_dl)


def bare_loop(learn: Learner) -> int:
    """Train for an epoch, with nothing around it."""
    pictures, model = 0, learn.model.train()
    for x, y in learn.data.train_dl:
        with learn.autocast:
            logits = model(x)
        loss = learn.loss_func(logits.float(), y)
        learn.optimizer.zero_grad()
        loss.backward()
        learn.optimizer.step()
        pictures += len(x)
    return pictures


def our_loop(learn: Learner) -> int:
    """Train for an epoch with Learner."""
    learn.fit(1, 1e-3)
    return sum(map(len, learn.data.train_dl.item_numbers(0)))


def training_step(rounds: int) -> float:
    """The unit of time in RESULTS.md: seconds for one forward, backward and optimizer step of a
    resnet34 on 32 pictures of 128 pixels."""
    target = Categories([f"class {i}" for i in range(1000)])
    items = [(torch.rand(3, 128, 128), torch.tensor(0))] * 32
    data = DataBunch.create(items, None, target=target, bs=32, num_workers=0)
    learn = Learner(data, ARCHS["resnet34"]())
    figures = race({"training step": lambda: bare_loop(learn)}, rounds)
    return 32 / figures["training step"].rate


def device_name(device: torch.device) -> str:
    """The GPU's name, or `cpu, 3 cores`."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {cores()} cores"


def bars(figures: dict[str, Figure], width: int = 760) -> Image.Image:
    """A bar for each figure: the longer, the longer a picture takes."""
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
