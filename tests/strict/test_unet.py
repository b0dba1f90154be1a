import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.resnet import resnet18, resnet34, resnet50
from minifast.unet import DynamicUNet, UNet, conv_relu, double_conv, pixel_shuffle


def picture(h: int, w: int, n: int = 1) -> Tensor:
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(0))


def small(levels: int = 3) -> UNet:
    torch.manual_seed(0)
    return UNet(5, channels=4, levels=levels)


def conv(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1)


def tiny_body() -> nn.Sequential:
    """A ResNet's eight children, but each layer is one convolution."""
    return nn.Sequential(conv(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(True), nn.MaxPool2d(3, 2, 1),
                         conv(4, 6), conv(6, 8, 2), conv(8, 16, 2), conv(16, 32, 2))


def dynamic(bottle: bool = False, classes: int = 5) -> DynamicUNet:
    torch.manual_seed(0)
    return DynamicUNet(tiny_body(), classes, bottle)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def has_gradient(layer: nn.Module) -> bool:
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def silence(layer: nn.Module) -> None:
    """Make a layer answer 0, whatever comes."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


@pytest.mark.parametrize("make", [small, dynamic, lambda: dynamic(bottle=True)])
def test_unets_answer_for_each_pixel_of_any_size(make):
    net = make().eval()
    with torch.no_grad():
        for h, w in ((64, 64), (45, 61), (33, 32), (17, 50), (5, 3), (1, 1)):
            assert net(picture(h, w, n=2)).shape == (2, 5, h, w)


# The small one

def test_the_way_through_a_unet_is_the_drawing_of_a_u():
    def pooled(x: Tensor) -> Tensor:        # 2x2 maxima; a last row without a partner is its own
        padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=float("-inf"))
        return padded.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))

    net, x = small(levels=2).eval(), picture(5, 4)
    with torch.no_grad():
        top = net.first(x)                                                  # (1, 4, 5, 4)
        middle = net.downs[0](pooled(top))                                  # (1, 8, 3, 2)
        bottom = net.downs[1](pooled(middle))                               # (1, 16, 2, 1)
        up = net.ups[0](torch.cat([net.grows[0](bottom)[:, :, :3], middle], dim=1))
        up = net.ups[1](torch.cat([net.grows[1](up)[:, :, :5], top], dim=1))
        assert [tuple(part.shape[1:]) for part in (top, middle, bottom)] == [
            (4, 5, 4), (8, 3, 2), (16, 2, 1)]
        assert torch.allclose(net(x), net.last(up), atol=1e-6)


def test_what_a_unet_is_made_of():
    assert count(UNet(12)) == 7_763_404
    # first: 3 to 4 to 4 channels; down to 8 and up again; last; two numbers a channel of BatchNorm
    first, down, up = (27 + 36) * 4 + 16, (36 + 72) * 8 + 32, (72 + 36) * 4 + 16
    assert count(UNet(5, 4, 1)) == first + down + (8 * 4 * 4 + 4) + up + (4 * 5 + 5)
    assert UNet(12).recipe == {"kind": "UNet", "channels": 32, "levels": 4}
    assert UNet(5, 4, 3).recipe == {"kind": "UNet", "channels": 4, "levels": 3}


def test_a_double_conv_is_two_convolutions_each_with_batchnorm_and_relu():
    layers, x = double_conv(3, 4), picture(6, 5, n=2)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert layers(x).shape == (2, 4, 6, 5) and layers[0].bias is None and layers[3].bias is None
    assert layers[0].kernel_size == layers[3].kernel_size == (3, 3)


@pytest.mark.parametrize("level", range(3))
def test_every_skip_connection_of_a_unet_carries_gradient(level):
    # With nothing from below at its level, the layer where it begins has no other way out.
    net = small()
    silence(net.grows[2 - level])
    begins, below = [net.first, *net.downs][level:level + 2]
    net(picture(16, 16, n=2)).sum().backward()
    assert has_gradient(begins) and not has_gradient(below)


# v1's, around any body

@pytest.mark.parametrize("arch, classes, bottle, parameters", [
    (resnet18, 32, False, 31_116_008), (resnet34, 32, False, 41_224_168),
    (resnet34, 32, True, 41_135_018), (resnet34, 12, True, 41_133_018),
    (resnet50, 32, False, 339_078_760)])
def test_parameter_counts_are_v1s(arch, classes, bottle, parameters):
    with torch.device("meta"):                                  # shapes alone, without numbers
        body = nn.Sequential(*list(arch().children())[:-2])
        assert count(DynamicUNet(body, classes, bottle)) == parameters


def test_the_skip_connections_and_widths_of_a_resnet34_are_v1s():
    with torch.device("meta"):
        net = DynamicUNet(nn.Sequential(*list(resnet34().children())[:-2]), 32)
    assert net.skipped == [2, 4, 5, 6]              # the first ReLU, layer1, layer2, layer3
    assert [up.convs[1][0].out_channels for up in net.ups] == [512, 384, 256, 96]
    assert net.cross[0][0].out_channels == 99               # and no bottle, unless that is said


@pytest.mark.parametrize("h, w", [(64, 96), (45, 61)])
def test_the_way_through_a_dynamic_unet_is_v1s(h, w):
    net, x = dynamic().eval(), picture(h, w)
    with torch.no_grad():
        for up in net.ups:
            up.norm.bias -= 0.3                             # so that the ReLU after it matters
        after = [x]
        for layer in net.body:
            after.append(layer(after[-1]))
        y = net.middle[2:](F.relu(net.middle[0](after[8])))
        for up, skip in zip(net.ups, (after[7], after[6], after[5], after[3])):
            y = F.interpolate(up.shuffle(y), skip.shape[-2:], mode="nearest")
            y = up.convs(F.relu(torch.cat([y, up.norm(skip)], dim=1)))
        y = torch.cat([F.interpolate(net.shuffle(y), (h, w), mode="nearest"), x], dim=1)
        assert torch.allclose(net(x), net.last(y + net.cross(y)), atol=1e-4)


def test_the_last_layer_begins_with_kaimings_weights_and_no_bias():
    # 32 channels below: 16 + 16, 16 + 8, 12 + 6, and (9 + 4) // 2 = 6; 3 of the picture
    last = dynamic(classes=100).last
    assert (last.in_channels, last.out_channels, last.kernel_size) == (9, 100, (1, 1))
    assert not last.bias.any()
    # sqrt(2 / 9) = .471, from 900 numbers; normal, not uniform
    assert last.weight.std().item() == pytest.approx(0.471, rel=0.05)
    assert last.weight.abs().max() > 2.5 * 0.471


@pytest.mark.parametrize("number", range(4))
def test_every_skip_connection_of_a_dynamic_unet_carries_gradient(number):
    # As for the small one: from below comes nothing, so there is no other way.
    net = dynamic()
    up, begins = net.ups[3 - number], [0, 4, 5, 6][number]  # the ReLU has no weights, conv1 has
    silence(up.shuffle)
    net(picture(64, 64, n=2)).sum().backward()
    assert has_gradient(net.body[begins]) and not has_gradient(net.body[7])
    # And the check can fail: without the skip connection there is none.
    net.zero_grad()
    silence(up.norm)
    net(picture(64, 64, n=2)).sum().backward()
    assert not has_gradient(net.body[begins])


def test_a_state_does_not_depend_on_the_size_of_the_pictures():
    one, other = dynamic(), dynamic()
    one(picture(65, 97, n=2))
    other(picture(64, 64, n=2))
    other.load_state_dict(one.state_dict())                 # v1: "Missing key layers.10..."
    with torch.no_grad():
        assert torch.equal(one.eval()(picture(33, 32)), other.eval()(picture(33, 32)))


@pytest.mark.parametrize("training", [True, False])
def test_making_a_dynamic_unet_leaves_its_body_as_it_was(training):
    body = tiny_body().train(training)
    before = {name: value.clone() for name, value in body.state_dict().items()}
    DynamicUNet(body, 5)
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert all(layer.training is training for layer in body.modules())


# Bodies of other kinds

@pytest.mark.parametrize("layers, skipped, whole", [
    # like VGG, whose first convolutions keep the size of the picture
    ([conv(3, 4), nn.ReLU(True), nn.MaxPool2d(2), conv(4, 8), nn.ReLU(True), nn.MaxPool2d(2),
      conv(8, 16)], [1, 4], True),
    # like SqueezeNet, whose first convolution has no border
    ([nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True),
      conv(4, 8)], [1], False),
    # patches of 4 x 4 at once; then the height is halved, then the width
    ([nn.Conv2d(3, 8, 4, stride=4), conv(8, 16, (2, 1)), conv(16, 16, (1, 2))], [0, 1], False),
    ([conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.ReLU()], [], False),
    ([conv(3, 8), nn.ReLU()], [], True)])
def test_there_is_a_skip_connection_wherever_the_next_layer_makes_the_picture_smaller(
        layers, skipped, whole):
    net = DynamicUNet(nn.Sequential(*layers), 5)
    # No pixel shuffle is needed where the first one has the size of the picture.
    assert net.skipped == skipped and isinstance(net.shuffle, nn.Identity) is whole
    for h, w in ((64, 64), (45, 61), (16, 24)):
        assert net(picture(h, w, n=2)).shape == (2, 5, h, w)


# The parts

def test_a_conv_relu_keeps_height_and_width_and_begins_as_kaiming_normal():
    torch.manual_seed(0)
    layers = conv_relu(64, 100)
    out = layers(torch.randn(2, 64, 7, 5))
    assert out.shape == (2, 100, 7, 5) and out.min() == 0
    # sqrt(2 / (64 * 9)) = .0589
    assert layers[0].weight.std().item() == pytest.approx(0.0589, rel=0.02)
    assert layers[0].weight.abs().max() > 2.5 * 0.0589                  # normal, not uniform
    assert not layers[0].bias.any()
    for size in (1, 5):
        assert conv_relu(2, 3, size)(torch.randn(1, 2, 4, 4)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("seed", range(3))
def test_icnr_the_first_output_is_an_enlargement_by_nearest_pixels(seed):
    torch.manual_seed(seed)
    shuffle, x = pixel_shuffle(6, 5), torch.randn(2, 6, 3, 4)
    out = shuffle(x)
    assert out.shape == (2, 5, 6, 8)
    assert torch.equal(out, F.interpolate(out[:, :, ::2, ::2], scale_factor=2))
    assert len(out[0, :, 0, 0].unique()) > 1                # but the channels are not alike
    # As kaiming_normal_ of 200 channels: sqrt(2 / 200) = .1
    assert pixel_shuffle(200, 100)[0][0].weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_pixel_shuffle_makes_four_channels_to_four_pixels():
    shuffle = pixel_shuffle(1, 1)
    shuffle[0][0].weight.data = torch.tensor([1., 2, 3, -4])[:, None, None, None]
    assert shuffle(torch.ones(1, 1, 1, 1)).tolist() == [[[[1, 2], [3, 0]]]]
