"""CamVid: a class for every pixel of a street scene, with a U-Net.

The second walkthrough of lesson 3, cell by cell, with the notebook's calls. Without arguments it
draws its own streets, trains a small U-Net from scratch, and takes two minutes on two cores. With
--data DIR it takes CamVid and the notebook's settings, for a GPU. Read first: lessons 05 and 07.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from minifast.datablock import SegmentationList
from minifast.databunch import DataBunch
from minifast.extras.doctor import check_data
from minifast.extras.interpret import class_table, confusion_picture, worst
from minifast.images import image_size, open_mask
from minifast.learner import Learner
from minifast.listing import picture_files, read_lines
from minifast.loader import imagenet_stats
from minifast.lr_finder import lr_find
from minifast.metrics import confusion, foreground_accuracy, mean_iou
from minifast.targets import pixel_loss
from minifast.tools import processes
from minifast.tools.seeds import seeded
from minifast.transforms import get_transforms
from minifast.unet import UNet
from minifast.vision import ARCHS, unet_learner
from kit.page import show, start_page
from kit.sample_data import camvid
from kit.settings import read_settings
from kit.stages import Run, always_most_common, first_goes_ahead, with_masks


# %% Settings: the notebook's. Without --data, and with --quick, others hold
@dataclass
class Settings:
    data: str = ""                      # folder of CamVid; if empty, the lesson draws its own
    arch: str = "resnet34"              # of the body: resnet18, 34 or 50; or small, a plain U-Net
    weights: str = "imagenet"           # of the body: imagenet, none, or a file
    size: tuple[int, ...] = (0, 0)      # full size, rows and columns; 0 0: the first file's
    bs: tuple[int, ...] = (8, 3)        # pictures in a batch, at half size and at full size
    epochs: tuple[int, ...] = (10, 12, 10, 10)      # of the four stages
    lr: tuple[float, ...] = (3e-3, 1e-3)    # half and full size, if lr_find does not say
    precision: str = "auto"             # auto, or float32
    seed: int = 42                      # of first weights, order and transforms
    out: str = "runs/camvid"            # where the page, pictures and results go
    resume: bool = False                # go on with a run that was cut off
    quick: bool = False                 # in seconds, on few streets: only to see that it runs


s = read_settings(Settings, __doc__, lambda given: (
    {} if given.data else dict(arch="small", size=(144, 192), bs=(8, 8), epochs=(9, 5, 5, 4))
    ) | (dict(epochs=(1, 1, 1, 1)) if given.quick else {}))
processes.join()                        # with the other processes, if torchrun started several
out, run = start_page(s.out), Run("camvid", s)
n, num_it = (20, 25) if s.quick else (200, 100 if s.data else 60)       # num_it: of the LR tests

# %% The data: pictures, and for each a mask of the same size, whose pixels are class numbers
with first_goes_ahead():
    path = Path(s.data) if s.data else camvid(out / f"streets-{n}", n, s.size[0])
suffix = picture_files(path / "labels")[0].suffix


def get_y_fn(file: Path) -> Path:
    return path / "labels" / f"{file.stem}_P{suffix}"


codes = read_lines(path / "codes.txt")
first = picture_files(path / "images")[0]
mask = open_mask(get_y_fn(first))                                               # (h, w)
print(len(codes), "classes:", *codes, "\n", first.name, tuple(mask.shape), mask)
show(with_masks(first, codes, mask=mask), out / "mask.png")

# %% Which files, and which for validation? A list says so: in a film, neighbours are alike
src = (SegmentationList.from_folder(path / "images")
       .split_by_fname_file("../valid.txt")
       .label_from_func(get_y_fn, classes=codes))
src_size = s.size if any(s.size) else image_size(first)


# %% Batches. Masks move with their pictures, and their numbers are never averaged
def loaders(size: tuple[int, int], bs: int) -> DataBunch:
    return (src.transform(get_transforms(), size=size).databunch(bs=bs, seed=s.seed, cache=True)
            .normalize(imagenet_stats))


data = loaders((src_size[0] // 2, src_size[1] // 2), s.bs[0])
show(data.show_batch(rows=2), out / "batch.png")
show(data.show_batch(rows=2, train=False), out / "batch-valid.png")
print(check_data(data))

# %% The notebook's metric: the share of the labelled pixels that is right
void = codes.index("Void")
acc_camvid = partial(foreground_accuracy, void_code=void)
metrics = [acc_camvid, partial(mean_iou, void_code=void)]
run.baselines = always_most_common(data, metrics, void)


# %% The learner: a U-Net around a trained body; or the small plain one, where all is new
def new_learner(data: DataBunch) -> Learner:
    if s.arch != "small":
        weights = {"imagenet": True, "none": False}.get(s.weights, s.weights)
        return unet_learner(data, ARCHS[s.arch], metrics, weights, precision=s.precision,
                            seed=s.seed)
    with seeded(s.seed):
        model = UNet(data.c, channels=32 if s.data else 16)
    return Learner(data, model, partial(pixel_loss, ignore=void), metrics, precision=s.precision)


learn = new_learner(data)
curve = run.keep(1, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-1.png")
lr = run.rate(curve, s.lr[0])

# %% Train what is new, on a frozen body. pct_start is the share of batches in which the rate rises
learn.fit_one_cycle(s.epochs[0], slice(lr), pct_start=0.9, checkpoint=run.checkpoint(), resume=True)
run.note("half, first", learn, s.epochs[0], slice(lr))
show(learn.show_results(rows=3), out / "results.png")

# %% Train all of it: the curve is flat and then shoots up, so take the elbow and go back ten times
learn.unfreeze()
curve = run.keep(2, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-2.png")
lrs = run.rate(curve, slice(s.lr[0] / 400, s.lr[0] / 4), earlier_lr=lr)
learn.fit_one_cycle(s.epochs[1], lrs, pct_start=0.8, checkpoint=run.checkpoint(), resume=True)
run.note("half, unfrozen", learn, s.epochs[1], lrs)
learn.save(run.kept / "half.pth", overwrite=True)

# %% Go big: a new learner for the full size takes over the weights. A trained body is frozen again
learn = new_learner(loaders(src_size, s.bs[1]))
learn.load(run.kept / "half.pth", with_opt=False)
curve = run.keep(3, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-3.png")
lr = run.rate(curve, s.lr[1])
learn.fit_one_cycle(s.epochs[2], slice(lr), pct_start=0.8, checkpoint=run.checkpoint(), resume=True)
run.note("full, first", learn, s.epochs[2], slice(lr))

# %% And all of it again
learn.unfreeze()
curve = run.keep(4, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-4.png")
lrs = run.rate(curve, slice(1e-6, s.lr[1] / 10), earlier_lr=lr)
learn.fit_one_cycle(s.epochs[3], lrs, checkpoint=run.checkpoint(), resume=True)
run.note("full, unfrozen", learn, s.epochs[3], lrs)
show(learn.recorder.plot_losses(), out / "losses.png")

# %% Where is it wrong? Class by class, which class (row) is taken for which, and the worst
taken = learn.score(partial(confusion, void_code=void))
print(class_table(taken, codes))
show(confusion_picture(taken.values, codes), out / "confusion.png")
show(learn.show_results(rows=3, items=worst(learn, acc_camvid, 3)), out / "worst.png")

# %% One picture, its mask at the file's own size, and a file that predicts elsewhere
file = src.files[src.valid[0]]
_, mask, _ = learn.predict(file)
show(with_masks(file, codes, truth=open_mask(get_y_fn(file)), prediction=mask), out / "one.png")
print(learn.export(out / "model.pth", overwrite=True))
run.finish(data.train_dl.device)
