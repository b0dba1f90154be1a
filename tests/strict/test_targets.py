from functools import partial
from math import log
from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch

from minifast.targets import Categories, Masks, Tags, pixel_loss


# One class a picture

def test_a_category_is_the_number_of_its_class():
    target = Categories(["sea", "land", "air"]).encode("land")
    assert (target.dtype, target.ndim, int(target)) == (torch.int64, 0, 1)


def test_an_unknown_category_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"class.*\blnd\b.*\bland\b"):
        Categories(["sea", "land"]).encode("lnd")


def test_the_caption_of_a_category_is_its_class():
    target = Categories(("sea", "land", "air"))
    assert [target.caption(torch.tensor(number)) for number in (2, 0)] == ["air", "sea"]
    assert target.classes == ["sea", "land", "air"]


def test_the_loss_of_categories_is_cross_entropy():
    # -log(3/4) and -log(1/2), mean .4904146
    loss = Categories(["a", "b"]).loss(torch.tensor([[0, log(3)], [5, 5]]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(0.4904146, abs=1e-6)


# Any number of classes a picture

def test_tags_are_a_0_or_a_1_per_class():
    target = Tags(["cloudy", "haze", "road"]).encode(["road", "cloudy"])
    assert target.dtype == torch.float32
    assert target.tolist() == [1, 0, 1]
    assert Tags(["cloudy", "haze"]).encode([]).tolist() == [0, 0]


def test_a_tag_that_stands_twice_counts_once():
    assert Tags(["haze", "road"]).encode(["road", "road"]).tolist() == [0, 1]


def test_an_unknown_tag_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"tag.*\braod\b.*\broad\b"):
        Tags(["haze", "road"]).encode(["haze", "raod"])


def test_the_caption_of_tags_is_those_that_there_are():
    tags = Tags(("cloudy", "haze", "road"))
    assert tags.caption(torch.tensor([1., 0, 1])) == "cloudy;road"
    assert tags.caption(torch.zeros(3)) == ""
    assert tags.classes == ["cloudy", "haze", "road"]


def test_the_loss_of_tags_is_binary_cross_entropy_over_pictures_and_classes():
    logits = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])
    targets = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])
    assert Tags("abcd").loss(logits, targets).item() == pytest.approx(0.7571945, abs=1e-6)


# From logits to probabilities to a decision, which looks like a target

def test_probabilities_of_categories_and_masks_add_up_to_1_over_classes_and_those_of_tags_do_not():
    logits = torch.tensor([[0, log(3)], [5, 5]])                            # shares 1 : 3 and 1 : 1
    assert Categories(["a", "b"]).probabilities(logits).tolist() == [
        pytest.approx([.25, .75]), pytest.approx([.5, .5])]
    assert Tags(["a", "b"]).probabilities(logits)[0].tolist() == pytest.approx([.5, .75])
    masks = Masks(["a", "b"]).probabilities(logits[:, :, None, None].expand(2, 2, 3, 4))
    assert masks[0, :, 2, 3].tolist() == pytest.approx([.25, .75])


def test_decisions_look_like_targets():
    likely = torch.tensor([[.1, .6, .3], [.2, .2, .6]])
    assert Categories("abc").decisions(likely, 0.5).tolist() == [1, 2]
    pixels = likely[:, :, None, None].expand(2, 3, 2, 2)
    assert Masks("abc").decisions(pixels, 0.5).tolist() == [[[1, 1], [1, 1]], [[2, 2], [2, 2]]]
    said = Tags("abc").decisions(likely, 0.2)
    assert said.dtype == torch.float32 and said.tolist() == [[0, 1, 1], [0, 0, 1]]


# Masks

def mask_file(path: Path, values: list | numpy.ndarray) -> Path:
    Image.fromarray(numpy.array(values, dtype=numpy.uint8)).save(path)
    return path


def test_the_target_of_a_mask_is_its_class_numbers(tmp_path):
    file = mask_file(tmp_path / "a_P.png", [[0, 1, 2], [2, 2, 0]])
    target = Masks(["sky", "road", "car"]).encode(file)
    assert target.dtype == torch.int64 and target.tolist() == [[0, 1, 2], [2, 2, 0]]


def test_a_mask_is_cut_by_size_method_and_window(tmp_path):
    file = mask_file(tmp_path / "a_P.png", numpy.arange(6)[None].repeat(2, axis=0))
    target = Masks("abcdef").encode(file, (2, 3), "crop", (0.5, 1.0))
    assert target.tolist() == [[3, 4, 5], [3, 4, 5]]
    assert Masks("abcdef").encode(file, (2, 2), "squish").tolist() == [[1, 4], [1, 4]]


def test_masks_of_0_and_255_are_divided_where_that_is_said(tmp_path):
    file = mask_file(tmp_path / "a_P.png", [[0, 255]])
    assert Masks(["no", "yes"], div=True).encode(file).tolist() == [[0, 1]]


