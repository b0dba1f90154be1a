"""Planet: several tags for each satellite tile, from a CSV to a fine-tuned classifier.

The first walkthrough of lesson 3, cell by cell, with the notebook's calls. Without arguments it
draws its own tiles, and takes two to three minutes on two cores. With --data DIR it takes Kaggle's
tiles and the notebook's settings, for which you want a GPU. Read first: lessons 01 to 05.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from minifast.datablock import ImageList
from minifast.databunch import DataBunch
from minifast.extras.doctor import check_data
from minifast.extras.inference import load_learner, write_submission
from minifast.extras.interpret import constant_tags, tag_table, worst
from minifast.loader import imagenet_stats
from minifast.lr_finder import lr_find
from minifast.metrics import accuracy_thresh, fbeta
from minifast.tools import processes
from minifast.transforms import get_transforms
from minifast.vision import ARCHS, cnn_learner
from kit.page import show, start_page
from kit.sample_data import planet
from kit.settings import read_settings
from kit.stages import Run, first_goes_ahead, weather_body


# %% Settings: the notebook's. Without --data, and with --quick, others hold
@dataclass
class Settings:
    data: str = ""                      # folder of real tiles; if empty, the lesson draws its own
    csv: str = "train_v2.csv"           # in that folder: the table of names and tags
    folder: str = "train-jpg"           # in that folder: the folder of tiles
    suffix: str = ".jpg"                # a name of the table with this suffix is a file's name
    test_folder: tuple[str, ...] = ()   # folders of tiles without tags, for submission.csv
    arch: str = "resnet50"              # resnet18, resnet34 or resnet50
    weights: str = "imagenet"           # of the body: imagenet, weather, none, or a file
    sizes: tuple[int, ...] = (128, 256)     # sides of the tiles in pixels, small and then big
    bs: int = 64                        # tiles in a batch
    epochs: int = 5                     # of each stage
    lr: tuple[float, ...] = (1e-2, 5e-3)    # the head's, small and big, if lr_find does not say
    precision: str = "auto"             # auto, or float32
    seed: int = 42                      # of first weights, order and transforms
    out: str = "runs/planet"            # where the page, pictures and results go
    resume: bool = False                # go on with a run that was cut off
    quick: bool = False                 # in seconds, on few tiles: only to see that it runs


s = read_settings(Settings, __doc__, lambda given: (
    {} if given.data else dict(arch="resnet18", weights="weather", sizes=(64, 96), epochs=4, bs=32)
    ) | (dict(epochs=1, bs=16) if given.quick else {}))
processes.join()                        # with the other processes, if torchrun started several
out, run, (small, big) = start_page(s.out), Run("planet", s), s.sizes
n, num_it = (60, 25) if s.quick else (1100, 100 if s.data else 60)      # num_it: of the LR tests

# %% The data: a CSV with a row for each tile, and a folder of JPEGs
with first_goes_ahead():
    path = Path(s.data) if s.data else planet(out / f"tiles-{n}-{big}", n=n, size=big)

# %% Which files, which of them for validation, and which tags has each?
split = (ImageList.from_csv(path, s.csv, folder=s.folder, suffix=s.suffix)
         .split_by_rand_pct(0.2, seed=42))
src = split.label_from_csv(label_delim=" ")
print(len(src.train), "tiles for training; the tags:", *src.target.classes)

# %% Transforms. Seen from above, any flip will do; satellites look straight down, so no warp
tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)


def loaders(labelled: ImageList, size: int) -> DataBunch:
    for folder in s.test_folder:
        labelled = labelled.add_test_folder(Path(folder).absolute())
    return (labelled.transform(tfms, size=size).databunch(bs=s.bs, seed=s.seed, cache=True)
            .normalize(imagenet_stats))


data = loaders(src, small)
show(data.show_batch(rows=3), out / "batch.png")
print(check_data(data))         # what would stop training in an hour, in a second

# %% Two metrics. They inform you, and do not affect training. A metric is called with two
# arguments, so partial presets the threshold: every tag with a probability above 0.2 is predicted
acc_02 = partial(accuracy_thresh, thresh=0.2)
f_score = partial(fbeta, thresh=0.2)
truth = torch.stack([src.target.encode(src.labels[i]) for i in src.valid])              # (n, c)
run.baselines = constant_tags(truth, [acc_02, f_score])

# %% The learner: a trained body (for drawn tiles, trained on their weather), and a new head
weights = {"imagenet": True, "none": False}.get(s.weights, s.weights)
if weights == "weather":
    weights = weather_body(run, src, lambda labelled: loaders(labelled, small))
learn = cnn_learner(data, ARCHS[s.arch], metrics=[acc_02, f_score], pretrained=weights,
                    precision=s.precision, seed=s.seed)

# %% Which learning rate? The loss of a new head falls: take the rate where it falls steepest
curve = run.keep(1, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-1.png")
lr = run.rate(curve, s.lr[0])

# %% Train the head. The body stays frozen, and so keeps what it knows
learn.fit_one_cycle(s.epochs, slice(lr), checkpoint=run.checkpoint(), resume=True)
run.note("small, frozen", learn, s.epochs, slice(lr))

# %% Unfrozen, the curve is flat and then shoots up: take the elbow, and go back ten times for the
# first layers; the head gets a fifth of its last rate
learn.unfreeze()
curve = run.keep(2, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-2.png")
lr = run.rate(curve, slice(1e-5, s.lr[0] / 5), earlier_lr=lr)

# %% Train all of it, each layer group at its own rate
learn.fit_one_cycle(s.epochs, lr, checkpoint=run.checkpoint(), resume=True)
run.note("small, unfrozen", learn, s.epochs, lr)
learn.save(run.kept / "stage-2-small.pth", overwrite=True)

# %% Go on with bigger tiles. The network stays, only the data changes: much like a new data set
learn.data = data = loaders(src, big)
print(f"a tile is now {tuple(data.train_ds[0][0].shape)}")
learn.freeze()
curve = run.keep(3, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-3.png")
lr = run.rate(curve, s.lr[1])
learn.fit_one_cycle(s.epochs, slice(lr), checkpoint=run.checkpoint(), resume=True)
run.note("big, frozen", learn, s.epochs, slice(lr))

# %% And all of it again
learn.unfreeze()
curve = run.keep(4, lambda: lr_find(learn, num_it=num_it))
show(curve.plot(), out / "lr-4.png")
lr = run.rate(curve, slice(1e-5, s.lr[1] / 5), earlier_lr=lr)
learn.fit_one_cycle(s.epochs, lr, checkpoint=run.checkpoint(), resume=True)
run.note("big, unfrozen", learn, s.epochs, lr)
show(learn.recorder.plot_losses(), out / "losses.png")

# %% Where is it wrong? Tag by tag, and the tiles with the lowest F2, as `truth / prediction`
likely, truth = learn.get_preds()
print(tag_table(likely, truth, src.target.classes, thresh=0.2))
show(learn.show_results(3, thresh=0.2, items=worst(learn, f_score, 9)), out / "worst.png")

# %% A file for elsewhere: lessons/predict.py and load_learner read it. And Kaggle's submission
print(learn.export(out / "model.pth", thresh=0.2, overwrite=True))
if s.test_folder:
    files = data.test_dl.dataset.files
    predictions = load_learner(out / "model.pth").predict_files(files, views=8, bs=s.bs)
    print(write_submission(out / "submission.csv", [file.stem for file in files], predictions,
                           thresh=0.2, overwrite=True))
run.finish(data.train_dl.device)
