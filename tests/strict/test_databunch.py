from dataclasses import FrozenInstanceError
from pathlib import Path
import random

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from minifast import databunch
from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.loader import Loader, imagenet_stats
from minifast.targets import Categories, Masks, Tags

CPU = torch.device("cpu")


def tags() -> Tags:
    return Tags(["haze", "primary", "water"])


def red(n: int) -> TensorDataset:
    """Solid red pictures (3, 8, 8) uint8, each tagged haze and water."""
    x = torch.tensor([255, 0, 0], dtype=torch.uint8)[None, :, None, None].expand(n, 3, 8, 8)
    return TensorDataset(x, torch.tensor([1.0, 0, 1]).expand(n, 3))


def bunch(n: int = 10, n_valid: int = 6, bs: int = 4, **more) -> DataBunch:
    return DataBunch.create(red(n), red(n_valid), **{"target": tags(), "bs": bs, "device": CPU,
                                                     **more})


def plus_1(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + 1, y


def plus_2(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + 2, y


def reds(loader: Loader) -> set[float]:
    """The values of the first channel in all batches."""
    return {value for x, _ in loader for value in x[:, 0].unique().tolist()}


@pytest.fixture
def sheet(monkeypatch) -> dict:
    """What show_batch hands to draw.grid: pictures, captions, columns."""
    seen = {}

    def grid(pictures, captions, columns):
        seen.update(pictures=pictures, captions=captions, columns=columns)

    monkeypatch.setattr(databunch.draw, "grid", grid)
    return seen


def test_any_two_torch_data_sets_make_a_databunch():
    train, valid = red(10), red(6)
    data = DataBunch.create(train, valid, bs=4, device=CPU)
    assert data.train_ds is train and data.valid_ds is valid
    assert data.test_dl is None and data.target is None and data.classes is None
    assert [len(x) for x, _ in data.train_dl] == [4, 4]                # drops the last two
    assert [len(x) for x, _ in data.valid_dl] == [4, 2]


def test_each_loader_gets_what_it_is_asked_for():
    test = red(3)
    data = bunch(bs=5, val_bs=2, num_workers=1, seed=7, test_ds=test)
    assert (data.train_dl.bs, data.train_dl.train) == (5, True)
    for loader, n in ((data.valid_dl, 6), (data.test_dl, 3)):
        assert (len(loader.dataset), loader.bs, loader.train) == (n, 2, False)
    for loader in (data.train_dl, data.valid_dl, data.test_dl):
        assert (loader.seed, loader.num_workers, loader.device) == (7, 1, CPU)
        assert loader.stats is None and loader.epoch == 0
    assert data.test_dl.dataset is test


def test_what_is_not_said_suits_this_machine(monkeypatch):
    data = DataBunch.create(red(70), red(70))
    assert (data.train_dl.bs, data.valid_dl.bs, data.train_dl.seed) == (64, 64, 42)
    assert data.train_dl.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    elsewhere = DataBunch.create(red(4), None, num_workers=0, device=torch.device("meta"))
    assert elsewhere.train_dl.device.type == "meta"
    monkeypatch.setattr(databunch, "default_workers", lambda device: 3)
    assert bunch().train_dl.num_workers == 3
    assert bunch(num_workers=0).train_dl.num_workers == 0


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Four pictures, 5 rows and 4 columns: 60 bytes each."""
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for file in files:
        Image.new("RGB", (4, 5)).save(file)
    return files


def test_with_a_cache_training_and_validation_decode_a_file_once(files, capsys):
    data = DataBunch.create(*(Dataset(files) for _ in range(3)), device=CPU, cache=True)
    for dataset in (data.train_ds, data.valid_ds):
        dataset[0]
        assert dataset.caches[0].filled.tolist() == [True, False, False, False]
    assert not data.test_dl.dataset.caches                       # it is read once or twice
    assert not DataBunch.create(Dataset(files), None, device=CPU).train_ds.caches
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("free, fits", [(2 * 480, True), (2 * 480 - 1, False), (0, False)])
def test_all_sets_together_take_at_most_half_of_the_free_memory(files, capsys, free, fits,
                                                                monkeypatch):
    monkeypatch.setattr(databunch, "free_memory", lambda: free)
    data = DataBunch.create(Dataset(files), Dataset(files), device=CPU, cache=True)
    assert bool(data.train_ds.caches) == bool(data.valid_ds.caches) == fits
    said = capsys.readouterr().out
    assert said == "" if fits else "cache=True is left out" in said
    assert fits or ("50% of the" if free else "does not tell how much memory") in said
    assert len(list(data.train_dl)) == 1


def test_several_processes_share_the_memory(files, monkeypatch, capsys):
    monkeypatch.setattr(databunch, "free_memory", lambda: 3 * 480)
    for count, fits in ((3, True), (4, False)):
        monkeypatch.setattr("minifast.tools.processes.COUNT", count)
        data = DataBunch.create(Dataset(files), None, device=CPU, cache=True)
        assert bool(data.train_ds.caches) == fits


def test_what_does_not_fit_is_not_even_reserved(files, monkeypatch):
    monkeypatch.setattr(databunch, "free_memory", lambda: 10)
    monkeypatch.setattr(databunch, "Cache", None)
    DataBunch.create(Dataset(files), None, device=CPU, cache=True)


def test_another_data_set_has_to_keep_its_own_pictures():
    with pytest.raises(TypeError, match="cache=True.*Dataset; a TensorDataset"):
        bunch(cache=True)


def test_validation_takes_the_batch_size_of_training_unless_it_has_its_own():
    assert bunch(bs=3).valid_dl.bs == 3
    assert bunch(bs=3, val_bs=5).valid_dl.bs == 5


@pytest.mark.parametrize("sizes", [{"bs": 0}, {"val_bs": 0}])
def test_a_batch_size_of_0_is_refused(sizes):
    with pytest.raises(ValueError, match=r"bs\b.*\b0\b"):
        bunch(**sizes)


def test_one_transform_is_for_training_and_a_pair_for_validation_and_test_too():
    one = bunch(test_ds=red(2), tfms=plus_1)
    assert [reds(loader) for loader in (one.train_dl, one.valid_dl, one.test_dl)] == [{2}, {1}, {1}]
    two = bunch(test_ds=red(2), tfms=(plus_1, plus_2))
    assert [reds(loader) for loader in (two.train_dl, two.valid_dl, two.test_dl)] == [{2}, {3}, {3}]


def test_there_may_be_no_validation_set():
    data = DataBunch.create(red(4), None, device=CPU)
    assert data.valid_dl is None and data.valid_ds is None
    assert data.normalize(imagenet_stats).valid_dl is None
    with pytest.raises(ValueError, match=r"validation.*\btrain=True\b"):
        data.one_batch(train=False)


@pytest.mark.parametrize("sizes", [(0, 3, 3), (3, 0, 3), (3, 3, 0)])
def test_an_empty_data_set_is_refused(sizes):
    with pytest.raises(ValueError, match=r"data ?set.*(\b0\b|empty)"):
        DataBunch.create(*map(red, sizes), device=CPU)


def test_the_classes_are_those_of_the_target():
    assert bunch().classes == ["haze", "primary", "water"] and bunch().c == 3
    assert bunch(target=Categories(["cat", "dog"])).c == 2


def test_the_target_of_the_training_set_counts_unless_another_is_given():
    train, mine, its_own = red(4), Categories(["x"]), tags()
    train.target = its_own
    assert DataBunch.create(train, red(4), device=CPU).target is its_own
    assert DataBunch.create(train, red(4), target=mine, device=CPU).target is mine


def test_without_a_target_the_number_of_classes_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"\bclasses\b.*\btarget\b"):
        bunch(target=None).c


def test_normalize_returns_new_loaders_and_leaves_the_old_ones():
    old = bunch(test_ds=red(2))
    new = old.normalize(((1, 0, 0), (2, 1, 1)))
    for before, after in ((old.train_dl, new.train_dl), (old.valid_dl, new.valid_dl),
                          (old.test_dl, new.test_dl)):
        assert reds(before) == {1} and reds(after) == {0}              # (1 - 1) / 2
        assert after.dataset is before.dataset
    assert new.target is old.target


def test_a_databunch_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        bunch().train_dl = None


def test_normalize_twice_is_refused():
    data = bunch().normalize(imagenet_stats)
    with pytest.raises(ValueError, match=r"\bnormali[sz]ed?\b"):
        data.normalize(imagenet_stats)


def test_one_batch_is_of_training_or_of_validation():
    data = bunch(tfms=(plus_1, plus_2))
    x, y = data.one_batch()
    assert x.shape == (4, 3, 8, 8) and (x[:, 0] == 2).all() and y.shape == (4, 3)
    x, y = data.one_batch(train=False)
    assert x.shape == (4, 3, 8, 8) and (x[:, 0] == 3).all()


@pytest.mark.parametrize("stats", [None, imagenet_stats])
def test_show_batch_shows_the_pictures_in_their_colours(stats):
    data = bunch().normalize(stats) if stats else bunch()
    shown = numpy.asarray(data.show_batch(rows=2)).astype(int)
    is_red = (shown == [255, 0, 0]).all(-1)                            # (h, w)
    # 2 x 2 solid squares of one size: 4 k*k red pixels in 2k rows and in 2k columns
    side = is_red.any(0).sum() // 2
    assert side >= 8 and is_red.sum() == 4 * side ** 2
    assert is_red.any(0).sum() == is_red.any(1).sum() == 2 * side


def test_show_batch_undoes_normalize(sheet):
    x = torch.tensor([200, 100, 50], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 8)
    data = DataBunch.create(TensorDataset(x, torch.zeros(2, 3)), None, target=tags(), device=CPU)
    data.normalize(imagenet_stats).show_batch()
    assert [picture.getpixel((3, 3)) for picture in sheet["pictures"]] == [(200, 100, 50)] * 2


def test_a_caption_joins_the_tags_of_its_picture(sheet):
    x = torch.stack([torch.full((3, 8, 8), i / 10) for i in range(3)])
    y = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    valid = TensorDataset(x, y)
    DataBunch.create(red(4), valid, target=tags(), device=CPU).show_batch(2, train=False)
    assert sheet["captions"] == ["haze;water", "primary", ""]
    assert sheet["columns"] == 2
    # 0, .1 * 255 = 25.5 and .2 * 255 = 51; either neighbour of 25.5 will do
    assert [picture.getpixel((0, 0))[0] for picture in sheet["pictures"]] in ([0, 25, 51],
                                                                              [0, 26, 51])


def test_captions_are_empty_where_the_classes_are_unknown(sheet):
    bunch(target=None).show_batch()
    assert sheet["captions"] == [""] * 4


@pytest.mark.parametrize("rows, bs, shown", [(2, 10, 4), (3, 10, 9), (3, 4, 4), (1, 4, 1)])
def test_show_batch_has_rows_times_rows_pictures_or_the_whole_batch(rows, bs, shown, sheet):
    bunch(bs=bs).show_batch(rows)
    assert len(sheet["pictures"]) == len(sheet["captions"]) == shown
    assert sheet["columns"] == rows


def test_show_batch_shows_three_rows_of_training_unless_told(sheet):
    bunch(20, n_valid=2, bs=12).show_batch()
    assert sheet["columns"] == 3 and len(sheet["pictures"]) == 9


@pytest.mark.parametrize("train", [True, False])
def test_looking_leaves_no_trace(train):
    def noisy(x, y, rng):
        return x + torch.rand(x.shape, generator=rng), y

    def epoch(data: DataBunch) -> list[Tensor]:
        return [x for x, _ in (data.train_dl if train else data.valid_dl)]

    def states() -> list[str]:
        return [str(torch.get_rng_state().tolist()), str(numpy.random.get_state()),
                str(random.getstate())]

    looked, untouched = (bunch(tfms=(noisy, noisy)) for _ in range(2))
    before = states()
    first, again = looked.one_batch(train)[0], looked.one_batch(train)[0]
    looked.show_batch(train=train)
    assert states() == before
    assert torch.equal(first, again)
    pairs = zip(epoch(looked), epoch(untouched), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("step", ["split_by_rand_pct", "label_from_csv", "transform",
                                  "add_test_folder", "databunch"])
def test_a_step_of_the_list_comes_before_databunch(step):
    with pytest.raises(AttributeError, match=rf"\b{step}\b.*\bdatabunch\b"):
        getattr(bunch(), step)


def test_other_names_are_just_not_there():
    with pytest.raises(AttributeError, match=r"^(?!.*\bdatabunch\b).*\btrain_loader\b"):
        bunch().train_loader


# Masks

def with_masks(stats=None) -> DataBunch:
    """Grey pictures 8 x 8 whose masks have sky above and a car below; no road anywhere."""
    x = torch.full((4, 3, 8, 8), 100, dtype=torch.uint8)
    y = torch.zeros(4, 8, 8, dtype=torch.int64)
    y[:, 4:] = 2
    data = DataBunch.create(TensorDataset(x, y), None, target=Masks(["sky", "road", "car"]), bs=4,
                            device=CPU)
    return data.normalize(stats) if stats else data


@pytest.mark.parametrize("stats", [None, imagenet_stats])
def test_show_batch_lays_the_masks_over_the_pictures(sheet, stats, monkeypatch):
    monkeypatch.setattr(databunch.draw, "with_legend", lambda sheet, names: sheet)
    with_masks(stats).show_batch(rows=2)
    assert sheet["captions"] == [""] * 4 and sheet["columns"] == 2 and len(sheet["pictures"]) == 4
    seen = numpy.asarray(sheet["pictures"][0])
    # half the grey of 100, half of the colours #2299cc (sky, 0) and #aaff00 (car, 2)
    assert abs(seen[0, 0] - numpy.array([67., 126.5, 152.])).max() < 2
    assert abs(seen[7, 7] - numpy.array([135., 177.5, 50.])).max() < 2


def test_the_legend_of_show_batch_has_the_classes_that_are_there(sheet, monkeypatch):
    names = []
    monkeypatch.setattr(databunch.draw, "with_legend", lambda sheet, those: names.append(those))
    with_masks().show_batch(rows=2)
    assert names == [{0: "sky", 2: "car"}]


def test_a_loader_that_is_not_there_is_refused_with_the_way_out():
    data = with_masks()
    assert data.known_loader("train_dl") is data.train_dl
    for name, way_out in (("valid_dl", "split"), ("test_dl", "add_test_folder")):
        with pytest.raises(ValueError, match=way_out):
            data.known_loader(name)


def test_free_memory_is_what_linux_says_and_otherwise_0(tmp_path, monkeypatch):
    monkeypatch.setattr(databunch, "Path", lambda name: tmp_path / name.split("/")[-1])
    assert databunch.free_memory() == 0
    (tmp_path / "meminfo").write_text("MemFree: 7 kB\nMemAvailable: 4096 kB\nCached: 5 kB\n")
    assert databunch.free_memory() == 4096 * 1024
