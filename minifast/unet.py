"""U-Nets: a class for every pixel. Source: Ronneberger et al. 2015, arXiv 1505.04597.

On the way down a picture gets smaller and has more channels: the net learns what is there, and less
and less where. On the way up, bridges (or skip connections) tell it where: each level gets,
beside what comes from below, what the way down had at that size.

    picture > first ----------- bridge -----------> up > classes
                down ---------- bridge ---------> up
                  down -------- bridge -------> up
                    down ------ bridge -----> up
                      down ------------------>

Both nets here remember no size: UNet takes pictures of any height and width, DynamicUNet of those
that its body takes, which of a ResNet's are all, too.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.tools import check
from minifast.training import evaluating


class UNet(nn.Module):
    """Small and plain, to be trained from scratch: (n, 3, h, w) -> (n, classes, h, w).

    channels  of the first level; each level down has twice as many, at half the height and width
    levels    how many times the picture is halved: the number of bridges

    first        a double_conv
    downs        after a 2x2 max-pool (ceil_mode: an odd last row or column is not lost) each level
                 down is a double_conv
    grows, ups   each level up is a 2x2 transposed convolution to half the channels; what is over,
                 below or on the right, is cut off; the bridge comes after these channels; then it
                 is a double_conv. Both lists begin at the bottom
    last         a 1x1 convolution, to the classes
    recipe       {"kind": "UNet", "channels": ..., "levels": ...}: how to make it again, for
                 Learner.export

    For 12 classes it has 7,763,404 parameters. Raises ValueError where a number is below 1.
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
        self.recipe = {"kind": "UNet", "channels": channels, "levels": levels}

    def forward(self, x: Tensor) -> Tensor:
        """x is (n, 3, h, w); returns (n, classes, h, w) logits."""
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
    """Twice: 3x3 convolution without bias, BatchNorm, ReLU. (n, c_in, h, w) -> (n, c_out, h, w)."""
    layers = []
    for c in (c_in, c_out):
        layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out),
                   nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class DynamicUNet(nn.Module):
    """fastai v1's: the way down is any trained body; (n, 3, h, w) -> (n, classes, h, w).

    body     layers one after the other, as groups.body_of cuts them off a net
    bottle   whether the cross (see below) is narrower inside: c // 2 of its c channels

    bridged  the numbers of the children of the body after which a bridge begins, in order: the next
             child makes the picture smaller
    middle   BatchNorm, ReLU, and two conv_relu, to twice the channels that the body ends with, and
             back
    ups      an Up for each bridge, from the bottom on. It gives as many channels as meet in it:
             half of those from below, and the bridge's; the last Up gives half of that
    shuffle  a pixel_shuffle that keeps the channels, then at_size_of the picture; an nn.Identity
             where the first bridge (without one, the body's end) has the picture's size already
    cross    the picture itself is the last bridge, its three channels come after the others: c in
             all, to which the cross is added (a residual block): two conv_relu from c channels to c
    last     a 1x1 convolution, begun as in conv_relu, to the classes

    Source: fastai v1, vision/models/unet.py, as unet_learner makes it; resnet34 with 32 classes has
    41,224,168 parameters. v1 is tied to the size of its first picture where that is odd.
    Raises ValueError where classes is below 1.
    """

    def __init__(self, body: nn.Sequential, classes: int, bottle: bool = False):
        super().__init__()
        check.between("classes", classes, 1)
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
        self.last = conv_relu(c, classes, size=1)[0]        # begun like it, but without the ReLU

    def forward(self, x: Tensor) -> Tensor:
        """x is (n, 3, h, w); returns (n, classes, h, w) logits."""
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

    shuffle  what comes from below: pixel_shuffle to half the channels, then at_size_of the bridge
    norm     the bridge, of c_bridge channels: BatchNorm
    convs    both, the bridge last, after a ReLU: two conv_relu to `out` channels
    """

    def __init__(self, c_in: int, c_bridge: int, out: int):
        super().__init__()
        self.shuffle, self.norm = pixel_shuffle(c_in, c_in // 2), nn.BatchNorm2d(c_bridge)
        self.convs = nn.Sequential(conv_relu(c_in // 2 + c_bridge, out), conv_relu(out, out))

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        """x is (n, c_in, h, w), the bridge (n, c_bridge, H, W); returns (n, out, H, W)."""
        x = at_size_of(bridge, self.shuffle(x))
        return self.convs(F.relu(torch.cat([x, self.norm(bridge)], dim=1)))


def conv_relu(c_in: int, c_out: int, size: int = 3) -> nn.Sequential:
    """A size x size convolution, with a bias, and ReLU: (n, c_in, h, w) -> (n, c_out, h, w).

    The weights begin as kaiming_normal_, the bias as 0. v1's U-Net has no BatchNorm here.
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
    """x, by the nearest pixel, with the height and width of the bridge: an odd side that was halved
    and doubled is too long or too short. Where they are the same already, x itself."""
    return x if x.shape[-2:] == bridge.shape[-2:] else F.interpolate(x, bridge.shape[-2:])


def shapes_in(body: nn.Sequential) -> list[tuple[int, int, int]]:
    """(channels, h, w) after each child of the body, for a picture of 64 x 64, in eval mode."""
    x, shapes = torch.zeros(1, 3, 64, 64), []
    with evaluating(body):
        for layer in body:
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    return shapes
