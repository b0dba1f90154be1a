from dataclasses import fields
from math import log

import pytest
import torch
from torch import Tensor

from minifast.databunch import DataBunch
from minifast.targets import Categories
from minifast.transforms import Draws, apply, get_transforms, light, matrices_of

NOTHING = {"do_flip": False, "max_rotate": 0, "max_zoom": 1, "max_lighting": 0, "max_warp": 0}
NAMES = [field.name for field in fields(Draws)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(n: int = 4, h: int = 12, w: int = 16) -> tuple[Tensor, Tensor]:
    """Pictures and masks with five classes."""
    return (torch.rand(n, 3, h, w, generator=generator()),
            torch.randint(5, (n, h, w), generator=generator()))


def assert_drawn(values: Tensor, p: float, neutral: float, low: float, high: float) -> None:
    """A share p of 200,000 values differs from neutral, and they fill low..high evenly: a quarter
    of them lies in each quarter of it. 0.01 is at least 5 standard deviations of a share."""
    drawn = values[values != neutral]
    assert len(drawn) / 200000 == pytest.approx(p, abs=0.01)
    assert low <= drawn.min() < low + 0.001 * (high - low)
    assert high >= drawn.max() > high - 0.001 * (high - low)
    quarters = torch.histc(drawn, 4, low, high) / len(drawn)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_the_settings_are_v1s_in_its_order():
    assert list(vars(get_transforms()).items()) == [
        ("do_flip", True), ("flip_vert", False), ("max_rotate", 10), ("max_zoom", 1.1),
        ("max_lighting", 0.2), ("max_warp", 0.2), ("p_affine", 0.75), ("p_lighting", 0.75)]


@pytest.mark.parametrize("p, most", [(0.75, 0.2), (0.3, 0.1)])
def test_numbers_are_drawn_evenly_and_with_their_probability(p, most):
    draws = get_transforms(max_lighting=most, max_warp=most, p_affine=p, p_lighting=p).draw(
        200000, generator())
    assert_drawn(draws.degrees, p, 0, -10, 10)
    assert_drawn(draws.scale, p, 1, 1, 1.1)
    for side in (draws.right, draws.left, draws.bottom, draws.top):
        assert_drawn(side, p, 0, -most, most)
    assert_drawn(draws.row_pct, 1, -1, 0, 1)
    assert_drawn(draws.col_pct, 1, -1, 0, 1)
    assert_drawn(draws.change, p, 0.5, 0.5 * (1 - most), 0.5 * (1 + most))
    assert_drawn(draws.slope.log(), p, 0, log(1 - most), -log(1 - most))


def test_one_does_not_come_with_another():
    draws = get_transforms(p_affine=0.5, p_lighting=0.5).draw(200000, generator())
    happens = torch.stack([draws.k == 1, draws.degrees != 0, draws.scale != 1,
                           draws.right != 0, draws.change != 0.5, draws.slope != 1]).float()
    values = torch.stack([getattr(draws, name).float() for name in NAMES])
    for table in (happens, values):
        assert torch.allclose(torch.corrcoef(table), torch.eye(len(table)), atol=0.025)


@pytest.mark.parametrize("settings", [{"p_lighting": 0}, {"max_warp": 0}, {"flip_vert": True},
                                      {"max_zoom": 1.5, "do_flip": False, "flip_vert": True}])
def test_drawing_takes_the_same_numbers_whatever_the_settings(settings):
    rng, other = generator(), generator()
    degrees = get_transforms().draw(8, rng).degrees
    assert torch.equal(get_transforms(**settings).draw(8, other).degrees, degrees)
    assert torch.equal(rng.get_state(), other.get_state())


def test_a_batch_follows_from_its_generator_and_from_no_other():
    tfms, before = get_transforms(flip_vert=True), torch.get_rng_state()
    first, again, other = (tfms(*batch_of(), generator(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again)) and not any(map(torch.equal, first, other))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_strongest_settings_fold_no_picture_give_no_nan_and_keep_the_dtype(dtype):
    strongest = get_transforms(True, True, 180, 100, 0.99, 0.35, 1, 1)
    _, perspective = matrices_of(strongest.draw(10000, generator()))
    assert (perspective[:, 2, :2].abs().sum(dim=1) < 1).all()   # g x + h y + 1 > 0 in all corners
    x, y = batch_of(256)
    found, mask = strongest(x.round().to(dtype), y.to(torch.uint8), generator())
    assert (found.dtype, mask.dtype) == (dtype, torch.uint8)
    assert 0 <= found.min() < found.max() <= 1                  # false of NaN, too


def test_each_picture_has_its_own_matrices_and_one_side_alone_makes_a_warp():
    for side in ("right", "left", "bottom", "top"):
        assert matrices_of(Draws(**{side: 0.1}))[1] is not None
    draws = get_transforms(flip_vert=True, p_affine=1).draw(5, generator())
    for i in range(5):
        alone = Draws(**{name: getattr(draws, name)[i].item() for name in NAMES})
        for together, one in zip(matrices_of(draws), matrices_of(alone)):
            assert torch.allclose(together[i], one, atol=1e-6)


def test_several_processes_do_to_their_parts_what_one_does_to_the_whole(monkeypatch):
    tfms, (x, masks) = get_transforms(flip_vert=True), batch_of(6, 8, 8)
    whole = tfms(x, masks, generator(1))
    monkeypatch.setattr("minifast.tools.processes.COUNT", 3)
    for rank in range(3):
        monkeypatch.setattr("minifast.tools.processes.RANK", rank)
        part = tfms(x[rank::3], masks[rank::3], generator(1))
        assert torch.allclose(part[0], whole[0][rank::3], atol=1e-6)
        assert torch.equal(part[1], whole[1][rank::3])


def test_augmenting_keeps_the_device_and_never_waits_for_it():
    # The device "meta" has shapes but no numbers: whoever waits to read one gets an error
    batch = [part.to("meta") for part in batch_of()]
    for moved in get_transforms(flip_vert=True)(*batch, generator()):
        assert moved.device.type == "meta"


@pytest.mark.parametrize("settings, x_stays, mask_stays", [
    ({}, False, False), ({"p_lighting": 0}, False, False), (NOTHING, True, True),
    ({"do_flip": False, "p_affine": 0, "p_lighting": 1}, False, True),
    ({"do_flip": False, "p_affine": 0, "p_lighting": 0}, True, True)])
def test_a_probability_or_amount_of_0_changes_no_bit(settings, x_stays, mask_stays):
    x, mask = batch_of()
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])               # those a logit would not bring back
    before = x.clone(), mask.clone()
    found, moved = get_transforms(**settings)(x, mask, generator())
    assert torch.equal(found, x) is x_stays and torch.equal(moved, mask) is mask_stays
    found.zero_()                                           # is not the batch that came
    assert torch.equal(x, before[0]) and torch.equal(mask, before[1])


