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


@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_a_convolution_keeps_rows_and_columns_up_to_its_stride(size, stride):
    layer, x = conv(2, 5, size, stride), torch.rand(1, 2, 9, 14)
    assert layer(x).shape == (1, 5, math.ceil(9 / stride), math.ceil(14 / stride))
    assert layer.bias is None and layer.weight.shape == (5, 2, size, size)
    padded = F.pad(x, [size // 2] * 4)                      # with zeros, as many on each side
    assert torch.allclose(layer(x), F.conv2d(padded, layer.weight, stride=stride), atol=1e-6)
    assert conv(2, 5, 3).stride == (1, 1)


def test_a_shortcut_is_nothing_unless_the_shape_changes():
    x = torch.rand(2, 4, 6, 6)
    assert torch.equal(shortcut(4, 4, 1)(x), x)
    for c_out, stride, shape in ((8, 1, (2, 8, 6, 6)), (4, 2, (2, 4, 3, 3)), (8, 2, (2, 8, 3, 3))):
        by_pass = shortcut(4, c_out, stride)
        assert [type(layer) for layer in by_pass] == [nn.Conv2d, nn.BatchNorm2d]
        assert by_pass[0].kernel_size == (1, 1) and by_pass(x).shape == shape


@pytest.mark.parametrize("arch, parameters, entries, shapes", [
    (resnet18, 11_689_512, 122, {
        "conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,), "layer4.1.bn2.bias": (512,),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1), "fc.weight": (1000, 512)}),
    (resnet34, 21_797_672, 218, {
        "layer1.2.conv2.weight": (64, 64, 3, 3), "layer2.3.conv1.weight": (128, 128, 3, 3),
        "layer3.5.bn2.weight": (256,), "layer4.2.conv1.weight": (512, 512, 3, 3)}),
    (resnet50, 25_557_032, 320, {
        "layer1.0.conv1.weight": (64, 64, 1, 1), "layer1.0.downsample.1.running_var": (256,),
        "layer2.3.conv1.weight": (128, 512, 1, 1), "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.2.conv3.weight": (2048, 512, 1, 1), "fc.bias": (1000,)})])
def test_parameters_names_and_shapes_are_torchvisions(arch, parameters, entries, shapes):
    net = without_numbers(arch)
    state = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == parameters and len(state) == entries
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("arch, features", [(resnet18, 512), (resnet50, 2048)])
def test_any_height_and_width_shrink_by_32(arch, features):
    net, seen = without_numbers(arch), []
    net.layer4.register_forward_hook(lambda layer, args, out: seen.append(tuple(out.shape)))
    for h, w in ((64, 64), (224, 224), (65, 97), (33, 1)):
        assert net(torch.empty(2, 3, h, w, device="meta")).shape == (2, 1000)
    assert seen == [(2, features, *small) for small in ((2, 2), (7, 7), (3, 4), (2, 1))]


@pytest.mark.parametrize("block, convs", [(Block, 2), (Bottleneck, 3)])
def test_a_net_is_what_its_parts_make_step_by_step(block, convs):
    net, rng = ResNet(block, (2, 1, 1, 1), classes=5).eval(), torch.Generator().manual_seed(0)
    weights = net.state_dict()
    for name, value in weights.items():
        if value.is_floating_point():                       # variances are positive
            value.copy_(torch.randn(value.shape, generator=rng) * 0.1)
            if name.endswith("running_var"):
                value.abs_().add_(0.1)

    def step(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return F.batch_norm(x, *(weights[f"{bn}.{name}"] for name in (
            "running_mean", "running_var", "weight", "bias")))

    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    x = F.max_pool2d(F.relu(step(picture, "conv1", "bn1", 2)), 3, 2, 1)
    for layer in ("layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer4.0"):
        out, stride = x, 1 if layer.startswith("layer1") else 2
        for n in range(1, convs + 1):                       # the first 3x3 has the stride
            out = step(out, f"{layer}.conv{n}", f"{layer}.bn{n}", stride if n == convs - 1 else 1)
            out = F.relu(out) if n < convs else out
        if f"{layer}.downsample.0.weight" in weights:
            x = step(x, f"{layer}.downsample.0", f"{layer}.downsample.1", stride)
        x = F.relu(out + x)
    logits = F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])
    with torch.no_grad():
        assert torch.allclose(net(picture), logits, rtol=1e-3, atol=1e-5)
    assert logits.shape == (2, 5) and logits.std() > 0.01


def test_convolutions_begin_with_the_spread_that_keeps_gradients():
    net = ResNet(Block, (1, 1, 1, 1), classes=2)
    # sqrt(2 / (outputs * kernel size)): of a 7x7 to 64 channels, a 3x3 and a 1x1 to 128
    for weight, fan_out in ((net.conv1.weight, 64 * 49),
                            (net.layer2[0].conv1.weight, 128 * 9),
                            (net.layer2[0].downsample[0].weight, 128)):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
        assert weight.abs().max() > 2.5 * weight.std()                  # normal, not uniform
