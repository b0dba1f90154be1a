from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
import os
from pathlib import Path
import pickle
import random

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor, nn

from minifast import inference
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.inference import Predictions, files_in, load_learner, read_exported
from minifast.learner import Learner
from minifast.loader import imagenet_stats
from minifast.resnet import resnet18
from minifast.targets import Categories, Masks, Tags
from minifast.tools.files import load_tensors, save_tensors
from minifast.unet import UNet
from minifast.vision import cnn_learner, unet_learner

CPU, CLASSES = torch.device("cpu"), ["dark", "light", "odd"]
NEW = ["b.png", "a.png", "deep/c.jpg", "10.png", "9.png"]               # not in order
IN_ORDER = ["10.png", "9.png", "a.png", "b.png", "deep/c.jpg"]


class SmallNet(nn.Module):
    """A net of torchvision's kind, quick enough for tests: 8 features, then a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.relu(self.norm(self.conv(x)))).flatten(1))


def pixel_net() -> nn.Module:
    """A model of one's own: what each pixel and its neighbours say."""
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))


def noise(file: Path, seed: int, size: tuple[int, int] = (12, 16)) -> Path:
    """A picture of large coloured squares in a file."""
    file.parent.mkdir(exist_ok=True)
    pixels = numpy.random.default_rng(seed).integers(256, size=(*size, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).resize((4 * size[1], 4 * size[0])).save(file)
    return file


@pytest.fixture
def new(tmp_path) -> list[Path]:
    """Pictures that no training has seen, 48 x 64; in the folder is something else, too."""
    files = [noise(tmp_path / "new" / name, seed) for seed, name in enumerate(NEW)]
    (tmp_path / "new" / "notes.txt").write_text("no picture")
    return files


def data_of(folder: Path, kind: type = Tags, size=(12, 12), stats=imagenet_stats, test=None,
            **how) -> DataBunch:
    """Six pictures and a label for each, of any kind of target."""
    files = [noise(folder / "train" / f"{i}.png", 100 + i) for i in range(6)]
    masks = [folder / "train" / f"mask_{i}.png" for i in range(6)]
    for i, file in enumerate(masks):
        rows = numpy.random.default_rng(i).integers(3, size=(48, 64), dtype=numpy.uint8)
        Image.fromarray(rows).save(file)
    labels = {Categories: CLASSES * 2, Tags: [CLASSES[:i % 3] for i in range(6)], Masks: masks}
    train_ds = Dataset(files, labels[kind], kind(CLASSES), size, **how)
    test_ds = None if test is None else Dataset(test, None, None, size, **how)
    data = DataBunch.create(train_ds, train_ds, test_ds, bs=3, device=CPU)
    return data if stats is None else data.normalize(stats)


def learner(data: DataBunch) -> Learner:
    """A model for the data that has learned a little: also its BatchNorm has numbers of its own."""
    make = unet_learner if isinstance(data.target, Masks) else cnn_learner
    learn = make(data, SmallNet, pretrained=False, precision="float32")
    learn.fit(1, 1e-2)
    return learn


def load(file: Path, arch: Callable = SmallNet, **knobs) -> inference.Predictor:
    return load_learner(file, arch, **{"device": CPU, "precision": "float32", **knobs})


@pytest.fixture
def exported(tmp_path) -> Path:
    """A model for tags in a file, in a moment: it has learned nothing."""
    learn = cnn_learner(data_of(tmp_path), SmallNet, pretrained=False, precision="float32")
    return learn.export(tmp_path / "model.pth", torch.tensor([0.2, 0.5, 0.8]))


def close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-6)


# The same answers as in training

