import pytest
import torch
from torch import Tensor

from minifast.loader import Loader, denormalize, imagenet_stats, normalize, stack

CPU = torch.device("cpu")


class Numbered:
    """n items: item i is a picture (3, 2, 2) of bytes i, with the target i."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return torch.full((3, 2, 2), i, dtype=torch.uint8), torch.tensor(i)


def loader(n: int, bs: int, train: bool, seed: int = 0, num_workers: int = 0, **more) -> Loader:
    return Loader(Numbered(n), bs, train, seed, num_workers, CPU, **more)


def targets(loader: Loader) -> list[list[int]]:
    """The targets of the batches of an epoch: the numbers of the items."""
    return [y.tolist() for _, y in loader]


def noise(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + torch.rand(x.shape, generator=rng), y


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    x = torch.ones(2, 3, 4, 4) * torch.tensor([0.5, 0.2, 1.])[:, None, None]
    found = normalize(x, ((0.5, 0.1, 0.4), (1, 0.1, 0.2)))
    assert torch.allclose(found[1, :, 3, 3], torch.tensor([0., 1, 3]), atol=1e-5)
    assert torch.allclose(denormalize(found, ((0.5, 0.1, 0.4), (1, 0.1, 0.2))), x, atol=1e-6)


def test_white_is_normalized_as_in_the_course():
    white = normalize(torch.ones(1, 3, 1, 1), imagenet_stats)
    assert white.flatten().tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)


def test_items_are_stacked_into_a_batch():
    dataset = Numbered(9)
    x, y = stack([dataset[i] for i in (7, 2)])
    assert x.shape == (2, 3, 2, 2) and x[:, 0, 0, 0].tolist() == [7, 2] and y.tolist() == [7, 2]
    with pytest.raises(ValueError):
        stack([dataset[0], (torch.zeros(3, 4, 4), torch.tensor(1))])


def test_validation_goes_in_order_to_the_last_item():
    batches = loader(10, bs=4, train=False)
    assert targets(batches) == targets(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches.item_numbers(0) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and len(batches) == 3


def test_training_shuffles_in_each_epoch_and_takes_each_item_once():
    batches = loader(12, bs=4, train=True)
    first, second = sum(targets(batches), []), sum(targets(batches), [])
    assert sorted(first) == sorted(second) == list(range(12))
    assert list(range(12)) != first != second


def test_training_leaves_out_a_last_batch_that_is_shorter():
    batches = loader(10, bs=4, train=True)
    assert list(map(len, targets(batches))) == [4, 4] and len(batches) == 2
    assert list(map(len, targets(loader(3, bs=4, train=True)))) == [3]      # but not the only one


def test_the_seed_and_the_epoch_decide_the_order():
    batches, again, other = (loader(12, bs=4, train=True, seed=seed) for seed in (1, 1, 2))
    first, second = targets(batches), targets(batches)
    assert (batches.epoch, batches.item_numbers(0), batches.item_numbers(1)) == (2, first, second)
    again.epoch = 1
    assert targets(again) == second and targets(other) != first


def test_a_batch_has_floats_from_0_to_1_and_targets_for_the_loss():
    x, y = loader(256, bs=256, train=False).one_batch()
    assert x.dtype == torch.float32 and x.shape == (256, 3, 2, 2) and x[255].max() == 1
    assert torch.allclose(x[:, 0, 0, 0] * 255, y.float(), atol=1e-4)
    assert loader(1, bs=1, train=False).ready(x, y.byte(), None)[1].dtype == torch.int64


def test_transforms_come_before_normalize():
    # Picture 0 is black: 0 + 1 = 1, then (1 - 0.5) / 0.25 = 2
    batches = loader(1, bs=1, train=False, stats=([0.5] * 3, [0.25] * 3),
                     tfms=lambda x, y, rng: (x + 1, y))
    assert [x.unique().tolist() for x, _ in batches] == [[2]]


def test_transforms_draw_the_same_numbers_for_the_same_seed_and_epoch():
    one, other = (loader(8, bs=4, train=True, tfms=noise) for _ in range(2))
    first, second = [x for x, _ in one], [x for x, _ in one]
    assert torch.equal(torch.stack(first), torch.stack([x for x, _ in other]))
    drawn = [(x - x[:, :1, :1, :1])[:, 1:] for x in (*first, *second)]
    assert not any(torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_one_batch_is_the_first_one_of_the_next_epoch_and_does_not_count():
    batches, untouched = (loader(8, bs=4, train=True, tfms=noise) for _ in range(2))
    x, y = batches.one_batch()
    assert torch.equal(x, next(iter(untouched))[0]) and batches.epoch == 0
    assert batches.one_batch([5, 0])[1].tolist() == [5, 0]


def test_workers_and_memory_change_no_batch():
    plain, workers, memory = (loader(12, bs=4, train=True, tfms=noise, num_workers=count)
                              for count in (0, 2, 2))
    memory.memory = stack([Numbered(12)[i] for i in range(12)])
    for _ in range(2):
        for (x, y), *others in zip(plain, workers, memory, strict=True):
            assert all(torch.equal(x, x2) and torch.equal(y, y2) for x2, y2 in others)
