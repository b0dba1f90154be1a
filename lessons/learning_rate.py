"""Which learning rate? Try them all, from far too low to far too high, and look at the loss.

You do the LR range test by hand, check ours against it, and see why its curve looks as it does,
frozen and unfrozen. Takes half a minute. Read first: minifast/lr_finder.py, minifast/lr_rule.py.
"""

from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import torch

from minifast.datablock import ImageList
from minifast.draw import chart
from minifast.files import save_tensors
from minifast.lr_finder import lr_find
from minifast.resnet import resnet18
from minifast.vision import cnn_learner
from page import show, start_page
from sample_data import planet
from settings import read_settings


@dataclass
class Settings:
    tiles: int = 400             # how many tiles to draw, 32 pixels a side
    seed: int = 42               # of first weights and of the order of the tiles
    out: str = "runs/learning_rate"     # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% Small tiles with tags; a body that has been trained on them and is frozen, and a new head
path = planet(out / f"tiles-{s.tiles}", n=s.tiles, size=32)
data = (ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
        .split_by_rand_pct(0.2, seed=42).label_from_csv(label_delim=" ")
        .transform(size=32).databunch(bs=32, seed=s.seed))
first = cnn_learner(data, resnet18, pretrained=False, ps=0, precision="float32", seed=s.seed)
first.fit_one_cycle(6, 1e-2)
body = save_tensors(out / "body.pth", first.model.body.state_dict())
learn = cnn_learner(data, resnet18, pretrained=body, ps=0, precision="float32", seed=s.seed)

# %% By hand: train on 100 batches, on each at a rate that is a fifth higher than on the last
# It happens to a copy, so the net stays as it is. That is the whole test.
model, losses, rates = deepcopy(learn.model), [], [1e-7 * 1e8 ** (t / 100) for t in range(100)]
optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), fused=True)
epochs = map(data.train_dl.batches, count(data.train_dl.epoch))         # one after the other
for rate, (x, y) in zip(rates, chain.from_iterable(epochs)):
    optimizer.param_groups[0]["lr"] = rate
    loss = learn.loss_func(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
show(chart({"loss": (rates, losses)}, "learning rate", "loss", log="xy"), out / "by-hand.png")

# %% Ours is one line. Its picture has a running average too, which is smoother but turns later
curve = lr_find(learn)                      # it stops when the loss is four times the best
print("as by hand:", np.allclose(curve.losses[:60], losses[:60], rtol=1e-3))
show(curve.plot(), out / "frozen.png")

# %% Why that shape? A valley, w squared, and ten steps of gradient descent from w = 1
# Small steps get nowhere: there the curve is flat. Good ones descend. Too large ones land higher
# up on the other side: there the curve shoots up. (A net has valleys of all widths at once.)
w = np.linspace(-2.5, 2.5, 100)
paths = {"valley": (w, w ** 2)}
for lr in (0.02, 0.3, 1.05):                            # each step multiplies w by 1 - 2 lr
    w = (1 - 2 * lr) ** np.arange(11)
    paths[f"lr {lr}"] = w, w ** 2
show(chart(paths, "w", "loss"), out / "valley.png")

# %% Frozen body: take the rate where it falls steepest, and see what others would have done
found = curve.suggest()
print(found.lr, "because", found.reason)
runs, best = {}, found.lr or 0.01           # None where the curve gives no clear answer
for lr in (best / 1000, best * 100, best):
    tried = deepcopy(learn)
    tried.fit(3, lr)
    runs[f"lr {lr:g}"] = range(len(tried.recorder.losses)), tried.recorder.losses
show(chart(runs, "batch", "loss", log="y"), out / "too-low-too-high.png")

# %% Unfrozen: what is trained already is flat, then worse. Go back ten times from the elbow
# That is for the first layers; the head, which came with its own rate, gets a fifth of that.
tried.unfreeze()
curve = lr_find(tried)
show(curve.plot(), out / "unfrozen.png")
found = curve.suggest(earlier_lr=best, div=5)
print(found.lr, "because", found.reason)