@pytest.mark.parametrize("kind", [Categories, Tags, Masks])
def test_an_exported_model_says_what_the_learner_says(tmp_path, new, kind):
    learn = learner(data_of(tmp_path, kind, test=new))
    model = load(learn.export(tmp_path / "model.pth"))
    assert type(model.target) is kind and model.target.classes == CLASSES
    assert close(model.predict_files(new, bs=3).probabilities, learn.get_preds(test=True)[0])
    for mine, theirs in zip(model.predict(new[0])[1:], learn.predict(new[0])[1:]):
        assert mine.dtype == theirs.dtype and close(mine.float(), theirs.float())
    assert model.predict(str(new[0]))[0] == learn.predict(new[0])[0]


@pytest.mark.parametrize("how", [
    {"size": None}, {"stats": None}, {"stats": ([0.5], [0.1])}, {"size": (8, 20)},
    {"size": (1, 1)}, {"method": "squish"}, {"size": (6, 6)}],
    ids=lambda how: "-".join(how))
def test_pictures_are_resized_and_normalized_as_in_training(tmp_path, how):
    # JPEGs of twice the size, which are decoded at half of it.
    new = [noise(tmp_path / "new" / f"{i}.jpg", i) for i in range(3)]
    learn = learner(data_of(tmp_path, test=new, **how))
    model = load(learn.export(tmp_path / "model.pth"))
    assert close(model.predict_files(new).probabilities, learn.get_preds(test=True)[0])
    assert close(model.predict(new[1])[2], learn.predict(new[1])[2])
    dataset = learn.data.train_ds
    assert (model.size, model.method) == (dataset.size, dataset.method)
    assert (model.stats is None) == (how.get("stats", 0) is None)


@pytest.mark.parametrize("kind", [Categories, Tags, Masks])
def test_a_picture_opened_with_pillow_is_as_good_as_its_file(tmp_path, new, kind):
    learn = learner(data_of(tmp_path, kind))
    model = load(learn.export(tmp_path / "model.pth"))
    for predict in (model.predict, learn.predict):
        caption, said, likely = predict(new[0])
        with Image.open(new[0]) as picture:
            found = predict(picture)
        assert found[0] == caption and torch.equal(found[1], said)
        assert torch.equal(found[2], likely)


@pytest.mark.parametrize("size, trained_on", [((12, 12), (12, 12)), (None, (48, 64))])
def test_a_predicted_mask_has_the_size_of_the_file(tmp_path, new, size, trained_on):
    model = load(learner(data_of(tmp_path, Masks, size)).export(tmp_path / "model.pth"))
    caption, mask, likely = model.predict(new[0])
    assert mask.shape == (48, 64) and likely.shape == (3, 48, 64)
    assert torch.equal(likely.argmax(dim=0), mask)
    assert set(caption.split(";")) == {CLASSES[number] for number in mask.unique()}
    # Many at once are as the model was trained.
    assert model.predict_files(new).probabilities.shape == (5, 3, *trained_on)


@pytest.mark.parametrize("div", [True, False])
def test_masks_know_whether_their_files_hold_0_and_255(tmp_path, div):
    data = DataBunch.create([(torch.zeros(3, 8, 8), torch.zeros(8, 8).long())] * 2, None,
                            target=Masks(["no", "yes"], div), device=CPU)
    file = Learner(data, UNet(2, 2, 1), precision="float32").export(tmp_path / "model.pth")
    assert load(file).target.div is div


def test_data_of_ones_own_is_exported_as_pictures_of_any_size(tmp_path, new):
    data = DataBunch.create([(torch.zeros(3, 8, 8), torch.zeros(8, 8).long())] * 2, None,
                            target=Masks(CLASSES), device=CPU)
    learn = Learner(data, pixel_net(), precision="float32")
    model = load(learn.export(tmp_path / "model.pth"), pixel_net)
    assert (model.size, model.method, model.stats) == (None, "crop", None)
    assert close(model.predict(new[0])[2], learn.predict(new[0])[2])


# Thresholds

@pytest.mark.parametrize("thresh, decision", [(0.3, [0, 1, 1]), (torch.tensor([.1, .9, .9]),
                                                                 [1, 0, 0])])
