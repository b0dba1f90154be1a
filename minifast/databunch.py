"""The loaders of one task, held together: training, validation and, if there is one, a test set."""

from dataclasses import replace
from pathlib import Path

from PIL import Image
import torch
from torch import Tensor

from minifast.images import to_pil
from minifast.loader import Batch, Loader, Stats, Transforms, denormalize
from minifast.targets import Masks, Target
from minifast.tools import draw, processes, progress
from minifast.tools.device import cores, default_device


class DataBunch:
    """Loaders and the kind of target, with the names of the classes in the order of the model's
    outputs. It is no Dataset and no DataLoader: it holds Loaders, and they hold the data sets."""

    def __init__(self, train_dl: Loader, valid_dl: Loader | None = None,
                 test_dl: Loader | None = None, target: Target | None = None):
        self.train_dl, self.valid_dl, self.test_dl = train_dl, valid_dl, test_dl
        self.train_ds, self.valid_ds = train_dl.dataset, getattr(valid_dl, "dataset", None)
        self.target, self.classes = target, list(map(str, target.classes)) if target else None

    @classmethod
    def create(cls, train_ds: object, valid_ds: object | None, test_ds: object | None = None,
               target: Target | None = None, tfms: Transforms = None, bs: int = 64,
               val_bs: int | None = None, num_workers: int | None = None,
               device: torch.device | None = None, seed: int = 42,
               cache: bool = False) -> "DataBunch":
        """Loaders for data sets with items (picture, target). valid_ds may be empty or None.

        tfms         for training; or a pair, the second one for validation and test
        bs, val_bs   pictures in a batch; val_bs None: as bs
        num_workers  None: none on the CPU, where the model needs all cores; else up to 8
        cache        keep the items of training and validation in memory, see preload
        """
        device = device or default_device()
        if num_workers is None:
            num_workers = 0 if device.type == "cpu" else max(1, min(8, cores() // processes.COUNT))
        how = seed, num_workers, device
        train_tfms, valid_tfms = tfms if isinstance(tfms, (tuple, list)) else (tfms, None)
        train_dl = Loader(train_ds, bs, True, *how, train_tfms)
        valid_dl, test_dl = (Loader(dataset, val_bs or bs, False, *how, valid_tfms) if dataset
                             else None for dataset in (valid_ds, test_ds))
        for loader in (train_dl, valid_dl):
            if cache and loader is not None:
                preload(loader)
        return cls(train_dl, valid_dl, test_dl, target or getattr(train_ds, "target", None))

    @property
    def c(self) -> int:
        """The number of classes."""
        return len(self.need("target").classes)

    def normalize(self, stats: Stats) -> "DataBunch":
        """The same data, normalized with stats: mean and std of each channel."""
        if self.train_dl.stats is not None:
            raise ValueError("this data is normalized already; twice would spoil the pictures")
        loaders = (None if loader is None else replace(loader, stats=stats)
                   for loader in (self.train_dl, self.valid_dl, self.test_dl))
        return DataBunch(*loaders, self.target)

    def one_batch(self, train: bool = True) -> Batch:
        """The next batch (x, y) of training or of validation. Looking at it changes nothing."""
        return self.need("train_dl" if train else "valid_dl").one_batch()

    def need(self, name: str) -> Loader | Target:
        """The loader or the target with this name. Raises ValueError if there is none."""
        if getattr(self, name) is None:
            raise ValueError(f"no {name}; first split, call add_test_folder or give a target")
        return getattr(self, name)

    def show_batch(self, rows: int = 3, train: bool = True) -> Image.Image:
        """rows x rows pictures of one_batch(train), as the model gets them, with their labels or,
        laid over them, their masks, and a legend."""
        x, y = (part[:rows ** 2].cpu() for part in self.one_batch(train))
        pictures = self.pictures(x)
        if not isinstance(self.target, Masks):
            captions = [self.target.caption(target) if self.target else "" for target in y]
            return draw.grid(pictures, captions, rows)
        pictures = [draw.overlay(picture, mask) for picture, mask in zip(pictures, y)]
        return draw.with_legend(draw.grid(pictures, [""] * len(y), rows), self.target.names_in(y))

    def pictures(self, x: Tensor) -> list[Image.Image]:
        """The pictures of a batch x (n, 3, h, w), with normalize undone."""
        stats = self.train_dl.stats
        return [to_pil(pixels) for pixels in (denormalize(x, stats) if stats else x)]


def preload(loader: Loader) -> None:
    """Read all items once and keep them in memory, on the GPU if they take at most a quarter of its
    free memory. If they take more than half of the free main memory, keep none and say so."""
    n, target = len(loader.dataset), getattr(loader.dataset, "target", None)
    x, y = next(loader.read([[0]], num_workers=0))
    y = y.byte() if isinstance(target, Masks) and len(target.classes) <= 256 else y
    size, free = n * (x.nbytes + y.nbytes), _free_memory() / processes.COUNT
    if size > free / 2:
        print(f"cache=True has no effect: {n:,} items take {size / 1e9:.2f} GB, and "
              f"{free / 1e9:.2f} GB are free. Give cache=False, or a smaller size")
        return
    xs, ys = (part.new_empty(n, *part.shape[1:]) for part in (x, y))
    parts = [slice(start, start + 16) for start in range(0, n, 16)]
    read = loader.read([range(n)[part] for part in parts], max(1, cores() // processes.COUNT))
    for part, (x, y) in zip(parts, progress.bar(read, len(parts), "decode")):
        xs[part], ys[part] = x, y
    if loader.device.type == "cuda" and size <= torch.cuda.mem_get_info(loader.device)[0] / 4:
        xs, ys = xs.to(loader.device), ys.to(loader.device)
    loader.memory = xs, ys


def _free_memory() -> float:
    """Bytes of main memory that can be taken. Only Linux tells; elsewhere there is no limit."""
    meminfo = Path("/proc/meminfo")
    words = meminfo.read_text().split() if meminfo.exists() else []
    return 1024 * float(words[words.index("MemAvailable:") + 1] if words else "inf")
