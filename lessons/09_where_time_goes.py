"""Where does the time go? From a file on the disk to a step of the optimizer, in pictures a second.

You measure this machine: each part alone, then the whole, which should take little more than its
parts; and what workers, cache, precision, batch size and picture size buy. Takes forty seconds; on
your own pictures, with --data FOLDER. Read first: minifast/loader.py, minifast/tools/device.py.
"""

from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from itertools import cycle, islice
import json
from pathlib import Path
import sys
from typing import Literal

from PIL import Image
import torch

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.listing import picture_files
from minifast.loader import Loader, imagenet_stats, stack
from minifast.targets import Tags
from minifast.tools.device import cores, default_device, uses_bfloat16
from minifast.tools.files import write_atomic
from minifast.tools.seeds import generator_for
from minifast.transforms import get_transforms
from minifast.vision import ARCHS, cnn_learner
from kit.page import show, start_page
from kit.stages import device_name
from kit.sample_data import planet
from kit.settings import read_settings
from kit.timing import Figure, Training, bars, difference, race, ratio


@dataclass
class Settings:
    data: str = ""               # folder of pictures, which are repeated where they are too few
    pictures: int = 128          # how many to take, or to draw, 256 pixels a side
    size: int = 128              # sides of what the input path makes of them
    net_size: int = 64           # sides of what the net is trained on
    arch: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"  # the net
    bs: int = 64                 # pictures a batch
    workers: int = 2             # how many are compared with none
    epochs: int = 10             # how often the input path goes over the pictures in a round
    rounds: int = 3              # how often each thing is measured
    seed: int = 42               # of first weights, order and transforms
    json: bool = False           # print the figures as JSON, and nothing else
    out: str = "runs/where_time_goes"   # where the bars and results.json go


s = read_settings(Settings, __doc__)
terminal = sys.stdout
if s.json:
    sys.stdout = StringIO()
out, device = start_page(s.out), default_device()

# %% The pictures. Which labels they have does not matter to the clock
folder = s.data or planet(out / f"tiles-{s.pictures}", n=s.pictures, size=256) / "train-jpg"
files = list(islice(cycle(picture_files(Path(folder))), s.pictures))
target = Tags([f"tag {i}" for i in range(17)])
labels = [[target.classes[i % 17], target.classes[i % 5]] for i in range(len(files))]
tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)


def loader(size: int, workers: int = 0, cache: bool = False, bs: int = s.bs) -> Loader:
    dataset = Dataset(files, labels, target, (size, size))
    data = DataBunch.create(dataset, None, tfms=tfms, bs=bs, num_workers=workers, seed=s.seed,
                            cache=cache)
    return data.normalize(imagenet_stats).train_dl


figures: dict[str, Figure] = {}
ratios: dict[str, float] = {}


def report(measured: dict[str, Figure]) -> dict[str, Figure]:
    figures.update(measured)
    print(f"{'pictures a second':40} median  slowest  quickest")
    for name, figure in measured.items():
        slowest, quickest = figure.spread
        print(f"{name:40} {figure.rate:6,.0f}  {slowest:7,.0f}  {quickest:8,.0f}")
    return measured


print(f"{device_name(device)}, torch {torch.__version__}, {cores()} cores")

# %% From a file to a picture of the wanted size, with Pillow alone
# A JPEG is made of blocks of 8 x 8 pixels, and can be decoded at 4 x 4 of each, or fewer: quicker,
# and resizing has less to do. (One thread: with more, processor time would count their waiting.)
threads = torch.get_num_threads()
torch.set_num_threads(1)
plain, wanted = loader(s.size), (s.size, s.size)
numbers = plain.item_numbers(0)                         # as an epoch has them: shuffled, in batches
order = [files[i] for batch in numbers for i in batch]
contents = [file.read_bytes() for file in order]
pictures = [Image.open(BytesIO(content)).convert("RGB") for content in contents]


def with_pillow(file: str | BytesIO, reduced: bool = True) -> Image.Image:
    picture = Image.open(file)
    if reduced:
        picture.draft(None, wanted)
    picture = picture.convert("RGB")
    return picture if picture.size == wanted else picture.resize(wanted, Image.BILINEAR)


report(race({
    "read": lambda: len([file.read_bytes() for file in order]),
    "decode": lambda: len([Image.open(BytesIO(content)).load() for content in contents]),
    "resize": lambda: len([picture.resize(wanted, Image.BILINEAR) for picture in pictures]),
    "all three": lambda: len([with_pillow(file, reduced=False) for file in order]),
    "all, reduced": lambda: len([with_pillow(file) for file in order])}, s.rounds))

