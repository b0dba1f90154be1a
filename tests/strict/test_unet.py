import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.groups import body_of
from minifast.resnet import Block, ResNet, resnet18, resnet34, resnet50
from minifast.unet import (DynamicUNet, UNet, Up, at_size_of, conv_relu, double_conv,
                           pixel_shuffle, shapes_in)

SIZES = [(64, 64), (45, 61), (33, 32), (17, 50), (5, 3), (1, 1)]


def picture(h: int, w: int, n: int = 1) -> Tensor:
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(0))


def small(levels: int = 3) -> UNet:
    torch.manual_seed(0)
    return UNet(5, channels=4, levels=levels)


def dynamic(bottle: bool = False) -> DynamicUNet:
    """Over a ResNet with one block a layer."""
    torch.manual_seed(0)
    return DynamicUNet(body_of(ResNet(Block, (1, 1, 1, 1)), "tiny"), 5, bottle)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def has_gradient(layer: nn.Module) -> bool:
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def silence(layer: nn.Module) -> None:
    """Make a layer answer 0, whatever comes."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


# The small one

@pytest.mark.parametrize("h, w", SIZES)
def test_a_unet_answers_for_each_pixel_of_any_size(h, w):
    with torch.no_grad():
        assert small().eval()(picture(h, w, n=2)).shape == (2, 5, h, w)


def test_the_way_through_a_unet_is_the_drawing_of_a_u():
    # By hand, for two levels, with a last row that is its own pool: 5 rows, 3, 2
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


def pooled(x: Tensor) -> Tensor:
    """2x2 maxima; a row or column without a partner is one by itself."""
    padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=float("-inf"))
    return padded.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))


def test_what_a_unet_is_made_of():
    assert count(UNet(12)) == 7_763_404
    # first: 3 to 4 to 4 channels; down to 8 and up again; last; two numbers a channel of BatchNorm
    first, down, up = (27 + 36) * 4 + 16, (36 + 72) * 8 + 32, (72 + 36) * 4 + 16
    assert count(UNet(5, 4, 1)) == first + down + (8 * 4 * 4 + 4) + up + (4 * 5 + 5)


def test_a_unets_recipe_makes_another_of_the_same_shape():
    assert UNet(12).recipe == {"kind": "UNet", "channels": 32, "levels": 4}
    net = UNet(5, 4, 3)
    assert net.recipe == {"kind": "UNet", "channels": 4, "levels": 3}
    assert "recipe" not in "".join(net.state_dict())            # a plain dict, and no weight


def test_a_double_conv_is_two_convolutions_each_with_batchnorm_and_relu():
    layers, x = double_conv(3, 4), picture(6, 5, n=2)
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert [type(layer) for layer in layers] == kinds
    assert layers(x).shape == (2, 4, 6, 5) and layers[0].bias is None and layers[3].bias is None
    assert layers[0].kernel_size == layers[3].kernel_size == (3, 3)


@pytest.mark.parametrize("level", range(3))
def test_every_bridge_of_a_unet_carries_gradient(level):
    # With nothing from below at its level, the layer that laid the bridge has no other way out.
    net = small()
    silence(net.grows[2 - level])
    laid_by = [net.first, *net.downs][level]
    net(picture(16, 16, n=2)).sum().backward()
    assert has_gradient(laid_by) and not has_gradient([net.first, *net.downs][level + 1])


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"channels": 0}, {"levels": 0}])
def test_a_unet_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be at least 1, got 0"):
        UNet(**{"classes": 2, **wrong})


def test_a_unet_learns_what_a_pixel_is_and_where():
    # Class 1 are the pixels left of the middle that are bright: neither place nor light is enough.
    torch.manual_seed(0)
    net, x = UNet(2, channels=4, levels=2), picture(16, 16, n=8)
    y = ((x.mean(dim=1) > 0.5) & (torch.arange(16) < 8)).long()
    x[:, 0] = torch.linspace(-1, 1, 16)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (net(x).argmax(dim=1) == y).float().mean() > 0.9 > 1 - y.float().mean()


# v1's, over any body

@pytest.mark.parametrize("arch, classes, bottle, parameters", [
    (resnet18, 32, False, 31_116_008), (resnet34, 32, False, 41_224_168),
    (resnet34, 32, True, 41_135_018), (resnet34, 12, True, 41_133_018),
    (resnet50, 32, False, 339_078_760)])
def test_parameter_counts_are_v1s(arch, classes, bottle, parameters):
    with torch.device("meta"):                                  # shapes alone, without numbers
        body = nn.Sequential(*list(arch().children())[:-2])
        assert count(DynamicUNet(body, classes, bottle)) == parameters


def test_the_widths_on_the_way_up_are_v1s():
    with torch.device("meta"):
        net = DynamicUNet(nn.Sequential(*list(resnet34().children())[:-2]), 32)
    assert net.bridged == [2, 4, 5, 6]              # the first ReLU, layer1, layer2, layer3
    assert [up.convs[1][0].out_channels for up in net.ups] == [512, 384, 256, 96]
    assert net.cross[0][0].out_channels == 99               # and no bottle, unless that is said


@pytest.mark.parametrize("bottle", [False, True])
@pytest.mark.parametrize("h, w", SIZES)
def test_a_dynamic_unet_answers_for_each_pixel_of_any_size(h, w, bottle):
    with torch.no_grad():
        assert dynamic(bottle).eval()(picture(h, w, n=2)).shape == (2, 5, h, w)


@pytest.mark.parametrize("h, w", [(64, 96), (45, 61)])
def test_the_way_through_a_dynamic_unet_is_v1s(h, w):
    net, x = dynamic().eval(), picture(h, w)
    body = list(net.body)
    with torch.no_grad():
        for up in net.ups:
            up.norm.bias -= 0.3                             # so that the ReLU after it matters
        laid = [x]
        for layer in body:
            laid.append(layer(laid[-1]))
        bottom, bridges = laid[8], [laid[7], laid[6], laid[5], laid[3]]
        y = net.middle[2:](F.relu(net.middle[0](bottom)))
        for up, bridge in zip(net.ups, bridges):
            y = F.interpolate(up.shuffle(y), bridge.shape[-2:], mode="nearest")
            y = up.convs(F.relu(torch.cat([y, up.norm(bridge)], dim=1)))
        y = F.interpolate(net.shuffle(y), (h, w), mode="nearest")
        y = torch.cat([y, x], dim=1)
        assert torch.allclose(net(x), net.last(y + net.cross(y)), atol=1e-4)


def test_the_parts_of_a_dynamic_unet_are_wired_as_v1s():
    net = dynamic(bottle=True)
    # 512 channels below: 256 + 256, 256 + 128, 192 + 64, and (128 + 64) / 2 = 96; 3 of the picture
    assert [(part[0].in_channels, part[0].out_channels) for part in net.middle[2:]] == [
        (512, 1024), (1024, 512)]
    assert isinstance(net.middle[0], nn.BatchNorm2d) and isinstance(net.middle[1], nn.ReLU)
    assert [(part[0].in_channels, part[0].out_channels) for part in net.cross] == [
        (99, 49), (49, 99)]
    assert (net.last.in_channels, net.last.out_channels, net.last.kernel_size) == (99, 5, (1, 1))
    assert not net.last.bias.any()
    # kaiming_normal_ of 99 inputs: sqrt(2 / 99) = .142, from 495 numbers
    assert net.last.weight.std().item() == pytest.approx(0.142, rel=0.15)


@pytest.mark.parametrize("number", range(4))
def test_every_bridge_of_a_dynamic_unet_carries_gradient(number):
    # As for the small one: from below comes nothing, so what laid the bridge has no other way.
    net = dynamic()
    up, after = net.ups[3 - number], [0, 4, 5, 6][number]   # the ReLU has no weights, conv1 has
    silence(up.shuffle)
    net(picture(64, 64, n=2)).sum().backward()
    assert has_gradient(net.body[after]) and not has_gradient(net.body[7])
    # And the check can fail: without the bridge there is none.
    net.zero_grad()
    silence(up.norm)
    net(picture(64, 64, n=2)).sum().backward()
    assert not has_gradient(net.body[after])


def test_the_picture_itself_is_the_last_bridge():
    net = dynamic().eval()
    silence(net.shuffle)
    x = picture(32, 32).requires_grad_()
    net(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_state_does_not_depend_on_the_size_of_the_pictures():
    one, other = dynamic(), dynamic()
    one(picture(65, 97, n=2))
    other(picture(64, 64, n=2))
    other.load_state_dict(one.state_dict())                 # v1: "Missing key layers.10..."
    with torch.no_grad():
        for h, w in SIZES:
            assert torch.equal(one.eval()(picture(h, w)), other.eval()(picture(h, w)))


def test_making_a_dynamic_unet_leaves_its_body_as_it_was():
    body = body_of(ResNet(Block, (1, 1, 1, 1)), "tiny")
    body[1].eval()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    DynamicUNet(body, 5)
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert body[0].training and not body[1].training


def test_a_dynamic_unet_of_no_class_is_refused():
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        DynamicUNet(BODIES["one halving"][0], 0)


# Bodies of other kinds

def conv(c_in: int, c_out: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2)


BODIES = {
    "like VGG, first convolutions at full size": (nn.Sequential(
        conv(3, 4), nn.ReLU(True), nn.MaxPool2d(2), conv(4, 8), nn.ReLU(True), nn.MaxPool2d(2),
        conv(8, 16)), [1, 4]),
    "like SqueezeNet, whose first convolution has no border": (nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True),
        conv(4, 8)), [1]),
    "patches of 4 x 4 at once": (nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), conv(8, 16, stride=2)), [1]),
    "one halving": (nn.Sequential(conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.ReLU()), []),
    "no halving": (nn.Sequential(conv(3, 8), nn.ReLU()), [])}


@pytest.mark.parametrize("body, bridged", BODIES.values(), ids=list(BODIES))
def test_a_bridge_begins_wherever_the_next_child_makes_the_picture_smaller(body, bridged):
    net = DynamicUNet(body, 5)
    assert net.bridged == bridged
    for h, w in ((64, 64), (45, 61), (16, 24)):
        assert net(picture(h, w, n=2)).shape == (2, 5, h, w)


def test_no_pixel_shuffle_is_needed_where_the_first_bridge_has_the_size_of_the_picture():
    shuffles = {name: isinstance(DynamicUNet(body, 5).shuffle, nn.Identity)
                for name, (body, _) in BODIES.items()}
    assert list(shuffles.values()) == [True, False, False, False, True]


def test_shapes_in_a_body_are_channels_height_and_width():
    assert shapes_in(BODIES["one halving"][0]) == [(8, 32, 32)] * 3
    assert shapes_in(BODIES["patches of 4 x 4 at once"][0])[-1] == (16, 8, 8)


# The parts

def test_a_conv_relu_keeps_height_and_width_and_begins_as_kaiming_normal():
    torch.manual_seed(0)
    layers = conv_relu(64, 100)
    assert layers(torch.randn(2, 64, 7, 5)).shape == (2, 100, 7, 5)
    assert (layers(torch.randn(2, 64, 7, 5)) >= 0).all()
    # sqrt(2 / (64 * 9)) = .0589
    assert layers[0].weight.std().item() == pytest.approx(0.0589, rel=0.02)
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


def test_pixel_shuffle_makes_four_channels_to_four_pixels():
    shuffle = pixel_shuffle(1, 1)
    with torch.no_grad():
        shuffle[0][0].weight.copy_(torch.tensor([1., 2, 3, -4])[:, None, None, None])
    assert shuffle(torch.ones(1, 1, 1, 1)).tolist() == [[[[1, 2], [3, 0]]]]


def test_kernels_of_a_pixel_shuffle_begin_as_kaiming_normal():
    torch.manual_seed(0)
    # sqrt(2 / 200) = .1
    assert pixel_shuffle(200, 100)[0][0].weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_an_up_has_the_size_of_its_bridge():
    up = Up(8, 3, 6)
    assert (up.norm.num_features, up.convs[0][0].in_channels) == (3, 8 // 2 + 3)
    assert up(torch.randn(1, 8, 2, 3), torch.randn(1, 3, 3, 6)).shape == (1, 6, 3, 6)


def test_at_size_of_takes_the_nearest_pixel_and_leaves_what_fits():
    x = torch.tensor([[[[1., 2, 3, 4]]]])
    assert at_size_of(torch.zeros(1, 9, 1, 3), x).tolist() == [[[[1, 2, 3]]]]
    assert at_size_of(torch.zeros(1, 9, 1, 4), x) is x
