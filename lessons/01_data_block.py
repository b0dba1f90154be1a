"""The data block: six steps from a folder of files to batches that a model can take.

First you write a Dataset and a batch by hand. Then you take the six steps, one in each cell, and
look at what you have after it. The lesson takes seconds. Read next: minifast/dataset.py and
minifast/datablock.py.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
import torch
from torch.utils.data import DataLoader

from minifast.datablock import ImageList
from minifast.loader import imagenet_stats
from minifast.transforms import get_transforms
from kit.page import show, start_page
from kit.sample_data import planet
from kit.settings import read_settings


@dataclass
class Settings:
    out: str = "runs/data_block"    # where the page and the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% What is on the disk: a folder of tiles, and a table with the tags of each tile
# A tile may have any number of tags. A folder for each class would not do, so there is a table.
path = planet(out / "tiles", n=60, size=64)
header, *table = (path / "train_v2.csv").read_text().splitlines()
print(header, *table[:3], "...", sep="\n")


# %% By hand, a Dataset: anything with a length, and an item for each number
# An item is a pair: the picture, and a target with a 1 for each of the c classes that it has.
class Tiles:
    def __init__(self):
        rows = [row.split(",") for row in table]
        self.files = [path / "train-jpg" / f"{name}.jpg" for name, tags in rows]
        self.tags = [tags.split() for name, tags in rows]
        self.classes = sorted(set(sum(self.tags, [])))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        picture = torch.from_numpy(np.array(Image.open(self.files[i])))     # (h, w, 3)
        target = torch.tensor([float(name in self.tags[i]) for name in self.classes])
        return picture.permute(2, 0, 1), target                             # (3, h, w), (c)


tiles = Tiles()
picture, target = tiles[0]
print(len(tiles), "items. The picture of item 0:", tuple(picture.shape), "Its target:", target)

# %% By hand, a batch: take some items, and stack their pictures and their targets
pictures, targets = zip(*[tiles[i] for i in (5, 3, 8, 1)])
x, y = torch.stack(pictures), torch.stack(targets)
print("x", tuple(x.shape), "y", tuple(y.shape))                 # (n, 3, h, w) and (n, c)

# %% A DataLoader does the same again and again, until it has gone through all items
x2, y2 = next(iter(DataLoader(tiles, batch_size=4, sampler=[5, 3, 8, 1])))
print("as by hand:", torch.equal(x, x2) and torch.equal(y, y2))

# %% Step 1: which files? In the lecture, ImageList was still called ImageFileList
items = ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
print(len(items.files), "files; the first is", items.files[0].name)

# %% Step 2: which of them are for validation? In the lecture, this step came after step 3
# Each step returns a new list. The list that you called it on stays as it was.
split = items.split_by_rand_pct(0.2, seed=42)
print(len(split.train), "for training,", len(split.valid), "for validation")
print("the old list is still not split:", items.train)

# %% Step 3: which label does each file have? From here on, the list knows all classes
src = split.label_from_csv(label_delim=" ")
print(type(src.target).__name__, "of", len(src.target.classes), "classes")
print("as by hand:", torch.equal(src.target.encode(src.labels[0]), target))

# %% Step 4: which size, and which random changes? Only training pictures are changed at random
sized = src.transform(get_transforms(flip_vert=True, max_warp=0.), size=64)
print("size", sized.size, "changes", sized.tfms)

# %% Step 5 is optional: which files have no labels, and are for a test? Here, the same tiles again
tested = sized.add_test_folder("train-jpg")
print(len(tested.test), "files for a test")

# %% Step 6: how many in a batch? Now you have a DataBunch
# Notes of the lecture say that it is a Dataset and a DataLoader. In fact it holds three loaders,
# and each loader holds a Dataset.
data = tested.databunch(bs=8).normalize(imagenet_stats)
for loader in (data.train_dl, data.valid_dl, data.test_dl):
    print(len(loader), "batches from a", type(loader.dataset).__name__, "of", len(loader.dataset))
print("data.c, how many outputs a model needs:", data.c)

# %% What normalize does: numbers from 0 to 1, minus ImageNet's mean, divided by its deviation
mean, std = (torch.tensor(each)[:, None, None] for each in imagenet_stats)          # (3, 1, 1)
by_hand = torch.stack([(tiles[i][0] / 255 - mean) / std for i in src.valid[:8]])    # (n, 3, h, w)
x, y = data.one_batch(train=False)
print("as by hand:", torch.allclose(x.cpu(), by_hand, atol=1e-6))

# %% A training batch: each tile is flipped, turned, zoomed and lit at random
show(data.show_batch(rows=2), out / "batch.png")
