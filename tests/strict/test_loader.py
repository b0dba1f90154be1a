from collections.abc import Callable
import gc
from multiprocessing import active_children
import os
import random
import signal
import sys

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from minifast.databunch import preload
from minifast.dataset import Dataset
from minifast.loader import Loader, denormalize, imagenet_stats, normalize

CPU = torch.device("cpu")
PICTURE = torch.full((3, 4, 5), 51, dtype=torch.uint8)          # 51 / 255 = .2
FORKS = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, on Linux only")
WORKERS = pytest.mark.parametrize("workers", [0, pytest.param(2, marks=FORKS)])
TRAIN = pytest.mark.parametrize("train", [True, False])


class Numbered:
    """Item i is a picture (3, 2, 2) of bytes i, and what `target` says, by itself the number i."""

    def __init__(self, n: int, target=int):
        self.n, self.target = n, target

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return torch.full((3, 2, 2), i, dtype=torch.uint8), torch.as_tensor(self.target(i))


def loader(dataset: object, bs: int = 4, train: bool = True, seed: int = 0, workers: int = 0,
           **more) -> Loader:
    return Loader(dataset, bs, train, seed, workers, CPU, **more)


def epoch_of(batches: Loader) -> list[list]:
    """The targets of each batch; of Numbered these are the numbers of the items."""
    return [y.tolist() for _, y in batches]


