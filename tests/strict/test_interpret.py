from functools import partial
from math import ceil
from pathlib import Path
from types import SimpleNamespace

import numpy
from PIL import Image, ImageDraw, ImageFont
import pytest
import torch
from torch import nn

from minifast import interpret
from minifast.interpret import (confusion_picture, constant_class, constant_tags, iou_table,
                                picture_scores, tag_counts, tag_table, worst, worst_per_tag,
                                worst_per_tag_picture)
from minifast.loader import Loader
from minifast.metrics import Score, accuracy_thresh, confusion, fbeta, foreground_accuracy
from minifast.tools.draw import LINE_HEIGHT, MARGIN

CPU, FLOAT32 = torch.device("cpu"), torch.autocast("cpu", torch.bfloat16, enabled=False)
NAMES = ["haze", "road", "water", "ice", "sun"]
# Six pictures. Above .5:    haze 2 hits, 1 false; road 1 hit, 2 missed; water never true or said;
# ice missed once; sun said once, and never true
TAGS = torch.tensor([[1., 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0],
                     [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
LIKELY = torch.tensor([[.9, .1, .1, .2, .1], [.8, .2, .1, .2, .1], [.7, .3, .1, .2, .1],
                       [.1, .6, .1, .2, .1], [.2, .1, .1, .2, .1], [.3, .4, .1, .2, .55]])


def cells_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# Tags: tables

def test_there_is_one_2x2_table_per_tag():
    assert tag_counts(LIKELY, TAGS, .5).tolist() == [       # [[no, no], [no, yes]], [[yes, no], ..
        [[3, 1], [0, 2]], [[3, 0], [2, 1]], [[6, 0], [0, 0]], [[5, 0], [1, 0]], [[5, 1], [0, 0]]]


def test_each_tag_can_have_its_threshold_and_at_it_the_answer_is_no():
    counts = tag_counts(LIKELY, TAGS, torch.tensor([.9, .1, .1, .1, .6]))
    assert counts[:, 1].tolist() == [[2, 0], [1, 2], [0, 0], [0, 1], [0, 0]]    # missed, and hits
    assert tag_counts(LIKELY, TAGS)[:, 0, 1].tolist() == [2, 1, 0, 0, 1]        # the lesson's .2


def test_the_table_of_tags_begins_with_the_worst_and_ends_with_what_is_not_there():
    # F2: haze 5 * 2 / (4 * 2 + 3) = 10/11, road 5 / (4 * 3 + 1) = 5/13, ice 0 / 4, sun 0 / 1
    assert cells_of(tag_table(LIKELY, TAGS, NAMES, .5))[:-1] == [
        ["tag", "support", "thresh", "precision", "recall", "F2"],
        ["ice", "1", "0.500", "n/a", "0.000", "0.000"],
        ["sun", "0", "0.500", "0.000", "n/a", "0.000"],
        ["road", "3", "0.500", "1.000", "0.333", "0.385"],
        ["haze", "2", "0.500", "0.667", "1.000", "0.909"],
        ["water", "0", "0.500", "n/a", "n/a", "n/a"]]


def test_the_table_of_tags_names_the_threshold_of_each():
    lines = cells_of(tag_table(LIKELY, TAGS, NAMES, torch.tensor([.9, .1, .8, .7, .6])))
    assert {line[0]: line[2] for line in lines[1:-1]} == {
        "haze": "0.900", "road": "0.100", "water": "0.800", "ice": "0.700", "sun": "0.600"}
    assert {line[2] for line in cells_of(tag_table(LIKELY, TAGS, NAMES))[1:-1]} == {"0.200"}


def test_beside_the_share_of_right_cells_stands_what_no_to_everything_scores():
    # Of 30 cells 1 + 2 + 0 + 1 + 1 are wrong, and 6 are yes; only pictures 1 and 4 have no fault.
    assert tag_table(LIKELY, TAGS, NAMES, .5).splitlines()[-1] == (
        "right cells 0.833, by no to everything 0.800; pictures with all tags right 0.333")
    # At .2: 2 + 2 + 0 + 1 + 1; the second haze, of .2, is not said
    assert "right cells 0.800, by no to everything 0.800;" in tag_table(LIKELY, TAGS, NAMES)


@pytest.mark.parametrize("ask", [
    lambda likely: tag_counts(likely, TAGS), lambda likely: tag_table(likely, TAGS, NAMES),
    lambda likely: worst_per_tag(likely, TAGS, 1)])
def test_logits_are_refused(ask):
    with pytest.raises(ValueError, match=r"probabilities .*got -0.2 to 1.4; .*sigmoid"):
        ask(2 * LIKELY - .4)


def test_constant_answers_need_targets_of_tags():
    with pytest.raises(ValueError, match="targets must be 0 or 1, got 0.1"):
        constant_tags(LIKELY, [fbeta])


def test_names_and_files_that_are_not_as_many_are_refused(tmp_path):
    with pytest.raises(ValueError, match="names.* 5, got 4"):
        tag_table(LIKELY, TAGS, NAMES[:4])
    with pytest.raises(ValueError, match="names.* 5, got 4"):
        worst_per_tag_picture(LIKELY, TAGS, NAMES[:4], ["a.png"] * 6)
    with pytest.raises(ValueError, match="files.* 6, got 5"):
        worst_per_tag_picture(LIKELY, TAGS, NAMES, ["a.png"] * 5)
    with pytest.raises(ValueError, match="names.* 2, got 1"):
        iou_table(Score(torch.eye(2), torch.ones(2, 1)), ["sky"])


# Answers that are the same for all pictures

# The tags are in 2, 3, 1 and 0 pictures. Said of all four, by hits, true ones and number said:
#   F2 of the second alone     5/9, 1, 1, 0               .6389      right 12 of 16 cells
#   and the first              1, 5/6, 5/6, 1/2           .7917            12
#   and the third              10/11, 5/7, 5/7, 10/11     .8117            10
#   all four                   10/12, 5/8, 5/8, 10/12     .7292             6
OFTEN = torch.tensor([[1., 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0]])


def test_the_best_constant_tags_are_so_many_of_the_most_frequent_as_score_best():
    acc_02, f_score = partial(accuracy_thresh, thresh=.2), partial(fbeta, thresh=.2)
    found = constant_tags(OFTEN, [acc_02, f_score])
    assert list(found) == ["no tag", "best constant tags"]
    assert found["no tag"] == {"accuracy_thresh(thresh=0.2)": 10 / 16, "fbeta(thresh=0.2)": 0}
    best = found["best constant tags"]
    assert best == pytest.approx({"accuracy_thresh(thresh=0.2)": 10 / 16,
                                  "fbeta(thresh=0.2)": (20 / 11 + 10 / 7) / 4})


def test_the_last_metric_decides_and_of_equals_the_fewest_tags():
    best = constant_tags(OFTEN, [fbeta, accuracy_thresh])["best constant tags"]
    assert best == pytest.approx({"fbeta": (5 / 9 + 2) / 4, "accuracy_thresh": 12 / 16})


def test_constant_answers_are_given_as_probabilities_of_the_targets_form():
    seen = []

    def watch(logits, targets, sigmoid=True):
        seen.append(logits.tolist())
        assert targets is OFTEN and not sigmoid
        return 0.

    constant_tags(OFTEN, [watch])
    assert sorted(seen) == [[row] * 4 for row in (
        [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1])]


def test_always_the_most_common_class():
    # 6 of 10 pixels; of the three classes that occur the others have an IoU of 0
    assert constant_class(torch.tensor([2, 6, 0, 2])) == pytest.approx((1, .6, .2))
    assert constant_class(torch.tensor([0, 5, 5])) == pytest.approx((1, .5, .25))
    with pytest.raises(ValueError, match="number of labelled pixels must be at least 1, got 0"):
        constant_class(torch.tensor([0, 0]))
    assert constant_class(torch.tensor([0, 1])) == (1, 1, 1)


# Tags: the worst pictures

def test_the_worst_pictures_of_a_tag_are_those_farthest_from_its_truth():
    # haze .1 .2 .7 .1 .2 .3    road .9 .2 .7 .4 .1 .4    ice .8 in picture 3    sun .55 in 5
    found = worst_per_tag(LIKELY, TAGS, 2)
    assert found[:2].tolist() == [[2, 5], [0, 2]]
    assert found[:, 0].tolist() == [2, 0, 0, 3, 5] and found.shape == (5, 2)
    assert worst_per_tag(LIKELY.double(), TAGS.long(), 6)[0, :2].tolist() == [2, 5]


def test_how_wrong_is_told_apart_where_a_tag_was_all_but_ruled_out():
    # The cross-entropies are 23, 69 and 46; 1 - p is 1 of all of them.
    likely = torch.tensor([[1e-10], [1e-30], [1e-20], [.5]])
    assert worst_per_tag(likely, torch.ones(4, 1), 4).tolist() == [[1, 2, 0, 3]]


def test_of_equally_wrong_pictures_the_first_come_first():
    likely = torch.tensor([[.5, 1], [.25, 0], [.75, 1], [.25, 1]])
    tags = torch.tensor([[1., 0], [1, 1], [0, 0], [1, 1]])
    assert worst_per_tag(likely, tags, 4).T.tolist() == [[1, 0], [2, 1], [3, 2], [0, 3]]


@pytest.mark.parametrize("k", [0, 7])
def test_there_are_no_more_worst_pictures_than_pictures(k):
    with pytest.raises(ValueError, match=f"k must be between 1 and 6, got {k}"):
        worst_per_tag(LIKELY, TAGS, k)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Six pictures of 8 x 16, each of one grey: 0, 40, .. 200."""
    found = [tmp_path / f"{i}.png" for i in range(6)]
    for i, file in enumerate(found):
        Image.new("RGB", (16, 8), (40 * i,) * 3).save(file)
    return found


def test_the_worst_pictures_are_shown_in_a_row_per_tag(files, monkeypatch):
    seen = {}
    monkeypatch.setattr(interpret, "grid", lambda pictures, captions, columns: seen.update(
        greys=[picture.getpixel((0, 0))[0] for picture in pictures], captions=captions,
        sizes={picture.size for picture in pictures}, columns=columns))
    worst_per_tag_picture(LIKELY, TAGS, NAMES, [*map(str, files[:3]), *files[3:]], 2, (10, 12))
    assert seen["columns"] == 2 and seen["sizes"] == {(12, 10)}
    assert seen["greys"][:4] == [80, 200, 0, 80] and len(seen["greys"]) == 10
    assert seen["captions"][:4] == ["haze: no, said 0.70;2.png", "haze: no, said 0.30;5.png",
                                    "road: yes, said 0.10;0.png", "road: yes, said 0.30;2.png"]


def test_a_row_of_worst_pictures_has_four_of_160_pixels_unless_told_otherwise(files):
    sheet = worst_per_tag_picture(LIKELY, TAGS, NAMES, files)
    step = 160 + 2 * LINE_HEIGHT + MARGIN                       # captions of two lines
    assert sheet.size == (4 * (160 + MARGIN) + MARGIN, 5 * step + MARGIN)
    assert sheet.getpixel((MARGIN + 80, MARGIN + 80)) == (80, 80, 80)


# Any target: picture by picture

def learner(model: nn.Module, autocast: torch.autocast = FLOAT32) -> SimpleNamespace:
    """As much of a learner as is needed here."""
    return SimpleNamespace(model=model, autocast=autocast)


def maps_and_masks(n: int = 5) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pictures of 1 x 9 pixels in pure colours, red, green or blue, which are also what a model
    that hands them on says: class 0, 1 or 2; and random masks, of which the last is void (2)."""
    rng = torch.Generator().manual_seed(0)
    said, masks = torch.randint(3, (2, n, 1, 9), generator=rng)
    masks[-1] = 2
    pictures = 255 * nn.functional.one_hot(said, 3).permute(0, 3, 1, 2)         # (n, 3, 1, 9)
    return list(zip(pictures.to(torch.uint8), masks))


@pytest.mark.parametrize("bs", [1, 2, 5])
def test_each_picture_has_its_score_whatever_the_batch_size(bs):
    items, model = maps_and_masks(), nn.Dropout(.9).train()
    before = torch.get_rng_state()
    found = picture_scores(learner(model), Loader(items, bs, False, 0, 0, CPU),
                           partial(foreground_accuracy, void_code=2))
    assert found.dtype == torch.float64 and model.training
    assert torch.equal(torch.get_rng_state(), before)           # the dropout would have drawn
    wanted = [(x.numpy().argmax(axis=0) == y.numpy())[y.numpy() != 2].mean() for x, y in items[:4]]
    assert found[:4].tolist() == pytest.approx(wanted) and found[4].isnan()
    assert len(set(wanted)) > 1


def test_where_the_gpus_memory_is_full_a_smaller_batch_is_proposed():
    def full(logits, targets):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    loader = Loader([(torch.zeros(3, 1, 1), torch.tensor([1.]))] * 4, 4, False, 0, 0, CPU)
    with pytest.raises(ValueError, match="try val_bs=2"):
        picture_scores(learner(nn.Flatten()), loader, full)


def test_a_users_number_is_a_score_of_a_picture_too():
    loader = Loader([(torch.full((3, 1, 1), 51 * i, dtype=torch.uint8), torch.tensor([1.]))
                     for i in range(4)], 3, False, 0, 0, CPU)
    found = picture_scores(learner(nn.Flatten()), loader, lambda logits, targets: logits.mean())
    assert found.tolist() == pytest.approx([0, .2, .4, .6])


def test_the_model_runs_under_autocast():
    loader = Loader([(torch.full((3, 1, 1), 255, dtype=torch.uint8), torch.tensor([1.]))] * 2,
                    2, False, 0, 0, CPU)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    nn.init.constant_(model[1].weight, 1.001)                   # bfloat16 has 1 instead
    nn.init.zeros_(model[1].bias)
    for autocast, wanted in ((FLOAT32, 3.003), (torch.autocast("cpu", torch.bfloat16), 3)):
        found = picture_scores(learner(model, autocast), loader, lambda logits, y: logits.mean())
        assert found[0].item() == pytest.approx(wanted, abs=1e-6)


def test_the_worst_are_the_lowest_without_those_that_have_no_score():
    scores = torch.tensor([.5, float("nan"), .1, .9, .1])
    assert worst(scores, 3) == [2, 4, 0]
    assert worst(scores, 9) == [2, 4, 0, 3]
    assert worst(scores, 1) == [2]
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        worst(scores, 0)


# Masks: class by class

# Of class 0 are 8 pixels, and 7 are said to be, 6 are both: 6 of 9. Class 1: 3 of 4 + 4 - 3 = 5.
# Class 2 is not there. Class 3 is void: said of one pixel, and never true.
COUNTS = Score(torch.tensor([[6, 1, 0, 1], [1, 3, 0, 0], [0] * 4, [0] * 4]),
               torch.tensor([[8], [4], [0], [0]]))


def test_the_table_of_classes_has_pixels_and_iou():
    assert iou_table(COUNTS, ["sky", "car", "cat", "void"], 3) == (
        "class  pixels    IoU\n"
        "sky         8  0.667\n"
        "car         4  0.600\n"
        "cat         0    n/a\n"
        "void        0    n/a\n"
        "mean IoU of 2 classes 0.633")


def test_what_is_only_said_has_an_iou_of_0_unless_it_is_void():
    lines = cells_of(iou_table(COUNTS, ["sky", "car", "cat", "void"]))
    assert lines[-3:] == [["cat", "0", "n/a"], ["void", "0", "0.000"],
                          ["mean", "IoU", "of", "3", "classes", "0.422"]]


def test_iou_is_of_the_whole_set_class_by_class_and_void_does_not_count():
    items = maps_and_masks(20)
    total = sum((confusion(x[None].float(), y[None], void_code=2) for x, y in items),
                start=Score(0, 0))
    said = numpy.stack([x.numpy().argmax(axis=0) for x, _ in items])
    true = numpy.stack([y.numpy() for _, y in items])
    ious = [((said == k) & (true == k)).sum() / (((said == k) | (true == k)) & (true != 2)).sum()
            for k in (0, 1)]
    pixels = [(true == k).sum() for k in (0, 1)]
    rows = [[f"class{k}", str(pixels[k]), f"{ious[k]:.3f}"] for k in (0, 1)]
    assert cells_of(iou_table(total, ["class0", "class1", "void"], 2))[1:] == [
        *sorted(rows, key=lambda row: -int(row[1])), ["void", "0", "n/a"],
        f"mean IoU of 2 classes {numpy.mean(ious):.3f}".split()]
    assert pixels[0] != pixels[1]


# A picture of what is taken for what

PEN = ImageFont.load_default(13)
LEFT = 12 + ceil(PEN.getlength("pedestrian"))           # where the cells begin


@pytest.fixture
def confusions() -> Image.Image:
    """Twelve classes, of which number 3 has a name, without the margin and the caption."""
    shares = torch.zeros(12, 12, dtype=torch.float64)
    shares[0, 0], shares[1, :4], shares[2] = 1, torch.tensor([.25, .5, .746, 0]), float("nan")
    sheet = confusion_picture(shares, [*[""] * 3, "pedestrian", *[""] * 8])
    side = LEFT + 12 * 34
    assert sheet.size == (side + 2 * MARGIN, side + LINE_HEIGHT + 2 * MARGIN)
    return sheet.crop((MARGIN, MARGIN, MARGIN + side, MARGIN + side))


@pytest.mark.parametrize("row, column, text, ink, colour", [
    (0, 0, "100", "white", (0, 0, 255)), (1, 0, "25", "black", (191, 191, 255)),
    (1, 1, "50", "white", (128, 128, 255)), (1, 2, "75", "white", (65, 65, 255)),
    (1, 3, "", "black", "white"), (2, 2, "", "black", "white"), (3, 1, "", "black", "white")])
def test_a_confusion_is_a_percentage_on_blue_which_is_darker_where_it_is_more(
        confusions, row, column, text, ink, colour):
    wanted = Image.new("RGB", (34, 34), "white")
    wanted.paste(colour, (0, 0, 33, 33))                # a line of one pixel between two cells
    ImageDraw.Draw(wanted).text((17, 17), text, ink, PEN, anchor="mm")
    x, y = LEFT + 34 * column, LEFT + 34 * row
    assert confusions.crop((x, y, x + 34, y + 34)).tobytes() == wanted.tobytes()


def test_the_name_of_a_class_stands_before_its_row_and_turned_above_its_column(confusions):
    before, above = Image.new("RGB", (LEFT, 34), "white"), Image.new("RGB", (LEFT, 34), "white")
    ImageDraw.Draw(before).text((LEFT - 6, 17), "pedestrian", "black", PEN, anchor="rm")
    ImageDraw.Draw(above).text((6, 17), "pedestrian", "black", PEN, anchor="lm")
    row = LEFT + 3 * 34
    assert confusions.crop((0, row, LEFT, row + 34)).tobytes() == before.tobytes()
    turned = confusions.crop((row, 0, row + 34, LEFT)).transpose(Image.Transpose.ROTATE_270)
    assert turned.tobytes() == above.tobytes()


def test_below_the_confusions_stands_what_rows_and_columns_are(monkeypatch):
    seen = []
    monkeypatch.setattr(interpret, "grid", lambda *args: seen.extend(args[1:]))
    confusion_picture(torch.eye(2), ["sky", "car"])
    assert seen == [["rows: truth, columns: prediction; in percent of the row"], 1]
