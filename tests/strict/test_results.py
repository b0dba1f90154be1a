from pathlib import Path
from types import SimpleNamespace
import weakref

import numpy
from PIL import Image, ImageColor
import pytest
import torch
from torch import Tensor, nn

from minifast import results
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.loader import imagenet_stats
from minifast.results import evaluating, full_gpu, get_preds, outputs, predict, show_results
from minifast.targets import Categories, Masks, Tags
from minifast.tools.draw import CLASS_COLOURS

CPU, NAMES, GREYS = torch.device("cpu"), ["dark", "light"], [10, 250, 60, 200, 110, 150, 240]
LIGHT = [1 / (1 + numpy.exp(-20 * (grey / 255 - 0.5))) for grey in GREYS]      # what Light says


class Light(nn.Module):
    """Logits of (dark, light): 0, and 20 times the mean of a picture less 0.5, by a dropout. If
    pixelwise, they are those of each pixel."""

    def __init__(self, pixelwise: bool = False):
        super().__init__()
        self.dropout, self.seen, self.over = nn.Dropout(0.9), [], 1 if pixelwise else (1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        self.latest, self.in_bfloat16 = x, torch.is_autocast_enabled("cpu")
        light = self.dropout(20 * (x.mean(dim=self.over) - 0.5))
        return torch.stack([torch.zeros_like(light), light], dim=1)             # (n, 2[, h, w])


def learner(data: DataBunch, model: nn.Module | None = None, fast: bool = False) -> SimpleNamespace:
    """As much of a learner as is needed here."""
    return SimpleNamespace(model=model or Light(isinstance(data.target, Masks)), data=data,
                           autocast=torch.autocast("cpu", torch.bfloat16, enabled=fast))


def greys(folder: Path, kind: type = Categories, size=(8, 8), stats=None, bs: int = 3) -> DataBunch:
    """Grey pictures, dark or light: all are for validation, and two are a test set as well."""
    files = [folder / f"{i}.png" for i in range(len(GREYS))]
    for file, grey in zip(files, GREYS):
        Image.new("RGB", (8, 8), (grey,) * 3).save(file)
    labels = [NAMES[grey > 127] if kind is Categories else [NAMES[grey > 127]] for grey in GREYS]
    dataset = Dataset(files, labels, kind(NAMES), size)
    data = DataBunch.create(dataset, dataset, Dataset(files[:2], size=size), None, None, bs, bs,
                            device=CPU)
    return data.normalize(stats) if stats else data


def halves(folder: Path, size=(6, 10), method: str = "crop", wrong: bool = False) -> DataBunch:
    """A picture, 12 x 20, in seven copies, dark brown on the left and white on the right, with its
    mask; in a wrong one dark and light are confused in the upper half."""
    mask = numpy.zeros((12, 20), dtype=numpy.uint8)
    mask[:, 10:] = 1
    Image.fromarray(numpy.uint8([(120, 60, 30), (255,) * 3])[mask]).save(folder / "a.png")
    if wrong:
        mask[:6] = 1 - mask[:6]
    Image.fromarray(mask).save(folder / "a_P.png")
    dataset = Dataset([folder / "a.png"] * 7, [folder / "a_P.png"] * 7, Masks(NAMES), size, method)
    return DataBunch.create(dataset, dataset, bs=3, device=CPU)


# The model at work

def test_evaluating_ends_with_each_layer_in_the_mode_in_which_it_came():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    model[1].eval()
    for end in (ValueError, KeyboardInterrupt):
        with pytest.raises(end), evaluating(model):
            assert not any(layer.training for layer in model.modules())
            assert not torch.is_grad_enabled()
            raise end
        assert [layer.training for layer in model.modules()] == [True, True, False, True]
        assert torch.is_grad_enabled()


def test_a_model_runs_in_bfloat16_and_what_comes_out_is_float32_batch_by_batch(tmp_path):
    data, model = greys(tmp_path), nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    learn = learner(data, model, fast=True)
    batches = list(outputs(learn, data.valid_dl))
    assert [y.tolist() for _, y in batches] == [[0, 1, 0], [1, 0, 1], [1]]
    logits = torch.cat([logits for logits, _ in batches])
    exact = torch.tensor(GREYS)[:, None] / 255 * model[1].weight.sum(dim=1) + model[1].bias
    assert torch.allclose(logits, exact, atol=0.02) and logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())       # though it has bfloat16's values
    likely, one = get_preds(learn, data.valid_dl)[0], predict(learn, tmp_path / "3.png", 0.5)[2]
    for found, wanted in ((likely, logits), (one, logits[3])):  # in bfloat16 0.4 % are between two
        assert torch.allclose(found, wanted.exp() / wanted.exp().sum(-1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("part, bs, wanted", [
    ("train_dl", 4, r"\bbs=4; try bs=2 or"), ("train_dl", 1, r"\bbs=1; try smaller"),
    ("valid_dl", 5, "val_bs=5; try val_bs=2 or"), ("valid_dl", 2, "val_bs=2; try val_bs=1 or")])
def test_a_full_gpu_names_the_knob_of_its_loader_and_lets_go_of_what_was_held(tmp_path, part, bs,
                                                                              wanted):
    class Full(Light):
        def forward(self, x: Tensor) -> Tensor:
            activations = super().forward(x)
            self.held = weakref.ref(activations)
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")

    data, model = greys(tmp_path, bs=bs), Full()
    with pytest.raises(ValueError, match=f"{wanted}.* tried to allocate 2 GiB") as caught:
        get_preds(learner(data, model), getattr(data, part))
    assert isinstance(caught.value.__cause__, torch.cuda.OutOfMemoryError)
    assert model.held() is None and model.training              # though the error is kept
    with pytest.raises(KeyError), full_gpu(data.train_dl):      # what else goes wrong comes out
        {}["a"]


@pytest.mark.parametrize("ask", [lambda learn, file: get_preds(learn, learn.data.valid_dl),
                                 lambda learn, file: predict(learn, file, 0.5),
                                 lambda learn, file: show_results(learn, 2)])
def test_whatever_is_asked_dropout_is_off_autocast_is_on_and_no_trace_is_left(tmp_path, ask):
    learn, before = learner(greys(tmp_path), fast=True), torch.get_rng_state()
    ask(learn, tmp_path / "3.png")
    assert torch.equal(torch.get_rng_state(), before)           # dropout would have drawn
    assert learn.model.dropout.training and learn.data.valid_dl.epoch == 0
    assert learn.model.in_bfloat16 and not torch.is_autocast_enabled("cpu")


# The whole of a data set

def test_get_preds_are_probabilities_and_targets_in_the_order_of_the_files(tmp_path):
    data = greys(tmp_path)
    likely, targets = get_preds(learner(data), data.valid_dl)
    assert likely.shape == (7, 2) and targets.tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert likely[:, 1].tolist() == pytest.approx(LIGHT, abs=1e-5)
    assert likely.sum(dim=1).tolist() == pytest.approx([1] * 7)
    likely, targets = get_preds(learner(data), data.test_dl)
    assert likely.argmax(dim=1).tolist() == [0, 1] and targets.shape == (2, 0)


def test_get_preds_of_tags_are_a_probability_each_of_masks_one_per_class_and_pixel(tmp_path):
    likely, targets = get_preds(learner(data := greys(tmp_path, Tags)), data.valid_dl)
    assert likely[:, 0].tolist() == [.5] * 7                    # logit 0
    assert targets.tolist() == [[1, 0], [0, 1]] * 3 + [[0, 1]]
    likely, targets = get_preds(learner(data := halves(tmp_path)), data.valid_dl)
    assert likely.shape == (7, 2, 6, 10) and targets.shape == (7, 6, 10)
    assert torch.equal(likely.argmax(dim=1), targets) and not targets[:, :, :5].any()


# One picture

def test_predict_says_class_number_and_probabilities_or_the_tags_above_the_threshold(tmp_path):
    caption, decision, likely = predict(learner(greys(tmp_path)), tmp_path / "3.png", 0.5)
    assert (caption, int(decision), decision.shape) == ("light", 1, ())
    assert likely.tolist() == pytest.approx([1 - LIGHT[3], LIGHT[3]], abs=1e-5)
    learn = learner(greys(tmp_path, Tags))
    for thresh, wanted in ((0.4, ("dark;light", [1, 1])), (1, ("", [0, 0])),
                           (torch.tensor([0.6, 0.1]), ("light", [0, 1]))):
        caption, decision, likely = predict(learn, str(tmp_path / "1.png"), thresh)
        assert (caption, decision.tolist()) == wanted and likely[0] == 0.5      # logit 0


def test_predict_resizes_and_normalizes_as_in_training(tmp_path):
    learn = learner(greys(tmp_path, size=(4, 6), stats=imagenet_stats))
    likely = predict(learn, tmp_path / "0.png", 0.5)[2]
    mean = numpy.mean([(10 / 255 - m) / s for m, s in zip(*imagenet_stats)])
    assert likely[1].item() == pytest.approx(1 / (1 + numpy.exp(-20 * (mean - 0.5))), abs=1e-5)
    # Where the data has no size, or no such thing as a size, the picture keeps its own.
    own = DataBunch.create([(torch.zeros(3, 2, 2), 0)], None, target=Categories(NAMES), device=CPU)
    for data in (greys(tmp_path, size=None), own):
        predict(learner(data, learn.model), Image.new("RGB", (9, 5)), 0.5)
    assert learn.model.seen == [(1, 3, 4, 6), (1, 3, 5, 9), (1, 3, 5, 9)]


@pytest.mark.parametrize("make", [greys, halves])
def test_predict_takes_a_picture_opened_with_pillow_which_stays_as_it_is(tmp_path, make):
    learn, exif = learner(make(tmp_path)), Image.Exif()
    exif[0x0112] = 6                                            # to be turned by a quarter
    noise = numpy.random.default_rng(0).integers(256, size=(10, 16, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(tmp_path / "turned.jpg", exif=exif)
    wanted = predict(learn, tmp_path / "turned.jpg", 0.5)
    with Image.open(tmp_path / "turned.jpg") as picture:
        for _ in range(2):                                      # and may be used again
            found = predict(learn, picture, 0.5)
            assert found[0] == wanted[0] and all(map(torch.equal, found[1:], wanted[1:]))
        assert picture.size == (16, 10) and found[1].shape == ((16, 10) if make is halves else ())


@pytest.mark.parametrize("size, method, seen", [
    ((6, 10), "crop", (6, 10)), ((6, 6), "crop", (6, 10)),
    ((6, 6), "squish", (6, 6)), (None, "crop", (12, 20))])
def test_a_predicted_mask_has_the_pictures_own_size_and_misses_nothing(tmp_path, size, method,
                                                                       seen):
    # By crop 12 x 20 covers 6 x 6 as 6 x 10, and nothing is cut.
    learn = learner(halves(tmp_path, size, method))
    caption, mask, likely = predict(learn, tmp_path / "a.png", 0.5)
    assert caption == "dark;light" and mask.dtype == torch.int64
    assert learn.model.seen == [(1, 3, *seen)]
    assert mask.shape == (12, 20) and likely.shape == (2, 12, 20)
    assert not mask[:, :9].any() and mask[:, 11:].all()
    Image.new("RGB", (7, 31), "white").save(tmp_path / "new.png")
    mask = predict(learn, tmp_path / "new.png", 0.5)[1]
    assert mask.shape == (31, 7) and mask.all()
    noise = Image.fromarray(numpy.random.default_rng(0).integers(256, size=(6, 15, 3), dtype="u1"))
    predict(learn, noise, 0.5)
    whole = noise.resize(learn.model.latest.shape[:1:-1], Image.BILINEAR)
    wanted = torch.from_numpy(numpy.array(whole)).permute(2, 0, 1)
    assert torch.allclose(learn.model.latest[0] * 255, wanted.float(), atol=1.01)


def test_logits_are_scaled_back_bilinearly_and_before_probabilities(tmp_path):
    # The model sees two pixels, at x = 0 and 1. The file's four pixels are at 0, .25, .75 and 1.
    Image.fromarray(numpy.uint8([[0, 0, 255, 255]])).save(tmp_path / "a.png")
    dataset = Dataset([tmp_path / "a.png"], None, size=(1, 2), method="squish")
    data = DataBunch.create(dataset, None, target=Masks(NAMES), device=CPU)
    likely = predict(learner(data), tmp_path / "a.png", 0.5)[2]
    first, *between, last = likely[1, 0].logit().tolist()
    assert first < -5 and last > 5
    assert between == pytest.approx([.75 * first + .25 * last, .25 * first + .75 * last], rel=1e-3)


# Beside the truth

@pytest.fixture
def sheet(monkeypatch) -> dict:
    """What show_results hands to draw.grid: pictures, captions, columns; and the legend."""
    seen = {}

    monkeypatch.setattr(results.draw, "grid", lambda pictures, captions, columns: seen.update(
        pictures=[numpy.array(each, dtype=int) for each in pictures], captions=captions,
        columns=columns))
    monkeypatch.setattr(results.draw, "with_legend", lambda sheet, names: seen.update(names=names))
    return seen


@pytest.mark.parametrize("items, shown", [(None, [0, 1, 3, 5]),      # evenly spread: i * 7 // 4
                                          ([6, 0, 2], [6, 0, 2]), ([6, 0, 2, 1, 5], [6, 0, 2, 1])])
def test_results_are_captioned_by_truth_and_prediction(tmp_path, sheet, items, shown):
    data = greys(tmp_path)
    data.valid_ds.labels[1] = "dark"
    show_results(learner(data), 2, items=items)
    captions = ["dark / dark", "dark / light", "dark / dark", "light / light", "dark / dark",
                "light / light", "light / light"]
    assert sheet["captions"] == [captions[i] for i in shown] and sheet["columns"] == 2
    assert [picture[0, 0, 0] for picture in sheet["pictures"]] == [GREYS[i] for i in shown]


def test_results_of_tags_go_by_the_threshold_and_are_no_more_than_there_are(tmp_path, sheet):
    show_results(learner(greys(tmp_path, Tags, stats=imagenet_stats)), 3, 0.4)
    assert len(sheet["captions"]) == 7 and sheet["captions"][0] == "dark / dark"    # logit 0: 0.5
    assert [picture[0, 0, 0] for picture in sheet["pictures"]] == GREYS     # normalize is undone


def test_a_row_of_masks_is_truth_and_prediction_laid_over_the_picture(tmp_path, sheet):
    show_results(learner(halves(tmp_path, wrong=True)), 2, items=[4, 5, 6])
    assert sheet["captions"] == ["truth", "prediction"] * 2 and sheet["columns"] == 2
    truth, said = sheet["pictures"][2:]             # of dark brown, (120, 60, 30), at the left
    dark, light = (numpy.array(ImageColor.getrgb(colour)) / 2 for colour in CLASS_COLOURS[:2])
    assert abs(said[0, 0] - dark - (60, 30, 15)).max() <= 1
    assert abs(truth[0, 0] - light - (60, 30, 15)).max() <= 1
    assert abs(truth[5, 0] - dark - (60, 30, 15)).max() <= 1


def test_the_legend_has_the_classes_of_truth_and_answers(tmp_path, sheet):
    learn = learner(halves(tmp_path))
    for truth, colour in ((0, "white"), (1, "black")):
        Image.new("L", (20, 12), truth).save(tmp_path / "a_P.png")
        Image.new("RGB", (20, 12), colour).save(tmp_path / "a.png")
        show_results(learn, 1)
        assert sheet.pop("names") == {0: "dark", 1: "light"}


def test_what_cannot_be_shown_or_read_is_refused(tmp_path):
    data = greys(tmp_path)
    with pytest.raises(ValueError, match=r"\bnone\.png"):
        predict(learner(data), tmp_path / "none.png", 0.5)
    with pytest.raises(ValueError, match="valid_dl"):
        show_results(learner(DataBunch.create(data.train_ds, None, device=CPU)), 2)
