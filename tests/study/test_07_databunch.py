import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from minifast.databunch import DataBunch, preload
from minifast.loader import imagenet_stats
from minifast.targets import Categories, Masks, Tags

CPU = torch.device("cpu")
TAGS = Tags(["haze", "road", "sea"])


def greys(n: int) -> TensorDataset:
    """n pictures (3, 8, 8): number i has the grey 10 i, and the second tag of three."""
    x = (10 * torch.arange(n)).byte()[:, None, None, None].expand(n, 3, 8, 8).contiguous()
    return TensorDataset(x, torch.tensor([0., 1, 0]).expand(n, 3))


def bunch(n: int = 10, n_valid: int = 6, bs: int = 4, target: Tags | None = TAGS,
          **more) -> DataBunch:
    return DataBunch.create(greys(n), greys(n_valid), target=target, bs=bs, device=CPU, **more)


def minus(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return -x, y


def values(loader) -> list[float]:
    """The different values of all pictures of a loader, times 255."""
    return torch.cat([x.flatten() for x, _ in loader]).mul(255).round().unique().tolist()


def test_training_shuffles_and_validation_does_not():
    data = bunch(n=8)
    assert data.train_dl.train and not data.valid_dl.train and data.test_dl is None
    assert len(data.train_ds) == 8 and len(data.valid_ds) == 6
    assert [len(x) for x, _ in data.train_dl] == [4, 4]
    assert [len(x) for x, _ in data.valid_dl] == [4, 2]
    assert data.one_batch(train=False)[0][:, 0, 0, 0].mul(255).tolist() == [0, 10, 20, 30]


def test_validation_can_have_larger_batches():
    assert bunch(bs=3).valid_dl.bs == 3
    assert bunch(bs=3, val_bs=5).valid_dl.bs == 5


def test_a_single_transform_is_for_training_only():
    data = bunch(n=2, n_valid=2, tfms=minus, test_ds=greys(3))
    assert values(data.train_dl) == [-10, 0]
    assert values(data.valid_dl) == [0, 10] and values(data.test_dl) == [0, 10, 20]


def test_of_a_pair_of_transforms_the_second_one_is_for_validation_and_test():
    data = bunch(n=2, n_valid=2, tfms=(minus, lambda x, y, rng: (0 * x, y)), test_ds=greys(3))
    assert values(data.train_dl) == [-10, 0]
    assert values(data.valid_dl) == [0] and values(data.test_dl) == [0]


def test_the_classes_are_those_of_the_target():
    assert bunch().classes == ["haze", "road", "sea"] and bunch().c == 3
    dataset = greys(4)
    dataset.target = Categories(["a", "b"])                     # as minifast's Dataset has one
    assert DataBunch.create(dataset, None, device=CPU).c == 2
    with pytest.raises(ValueError):
        bunch(target=None).c


def test_normalize_returns_new_data_and_is_called_once():
    data = bunch(n=2, n_valid=2)
    normalized = data.normalize(([10 / 255] * 3, [1 / 255] * 3))
    assert values(data.valid_dl) == [0, 10]
    assert [x[:, 0, 0, 0].round().tolist() for x, _ in normalized.valid_dl] == [[-10, 0]]
    with pytest.raises(ValueError):
        normalized.normalize(imagenet_stats)


def test_a_loader_that_is_needed_and_not_there_is_named():
    data = bunch()
    assert data.need("valid_dl") is data.valid_dl
    with pytest.raises(ValueError):
        data.need("test_dl")
    with pytest.raises(ValueError):
        DataBunch.create(greys(4), None, device=CPU).one_batch(train=False)


def test_pictures_are_shown_as_they_were_before_normalize():
    data = bunch().normalize(imagenet_stats)
    pictures = data.pictures(data.one_batch(train=False)[0])
    assert [picture.getpixel((3, 3)) for picture in pictures] == [
        (0, 0, 0), (10, 10, 10), (20, 20, 20), (30, 30, 30)]


def test_show_batch_draws_rows_of_pictures():
    sheet = numpy.asarray(bunch(n_valid=4).show_batch(rows=2, train=False))     # (h, w, 3)
    assert sheet.shape[0] > 300 < sheet.shape[1]                # two rows of two
    greys_shown = {grey for grey in (0, 10, 20, 30) if (sheet == grey).all(axis=2).sum() >= 64}
    assert greys_shown == {0, 10, 20, 30}


def test_show_batch_lays_masks_over_the_pictures():
    x, y = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, 8, 8, dtype=torch.int64)
    plain = DataBunch.create(TensorDataset(x, torch.zeros(4)), None,
                             target=Categories(["a"]), device=CPU)
    masked = DataBunch.create(TensorDataset(x, y), None, target=Masks(["sky"]), device=CPU)
    sheets = [data.show_batch(2) for data in (plain, masked)]
    blacks = [(numpy.asarray(sheet) == 0).all(axis=2).sum() for sheet in sheets]
    assert blacks[0] >= 4 * 64 and blacks[1] < 64               # all are coloured


def test_after_preload_items_come_from_memory():
    data = bunch(n=20)
    before, again = list(data.train_dl), bunch(n=20, cache=True)
    preload(data.train_dl)
    assert torch.equal(data.train_dl.memory[0], greys(20).tensors[0])
    data.train_dl.epoch = 0
    for loader in (data.train_dl, again.train_dl):
        assert all(torch.equal(x, x2) for (x, _), (x2, _) in zip(before, loader, strict=True))
    assert again.valid_dl.memory is not None and bunch().train_dl.memory is None
