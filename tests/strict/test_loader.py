import os
from pathlib import Path
import random
import signal
import weakref

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset, get_worker_info

from minifast.cache import Cache
from minifast.dataset import Dataset
from minifast.loader import Loader, as_pair, denormalize, imagenet_stats, normalize
from minifast.targets import Categories

CPU = torch.device("cpu")


class Numbered:
    """Item i is a picture (3, 2, 2) of bytes i with the target i; keys as they came are in `asked`.

    `moving` asks for keys (i, seed, epoch) in training, as the data set of a data block does.
    """

    def __init__(self, n: int, moving: bool = False):
        self.n, self.moving, self.asked = n, moving, []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: int | tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        self.asked.append(key)
        i = key[0] if isinstance(key, tuple) else key
        return torch.full((3, 2, 2), i, dtype=torch.uint8), torch.tensor(i)


def loader(dataset: object, bs: int = 4, train: bool = True, seed: int = 0, num_workers: int = 0,
           **more) -> Loader:
    return Loader(dataset, bs, train, seed, num_workers, CPU, **more)


def epoch_of(batches: Loader) -> list[list[int]]:
    """The targets of each batch; of Numbered these are the numbers of the items."""
    return [y.tolist() for _, y in batches]


def random_states() -> list[str]:
    return [str(torch.get_rng_state().tolist()), str(numpy.random.get_state()),
            str(random.getstate())]