def test_tags_are_said_above_the_exported_threshold_unless_told(tmp_path, new, thresh, decision):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    nn.init.zeros_(model[2].weight)
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.2, 0.4, 0.6]).logit())
    learn = Learner(data_of(tmp_path), model, precision="float32")
    loaded = load(learn.export(tmp_path / "model.pth", thresh), lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))
    assert torch.equal(loaded.thresh, torch.as_tensor(thresh))
    caption, said, likely = loaded.predict(new[0])
    assert said.tolist() == decision and likely.tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert caption == ";".join(name for name, yes in zip(CLASSES, decision) if yes)
    assert loaded.predict(new[0], 0.5)[1].tolist() == [0, 0, 1]
    assert loaded.predict(new[0], torch.tensor([0.1, 0.5, 0.7]))[0] == "dark"
    assert loaded.predict(new[0], 0)[0] == "dark;light;odd"


# A picture, a folder, a list

def test_predictions_come_with_their_files_in_order(tmp_path, new, exported):
    # predictions and file names do not line up
    model = load(exported)
    one_by_one = {file: model.predict(file)[2] for file in new}
    for asked, wanted in ((new, new), ([str(file) for file in new], new), (new[3], new[3:4]),
                          (str(new[1]), new[1:2]), ([new[0], new[0]], [new[0], new[0]]),
                          (tmp_path / "new", [tmp_path / "new" / name for name in IN_ORDER]),
                          (str(tmp_path / "new"), [tmp_path / "new" / name for name in IN_ORDER])):
        said = model.predict_files(asked)
        assert said.files == wanted and said.target is model.target
        assert close(said.probabilities, torch.stack([one_by_one[file] for file in wanted]))


@pytest.mark.parametrize("num_workers, bs", [(0, 1), (0, 2), (2, 2), (2, 1), (2, 64)])
def test_predictions_are_the_same_whatever_workers_and_batches(new, exported, num_workers, bs):
    model = load(exported)
    said, usual = (model.predict_files(new, bs=bs, num_workers=num_workers),
                   model.predict_files(new))
    assert said.files == usual.files == new
    assert close(said.probabilities, usual.probabilities)


def test_names_are_the_files_without_folder_and_suffix():
    files = [Path("tiles/test_10.jpg"), Path("b.c.png"), Path("a")]
    assert Predictions(files, torch.zeros(3, 1), Tags(["x"])).names == ["test_10", "b.c", "a"]


def test_the_classes_come_with_the_model_and_pictures_need_no_label(tmp_path, new, exported):
    # errors with a test set, which has no labels
    said = load(exported).predict_files(tmp_path / "new")
    assert said.target.classes == CLASSES and said.probabilities.shape == (5, 3)


@pytest.mark.parametrize("views", [1, 2, 8])
def test_the_mean_over_views_is_that_of_what_is_said_of_turned_files(tmp_path, exported, views):
    file = noise(tmp_path / "square" / "0.png", 0, (3, 3))      # 12 x 12, as the model wants it
    pixels = numpy.asarray(Image.open(file))
    sides = {1: [(pixels, 1)], 2: [(pixels, 1), (pixels[:, ::-1], 1)],
             8: [(pixels, 4), (pixels[:, ::-1], 4)]}[views]
    files = []
    for side, turns in sides:
        for k in range(turns):
            files.append(tmp_path / f"{len(files)}.png")
            Image.fromarray(numpy.ascontiguousarray(numpy.rot90(side, k))).save(files[-1])
    model = load(exported)
    wanted = torch.stack([model.predict(turned)[2] for turned in files]).mean(dim=0)
    assert model.predict_files(file, views=views).probabilities[0].tolist() == pytest.approx(
        wanted.tolist(), abs=1e-5)
    if views == 1:
        assert torch.equal(model.predict_files(file).probabilities[0], wanted)


@pytest.mark.parametrize("views", [0, 3, 4])
def test_another_number_of_views_is_refused(new, exported, views):
    with pytest.raises(ValueError, match=f"no number of views {views}; there are: 1, 2, 8"):
        load(exported).predict_files(new, views)


