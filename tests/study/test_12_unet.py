import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.unet import (DynamicUNet, UNet, Up, conv_relu, double_conv,
                           pixel_shuffle, shapes_in)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def halving(*channels: int) -> nn.Sequential:
    """A body of convolutions that halve the picture, each with BatchNorm after it."""
    return nn.Sequential(*(
        layer for c_in, c_out in zip((3, *channels), channels)
        for layer in (nn.Conv2d(c_in, c_out, 3, 2, padding=1), nn.BatchNorm2d(c_out))))


def test_a_double_conv_is_twice_a_convolution_with_batchnorm_and_relu():
    layers, found = double_conv(3, 4), noise(2, 3, 5, 6)
    for kernel in (layers[0].weight, layers[3].weight):
        found = F.batch_norm(F.conv2d(found, kernel, padding=1), None, None, training=True).relu()
    assert torch.allclose(layers(noise(2, 3, 5, 6)), found, atol=1e-5)


@pytest.mark.parametrize("h, w", [(16, 16), (13, 22), (1, 1)])
def test_a_unet_answers_for_each_pixel_of_a_picture_of_any_size(h, w):
    assert UNet(5, channels=2, levels=3).eval()(noise(2, 3, h, w)).shape == (2, 5, h, w)


def test_a_unet_goes_down_and_up_again():
    net, x = UNet(5, channels=4, levels=2).eval(), noise(1, 3, 7, 4)
    top = net.first(x)                                                      # (1, 4, 7, 4)
    half = net.downs[0](F.max_pool2d(top[:, :, [*range(7), 6]], 2))         # (1, 8, 4, 2)
    quarter = net.downs[1](F.max_pool2d(half, 2))                           # (1, 16, 2, 1)
    up = net.ups[0](torch.cat([net.grows[0](quarter), half], dim=1))        # (1, 8, 4, 2)
    up = net.ups[1](torch.cat([net.grows[1](up)[:, :, :7], top], dim=1))    # (1, 4, 7, 4)
    assert quarter.shape == (1, 16, 2, 1) and torch.allclose(net(x), net.last(up), atol=1e-6)


def test_a_unets_parameters_can_be_counted_by_hand():
    # first 3 > 4 > 4, down 4 > 8 > 8, up 4 + 4 > 4 > 4 have 3x3 kernels and BatchNorm each
    convs = 9 * (3 * 4 + 4 * 4 + 4 * 8 + 8 * 8 + 8 * 4 + 4 * 4) + 2 * (4 + 4 + 8 + 8 + 4 + 4)
    grow, last, net = 8 * 4 * 2 * 2 + 4, 4 * 5 + 5, UNet(5, channels=4, levels=1)
    assert sum(value.numel() for value in net.parameters()) == convs + grow + last
    assert net.recipe == {"kind": "UNet", "channels": 4, "levels": 1}
    assert UNet(5).recipe == {"kind": "UNet", "channels": 32, "levels": 4}


def test_a_conv_relu_begins_as_kaiming_normal_without_bias():
    layers, x = conv_relu(64, 100), noise(1, 64, 4, 4)
    assert torch.allclose(layers(x), F.conv2d(x, layers[0].weight, padding=1).relu(), atol=1e-5)
    # sqrt(2 / (64 * 3 * 3)) = .0589
    assert layers[0].weight.std().item() == pytest.approx(0.0589, rel=0.02)
    assert layers[0].weight.abs().max() > 0.15 and layers[0].bias.eq(0).all()


def test_a_pixel_shuffle_makes_four_channels_one_of_twice_the_size():
    grow = pixel_shuffle(1, 1)
    grow[0][0].weight.data = torch.tensor([1., 2, 3, -4]).reshape(4, 1, 1, 1)
    assert grow(torch.ones(1, 1, 1, 1)).tolist() == [[[[1, 2], [3, 0]]]]


def test_at_first_a_pixel_shuffle_only_repeats_pixels():
    found = pixel_shuffle(3, 50)(noise(1, 3, 2, 4))                         # (1, 50, 4, 8)
    assert torch.equal(found, found[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert len(found[0, :, 0, 0].unique()) > 1              # but its channels differ


def test_an_up_joins_what_comes_from_below_with_a_normalized_skip_connection():
    up, x, skip = Up(8, 3, 6), noise(2, 8, 2, 3), noise(2, 3, 3, 6)
    joined = [up.shuffle(x)[:, :, [0, 1, 2]], F.batch_norm(skip, None, None, training=True)]
    found = up.convs(torch.cat(joined, dim=1).relu())
    assert found.shape == (2, 6, 3, 6) and torch.allclose(up(x, skip), found, atol=1e-4)


def test_shapes_in_a_body_are_those_of_a_picture_of_64_x_64():
    body = halving(4, 6)
    assert shapes_in(body) == [(4, 32, 32), (4, 32, 32), (6, 16, 16), (6, 16, 16)]
    assert body.training and body[1].running_var.eq(1).all()                # nothing was learned


@pytest.mark.parametrize("body, skipped, kept", [
    (halving(4, 6), [1], False), (halving(4, 6, 8), [1, 3], False), (halving(4), [], False),
    (nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2, 2)), [0, 1], True),
    (nn.Sequential(nn.Conv2d(3, 4, 1)), [], True)])
def test_a_skip_connection_starts_where_the_picture_gets_smaller_next(body, skipped, kept):
    net = DynamicUNet(body, 5)
    assert net.skipped == skipped and isinstance(net.shuffle, nn.Identity) == kept
    assert net(noise(2, 3, 13, 22)).shape == (2, 5, 13, 22)


@pytest.mark.parametrize("settings, inner", [({}, 15), ({"bottle": True}, 7)])
def test_an_eighth_of_resnet34_has_an_eighth_of_its_widths(settings, inner):
    net = DynamicUNet(halving(8, 8, 16, 32, 64), 5, **settings)
    layers = [*net.middle[2:], *(conv for up in net.ups for conv in up.convs), *net.cross]
    # 64/2 + 32 = 64, 64/2 + 16 = 48, 48/2 + 8 = 32, (32/2 + 8)/2 = 12, 12 + 3 = 15
    widths = [128, 64, 64, 64, 48, 48, 32, 32, 12, 12, inner, 15]
    assert [layer[0].out_channels for layer in layers] == widths


def test_a_dynamic_unet_goes_down_and_up_again():
    net, x = DynamicUNet(halving(4, 6, 8), 400), noise(2, 3, 20, 16)
    half = net.body[:2](x)                                                  # (2, 4, 10, 8)
    quarter = net.body[2:4](half)                                           # (2, 6, 5, 4)
    below = F.batch_norm(net.body[4:](quarter), None, None, training=True)  # (2, 8, 3, 2)
    up = net.middle[3](net.middle[2](below.relu()))                         # (2, 8, 3, 2)
    up = net.ups[1](net.ups[0](up, quarter), half)                          # (2, 4, 10, 8)
    up = torch.cat([net.shuffle(up), x], dim=1)                             # (2, 4 + 3, 20, 16)
    assert torch.allclose(net(x), net.last(up + net.cross(up)), atol=1e-4) and net(x).min() < 0
    # The last convolution has no ReLU after it, but begins as others do: sqrt(2 / 7) = .535
    weights, bias = net.last.parameters()
    assert weights.std().item() == pytest.approx(0.535, rel=0.1) and bias.eq(0).all()
