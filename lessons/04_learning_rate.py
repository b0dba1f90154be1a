"""Which learning rate? Try them all, from far too low to far too high, and look at the loss.

You do the LR range test by hand, check ours against it, and see why its curve looks as it does,
frozen and unfrozen. Takes half a minute. Read next: minifast/lr_finder.py.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain, repeat

import numpy as np
import torch

from minifast.datablock import ImageList
from minifast.lr_finder import lr_find
from minifast.resnet import resnet18
from minifast.tools.draw import chart
from minifast.tools.files import save_tensors
from minifast.vision import cnn_learner
from kit.page import show, start_page
from kit.sample_data import planet
from kit.settings import read_settings


@dataclass
class Settings:
    tiles: int = 400             # how many tiles to draw, 32 pixels a side
    out: str = "runs/learning_rate"     # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% Small tiles with tags; a body that has been trained on them and is frozen, and a new head
path = planet(out / f"tiles-{s.tiles}", n=s.tiles, size=32)
data = (ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
        .split_by_rand_pct(0.2, seed=42).label_from_csv(label_delim=" ")
        .transform(size=32).databunch(bs=32))
first = cnn_learner(data, resnet18, pretrained=False, ps=0, precision="float32")
first.fit_one_cycle(6, 1e-2)
body = save_tensors(out / "body.pth", first.model.body.state_dict())
learn = cnn_learner(data, resnet18, pretrained=body, ps=0, precision="float32")

# %% By hand: train a copy on 100 batches, on each at a rate a fifth higher than on the one before
model, losses, rates = deepcopy(learn.model), [], [1e-7 * 1e8 ** (t / 100) for t in range(100)]
optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), fused=True)
batches = chain.from_iterable(repeat(replace(data.train_dl)))   # a copy: its epochs do not count
for rate, (x, y) in zip(rates, batches):
    optimizer.param_groups[0]["lr"] = rate
    loss = learn.loss_func(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
show(chart({"loss": (rates, losses)}, "learning rate", "loss", log="xy"), out / "by-hand.png")

# %% Ours is one line, and stops when three losses in a row are far above where they began
# The smoothed loss is a running average, which turns late. So what is marked on it is read off the
# losses, averaged over half a decade to each side. (Losses above its top are drawn at its top.)
curve = lr_find(learn)
print("as by hand:", np.allclose(curve.losses[:60], losses[:60], rtol=1e-3))
show(curve.plot(), out / "frozen.png")

# %% Why that shape? A valley, w squared, and ten steps of gradient descent from w = 1
# Small steps get nowhere: the curve is flat. Good ones descend. Too large ones land higher up on
# the other side: it shoots up. (A net has valleys of all widths at once.)
paths = {"valley": (np.linspace(-2.7, 2.7), np.linspace(-2.7, 2.7) ** 2)}
for lr in (0.02, 0.3, 1.05):                            # each step multiplies w by 1 - 2 lr
    w = (1 - 2 * lr) ** np.arange(11)
    paths[f"lr {lr}"] = w, w ** 2
show(chart(paths, "w", "loss"), out / "valley.png")

# %% Frozen body: a new head has much to learn. Take the rate at which the loss falls steepest
# At its lowest, steps already do as much harm as good. See what far other rates would have done.
found = curve.suggest()
print(found.reason)
runs, best = {}, found.lr or 0.01                       # None: no clear answer
for lr in (best / 1000, best * 100, best):
    print("lr", lr)
    (trained := deepcopy(learn)).fit(3, lr)
    runs[f"lr {lr:g}"] = range(len(trained.recorder.losses)), trained.recorder.losses
show(chart(runs, "batch", "loss", log="y"), out / "too-low-too-high.png")

# %% Unfrozen: what is trained can hardly gain, and from the elbow on it is damaged
# First layers, worth keeping: ten times back from there. Head: a fifth of what it just had, `best`.
trained.unfreeze()
curve = lr_find(trained)
show(curve.plot(), out / "unfrozen.png")
print(curve.suggest(earlier_lr=best, div=5).reason)
