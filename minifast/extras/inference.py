"""Predict on new pictures with a model from a file. No training data is needed.

    learn.export("tiles.pth")                           # after training; later, elsewhere:
    model = load_learner("tiles.pth")
    model.predict("new.jpg")                            # caption, decision, probabilities
    predictions = model.predict_files("folder")         # a row of probabilities for each file
    write_submission("submission.csv", names, predictions, thresh=0.2)
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import csv
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
import warnings

import torch
from torch import Generator, Tensor, nn

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.images import File, open_image
from minifast.learner import EXPORTED
from minifast.listing import picture_files, unique
from minifast.loader import Batch, Loader
from minifast.results import get_preds, predict
from minifast.targets import Categories, Masks, Tags, Target
from minifast.tools import check, processes
from minifast.tools.device import default_device, uses_bfloat16
from minifast.tools.files import load_tensors, refuse_existing, write_atomic
from minifast.tools.progress import bar
from minifast.tools.seeds import seeded
from minifast.unet import UNet
from minifast.vision import ARCHS, cnn, unet


def load_learner(file: Path | str, arch: Callable[[], nn.Module] | None = None,
                 precision: str = "auto") -> "Predictor":
    """The model from a file of learn.export, on the GPU if there is one. precision: see Learner.
    Pass arch for a network outside vision.ARCHS: the constructor that you gave cnn_learner or
    unet_learner, or a function without arguments that makes the model that you gave Learner."""
    saved = load_tensors(file)
    if saved.get("content") != EXPORTED:
        raise ValueError(f"{file} is no exported model; learn.export writes one, and learn.load "
                         "reads the files of learn.save")
    try:
        return Predictor(saved, arch, precision)
    except Exception as error:              # weights that do not fit, or your own constructor's
        raise ValueError(f"the model in {file} cannot be made: {error!r}") from error


@dataclass(frozen=True)
class Predictions:
    """What a model says of several pictures."""

    files: list[Path]
    probabilities: Tensor               # (n, c), or for masks (n, c, h, w): row i is of files[i]
    target: Target


class Predictor:
    """A loaded model. It prepares each picture as validation did: size, method, statistics."""

    def __init__(self, saved: dict, arch: Callable[[], nn.Module] | None, precision: str):
        self.classes, self.size, self.method, self.stats, self.thresh = (
            saved[name] for name in ("classes", "size", "method", "stats", "thresh"))
        self.size = self.size and tuple(self.size)
        self.target: Target = {"Categories": Categories, "Tags": Tags,
                               "Masks": Masks}[saved["target"]](self.classes)
        with seeded(0):
            model = model_of(saved["recipe"], len(self.classes), arch)
        model.load_state_dict(saved["model"])
        self.device = default_device()
        fast = uses_bfloat16(self.device, precision)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=fast)
        self.model = model.to(self.device, memory_format=(torch.channels_last if fast
                                                          else torch.preserve_format))

    def predict(self, file: File) -> tuple[str, Tensor, Tensor]:
        """(caption, decision, probabilities) of one picture, see results.predict. For tags,
        self.thresh decides: it is the exported threshold until you assign another."""
        return predict(self._learner([file]), file, self.thresh)

    def predict_files(self, files: Path | str | Sequence[Path | str], views: int = 1, bs: int = 64,
                      num_workers: int | None = None, skip_broken: bool = False) -> Predictions:
        """Predictions for a folder (all pictures in it and below, sorted), or for a list of files.

        views        see tta; bs and num_workers are as in DataBunch.create
        skip_broken  leave out files that cannot be read, with a warning. If it is False, one
                     ValueError names them all, before the first prediction
        """
        files = picture_files(Path(files)) if isinstance(files, (Path, str)) else files
        files = list(map(Path, files))
        with ThreadPoolExecutor() as pool:
            troubles = list(bar(pool.map(self._trouble_with, files), len(files), "check"))
        broken = list(filter(None, troubles))
        if broken and (not skip_broken or len(broken) == len(files)):
            raise ValueError(f"{len(broken)} of {len(files)} pictures are broken; skip_broken=True "
                             f"leaves them out: {check.some(broken, 99)}")
        if broken:
            warnings.warn(f"{len(broken)} pictures are left out: {check.some(broken, 99)}")
        files = [file for file, trouble in zip(files, troubles) if not trouble]
        learn = self._learner(files, bs, num_workers)
        return Predictions(files, tta(learn, learn.data.test_dl, views)[0], self.target)

    def _trouble_with(self, file: Path) -> str:
        try:
            open_image(file, self.size, self.method)
        except ValueError as error:
            return str(error)
        return ""

    def _learner(self, files: Sequence[File], bs: int = 64,
                 num_workers: int | None = None) -> SimpleNamespace:
        """A stand-in for a Learner that functions of results accept. data.test_dl has the files."""
        dataset = Dataset(files, None, self.target, self.size, self.method)
        data = DataBunch.create(dataset, None, dataset, self.target, None, bs, bs, num_workers,
                                self.device)
        data = data.normalize(self.stats) if self.stats else data
        return SimpleNamespace(model=self.model, data=data, autocast=self.autocast)


def model_of(recipe: dict, classes: int, arch: Callable[[], nn.Module] | None = None) -> nn.Module:
    """A model with new weights, built as the attribute model.recipe of an old one says."""
    if recipe["kind"] == "UNet":
        return UNet(classes, recipe["channels"], recipe["levels"])
    arch = arch or (None if recipe["kind"] == "own" else ARCHS.get(recipe["arch"]))
    if arch is None:
        raise ValueError(f"give load_learner(..., arch=the constructor of {recipe['arch']})")
    if recipe["kind"] == "unet":
        return unet(arch, classes, bottle=recipe["bottle"])
    return cnn(arch, classes) if recipe["kind"] == "cnn" else arch()


def tta(learn: object, loader: Loader, views: int = 2) -> tuple[Tensor, Tensor]:
    """Test-time augmentation: results.get_preds(learn, loader), with probabilities averaged over
    views of each picture. 1 view is the picture, 2 are it and its mirror image. 8 are its turns by
    90 degrees and their mirror images, for pictures without a top, such as satellite tiles."""
    check.one_of("number of views", views, [1, 2, 8])
    total, targets = get_preds(learn, loader)
    for number in range(1, views):
        def view(x: Tensor, y: Tensor, rng: Generator) -> Batch:
            x, y = (x, y) if loader.tfms is None else loader.tfms(x, y, rng)
            return turned(x, number), y

        probabilities, _ = get_preds(learn, replace(loader, tfms=view))
        if isinstance(learn.data.target, Masks):        # undo the view: first swap, then flip
            probabilities = turned(turned(probabilities, number & 4), number & 3)
        total += probabilities
    return total / views, targets


def turned(x: Tensor, number: int) -> Tensor:
    """View 0 to 7 of pictures x (..., h, w). First number & 1 flips columns and number & 2 flips
    rows, then number & 4 swaps rows and columns."""
    x = x.flip(-1) if number & 1 else x
    x = x.flip(-2) if number & 2 else x
    return x.transpose(-1, -2) if number & 4 else x


def write_submission(file: Path | str, names: Sequence[str], predictions: Predictions,
                     thresh: float | Tensor, overwrite: bool = False) -> Path:
    """Write Kaggle's CSV for Planet, and return its path. Each of names, which are names of files
    without suffix, gets a row with the tags whose probability is above thresh. This is a number, or
    a tensor with one per tag."""
    refuse_existing(file, "give another name, or overwrite=True", overwrite)
    if not isinstance(predictions.target, Tags):
        raise ValueError(f"a submission has tags, not {type(predictions.target).__name__}")
    theirs, classes = [each.stem for each in predictions.files], predictions.target.classes
    unique("names of the test pictures", names)
    unique("names of the predicted pictures", theirs)
    differ = sorted(set(names) ^ set(theirs))
    if differ:
        raise ValueError(f"names and predictions differ in {len(differ)}: {check.some(differ)}")
    thresh = torch.as_tensor(thresh).expand(len(classes))       # one for each tag
    check.between("thresh", thresh, 0, 1)
    decisions = predictions.target.decisions(predictions.probabilities, thresh)         # (n, c)
    tags_of = {name: " ".join(tag for tag, yes in zip(classes, row) if yes)
               for name, row in zip(theirs, decisions)}
    text, rows = StringIO(), [(name, tags_of[name]) for name in names]
    csv.writer(text, lineterminator="\n").writerows([("image_name", "tags"), *rows])
    processes.wait_for_all()        # before one writes, all should have found no file there
    return write_atomic(file, text.getvalue().encode())
