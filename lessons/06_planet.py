"""Planet: many labels per picture, from a CSV of tagged satellite tiles to a fine-tuned classifier.

The first walkthrough of lesson 3, cell by cell. Without arguments it draws its own tiles and takes
under three minutes on two cores. With --data DIR it runs on Kaggle's tiles with the notebook's
settings, for which you want a GPU. Read first: minifast/metrics.py and minifast/datablock.py.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from minifast.datablock import ImageList
from minifast.databunch import DataBunch
from minifast.extras.inference import load_learner, write_submission
from minifast.extras.interpret import better_threshold, constant_tags, tag_table, worst
from minifast.listing import unique
from minifast.loader import imagenet_stats
from minifast.metrics import accuracy_thresh, fbeta
from minifast.tools import check, processes
from minifast.tools.files import save_tensors
from minifast.transforms import get_transforms
from minifast.vision import ARCHS, cnn_learner
from kit.page import show, start_page
from kit.results import check_first, find_rate, print_table, train_stage, write_results
from kit.runs import checkpoints, first_goes_ahead, start_run
from kit.sample_data import planet
from kit.settings import read_settings


# %% Settings: the notebook's own, and what is different without real tiles, or with --quick
@dataclass
class Settings:
    data: str = ""               # folder of real tiles; without it the lesson draws its own
    csv: str = "train_v2.csv"    # in that folder, the table of names and tags
    folder: str = "train-jpg"    # in that folder, the folder of pictures
    suffix: str = ".jpg"         # appended to a name of the table, gives the name of its file
    arch: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"  # the net
    weights: str = "imagenet"    # where the body comes from: imagenet, weather, none, or a file
    sizes: tuple[int, ...] = (128, 256)     # sides of the tiles, small and then big
    epochs: int = 5              # of each stage
    lr: tuple[float, ...] | Literal["auto"] = (1e-2, 5e-3)  # the head's, small and big; or auto
    lr_low: float = 1e-5         # unfrozen: rate of the first layer group
    lr_div: float = 5.0          # unfrozen: the head's rate is lr divided by this
    lr_its: int = 100            # batches of each LR range test
    weather_epochs: int = 5      # weights weather: epochs of the first body, from scratch
    weather_lr: float = 1e-2     # weights weather: its rate
    thresh: float = 0.2          # a tag is predicted where its probability is above this
    bs: int = 64                 # tiles a batch
    cache: bool = True           # keep decoded tiles in memory, where there is enough
    precision: Literal["auto", "float32"] = "auto"  # auto: bfloat16 where that is native
    seed: int = 42               # of first weights, order and transforms; the split stays the same
    tiles: int = 1500            # how many tiles to draw, where the lesson draws its own
    test_folder: tuple[str, ...] = ()   # folders of tiles without tags, for submission.csv
    out: str = "runs/planet"     # where pictures and results go
    resume: bool = False         # go on with the run that was cut off there
    skip_check: bool = False     # do not look at all files first
    quick: bool = False          # all of it in seconds, on few tiles: only to see that it runs


def presets(given: Settings) -> dict:
    # A body that saw 1,200 tiles has more to learn than ImageNet's: so higher rates, unfrozen.
    own = dict(arch="resnet18", weights="weather", sizes=(64, 128), epochs=4, lr_low=1e-3,
               lr_div=1.0, lr_its=60)
    quick = dict(tiles=160, sizes=(32, 64), epochs=1, weather_epochs=1, bs=32, lr_its=50)
    return ({} if given.data else own) | (quick if given.quick else {})


s = read_settings(Settings, __doc__, presets)
processes.join()                # where torchrun started several: see minifast/tools/processes.py
out = start_page(s.out)
check.between("--thresh", s.thresh, 0, 1)
start_run(out, s)
small, big = s.sizes
arch = ARCHS[s.arch]

# %% The data: a table with a row per tile, and a folder of JPEGs
with first_goes_ahead():
    path = Path(s.data) if s.data else planet(out / f"tiles-{s.tiles}", n=s.tiles)

# %% Which files, which of them for validation, and which tags has each?
split = (ImageList.from_csv(path, s.csv, folder=s.folder, suffix=s.suffix)
         .split_by_rand_pct(0.2, seed=42))
src = split.label_from_csv(label_delim=" ")
print(f"{len(src.train)} tiles for training, {len(src.valid)} for validation; "
      f"{len(src.target.classes)} tags: {' '.join(src.target.classes)}")
for file, tags in list(zip(src.files, src.labels))[:3]:
    print(file.name, tags)

# %% Ready batches. From above a tile has no up or down, and the camera never tilts: so no warp
tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)


def loaders(labelled: ImageList, size: int) -> DataBunch:
    for folder in s.test_folder:
        labelled = labelled.add_test_folder(Path(folder).absolute())
    return (labelled.transform(tfms, size=size)
            .databunch(bs=s.bs, seed=s.seed, cache=s.cache)
            .normalize(imagenet_stats))


data = loaders(src, small)
if s.test_folder:               # or the submission would fail in the end
    unique("names of test tiles", [file.stem for file in data.test_dl.dataset.files])

# %% Look at all of it before training: what would stop that in an hour is known in a minute
check_first(data, s.skip_check)
show(data.show_batch(rows=3), out / "batch.png")

# %% Two metrics. partial presets a knob: acc_02(logits, targets) asks for 0.2 instead of 0.5
acc_02 = partial(accuracy_thresh, thresh=s.thresh)
f_score = partial(fbeta, thresh=s.thresh)

# %% Before any training: what do answers score that never look at the picture?
truth = torch.stack([src.target.encode(src.labels[i]) for i in src.valid])      # (n, c)
baselines = constant_tags(truth, [acc_02, f_score])
for name, scores in baselines.items():
    print(name, {metric: round(value, 6) for metric, value in scores.items()})

# %% Without ImageNet at hand: train a body on one label per tile first, as in lessons 1 and 2
# (Its valid_loss jumps at first: what BatchNorm remembers is still that of random weights.)
weights = {"imagenet": True, "none": False}.get(s.weights, s.weights)
if weights == "weather":
    weather = {"clear", "partly_cloudy", "haze", "cloudy"}
    weather_of = {file: " ".join(sorted(weather.intersection(tags))) or "none"
                  for file, tags in zip(src.files, src.labels)}
    print("\nfirst a body from scratch, on one label per tile: the weather")
    first = cnn_learner(loaders(split.label_from_func(weather_of.get), small), arch, ["accuracy"],
                        pretrained=False, precision=s.precision, seed=s.seed)
    first.fit_one_cycle(s.weather_epochs, s.weather_lr, resume=True,
                        checkpoint=checkpoints(out) / "weather.pth")
    weights = save_tensors(out / "weather-body.pth", first.model.body.state_dict())

# %% The learner: a body that has seen pictures before, and a new head for our tags
learn = cnn_learner(data, arch, metrics=[acc_02, f_score], pretrained=weights,
                    precision=s.precision, seed=s.seed)
stages = []
# Before each stage a test: which learning rate? With --lr auto it takes what that suggests, if any.
small_lr, big_lr = Settings.lr if s.lr == "auto" else s.lr
find = partial(find_rate, learn, follow=s.lr == "auto", div=s.lr_div, num_it=s.lr_its)

# %% Stage 1: train the head; what the body knows stays as it is. Each epoch is saved
if weights:
    lr = find(out / "lr-1.png", small_lr)
    stages.append(train_stage(learn, out, 1, "small, frozen", s.epochs, slice(lr)))
else:
    print("--weights none: a body that knows nothing has to learn, so no stage is frozen")

# %% Stage 2: train all of it, but the first layers slowly: they know edges and colours already
learn.unfreeze()
chosen = slice(s.lr_low, small_lr / s.lr_div) if weights else small_lr
lr = find(out / "lr-2.png", chosen, earlier_lr=lr if weights else None)
stages.append(train_stage(learn, out, 2, "small, unfrozen", s.epochs, lr))

# %% Bigger pictures: the network stays, only the data is exchanged
data = learn.data = loaders(src, big)
print(f"a tile is now {tuple(data.train_ds[0][0].shape)}")

# %% Stage 3: the head again
if weights:
    learn.freeze()
    lr = find(out / "lr-3.png", big_lr)
    stages.append(train_stage(learn, out, 3, "big, frozen", s.epochs, slice(lr)))

# %% Stage 4: and all of it again
learn.unfreeze()
chosen = slice(s.lr_low, big_lr / s.lr_div) if weights else big_lr
lr = find(out / "lr-4.png", chosen, earlier_lr=lr if weights else None)
stages.append(train_stage(learn, out, 4, "big, unfrozen", s.epochs, lr))

# %% What happened: in pictures, and in a table, beside the answers that never looked
show(learn.recorder.plot_losses(), out / "losses.png")
show(learn.recorder.plot_lr(), out / "rates.png")
print_table(stages, baselines)

# %% Where is it wrong? Tag by tag, and the tiles with the lowest F2, as `truth / prediction`
likely, truth = learn.get_preds()
print(tag_table(likely, truth, src.target.classes, s.thresh))
show(learn.show_results(3, s.thresh, items=worst(learn, f_score, 9)), out / "worst.png")

# %% Another threshold? Chosen on one half of the validation tiles, and judged on the other
better, hoped, gain = better_threshold(likely, truth, s.thresh)
print(f"threshold {better:.2f} for {s.thresh:.2f}: F2 {hoped:+.4f} on the tiles that chose it, "
      f"{gain:+.4f} on the others")

# %% To be used elsewhere: one file that predicts, with lessons/predict.py or load_learner
print(learn.export(out / "model.pth", s.thresh, overwrite=True))
if s.test_folder:
    tests = data.test_dl.dataset.files
    predictions = load_learner(out / "model.pth").predict_files(tests, views=8, bs=s.bs)
    names = [file.stem for file in tests]
    print(write_submission(out / "submission.csv", names, predictions, s.thresh, overwrite=True))

# %% All of it, as numbers
write_results(out / "results.json", "planet", s, baselines, stages, data.train_dl.device)
