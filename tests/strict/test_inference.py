from functools import partial
from math import exp
from pathlib import Path
from types import SimpleNamespace

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor, nn

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.extras import inference
from minifast.extras.inference import Predictions, load_learner, tta, turned, write_submission
from minifast.learner import Learner
from minifast.loader import imagenet_stats
from minifast.targets import Categories, Masks, Tags
from minifast.tools import processes
from minifast.tools.files import load_tensors, save_tensors
from minifast.unet import UNet
from minifast.vision import ARCHS, cnn_learner, unet_learner

CPU, CLASSES = torch.device("cpu"), ["dark", "light", "odd"]
pixel_net = partial(nn.Conv2d, 3, 3, 3, padding=1)      # a model of one's own for masks


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(inference, "default_device", lambda: CPU)


def small_net() -> nn.Module:
    """A net of torchvision's kind, quick enough for tests; or a model of one's own for tags."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


class Left(nn.Module):
    """Without weights. Three logits: the means of red, green and blue in the left column."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x[..., 0].mean(dim=2)                                            # (n, 3)


def plain(file: Path, *colour: int) -> Path:
    """A picture of one colour, 4 x 4."""
    Image.new("RGB", (4, 4), colour).save(file)
    return file


def data_of(folder: Path, kind: type = Tags, size=(12, 12), stats=imagenet_stats,
            method: str = "crop") -> DataBunch:
    """Three pictures of 48 x 64 with a label for each, and a test set of two others."""
    rng, mask = numpy.random.default_rng(0), folder / "mask.png"
    files = [folder / f"{i}.jpg" for i in range(5)]
    for file, shape in (*((file, (12, 16, 3)) for file in files), (mask, (12, 16))):
        pixels = rng.integers(256 if len(shape) == 3 else 3, size=shape).astype(numpy.uint8)
        Image.fromarray(pixels.repeat(4, axis=0).repeat(4, axis=1)).save(file)
    labels = {Categories: CLASSES, Tags: [CLASSES[:i] for i in range(3)], Masks: [mask] * 3}[kind]
    data = DataBunch.create(Dataset(files[:3], labels, kind(CLASSES), size, method), None,
                            Dataset(files[3:], None, None, size, method), bs=3, device=CPU)
    return data if stats is None else data.normalize(stats)


def loaded(folder: Path, **fields) -> inference.Predictor:
    """Left as a model for tags, from a file that has what version 0.1 wrote, and these fields."""
    file = save_tensors(folder / "model.pth", {
        "content": "a model for minifast.inference", "model": {},
        "recipe": {"kind": "own", "arch": "Left"}, "target": "Tags", "classes": CLASSES,
        "div": False, "size": None, "method": "crop", "reduced": True, "stats": None,
        "thresh": torch.tensor(0.5), **fields})
    return load_learner(file, Left, "float32")


def close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-5)


def sigmoid(logit: float) -> float:
    return 1 / (1 + exp(-logit))


# What load_learner brings back

FLOAT32, NEW = {"precision": "float32"}, {"precision": "float32", "pretrained": False}
MAKERS = {"UNet": lambda data: Learner(data, UNet(3, 4, 2), **FLOAT32),
          "cnn": lambda data: cnn_learner(data, small_net, **NEW),
          "unet": lambda data: unet_learner(data, small_net, bottle=True, **NEW),
          "own": lambda data: Learner(data, small_net(), **FLOAT32),
          "own masks": lambda data: Learner(data, pixel_net(), **FLOAT32)}


@pytest.mark.parametrize("recipe, kind, how", [
    *((recipe, Masks, {}) for recipe in ("UNet", "unet", "own masks")),
    *((recipe, kind, {}) for recipe in ("cnn", "own") for kind in (Categories, Tags)),
    *(("own", Tags, how) for how in ({"size": None}, {"stats": None}, {"method": "squish"},
                                     {"size": (8, 20), "stats": ([0.5], [0.1])})),
    ("UNet", Masks, {"size": None}), ("UNet", Masks, {"size": (8, 20), "method": "squish"})])
