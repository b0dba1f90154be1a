"""Segmentation: a class for every pixel, with a U-Net and its skip connections.

You see that this is classification of pixels, and walk through a U-Net by hand. Then you train one
with skip connections and one without. The lesson takes half a minute. Read next: minifast/unet.py.
"""

from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageDraw
import torch
import torch.nn.functional as F

from minifast.datablock import SegmentationList
from minifast.learner import Learner
from minifast.metrics import foreground_accuracy, mean_iou
from minifast.targets import pixel_loss
from minifast.unet import UNet
from kit.page import show, start_page
from kit.sample_data import camvid
from kit.settings import read_settings


@dataclass
class Settings:
    streets: int = 100           # how many streets to draw; a fifth of them is for validation
    rows: int = 72               # their height in pixels; their width is a third more
    epochs: int = 10             # for each of the two networks
    out: str = "runs/unet"       # where the page and the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% Streets, and a mask for each. In a mask, each pixel is the number of its class
path = camvid(out / f"streets-{s.streets}-{s.rows}", s.streets, s.rows)
codes = (path / "codes.txt").read_text().split()
void = codes.index("Void")                                          # pixels without a label
data = (SegmentationList.from_folder(path / "images").split_by_fname_file("../valid.txt")
        .label_from_func(lambda file: path / "labels" / f"{file.stem}_P.png", classes=codes)
        .transform(size=(s.rows, s.rows * 4 // 3)).databunch(bs=8))
x, y = data.one_batch(train=False)
n, c, h, w = len(x), len(codes), *y.shape[1:]
print(*enumerate(codes), "\nFrom the middle row of a mask:", y[0, h // 2, ::8].tolist())

# %% A network of one layer: it looks at the three colours of a pixel, and scores each class
pixelwise = torch.nn.Conv2d(3, c, kernel_size=1).to(x.device)
logits = pixelwise(x)
print(tuple(x.shape), "->", tuple(logits.shape))                    # (n, 3, h, w) -> (n, c, h, w)

# %% By hand, its loss: put all pixels in one long list, and classify them as you do pictures
listed, truth = logits.movedim(1, -1).reshape(n * h * w, c), y.reshape(n * h * w)
print("as by hand:", torch.allclose(pixel_loss(logits, y), F.cross_entropy(listed, truth)))

# %% By hand, its accuracy: how many of the labelled pixels are right?
labelled = truth != void
by_hand = (listed.argmax(dim=1) == truth)[labelled].float().mean().item()
print(f"by hand {by_hand:.6f} ours {float(foreground_accuracy(logits, y, void)):.6f}")

# %% Through a U-Net by hand. The way down finds out what is there; the way up, where it is
# Each level down halves height and width, and doubles the channels. Each level up also gets what
# the level of the same size gave on the way down. This is a skip connection.
model = UNet(c, channels=16).to(x.device).eval()
level, skips = model.first(x), []
shapes = [level.shape]
for down in model.downs:
    skips.append(level)
    level = down(F.max_pool2d(level, 2, ceil_mode=True))
    shapes.append(level.shape)
for grow, up in zip(model.grows, model.ups):
    skip = skips.pop()
    level = up(torch.cat([grow(level)[..., :skip.shape[2], :skip.shape[3]], skip], dim=1))
    shapes.append(level.shape)
print(*map(tuple, shapes), sep="\n")                                # (n, c, h, w)
print("as by hand:", torch.equal(model.last(level), model(x)))

# %% Draw it: a box as high as the picture and a quarter as wide as its channels. Skips are red
drawing = Image.new("RGB", (860, 400), "white")
pen = ImageDraw.Draw(drawing)
bottom = len(model.downs)
for i, (_, channels, rows, columns) in enumerate(shapes):
    left, middle = 20 + 90 * i, 50 + 75 * min(i, 2 * bottom - i)
    if i < bottom:
        pen.line([(left, middle), (20 + 90 * (2 * bottom - i), middle)], "red", 3)
    pen.rectangle([left, middle - rows // 2, left + channels // 4, middle + rows // 2], "#1f77b4")
    pen.text((left, middle + rows // 2 + 4), f"{channels} x {rows} x {columns}", "black")
show(drawing, out / "u.png")


# %% Cut the skip connections: before each level up, put zeros in their place
def cut(up, inputs):
    below, skip = inputs[0].chunk(2, dim=1)
    return torch.cat([below, torch.zeros_like(skip)], dim=1)


print(cut(None, [torch.ones(1, 4, 1, 1)]).flatten().tolist())

# %% With or without: look at the borders of trees, cars and houses
# mean_iou is the mean over classes of: pixels where truth and prediction agree / where either is.
for name in ("with", "without"):
    torch.manual_seed(42)
    model = UNet(c, channels=16)
    if name == "without":
        for up in model.ups:
            up.register_forward_pre_hook(cut)
    metrics = [partial(metric, void_code=void) for metric in (foreground_accuracy, mean_iou)]
    learn = Learner(data, model, partial(pixel_loss, ignore=void), metrics)
    print(name, "skip connections")
    learn.fit_one_cycle(s.epochs, 1e-2)
    show(learn.show_results(2), out / f"{name}.png")
