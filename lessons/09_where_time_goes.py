"""Where does the time go? From a file on the disk to a step of the optimizer, in pictures a second.

You measure each part alone, and then the whole, which should take little more than its parts. The
lesson takes half a minute. Read next: minifast/loader.py.
"""

from dataclasses import asdict, dataclass
from functools import partial
import json

from PIL import Image
import torch

from minifast.loader import stack
from minifast.tools.files import write_atomic
from minifast.tools.seeds import generator_for
from minifast.vision import ARCHS, cnn_learner
from kit.page import show, start_page
from kit.sample_data import planet
from kit.settings import read_settings
from kit.timing import (bare_loop, bars, batches_of, device_name, our_loop, race, ratio, tiles_of,
                        training_step)


@dataclass
class Settings:
    pictures: int = 128          # how many JPEGs to draw, 256 pixels a side
    size: int = 128              # the input path makes them this large, in pixels a side
    net_size: int = 64           # the network is trained on pictures of this size
    arch: str = "resnet18"       # the network: resnet18, resnet34 or resnet50
    bs: int = 64                 # pictures in a batch
    rounds: int = 3              # how often to measure
    unit: bool = False           # only measure a training step, the unit of times in RESULTS.md
    out: str = "runs/where_time_goes"   # where the page, the picture and results.json go


s = read_settings(Settings, __doc__)
if s.unit:
    print(f"a training step takes {training_step(3 * s.rounds):.3f} s")
    raise SystemExit
out = start_page(s.out)

# %% JPEGs to read, and your machine
folder = planet(out / f"tiles-{s.pictures}", n=s.pictures, size=256) / "train-jpg"
data = tiles_of(folder, s.size, s.bs)
loader = data.train_dl
print(device_name(loader.device), "torch", torch.__version__)


# %% From a file to a small picture. A JPEG can be decoded at half its size, which is quicker
def read(reduced=True):
    for file in loader.dataset.files:
        picture = Image.open(file)
        if reduced:
            picture.draft("RGB", (s.size, s.size))
        picture.convert("RGB").resize((s.size, s.size), Image.BILINEAR)
    return s.pictures


figures = race({"read at full size": lambda: read(reduced=False), "read": read}, s.rounds)

# %% From pictures to a batch for the network: make floats, flip, turn and light, normalize
batches = [stack([loader.dataset[i] for i in items]) for items in loader.item_numbers(0)]


def augment():
    return sum(len(loader.ready(x, y, generator_for(0))[0]) for x, y in batches)


figures |= race({"augment": augment}, s.rounds)

# %% The whole input path takes little more of the processor's time than these parts; workers more
# Workers are started for each epoch, which is long for so few pictures. But they read on other
# cores while the network trains. Once all pictures are in memory, nothing is left to read.
in_memory = tiles_of(folder, s.size, s.bs, cache=True)
workers = tiles_of(folder, s.size, s.bs, num_workers=2)
threads = torch.get_num_threads()
torch.set_num_threads(1)                # a thread that waits would count as busy
figures |= race({"read": read, "augment": augment, "no workers": lambda: batches_of(data),
                 "2 workers": lambda: batches_of(workers),
                 "from memory": lambda: batches_of(in_memory)}, s.rounds)
torch.set_num_threads(threads)
ratios = {"no workers / parts": ratio(figures, "no workers", "read", "augment", what="cpu"),
          "2 workers / parts": ratio(figures, "2 workers", "read", "augment", what="cpu"),
          "from memory / augment": ratio(figures, "from memory", "augment", what="cpu")}
print(*(f"{name}: {value:.3f}" for name, value in ratios.items()), sep="\n")


# %% Training: a bare loop, and our Learner, which also prints, checks and keeps a history
def learner(size=s.net_size, bs=s.bs, precision="auto"):
    return cnn_learner(tiles_of(folder, size, bs, cache=True), ARCHS[s.arch], pretrained=False,
                       precision=precision)


bare, ours = learner(), learner()
figures |= race({"bare loop": lambda: bare_loop(bare), "ours": lambda: our_loop(ours)}, s.rounds)
ratios["ours / bare loop"] = ratio(figures, "ours", "bare loop")
print(f"ours / bare loop: {ratios['ours / bare loop']:.3f}")

# %% What can you change? Smaller pictures, smaller batches, another precision
others = {"half the size": learner(s.net_size // 2), "float32": learner(precision="float32"),
          "a quarter of the batch": learner(bs=max(2, s.bs // 4))}
figures |= race({name: partial(bare_loop, learn) for name, learn in others.items()}, s.rounds)

# %% All of it in one picture: the longer a bar, the longer a picture takes
show(bars(figures), out / "bars.png")
results = {"device": device_name(loader.device), "torch": torch.__version__, "ratios": ratios,
           "figures": {name: asdict(figure) for name, figure in figures.items()}}
print(write_atomic(out / "results.json", json.dumps(results).encode()))
