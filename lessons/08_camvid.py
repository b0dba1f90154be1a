"""CamVid: a class for every pixel of a street scene, with a U-Net.

This is the second walkthrough of lesson 3, with the notebook's calls in their order. Without flags
the lesson draws its own streets and trains a small U-Net for two minutes on two cores. With --data
DIR it takes CamVid and the notebook's settings, and needs a GPU. Run lessons 05 and 07 first.
"""

from dataclasses import dataclass
from functools import partial

from minifast.datablock import SegmentationList
from minifast.extras.doctor import check_data
from minifast.extras.interpret import class_table, confusion_picture, constant_class, worst
from minifast.images import image_size, open_image, open_mask, to_pil
from minifast.learner import Learner
from minifast.loader import imagenet_stats
from minifast.lr_finder import lr_find
from minifast.metrics import confusion, foreground_accuracy, mean_iou, name_of
from minifast.targets import pixel_loss
from minifast.tools.draw import overlay
from minifast.tools.seeds import seeded
from minifast.transforms import get_transforms
from minifast.unet import UNet
from minifast.vision import ARCHS, unet_learner
from kit.page import show, start_page
from kit.sample_data import camvid
from kit.settings import read_settings
from kit.stages import Run


# %% Settings. These are the notebook's; drawn streets and --quick change some of them, see below
@dataclass
class Settings:
    data: str = ""                      # folder of CamVid; if empty, the lesson draws its own
    arch: str = "resnet34"              # of the body: resnet18, 34 or 50; or small, a plain U-Net
    weights: str = "imagenet"           # of the body: imagenet, none, or a file
    size: tuple[int, ...] = (0, 0)      # full size, rows and columns; 0 0 takes the files' own
    bs: tuple[int, ...] = (8, 3)        # pictures in a batch, at half size and at full size
    epochs: tuple[int, ...] = (10, 12, 10, 10)      # of the four stages
    lr: tuple[float, ...] = (3e-3, 1e-3)    # half and full size, if lr_find gives none
    precision: str = "auto"             # auto or float32
    seed: int = 42                      # of first weights, order and transforms
    out: str = "runs/camvid"            # where the page, pictures and results go
    resume: bool = False                # go on with a run that was cut off
    quick: bool = False                 # train for seconds, only to see that the lesson runs


s = read_settings(Settings, __doc__, quick=dict(epochs=(1, 1, 1, 1)), without_data=dict(
    arch="small", size=(144, 192), bs=(8, 8), epochs=(8, 5, 4, 4)))
run, out = Run("camvid", s), start_page(s.out)      # Run keeps checkpoints and the final table
n, num_it = (20, 10) if s.quick else (200, 100 if s.data else 80)   # streets to draw; LR batches

# %% The data: pictures, and for each a mask of the same size. A mask's pixels are class numbers
# A list says which pictures are for validation: in a film, neighbours are nearly the same.
path = run.data(camvid, out / f"streets-{n}-{s.size[0]}", n=n, size=s.size[0])
codes = (path / "codes.txt").read_text().split()


def get_y_fn(file):
    return path / "labels" / f"{file.stem}_P.png"


src = (SegmentationList.from_folder(path / "images")
       .split_by_fname_file("../valid.txt")
       .label_from_func(get_y_fn, classes=codes))
file = src.files[0]
mask = open_mask(get_y_fn(file))                                                # (h, w)
print(len(codes), "classes:", *codes)
print(file.name, tuple(mask.shape), mask)
show(overlay(to_pil(open_image(file)), mask), out / "mask.png")
src_size = s.size if any(s.size) else image_size(file)


# %% Batches. Masks move with their pictures, and their class numbers are never averaged
def loaders(size, bs):
    return (src.transform(get_transforms(), size=size).databunch(bs=bs, seed=s.seed, cache=True)
            .normalize(imagenet_stats))


data = loaders((src_size[0] // 2, src_size[1] // 2), s.bs[0])
show(data.show_batch(rows=2), out / "batch.png")
show(data.show_batch(rows=2, train=False), out / "batch-valid.png")
print(check_data(data))

# %% The notebook's metric: the share of labelled pixels that are right. "Void" is no label
void = codes.index("Void")
acc_camvid = partial(foreground_accuracy, void_code=void)
metrics = [acc_camvid, partial(mean_iou, void_code=void)]


# %% The learner: a U-Net around a pretrained body, or a small plain one that learns from scratch
def new_learner(data):
    if s.arch != "small":
        weights = {"imagenet": True, "none": False}.get(s.weights, s.weights)
        return unet_learner(data, ARCHS[s.arch], metrics, weights, precision=s.precision,
                            seed=s.seed)
    with seeded(s.seed):
        model = UNet(data.c, channels=32 if s.data else 16)
    return Learner(data, model, partial(pixel_loss, ignore=void), metrics, precision=s.precision)


learn = new_learner(data)

# %% Find a rate, and train what is new. pct_start: the rate rises for this share of the batches
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-1.png")
lr = run.rate(curve, s.lr[0])
learn.fit_one_cycle(s.epochs[0], slice(lr), pct_start=0.9, checkpoint=run.checkpoint(), resume=True)
run.note("half, first", learn, s.epochs[0], slice(lr))

# %% Unfreeze. The curve is flat and then shoots up: take the elbow, and go back ten times
# The small U-Net has no trained body to unfreeze. It only gets another cycle, at lower rates.
learn.unfreeze()
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-2.png")
lrs = run.rate(curve, slice(s.lr[0] / 400, s.lr[0] / 4), earlier_lr=lr)
learn.fit_one_cycle(s.epochs[1], lrs, pct_start=0.8, checkpoint=run.checkpoint(), resume=True)
run.note("half, unfrozen", learn, s.epochs[1], lrs)
learn.save(run.kept / "half.pth", overwrite=True)

# %% Go big: a new learner takes over the weights. If it has a body, the body is frozen again
learn = new_learner(loaders(src_size, s.bs[1]))
learn.load(run.kept / "half.pth", with_opt=False)
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-3.png")
lr = run.rate(curve, s.lr[1])
learn.fit_one_cycle(s.epochs[2], slice(lr), pct_start=0.8, checkpoint=run.checkpoint(), resume=True)
run.note("full, first", learn, s.epochs[2], slice(lr))

# %% Unfreeze again, and train the whole network
learn.unfreeze()
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-4.png")
lrs = run.rate(curve, slice(1e-6, s.lr[1] / 10), earlier_lr=lr)
learn.fit_one_cycle(s.epochs[3], lrs, checkpoint=run.checkpoint(), resume=True)
run.note("full, unfrozen", learn, s.epochs[3], lrs)
show(learn.recorder.plot_losses(), out / "losses.png")
show(learn.show_results(rows=3), out / "results.png")

# %% Where is it wrong? Class by class; in percent, which class (row) is taken for which; the worst
counts = learn.score(partial(confusion, void_code=void))
print(class_table(counts, codes))
show(confusion_picture(counts.values, codes), out / "confusion.png")
show(learn.show_results(rows=3, items=worst(learn, acc_camvid, 3)), out / "worst.png")
common, *scores = constant_class(counts.out_of[:, 0])       # scores without looking at a picture
run.baselines = {f"always {codes[common]}": dict(zip(map(name_of, metrics), scores))}
file = src.files[src.valid[0]]
show(overlay(to_pil(open_image(file)), learn.predict(file)[1]), out / "one.png")
print(learn.export(out / "model.pth", overwrite=True))
run.finish(data.train_dl.device)
