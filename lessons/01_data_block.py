"""The data block: six steps from a folder of files to batches that a model can take.

You do by hand what they do, a Dataset and a DataLoader; then you take the steps one at a time, and
look at what each object holds. Takes seconds. Read next: minifast/dataset.py, minifast/datablock.py
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
import torch

from minifast.datablock import ImageList
from minifast.loader import imagenet_stats
from minifast.transforms import get_transforms
from kit.page import show, start_page
from kit.sample_data import planet
from kit.settings import read_settings


@dataclass
class Settings:
    out: str = "runs/data_block"    # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% On the disk: a folder of pictures, and a table that says which tags each of them has
path = planet(out / "tiles", n=60, size=64)
table = (path / "train_v2.csv").read_text().splitlines()
print(*table[:4], "...", sep="\n")


# %% By hand, a Dataset: anything that has a length, and an item for each number
class Tiles:
    names, tags = zip(*(line.split(",") for line in table[1:]))
    classes = sorted({tag for each in tags for tag in each.split()})

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = np.array(Image.open(path / "train-jpg" / f"{self.names[i]}.jpg"))  # (h, w, 3)
        answers = [float(tag in self.tags[i].split()) for tag in self.classes]
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.tensor(answers)  # (3, h, w), (c)


tiles = Tiles()
picture, target = tiles[0]
print(len(tiles), "items; a picture", tuple(picture.shape), "and a 0 or 1 per class:", target)

# %% By hand, a batch: some items, stacked. A DataLoader does that again and again, in any order
x, y = (torch.stack(parts) for parts in zip(*(tiles[i] for i in (5, 3, 8, 1))))
x2, y2 = next(iter(torch.utils.data.DataLoader(tiles, batch_size=4, sampler=[5, 3, 8, 1])))
print(tuple(x.shape), tuple(y.shape), "as torch's:", torch.equal(x, x2) and torch.equal(y, y2))

# %% Step 1 of the six: which files? (In the lecture `ImageFileList`, soon after `ImageItemList`)
items = ImageList.from_csv(path, "train_v2.csv", folder="train-jpg", suffix=".jpg")
print(len(items.files), "files; split:", items.train, "labels:", items.labels)

# %% Step 2: which of them are kept for validation? (The lecture labelled first, and split then)
# Not at random where they are a film: then neighbours, nearly the same, would be on both sides.
split = items.split_by_rand_pct(0.2, seed=42)           # a new list; `items` is as it was
print(len(split.train), "to train on,", len(split.valid), "to validate; before:", items.train)

# %% Step 3: which label has each? Now it knows the classes, and what kind of target they make
src = split.label_from_csv(label_delim=" ")
print(type(src.target).__name__, "of", len(src.target.classes), "classes; tile 0:", *src.labels[0])
print("as by hand:", torch.equal(src.target.encode(src.labels[0]), target))

# %% Step 4: which size, and what is done to them at random, in training alone?
sized = src.transform(get_transforms(flip_vert=True, max_warp=0.), size=64)
print(sized.size, sized.tfms)

# %% Step 5, if there is one: which are without labels, for a test? (Here, the same ones again)
tested = sized.add_test_folder("train-jpg")
print(len(tested.test), "files, from", tested.test[0].name, "on, sorted as text")

# %% Step 6: how many at once? The DataBunch holds three loaders, and each of them holds a Dataset
# It is no Dataset and no DataLoader itself, whatever notes of the lecture say.
data = tested.databunch(bs=8).normalize(imagenet_stats)
print([f"{len(loader)} batches of a {type(loader.dataset).__name__} of {len(loader.dataset)}"
       for loader in (data.train_dl, data.valid_dl, data.test_dl)])
mean, std = (torch.tensor(part)[:, None, None] for part in imagenet_stats)      # (3, 1, 1)
by_hand = (torch.stack([tiles[i][0] for i in src.valid[:8]]) / 255 - mean) / std
print("as by hand:", torch.allclose(data.one_batch(train=False)[0].cpu(), by_hand, atol=1e-6))
show(data.show_batch(rows=2), out / "batch.png")
