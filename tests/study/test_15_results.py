from contextlib import nullcontext, suppress
from types import SimpleNamespace

import numpy
from PIL import Image
import pytest
import torch
from torch import nn

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.images import to_pil
from minifast.results import evaluating, full_gpu, get_preds, outputs, predict, show_results
from minifast.targets import Categories, Masks, Tags, Target
from minifast.tools import draw

LEVELS = [0, 204, 51, 255, 102, 153]                        # 0, .8, .2, 1, .4 and .6 of white
ITEMS = [(torch.full((3, 2, 4), grey).byte(), torch.tensor(grey > 99).long()) for grey in LEVELS]
LIGHT = torch.tensor([-5., 3, -3, 5, -1, 1])                # the second logit that they get
DARK_LIGHT, MASKS = Categories(["dark", "light"]), Masks(["a", "b"])
STRIP = Image.new("RGB", (12, 8))           # 8 x 12, black but for four white columns at the left
STRIP.paste("white", (0, 0, 4, 8))


class Light(nn.Module):
    """Logits (n, 2, h, w): 0, and 10 * (the mean over the channels - 0.5) after dropout."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = nn.functional.dropout(10 * (x.mean(dim=1) - 0.5), 0.9, self.training)
        return torch.stack([torch.zeros_like(light), light], dim=1)


def learner(items: object = ITEMS, target: Target = DARK_LIGHT) -> SimpleNamespace:
    """What the functions here need of a learner. Without masks, the model averages over pixels."""
    mean = [] if target is MASKS else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    data = DataBunch.create(items, items, target=target, bs=4, device=torch.device("cpu"))
    return SimpleNamespace(model=nn.Sequential(Light(), *mean), data=data, autocast=nullcontext())


def test_evaluating_ends_with_each_layer_in_the_mode_that_it_had():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval(), nn.Sequential(nn.Dropout()))
    with suppress(KeyError), evaluating(model):
        assert not any(layer.training for layer in model.modules()) and not torch.is_grad_enabled()
        raise KeyError
    assert [layer.training for layer in model.modules()] == [True, True, False, True, True]


def test_a_full_gpu_is_a_value_error_and_other_errors_stay_what_they_are():
    for error, wanted in ((torch.cuda.OutOfMemoryError, ValueError), (KeyError, KeyError)):
        with pytest.raises(wanted), full_gpu(learner().data.train_dl):
            raise error("memory")


def test_outputs_are_logits_in_float32_and_targets_batch_by_batch():
    learn = learner()
    learn.model.eval()
    (logits, y), (logits2, y2) = outputs(learn, learn.data.valid_dl)
    assert torch.allclose(torch.cat([logits, logits2])[:, 1], LIGHT, atol=1e-5)
    assert y.tolist() == [0, 1, 0, 1] and y2.tolist() == [1, 1]
    learn.model, learn.autocast = nn.Conv2d(3, 2, 1), torch.autocast("cpu", torch.bfloat16)
    logits, _ = next(outputs(learn, learn.data.valid_dl))
    assert logits.dtype == torch.float32 and torch.equal(logits, logits.bfloat16().float())


def test_get_preds_are_the_probabilities_of_all_items_in_order():
    learn = learner()
    probabilities, targets = get_preds(learn, learn.data.valid_dl)
    # The softmax of the logits 0 and z is 1 / (1 + e^-z) for the second one
    assert torch.allclose(probabilities[:, 1], 1 / (1 + torch.exp(-LIGHT)), atol=1e-6)
    assert probabilities.shape == (6, 2) and targets.tolist() == [0, 1, 0, 1, 1, 1]
    assert learn.model.training and not probabilities.requires_grad


def test_a_picture_is_predicted_like_one_of_validation():
    for size, method in ((None, "crop"), ((8, 8), "crop"), ((8, 8), "squish")):
        learn = learner(Dataset([STRIP], ["light"], DARK_LIGHT, size, method))
        learn.data = learn.data.normalize(([0.5] * 3, [0.25] * 3))
        caption, decision, probabilities = predict(learn, STRIP, 0.5)
        assert caption == "dark" and decision.shape == () and decision == 0
        assert torch.equal(probabilities, get_preds(learn, learn.data.valid_dl)[0][0])


def test_a_mask_is_predicted_at_the_size_of_the_picture_and_nothing_is_cut_off():
    learn = learner(Dataset([STRIP], None, MASKS, (4, 4)), MASKS)
    _, decision, probabilities = predict(learn, STRIP, 0.5)
    assert decision.tolist() == [[1] * 4 + [0] * 8] * 8
    # The model sees 4 x 6 pixels, in which 1/8 of the white of column 1 went to column 2
    logits = numpy.array([5, 10 * (223 / 255 - 0.5), 10 * (32 / 255 - 0.5), -5, -5, -5])
    logits = numpy.interp(numpy.arange(12) / 2 - 0.25, range(6), logits)
    assert probabilities[1, 3].tolist() == pytest.approx(1 / (1 + numpy.exp(-logits)), abs=1e-4)


def test_results_are_captioned_with_truth_and_prediction():
    captions = ["dark / dark", "light / light"] * 2 + ["light / dark", "light / light"]
    for items, shown in ((None, [0, 1, 3, 4]), ([5, 4, 2, 1, 0], [5, 4, 2, 1])):    # 0, 6/4, 12/4
        greys = [Image.new("RGB", (4, 2), (LEVELS[i],) * 3) for i in shown]
        wanted = draw.grid(greys, [captions[i] for i in shown], 2)
        assert show_results(learner(), 2, 0.5, items) == wanted


def test_tags_are_decided_by_a_threshold():
    white, item = Image.new("RGB", (4, 2), "white"), (ITEMS[3][0], torch.ones(2))
    learn = learner([item], Tags(["sky", "sea"]))
    for thresh, said in ((0.4, "sky;sea"), (0.6, "sea")):        # 1/2 and 1 / (1 + e^-5)
        assert predict(learn, white, thresh)[0] == said
        assert show_results(learn, 3, thresh) == draw.grid([white], [f"sky;sea / {said}"], 3)


def test_a_shown_mask_is_beside_the_true_one():
    # The left half is white, where the model says 1. In columns 3 and 7 the truth is another.
    truth, said = torch.tensor([[[1, 1, 1, 0, 0, 0, 0, 1]] * 2, [[1] * 4 + [0] * 4] * 2])
    pixels = said.float().expand(3, 2, 8)
    learn, picture = learner([(pixels, truth)] * 3, MASKS), to_pil(pixels)
    cells = [draw.overlay(picture, truth), draw.overlay(picture, said)] * 2
    sheet = draw.grid(cells, ["truth", "prediction"] * 2, 2)
    assert show_results(learn, 2) == draw.with_legend(sheet, {0: "a", 1: "b"})
