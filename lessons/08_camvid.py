"""CamVid: a class for every pixel, from pictures with masks to a U-Net.

The second walkthrough of lesson 3. Without arguments it draws its own streets, and trains a small
U-Net from scratch, in less than three minutes on two cores. With --data DIR it runs on CamVid with
the notebook's settings, for which you want a GPU. Read first: minifast/unet.py.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from minifast.datablock import SegmentationList
from minifast.databunch import DataBunch
from minifast.extras.interpret import class_table, confusion_picture, constant_class, worst
from minifast.images import image_size, open_mask
from minifast.learner import Learner
from minifast.listing import picture_files, read_lines
from minifast.loader import imagenet_stats
from minifast.metrics import confusion, foreground_accuracy, mean_iou, name_of
from minifast.targets import pixel_loss
from minifast.tools import check, processes
from minifast.tools.seeds import seeded
from minifast.transforms import get_transforms
from minifast.unet import UNet
from minifast.vision import ARCHS, unet_learner
from kit.page import show, start_page
from kit.results import check_first, find_rate, print_table, train_stage, with_masks, write_results
from kit.runs import checkpoints, first_goes_ahead, start_run
from kit.sample_data import camvid
from kit.settings import read_settings


# %% Settings: the notebook's own, and what is different from scratch, or with --quick
@dataclass
class Settings:
    data: str = ""               # folder of CamVid; without it the lesson draws its own streets
    arch: Literal["resnet18", "resnet34", "resnet50", "small"] = "resnet34"  # body, or plain
    weights: str = "imagenet"    # where the body comes from: imagenet, none, or a file
    size: tuple[int, ...] = (0, 0)  # full size, rows and columns; 0 0: that of the first picture
    bs: tuple[int, ...] = (8, 3)    # pictures a batch, at half size and at full size
    epochs: tuple[int, ...] = (10, 12, 10, 10)  # of the four stages
    lr: tuple[float, ...] | Literal["auto"] = (3e-3, 1e-3)  # at half and at full size; or auto
    lr_low: tuple[float, ...] = (400., 1000.)   # unfrozen: first group's rate, lr divided by this
    lr_div: tuple[float, ...] = (4., 10.)       # unfrozen: last group's rate, lr divided by this
    lr_its: int = 100            # batches of each LR range test; below 40 it has no answer
    pct_start: tuple[float, ...] = (0.9, 0.8, 0.8, 0.3)  # share of a stage in which rates rise
    wd: float = 1e-2             # weight decay
    bottle: bool = False         # fewer channels in the last block, as the notebook for 12 classes
    void: str = "Void"           # the class of pixels that have no label: not counted; or ""
    ignore_void: bool = False    # whether the loss leaves them out, too
    cache: bool = True           # keep decoded pictures and masks in memory, where there is enough
    precision: Literal["auto", "float32"] = "auto"  # auto: bfloat16 where that is native
    seed: int = 42               # of first weights, order and transforms
    streets: int = 250           # how many to draw, where the lesson draws its own
    out: str = "runs/camvid"     # where pictures and results go
    resume: bool = False         # go on with the run that was cut off there
    skip_check: bool = False     # do not look at all files first
    quick: bool = False          # all of it in seconds, on few streets: only to see that it runs


def presets(given: Settings) -> dict:
    # From scratch nothing is frozen: stages 1 and 3 are left out, and the others learn more.
    scratch = dict(weights="none", bs=(8, 8), epochs=(8, 8, 14, 14), lr=(1e-3, 1e-3),
                   pct_start=(0.3,) * 4, ignore_void=True)
    if given.arch == "small" or not given.data:     # quicker, and BatchNorm allows higher rates
        scratch |= dict(epochs=(12, 12, 20, 20), lr=(3e-3, 3e-3))
    own = dict(arch="small", size=(144, 192), epochs=(8, 8, 6, 6), lr_its=75)
    quick = dict(streets=20, size=(48, 64), epochs=(1, 1, 1, 1), lr_its=50)
    if given.data and given.arch != "small" and given.weights != "none":
        scratch = {}
    return scratch | ({} if given.data else own) | (quick if given.quick else {})


s = read_settings(Settings, __doc__, presets)
processes.join()                # where torchrun started several: see minifast/tools/processes.py
out = start_page(s.out)
start_run(out, s)

# %% The data: pictures, and for each a mask of the same size, whose pixels are class numbers
with first_goes_ahead():
    path = Path(s.data or camvid(out / f"streets-{s.streets}-{s.size[0]}", s.streets, s.size[0]))
suffix = picture_files(path / "labels")[0].suffix


def get_y_fn(file: Path) -> Path:
    return path / "labels" / f"{file.stem}_P{suffix}"


codes = read_lines(path / "codes.txt")
print(len(codes), "classes:", *codes)
first = picture_files(path / "images")[0]
mask = open_mask(get_y_fn(first))
print(first.name, get_y_fn(first).name, tuple(mask.shape), mask, sep="\n")
show(with_masks(first, codes, mask=mask), out / "mask.png")

# %% Which files, which for validation? A list says so: in a film, neighbours are nearly the same
src = (SegmentationList.from_folder(path / "images")
       .split_by_fname_file("../valid.txt")
       .label_from_func(get_y_fn, classes=codes))
print(f"{len(src.train)} pictures for training, {len(src.valid)} for validation")
full = s.size if any(s.size) else image_size(first)


# %% Ready batches. Masks move with their pictures; their pixels are never blended, only chosen
def loaders(size: tuple[int, int], bs: int) -> DataBunch:
    return (src.transform(get_transforms(), size=size)
            .databunch(bs=bs, seed=s.seed, cache=s.cache)
            .normalize(imagenet_stats))


data = loaders((full[0] // 2, full[1] // 2), s.bs[0])

# %% Look at all of it before training: what would stop that in an hour is known in a minute
check_first(data, s.skip_check)
show(data.show_batch(rows=2), out / "batch.png")
show(data.show_batch(rows=2, train=False), out / "batch-valid.png")

# %% Metrics: the notebook's accuracy of labelled pixels; mean IoU, intersection over union by class
check.one_of("class", s.void, [*codes, ""])
void = codes.index(s.void) if s.void else None
acc_camvid = partial(foreground_accuracy, void_code=void)
iou = partial(mean_iou, void_code=void)

# %% Before any training: what does always answering the most common class score?
counts = sum(mask.flatten().bincount(minlength=len(codes)) for _, mask in loaders(full, 1).valid_ds)
if void is not None:
    counts[void] = 0
common, share, mean = constant_class(counts)
baselines = {f"always {codes[common]}": {name_of(acc_camvid): share, name_of(iou): mean}}
print(f"always {codes[common]}: accuracy {share:.3f}")


# %% The learner: a U-Net, either the small plain one, or one whose way down is a trained body
def new_learner(data: DataBunch) -> Learner:
    loss = partial(pixel_loss, ignore=void if s.ignore_void else None)
    if s.arch == "small":
        with seeded(s.seed):
            model = UNet(len(codes))
        return Learner(data, model, loss, [acc_camvid, iou], wd=s.wd, precision=s.precision)
    weights = {"imagenet": True, "none": False}.get(s.weights, s.weights)
    return unet_learner(data, ARCHS[s.arch], [acc_camvid, iou], weights, s.bottle, s.wd, loss,
                        s.precision, s.seed)


def train(number: int, name: str, chosen: float | slice,
          earlier_lr: float | slice | None = None) -> float | slice:
    lr = find_rate(learn, out / f"lr-{number}.png", chosen, s.lr == "auto", earlier_lr,
                   s.lr_div[number > 2], s.lr_its)
    stages.append(train_stage(learn, out, number, name, s.epochs[number - 1], lr,
                              s.pct_start[number - 1]))
    show(learn.show_results(rows=3), out / f"results-{number}.png")
    return lr


learn, stages = new_learner(data), []
half_lr, full_lr = presets(s).get("lr", Settings.lr) if s.lr == "auto" else s.lr
scratch = learn.frozen_to == 0

# %% Stage 1, half size: train what is new, on a frozen body. Left out where all of it is new
lr = None if scratch else train(1, "half, frozen", slice(half_lr))

# %% Stage 2: train all of it; first layers slowly if they know edges and colours already
learn.unfreeze()
slow, fast = half_lr / s.lr_low[0], half_lr / s.lr_div[0]
train(2, "half" if scratch else "half, unfrozen", half_lr if scratch else slice(slow, fast), lr)
show(learn.recorder.plot_losses(), out / "losses-half.png")
show(learn.recorder.plot_lr(), out / "rates-half.png")

# %% Go big: a new learner for the full size takes the weights over. A trained body is frozen again
learn = new_learner(loaders(full, s.bs[1]))
learn.load(checkpoints(out) / "stage-2.pth", with_opt=False)
lr = None if scratch else train(3, "full, frozen", slice(full_lr))

# %% Stage 4: and all of it again
learn.unfreeze()
slow, fast = full_lr / s.lr_low[1], full_lr / s.lr_div[1]
train(4, "full" if scratch else "full, unfrozen", full_lr if scratch else slice(slow, fast), lr)
show(learn.recorder.plot_losses(), out / "losses-full.png")

# %% Where is it wrong? On validation, class by class, and which class is taken for which
taken = learn.score(partial(confusion, void_code=void))
print(class_table(taken, codes))
show(confusion_picture(taken.values, codes), out / "confusion.png")

# %% And the pictures that it knows least of
show(learn.show_results(rows=3, items=worst(learn, acc_camvid, 3)),
     out / "worst.png")

# %% One picture, and its mask at the size that the file has
file = src.files[src.valid[0]]
caption, mask, probabilities = learn.predict(file)
print(file.name, tuple(mask.shape), caption)
show(with_masks(file, codes, truth=open_mask(get_y_fn(file)), prediction=mask),
     out / "predicted.png")

# %% What happened, in a table; and a file that predicts elsewhere: lessons/predict.py, load_learner
print(learn.export(out / "model.pth", overwrite=True))
print_table(stages, baselines)
write_results(out / "results.json", "camvid", s, baselines, stages, data.train_dl.device)