def test_a_moved_picture_is_as_sharp_as_before():
    black_and_white = (batch_of()[0] > 0.5).float()
    found, _ = apply(Draws(degrees=30, scale=1.5, right=0.2), black_and_white, torch.zeros(4))
    assert not torch.equal(found, black_and_white) and found.unique().tolist() == [0, 1]


@pytest.mark.parametrize("settings", [
    NOTHING | {"do_flip": True}, NOTHING | {"do_flip": True, "flip_vert": True},
    NOTHING | {"max_rotate": 10}, NOTHING | {"max_zoom": 1.1}, NOTHING | {"max_warp": 0.2},
    {"flip_vert": True, "max_lighting": 0}])
@pytest.mark.parametrize("seed", range(3))
def test_picture_and_mask_stay_aligned(settings, seed):
    mask = torch.zeros(8, 40, 60, dtype=torch.int64)
    mask[:, 5:20, 10:50], mask[:, 15:38, 3:25] = 3, 7
    x = torch.stack([mask == 0, mask == 3, mask == 7], dim=1).float()      # a plane per class
    found, moved = get_transforms(**settings, p_affine=1)(x, mask, generator(seed))
    assert not torch.equal(moved, mask) and set(moved.unique().tolist()) == {0, 3, 7}
    own = found.gather(1, torch.bucketize(moved, torch.tensor([0, 3, 7]))[:, None])
    assert own.min() > 0.999                    # it is the same pixel that both look at


def test_any_number_of_workers_gives_the_same_batches():
    items = [(picture, torch.tensor(0)) for picture in batch_of(6)[0].mul(255).byte()]

    def batches(num_workers: int, seed: int = 0) -> Tensor:
        data = DataBunch.create(items, None, target=Categories("ab"), tfms=get_transforms(), bs=3,
                                num_workers=num_workers, device=torch.device("cpu"), seed=seed)
        return torch.stack([x for _ in range(2) for x, _ in data.train_dl])

    alone = batches(0)
    assert torch.equal(alone, batches(2)) and not torch.equal(alone, batches(0, seed=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_brightness_and_contrast_are_v1s_for_each_picture_and_in_place(dtype):
    x = torch.full((3, 3, 1, 1), 0.25, dtype=dtype)
    assert light(Draws(), x) is x and (x == 0.25).all()
    drawn = Draws(change=torch.tensor([0.6, 0.5, 0.6]), slope=torch.tensor([1, 0.8, 0.8]))
    assert light(drawn, x) is x
    # Brightness: x c / (x c + (1 - x) (1 - c)) = .25 * .6 / (.15 + .75 * .4) = 1/3
    # Contrast: x^s / (x^s + (1 - x)^s), of .25 and of 1/3
    expected = [1 / 3, 0.25 ** 0.8 / (0.25 ** 0.8 + 0.75 ** 0.8), 1 / (1 + 2 ** 0.8)]
    assert x[:, 1, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    # Half the logit of a tiny number is about the logit of its square root: 1e-7 and 1.2e-7
    ends = light(Draws(slope=0.5), torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))
    assert ends.flatten().tolist() == pytest.approx([3.16e-4, 1 - 3.45e-4], abs=2e-6)


@pytest.mark.parametrize("where, name, wrong", [
    (get_transforms, "max_lighting", -0.1), (get_transforms, "max_lighting", 1),
    (get_transforms, "max_warp", 0.4), (get_transforms, "p_affine", 1.1),
    (get_transforms, "p_lighting", 1.1), (Draws, "change", torch.tensor([0.5, 1])),
    (Draws, "change", 0)])
def test_numbers_out_of_range_are_refused(where, name, wrong):
    with pytest.raises(ValueError, match=name):
        light(where(**{name: wrong}), torch.zeros(2, 3, 1, 1))
