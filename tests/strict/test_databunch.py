import gc
from multiprocessing import active_children
import os
import sys

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from minifast import databunch
from minifast.databunch import DataBunch, preload
from minifast.loader import Loader, imagenet_stats
from minifast.targets import Categories, Masks, Tags
from minifast.tools import processes

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


def plus(number: int):
    """A transform that adds this to pictures."""
    return lambda x, y, rng: (x + number, y)


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


def test_each_loader_gets_what_it_is_asked_for_and_the_rest_suits_this_machine():
    test = red(3)
    plain = DataBunch.create(red(70), red(70), num_workers=0)
    assert (plain.train_dl.bs, plain.valid_dl.bs, plain.train_dl.seed) == (64, 64, 42)
    assert plain.train_dl.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert plain.target is plain.classes is None and bunch(bs=3).valid_dl.bs == 3
    data = bunch(bs=5, val_bs=2, num_workers=1, seed=7, test_ds=test)
    assert (data.train_dl.bs, data.train_dl.train) == (5, True)
    for loader, n in ((data.valid_dl, 6), (data.test_dl, 3)):
        assert (len(loader.dataset), loader.bs, loader.train) == (n, 2, False)
    for loader in (data.train_dl, data.valid_dl, data.test_dl):
        assert (loader.seed, loader.num_workers, loader.device) == (7, 1, CPU)
        assert loader.stats is None and loader.epoch == 0
    assert data.test_dl.dataset is test and data.valid_ds is data.valid_dl.dataset


@pytest.mark.parametrize("device, cores, count, workers", [
    ("cuda", 3, 1, 3), ("cuda", 64, 1, 8), ("cuda", 12, 2, 6), ("cuda", 12, 16, 1),
    ("cpu", 64, 1, 0)])
def test_a_gpu_has_a_worker_for_each_core_of_this_process_up_to_8(monkeypatch, device, cores, count,
                                                                  workers):
    monkeypatch.setattr(databunch, "cores", lambda: cores)
    monkeypatch.setattr(processes, "COUNT", count)
    data = bunch(20, bs=16, device=torch.device(device), num_workers=None)
    assert data.train_dl.num_workers == data.valid_dl.num_workers == workers
    assert bunch(20, bs=16, device=torch.device(device), num_workers=2).train_dl.num_workers == 2


def test_one_transform_is_for_training_and_a_pair_for_validation_and_test_too():
    for tfms, wanted in ((plus(1), [{2}, {1}, {1}]), ((plus(1), plus(2)), [{2}, {3}, {3}]),
                         ([None, plus(2)], [{1}, {3}, {3}])):
        data = bunch(test_ds=red(2), tfms=tfms)
        assert [*map(reds, (data.train_dl, data.valid_dl, data.test_dl))] == wanted
        for train, values in ((True, wanted[0]), (False, wanted[1])):
            x, y = data.one_batch(train)
            assert set(x[:, 0].unique().tolist()) == values and y.tolist() == [[1, 0, 1]] * 4


def test_the_target_of_the_training_set_counts_unless_another_is_given():
    train, other = red(4), Categories(["cat", "dog"])
    train.target = tags()
    data = DataBunch.create(train, None, device=CPU)
    assert data.target is train.target
    assert data.classes == ["haze", "primary", "water"] and data.c == 3
    assert DataBunch.create(train, None, target=other, device=CPU).target is other
    with pytest.raises(ValueError, match=r"\btarget\b"):
        bunch(target=None).c


@pytest.mark.parametrize("name, way_out", [("valid_dl", "split"), ("test_dl", "add_test_folder")])
def test_a_loader_that_is_not_there_is_refused_with_the_way_out(name, way_out):
    data = DataBunch.create(red(4), None, [], device=CPU).normalize(imagenet_stats)
    assert data.need("train_dl") is data.train_dl
    assert data.valid_dl is data.valid_ds is data.test_dl is None
    assert DataBunch.create(red(4), red(0), device=CPU).valid_dl is None        # empty is as none
    with pytest.raises(ValueError, match=way_out):
        data.need(name)
    with pytest.raises(ValueError, match="valid_dl"):
        data.one_batch(train=False)


