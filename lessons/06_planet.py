"""Planet: several tags for each satellite tile, from a CSV to a fine-tuned classifier.

This is the first walkthrough of lesson 3, with the notebook's calls in their order. Without flags
the lesson draws its own tiles and takes two to three minutes on two cores. With --data DIR it
takes Kaggle's tiles and the notebook's settings, and needs a GPU. Run lessons 01 to 05 first.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from minifast.datablock import ImageList
from minifast.extras.doctor import check_data
from minifast.extras.inference import load_learner, write_submission
from minifast.extras.interpret import constant_tags, tag_table, worst
from minifast.loader import imagenet_stats
from minifast.lr_finder import lr_find
from minifast.metrics import accuracy_thresh, fbeta
from minifast.tools.files import save_tensors
from minifast.transforms import get_transforms
from minifast.vision import ARCHS, cnn_learner
from kit.page import show, start_page
from kit.sample_data import planet, weather_in
from kit.settings import read_settings
from kit.stages import Run


# %% Settings. These are the notebook's; drawn tiles and --quick change some of them, see below
@dataclass
class Settings:
    data: str = ""                      # folder of real tiles; if empty, the lesson draws its own
    csv: str = "train_v2.csv"           # in that folder: the table of names and tags
    folder: str = "train-jpg"           # in that folder: the folder of tiles
    suffix: str = ".jpg"                # what makes a name of the table a file name
    test_folder: tuple[str, ...] = ()   # folders of tiles without tags, for submission.csv
    arch: str = "resnet50"              # resnet18, resnet34 or resnet50
    weights: str = "imagenet"           # of the body: imagenet, weather, none, or a file
    sizes: tuple[int, ...] = (128, 256)     # sides of the tiles in pixels: small, then big
    bs: int = 64                        # tiles in a batch
    epochs: int = 5                     # in each of the four stages
    lr: tuple[float, ...] = (1e-2, 5e-3)    # the head's, small and big, if lr_find gives none
    precision: str = "auto"             # auto or float32
    seed: int = 42                      # of first weights, order and transforms
    out: str = "runs/planet"            # where the page, pictures and results go
    resume: bool = False                # go on with a run that was cut off
    quick: bool = False                 # train for seconds, only to see that the lesson runs


s = read_settings(Settings, __doc__, quick=dict(epochs=1, bs=16), without_data=dict(
    arch="resnet18", weights="weather", sizes=(64, 104), epochs=4, bs=32))
run, out = Run("planet", s), start_page(s.out)      # Run keeps checkpoints and the final table
small, big = s.sizes
n = 60 if s.quick else 950                          # how many tiles to draw
num_it = 25 if s.quick else 100 if s.data else 50   # batches of an LR range test

# %% The data: a folder of JPEGs, and a CSV with the tags of each
# Which files are there? Which of them are for validation? Which tags does each have?
path = run.data(planet, out / f"tiles-{n}-{big}", n=n, size=big)
src = (ImageList.from_csv(path, s.csv, folder=s.folder, suffix=s.suffix)
       .split_by_rand_pct(0.2, seed=42)
       .label_from_csv(label_delim=" "))
print(len(src.train), "tiles for training; the tags:", *src.target.classes)

# %% Transforms. Seen from above, any flip will do. Satellites look straight down, so no warp
tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)


def loaders(labelled, size):
    for folder in s.test_folder:
        labelled = labelled.add_test_folder(Path(folder).absolute())
    return (labelled.transform(tfms, size=size).databunch(bs=s.bs, seed=s.seed, cache=True)
            .normalize(imagenet_stats))


data = loaders(src, small)
show(data.show_batch(rows=3), out / "batch.png")
print(check_data(data))         # better now than after an hour of training

# %% Two metrics. They tell you how the model does, and do not affect training
# A learner takes one metric or a list of them. It calls each with two arguments, so partial presets
# the third one, the threshold. Every tag with a probability above 0.2 is predicted.
acc_02 = partial(accuracy_thresh, thresh=0.2)
f_score = partial(fbeta, thresh=0.2)

# %% The learner: a pretrained body and a new head. For drawn tiles, the body first learns weather
weights = {"imagenet": True, "none": False}.get(s.weights, s.weights)
common = dict(precision=s.precision, seed=s.seed)
if weights == "weather":
    weather = dict(zip(src.files, map(weather_in, src.labels)))
    first = cnn_learner(loaders(src.label_from_func(weather.get), small), ARCHS[s.arch],
                        metrics="accuracy", pretrained=False, **common)
    first.fit_one_cycle(s.epochs, 1e-2, checkpoint=run.kept / "weather.pth", resume=True)
    weights = save_tensors(run.kept / "body.pth", first.model.body.state_dict())
learn = cnn_learner(data, ARCHS[s.arch], metrics=[acc_02, f_score], pretrained=weights, **common)

# %% Which learning rate? The loss of a new head falls: take the rate where it falls steepest
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-1.png")
lr = run.rate(curve, s.lr[0])

# %% Train the head. The body is frozen, so it keeps what it knows
learn.fit_one_cycle(s.epochs, slice(lr), checkpoint=run.checkpoint(), resume=True)
run.note("small, frozen", learn, s.epochs, slice(lr))

# %% Unfreeze. Now the curve is flat and then shoots up
# Find the elbow and go back ten times: that is the left end of the slice, for the first layers. The
# right end is a fifth of the head's rate above. If it is not above the left end, all get this rate.
learn.unfreeze()
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-2.png")
lr = run.rate(curve, slice(1e-5, s.lr[0] / 5), earlier_lr=lr)
learn.fit_one_cycle(s.epochs, lr, checkpoint=run.checkpoint(), resume=True)
run.note("small, unfrozen", learn, s.epochs, lr)
learn.save(run.kept / "stage-2-small.pth", overwrite=True)

# %% Go on with bigger tiles. The network stays, and only its data changes
learn.data = data = loaders(src, big)
print("a tile is now", tuple(data.train_ds[0][0].shape))
print(f"F2 before training on these: {learn.validate()['fbeta(thresh=0.2)']:.3f}")
learn.freeze()
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-3.png")
lr = run.rate(curve, s.lr[1])
learn.fit_one_cycle(s.epochs, slice(lr), checkpoint=run.checkpoint(), resume=True)
run.note("big, frozen", learn, s.epochs, slice(lr))

# %% Unfreeze again, and train the whole network
learn.unfreeze()
curve = lr_find(learn, num_it=num_it)
show(curve.plot(), out / "lr-4.png")
lr = run.rate(curve, slice(1e-5, s.lr[1] / 5), earlier_lr=lr)
learn.fit_one_cycle(s.epochs, lr, checkpoint=run.checkpoint(), resume=True)
run.note("big, unfrozen", learn, s.epochs, lr)
show(learn.recorder.plot_losses(), out / "losses.png")

# %% Where is it wrong? Tag by tag, and then the tiles with the lowest F2: `truth / prediction`
likely, truth = learn.get_preds()
run.baselines = constant_tags(truth, [acc_02, f_score])     # scores without looking
print(tag_table(likely, truth, src.target.classes, thresh=0.2))
show(learn.show_results(3, thresh=0.2), out / "results.png")
show(learn.show_results(3, thresh=0.2, items=worst(learn, f_score, 9)), out / "worst.png")

# %% Export the model for lessons/predict.py and load_learner. Write Kaggle's submission
print(learn.export(out / "model.pth", thresh=0.2, overwrite=True))
if s.test_folder:
    files = data.test_dl.dataset.files
    predictions = load_learner(out / "model.pth").predict_files(files, views=8, bs=s.bs)
    print(write_submission(out / "submission.csv", [file.stem for file in files], predictions,
                           thresh=0.2, overwrite=True))
run.finish(data.train_dl.device)