@pytest.mark.parametrize("values, classes, value, pixels, cause", [
    ([[0, 255], [255, 255]], 12, "255", "3 pixels", "div=True"),
    ([[3, 11], [255, 7]], 12, "255", "1 pixels", "no label"),
    ([[3, 147], [150, 150]], 12, "150", "2 pixels", "palette.*grey"),
    ([[1, 12], [12, 3]], 12, "12", "2 pixels", "codes.*another set.*from 1"),
    ([[1, 36], [12, 3]], 12, "36", "1 pixels", "codes.*another set"),
    ([[1, 37], [12, 3]], 12, "37", "1 pixels", "palette.*grey")])
def test_a_value_outside_the_codes_is_refused_with_file_pixels_and_likely_cause(
        tmp_path, values, classes, value, pixels, cause):
    file = mask_file(tmp_path / "wrong_P.png", values)
    with pytest.raises(ValueError, match=rf"wrong_P\.png.*\b{value}\b.*\({pixels}\).*\b{classes} "
                                         rf"classes \(0\.\.{classes - 1}\).*{cause}"):
        Masks([f"class {i}" for i in range(classes)]).encode(file)


def test_the_pixels_of_a_wrong_value_are_counted_in_the_whole_mask(tmp_path):
    file = mask_file(tmp_path / "wrong_P.png", numpy.full((40, 50), 7))
    with pytest.raises(ValueError, match=r"7 \(2,000 pixels\)"):
        Masks("abc").encode(file, (4, 5))


def test_a_negative_value_is_refused(tmp_path):
    Image.fromarray(numpy.array([[0, -1]], dtype=numpy.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif.*-1 \(1 pixels\)"):
        Masks("abc").encode(tmp_path / "a.tif")


def test_the_last_class_is_one_too(tmp_path):
    assert Masks("abc").encode(mask_file(tmp_path / "a.png", [[2]])).tolist() == [[2]]


def test_names_and_caption_of_a_mask_are_those_of_the_classes_that_it_has():
    target = Masks(numpy.array(["sky", "road", "car"]))
    assert target.names_in(torch.tensor([[2, 2], [0, 2]])) == {0: "sky", 2: "car"}
    assert target.caption(torch.tensor([[2, 2], [0, 2]])) == "sky;car"
    assert all(type(name) is str for name in target.classes)        # numpy's strings save badly


# The loss of masks

def pixels(n: int = 2, c: int = 3, h: int = 4, w: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, c, h, w, generator=rng), torch.randint(c, (n, h, w), generator=rng)


def test_the_loss_of_masks_is_cross_entropy_over_all_pixels_flattened_as_in_v1():
    logits, targets = pixels()
    flat = logits.permute(0, 2, 3, 1).reshape(-1, 3).log_softmax(dim=1)         # (n h w, c)
    wanted = -flat[torch.arange(40), targets.flatten()].mean()
    assert Masks.loss is pixel_loss
    assert pixel_loss(logits, targets).item() == pytest.approx(wanted.item(), abs=1e-6)


def test_masks_of_bytes_are_targets_too():
    logits, targets = pixels()
    for ignore in (None, 1):
        assert pixel_loss(logits, targets.byte(), ignore) == pixel_loss(logits, targets, ignore)


def test_pixels_of_the_ignored_class_do_not_count():
    logits, targets = pixels()
    flat = logits.permute(0, 2, 3, 1).reshape(-1, 3).log_softmax(dim=1)
    each = -flat[torch.arange(40), targets.flatten()]
    for ignore in (0, 1, 2):
        wanted = each[targets.flatten() != ignore].mean()
        loss = partial(pixel_loss, ignore=ignore)(logits, targets)
        assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)
    single = torch.full_like(targets, 1)
    single[0, 0, 0] = 2                                             # one pixel counts
    assert pixel_loss(logits, single, ignore=1).item() == pytest.approx(-flat[0, 2].item())


def test_a_batch_of_void_alone_is_harmless_in_the_loss():
    logits, targets = pixels()
    logits.requires_grad_()
    loss = pixel_loss(logits, torch.full_like(targets, 2), ignore=2)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("ignore", [-1, 3, 255])
def test_what_is_ignored_must_be_a_class(ignore):
    with pytest.raises(ValueError, match=rf"ignore.*{ignore}"):
        pixel_loss(*pixels(), ignore=ignore)


def test_the_values_of_a_divided_mask_are_0_and_1(tmp_path):
    file = mask_file(tmp_path / "a_P.png", [[0, 255]])
    with pytest.raises(ValueError, match=r"value 1 \(1 pixels\).* 1 classes.*are the codes"):
        Masks(["only"], div=True).encode(file)
