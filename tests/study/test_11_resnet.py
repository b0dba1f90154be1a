import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.resnet import (Block, Bottleneck, ResNet, conv, resnet18, resnet34, resnet50,
                             shortcut)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size, stride, h, w", [(3, 1, 8, 6), (1, 1, 8, 6), (7, 2, 4, 3)])
def test_only_the_stride_of_a_convolution_makes_a_picture_smaller(size, stride, h, w):
    assert conv(2, 5, size, stride)(noise(1, 2, 8, 6)).shape == (1, 5, h, w)


def test_a_convolution_has_a_kernel_and_no_bias():
    layer, x = conv(2, 5, 3), noise(1, 2, 8, 6)
    assert [tuple(value.shape) for value in layer.parameters()] == [(5, 2, 3, 3)]
    assert torch.equal(layer(x), F.conv2d(x, layer.weight, padding=1))      # zeros all around


def test_the_way_past_a_block_that_keeps_the_shape_changes_nothing():
    assert torch.equal(shortcut(4, 4, 1)(noise(2, 4, 6, 6)), noise(2, 4, 6, 6))


@pytest.mark.parametrize("c_out, stride", [(8, 1), (4, 2)])
def test_the_way_past_any_other_block_changes_the_shape_too(c_out, stride):
    way, x = shortcut(4, c_out, stride), noise(2, 4, 6, 6)
    # A 1x1 convolution of stride 2 sees every other pixel
    mixed = torch.einsum("oi,nihw->nohw", way[0].weight[..., 0, 0], x[..., ::stride, ::stride])
    assert torch.allclose(way(x), F.batch_norm(mixed, None, None, training=True), atol=1e-5)


@pytest.mark.parametrize("kind, c_in", [(Block, 4), (Bottleneck, 16)])
def test_a_block_whose_convolutions_give_0_is_the_relu_of_its_input(kind, c_in):
    block, x = kind(c_in, 4), noise(2, c_in, 5, 5)
    for name, kernel in block.named_parameters():
        if name.startswith("conv"):
            nn.init.zeros_(kernel)
    assert torch.equal(block(x), x.clamp(min=0))


def test_a_block_adds_its_input_to_what_two_convolutions_make_of_it():
    block = Block(1, 1).eval()
    for layer, factor in ((block.conv1, -1.), (block.conv2, 2.)):
        nn.init.dirac_(layer.weight).data *= factor         # hands its input on, times factor
    nn.init.constant_(block.bn1.bias, 1)
    nn.init.constant_(block.bn2.bias, -10)
    # relu(2 * relu(1 - x) - 10 + x): 3 gives 2 * 0 - 10 + 3 < 0, so 0; -10 gives
    # 2 * 11 - 10 - 10 = 2; 20 gives 2 * 0 - 10 + 20 = 10; -30 gives 2 * 31 - 10 - 30 = 22
    x = torch.tensor([3., -10, 20, -30]).reshape(1, 1, 2, 2)
    assert block(x).flatten().tolist() == pytest.approx([0, 2, 10, 22], abs=1e-2)


@pytest.mark.parametrize("pixel, found", [
    # relu(1 + 3) = 4, relu(6 - 4) = 2, 2 * (1, 2, 3, 4) - 2 = (0, 2, 4, 6), plus the pixel
    ([-3., 0, 1, -9], [0, 2, 5, 0]),
    # relu(1 - 9) = 0, relu(6 - 0) = 6, 6 * (1, 2, 3, 4) - 2 = (4, 10, 16, 22), plus the pixel
    ([9., 0, 1, -1], [13, 10, 17, 21]),
    # relu(1 + 9) = 10, relu(6 - 10) = 0, 0 * (1, 2, 3, 4) - 2, plus the pixel
    ([-9., 0, 1, 3], [0, 0, 0, 1])])
def test_a_bottleneck_adds_its_input_to_what_three_convolutions_make_of_it(pixel, found):
    block = Bottleneck(4, 1).eval()
    for layer in (block.conv1, block.conv2):                # hands on minus channel 0
        nn.init.dirac_(layer.weight).data.neg_()
    block.conv3.weight.data[:, 0, 0, 0] = torch.tensor([1., 2, 3, 4])
    for norm, bias in ((block.bn1, 1), (block.bn2, 6), (block.bn3, -2)):
        nn.init.constant_(norm.bias, bias)
    x = torch.tensor(pixel).reshape(1, 4, 1, 1)
    assert block(x).flatten().tolist() == pytest.approx(found, abs=1e-2)


def test_the_first_3x3_convolution_of_a_block_has_the_stride():
    block, bottleneck = Block(8, 4, 2), Bottleneck(8, 4, 2)
    assert block.conv1.stride == bottleneck.conv2.stride == (2, 2)
    assert bottleneck.conv1.stride == (1, 1)
    assert block(noise(2, 8, 6, 4)).shape == (2, 4, 3, 2)
    assert bottleneck(noise(2, 8, 6, 4)).shape == (2, 16, 3, 2)


def test_the_children_have_torchvisions_names_and_stand_in_the_order_in_which_they_run():
    assert [name for name, _ in ResNet(Block, (1, 1, 1, 1)).named_children()] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]


@pytest.mark.parametrize("block, channels", [
    (Block, [64, 128, 256, 512]), (Bottleneck, [256, 512, 1024, 2048])])
def test_each_layer_but_the_first_halves_the_size_and_doubles_the_channels(block, channels):
    net, x, shapes = ResNet(block, (1, 2, 1, 1)), noise(2, 64, 16, 24), []
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
        shapes.append(x.shape[1:])
    assert shapes == list(zip(channels, (16, 8, 4, 2), (24, 12, 6, 3)))


def test_a_picture_of_any_size_becomes_a_logit_per_class():
    net, x = ResNet(Block, (1, 1, 1, 1), classes=5), noise(2, 3, 65, 97)
    half = F.relu(net.bn1(F.conv2d(x, net.conv1.weight, stride=2, padding=3)))
    quarter = F.max_pool2d(half, 3, stride=2, padding=1)                    # (2, 64, 17, 25)
    features = net.layer4(net.layer3(net.layer2(net.layer1(quarter))))      # (2, 512, 3, 4)
    logits = net.fc(features.mean((2, 3)))                                  # (2, 5)
    assert logits.shape == (2, 5) and torch.allclose(net(x), logits, atol=1e-4)


def test_convolutions_begin_with_the_spread_that_keeps_gradients():
    net = ResNet(Block, (1, 1, 1, 1))
    # sqrt(2 / (c_out * kernel size)): 2 / (64 * 7 * 7), 2 / (128 * 3 * 3), 2 / (128 * 1 * 1)
    for layer, std in ((net.conv1, 0.02525), (net.layer2[0].conv1, 0.04167),
                       (net.layer2[0].downsample[0], 0.125)):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
        assert layer.weight.abs().max() > 2.5 * std         # normal, not uniform


@pytest.mark.parametrize("arch, parameters", [
    (resnet18, 11_689_512), (resnet34, 21_797_672), (resnet50, 25_557_032)])
def test_the_networks_have_as_many_parameters_as_torchvisions(arch, parameters):
    assert sum(value.numel() for value in arch().parameters()) == parameters