def test_an_exported_model_says_what_the_learner_says(monkeypatch, tmp_path, recipe, kind, how):
    learn = MAKERS[recipe](data_of(tmp_path, kind, **how))
    learn.fit(1, 1e-3)                          # so BatchNorm's numbers are its own, too
    if not recipe.startswith("own"):
        monkeypatch.setitem(ARCHS, "small_net", small_net)      # as if it were one of ours
    arch = {"own": small_net, "own masks": pixel_net}.get(recipe)
    file, before = learn.export(tmp_path / "model.pth"), torch.get_rng_state()
    model, files = load_learner(str(file), arch, "float32"), learn.data.test_dl.dataset.files
    assert torch.equal(torch.get_rng_state(), before)
    assert type(model.target) is kind and model.target.classes == CLASSES
    said, wanted = model.predict_files(files), learn.get_preds(test=True)[0]
    assert said.target is model.target and close(said.probabilities, wanted)
    assert not close(wanted[0], wanted[1])                      # so their order tells, too
    for ours, theirs in zip(model.predict(files[0]), learn.predict(files[0])):
        assert ours == theirs if isinstance(ours, str) else close(ours, theirs)


@pytest.mark.parametrize("fast", [True, False])
def test_a_model_runs_in_bfloat16_only_where_the_hardware_has_it(monkeypatch, tmp_path, fast):
    data, asked, dtypes = data_of(tmp_path), [], []
    file, picture = MAKERS["cnn"](data).export(tmp_path / "model.pth"), data.train_ds.files[0]
    monkeypatch.setattr(inference, "uses_bfloat16", lambda *args: asked.append(args) or fast)
    model = load_learner(file, small_net)
    conv = model.model.body[0]
    conv.register_forward_hook(lambda layer, x, out: dtypes.append(out.dtype))
    assert asked == [(CPU, "auto")] and conv.weight.dtype == torch.float32
    assert conv.weight.is_contiguous(memory_format=torch.channels_last) is fast
    assert model.predict(picture)[2].dtype == torch.float32
    assert model.predict_files([picture]).probabilities.dtype == torch.float32
    assert dtypes == [torch.bfloat16 if fast else torch.float32] * 2


@pytest.mark.parametrize("changed, arch, telling", [
    ({}, None, "arch=.*small_net"), ({}, pixel_net, "cut"), ({}, lambda: 1 / 0, "ZeroDivision"),
    ({"recipe": {"kind": "own", "arch": "resnet18"}}, None, "arch=.*resnet18"),
    ({"recipe": {"kind": "unet", "arch": "small_net"}}, small_net, "bottle"),
    ({"recipe": {"kind": "UNet", "channels": 4, "levels": 1}}, None, "first.0.weight"),
    ({"model": {}}, small_net, "body.0.weight"), ({"target": "Boxes"}, small_net, "Boxes"),
    ({"classes": ["a"]}, small_net, "head.8.weight"), (None, None, r"learn\.load")])
def test_what_does_not_fit_is_refused_by_the_name_of_the_file(tmp_path, changed, arch, telling):
    learn, file = MAKERS["cnn"](data_of(tmp_path)), tmp_path / "model.pth"
    (learn.save if changed is None else learn.export)(file)
    save_tensors(file, {**load_tensors(file), **(changed or {})})
    with pytest.raises(ValueError, match=rf"(?s)model\.pth.*{telling}"):
        load_learner(file, arch)


