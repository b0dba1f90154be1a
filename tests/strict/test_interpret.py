from functools import partial
from types import SimpleNamespace

import numpy
from PIL import Image, ImageDraw, ImageFont
import pytest
import torch
from torch import nn

from minifast.databunch import DataBunch
from minifast.extras.interpret import (better_threshold, class_table, confusion_picture,
                                       constant_class, constant_tags, tag_table, worst)
from minifast.metrics import Score, accuracy_thresh, fbeta, foreground_accuracy

NAMES = ["haze", "road", "water", "ice", "sun"]
# Above .5: haze 2 hits, 1 false; road 1 hit, 2 missed; ice missed once; sun said, and never true
TAGS = torch.tensor([[1., 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0],
                     [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
LIKELY = torch.tensor([[.9, .1, .1, .2, .1], [.8, .2, .1, .2, .1], [.7, .3, .1, .2, .1],
                       [.1, .6, .1, .2, .1], [.2, .1, .1, .2, .1], [.3, .4, .1, .2, .55]])


@pytest.mark.parametrize("targets", [TAGS, TAGS.long()])
def test_the_table_of_tags_begins_with_the_worst_and_ends_with_what_is_not_there(targets):
    # F2: haze 5 * 2 / (4 * 2 + 3) = 10/11, road 5 / (4 * 3 + 1) = 5/13, ice 0 / 4
    table = tag_table(LIKELY, targets, NAMES, .5)
    assert table.splitlines() == [
        "tag    pictures  precision  recall     F2",
        "ice           1        nan   0.000  0.000",
        "road          3      1.000   0.333  0.385",
        "haze          2      0.667   1.000  0.909",
        "on no picture: water, sun"]
    assert "on no" not in tag_table(LIKELY[:, :2], targets[:, :2], NAMES[:2])


def test_each_tag_can_have_its_threshold_and_at_it_the_answer_is_no():
    # haze above .9: never; road above .1: 4 said, 2 hits; ice above .1: all, 1 hit
    rows = tag_table(LIKELY, TAGS, NAMES, torch.tensor([.9, .1, .1, .1, .6])).splitlines()[1:4]
    assert {row.split()[0]: row.split()[2:4] for row in rows} == {
        "haze": ["nan", "0.000"], "road": ["0.500", "0.667"], "ice": ["0.167", "1.000"]}
    assert tag_table(LIKELY, TAGS, NAMES) == tag_table(LIKELY, TAGS, NAMES, .2)


def test_the_table_of_classes_has_pixels_and_iou_the_most_pixels_first():
    # Car 3 of 4 + 4 - 3, sky 6 of 8 + 7 - 6. Of cat and void is no pixel; one is said to be void.
    counts = Score(torch.tensor([[3, 1, 0, 0], [1, 6, 0, 1], [0] * 4, [0] * 4]),
                   torch.tensor([[4], [8], [0], [0]]))
    assert class_table(counts, ["car", "sky", "cat", "void"]).splitlines() == [
        "class         pixels    IoU",
        "sky               8  0.667", "car               4  0.600"]


PEN = ImageFont.load_default(13)
LEFT = 12 + round(PEN.getlength("pedestrian"))          # where the cells begin


@pytest.fixture(scope="module")
def confusions() -> Image.Image:
    """Twelve classes. Number 3 has a name."""
    shares = torch.zeros(12, 12, dtype=torch.float64)
    shares[0, 0], shares[1, :4], shares[2] = 1, torch.tensor([.25, .5, .746, 0]), float("nan")
    sheet = confusion_picture(shares, [*[""] * 3, "pedestrian", *[""] * 8])
    assert sheet.size == (LEFT + 12 * 34, LEFT + 12 * 34)
    return sheet


@pytest.mark.parametrize("row, column, text, ink, colour", [
    (0, 0, "100", "white", (0, 0, 255)), (1, 0, "25", "black", (191, 191, 255)),
    (1, 1, "50", "white", (128, 128, 255)), (1, 2, "75", "white", (65, 65, 255)),
    (1, 3, "", "black", "white"), (2, 2, "", "black", "white"), (3, 1, "", "black", "white")])
def test_a_confusion_is_a_percentage_on_blue(confusions, row, column, text, ink, colour):
    wanted, x, y = Image.new("RGB", (34, 34), "white"), LEFT + 34 * column, LEFT + 34 * row
    wanted.paste(colour, (0, 0, 33, 33))                # a line of one pixel between two cells
    ImageDraw.Draw(wanted).text((17, 17), text, ink, PEN, anchor="mm")
    assert confusions.crop((x, y, x + 34, y + 34)).tobytes() == wanted.tobytes()


def test_the_name_of_a_class_stands_before_its_row_and_turned_above_its_column(confusions):
    name, start = Image.new("RGB", (LEFT, 34), "white"), LEFT + 3 * 34
    ImageDraw.Draw(name).text((6, 17), "pedestrian", "black", PEN, anchor="lm")
    assert confusions.crop((0, start, LEFT, start + 34)).tobytes() == name.tobytes()
    turned = confusions.crop((start, 0, start + 34, LEFT)).transpose(Image.Transpose.ROTATE_270)
    assert turned.tobytes() == name.tobytes()


def learner(targets: list[torch.Tensor], model: nn.Module, bs: int = 2) -> SimpleNamespace:
    """As much of a learner as is needed here. Pictures get lighter."""
    items = [(torch.full((3, 1, 3), i, dtype=torch.uint8), y) for i, y in enumerate(targets)]
    data = DataBunch.create(items, items, bs=bs, num_workers=0, device=torch.device("cpu"))
    return SimpleNamespace(model=model, data=data, autocast=torch.autocast("cpu", enabled=False))


@pytest.mark.parametrize("bs", [1, 2, 5])
@pytest.mark.parametrize("k, wanted", [(1, [3]), (3, [3, 0, 1]), (9, [3, 0, 1, 4])])
def test_the_worst_pictures_are_those_with_the_lowest_metric_and_never_those_of_void(bs, k, wanted):
    # The model says 0 everywhere: 1/3, 2/3, nothing to say (void is 2), 0/2 and 2/2 are right.
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(.9)).train()
    model.load_state_dict({"0.weight": torch.zeros(3, 3, 1, 1), "0.bias": torch.eye(3)[0]})
    masks = [torch.tensor([row]) for row in ([0, 1, 1], [0, 1, 0], [2, 2, 2], [1, 1, 2], [0, 0, 2])]
    learn, before = learner(masks, model, bs), torch.get_rng_state()
    assert worst(learn, partial(foreground_accuracy, void_code=2), k) == wanted
    assert model.training and torch.equal(torch.get_rng_state(), before)    # dropout would draw


def test_any_metric_of_one_picture_will_do():
    learn = learner([torch.tensor(float(i)) for i in range(5)], nn.Flatten())
    assert worst(learn, lambda logits, y: (y - 2.2).abs().sum(), 5) == [2, 3, 1, 4, 0]
    assert worst(learn, lambda logits, y: -logits.sum(), 2) == [4, 3]


# Answers that are the same for all pictures

# The tags are in 2, 3, 1 and 0 pictures. F2, by hits, true ones and number said, and right cells:
#   the second alone    5/9, 1, 1, 0            12      and the third   10/11, 5/7, 5/7, 10/11  10
#   and the first       1, 5/6, 5/6, 1/2        12      all four        10/12, 5/8, 5/8, 10/12   6
OFTEN = torch.tensor([[1., 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0]])


def test_the_best_constant_tags_are_so_many_of_the_most_frequent_as_score_best():
    found = constant_tags(OFTEN, [partial(accuracy_thresh, thresh=.2), fbeta])
    none, best = found["no tag"], found["best constant tags"]
    assert none == {"accuracy_thresh(thresh=0.2)": 10 / 16, "fbeta": 0}
    assert [*best.values()] == pytest.approx([10 / 16, (20 / 11 + 10 / 7) / 4])
    # The last metric decides, and of equals the fewest tags.
    best = constant_tags(OFTEN, [fbeta, accuracy_thresh])["best constant tags"]
    assert best == pytest.approx({"fbeta": (5 / 9 + 2) / 4, "accuracy_thresh": 12 / 16})
    for tags, right in ((torch.zeros(2, 2), .5), (torch.ones(2, 2), 1)):     # one tag; all of them
        assert [*constant_tags(tags, [accuracy_thresh])["best constant tags"].values()] == [right]


def test_always_the_most_common_class():
    # 6 of 10 pixels; of the three classes that occur the others have an IoU of 0
    assert constant_class(torch.tensor([2, 6, 0, 2])) == pytest.approx((1, .6, .2))
    assert constant_class(torch.tensor([0, 5, 5])) == pytest.approx((1, .5, .25))


def f2(likely: torch.Tensor, tags: torch.Tensor, thresh: float) -> float:
    """Kaggle's score by counts: of a picture 5 hits / (4 true + said), and the mean of those."""
    said, true = likely.numpy() > numpy.float32(thresh), tags.numpy() > 0
    hits, both = (said & true).sum(axis=1), 4 * true.sum(axis=1) + said.sum(axis=1)
    return numpy.mean(5 * hits / numpy.maximum(both, 1))


def test_of_equally_good_thresholds_the_middle_one_is_chosen():
    # .25 to .61 are without a fault. At .2, with one hit of two said, F2 is 5 / (4 + 2).
    likely, tags = torch.tensor([[.62, .25], [.62, .25]]), torch.tensor([[1., 0], [1, 0]])
    assert better_threshold(likely, tags) == pytest.approx((.43, 1 / 6, 1 / 6))


def judges_among(n: int, seed: int) -> list[int]:
    """The pictures of the half that judges: a tag missed there does not lower the threshold."""
    likely = .9 - .8 * torch.eye(n)[..., None]                              # (n, n, 1)
    return [i for i in range(n) if better_threshold(likely[i], torch.ones(n, 1), .3, seed)[1] == 0]


@pytest.mark.parametrize("seed", range(3))
def test_brute_force_finds_the_same_threshold_and_the_same_gains(seed):
    rng, before = torch.Generator().manual_seed(seed), torch.get_rng_state()
    tags = (torch.rand(12, 4, generator=rng) < 0.4).float()
    likely = (torch.randn(12, 4, generator=rng) + 2 * tags - 1).sigmoid()
    better, *gains = better_threshold(likely, tags, .3, seed)
    judges = judges_among(12, seed)
    choosers = [i for i in range(12) if i not in judges]
    assert len(judges) == 6 and judges not in (judges_among(12, seed + 1), [*range(6, 12)])
    assert f2(likely[choosers], tags[choosers], better) == pytest.approx(max(
        f2(likely[choosers], tags[choosers], percent / 100) for percent in range(1, 100)))
    assert gains == pytest.approx([
        f2(likely[half], tags[half], better) - f2(likely[half], tags[half], .3)
        for half in (choosers, judges)])
    assert torch.equal(before, torch.get_rng_state())
