"""U-Nets (Ronneberger et al. 2015, arXiv 1505.04597): a class for every pixel.

On the way down a picture gets smaller and has more channels: the net learns what is there, and less
and less where. On the way up, bridges tell it where: each level gets, beside what comes from below,
what the way down had at that size.

    picture > first ----------- bridge -----------> up > classes
                down ---------- bridge ---------> up
                  down -------- bridge -------> up
                    down ------ bridge -----> up
                      down ------------------>

Both nets here take pictures of any height and width, and remember none.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast import check
from minifast.training import evaluating


class UNet(nn.Module):
    """Small and plain, to be trained from scratch: (n, 3, h, w) -> (n, classes, h, w).

    channels  of the first level; each level down has twice as many, at half the height and width
    levels    how many times the picture is halved: the number of bridges

    With 32 channels and 4 levels it has 7.8 million parameters. The first level is a double_conv.
    Down: 2x2 max-pool (an odd last row or column stays, as one of its own), double_conv. Up: a 2x2
    transposed convolution halves the channels, what is over is cut off, the bridge comes after them
    as further channels, double_conv. A 1x1 convolution gives the classes.
    Raises ValueError where one of the numbers is below 1.
    """

    def __init__(self, classes: int, channels: int = 32, levels: int = 4):
        super().__init__()
        for name, number in (("classes", classes), ("channels", channels), ("levels", levels)):
            check.between(name, number, 1)
        widths = [channels * 2 ** level for level in range(levels)]         # of the bridges
        self.first = double_conv(3, channels)
        self.downs = nn.ModuleList(double_conv(c, 2 * c) for c in widths)
        self.grows = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in reversed(widths))
        self.ups = nn.ModuleList(double_conv(2 * c, c) for c in reversed(widths))
        self.last = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        bridges = []
        x = self.first(x)
        for down in self.downs:
            bridges.append(x)
            x = down(F.max_pool2d(x, 2, ceil_mode=True))                    # (n, 2c, h/2, w/2)
        for grow, up in zip(self.grows, self.ups):
            bridge = bridges.pop()
            h, w = bridge.shape[-2:]
            x = up(torch.cat([grow(x)[..., :h, :w], bridge], dim=1))        # (n, c, h, w)
        return self.last(x)


def double_conv(c_in: int, c_out: int) -> nn.Sequential:
    """Twice a 3x3 convolution, BatchNorm and ReLU: (n, c_in, h, w) -> (n, c_out, h, w)."""
    layers = []
    for c in (c_in, c_out):
        layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out),
                   nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class DynamicUNet(nn.Module):
    """v1's: the way down is any body, trained before; (n, 3, h, w) -> (n, classes, h, w).

    body    layers one after the other, as groups.body_of cuts them off a net
    bottle  half as many channels between the two convolutions of the cross

    A bridge begins after each child of the body whose next child makes the picture smaller. Middle:
    BatchNorm, ReLU, and two conv_relu, to twice the channels of the body and back. Then an Up for
    each bridge, the last one with half as many channels as the others would give it, and a
    pixel_shuffle to the size of the picture, unless the first bridge has it already. The picture
    itself is the last bridge: its three channels come after the others, and the cross is added to
    them all, two conv_relu. A 1x1 convolution gives the classes.
    Source: fastai v1, vision/models/unet.py, as unet_learner makes it; resnet34 with 32 classes has
    41,224,168 parameters. v1 is tied to the size of its first picture where that is odd.
    """

    def __init__(self, body: nn.Sequential, classes: int, bottle: bool = False):
        super().__init__()
        self.body = body
        shapes = shapes_in(body)
        self.bridged = [number for number, (shape, after) in enumerate(pairwise(shapes))
                        if after[1:] != shape[1:]]
        c = shapes[-1][0]
        self.middle = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), conv_relu(c, 2 * c),
                                    conv_relu(2 * c, c))
        self.ups = nn.ModuleList()
        for number in reversed(self.bridged):
            c_bridge = shapes[number][0]
            c_out = (c // 2 + c_bridge) // (2 if number == self.bridged[0] else 1)
            self.ups.append(Up(c, c_bridge, c_out))
            c = c_out
        whole = shapes[self.bridged[0] if self.bridged else -1][1:] == (64, 64)
        self.shuffle = nn.Identity() if whole else pixel_shuffle(c, c)
        c += 3
        inner = c // 2 if bottle else c
        self.cross = nn.Sequential(conv_relu(c, inner), conv_relu(inner, c))
        self.last = nn.Conv2d(c, classes, 1)
        nn.init.kaiming_normal_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        picture, bridges = x, []
        for number, layer in enumerate(self.body):
            x = layer(x)
            if number in self.bridged:
                bridges.append(x)
        x = self.middle(x)
        for up in self.ups:
            x = up(x, bridges.pop())                                        # (n, c, h, w) of bridge
        x = torch.cat([at_size_of(picture, self.shuffle(x)), picture], dim=1)   # (n, c + 3, h, w)
        return self.last(x + self.cross(x))


class Up(nn.Module):
    """One level up in a DynamicUNet, from c_in channels below to `out` channels.

    From below: pixel_shuffle to half the channels, then at_size_of the bridge. The bridge, of
    c_bridge channels: BatchNorm. One after the other: ReLU, and two conv_relu to `out` channels.
    """

    def __init__(self, c_in: int, c_bridge: int, out: int):
        super().__init__()
        self.shuffle, self.norm = pixel_shuffle(c_in, c_in // 2), nn.BatchNorm2d(c_bridge)
        self.convs = nn.Sequential(conv_relu(c_in // 2 + c_bridge, out), conv_relu(out, out))

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        x = at_size_of(bridge, self.shuffle(x))
        return self.convs(F.relu(torch.cat([x, self.norm(bridge)], dim=1)))


def conv_relu(c_in: int, c_out: int, size: int = 3) -> nn.Sequential:
    """A convolution that keeps h and w, with a bias, and ReLU; v1's U-Net has no BatchNorm here.

    The weights begin as kaiming_normal_, the bias as 0.
    """
    conv = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


def pixel_shuffle(c_in: int, c_out: int) -> nn.Sequential:
    """Twice the height and the width: (n, c_in, h, w) -> (n, c_out, 2h, 2w).

    conv_relu, 1x1, to 4 c_out channels, of which each four become four neighbouring pixels of one
    (nn.PixelShuffle). These four begin with the same weights (ICNR): so they give the same at
    first, and there is no chessboard to be unlearned.
    Source: Aitken et al. 2017, arXiv 1707.02937; fastai v1, PixelShuffle_ICNR.
    """
    grow = conv_relu(c_in, 4 * c_out, size=1)
    with torch.no_grad():
        grow[0].weight.copy_(grow[0].weight[::4].repeat_interleave(4, dim=0))
    return nn.Sequential(grow, nn.PixelShuffle(2))


def at_size_of(bridge: Tensor, x: Tensor) -> Tensor:
    """x with the height and width of the bridge, by the nearest pixel: odd sides do not survive
    halving and doubling."""
    return x if x.shape[-2:] == bridge.shape[-2:] else F.interpolate(x, bridge.shape[-2:])


def shapes_in(body: nn.Sequential) -> list[tuple[int, int, int]]:
    """(channels, h, w) after each child of the body, tried on a picture of 64 x 64."""
    x, shapes = torch.zeros(1, 3, 64, 64), []
    with evaluating(body):
        for layer in body:
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    return shapes