# %% From items to a batch: stacked, moved to the device, made floats, transformed, normalised
items = [[plain.dataset[i] for i in batch] for batch in numbers]
batches = [stack(batch) for batch in items]


def augmented() -> int:
    return sum(len(plain.ready(*batch, generator_for(s.seed))[0]) for batch in batches)


parts = {"stack": lambda: sum(len(stack(batch)[0]) for batch in items), "augment": augmented}
if device.type == "cuda":
    parts["move"] = lambda: sum(len(x.pin_memory().to(device)) for x, y in batches)
report(race(parts, s.rounds))

# %% The whole input path: it should take little more than its parts, decoding and augmenting
# In processor time, of all processes. Workers cost more: they have to be started for each epoch,
# and each batch has to cross over from them.
cached = loader(s.size, cache=True)


def epochs_of(loader: Loader) -> int:
    return sum(len(x) for _ in range(s.epochs) for x, y in loader)


whole = report(race({
    "decode alone": lambda: len([with_pillow(file) for file in order]),
    "augment alone": augmented,
    "no workers": lambda: epochs_of(loader(s.size)),
    f"{s.workers} workers": lambda: epochs_of(loader(s.size, s.workers)),
    "from the cache": lambda: epochs_of(cached)}, s.rounds))
alone = [whole.pop("decode alone"), whole.pop("augment alone")]
ratios |= {f"{name} / parts": ratio(figure, alone[name == "from the cache":], "cpu")
           for name, figure in whole.items()}
torch.set_num_threads(threads)


# %% The step, on one batch again and again: no training can be quicker than that
def training(loader: Loader, precision: str = "auto") -> Training:
    """A new learner on a loader, and the pieces of its training."""
    return Training(cnn_learner(DataBunch(loader, None, None, target), ARCHS[s.arch],
                                pretrained=False, precision=precision, seed=s.seed))


small = loader(s.net_size, cache=True)
fixed = small.one_batch()
n, t = len(fixed[0]), training(small)
step = race({"forward": lambda: n if t.forward(fixed) is not None else 0,
             "backward": lambda: n if t.backward(fixed) is None else 0,     # and forward
             "optimizer": lambda: n if t.optimizer.step() is None else 0,
             "step": lambda: t.bare([fixed])}, s.rounds)
report(step | {"backward": difference(step["backward"], step["forward"])})
print(f"precision auto is {'bfloat16' if uses_bfloat16(device, 'auto') else 'float32'} here")

# %% An epoch of ours, beside a bare loop over the same batches, and beside the step alone
# The Learner also tries the model on two pictures first, and reads the losses every ten batches.
bare, ours, float32 = training(small), training(small), training(small, "float32")
epochs = report(race({"step alone": lambda: t.bare([fixed] * len(small)),
                      "bare loop": lambda: bare.bare(small), "Learner": ours.epoch,
                      "bare, float32": lambda: float32.bare(small)}, s.rounds))
ratios |= {f"Learner / {name}": ratio(epochs["Learner"], [figure])
           for name, figure in epochs.items() if name != "Learner"}

# %% What one can change, and what that buys: an epoch each, without a cache
few = max(2, s.bs // 4)
tried = {name: training(loader(s.net_size, **knobs)) for name, knobs in {
    f"with {s.workers} workers": {"workers": s.workers},    # first: forks make later writes slow
    "as it is": {}, "cache": {"cache": True}, f"batches of {few}": {"bs": few}}.items()}
tried["half the size"] = training(loader(s.net_size // 2))
tried["float32"] = training(loader(s.net_size), "float32")
changed = report(race({name: lambda each=each: each.bare(each.learn.data.train_dl)
                       for name, each in tried.items()}, s.rounds))
ratios |= {f"{name} / as it is": ratio(figure, [changed["as it is"]])
           for name, figure in changed.items() if name != "as it is"}

# %% All of it in one picture, and as numbers: the longer a bar, the longer a picture takes
print("ratios of times (on a line with parts, of processor time)")
for name, times in ratios.items():
    print(f"{name:60} {times:.3f}")
if device.type == "cuda":
    print(f"peak memory {torch.cuda.max_memory_allocated() / 2 ** 30:.1f} GiB")
show(bars(figures), out / "bars.png")
content = json.dumps({
    "settings": asdict(s), "device": device_name(device), "torch": torch.__version__,
    "figures": {name: asdict(figure) for name, figure in figures.items()}, "ratios": ratios,
    "peak_memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else None})
print(write_atomic(out / "results.json", content.encode()))
if s.json:
    print(content, file=terminal)