def test_a_picture_that_cannot_be_read_is_named(new, exported):
    new[3].write_bytes(new[3].read_bytes()[:100])
    model = load(exported)
    with pytest.raises(ValueError, match=r"picture \S*10\.png cannot be read"):
        model.predict_files(new)
    with pytest.raises(ValueError, match=r"picture \S*10\.png cannot be read"):
        model.predict(new[3])


def test_where_there_is_nothing_to_predict_it_says_so(tmp_path, exported):
    model = load(exported)
    (tmp_path / "empty").mkdir()
    for nothing, message in (([], "no pictures to predict: the list of files is empty"),
                             (tmp_path / "empty", r"folder \S*empty holds no pictures"),
                             (tmp_path / "no.png", r"picture \S*no\.png does not exist"),
                             ([tmp_path / "no.png"], r"picture \S*no\.png does not exist")):
        with pytest.raises(ValueError, match=message):
            model.predict_files(nothing)
    with pytest.raises(ValueError, match=r"picture \S*no\.png"):
        model.predict(tmp_path / "no.png")


@pytest.mark.parametrize("kind, bs", [(Tags, 64), (Masks, 1)])
def test_without_a_size_many_pictures_must_have_one(tmp_path, new, kind, bs):
    model = load(learner(data_of(tmp_path, kind, None)).export(tmp_path / "model.pth"))
    noise(new[1], 7, (10, 10))
    with pytest.raises(ValueError, match="differ in size"):
        model.predict_files(new, bs=bs)
    if kind is Tags:
        assert model.predict_files(new, bs=1).probabilities.shape == (5, 3)


def test_files_in_a_folder_a_list_or_one_file(tmp_path, new):
    assert files_in(tmp_path / "new") == [tmp_path / "new" / name for name in IN_ORDER]
    assert files_in(str(new[0])) == files_in(new[0]) == files_in((str(new[0]),)) == [new[0]]
    assert files_in(reversed(new)) == new[::-1]


def test_a_missing_file_is_named_before_any_picture_is_looked_at(tmp_path, new):
    with pytest.raises(ValueError, match=r"picture \S*no\.png does not exist; check the folder"):
        files_in([new[0], tmp_path / "no.png"])


