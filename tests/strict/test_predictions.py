from pathlib import Path
import weakref

import numpy
from PIL import Image, ImageColor
import pytest
import torch
from torch import Tensor, nn

from minifast import predictions
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.loader import imagenet_stats
from minifast.predictions import get_preds, predict, show_results
from minifast.targets import Categories, Masks, Tags
from minifast.tools.draw import CLASS_COLOURS

CPU, FLOAT32 = torch.device("cpu"), torch.autocast("cpu", torch.bfloat16, enabled=False)
GREYS = [10, 250, 60, 200, 110, 150, 240]


class Light(nn.Module):
    """Logits of (dark, light): 0, and 20 times the mean of a picture less 0.5, by a dropout."""

    def __init__(self):
        super().__init__()
        self.dropout, self.seen = nn.Dropout(0.9), []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        light = self.dropout(20 * (x.mean(dim=(1, 2, 3)) - 0.5))
        return torch.stack([torch.zeros_like(light), light], dim=1)             # (n, 2)


class LightPixels(Light):
    """The same for each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        light = self.dropout(20 * (x.mean(dim=1) - 0.5))
        return torch.stack([torch.zeros_like(light), light], dim=1)             # (n, 2, h, w)


def pictures(folder: Path, size: tuple[int, int] = (8, 8)) -> list[Path]:
    files = [folder / f"{i}.png" for i in range(len(GREYS))]
    for file, grey in zip(files, GREYS):
        Image.new("RGB", size[::-1], (grey,) * 3).save(file)
    return files


def greys(folder: Path, target=None, size=(8, 8), bs: int = 3, stats=None, **how) -> DataBunch:
    """Grey pictures, all of which are of validation, dark or light, and a test set of two."""
    files = pictures(folder)
    target = target or Categories(["dark", "light"])
    labels = [["dark", "light"][grey > 127] for grey in GREYS]
    labels = [[label] for label in labels] if isinstance(target, Tags) else labels
    data = DataBunch.create(*(Dataset(files, labels, target, size, **how) for _ in range(2)),
                            Dataset(files[:2], size=size), bs=bs, device=CPU)
    return data.normalize(stats) if stats else data


def halves(folder: Path, rows: int = 12, columns: int = 20, size=(6, 10), stats=None,
           method: str = "crop", wrong: bool = False) -> DataBunch:
    """One picture, in seven copies, dark on the left and light on the right, with its mask; in a
    wrong one dark and light are confused in the upper half."""
    pixels = numpy.zeros((rows, columns), dtype=numpy.uint8)
    pixels[:, columns // 2:] = 1
    Image.fromarray(pixels * 255).convert("RGB").save(folder / "a.png")
    if wrong:
        pixels[:rows // 2] = 1 - pixels[:rows // 2]
    Image.fromarray(pixels).save(folder / "a_P.png")
    dataset = Dataset([folder / "a.png"] * 7, [folder / "a_P.png"] * 7, Masks(["dark", "light"]),
                      size, method)
    data = DataBunch.create(dataset, dataset, bs=3, device=CPU)
    return data.normalize(stats) if stats else data


# The whole of a data set

def test_get_preds_are_probabilities_and_targets_in_the_order_of_the_files(tmp_path):
    data = greys(tmp_path)
    likely, targets = get_preds(Light(), data.valid_dl, data.target, FLOAT32)
    assert likely.shape == (7, 2) and targets.tolist() == [0, 1, 0, 1, 0, 1, 1]
    wanted = [1 / (1 + numpy.exp(-20 * (grey / 255 - 0.5))) for grey in GREYS]
    assert likely[:, 1].tolist() == pytest.approx(wanted, abs=1e-5)
    assert likely.sum(dim=1).tolist() == pytest.approx([1] * 7)


def test_get_preds_of_tags_are_a_probability_each(tmp_path):
    data = greys(tmp_path, Tags(["dark", "light"]))
    likely, targets = get_preds(Light(), data.valid_dl, data.target, FLOAT32)
    assert likely[:, 0].tolist() == [.5] * 7                    # logit 0
    assert targets.tolist() == [[1, 0], [0, 1]] * 3 + [[0, 1]]


def test_get_preds_of_masks_have_a_probability_per_class_and_pixel(tmp_path):
    data = halves(tmp_path)
    likely, targets = get_preds(LightPixels(), data.valid_dl, data.target, FLOAT32)
    assert likely.shape == (7, 2, 6, 10) and targets.shape == (7, 6, 10)
    assert torch.equal(likely.argmax(dim=1), targets)


def test_a_test_set_has_no_targets(tmp_path):
    data = greys(tmp_path)
    likely, targets = get_preds(Light(), data.test_dl, data.target, FLOAT32)
    assert likely.argmax(dim=1).tolist() == [0, 1] and targets.shape == (2, 0)


@pytest.mark.parametrize("ask", [
    lambda model, data, file: get_preds(model, data.valid_dl, data.target, FLOAT32),
    lambda model, data, file: predict(model, data, file, 0.5, FLOAT32),
    lambda model, data, file: show_results(model, data, 2, 0.5, None, FLOAT32)])
def test_whatever_is_asked_dropout_is_off_and_no_trace_is_left(tmp_path, ask):
    data, model = greys(tmp_path), Light().train()
    before = torch.get_rng_state()
    ask(model, data, tmp_path / "3.png")
    assert torch.equal(torch.get_rng_state(), before)           # dropout would have drawn
    assert model.training and model.dropout.training and data.valid_dl.epoch == 0


def test_masks_of_different_sizes_cannot_be_put_together(tmp_path):
    data = halves(tmp_path, size=None)
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    data.valid_ds.files[6] = tmp_path / "b.png"
    Image.new("L", (6, 4)).save(tmp_path / "b_P.png")
    data.valid_ds.labels[6] = tmp_path / "b_P.png"
    with pytest.raises(ValueError, match="differ in size.*size="):
        get_preds(LightPixels(), data.valid_dl, data.target, FLOAT32)       # 3, 3, and 1


def test_where_the_gpus_memory_is_full_half_the_batch_size_is_proposed(tmp_path):
    held = []

    class Full(Light):
        def forward(self, x: Tensor) -> Tensor:
            activations = super().forward(x)
            held.append(weakref.ref(activations))
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")

    data, model = greys(tmp_path, bs=4), Full()
    wanted = "with val_bs=4: try val_bs=2, or a smaller net. tried to allocate 2 GiB"
    for ask in (lambda: get_preds(model, data.valid_dl, data.target, FLOAT32),
                lambda: show_results(model, data, 2, 0.5, None, FLOAT32)):
        with pytest.raises(ValueError, match=wanted):
            ask()
        assert held[-1]() is None and model.training
    with pytest.raises(ValueError, match="with bs=4: try bs=2"):
        predict(model, data, tmp_path / "0.png", 0.5, FLOAT32)
    assert held[-1]() is None and model.training


# One file

def test_predict_says_class_number_and_probabilities(tmp_path):
    caption, decision, likely = predict(Light(), greys(tmp_path), tmp_path / "3.png", 0.5, FLOAT32)
    assert (caption, int(decision)) == ("light", 1)
    assert likely.shape == (2,)
    assert likely[1].item() == pytest.approx(1 / (1 + numpy.exp(-20 * (200 / 255 - 0.5))), abs=1e-5)


@pytest.mark.parametrize("thresh, caption, decision", [(0.4, "dark;light", [1, 1]),
                                                       (0.6, "light", [0, 1]), (1, "", [0, 0])])
def test_predict_says_the_tags_above_the_threshold(tmp_path, thresh, caption, decision):
    data = greys(tmp_path, Tags(["dark", "light"]))
    said, answer, likely = predict(Light(), data, str(tmp_path / "1.png"), thresh, FLOAT32)
    assert said == caption and answer.tolist() == decision and likely[0] == 0.5


def test_predict_resizes_and_normalizes_as_in_training(tmp_path):
    data, model = greys(tmp_path, size=(4, 6), stats=imagenet_stats), Light()
    predict(model, data, tmp_path / "0.png", 0.5, FLOAT32)
    assert model.seen == [(1, 3, 4, 6)]
    likely = predict(model, data, tmp_path / "0.png", 0.5, FLOAT32)[2]
    mean = numpy.mean([(10 / 255 - m) / s for m, s in zip(*imagenet_stats)])
    assert likely[1].item() == pytest.approx(1 / (1 + numpy.exp(-20 * (mean - 0.5))), abs=1e-5)


@pytest.mark.parametrize("name", ["0.png", "turned.jpg"])
@pytest.mark.parametrize("is_mask", [False, True])
def test_predict_takes_a_picture_opened_with_pillow_which_stays_as_it_is(tmp_path, is_mask, name):
    exif = Image.Exif()
    exif[0x0112] = 6                                            # to be turned by a quarter
    data, model = (halves(tmp_path), LightPixels()) if is_mask else (greys(tmp_path), Light())
    noise = numpy.random.default_rng(0).integers(256, size=(10, 16, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(tmp_path / name, exif=exif if name == "turned.jpg" else b"")
    wanted = predict(model, data, tmp_path / name, 0.5, FLOAT32)
    with Image.open(tmp_path / name) as picture:
        for _ in range(2):                                      # and may be used again
            found = predict(model, data, picture, 0.5, FLOAT32)
            assert found[0] == wanted[0] and all(map(torch.equal, found[1:], wanted[1:]))
        assert picture.size == (16, 10)
        assert numpy.array_equal(picture, Image.open(tmp_path / name))
    memory = Image.fromarray(noise)                             # that came from no file
    assert predict(model, data, memory, 0.5, FLOAT32)[1].shape == ((10, 16) if is_mask else ())


def test_predict_takes_a_picture_as_it_is_where_the_data_has_no_size(tmp_path):
    data, model = greys(tmp_path, size=None), Light()
    Image.new("RGB", (9, 5)).save(tmp_path / "new.png")
    predict(model, data, tmp_path / "new.png", 0.5, FLOAT32)
    own = DataBunch.create([(torch.zeros(3, 2, 2), 0)], None, target=data.target, device=CPU)
    predict(model, own, tmp_path / "new.png", 0.5, FLOAT32)
    assert model.seen == [(1, 3, 5, 9)] * 2


@pytest.mark.parametrize("size, method, seen", [
    ((6, 10), "crop", (6, 10)), ((6, 6), "crop", (6, 10)), ((6, 6), "pad", (4, 6)),
    ((6, 6), "squish", (6, 6)), (None, "crop", (12, 20))])
def test_a_predicted_mask_has_the_pictures_own_size_and_misses_nothing(tmp_path, size, method,
                                                                       seen):
    # By crop 12 x 20 covers 6 x 6 as 6 x 10, and nothing is cut; by pad it fits as 4 x 6 (3.6).
    data, model = halves(tmp_path, size=size, method=method), LightPixels()
    caption, mask, likely = predict(model, data, tmp_path / "a.png", 0.5, FLOAT32)
    assert caption == "dark;light" and mask.dtype == torch.int64
    assert model.seen == [(1, 3, *seen)]
    assert mask.shape == (12, 20) and likely.shape == (2, 12, 20)
    assert not mask[:, :9].any() and mask[:, 11:].all()


def test_the_mask_of_a_picture_of_another_size_has_that(tmp_path):
    data = halves(tmp_path, stats=imagenet_stats)
    Image.new("RGB", (7, 31), "white").save(tmp_path / "new.png")
    _, mask, _ = predict(LightPixels(), data, tmp_path / "new.png", 0.5, FLOAT32)
    assert mask.shape == (31, 7) and mask.all()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"picture .*\bnone\.png"):
        predict(Light(), greys(tmp_path), tmp_path / "none.png", 0.5, FLOAT32)


# Beside the truth

@pytest.fixture
def sheet(monkeypatch) -> dict:
    """What show_results hands to draw.grid: pictures, captions, columns; and the legend."""
    seen = {}

    def grid(pictures, captions, columns):
        seen.update(pictures=[numpy.asarray(picture) for picture in pictures], captions=captions,
                    columns=columns)

    monkeypatch.setattr(predictions.draw, "grid", grid)
    monkeypatch.setattr(predictions.draw, "with_legend", lambda sheet, names: seen.update(
        names=names))
    return seen


def test_results_are_captioned_by_truth_and_prediction(tmp_path, sheet):
    data = greys(tmp_path)
    data.valid_ds.labels[1] = "dark"
    show_results(Light(), data, 2, 0.5, None, FLOAT32)
    # Four of seven, evenly spread: 0, 1, 3, 5
    assert sheet["captions"] == ["dark / dark", "dark / light", "light / light", "light / light"]
    assert [picture[0, 0, 0] for picture in sheet["pictures"]] == [10, 250, 200, 150]
    assert sheet["columns"] == 2


@pytest.mark.parametrize("items", [[6, 0, 2], [6, 0, 2, 5, 1]])
def test_results_may_be_of_certain_items_the_first_that_there_is_room_for(tmp_path, sheet, items):
    show_results(Light(), greys(tmp_path), 2, 0.5, None, FLOAT32, items=items)
    assert [picture[0, 0, 0] for picture in sheet["pictures"]] == [GREYS[i] for i in items[:4]]
    assert sheet["captions"][:2] == ["light / light", "dark / dark"]


def test_of_masks_there_are_as_many_certain_items_as_rows(tmp_path, sheet):
    show_results(LightPixels(), halves(tmp_path), 2, 0.5, None, FLOAT32, [4, 5, 6])
    assert len(sheet["pictures"]) == 2 * 4


def test_results_of_tags_go_by_the_threshold_and_are_no_more_than_there_are(tmp_path, sheet):
    data = greys(tmp_path, Tags(["dark", "light"]), stats=imagenet_stats)
    show_results(Light(), data, 3, 0.99, None, FLOAT32)
    assert len(sheet["captions"]) == 7 and sheet["captions"][0] == "dark / "
    assert [picture[0, 0, 0] for picture in sheet["pictures"]] == GREYS     # normalize is undone


def test_a_row_of_masks_is_picture_truth_prediction_and_difference(tmp_path, sheet):
    show_results(LightPixels(), halves(tmp_path, wrong=True), 2, 0.5, None, FLOAT32)
    assert sheet["captions"] == ["picture", "truth", "prediction", "difference"] * 2
    assert sheet["columns"] == 4 and sheet["names"] == {0: "dark", 1: "light"}
    picture, truth, said, wrong = sheet["pictures"][:4]
    assert picture[0, 0].tolist() == [0, 0, 0] and picture[5, 9].tolist() == [255, 255, 255]
    half = {k: numpy.array(ImageColor.getrgb(CLASS_COLOURS[k])) / 2 for k in (0, 1)}
    assert abs(said[0, 0] - half[0]).max() <= 1 and abs(truth[0, 0] - half[1]).max() <= 1
    assert abs(said[5, 0] - half[0]).max() <= 1 and abs(truth[5, 0] - half[0]).max() <= 1
    red = (wrong == (255, 0, 0)).all(axis=2)
    assert red[:3].all() and not red[3:].any()


def test_void_is_not_held_against_the_model(tmp_path, sheet):
    show_results(LightPixels(), halves(tmp_path, wrong=True), 1, 0.5, 1, FLOAT32)
    red = (sheet["pictures"][3] == (255, 0, 0)).all(axis=2)
    # above, the truth is light (1, void here) on the left and dark (0) on the right
    assert not red[:3, :5].any() and red[:3, 5:].all() and not red[3:].any()


def test_the_legend_has_the_classes_of_truth_and_answers(tmp_path, sheet):
    data = halves(tmp_path)
    Image.new("L", (20, 12), 0).save(tmp_path / "a_P.png")
    show_results(LightPixels(), data, 1, 0.5, None, FLOAT32)
    assert sheet["names"] == {0: "dark", 1: "light"}


def test_without_rows_or_validation_there_are_no_results(tmp_path):
    data = greys(tmp_path)
    with pytest.raises(ValueError, match="rows must be at least 1"):
        show_results(Light(), data, 0, 0.5, None, FLOAT32)
    with pytest.raises(ValueError, match="valid_dl"):
        show_results(Light(), DataBunch.create(data.train_ds, None, device=CPU), 2, 0.5, None,
                     FLOAT32)


def test_logits_are_scaled_back_bilinearly_and_before_probabilities(tmp_path):
    # The model sees two pixels. The four of the file have their middles at 0, .25, .75 and 1 of the
    # way from the middle of the one to that of the other.
    Image.fromarray(numpy.array([[0, 0, 255, 255]], dtype=numpy.uint8)).save(tmp_path / "a.png")
    dataset = Dataset([tmp_path / "a.png"], None, size=(1, 2), method="squish")
    data = DataBunch.create(dataset, None, target=Masks(["dark", "light"]), device=CPU)
    _, _, likely = predict(LightPixels().eval(), data, tmp_path / "a.png", 0.5, FLOAT32)
    first, second, third, last = likely[1, 0].logit().tolist()
    assert first < -5 and last > 5
    assert second == pytest.approx(.75 * first + .25 * last, rel=1e-3)
    assert third == pytest.approx(.25 * first + .75 * last, rel=1e-3)


@pytest.mark.parametrize("kind", [Categories, Masks])
def test_probabilities_are_float32_whatever_the_model_runs_in(tmp_path, kind):
    target = kind(["a", "b"])
    data, fast = greys(tmp_path), torch.autocast("cpu", torch.bfloat16)
    data = DataBunch.create(data.train_ds, data.valid_ds, target=target, device=CPU)
    layers = [nn.Conv2d(3, 2, 1)]
    layers += [] if isinstance(target, Masks) else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    likely = predict(nn.Sequential(*layers), data, tmp_path / "0.png", 0.5, fast)[2]
    assert likely.dtype == torch.float32
    assert likely.sum(dim=0).flatten()[0].item() == pytest.approx(1, abs=1e-6)


def test_in_red_is_red_where_it_should_be_and_pale_elsewhere():
    picture = Image.new("RGB", (2, 1), (200, 100, 50))
    seen = numpy.array(predictions.in_red(picture, torch.tensor([[True, False]])))
    # .299 * 200 + .587 * 100 + .114 * 50 = 124, half way to white
    assert seen[0, 0].tolist() == [255, 0, 0] and abs(seen[0, 1] - 189.5).max() <= 1
    assert picture.getpixel((0, 0)) == (200, 100, 50)
