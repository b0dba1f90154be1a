"""Which learning rate? Try them all, from far too low to far too high, and look at the loss.

You do the LR range test by hand and compare it with ours. Then you see why its curve looks as it
does, first with a frozen body and then with the whole network. The lesson takes half a minute. Read
next: minifast/lr_finder.py.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

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
    tiles: int = 400                    # how many tiles to draw, 32 pixels a side
    out: str = "runs/learning_rate"     # where the page and the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% Small tiles with their tags
path = planet(out / f"tiles-{s.tiles}", n=s.tiles, size=32)
data = (ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
        .split_by_rand_pct(0.2, seed=42)
        .label_from_csv(label_delim=" ")
        .transform(size=32).databunch(bs=32))

# %% A network with a trained body and a new head. The body is frozen: it does not change
first = cnn_learner(data, resnet18, pretrained=False, ps=0, precision="float32")
first.fit_one_cycle(6, 1e-2)
body = save_tensors(out / "body.pth", first.model.body.state_dict())
learn = cnn_learner(data, resnet18, pretrained=body, ps=0, precision="float32")

# %% By hand: train a copy on 100 batches, and raise the rate by a fifth after each batch
# Why a copy? The test trains at rates that are far too high, and you still want to use the network.
model = deepcopy(learn.model)
optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), fused=True)
loader = replace(data.train_dl)                         # a copy too, because it counts its epochs
rates, losses = [], []
while len(losses) < 100:
    for x, y in loader:
        rates.append(1e-7 * 1e8 ** (len(rates) / 100))  # from 1e-7 to 10
        optimizer.param_groups[0]["lr"] = rates[-1]
        loss = learn.loss_func(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == 100:
            break
show(chart({"loss": (rates, losses)}, "learning rate", "loss", log="xy"), out / "by-hand.png")

# %% Ours is one line. It stops early, when three losses in a row are far above the first ones
# In the picture, losses above the top of the red line are drawn at this top. The red line is a
# running average, which turns late. The mark is found otherwise, from averages to both sides.
curve = lr_find(learn)
print("as by hand:", np.allclose(curve.losses[:60], losses[:60], rtol=1e-3))
show(curve.plot(), out / "frozen.png")

# %% Why this shape? Walk down a valley, w squared, in ten steps of gradient descent from w = 1
# A low rate hardly moves. A good one gets down. A rate that is too high climbs the other side.
valley = np.linspace(-2.7, 2.7)
paths = {"valley": (valley, valley ** 2)}
for lr in (0.02, 0.3, 1.05):
    w = [1.0]
    for step in range(10):
        w.append(w[-1] - lr * 2 * w[-1])                # the gradient of w squared is 2 w
    paths[f"lr {lr}"] = w, np.square(w)
show(chart(paths, "w", "loss"), out / "valley.png")

# %% With a frozen body, a new head has much to learn. Take the rate where the loss falls steepest
# Not the rate where the loss is lowest: there, steps already do as much harm as good.
found = curve.suggest()
print(found.reason)

# %% Is it a good rate? Compare it with a rate that is far too low, and one that is far too high
# It comes last, so `trained` ends as the network that had this rate.
best = found.lr or 0.01                                 # lr is None if the curve is not clear
runs = {}
for lr in (best / 1000, best * 100, best):
    print("lr", lr)
    trained = deepcopy(learn)
    trained.fit(3, lr)
    runs[f"lr {lr:g}"] = range(len(trained.recorder.losses)), trained.recorder.losses
show(chart(runs, "batch", "loss", log="y"), out / "too-low-too-high.png")

# %% Unfreeze: now the curve is flat, and then it shoots up. Trained layers have little to gain
# Find the elbow, where it begins to rise, and go back ten times. This is the rate of the first
# layers. The head gets the rate that it was trained with before, divided by 5 or 10. (Every batch
# has another loss, so a flat curve looks like noise. You see the rise at the right.)
trained.unfreeze()
curve = lr_find(trained)
show(curve.plot(), out / "unfrozen.png")
print(curve.suggest(earlier_lr=best, div=5).reason)