def test_normalize_returns_new_loaders_and_leaves_the_old_ones():
    old = bunch(test_ds=red(2), cache=True)
    new = old.normalize(((1, 0, 0), (2, 1, 1)))
    for before, after in ((old.train_dl, new.train_dl), (old.valid_dl, new.valid_dl),
                          (old.test_dl, new.test_dl)):
        assert reds(before) == {1} and reds(after) == {0}              # (1 - 1) / 2
        assert after.dataset is before.dataset and after.memory is before.memory
    assert new.target is old.target
    with pytest.raises(ValueError, match="normalized"):
        new.normalize(imagenet_stats)                                  # twice


@pytest.mark.parametrize("stats", [None, imagenet_stats])
def test_show_batch_shows_the_pictures_in_their_colours(stats):
    data = bunch().normalize(stats) if stats else bunch()
    shown = numpy.asarray(data.show_batch(rows=2)).astype(int)
    is_red = (shown == [255, 0, 0]).all(-1)                            # (h, w)
    # 2 x 2 solid squares of one size: 4 k*k red pixels in 2k rows and in 2k columns
    side = is_red.any(0).sum() // 2
    assert side >= 8 and is_red.sum() == 4 * side ** 2
    assert is_red.any(0).sum() == is_red.any(1).sum() == 2 * side


def test_show_batch_has_rows_times_rows_pictures_with_their_captions(sheet):
    x = torch.stack([torch.full((3, 8, 8), i / 5) for i in range(6)])
    y = torch.tensor([[1.0, 0, 1], [0, 1, 0]] + [[0, 0, 0]] * 4)
    for target, captions in ((None, [""] * 6), (tags(), ["haze;water", "primary", "", "", "", ""])):
        data = DataBunch.create(red(4), TensorDataset(x, y), target=target, device=CPU)
        for rows, shown in (([2], 4), ([], 6)):         # by itself up to 3 x 3
            data.show_batch(*rows, train=False)
            assert sheet["captions"] == captions[:shown] and sheet["columns"] == (rows or [3])[0]
            # 1 / 5 * 255 = 51
            assert [each.getpixel((0, 0))[0] for each in sheet["pictures"]] == [
                0, 51, 102, 153, 204, 255][:shown]


@pytest.mark.parametrize("stats", [None, imagenet_stats])
def test_show_batch_lays_masks_over_pictures_and_names_the_classes_that_are_there(
        sheet, stats, monkeypatch):
    names = []
    monkeypatch.setattr(databunch.draw, "with_legend", lambda sheet, those: names.append(those))
    x = torch.full((4, 3, 8, 8), 100, dtype=torch.uint8)        # sky above and a car below
    y = torch.tensor([0] * 4 + [2] * 4)[:, None].expand(4, 8, 8)
    data = DataBunch.create(TensorDataset(x, y), None, target=Masks(["sky", "road", "car"]),
                            device=CPU)
    (data.normalize(stats) if stats else data).show_batch(rows=2)
    assert sheet["captions"] == [""] * 4 and sheet["columns"] == 2 and len(sheet["pictures"]) == 4
    assert names == [{0: "sky", 2: "car"}]
    seen = numpy.asarray(sheet["pictures"][0])
    # half the grey of 100, half of the colours #2299cc (sky, 0) and #aaff00 (car, 2)
    assert abs(seen[0, 0] - numpy.array([67., 126.5, 152.])).max() < 2
    assert abs(seen[7, 7] - numpy.array([135., 177.5, 50.])).max() < 2


# Items in memory

def items(n: int = 40, classes: int | None = None) -> list | TensorDataset:
    """n pictures of noise with targets that end at n - 1, or masks of all these classes."""
    x = torch.randint(256, (n, 3, 4, 5), generator=torch.Generator().manual_seed(0)).byte()
    if classes is None:
        return list(zip(x, range(n)))
    dataset = TensorDataset(x, torch.arange(n * 20).reshape(n, 4, 5) % classes)
    dataset.target = Masks([f"class {i}" for i in range(classes)])
    return dataset