def test_a_file_of_version_01_still_loads(tmp_path):
    def convs(name: str, c: int, c_out: int) -> dict[str, Tensor]:
        norm = nn.BatchNorm2d(c_out).state_dict()
        return {f"{name}.0.weight": torch.zeros(c_out, c, 3, 3),
                f"{name}.3.weight": torch.zeros(c_out, c_out, 3, 3),
                **{f"{name}.{i}.{part}": norm[part].clone() for i in (1, 4) for part in norm}}

    weights = {**convs("first", 3, 1), **convs("downs.0", 1, 2), **convs("ups.0", 2, 1),
               "grows.0.weight": torch.zeros(2, 1, 2, 2), "grows.0.bias": torch.zeros(1),
               # The skip connection lets red pass: the logits are 0 and 3 red - 1.
               "last.weight": torch.tensor([0., 3]).reshape(2, 1, 1, 1),
               "last.bias": torch.tensor([0., -1])}
    for name, channel in (("first.0", 0), ("first.3", 0), ("ups.0.0", 1), ("ups.0.3", 0)):
        weights[f"{name}.weight"][0, channel, 1, 1] = 1
    model = loaded(tmp_path, model=weights, recipe={"kind": "UNet", "channels": 1, "levels": 1},
                   target="Masks", classes=["no", "yes"], div=True, size=[4, 4], method="squish",
                   stats=[torch.zeros(3), torch.full((3,), 0.5)])
    caption, mask, likely = model.predict(plain(tmp_path / "0.png", 51, 0, 0))  # red .2, then .4
    assert caption == "yes" and mask.tolist() == [[1] * 4] * 4
    assert likely[1].flatten().tolist() == pytest.approx([sigmoid(3 * 0.4 - 1)] * 16, abs=1e-4)


# Predictions

def test_tags_of_a_file_or_a_picture_opened_with_pillow_are_above_the_threshold(tmp_path):
    file = plain(tmp_path / "0.png", 51, 204, 255)          # .2 .8 1, normalized .2 1.2 0
    model = loaded(tmp_path, stats=[torch.tensor([0., 0.2, 1]), torch.tensor([1, 0.5, 1])],
                   thresh=torch.tensor([0.6, 0.7, 0.4]))    # exported
    with Image.open(file) as picture:
        for form in (file, str(file), picture):
            caption, decision, likely = model.predict(form)
            assert likely.tolist() == pytest.approx([sigmoid(0.2), sigmoid(1.2), 0.5])
            assert (caption, decision.tolist()) == ("light;odd", [0, 1, 1])
    for model.thresh, wanted in ((0.52, "dark;light"), (torch.tensor([0.5, 0.8, 0.5]), "dark")):
        assert model.predict(file)[0] == wanted


def test_each_file_of_a_list_or_folder_has_its_row_in_order(tmp_path):
    model, folder = loaded(tmp_path), tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    (folder / "notes.txt").write_text("no picture")
    reds = {"b.png": 10, "a.png": 60, "10.png": 110, "9.png": 160, "deep/c.png": 210}
    files = [plain(folder / name, red, 0, 0) for name, red in reds.items()]
    in_order = [folder / name for name in ("10.png", "9.png", "a.png", "b.png", "deep/c.png")]
    for asked, wanted in ((files, files), (list(map(str, files)), files), (folder, in_order),
                          (str(folder), in_order), ([files[1]] * 2, [files[1]] * 2)):
        said = model.predict_files(asked)
        assert said.files == wanted and said.probabilities[:, 0].tolist() == pytest.approx(
            [sigmoid(reds[str(file.relative_to(folder))] / 255) for file in wanted])
    wanted = model.predict_files(files).probabilities
    for workers in (0, 2):
        model.model.seen.clear()
        assert close(model.predict_files(files, 1, 2, workers).probabilities, wanted)
        assert model.model.seen == [(2, 3, 4, 4)] * 2 + [(1, 3, 4, 4)]


