import math

import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.resnet import (Block, Bottleneck, ResNet, conv, resnet18, resnet34, resnet50,
                             shortcut)


def without_numbers(arch: type) -> ResNet:
    """The net on torch's "meta" device, which knows shapes only: quick."""
    with torch.device("meta"):
        return arch()


def randomized(net: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with random numbers in every parameter and buffer; variances are positive."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=rng) * 0.1)
            if name.endswith("running_var"):
                value.abs_().add_(0.1)
    return net.eval()


# The parts

@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_a_convolution_keeps_rows_and_columns_up_to_its_stride(size, stride):
    layer, x = conv(2, 5, size, stride), torch.rand(1, 2, 9, 14)
    assert layer(x).shape == (1, 5, math.ceil(9 / stride), math.ceil(14 / stride))
    assert layer.bias is None and layer.weight.shape == (5, 2, size, size)
    # rows and columns are filled up with `size // 2` zeros on each side, and then only covered
    padded = F.pad(x, [size // 2] * 4)
    assert torch.allclose(layer(x), F.conv2d(padded, layer.weight, stride=stride), atol=1e-6)
    assert conv(2, 5, 3).stride == (1, 1)


def test_a_shortcut_is_nothing_unless_the_shape_changes():
    x = torch.rand(2, 4, 6, 6)
    assert torch.equal(shortcut(4, 4, 1)(x), x) and len(shortcut(4, 4, 1)) == 0
    for c_out, stride, shape in ((8, 1, (2, 8, 6, 6)), (4, 2, (2, 4, 3, 3)), (8, 2, (2, 8, 3, 3))):
        by_pass = shortcut(4, c_out, stride)
        assert [type(layer) for layer in by_pass] == [nn.Conv2d, nn.BatchNorm2d]
        assert by_pass[0].kernel_size == (1, 1) and by_pass(x).shape == shape


def test_a_block_adds_its_input_to_what_two_convolutions_make_of_it():
    block = Block(1, 1).eval()
    for layer, value in ((block.conv1, -1.0), (block.conv2, 2.0)):
        nn.init.dirac_(layer.weight)                                    # hands its input on
        layer.weight.data *= value
    block.bn1.bias.data.fill_(1)
    block.bn2.bias.data.fill_(-10)
    # relu(2 relu(1 - x) - 10 + x): 3 -> 0 - 10 + 3 < 0; -10 -> 22 - 10 - 10 = 2; 20 -> 0 - 10 + 20
    # and 1 -> 0 - 10 + 1 < 0; all but for BatchNorm's division by sqrt(1 + 1e-5)
    x = torch.tensor([3.0, -10, 20, 1]).reshape(1, 1, 2, 2)
    assert block(x).flatten().tolist() == pytest.approx([0, 2, 10, 0], abs=1e-3)
    assert x.flatten().tolist() == [3, -10, 20, 1]


def test_a_bottleneck_adds_its_input_to_what_three_convolutions_make_of_it():
    block = Bottleneck(4, 1).eval()
    block.conv1.weight.data = torch.tensor([-1.0, 0, 0, 0]).reshape(1, 4, 1, 1)
    nn.init.dirac_(block.conv2.weight)
    block.conv2.weight.data *= 2
    block.conv3.weight.data = torch.tensor([1.0, 2, 3, 4]).reshape(4, 1, 1, 1)
    block.bn1.bias.data.fill_(1)
    block.bn2.bias.data.fill_(-1)
    # channel 0 is -3: relu(3 + 1) = 4, relu(8 - 1) = 7, 7 (1, 2, 3, 4) + input, and relu of that
    x = torch.tensor([-3.0, 0, 0, -100]).reshape(1, 4, 1, 1)
    assert block(x).flatten().tolist() == pytest.approx([4, 14, 21, 0], abs=1e-3)
    # channel 0 is 3: relu(-3 + 1) = 0, relu(0 - 1) = 0, and so the input alone
    x = torch.tensor([3.0, 0, 5, -1]).reshape(1, 4, 1, 1)
    assert block(x).flatten().tolist() == pytest.approx([3, 0, 5, 0], abs=1e-3)


@pytest.mark.parametrize("kind, channels", [(Block, 4), (Bottleneck, 16)])
def test_convolutions_of_zeros_leave_the_relu_of_the_input(kind, channels):
    block = kind(channels, 4)
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
    x = torch.randn(2, block.expansion * 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x.clamp(min=0))


def test_the_stride_of_a_bottleneck_is_that_of_its_3x3():
    def strides(block: nn.Module) -> list[tuple[str, tuple]]:
        return [(name, layer.stride) for name, layer in block.named_modules()
                if isinstance(layer, nn.Conv2d)]

    assert strides(Bottleneck(8, 4, 2)) == [("conv1", (1, 1)), ("conv2", (2, 2)),
                                            ("conv3", (1, 1)), ("downsample.0", (2, 2))]
    assert strides(Block(8, 4, 2)) == [("conv1", (2, 2)), ("conv2", (1, 1)),
                                       ("downsample.0", (2, 2))]


# The nets

@pytest.mark.parametrize("arch, parameters, entries", [
    (resnet18, 11_689_512, 122), (resnet34, 21_797_672, 218), (resnet50, 25_557_032, 320)])
def test_the_nets_have_torchvisions_number_of_parameters_and_entries(arch, parameters, entries):
    net = without_numbers(arch)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == entries


@pytest.mark.parametrize("arch, name, shape", [
    (resnet18, "conv1.weight", (64, 3, 7, 7)), (resnet18, "bn1.running_mean", (64,)),
    (resnet18, "layer1.0.conv1.weight", (64, 64, 3, 3)),
    (resnet18, "layer2.0.downsample.0.weight", (128, 64, 1, 1)),
    (resnet18, "layer2.0.downsample.1.running_var", (128,)),
    (resnet18, "layer4.1.bn2.bias", (512,)), (resnet18, "fc.weight", (1000, 512)),
    (resnet34, "layer1.2.conv2.weight", (64, 64, 3, 3)),
    (resnet34, "layer2.3.conv1.weight", (128, 128, 3, 3)),
    (resnet34, "layer3.5.bn2.weight", (256,)), (resnet34, "layer4.2.conv1.weight",
                                                (512, 512, 3, 3)),
    (resnet50, "layer1.0.conv1.weight", (64, 64, 1, 1)),
    (resnet50, "layer1.0.downsample.0.weight", (256, 64, 1, 1)),
    (resnet50, "layer2.0.conv1.weight", (128, 256, 1, 1)),
    (resnet50, "layer3.5.conv2.weight", (256, 256, 3, 3)),
    (resnet50, "layer4.2.conv3.weight", (2048, 512, 1, 1)),
    (resnet50, "fc.weight", (1000, 2048)), (resnet50, "fc.bias", (1000,))])
def test_the_names_and_shapes_are_torchvisions(arch, name, shape):
    assert without_numbers(arch).state_dict()[name].shape == shape


def test_the_children_stand_in_the_order_in_which_they_run():
    net = without_numbers(resnet18)
    assert [name for name, _ in net.named_children()] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    assert isinstance(net.relu, nn.ReLU) and isinstance(net.maxpool, nn.MaxPool2d)


@pytest.mark.parametrize("arch, features", [(resnet18, 512), (resnet50, 2048)])
@pytest.mark.parametrize("h, w, small", [(64, 64, (2, 2)), (224, 224, (7, 7)), (65, 97, (3, 4)),
                                         (33, 1, (2, 1))])
def test_any_height_and_width_shrink_by_32(arch, features, h, w, small):
    net, seen = without_numbers(arch), []
    net.layer4.register_forward_hook(lambda layer, args, out: seen.append(tuple(out.shape)))
    assert net(torch.empty(2, 3, h, w, device="meta")).shape == (2, 1000)
    assert seen == [(2, features, *small)]


def test_a_net_is_what_its_parts_make_step_by_step():
    net = randomized(ResNet(Block, (1, 1, 1, 1), classes=5))
    weights = net.state_dict()

    def step(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        values = (weights[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight",
                                                       "bias"))
        return F.batch_norm(x, *values)

    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    x = F.max_pool2d(F.relu(step(picture, "conv1", "bn1", 2)), 3, 2, 1)
    for layer in ("layer1.0", "layer2.0", "layer3.0", "layer4.0"):
        stride = 1 if layer == "layer1.0" else 2
        out = F.relu(step(x, f"{layer}.conv1", f"{layer}.bn1", stride))
        out = step(out, f"{layer}.conv2", f"{layer}.bn2")
        if stride == 2:
            x = step(x, f"{layer}.downsample.0", f"{layer}.downsample.1", 2)
        x = F.relu(out + x)
    logits = F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])
    with torch.no_grad():
        assert torch.allclose(net(picture), logits, atol=1e-5)
    assert logits.shape == (2, 5) and logits.std() > 0.01


def test_convolutions_begin_with_the_spread_that_keeps_gradients():
    net = ResNet(Block, (1, 1, 1, 1), classes=2)
    # sqrt(2 / (outputs * kernel size)): of a 7x7 to 64 channels, a 3x3 and a 1x1 to 128
    for weight, fan_out in ((net.conv1.weight, 64 * 49),
                            (net.layer2[0].conv1.weight, 128 * 9),
                            (net.layer2[0].downsample[0].weight, 128)):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
        assert weight.abs().max() > 2.5 * weight.std()                  # normal, not uniform
