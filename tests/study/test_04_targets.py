from functools import partial
from math import exp, log
from pathlib import Path

import numpy
from PIL import Image
import pytest
import torch

from minifast.targets import Categories, Masks, Tags, pixel_loss

WEATHER = ["clear", "cloudy", "haze"]


def mask_file(path: Path, numbers: list[list[int]]) -> Path:
    Image.fromarray(numpy.array(numbers, dtype=numpy.uint8)).save(path)
    return path


def test_a_class_is_encoded_as_its_number():
    target = Categories(WEATHER).encode("haze")
    assert target.dtype == torch.int64 and target.shape == () and target == 2
    with pytest.raises(ValueError):
        Categories(WEATHER).encode("fog")


def test_tags_are_encoded_as_a_0_or_1_for_each_class():
    target = Tags(WEATHER).encode(["haze", "clear", "haze"])
    assert target.dtype == torch.float32 and target.tolist() == [1, 0, 1]
    assert Tags(WEATHER).encode([]).tolist() == [0, 0, 0]
    with pytest.raises(ValueError):
        Tags(WEATHER).encode(["clear", "fog"])


def test_probabilities_of_one_class_add_up_to_1():
    likely = Categories(["a", "b"]).probabilities(torch.tensor([[0., log(3)], [5, 5]]))
    assert likely[0].tolist() == pytest.approx([0.25, 0.75])    # 1 : 3
    assert likely[1].tolist() == pytest.approx([0.5, 0.5])


def test_the_probability_of_a_tag_does_not_depend_on_the_others():
    likely = Tags(["a", "b"]).probabilities(torch.tensor([[0., log(3)]]))
    assert likely[0].tolist() == pytest.approx([0.5, 0.75])     # 1 / (1 + 1), 1 / (1 + 1 / 3)


def test_the_decision_is_the_most_probable_class():
    likely = torch.tensor([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    assert Categories(WEATHER).decisions(likely, thresh=0.9).tolist() == [1, 2]
    pixels = likely[:, :, None, None].expand(2, 3, 4, 5)
    assert Masks(WEATHER).decisions(pixels, thresh=0.9).shape == (2, 4, 5)
    assert Masks(WEATHER).decisions(pixels, thresh=0.9)[1, 3, 4] == 2


def test_the_decision_is_every_tag_above_the_threshold():
    said = Tags(WEATHER).decisions(torch.tensor([[0.1, 0.5, 0.6]]), thresh=0.5)
    assert said.dtype == torch.float32 and said.tolist() == [[0, 0, 1]]


def test_captions_say_a_target_in_words():
    assert Categories(WEATHER).caption(torch.tensor(1)) == "cloudy"
    assert Tags(WEATHER).caption(torch.tensor([1., 0, 1])) == "clear;haze"
    assert Masks(WEATHER).caption(torch.tensor([[2, 2], [0, 2]])) == "clear;haze"
    assert Masks(WEATHER).names_in(torch.tensor([[2, 2], [0, 2]])) == {0: "clear", 2: "haze"}


def test_a_mask_is_encoded_as_the_numbers_in_its_file(tmp_path):
    file = mask_file(tmp_path / "a.png", [[0, 1, 2, 2], [0, 1, 2, 2]])
    target = Masks(WEATHER).encode(file)
    assert target.dtype == torch.int64 and target.tolist() == [[0, 1, 2, 2]] * 2
    assert Masks(WEATHER).encode(file, (2, 2), "crop").tolist() == [[1, 2]] * 2
    assert Masks(WEATHER).encode(file, (1, 2), "squish").tolist() == [[1, 2]]


def test_a_mask_has_no_other_numbers_than_classes(tmp_path):
    with pytest.raises(ValueError):
        Masks(WEATHER).encode(mask_file(tmp_path / "a.png", [[0, 3]]))
    two = mask_file(tmp_path / "b.png", [[0, 255]])
    with pytest.raises(ValueError):
        Masks(["no", "yes"]).encode(two)
    assert Masks(["no", "yes"], div=True).encode(two).tolist() == [[0, 1]]


def test_each_kind_has_its_loss():
    logits = torch.tensor([[0., log(3)]])
    # Class 1 of 2 has the probability 3/4
    loss = Categories(["a", "b"]).loss(logits, torch.tensor([1]))
    assert loss.item() == pytest.approx(-log(0.75))
    # Both tags are there: their probabilities are 1/2 and 3/4
    loss = Tags(["a", "b"]).loss(logits, torch.ones(1, 2))
    assert loss.item() == pytest.approx(-(log(0.5) + log(0.75)) / 2)
    assert Masks(["a", "b"]).loss is pixel_loss


# 1 x 4 pixels; their true classes have the probabilities 1/2, 1/4, 1/8 and 1/16. Class 3 is void.
CLASSES = torch.tensor([[[0, 1, 3, 3]]])
LIKELY = torch.full((1, 4, 1, 4), 1.)
for pixel, (number, share) in enumerate(zip(CLASSES.flatten(), (1 / 2, 1 / 4, 1 / 8, 1 / 16))):
    LIKELY[0, :, 0, pixel] = (1 - share) / 3
    LIKELY[0, number, 0, pixel] = share


def test_the_loss_of_masks_is_the_mean_over_pixels():
    assert pixel_loss(LIKELY.log(), CLASSES).item() == pytest.approx(log(2) * (1 + 2 + 3 + 4) / 4)
    assert exp(-pixel_loss(LIKELY.log(), CLASSES)) == pytest.approx(2 ** -2.5)


def test_void_pixels_have_no_loss():
    loss = partial(pixel_loss, ignore=3)
    assert loss(LIKELY.log(), CLASSES).item() == pytest.approx(log(2) * (1 + 2 + 0 + 0) / 4)
    assert loss(LIKELY.log(), torch.full_like(CLASSES, 3)) == 0         # and not NaN
    with pytest.raises(ValueError):
        pixel_loss(LIKELY.log(), CLASSES, ignore=4)
