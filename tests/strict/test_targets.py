from functools import partial
from math import log
from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch

from minifast.targets import Categories, Masks, Tags, pixel_loss


# One class a picture

def test_a_category_is_the_number_of_its_class_and_its_caption_the_name():
    target = Categories(["sea", "land", "air"])
    number = target.encode("land")
    assert (number.dtype, number.ndim, int(number)) == (torch.int64, 0, 1)
    assert [target.caption(torch.tensor(number)) for number in (2, 0)] == ["air", "sea"]


def test_the_loss_of_categories_is_cross_entropy():
    # -log(3/4) and -log(1/2), mean .4904146
    loss = Categories(["a", "b"]).loss(torch.tensor([[0, log(3)], [5, 5]]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(0.4904146, abs=1e-6)


# Any number of classes a picture

def test_tags_are_a_0_or_a_1_a_class_and_their_caption_is_those_that_there_are():
    tags = Tags(["cloudy", "haze", "road"])
    target = tags.encode(["road", "cloudy", "road"])            # road counts once
    assert target.dtype == torch.float32 and target.tolist() == [1, 0, 1]
    assert tags.encode([]).tolist() == [0, 0, 0]
    assert tags.caption(target) == "cloudy;road" and tags.caption(torch.zeros(3)) == ""


@pytest.mark.parametrize("encode", [lambda: Categories(["sea", "road"]).encode("raod"),
                                    lambda: Tags(["haze", "road"]).encode(["haze", "raod"])])
def test_an_unknown_class_is_refused_with_the_nearest(encode):
    with pytest.raises(ValueError, match=r"\braod\b.*\broad\b"):
        encode()


def test_the_loss_of_tags_is_binary_cross_entropy_over_pictures_and_classes():
    logits = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])
    targets = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])
    assert Tags([*"abcd"]).loss(logits, targets).item() == pytest.approx(0.7571945, abs=1e-6)


# From logits to probabilities to a decision, which looks like a target

def test_probabilities_of_categories_and_masks_add_up_to_1_over_classes_and_those_of_tags_do_not():
    logits = torch.tensor([[0, log(3)], [5, 5]])                # shares 1 : 3 and 1 : 1
    assert Categories(["a", "b"]).probabilities(logits).tolist() == [
        pytest.approx([.25, .75]), pytest.approx([.5, .5])]
    assert Tags(["a", "b"]).probabilities(logits)[0].tolist() == pytest.approx([.5, .75])
    masks = Masks(["a", "b"]).probabilities(logits[:, :, None, None].expand(2, 2, 3, 4))
    assert masks[0, :, 2, 3].tolist() == pytest.approx([.25, .75])


def test_decisions_look_like_targets():
    likely = torch.tensor([[.1, .6, .3], [.25, .25, .5]])
    pixels = likely[:, :, None, None].expand(2, 3, 2, 2)
    for thresh in (0.25, 0.9):                                  # which only tags have
        assert Categories([*"abc"]).decisions(likely, thresh).tolist() == [1, 2]
        assert Masks([*"abc"]).decisions(pixels, thresh)[:, 1].tolist() == [[1, 1], [2, 2]]
    tags = Tags([*"abc"]).decisions(likely, 0.25)               # strictly above
    assert tags.dtype == torch.float32 and tags.tolist() == [[0, 1, 1], [0, 0, 1]]


# Masks

def mask_file(path: Path, values: list | numpy.ndarray, dtype: str = "uint8") -> Path:
    Image.fromarray(numpy.array(values, dtype=dtype)).save(path)
    return path


def test_the_target_of_a_mask_is_its_class_numbers_at_the_wanted_size(tmp_path):
    file = mask_file(tmp_path / "a_P.png", [[0, 1, 2, 3, 4, 5]] * 2)
    masks = Masks([*"abcdef"])                                  # 5, the last class, is one too
    assert masks.encode(file).dtype == torch.int64
    assert masks.encode(file).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert masks.encode(file, (2, 2)).tolist() == [[2, 3]] * 2
    assert masks.encode(file, (2, 2), "squish").tolist() == [[1, 4]] * 2