def same(one: list[tuple[Tensor, ...]], other: list[tuple[Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) and a.dtype == b.dtype
                                          for first, second in zip(one, other)
                                          for a, b in zip(first, second, strict=True))


def noisy(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + torch.rand(x.shape, generator=rng), y


def several(monkeypatch, rank: int, count: int) -> None:
    monkeypatch.setattr("minifast.tools.processes.RANK", rank)
    monkeypatch.setattr("minifast.tools.processes.COUNT", count)


@pytest.mark.parametrize("seed", range(3))
def test_training_shuffles_anew_for_each_epoch_and_seed_and_leaves_out_other_items(seed):
    batches, other = loader(Numbered(13), seed=seed), loader(Numbered(13), seed=seed + 1)
    epochs = [tuple(sum(epoch_of(each), [])) for each in [batches] * 3 + [other]]
    assert all(len(set(epoch)) == 12 and sorted(epoch) != [*epoch] for epoch in epochs)
    assert len(set(epochs)) == 4 and {*sum(epochs, ())} == {*range(13)}


@pytest.mark.parametrize("n, bs, training, validation", [
    (10, 4, [4, 4], [4, 4, 2]), (8, 4, [4, 4], [4, 4]), (5, 4, [4], [4, 1]), (3, 4, [3], [3]),
    (2, 1, [1, 1], [1, 1])])
def test_training_drops_a_short_last_batch_and_validation_keeps_it_and_the_order(n, bs, training,
                                                                                 validation):
    for train, sizes in ((True, training), (False, validation)):
        batches = loader(Numbered(n), bs, train)
        for _ in range(2):
            epoch = epoch_of(batches)
            assert [*map(len, epoch)] == sizes and len(batches) == len(sizes)
            assert train or sum(epoch, []) == list(range(n))


@TRAIN
def test_batches_follow_from_seed_and_epoch_alone(train):
    batches, again, other = (loader(Numbered(12), 5, train, seed, tfms=noisy) for seed in (7, 7, 8))
    epochs = [list(batches) for _ in range(3)]
    for epoch in (2, 0, 1):                                     # at once, and in any order
        again.epoch = epoch if train else 0
        assert [y.tolist() for _, y in epochs[epoch]] == again.item_numbers(again.epoch)
        torch.manual_seed(epoch), numpy.random.seed(epoch)
        assert same(epochs[epoch], list(again))
    noises = [(x[0] - y[0] / 255).sum().item() for x, y in sum(epochs, []) + list(other)]
    assert len({round(noise, 4) for noise in noises}) == (8 if train else 6)    # all are different
    next(iter(batches))                                         # an epoch cut short counts too
    assert batches.epoch == (4 if train else 0)


@TRAIN
@pytest.mark.parametrize("workers, in_memory", [(2, False), (0, True), (2, True)])
def test_batches_are_the_same_with_workers_and_out_of_memory(train, workers, in_memory):
    plain, other = (loader(Numbered(20), 6, train, 1, each, tfms=noisy, stats=imagenet_stats)
                    for each in (0, workers))
    if in_memory:
        preload(other)
        other.dataset = [None] * 20                             # and nothing is read again
    for _ in range(2):
        assert same(list(plain), list(other))
    assert same([plain.one_batch(), plain.one_batch([7, 2])],
                [other.one_batch(), other.one_batch([7, 2])])


@TRAIN
@WORKERS
def test_one_batch_is_the_first_of_the_next_epoch_and_nothing_leaves_a_trace(train, workers):
    def states() -> list[str]:
        return [*map(str, (torch.get_rng_state().tolist(), numpy.random.get_state(),
                           random.getstate()))]

    batches, before = loader(Numbered(10), 4, train, 0, workers, tfms=noisy), states()
    for epoch in range(3):
        peeked = batches.one_batch()
        x, y = batches.one_batch([7, 2, 5])             # these items, in their order
        assert y.tolist() == [7, 2, 5] and (x[:, 0, 0, 0] >= y / 255).all()
        assert batches.epoch == (epoch if train else 0)
        assert same([peeked], list(batches)[:1])
    assert states() == before


@pytest.mark.parametrize("n, bs, count, share", [
    (12, 4, 2, [2, 2, 2]), (15, 4, 2, [2, 2, 2]), (9, 9, 3, [3]), (11, 10, 3, [3]),
    (13, 5, 3, [1, 1, 1, 1]), (8, 9, 3, [2]), (4, 4, 4, [1])])
def test_several_processes_share_each_training_batch_evenly(monkeypatch, n, bs, count, share):
    def drawn(x, y, rng):
        draws.append(torch.rand(1, generator=rng).item())
        return x, y

    parts, draws = [], []
    for rank in range(count):
        several(monkeypatch, rank, count)
        batches = loader(Numbered(n), bs, tfms=drawn)
        parts.append(epoch_of(batches))
        assert [len(batch) for batch in parts[-1]] == share and len(batches) == len(share)
        assert sum(epoch_of(loader(Numbered(n), 1, False)), []) == list(range(n))   # validation
    together = [sum(batch, []) for batch in zip(*parts)]
    assert len(set(sum(together, []))) == sum(share) * count    # each item once
    assert [[whole[rank::count] for whole in batches.item_numbers(0)]
            for rank in range(count)] == parts
    assert len(set(draws)) == len(share)            # for a batch, each process draws the same


@pytest.fixture
def children() -> Callable[[], int]:
    """How many processes there are that were not there before."""
    gc.collect()
    before = set(active_children())
    return lambda: len(set(active_children()) - before)


@FORKS
def test_workers_end_with_their_epoch_whether_it_is_finished_or_cut_short(children):
    batches = loader(Numbered(8, lambda i: os.getpid()), 2, workers=2)
    workers = {*sum(epoch_of(batches), [])}
    assert len(workers) == 2 and os.getpid() not in workers and children() == 0
    epoch = iter(batches)
    next(epoch)
    assert children() == 2
    del epoch
    gc.collect()
    assert children() == 0


@WORKERS
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_only_linux_has_workers_and_they_ignore_ctrl_c(monkeypatch, platform, workers):
    def answer(i: int) -> list[bool]:
        return [os.getpid() != here, signal.getsignal(signal.SIGINT) == signal.SIG_IGN]

    here = os.getpid()
    monkeypatch.setattr(sys, "platform", platform)
    worked = workers > 0 and platform == "linux"
    assert epoch_of(loader(Numbered(2, answer), workers=workers)) == [[[worked, worked]] * 2]


@WORKERS
@pytest.mark.filterwarnings("error::UserWarning")               # of torch's, where it cannot pin
def test_two_epochs_at_the_same_time_do_not_disturb_each_other(workers):
    wanted = [loader(Numbered(12)).item_numbers(epoch) for epoch in range(3)]
    batches = loader(Numbered(12), workers=workers)
    pairs = [(one.tolist(), other.tolist())
             for (_, one), (_, other) in zip(batches, batches, strict=True)]
    assert [*map(list, zip(*pairs))] == wanted[:2]
    assert epoch_of(batches) == wanted[2]


@WORKERS
def test_a_broken_file_is_named(tmp_path, workers):
    files = [tmp_path / "good.png", tmp_path / "broken.png"]
    Image.new("RGB", (5, 4)).save(files[0])
    files[1].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"\bbroken\.png"):
        list(loader(Dataset(files), 1, False, workers=workers))


@FORKS
def test_workers_end_with_the_error_of_one_of_them(children):
    # In a cycle they would wait for the garbage collector, and it for them, 5 s each.
    gc.disable()
    try:
        with pytest.raises(ValueError, match="transform") as raised:
            list(loader([(PICTURE, 0)] * 3 + [(PICTURE[:, :2], 0)], 2, False, workers=2))
        del raised
        assert children() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("item", [(PICTURE, 7), [PICTURE, torch.tensor(7)],
                                  (PICTURE.numpy(), torch.tensor(7)), (PICTURE / 255, 7)])
@pytest.mark.parametrize("stats, value", [(None, 0.8), (((1, 1, 1), (2, 2, 2)), -0.1)])
def test_transforms_get_floats_0_to_1_before_they_are_normalized(item, stats, value):
    def inverted(x, y, rng):
        assert x.dtype == torch.float32 and torch.equal(x, torch.full((3, 3, 4, 5), 0.2))
        return 1 - x, y + 10

    (x, y), = loader([item] * 3, tfms=inverted, stats=stats)                    # (.8 - 1) / 2
    assert torch.allclose(x, torch.full((3, 3, 4, 5), value))
    assert y.dtype == torch.int64 and y.tolist() == [17, 17, 17]


@pytest.mark.parametrize("shape", [(3, 6, 5), (3, 4, 6)])
def test_pictures_of_different_size_are_refused_with_the_way_out(shape):
    with pytest.raises(ValueError, match="transform"):
        list(loader([(PICTURE, 0), (PICTURE, 0), (torch.zeros(shape), 0)]))


def test_normalize_has_the_known_values_and_denormalize_undoes_it():
    x = torch.stack([torch.zeros(3, 2, 4), torch.ones(3, 2, 4)])
    found = normalize(x, imagenet_stats)
    # fast.ai's, of black and white: (0 - .485) / .229 = -2.1179 ... (1 - .406) / .225 = 2.64
    wanted = torch.tensor([[-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64]])[:, :, None, None]
    assert torch.allclose(found, wanted.expand(2, 3, 2, 4), atol=1e-4)
    assert torch.allclose(denormalize(found, imagenet_stats), x, atol=1e-6)


@pytest.mark.parametrize("in_memory", [False, True])
def test_neither_what_a_transform_gives_nor_an_item_is_written_to(in_memory):
    grey = torch.full((1, 1, 2, 2), 0.5).expand(-1, 3, -1, -1)     # one number for three channels
    for tfms in (lambda x, y, rng: (grey, y), lambda x, y, rng: (x.sub_(1), y.sub_(1))):
        batches = loader(TensorDataset(torch.rand(1, 3, 2, 2), torch.ones(1)), 1, False, tfms=tfms,
                         stats=imagenet_stats)
        if in_memory:
            preload(batches)
        assert same(list(batches), list(batches)) and grey.unique().tolist() == [0.5]


def test_batches_and_statistics_go_to_the_device():
    # torch's "meta" device knows shapes and types and holds no numbers
    batches = Loader(Numbered(3), 3, True, 0, 0, torch.device("meta"), stats=imagenet_stats)
    for parts in (next(iter(batches)), batches.one_batch(), batches.stats):
        assert [part.device.type for part in parts] == ["meta"] * 2
    assert batches.one_batch()[0].shape == (3, 3, 2, 2)


@FORKS
def test_fewer_workers_than_none_are_refused():
    with pytest.raises(ValueError, match="num_workers"):        # by torch
        list(loader(Numbered(3), 1, workers=-1))


def test_no_batch_size_and_no_empty_data_set(monkeypatch):
    for n, bs, train, words in ((3, 0, True, r"\bbs\b.*\b0$"), (3, -1, False, r"\bbs\b.*-1$"),
                                (0, 1, True, r"data set.*\b0$")):
        with pytest.raises(ValueError, match=words):
            loader(Numbered(n), bs, train)
    several(monkeypatch, 0, 4)
    for n, bs in ((9, 3), (3, 9)):                  # fewer than processes
        with pytest.raises(ValueError, match=r"\bbs\b.*\b4\b.*\b3$"):
            loader(Numbered(n), bs)


@FORKS
def test_workers_of_a_random_data_set_draw_other_numbers_in_each_epoch_and_again_by_seed():
    def drawn() -> list[list[float]]:
        batches = loader(Numbered(8, lambda i: torch.rand(())), 4, workers=2)
        return [sum(epoch_of(batches), []) for _ in range(2)]

    (first, second), again = drawn(), drawn()
    assert not set(first) & set(second) and [first, second] == again
