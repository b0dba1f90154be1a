"""Predict on new pictures, with a model that came from a file: no data, labels or training needed.

    learn.export("tiles.pth")                                 # after training; elsewhere, later:
    model = load_learner("tiles.pth")
    model.predict("new.jpg")                                  # caption, decision, probabilities
    predictions = model.predict_files("folder")               # with their files, in order
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.images import METHODS, File
from minifast.learner import EXPORTED
from minifast.listing import picture_files
from minifast.loader import Stats
from minifast.results import predict
from minifast.targets import Categories, Masks, Tags, Target
from minifast.tools import check
from minifast.tools.device import default_device, uses_bfloat16
from minifast.tools.files import load_tensors
from minifast.tools.seeds import seeded
from minifast.tta import mean_over_views
from minifast.unet import UNet
from minifast.vision import ARCHS, cnn, unet

FIELDS = {"model": dict, "recipe": dict, "target": str, "classes": list, "div": bool,
          "size": list | None, "method": str, "stats": list | None,
          "thresh": Tensor}                             # of an exported file, besides "content"


def load_learner(file: Path | str, arch: Callable[[], nn.Module] | None = None,
                 classes: Sequence[str] | None = None, device: torch.device | None = None,
                 precision: str = "auto") -> "Predictor":
    """The model in a file of learn.export, ready to predict.

    arch       the constructor, without arguments, of the net that the model was made of, where that
               is none of ours; of a model that was given to Learner as it is, of the whole model
    classes    those that you count on, in order; None: whatever the file says
    device     where to predict; None: the GPU where there is one
    precision  "auto" or "float32": device.uses_bfloat16

    Raises ValueError, naming the file, where it is missing, cut short, altered, holds pickled code
    or something else than an exported model, where the classes or their order are others, or the
    net is unknown or of another shape.
    """
    saved = read_exported(file)
    if classes is not None and list(classes) != saved["classes"]:
        raise ValueError(f"{file} answers for the classes {saved['classes']} in this order, wanted "
                         f"{list(classes)}")
    try:
        with seeded(0):
            model = build(saved["recipe"], len(saved["classes"]), arch)
        model.load_state_dict(saved["model"])
    except Exception as error:              # whatever a net of another shape complains of
        raise ValueError(f"the model of {file} cannot be made: {error}") from error
    kinds = {"Categories": Categories, "Tags": Tags}
    target = (Masks(saved["classes"], saved["div"]) if saved["target"] == "Masks"
              else kinds[saved["target"]](saved["classes"]))
    device = device or default_device()
    fast = uses_bfloat16(device, precision)
    layout = torch.channels_last if fast else torch.preserve_format
    return Predictor(model.to(device, memory_format=layout), target,
                     None if saved["size"] is None else tuple(saved["size"]), saved["method"],
                     saved["stats"], saved["thresh"], device,
                     torch.autocast(device.type, torch.bfloat16, enabled=fast))


def build(recipe: dict, classes: int, arch: Callable[[], nn.Module] | None) -> nn.Module:
    """The model that a recipe describes, for so many classes, with new weights.

    recipe  a dict; its "kind" says what else is in it
            UNet       channels, levels              UNet
            cnn        arch                          cnn
            unet       arch, bottle                  unet
            own        arch                          the whole model is what arch() returns
    arch    the constructor; None: for cnn and unet the one in ARCHS that has the recipe's name

    Raises ValueError on another kind, and where there is no such constructor ("own" needs one).
    """
    kind, name = recipe.get("kind"), recipe.get("arch")
    check.one_of("kind of model", kind, ["UNet", "cnn", "unet", "own"])
    if kind == "UNet":
        return UNet(classes, recipe["channels"], recipe["levels"])
    if arch is None and (kind == "own" or name not in ARCHS):
        raise ValueError(f"it is made of {name!r}, which is none of ours; give "
                         "load_learner(file, arch=its constructor)")
    arch = arch or ARCHS[name]
    if kind == "own":
        return arch()
    return cnn(arch, classes) if kind == "cnn" else unet(arch, classes, bottle=recipe["bottle"])


def read_exported(file: Path | str) -> dict:
    """What Learner.export wrote to a file: a dict with FIELDS, of these types.

    Raises ValueError, naming the file, where it cannot be read, is no exported model (one of
    learn.save, for example), or a field is missing, of another type, or none of its choices. Also,
    classes must be strings, size two whole numbers from 1 up, stats two tensors (3) or (1), and
    thresh 0-dim or one for each class.
    """
    saved = load_tensors(file)
    if saved.get("content") != EXPORTED:
        raise ValueError(f"{file} is no exported model, but holds {check.some(saved)}; "
                         "learn.export(FILE) writes one, learn.load reads those of learn.save")
    wrong = [name for name, kind in FIELDS.items()
             if name not in saved or not isinstance(saved[name], kind)]
    if not wrong:
        classes, size, stats = saved["classes"], saved["size"], saved["stats"]
        fits = {"classes": all(isinstance(name, str) for name in classes),
                "size": size is None or len(size) == 2 and all(
                    type(side) is int and side >= 1 for side in size),
                "stats": stats is None or len(stats) == 2 and all(
                    getattr(part, "shape", None) in [(1,), (3,)] for part in stats),
                "thresh": saved["thresh"].shape in [(), (len(classes),)]}
        wrong = [name for name, fine in fits.items() if not fine]
    if wrong:
        raise ValueError(f"{file} has no proper {check.some(wrong)}; export the model again")
    check.one_of(f"kind of target in {file}", saved["target"], ["Categories", "Tags", "Masks"])
    check.one_of(f"method in {file}", saved["method"], METHODS)
    return saved


@dataclass(frozen=True)
class Predictions:
    """What a model says of files: row i of the probabilities belongs to files[i].

    probabilities  (n, c); of masks (n, c, h, w), at the size that the model was trained on
    target         what they are the probabilities of: Categories, Tags or Masks
    """

    files: list[Path]
    probabilities: Tensor
    target: Target

    @property
    def names(self) -> list[str]:
        """The files without folder and suffix, as the CSV of a set of pictures has them."""
        return [file.stem for file in self.files]


@dataclass
class Predictor:
    """A model, and how it wants its pictures: as in training, but for what is drawn at random.

    model, target, device, autocast   as in a Learner
    size, method, stats               as in Dataset and Loader
    thresh                            for tags: above it the answer is yes; a tensor, 0-dim or (c)
    """

    model: nn.Module
    target: Target
    size: tuple[int, int] | None
    method: str
    stats: Stats | None
    thresh: Tensor
    device: torch.device
    autocast: torch.autocast

    def learner_of(self, files: Sequence[Path], bs: int = 64,
                   num_workers: int | None = None) -> SimpleNamespace:
        """What the functions of results want of a Learner: model, autocast, and data whose test_dl
        has these files; bs and num_workers as in DataBunch.create."""
        dataset = Dataset(files, None, self.target, self.size, self.method)
        data = DataBunch.create(dataset, None, dataset, self.target, None, bs, bs, num_workers,
                                self.device)
        data = data if self.stats is None else data.normalize(self.stats)
        return SimpleNamespace(model=self.model, data=data, autocast=self.autocast)

    def predict(self, file: File,
                thresh: float | Tensor | None = None) -> tuple[str, Tensor, Tensor]:
        """(caption, decision, probabilities) of a picture, as Learner.predict has them; a mask has
        the size of the picture. thresh None: the one that was exported."""
        thresh = self.thresh if thresh is None else thresh
        return predict(self.learner_of([file]), file, thresh)

    def predict_files(self, files: Path | str | Sequence[Path | str], views: int = 1, bs: int = 64,
                      num_workers: int | None = None) -> Predictions:
        """Predictions of many pictures, in order, whatever the number of workers.

        files  a folder (all pictures in it and below, sorted), one file, or a list of files
        views  1: each picture as it is; 2: and its mirror image; 8: all turns (tta.mean_over_views)
        bs, num_workers  see DataBunch.create

        Raises ValueError, naming the file, where one cannot be read; where there are none; on
        another number of views; where pictures differ in size, in a batch or for masks, and the
        model has none.
        """
        check.one_of("number of views", views, [1, 2, 8])
        files = files_in(files)
        learn = self.learner_of(files, bs, num_workers)
        likely, _ = mean_over_views(learn, learn.data.test_dl, views)
        return Predictions(files, likely, self.target)


def files_in(where: Path | str | Sequence[Path | str]) -> list[Path]:
    """The files of a list, in its order; one file as a list; or the pictures of a folder, sorted.

    Raises ValueError where there are none, or one does not exist.
    """
    if isinstance(where, (str, Path)):
        where = picture_files(Path(where)) if Path(where).is_dir() else [where]
    files = [Path(file) for file in where]
    for file in files:
        check.exists("picture", file, "check the folder and the name")
    if not files:
        raise ValueError("no pictures to predict: the list of files is empty")
    return files
