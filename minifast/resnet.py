"""Residual nets, named as torchvision's: its weights fit. Source: He et al. 2015, arXiv 1512.03385.

A residual block learns what to add to its input: out = relu(input + F(input)). So a deep network
starts as a nearly shallow one, and gradients find a way straight through.
"""

from torch import Tensor, nn


def conv(c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A size x size convolution from c_in to c_out channels that keeps h and w, up to its stride;
    no bias, since BatchNorm adds one."""
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions (resnet18, 34): (n, c_in, h, w) -> (n, c, h / stride, w / stride)."""

    expansion = 1

    def __init__(self, c_in: int, c: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c, 3, stride), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = conv(c, c, 3), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(c_in, c, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x is (n, c_in, h, w); returns (n, c, h / stride, w / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, to c, c and 4c channels; the 3x3 has the stride (resnet50):
    (n, c_in, h, w) -> (n, 4c, h / stride, w / stride)."""

    expansion = 4

    def __init__(self, c_in: int, c: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c, 1), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = conv(c, c, 3, stride), nn.BatchNorm2d(c)
        self.conv3, self.bn3 = conv(c, 4 * c, 1), nn.BatchNorm2d(4 * c)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(c_in, 4 * c, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x is (n, c_in, h, w); returns (n, 4c, h / stride, w / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """What the input passes on its way past a block: nothing, or, where the shape changes (c_in is
    not c_out, or stride not 1), a 1x1 convolution with that stride, then BatchNorm."""
    if stride == 1 and c_in == c_out:
        return nn.Sequential()
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """Stem (conv1 to maxpool), 4 layers of blocks, average over h and w, classifier (fc):
    (n, 3, h, w) -> (n, classes).

    block   Block or Bottleneck
    counts  blocks in layer1 .. layer4, of 64, 128, 256, 512 channels times block.expansion

    h and w shrink by 2 in conv1, maxpool, layer2, layer3 and layer4: by 32 in all.
    """

    def __init__(self, block: type, counts: tuple[int, int, int, int], classes: int = 1000):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, stride=2), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        c_in = 64
        for number, count in enumerate(counts, start=1):
            c, stride = 32 * 2 ** number, 1 if number == 1 else 2
            blocks = [block(c_in, c, stride)]
            c_in = c * block.expansion
            blocks += [block(c_in, c) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(c_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):       # keeps the size of gradients through the depth
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """x is (n, 3, h, w); returns (n, classes) logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))              # (n, 64, h/4, w/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))         # (n, c, h/32, w/32)
        return self.fc(self.avgpool(x).flatten(1))                        # (n, classes)


def resnet18() -> ResNet:
    """11,689,512 parameters."""
    return ResNet(Block, (2, 2, 2, 2))


def resnet34() -> ResNet:
    """21,797,672 parameters."""
    return ResNet(Block, (3, 4, 6, 3))


def resnet50() -> ResNet:
    """25,557,032 parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3))
