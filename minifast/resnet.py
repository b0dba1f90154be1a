"""Residual networks with torchvision's parameter names, so that its weights can be loaded.

A residual block learns what to add to its input: output = relu(input + F(input)). Gradients reach
every layer along the inputs, so even a deep network trains. Source: He et al., arXiv 1512.03385.
"""

from torch import Tensor, nn


def conv(c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A size x size convolution without bias: BatchNorm adds one. Only a stride shrinks h and w."""
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """The way past a block: nothing or, if the shape changes, a 1x1 convolution and BatchNorm."""
    if stride == 1 and c_in == c_out:
        return nn.Sequential()
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """Two 3x3 convolutions, for resnet18 and 34: (n, c_in, h, w) -> (n, c, h/stride, w/stride)."""
    expansion = 1

    def __init__(self, c_in: int, c: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c, 3, stride), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = conv(c, c, 3), nn.BatchNorm2d(c)
        self.downsample = shortcut(c_in, c, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu_()                   # in place, to save memory
        return (self.bn2(self.conv2(out)) + self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """For resnet50: a 1x1 convolution to c channels, a cheap 3x3 one on them, and a 1x1 one to 4c.
    (n, c_in, h, w) -> (n, 4c, h/stride, w/stride). The 3x3 convolution has the stride."""
    expansion = 4

    def __init__(self, c_in: int, c: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c, 1), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = conv(c, c, 3, stride), nn.BatchNorm2d(c)
        self.conv3, self.bn3 = conv(c, 4 * c, 1), nn.BatchNorm2d(4 * c)
        self.downsample = shortcut(c_in, 4 * c, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu_()
        out = self.bn2(self.conv2(out)).relu_()
        return (self.bn3(self.conv3(out)) + self.downsample(x)).relu_()


class ResNet(nn.Module):
    """(n, 3, h, w) -> (n, classes) logits. A 7x7 convolution to 64 channels and a 3x3 maxpool, of
    stride 2 each, then layer1 to layer4: `counts` says how many blocks, of type Block or
    Bottleneck, they have. Each layer but layer1 begins with a block of stride 2."""

    def __init__(self, block: type, counts: tuple[int, int, int, int], classes: int = 1000):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, stride=2), nn.BatchNorm2d(64)  # children: see body_of
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        c_in = 64
        for number, (count, c) in enumerate(zip(counts, (64, 128, 256, 512)), start=1):
            blocks = [block(c_in, c, stride=1 if number == 1 else 2)]
            c_in = c * block.expansion
            blocks += [block(c_in, c) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(c_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):       # so that gradients keep their size in depth
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))              # (n, 64, h/4, w/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))         # (n, c, h/32, w/32)
        return self.fc(self.avgpool(x).flatten(1))                        # (n, classes)


def resnet18() -> ResNet:           # 11,689,512 parameters
    return ResNet(Block, (2, 2, 2, 2))


def resnet34() -> ResNet:           # 21,797,672 parameters
    return ResNet(Block, (3, 4, 6, 3))


def resnet50() -> ResNet:           # 25,557,032 parameters
    return ResNet(Bottleneck, (3, 4, 6, 3))