def test_predicting_leaves_no_trace(new, exported):
    model = load(exported)
    model.model.train()
    before = torch.get_rng_state(), [value.clone() for value in model.model.state_dict().values()]
    model.predict_files(new, 8)
    model.predict(new[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(map(torch.equal, before[1], model.model.state_dict().values()))
    assert all(layer.training for layer in model.model.modules())


def test_files_are_the_test_set_of_what_stands_for_a_learner_in_their_order(new, exported):
    model = load(exported)
    learn = model.learner_of(new, 2, 1)
    data = learn.data
    assert (learn.model, learn.autocast) == (model.model, model.autocast)
    assert data.test_dl.dataset.files == new and data.valid_dl is None
    assert data.target is model.target and not data.test_dl.train
    assert (data.test_dl.bs, data.test_dl.num_workers, data.test_dl.device) == (2, 1, CPU)
    assert data.test_dl.tfms is None and len(data.test_dl) == 3
    assert model.learner_of(new).data.test_dl.bs == 64
    assert data.test_dl.stats[0].tolist() == pytest.approx(imagenet_stats[0])


# What the model is made of

def test_a_body_of_ours_needs_no_constructor(tmp_path, new):
    learn = cnn_learner(data_of(tmp_path, size=(32, 32), test=new), resnet18, pretrained=False,
                        precision="float32")
    model = load(learn.export(tmp_path / "model.pth"), None)
    assert close(model.predict_files(new).probabilities, learn.get_preds(test=True)[0])


@pytest.mark.parametrize("make", [
    lambda data: Learner(data, UNet(3, 4, 2), precision="float32"),
    lambda data: unet_learner(data, SmallNet, pretrained=False, bottle=True, precision="float32"),
    lambda data: Learner(data, pixel_net(), precision="float32")], ids=["UNet", "bottle", "own"])
def test_nets_for_masks_come_back(tmp_path, new, make):
    learn = make(data_of(tmp_path, Masks, test=new))
    arch = pixel_net if isinstance(learn.model, nn.Sequential) else SmallNet
    model = load(learn.export(tmp_path / "model.pth"), arch)
    assert close(model.predict_files(new).probabilities, learn.get_preds(test=True)[0])


def test_an_unknown_net_is_named_with_the_way_out(tmp_path, exported):
    with pytest.raises(ValueError, match=r"model\.pth cannot be made: .*'SmallNet', which is non"
                                         r".*load_learner\(file, arch=its constructor\)"):
        load_learner(exported)
    own = Learner(data_of(tmp_path, Masks), pixel_net()).export(tmp_path / "own.pth")
    with pytest.raises(ValueError, match=r"own\.pth cannot be made: .*'Sequential'.*arch="):
        load_learner(own)


@pytest.mark.parametrize("arch, complaint", [
    (lambda: nn.Linear(1, 1), "cannot be cut"), (resnet18, "body.conv1"),
    (SmallNet.forward, "forward"), (lambda: None, "NoneType")],
    ids=["linear", "resnet18", "needs an argument", "None"])
def test_another_net_than_that_of_the_file_is_refused(exported, arch, complaint):
    with pytest.raises(ValueError, match=rf"(?s)model\.pth cannot be made: .*{complaint}"):
        load(exported, arch)


def test_what_made_labels_and_model_need_not_exist_any_more(tmp_path, new):
    # export fails where code, a lambda or something of __main__, is pickled
    files = [noise(tmp_path / "train" / f"{i}.png", i) for i in range(4)]
    dataset = Dataset(files, ["a", "b"] * 2, Categories(["a", "b"]), (8, 8))
    dataset.note, tfm = (lambda file: file.name), (lambda x, y, rng: (x, y))
    data = DataBunch.create(dataset, dataset, tfms=(tfm, tfm), device=CPU)

    class Local(nn.Sequential):
        """A class that no other process could import."""

    learn = Learner(data, Local(nn.Flatten(), nn.Linear(192, 2)), lambda logits, y: logits.mean(),
                    [lambda logits, y: 0.0], precision="float32")
    model = load(learn.export(tmp_path / "model.pth"),
                 lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    assert close(model.predict(new[0])[2], learn.predict(new[0])[2])


def test_the_file_holds_tensors_and_plain_values_that_torch_reads(exported):
    content = torch.load(exported, weights_only=True)
    assert content["classes"] == CLASSES and content["recipe"] == {"kind": "cnn",
                                                                   "arch": "SmallNet"}
    assert set(content["model"]) >= {"body.conv.weight", "body.norm.running_mean", "head.8.bias"}
    assert (content["size"], content["target"]) == ([12, 12], "Tags")
    assert content["stats"][1].tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_a_file_is_overwritten_only_when_told(tmp_path, exported):
    before = exported.read_bytes()
    learn = learner(data_of(tmp_path, Categories))
    with pytest.raises(ValueError, match=r"model\.pth exists already, and stays .*overwrite=True"):
        learn.export(exported)
    assert exported.read_bytes() == before
    learn.export(exported, overwrite=True)
    assert isinstance(load(exported).target, Categories)


def test_loading_leaves_the_global_random_state_alone(exported):
    def net() -> nn.Module:
        random.random(), numpy.random.random(), torch.rand(1)
        return SmallNet()

    states = [(random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state())
              for _ in (load(exported, net), load(exported, net))]
    random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    load(exported, net)
    after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])
    assert states[0][:2] == states[1][:2] and torch.equal(states[0][2], states[1][2])


# Where it runs

@pytest.mark.parametrize("fast", [True, False])
def test_device_and_precision_are_what_suits_the_machine_unless_told(monkeypatch, exported, fast):
    monkeypatch.setattr(inference, "uses_bfloat16",
                        lambda device, precision: fast and precision == "auto")
    monkeypatch.setattr(inference, "default_device", lambda: torch.device("meta"))
    for knobs, wanted in (({}, fast), ({"precision": "float32"}, False)):
        model = load_learner(exported, SmallNet, device=CPU, **knobs)
        weight = next(iter(model.model.parameters()))
        assert model.device == weight.device == CPU and weight.dtype == torch.float32
        assert weight.is_contiguous() is not wanted     # channels_last
        with model.autocast:
            out = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
        assert out.dtype == (torch.bfloat16 if wanted else torch.float32)


def test_without_a_device_it_is_the_default_one(monkeypatch, exported):
    asked = []
    monkeypatch.setattr(inference, "default_device", lambda: asked.append(1) or CPU)
    assert load_learner(exported, SmallNet).device == CPU and asked == [1]


# What is refused, by the name of the file

def test_another_order_of_classes_is_refused(exported):
    # other predictions with another order of classes ('0', '1', '10', '2')
    for wrong in (["light", "dark", "odd"], ["dark", "light"], [*CLASSES, "more"], []):
        with pytest.raises(ValueError, match=r"model\.pth answers for the classes \['dark', 'light'"
                                             r", 'odd'\] in this order, wanted \["):
            load(exported, classes=wrong)
    assert load(exported, classes=tuple(CLASSES)).target.classes == CLASSES


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(exported, share):
    content = exported.read_bytes()
    exported.write_bytes(content[:int(share * len(content))])
    with pytest.raises(ValueError, match=r"model\.pth was altered, cut short"):
        load(exported)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_flipped_bits_is_refused_and_not_changed(exported, seed):
    content, rng = bytearray(exported.read_bytes()), random.Random(seed)
    for _ in range(rng.choice([1, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    exported.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pth was altered, cut short"):
        load(exported)
    assert exported.read_bytes() == content


class Trap:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def pickled(content: object) -> bytes:
    return pickle.dumps(content, protocol=2)


def zipped(content: object) -> bytes:
    """As torch writes it: a pickle in a zip file."""
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("written", [pickled, zipped])
@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("hidden", [True, False])
def test_pickled_code_is_refused_and_never_runs(tmp_path, exported, written, digest, hidden):
    trap = Trap(tmp_path / "trapped")
    pickle.loads(pickle.dumps(trap))
    assert trap.folder.is_dir()                                 # it would work
    trap.folder.rmdir()
    body = written({**load_tensors(exported), "model": trap} if hidden else trap)
    exported.write_bytes(body + sha256(body).digest() * digest)
    with pytest.raises(ValueError, match=r"model\.pth (is damaged|was altered)"):
        load(exported)
    assert not trap.folder.exists()


def test_a_file_of_learn_save_is_refused_with_the_way_out(tmp_path):
    file = learner(data_of(tmp_path)).save(tmp_path / "stage-1.pth")
    with pytest.raises(ValueError, match=r"stage-1\.pth is no exported model, but holds model, opti"
                                         r".*learn\.export\(FILE\) writes one, learn\.load reads"):
        load(file)


def test_files_of_other_origin_are_refused(tmp_path):
    file = tmp_path / "model.pth"
    with pytest.raises(ValueError, match=r"model\.pth does not exist"):
        load(file)
    torch.save({"model": {}}, file)
    with pytest.raises(ValueError, match=r"model\.pth was altered, .* or not written by minifast"):
        load(file)
    save_tensors(file, {"content": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"model\.pth is no exported model, but holds content"):
        load(file)


FIELDS = ["model", "recipe", "target", "classes", "div", "size", "method", "stats", "thresh"]


def test_an_exported_file_is_read_as_it_was_written(exported):
    content = read_exported(exported)
    assert set(content) == {"content", *FIELDS} and content["method"] == "crop"
    assert content["thresh"].tolist() == pytest.approx([0.2, 0.5, 0.8])


@pytest.mark.parametrize("reduced", [True, False])
def test_a_file_of_version_01_with_its_field_reduced_still_loads(exported, new, reduced):
    wanted = load(exported).predict_files(new).probabilities
    save_tensors(exported, {**load_tensors(exported), "reduced": reduced})
    model = load(exported)
    assert torch.equal(model.predict_files(new).probabilities, wanted)
    assert not hasattr(model, "reduced")


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(exported, field):
    content = load_tensors(exported)
    del content[field]
    save_tensors(exported, content)
    with pytest.raises(ValueError, match=rf"model\.pth has no proper {field}; export the model"):
        load(exported)


@pytest.mark.parametrize("field, value", [
    ("model", [1, 2]), ("recipe", "cnn"), ("target", 3), ("target", None), ("classes", "abc"),
    ("classes", ("dark", "light", "odd")), ("classes", [1, 2, 3]), ("classes", ["a", "b", None]),
    ("div", None), ("div", 0), ("size", 12), ("size", [12]), ("size", [12, 12, 3]),
    ("size", [12, 0]), ("size", [12.0, 12]), ("size", ["a", "b"]), ("size", [True, True]),
    ("method", None), ("stats", "imagenet"), ("stats", [torch.ones(3)]),
    ("stats", [torch.ones(3)] * 3), ("stats", [torch.ones(2)] * 2), ("stats", [[.5] * 3] * 2),
    ("stats", [torch.ones(()), torch.ones(3)]), ("stats", [torch.ones(1, 3)] * 2),
    ("thresh", 0.2), ("thresh", [.1, .2, .3]), ("thresh", torch.ones(2)),
    ("thresh", torch.ones(1, 3))])
def test_a_field_of_another_type_is_named(exported, field, value):
    save_tensors(exported, {**load_tensors(exported), field: value})
    with pytest.raises(ValueError, match=rf"model\.pth has no proper {field}; export the model"):
        load(exported)


@pytest.mark.parametrize("field, value, message", [
    ("target", "Boxes", r"no kind of target in \S*model\.pth 'Boxes'; .*Categories, Tags, Masks"),
    ("method", "crops", r"no method in \S*model\.pth 'crops'; did you mean 'crop'"),
    ("recipe", {}, r"the model of \S*model\.pth cannot be made: no kind of model None"),
    ("recipe", {"kind": "cnns"}, r"model\.pth cannot be made: no kind of model 'cnns'; did you me"),
    ("recipe", {"kind": "UNet"}, r"model\.pth cannot be made: 'channels'"),
    ("recipe", {"kind": "UNet", "channels": "4", "levels": 2}, r"model\.pth cannot be made: "),
    ("recipe", {"kind": "UNet", "channels": 4, "levels": 0}, r"model\.pth cannot be made: "),
    ("recipe", {"kind": "UNet", "channels": 4, "levels": 2}, r"(?s)model\.pth cannot be .*first\."),
    ("recipe", {"kind": "unet", "arch": "SmallNet"}, r"model\.pth cannot be made: 'bottle'"),
    ("classes", ["dark", "light"], r"model\.pth has no proper thresh"),
    ("model", {}, r"(?s)model\.pth cannot be made: .*head\.8\.bias"),
    ("model", {"body.conv.weight": "text"}, r"(?s)model\.pth cannot be made: .*body\.conv\.w")])
def test_a_field_that_says_what_cannot_be_is_refused(exported, field, value, message):
    save_tensors(exported, {**load_tensors(exported), field: value})
    with pytest.raises(ValueError, match=message):
        load(exported)


def test_weights_for_another_number_of_classes_are_refused(exported):
    save_tensors(exported, {**load_tensors(exported), "classes": ["dark", "light"],
                            "thresh": torch.tensor(0.5)})
    with pytest.raises(ValueError, match=r"(?s)model\.pth cannot be made: .*head\.8\.weight"):
        load(exported)