def same(one: list[tuple[Tensor, ...]], other: list[tuple[Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for first, second in zip(one, other)
                                          for a, b in zip(first, second, strict=True))


def noisy(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + torch.rand(x.shape, generator=rng), y


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Ten pictures of noise, 12 rows and 8 columns, so that a square cut can move."""
    rng = numpy.random.default_rng(0)
    files = [tmp_path / f"{i}.png" for i in range(10)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (12, 8, 3), dtype=numpy.uint8)).save(file)
    return files


def test_validation_goes_in_order_and_keeps_a_short_last_batch():
    batches = loader(Numbered(10), train=False)
    for _ in range(2):
        assert epoch_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("seed", range(3))
def test_training_shuffles_anew_each_epoch_and_every_item_comes_once(seed):
    batches = loader(Numbered(12), seed=seed)
    epochs = [sum(epoch_of(batches), []) for _ in range(3)]
    assert all(sorted(epoch) == list(range(12)) != epoch for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_same_seed_gives_the_same_epochs_and_another_seed_others():
    first, again, other = (loader(Numbered(12), seed=seed) for seed in (1, 1, 2))
    epochs = [epoch_of(first) for _ in range(3)]
    assert epochs == [epoch_of(again) for _ in range(3)]
    assert epochs != [epoch_of(other) for _ in range(3)]


@pytest.mark.parametrize("n, bs, training, validation", [
    (10, 4, [4, 4], [4, 4, 2]), (8, 4, [4, 4], [4, 4]), (5, 4, [4], [4, 1]), (4, 4, [4], [4]),
    (3, 4, [3], [3]), (1, 1, [1], [1]), (2, 1, [1, 1], [1, 1])])
def test_training_drops_a_short_last_batch_where_another_is_left(n, bs, training, validation):
    for train, sizes in ((True, training), (False, validation)):
        batches = loader(Numbered(n), bs, train)
        assert [len(x) for x, _ in batches] == sizes
        assert len(batches) == len(sizes)


def test_what_one_epoch_drops_others_have():
    batches = loader(Numbered(5))
    assert {i for _ in range(20) for i in epoch_of(batches)[0]} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("train", [True, False])
def test_batches_are_the_same_for_any_number_of_workers(train, pictures):
    dataset = Dataset(pictures, list("ababababab"), Categories("ab"), (8, 8), moving=True)
    alone, helped = (loader(dataset, train=train, num_workers=workers, tfms=noisy)
                     for workers in (0, 2))
    for _ in range(2):
        assert same(list(alone), list(helped))


def keep_decoded(dataset: Dataset) -> None:
    dataset.caches = [Cache(*each) for each in dataset.decoded_shapes()]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size, workers", [((12, 8), 0), ((12, 8), 2), ((8, 8), 0), ((8, 8), 2)])
def test_batches_are_the_same_with_a_cache(train, size, workers, pictures):
    plain, cached = (Dataset(pictures, list("ababababab"), Categories("ab"), size, moving=True)
                     for _ in range(2))
    keep_decoded(cached)
    plain, cached = (loader(dataset, train=train, num_workers=workers, tfms=noisy,
                            stats=imagenet_stats) for dataset in (plain, cached))
    for epoch in range(4):                      # out of files, and then, unless cut, out of memory
        assert same(list(plain), list(cached))
    assert (cached.fetcher.memory is not None) == (size == (12, 8))


def test_a_batch_lies_in_memory_as_always_wherever_it_comes_from(pictures):
    dataset = Dataset(pictures, size=(12, 8))
    keep_decoded(dataset)
    for _ in range(2):
        for x, _ in loader(dataset):
            assert x.is_contiguous()            # in another layout a net's sums could differ


def several(monkeypatch, rank: int, count: int) -> None:
    monkeypatch.setattr("minifast.tools.processes.RANK", rank)
    monkeypatch.setattr("minifast.tools.processes.COUNT", count)


@pytest.mark.parametrize("n", [12, 13, 14, 15])
def test_several_processes_share_each_training_batch(monkeypatch, n):
    whole = [loader(Numbered(n), 4).keys(epoch) for epoch in range(3)]
    parts = []
    for rank in range(2):
        several(monkeypatch, rank, 2)
        parts.append([loader(Numbered(n), 4).keys(epoch) for epoch in range(3)])
    for together, first, second in zip(whole, *parts, strict=True):
        assert [len(batch) for batch in first + second] == [2] * 2 * len(together)
        assert [batch[0::2] for batch in together] == first
        assert [batch[1::2] for batch in together] == second


@pytest.mark.parametrize("n, bs, sizes", [(9, 9, [3]), (11, 10, [3]), (13, 5, 4 * [1]),
                                          (8, 9, [2])])
def test_a_training_batch_that_cannot_be_shared_evenly_is_cut(monkeypatch, n, bs, sizes):
    for rank in range(3):
        several(monkeypatch, rank, 3)
        assert [len(batch) for batch in loader(Numbered(n), bs).keys(0)] == sizes


def test_every_process_validates_on_everything(monkeypatch):
    several(monkeypatch, 1, 2)
    assert loader(Numbered(5), 2, train=False).keys(0) == [[0, 1], [2, 3], [4]]


def test_several_processes_drop_out_other_things(monkeypatch):
    keys = [loader(Numbered(4), seed=7, epoch=2).dropout_key()]
    for rank in range(3):
        several(monkeypatch, rank, 3)
        keys.append(loader(Numbered(4), seed=7, epoch=2).dropout_key())
    assert keys == [(7, 2), (7, 2), (7, 2, 1), (7, 2, 2)]


def test_what_a_transform_gives_is_not_written_to():
    grey = torch.full((4, 1, 2, 2), 0.5).expand(-1, 3, -1, -1)     # one number for three channels
    batches = loader(Numbered(4), tfms=lambda x, y, rng: (grey, y), stats=imagenet_stats)
    assert len(list(batches)) == 1 and grey.unique().tolist() == [0.5]


def test_more_processes_than_pictures_to_train_on_are_refused(monkeypatch):
    several(monkeypatch, 0, 4)
    with pytest.raises(ValueError, match="bs.*4, got 3"):
        loader(Numbered(3)).keys(0)


def test_where_processes_do_not_fork_workers_are_none(monkeypatch):
    monkeypatch.setattr("minifast.fetcher.FORK", None)
    dataset = Numbered(4)
    assert epoch_of(loader(dataset, train=False, num_workers=2)) == [[0, 1, 2, 3]]
    assert dataset.asked == [0, 1, 2, 3]                                # in this very process


def test_iterating_counts_epochs_and_batches_of_an_epoch_does_not():
    batches = loader(Numbered(12))
    assert batches.epoch == 0
    epochs = [epoch_of(batches) for _ in range(3)]
    assert batches.epoch == 3
    for epoch in (2, 0, 1):
        assert [y.tolist() for _, y in batches.batches(epoch)] == epochs[epoch]
    assert batches.epoch == 3
    next(iter(batches))                                         # an epoch cut short counts too
    assert batches.epoch == 4


def test_one_batch_may_be_of_certain_items_in_their_order():
    batches = loader(Numbered(10), train=False, tfms=noisy)
    x, y = batches.one_batch([7, 2, 5])
    assert y.tolist() == [7, 2, 5] and (x * 255).long()[0, 0, 0, 0] >= 7 and batches.epoch == 0


@pytest.mark.parametrize("train", [True, False])
def test_one_batch_is_the_first_of_the_next_epoch_and_leaves_the_epoch(train, pictures):
    dataset = Dataset(pictures, list("ababababab"), Categories("ab"), (8, 8), moving=True)
    batches = loader(dataset, train=train, tfms=noisy, stats=imagenet_stats, num_workers=2)
    for epoch in range(3):
        peeked = batches.one_batch()
        assert batches.epoch == epoch
        assert same([peeked], list(batches)[:1])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("train", [True, False])
def test_the_global_random_states_stay_as_they_were(train, num_workers):
    batches = loader(Numbered(8), train=train, num_workers=num_workers, tfms=noisy)
    before = random_states()
    batches.one_batch()
    list(batches)
    assert random_states() == before


def test_training_asks_a_moving_data_set_by_number_seed_and_epoch():
    dataset = Numbered(3, moving=True)
    list(loader(dataset, seed=7).batches(5))
    assert sorted(dataset.asked) == [(0, 7, 5), (1, 7, 5), (2, 7, 5)]


@pytest.mark.parametrize("train, moving", [(True, False), (False, True)])
def test_all_others_are_asked_by_number(train, moving):
    dataset = Numbered(3, moving)
    list(loader(dataset, train=train))
    assert sorted(dataset.asked) == [0, 1, 2]


def test_a_broken_file_is_named_even_from_a_worker(tmp_path):
    files = [tmp_path / "good.jpg", tmp_path / "broken.jpg"]
    for file in files:
        noise = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(file)
    files[1].write_bytes(files[1].read_bytes()[:700])
    batches = loader(Dataset(files, ["a", "a"], Categories("a")), 1, False, num_workers=1)
    with pytest.raises(ValueError, match=r"\bbroken\.jpg"):
        list(batches)


def test_bytes_become_floats_from_0_to_1():
    values = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None]             # (3, 1, 1)
    (x, y), = loader([(values, torch.tensor(51, dtype=torch.uint8))], train=False)
    assert x.dtype == torch.float32
    assert torch.equal(x.flatten(), torch.tensor([0, 0.2, 1]))                # 51 / 255 = .2
    assert y.tolist() == [51]


def test_items_of_any_torch_data_set_come_through_and_floats_stay():
    x, y = torch.linspace(-3, 300, 6 * 3 * 2 * 2).reshape(6, 3, 2, 2), torch.arange(6.0)
    batches = list(loader(TensorDataset(x, y), train=False))
    assert same(batches, [(x[:4], y[:4]), (x[4:], y[4:])])


def test_normalize_has_the_known_values_for_black_and_white():
    x = torch.stack([torch.zeros(3, 2, 4), torch.ones(3, 2, 4)])
    found = normalize(x, imagenet_stats)
    assert found.shape == (2, 3, 2, 4)
    # fast.ai's: (0 - .485) / .229 = -2.1179 ... (1 - .406) / .225 = 2.64
    for picture, values in zip(found, [(-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.64)]):
        for channel, value in zip(picture, values):
            assert torch.allclose(channel, torch.tensor(value), atol=1e-4)


def test_denormalize_undoes_normalize():
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denormalize(normalize(x, imagenet_stats), imagenet_stats), x, atol=1e-6)
    # 2 * .229 + .485, 2 * .224 + .456, 2 * .225 + .406
    twos = denormalize(torch.full((1, 3, 1, 1), 2.0), imagenet_stats)
    assert twos.flatten().tolist() == pytest.approx([0.943, 0.904, 0.856])


def test_a_loader_normalizes_only_with_stats():
    black = [(torch.zeros(3, 2, 2, dtype=torch.uint8), 0)]
    for stats, value in ((None, 0), (((1, 1, 1), (2, 2, 2)), -0.5)):          # (0 - 1) / 2
        (x, _), = loader(black, stats=stats)
        assert torch.equal(x, torch.full((1, 3, 2, 2), float(value)))


def test_transforms_get_floats_0_to_1_before_they_are_normalized():
    def inverted(x, y, rng):
        assert isinstance(rng, torch.Generator) and x.shape == (1, 3, 2, 2)
        assert x.dtype == torch.float32 and (x == 1).all()
        return 1 - x, y + 10

    white = [(torch.full((3, 2, 2), 255, dtype=torch.uint8), 7)]
    (x, y), = loader(white, tfms=inverted, stats=((1, 1, 1), (2, 2, 2)))
    assert torch.equal(x, torch.full((1, 3, 2, 2), -0.5)) and y.tolist() == [17]


@pytest.mark.parametrize("train", [True, False])
def test_what_transforms_draw_follows_from_seed_epoch_and_batch(train):
    def drawn(x, y, rng):
        return torch.rand(2, generator=rng), y

    def draws(seed: int) -> list[tuple]:
        batches = loader(Numbered(8), train=train, seed=seed, tfms=drawn)
        return [tuple(x.tolist()) for _ in range(2) for x, _ in batches]

    assert draws(3) == draws(3)
    assert len(set(draws(3) + draws(4))) == 8         # 2 seeds, 2 epochs, 2 batches: all different


def test_batches_go_to_the_device():
    # torch's "meta" device knows shapes and types and holds no numbers
    batches = Loader(Numbered(3), 3, True, 0, 0, torch.device("meta"))
    for x, y in (next(iter(batches)), batches.one_batch()):
        assert x.device.type == y.device.type == "meta"
        assert x.shape == (3, 3, 2, 2) and x.dtype == torch.float32


@pytest.mark.filterwarnings("error")
def test_on_the_cpu_torch_has_nothing_to_warn_of():
    assert len(list(loader(Numbered(8)))) == 2


@pytest.mark.parametrize("train", [True, False])
def test_names_are_those_of_the_files_in_each_batch(train):
    dataset = Numbered(10)
    dataset.files = [Path("folder") / f"{i}.png" for i in range(10)]
    batches = loader(dataset, train=train, seed=5)
    for epoch in range(2):
        for number, (_, y) in enumerate(batches.batches(epoch)):
            names = [str(Path("folder") / f"{i}.png") for i in y.tolist()]
            assert batches.names(epoch, number) == names


def test_items_without_files_are_named_by_number():
    assert loader(Numbered(6), train=False).names(0, 1) == ["item 4", "item 5"]


class Full(Numbered):
    """A data set in whose batches a GPU's memory is full: the transform `full` says so."""

    def full(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        activations = torch.zeros(3)
        self.held = weakref.ref(activations)
        raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")


@pytest.mark.parametrize("train, bs, message", [
    (True, 4, "full, with bs=4: try bs=2, or a smaller net. tried to allocate 2 GiB"),
    (False, 5, "full, with val_bs=5: try val_bs=2, or a smaller net"),
    (True, 1, r"full, with bs=1: try smaller pictures, transform\(size=...\), or a smaller net"),
    (False, 1, r"full, with val_bs=1: try smaller pictures"), (True, 2, "bs=2: try bs=1,")])
def test_where_the_gpus_memory_is_full_half_the_batch_size_is_proposed(train, bs, message):
    dataset = Full(8)
    with pytest.raises(ValueError, match=message):
        list(loader(dataset, bs, train, tfms=dataset.full))


def test_what_the_broken_computation_held_is_let_go_of_while_the_error_is_kept():
    # a notebook keeps the last error, and with it all variables that it passed
    dataset = Full(8)
    with pytest.raises(ValueError, match="memory is full") as raised:
        list(loader(dataset, tfms=dataset.full))
    assert isinstance(raised.value.__cause__, torch.cuda.OutOfMemoryError)
    assert dataset.held() is None


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), KeyError("a"),
                                   KeyboardInterrupt("Ctrl-C")])
def test_other_errors_come_through_as_they_are(error):
    def broken(x, y, rng):
        raise error

    for batches in (loader(Numbered(8)), loader(Numbered(8), tfms=broken)):
        with pytest.raises(type(error)) as raised, batches.explained():
            for _ in batches:
                raise error
        assert raised.value is error


class Deadly(Numbered):
    """Its item `last` ends the worker process that asks for it, by a signal or an exit code."""

    def __init__(self, n: int, last: int, end):
        super().__init__(n)
        self.last, self.end = last, end

    def __getitem__(self, key):
        if key == self.last and get_worker_info() is not None:
            self.end()
        return super().__getitem__(key)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked processes")
@pytest.mark.parametrize("end, cause", [(killed, "is killed by signal: Killed"),
                                        (lambda: os._exit(3), "exited unexpectedly.* code 3")])
def test_a_worker_that_died_is_accounted_for_by_file_and_cause(end, cause):
    dataset = Deadly(4, 2, end)
    dataset.files = [f"{i}.jpg" for i in range(4)]
    # One batch, so the second worker reads nothing: it is not held to be at 0.jpg.
    batches = loader(dataset, 4, False, num_workers=2)
    with pytest.raises(ValueError, match=rf"worker died while it read 2\.jpg: .*{cause}"):
        list(batches)


def test_an_item_that_cannot_be_had_is_named_also_by_a_data_set_of_ones_own():
    class Broken(Numbered):
        def __getitem__(self, key):
            return {}["no such field"]

    for workers in (0, 1):
        wanted = "item 0 cannot be had: KeyError: 'no such field'"
        with pytest.raises(ValueError, match=wanted):
            list(loader(Broken(4), train=False, num_workers=workers))


def test_pictures_of_different_size_are_refused_with_the_way_out():
    items = [(torch.zeros(3, rows, 5, dtype=torch.uint8), 0) for rows in (4, 6, 4)]
    with pytest.raises(ValueError, match=r"size.*3, 4, 5.*3, 6, 5.*transform"):
        list(loader(items))


def test_one_callable_is_for_training_alone_and_a_pair_is_kept():
    assert as_pair(None) == (None, None)
    assert as_pair(noisy) == (noisy, None)
    assert as_pair([None, noisy]) == (None, noisy)
    assert as_pair((noisy, as_pair)) == (noisy, as_pair)


@pytest.mark.parametrize("tfms", [[noisy], [noisy, noisy, noisy], [noisy, 1], ["a", noisy], 5])
def test_other_transforms_are_refused(tfms):
    with pytest.raises(TypeError, match=r"\btfms\b"):
        as_pair(tfms)


def test_no_batch_size_no_fewer_workers_than_none_and_no_empty_data_set():
    for bs in (0, -1):
        with pytest.raises(ValueError, match=rf"\bbs\b.*(?<!-){bs}\b"):
            loader(Numbered(3), bs)
    with pytest.raises(ValueError, match=r"\bnum_workers\b.*-1\b"):
        loader(Numbered(3), num_workers=-1)
    with pytest.raises(ValueError, match=r"data ?set.*(\b0\b|empty)"):
        loader(Numbered(0))


def test_statistics_are_put_on_the_device_once_and_for_all():
    meta = Loader(Numbered(3), 2, True, 0, 0, torch.device("meta"), stats=imagenet_stats)
    assert [part.device.type for part in meta.stats] == ["meta", "meta"]