@pytest.mark.filterwarnings("error")
def test_broken_files_are_all_named_before_the_model_is_called_or_left_out(tmp_path):
    model, good = loaded(tmp_path), [plain(tmp_path / f"{i}.png", 90 * i, 9, 9) for i in (1, 2)]
    cut, text, gone = (tmp_path / f"{name}.png" for name in ("cut", "text", "gone"))
    cut.write_bytes(good[0].read_bytes()[:50])              # its header is fine
    text.write_text("no picture")
    files, names = [good[0], cut, text, gone, good[1]], r"cut\.png.*text\.png.*gone\.png"
    with pytest.raises(ValueError, match=f"3 of 5.*skip_broken.*{names}"):
        model.predict_files(files)
    with pytest.raises(ValueError, match=r"cut\.png"):
        model.predict(cut)
    with pytest.raises(ValueError, match="at least 1"):
        model.predict_files([], skip_broken=True)
    assert model.model.seen == []
    with pytest.warns(UserWarning, match=f"3 .*{names}") as caught:
        said = model.predict_files(files, skip_broken=True)
    wanted = model.predict_files(good, skip_broken=True)    # without a warning
    assert len(caught) == 1 and said.files == wanted.files == good
    assert torch.equal(said.probabilities, wanted.probabilities)


def test_predict_files_takes_the_mean_over_1_2_or_8_views(tmp_path):
    # The left half is black, the right one white. Each of the four sides is left in two of eight
    # views: logits 0, 1, and twice the mean of an edge that is half black.
    model, file = loaded(tmp_path), tmp_path / "0.png"
    Image.fromarray(numpy.repeat([[0, 0, 255, 255]], 4, axis=0).astype(numpy.uint8)).save(file)
    for views, logits in ((1, [0]), (2, [0, 1]), (8, [0, 1, 0.5, 0.5])):
        likely = model.predict_files([file], views).probabilities
        assert likely.tolist() == [pytest.approx([sum(map(sigmoid, logits)) / len(logits)] * 3)]
    for views in (0, 3, 4):
        with pytest.raises(ValueError, match=f"views.*{views}"):
            model.predict_files([file], views)


def test_the_eight_views_of_a_square_by_hand_are_all_that_it_can_be_turned_into():
    # As it is, left to right, top to bottom, both; and these four with rows made columns.
    square = torch.tensor([[1, 2], [3, 4]])
    views = [turned(square, number).flatten().tolist() for number in range(8)]
    assert ["".join(map(str, view)) for view in views] == [
        "1234", "2143", "3412", "4321", "1324", "2413", "3142", "4231"]


class Placed(nn.Module):
    """Two logits for each pixel: 0, and red times something that its place decides."""

    def forward(self, x: Tensor) -> Tensor:
        red = x[:, 0] * torch.linspace(-1, 4, x[0, 0].numel()).reshape(x[0, 0].shape)
        return torch.stack([torch.zeros_like(red), red], dim=1)                 # (n, 2, h, w)


def task(x: Tensor, target, model: nn.Module, tfms=None) -> SimpleNamespace:
    """As much of a learner as is needed here: validation pictures x, targets 0, 1, ..."""
    items = list(zip(x, torch.arange(len(x))))
    data = DataBunch.create(items, items, None, target, (None, tfms), bs=2, device=CPU)
    return SimpleNamespace(model=model, data=data, autocast=torch.autocast("cpu", enabled=False))


@pytest.mark.parametrize("h, w", [(3, 3), (2, 5)])
def test_tta_turns_masks_back_before_it_takes_their_mean(h, w):
    x, model = torch.rand(5, 3, h, w, generator=torch.Generator().manual_seed(0)), Placed()
    learn, said = task(x, Masks(["dark", "red"]), model), []
    for side, flip in ((x, lambda x: x), (x.flip(3), lambda x: x.flip(3))):
        for k in range(4):                      # quarter turns
            likely = model(torch.rot90(side, k, (2, 3))).softmax(dim=1)
            said.append(flip(torch.rot90(likely, -k, (2, 3))))
    for views, wanted in ((1, said[:1]), (2, said[::4]), (8, said)):
        likely, targets = tta(learn, learn.data.valid_dl, views)
        assert close(likely, sum(wanted) / views) and targets.tolist() == [0, 1, 2, 3, 4]