def loader(dataset: object, train: bool = False, device: str = "cpu") -> Loader:
    return Loader(dataset, 6, train, 0, 0, torch.device(device))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("classes, kept", [(None, torch.int64), (256, torch.uint8),
                                           (257, torch.int64)])
def test_after_preload_come_the_same_items_and_masks_are_kept_as_bytes(train, classes, kept):
    plain, ready = (loader(items(40, classes), train) for _ in range(2))
    preload(ready)
    assert [part.dtype for part in ready.memory] == [torch.uint8, kept]
    assert all(part.device == CPU for part in ready.memory)
    ready.dataset = [None] * 40                                 # and nothing is read again
    for _ in range(2):
        for one, other in zip(plain, ready, strict=True):
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other))


def test_training_and_validation_are_kept_in_memory_if_wanted(capsys):
    plain, data = (bunch(test_ds=red(3), cache=cache) for cache in (False, True))
    assert plain.train_dl.memory is plain.valid_dl.memory is data.test_dl.memory is None
    for each, n in ((data.train_dl, 10), (data.valid_dl, 6)):
        assert [*map(len, each.memory)] == [n, n] and reds(each) == {1}
    assert DataBunch.create(red(4), None, device=CPU, cache=True).train_dl.memory is not None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("classes, size", [(None, 60 + 8), (256, 60 + 20), (257, 60 + 20 * 8)])
@pytest.mark.parametrize("count", [1, 3])
def test_what_takes_more_than_half_of_a_processs_part_of_the_free_memory_is_left_out(
        monkeypatch, capsys, classes, size, count):
    monkeypatch.setattr(processes, "COUNT", count)
    for free, fits in ((2 * 40 * size * count, True), (2 * 40 * size * count - 1, False),
                       (0, False)):
        monkeypatch.setattr(databunch, "_free_memory", lambda: free)
        each = loader(items(40, classes))
        preload(each)
        said = capsys.readouterr().out
        assert (each.memory is not None) == fits == (said == "")
        assert fits or said.count("\n") == 1 and "cache" in said and len(list(each)) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, on Linux only")
@pytest.mark.parametrize("cores, count, workers", [(2, 1, 2), (4, 2, 2), (1, 2, 1)])
def test_each_core_of_this_process_has_a_worker_that_reads_and_then_ends(monkeypatch, cores, count,
                                                                         workers):
    class Pids(list):
        def __getitem__(self, i):
            return super().__getitem__(i)[0], os.getpid()

    gc.collect()
    before = set(active_children())
    monkeypatch.setattr(databunch, "cores", lambda: cores)
    monkeypatch.setattr(processes, "COUNT", count)
    each = loader(Pids(items(64)))                              # in 4 batches of 16
    preload(each)
    pids = set(each.memory[1].tolist())
    assert len(pids) == workers and os.getpid() not in pids
    gc.collect()
    assert set(active_children()) <= before


@pytest.mark.filterwarnings("ignore:.*pin_memory")
@pytest.mark.parametrize("free, sends", [(4.1, 2), (3.9, 0)])
def test_items_go_to_a_gpu_that_has_four_times_the_room(monkeypatch, free, sends):
    sent, each = [], loader(items(), device="cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 40 * 68, 9 ** 9))
    monkeypatch.setattr(Tensor, "to", lambda tensor, device: sent.append(device) or tensor)
    preload(each)
    assert sent == [torch.device("cuda")] * sends and len(each.memory[0]) == 40


def test_free_memory_is_what_linux_says_and_otherwise_without_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(databunch, "Path", lambda name: tmp_path / name.split("/")[-1])
    assert databunch._free_memory() == float("inf")
    (tmp_path / "meminfo").write_text("MemFree: 7 kB\nMemAvailable: 4096 kB\nCached: 5 kB\n")
    assert databunch._free_memory() == 4096 * 1024


@pytest.mark.parametrize("first, error", [(15, ValueError), (16, RuntimeError)])
def test_items_that_change_their_size_later_on_are_refused_by_preload(first, error):
    items = [(torch.zeros(3, 4 + (i >= first), 4).byte(), 0) for i in range(20)]
    with pytest.raises(error):
        DataBunch.create(items, None, device=CPU, cache=True)
