"""Segmentation: a class for every pixel. How a U-Net is wired, and what its bridges carry.

You see that it is classification, of pixels; you draw the U from a model; then you train one with
its bridges and one without. Takes half a minute. Read next: minifast/unet.py.
"""

from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageDraw
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.datablock import SegmentationList
from minifast.learner import Learner
from minifast.metrics import foreground_accuracy, mean_iou
from minifast.targets import pixel_loss
from minifast.tools.seeds import seeded
from minifast.unet import UNet
from kit.page import show, start_page
from kit.sample_data import camvid
from kit.settings import read_settings


@dataclass
class Settings:
    streets: int = 100           # how many to draw; a fifth of them is for validation
    rows: int = 72               # pixels of a street's height; its width is a third more
    epochs: int = 10             # of each of the two nets
    out: str = "runs/unet"       # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% Streets, and for each a mask: of every pixel the number of its class
path = camvid(out / f"streets-{s.streets}-{s.rows}", s.streets, s.rows)
codes = (path / "codes.txt").read_text().split()
sized = (SegmentationList.from_folder(path / "images").split_by_fname_file("../valid.txt")
         .label_from_func(lambda file: path / "labels" / f"{file.stem}_P.png", classes=codes)
         .transform(size=(s.rows, s.rows * 4 // 3)))
x, y = sized.databunch(bs=8).one_batch(train=False)
print(tuple(x.shape), "from a row of a mask:", *y[0, s.rows // 2, ::8].tolist(), *enumerate(codes))

# %% A net of one layer, 1x1: it looks at a pixel's three colours alone, and scores each class
# Lay all pixels in one column, and it is a classifier of the kind you know, with its loss.
with seeded(42):
    pixelwise, model = nn.Conv2d(3, len(codes), 1), UNet(len(codes), channels=16)
logits, void = pixelwise.to(x.device)(x), codes.index("Void")                       # (n, c, h, w)
column, truth = logits.movedim(1, -1).flatten(0, 2), y.flatten()                    # (n*h*w, c)
print("as by hand:", torch.allclose(pixel_loss(logits, y), F.cross_entropy(column, truth)))
right = (column.argmax(dim=1) == truth)[truth != void].float().mean()
print(f"by hand {right:.6f} ours {float(foreground_accuracy(logits, y, void)):.6f}")

# %% A U-Net looks around: less and less where on the way down, more and more what; then up again
# Watch what comes out of each level: channels, rows and columns. Bridges, in red, join equal sizes.
shapes, bottom = [], len(model.downs)
for level in (model.first, *model.downs, *model.ups):
    level.register_forward_hook(lambda level, x, y: shapes.append(tuple(y.shape[1:])))
model.to(x.device)(x)
pen = ImageDraw.Draw(u := Image.new("RGB", (860, 400), "white"))
for number, (c, h, w) in enumerate(shapes):                 # a box as high as h, as wide as c / 4
    left, middle = 20 + 90 * number, 50 + 75 * (bottom - abs(bottom - number))
    if number < bottom:
        pen.line([(left, middle), (20 + 90 * (2 * bottom - number), middle)], "red", 3)
    pen.rectangle([left, middle - h // 2, left + c // 4, middle + h // 2], "#1f77b4")
    pen.text((left, middle + h // 2 + 4), f"{c} x {h} x {w}", "#222222", font_size=13)
show(u, out / "u.png")


# %% With bridges, and without: there, zeros come over them, and what is small cannot be found again
# Before fastai 1.0.59 no gradient came back over them; and the lecture's went up bilinearly.
def cut(up: nn.Module, args: tuple[Tensor]) -> Tensor:
    below, bridge = args[0].chunk(2, dim=1)
    return torch.cat([below, torch.zeros_like(bridge)], dim=1)


print("the bridge is cut:", cut(nn.Identity(), (torch.ones(1, 4, 1, 1),)).flatten().tolist())
for name in ("with bridges", "without"):
    with seeded(42):
        model = UNet(len(codes), channels=16)
    for up in model.ups if name == "without" else []:
        up.register_forward_pre_hook(cut)
    learn = Learner(sized.databunch(bs=8), model, partial(pixel_loss, ignore=void),
                    [partial(f, void_code=void) for f in (foreground_accuracy, mean_iou)])
    print(name)
    learn.fit_one_cycle(s.epochs, 1e-2)
    show(learn.show_results(2), out / f"{name.replace(' ', '-')}.png")
