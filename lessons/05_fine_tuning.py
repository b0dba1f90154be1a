"""Fine-tuning: keep what a body knows, train a new head, then all of it, then on bigger pictures.

You see what is frozen, why BatchNorm is not, and how one learning rate becomes one for each layer
group. Takes half a minute. Read first: minifast/groups.py.
"""

from dataclasses import dataclass

import torch

from minifast.datablock import ImageList
from minifast.databunch import DataBunch
from minifast.groups import group_rates
from minifast.resnet import resnet18
from minifast.tools.files import save_tensors
from minifast.vision import cnn_learner
from kit.page import show, start_page
from kit.sample_data import WEATHER, planet
from kit.settings import read_settings


@dataclass
class Settings:
    tiles: int = 250             # how many tiles to draw; a fifth of them is for validation
    size: int = 64               # pixels a side; in the end twice that
    out: str = "runs/fine_tuning"   # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% A body that knows pictures of another kind: it learns the weather on negatives of the tiles
# (valid_loss jumps at first: what BatchNorm remembers is still of random weights.)
path = planet(out / f"tiles-{s.tiles}-{2 * s.size}", n=s.tiles, size=2 * s.size)
split = (ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
         .split_by_rand_pct(0.2, seed=42))
src = split.label_from_csv(label_delim=" ")
weather = {file: min({*WEATHER, "cloudy"} & {*tags}) for file, tags in zip(src.files, src.labels)}


def loaders(labelled: ImageList, size: int) -> DataBunch:
    return labelled.transform(size=size).databunch(bs=32)


negatives = loaders(split.label_from_func(weather.get), s.size).normalize(([1] * 3, [-1] * 3))
first = cnn_learner(negatives, resnet18, ["accuracy"], pretrained=False)    # (x - 1) / -1 = 1 - x
first.fit_one_cycle(7, 1e-2)
body = save_tensors(out / "body.pth", first.model.body.state_dict())

# %% A new head, for tags. Layers are in three groups: first part of the body, the rest, the head
# Of the body only the few numbers of its BatchNorm train, see the last column: the rest is frozen.
learn = cnn_learner(loaders(src, s.size), resnet18, ["fbeta"], pretrained=body)
print(learn.summary())


# %% Why not BatchNorm? It remembers mean and deviation of what it saw, to subtract and to divide by
# In training it takes those of each batch, and what it remembers moves, frozen or not: so its own
# weights may move as well. How far are its means from those of your tiles, in deviations?
def off() -> float:
    conv1, bn1 = learn.model.body[:2]
    with torch.no_grad():
        seen = torch.cat([conv1(x) for x, _ in learn.data.valid_dl])    # (n, c, h, w)
    return ((seen.mean((0, 2, 3)) - bn1.running_mean) / bn1.running_var.sqrt()).abs().mean().item()


before = off()
learn.fit_one_cycle(4, slice(1e-2))
print(f"off by {before:.2f} before, by {off():.2f} after it")

# %% A slice is a rate for each group: (last) has a tenth for the others, (first, last) equal ratios
# In the lecture's fastai it was a third; and rates rose on a straight line there, today along half
# a cosine. Unfrozen, the head gets a fifth of the rate that it had.
print(group_rates(slice(1e-2), 3), group_rates(slice(5e-4, 2e-3), 3))
learn.unfreeze()
learn.fit_one_cycle(3, slice(5e-4, 2e-3))
print(learn.summary())

# %% Twice the size: what is now fine-tuned is what you start from. "A finetuned finetuned model"
learn.data = loaders(src, 2 * s.size)
learn.freeze()                  # the CamVid notebook makes a new learner instead, which is frozen
learn.fit_one_cycle(2, slice(5e-3))
learn.unfreeze()
learn.fit_one_cycle(2, slice(2e-4, 1e-3))
print("batches", tuple(learn.data.one_batch()[0].shape))
show(learn.recorder.plot_losses(), out / "losses.png")

# %% Why not below 64? A resnet halves five times: of 32 pixels a single one is left, of 64 four
for size in (32, 64, 128):
    print(size, "->", tuple(learn.model.body(loaders(src, size).one_batch()[0]).shape))
