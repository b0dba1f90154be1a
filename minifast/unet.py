"""U-Nets: a class for every pixel.

On the way down, the picture shrinks and gets more channels: the network learns what is there and
forgets where. On the way up, skip connections tell where: each level also gets the features of the
same size from the way down.

    picture > first ------- skip connection ------> up > classes
                down ------ skip connection ----> up
                  down ---- skip connection --> up
                    down -------------------->

UNet is small and plain. DynamicUNet goes down through any trained body. Both accept pictures of any
size. Source: Ronneberger et al. 2015, arXiv 1505.04597.
"""

from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
import torch.nn.functional as F


class UNet(nn.Module):
    """A U-Net to be trained from scratch: (n, 3, h, w) -> (n, classes, h, w) logits. Each of the
    `levels` down doubles the channels, and halves height and width."""

    def __init__(self, classes: int, channels: int = 32, levels: int = 4):
        super().__init__()
        widths = [channels * 2 ** level for level in range(levels)]     # of the skip connections
        self.first = double_conv(3, channels)
        self.downs = nn.ModuleList(double_conv(c, 2 * c) for c in widths)
        self.grows = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in reversed(widths))
        self.ups = nn.ModuleList(double_conv(2 * c, c) for c in reversed(widths))
        self.last = nn.Conv2d(channels, classes, 1)
        self.recipe = {"kind": "UNet", "channels": channels, "levels": levels}  # for export

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        x = self.first(x)
        for down in self.downs:
            skips.append(x)
            # ceil_mode, because otherwise an odd last row or column would be lost.
            x = down(F.max_pool2d(x, 2, ceil_mode=True))                    # (n, 2c, h/2, w/2)
        for grow, up, skip in zip(self.grows, self.ups, reversed(skips)):
            h, w = skip.shape[-2:]
            x = up(torch.cat([grow(x)[..., :h, :w], skip], dim=1))          # (n, c, h, w)
        return self.last(x)


def double_conv(c_in: int, c_out: int) -> nn.Sequential:
    """Twice a 3x3 convolution without bias, BatchNorm and ReLU, from c_in to c_out channels."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(True))


class DynamicUNet(nn.Module):
    """fastai v1's U-Net, as unet_learner makes it: (n, 3, h, w) -> (n, classes, h, w) logits.
    Source: fastai v1, vision/models/unet.py.

    body    layers one after the other. What goes into a layer that makes the picture smaller is a
            skip connection
    bottle  whether `cross` has half as many channels between its two convolutions

    An example: resnet34 and 12 classes. From top to bottom, the skip connections have 64, 64, 128
    and 256 channels, and the body ends with 512. An Up outputs half of the channels from below plus
    those of the skip connection. The last Up has the largest pictures, and outputs half of that.

        middle  512 -> 1024 -> 512
        ups     512/2 + 256 = 512    512/2 + 128 = 384    384/2 + 64 = 256    (256/2 + 64)/2 = 96
        cross   96 + 3 of the picture itself = 99; two convolutions add to them; then 99 -> 12
    """

    def __init__(self, body: nn.Sequential, classes: int, bottle: bool = False):
        super().__init__()
        self.body = body
        shapes = shapes_in(body)
        self.skipped = [number for number, (shape, after) in enumerate(pairwise(shapes))
                        if after[1:] != shape[1:]]
        c = shapes[-1][0]
        self.middle = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), conv_relu(c, 2 * c),
                                    conv_relu(2 * c, c))
        self.ups = nn.ModuleList()
        for number in reversed(self.skipped):
            c_skip = shapes[number][0]
            c_out = (c // 2 + c_skip) // (2 if number == self.skipped[0] else 1)
            self.ups.append(Up(c, c_skip, c_out))
            c = c_out
        # Some bodies, such as VGG's, have their first skip connection at the picture's own size.
        self.shuffle = nn.Identity() if shapes[0][1:] == (64, 64) else pixel_shuffle(c, c)
        c += 3
        inner = c // 2 if bottle else c
        self.cross = nn.Sequential(conv_relu(c, inner), conv_relu(inner, c))
        self.last = conv_relu(c, classes, size=1)[0]            # the convolution without its ReLU

    def forward(self, x: Tensor) -> Tensor:
        picture, skips = x, []
        for number, layer in enumerate(self.body):
            x = layer(x)
            if number in self.skipped:
                skips.append(x)
        x = self.middle(x)
        for up, skip in zip(self.ups, reversed(skips)):
            x = up(x, skip)                                     # (n, c, h, w) of the skip
        x = F.interpolate(self.shuffle(x), picture.shape[-2:])              # if a side was odd
        x = torch.cat([x, picture], dim=1)                                  # (n, c + 3, h, w)
        return self.last(x + self.cross(x))


class Up(nn.Module):
    """One level up: x (n, c_in, h, w) and a skip connection (n, c_skip, H, W) -> (n, c_out, H, W).
    x gets half its channels at twice the size, and is joined with the skip connection."""

    def __init__(self, c_in: int, c_skip: int, c_out: int):
        super().__init__()
        self.shuffle, self.norm = pixel_shuffle(c_in, c_in // 2), nn.BatchNorm2d(c_skip)
        self.convs = nn.Sequential(conv_relu(c_in // 2 + c_skip, c_out), conv_relu(c_out, c_out))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.shuffle(x), skip.shape[-2:])     # nearest: sides that were odd
        return self.convs(F.relu(torch.cat([x, self.norm(skip)], dim=1)))


def conv_relu(c_in: int, c_out: int, size: int = 3) -> nn.Sequential:
    """(n, c_in, h, w) -> (n, c_out, h, w): a size x size convolution with a bias, then ReLU. The
    weights begin as kaiming_normal_, the bias as 0. There is no BatchNorm, as in v1."""
    conv = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


def pixel_shuffle(c_in: int, c_out: int) -> nn.Sequential:
    """Twice the size, (n, c_in, h, w) -> (n, c_out, 2h, 2w): a 1x1 conv_relu gives 4 * c_out
    channels, and each four of them become 2x2 pixels of one (nn.PixelShuffle). The four begin with
    the same weights (ICNR), so there is no chessboard pattern to unlearn.
    Source: Aitken et al. 2017, arXiv 1707.02937."""
    grow = conv_relu(c_in, 4 * c_out, size=1)
    with torch.no_grad():
        grow[0].weight.copy_(grow[0].weight[::4].repeat_interleave(4, dim=0))
    return nn.Sequential(grow, nn.PixelShuffle(2))


def shapes_in(body: nn.Sequential) -> list[tuple[int, int, int]]:
    """(channels, h, w) after each child of the body, for a picture of 64 x 64."""
    x, shapes = torch.zeros(1, 3, 64, 64), []
    with torch.no_grad():
        for layer in deepcopy(body).eval():     # a copy, as the body itself may be in training
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    return shapes