def test_tta_keeps_stats_and_transforms_of_the_loader_which_come_before_the_turn():
    def marked(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn.append(torch.rand(1, generator=rng).item())
        return x + drawn[-1] * torch.tensor([1., 0, 0, 0]), y + 10      # in the left column

    drawn, learn = [], task(torch.zeros(2, 3, 4, 4), Tags(CLASSES), Left(), marked)
    learn.data = learn.data.normalize(([0.5] * 3, [2.] * 3))
    likely, targets = tta(learn, learn.data.valid_dl)
    assert learn.data.valid_dl.tfms is marked and targets.tolist() == [10, 11]
    wanted = (sigmoid((drawn[0] - 0.5) / 2) + sigmoid(-0.5 / 2)) / 2    # the right column is 0
    assert likely.tolist() == [pytest.approx([wanted] * 3)] * 2 and drawn[1] == drawn[0]


# A submission

FILES = [Path(f"tiles/{name}.jpg") for name in ("0", "a, b", 'the "x"')]
LIKELY, NAMES = torch.tensor([[.9, .3, .1], [.1, .2, .8], [.7, .6, .5]]), ['the "x"', "0", "a, b"]
SAID = Predictions(FILES, LIKELY, Tags(["clear", "primary", "road"]))


@pytest.mark.parametrize("thresh, rows", [
    (0.25, ["clear primary road", "clear primary", "road"]),
    (0.5, ["clear primary", "clear", "road"]), (torch.tensor(0.7), ["", "clear", "road"]),
    (torch.tensor([0.8, 0.1, 0.5]), ["primary", "clear primary", "primary road"])])
def test_a_submission_has_in_the_order_of_names_the_tags_above_thresh(tmp_path, thresh, rows):
    file = tmp_path / "deep" / "s.csv"
    assert write_submission(str(file), NAMES, SAID, thresh) == file
    assert file.read_bytes().decode() == (f'image_name,tags\n"the ""x""",{rows[0]}\n0,{rows[1]}\n'
                                          f'"a, b",{rows[2]}\n')


@pytest.mark.parametrize("names, files, target, thresh, telling", [
    (NAMES[:2], FILES, Tags, 0.2, "in 1: a, b"), ([*NAMES, "new"], FILES, Tags, 0.2, "new"),
    ([*NAMES, "0"], FILES, Tags, 0.2, "test pictures.* 0"),
    (NAMES[1:], [*FILES[:2], FILES[0]], Tags, 0.2, "predicted pictures.* 0"),
    (NAMES, FILES, Categories, 0.2, "Categories"), (NAMES, FILES, Masks, 0.2, "Masks"),
    (NAMES, FILES, Tags, 20, "thresh.*20"), (NAMES, FILES, Tags, torch.tensor([.1, .2, -1]), "-1")])
def test_a_wrong_submission_is_refused(tmp_path, names, files, target, thresh, telling):
    said = Predictions(files, LIKELY, target(SAID.target.classes))
    with pytest.raises(ValueError, match=telling):
        write_submission(tmp_path / "s.csv", names, said, thresh)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays_unless_it_may_be_overwritten(monkeypatch, tmp_path):
    file, waited = tmp_path / "s.csv", []
    file.write_text("of yesterday")
    monkeypatch.setattr(processes, "wait_for_all", lambda: waited.append(file.read_text()))
    with pytest.raises(ValueError, match=r"s\.csv.*overwrite=True"):
        write_submission(file, NAMES, SAID, 0.25)
    assert file.read_text() == "of yesterday" and waited == []
    write_submission(file, NAMES, SAID, 0.25, overwrite=True)
    assert len(file.read_text().splitlines()) == 4 and waited == ["of yesterday"]