def test_masks_of_0_and_255_are_divided_where_that_is_said(tmp_path):
    file = mask_file(tmp_path / "a_P.png", [[0, 255]])
    assert Masks(["no", "yes"], div=True).encode(file).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"a_P\.png.* 0, 1\b"):     # the values once divided
        Masks(["no"], div=True).encode(file)


@pytest.mark.parametrize("values, seen", [
    ([0, 255, 0], "0, 255"), ([3, 255, 11], "3, 11, 255"), ([1, 12, 2], "1, 2, 12"),
    ([0, -1, 5], "-1, 0, 5"), ([*range(9), 70000, *range(9)], "7, 8, 70000")])
def test_a_number_that_is_no_class_is_refused_with_the_file_and_all_its_values(tmp_path, values,
                                                                               seen):
    file = mask_file(tmp_path / "wrong_P.tif", [values], "int32")
    for size in (None, (1, 1)):                                 # the centre is wrong
        with pytest.raises(ValueError, match=rf"wrong_P\.tif.*{seen}\b.*\b12\b"):
            Masks([*"abcdefghijkl"]).encode(file, size)


def test_names_and_caption_of_a_mask_are_those_of_the_classes_that_it_has():
    masks, target = Masks(["sky", "road", "car"]), torch.tensor([[2, 2], [0, 2]])
    assert [*masks.names_in(target).items()] == [(0, "sky"), (2, "car")]
    assert masks.caption(target) == "sky;car" and masks.caption(target[0]) == "car"


# The loss of masks

N, C, H, W = 4, 3, 2, 5


def pixels() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets, and by hand the loss of each pixel (n, h, w): -log of its softmax."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(N, C, H, W, generator=rng)
    targets = torch.randint(C, (N, H, W), generator=rng)
    right = logits.exp().gather(1, targets[:, None])[:, 0]
    return logits, targets, -(right / logits.exp().sum(dim=1)).log()


def test_the_loss_of_masks_is_cross_entropy_over_all_pixels():
    logits, targets, each = pixels()
    assert Masks.loss is pixel_loss
    assert pixel_loss(logits, targets).item() == pytest.approx(each.mean().item(), abs=1e-6)


@pytest.mark.parametrize("ignore", range(C))
def test_void_pixels_are_pixels_of_loss_0(ignore):
    logits, targets, each = pixels()
    wanted = each[targets != ignore].sum().item() / (N * H * W)
    loss = partial(pixel_loss, ignore=ignore)
    logits.requires_grad_()
    loss(logits, targets).backward()
    assert loss(logits, targets).item() == pytest.approx(wanted, abs=1e-6)
    assert logits.grad.abs().sum(dim=1).bool().equal(targets != ignore)


@pytest.mark.parametrize("ignore", [None, 0, 1])
@pytest.mark.parametrize("bs", [1, 2, 3])
def test_the_losses_of_batches_of_any_size_add_up_to_that_of_the_whole(ignore, bs):
    logits, targets, _ = pixels()
    targets[0], targets[1, 0] = 1, 1                            # the first picture is void alone
    batches = zip(logits.split(bs), targets.split(bs))
    parts = sum(len(y) * pixel_loss(x, y, ignore).item() for x, y in batches)
    assert parts / N == pytest.approx(pixel_loss(logits, targets, ignore).item(), abs=1e-6)


def test_a_batch_of_nothing_but_void_has_loss_0_and_no_gradient():
    logits = pixels()[0].requires_grad_()
    loss = pixel_loss(logits, torch.full((N, H, W), 2), ignore=2)
    loss.backward()
    assert loss.item() == 0 and logits.grad.eq(0).all()


@pytest.mark.parametrize("ignore", [-1, 3, 255])
def test_what_is_ignored_must_be_a_class(ignore):
    with pytest.raises(ValueError, match=rf"ignore.*{ignore}"):
        pixel_loss(*pixels()[:2], ignore=ignore)
