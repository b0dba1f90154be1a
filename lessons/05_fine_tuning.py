"""Fine-tuning: keep what a body knows, train a new head, then all of it, then on bigger pictures.

You see what is frozen and why BatchNorm is not, and how one learning rate becomes a rate for each
layer group. The lesson takes half a minute. Read next: minifast/groups.py.
"""

from dataclasses import dataclass

import torch

from minifast.datablock import ImageList
from minifast.groups import group_rates
from minifast.resnet import resnet18
from minifast.tools.files import save_tensors
from minifast.vision import cnn_learner
from kit.page import show, start_page
from kit.sample_data import planet, weather_in
from kit.settings import read_settings


@dataclass
class Settings:
    tiles: int = 250                # how many tiles to draw
    size: int = 64                  # pixels a side, and twice as many at the end
    out: str = "runs/fine_tuning"   # where the page and the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% The data: tiles with their tags
path = planet(out / f"tiles-{s.tiles}-{2 * s.size}", n=s.tiles, size=2 * s.size)
split = (ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
         .split_by_rand_pct(0.2, seed=42))
src = split.label_from_csv(label_delim=" ")
print(len(src.train), "tiles for training,", len(src.target.classes), "tags")

# %% A body that knows pictures of another kind: negatives of the tiles
# A small task stands in for ImageNet: say which of four kinds of weather a negative shows. The
# first valid_losses are huge, since the running means of BatchNorm lag behind the weights.
weather = dict(zip(src.files, map(weather_in, src.labels)))
negatives = (split.label_from_func(weather.get).transform(size=s.size).databunch(bs=32)
             .normalize(([1, 1, 1], [-1, -1, -1])))                     # (x - 1) / -1 = 1 - x
first = cnn_learner(negatives, resnet18, ["accuracy"], pretrained=False)
first.fit_one_cycle(7, 1e-2)
body = save_tensors(out / "body.pth", first.model.body.state_dict())


# %% A new head on this body. The layers are in three groups: body's first part, its rest, the head
# The last column counts the numbers that training changes. In a frozen group, a few still change.
def loaders(size):
    return src.transform(size=size).databunch(bs=32)


learn = cnn_learner(loaders(s.size), resnet18, ["fbeta"], pretrained=body)
print(learn.summary())

# %% These few belong to BatchNorm. It remembers what was usual in training, here for negatives
# It subtracts the mean of each channel, and divides by the standard deviation. How many deviations
# are the means that it remembers away from those of your tiles?
conv, norm = learn.model.body[:2]


def distance():
    with torch.no_grad():
        outputs = torch.cat([conv(x) for x, y in learn.data.valid_dl])  # (n, c, h, w)
    means = outputs.mean((0, 2, 3))                                     # (c)
    return ((means - norm.running_mean) / norm.running_var.sqrt()).abs().mean().item()


print(f"before training: {distance():.2f} deviations")

# %% Train the head. BatchNorm gets used to the tiles meanwhile, even in a frozen body
# So what comes after BatchNorm changes. For this reason its own scale and shift stay trainable.
learn.fit_one_cycle(4, slice(1e-2))
print(f"after training: {distance():.2f} deviations")

# %% One cycle: the rate rises to the one that you gave, and falls again until the last batch
# In the lecture's fastai it rose on a straight line. Today it rises on half a cosine.
show(learn.recorder.plot_lr(), out / "one-cycle.png")

# %% A slice gives a rate to each group. With one number, the others get a tenth of the head's rate
print("slice(1e-2):", group_rates(slice(1e-2), 3))        # in the lecture's fastai, a third

# %% With two numbers, each group's rate is the rate of the group before, times the same factor
# Early layers know edges and colours, which all pictures have. So they need to change least.
print("slice(5e-4, 2e-3):", group_rates(slice(5e-4, 2e-3), 3))

# %% Unfreeze, and train all groups. The head gets a fifth of the rate that it had before
# Watch valid_loss: F2 on 50 tiles is noisy.
learn.unfreeze()
learn.fit_one_cycle(3, slice(5e-4, 2e-3))
print(learn.summary())

# %% Go on with pictures of twice the size. To the network, this is almost a new data set
# A ResNet takes any size, so the same network goes on from what it knows. Freeze it, and train the
# head. Then unfreeze it again.
learn.data = loaders(2 * s.size)
print("a batch is now", tuple(learn.data.one_batch()[0].shape))
learn.freeze()
learn.fit_one_cycle(2, slice(5e-3))
learn.unfreeze()
learn.fit_one_cycle(2, slice(2e-4, 1e-3))
show(learn.recorder.plot_losses(), out / "losses.png")

# %% Why not below 64 pixels? A ResNet halves a picture five times. Of 32 pixels, one is left
# Then the last layers cannot tell any more where something is.
for size in (32, 64, 128):
    x, y = loaders(size).one_batch()
    print(size, "->", tuple(learn.model.body(x).shape))                 # (n, c, h, w)
