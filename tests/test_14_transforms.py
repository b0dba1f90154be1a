from dataclasses import fields
from math import log

import numpy
from PIL import Image
import pytest
import torch
from torch import Tensor

from minifast.dataset import Dataset
from minifast.targets import Categories
from minifast.geometry import dihedral, rotation, symmetric_warp, warp, zoom
from minifast.loader import Loader
from minifast.transforms import (Augment, Draws, apply, brightness, contrast, get_transforms,
                                 light, matrices_of, per_picture)

NOTHING = {"do_flip": False, "max_rotate": 0, "max_zoom": 1, "max_lighting": 0, "max_warp": 0}
MOVES_ALONE = [{"do_flip": True}, {"do_flip": True, "flip_vert": True}, {"max_rotate": 10},
               {"max_zoom": 1.1}, {"max_warp": 0.2}]
NAMES = [field.name for field in fields(Draws)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(n: int = 4, h: int = 12, w: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, h, w, generator=generator(seed))


def many(**settings) -> Draws:
    return get_transforms(**settings).draw(200000, generator())


def share_of(yes: Tensor) -> float:
    return yes.float().mean().item()


def assert_even(values: Tensor, low: float, high: float) -> None:
    """Values fill low..high evenly: a quarter of them lies in each quarter of it."""
    assert low <= values.min() < low + 0.001 * (high - low)
    assert high >= values.max() > high - 0.001 * (high - low)
    quarters = torch.histc(values, 4, low, high) / len(values)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.01)


# What is drawn for 200,000 pictures: 0.01 is at least 5 standard deviations of a share

def test_by_default_the_settings_are_v1s():
    assert get_transforms() == Augment(
        do_flip=True, flip_vert=False, max_rotate=10.0, max_zoom=1.1, max_lighting=0.2,
        max_warp=0.2, p_affine=0.75, p_lighting=0.75)


@pytest.mark.parametrize("settings, ways", [
    ({}, 2), ({"flip_vert": True}, 8), ({"do_flip": False}, 1),
    ({"do_flip": False, "flip_vert": True}, 1)])
def test_each_way_to_lie_is_as_likely(settings, ways):
    counts = torch.bincount(many(**settings).k) / 200000
    assert len(counts) == ways
    assert torch.allclose(counts, torch.tensor(1 / ways), atol=0.01)


@pytest.mark.parametrize("p", [0.75, 0.3])
@pytest.mark.parametrize("name, neutral, low, high", [
    ("degrees", 0, -10, 10), ("scale", 1, 1, 1.1), ("right", 0, -0.2, 0.2), ("left", 0, -0.2, 0.2),
    ("bottom", 0, -0.2, 0.2), ("top", 0, -0.2, 0.2)])
def test_rotation_zoom_and_warp_come_with_p_affine_and_evenly(name, neutral, low, high, p):
    values = getattr(many(p_affine=p), name)
    drawn = values[values != neutral]
    assert share_of(values != neutral) == pytest.approx(p, abs=0.01)
    assert_even(drawn, low, high)


def test_the_focus_of_zoom_is_anywhere():
    draws = many()
    assert_even(draws.row_pct, 0, 1)
    assert_even(draws.col_pct, 0, 1)


@pytest.mark.parametrize("p", [0.75, 0.3])
def test_brightness_comes_evenly_and_the_logarithm_of_contrast_does(p):
    draws = many(p_lighting=p)
    lit, steep = draws.change != 0.5, draws.slope != 1
    assert share_of(lit) == pytest.approx(p, abs=0.01)
    assert share_of(steep) == pytest.approx(p, abs=0.01)
    assert_even(draws.change[lit], 0.4, 0.6)                # .5 (1 -+ .2)
    assert_even(draws.slope[steep].log(), log(0.8), log(1.25))
    planet = many(max_lighting=0.1)
    assert_even(planet.change[planet.change != 0.5], 0.45, 0.55)
    assert_even(planet.slope[planet.slope != 1].log(), log(0.9), log(1 / 0.9))


def test_one_does_not_come_with_another():
    draws = many(p_affine=0.5, p_lighting=0.5)
    happens = torch.stack([draws.k == 1, draws.degrees != 0, draws.scale != 1,
                           draws.right != 0, draws.change != 0.5, draws.slope != 1]).float()
    values = torch.stack([getattr(draws, name).float() for name in NAMES])
    for table in (happens, values):
        assert torch.allclose(torch.corrcoef(table), torch.eye(len(table)), atol=0.025)


def test_a_warp_moves_all_four_sides_or_none():
    draws = many()
    assert torch.equal(draws.right != 0, draws.top != 0)
    assert torch.equal(draws.left != 0, draws.bottom != 0)
    assert torch.equal(draws.left != 0, draws.top != 0)


@pytest.mark.parametrize("name, setting, neutral", [
    ("degrees", {"max_rotate": 0}, 0), ("scale", {"max_zoom": 1}, 1), ("top", {"max_warp": 0}, 0),
    ("change", {"max_lighting": 0}, 0.5), ("slope", {"max_lighting": 0}, 1)])
def test_an_amount_of_0_draws_the_neutral_value(name, setting, neutral):
    assert (getattr(many(**setting), name) == neutral).all()


@pytest.mark.parametrize("settings", [{"p_lighting": 0}, {"max_warp": 0}, {"flip_vert": True},
                                      {"max_zoom": 1.5, "do_flip": False}])
def test_a_picture_turns_alike_whatever_else_is_set(settings):
    degrees = get_transforms(**settings).draw(8, generator()).degrees
    assert torch.equal(degrees, get_transforms().draw(8, generator()).degrees)


def test_draws_follow_from_the_generator():
    first, again, other = (str(get_transforms().draw(8, generator(seed))) for seed in (1, 1, 2))
    assert first == again != other


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    get_transforms()(batch_of(), torch.zeros(4), generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [
    {"max_rotate": -1}, {"max_rotate": 181}, {"max_zoom": 0.9}, {"max_zoom": 101},
    {"max_lighting": -0.1}, {"max_lighting": 1}, {"max_warp": -0.1}, {"max_warp": 0.4},
    {"p_affine": 1.1}, {"p_affine": -0.1}, {"p_lighting": 1.1}, {"p_lighting": -0.1},
    {"p_lighting": float("nan")}])
def test_settings_out_of_range_are_refused(wrong):
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=rf"\b{name}\b.*{value}"):
        get_transforms(**wrong)


def test_the_strongest_settings_are_allowed_and_fold_no_picture():
    strongest = get_transforms(True, True, 180, 100, 0.99, 0.35, 1, 1)
    _, perspective = matrices_of(strongest.draw(10000, generator()))
    assert (perspective[:, 2, :2].abs().sum(dim=1) < 1).all()   # g x + h y + 1 > 0 in all corners


# The record of a draw

def test_draws_print_as_a_table_with_a_row_per_picture():
    draws = Draws(k=torch.tensor([3, 7]), degrees=torch.tensor([-179.9876, -0.000123]), change=.45)
    assert [line.split() for line in str(draws).splitlines()] == [
        ["picture", *NAMES],
        ["0", "3", "-179.988", "1", "0.5", "0.5", "0", "0", "0", "0", "0.45", "1"],
        ["1", "7", "0", "1", "0.5", "0.5", "0", "0", "0", "0", "0.45", "1"]]
    assert len({len(line) for line in str(draws).splitlines()}) == 1
    assert str(draws) == repr(draws) and len(str(Draws()).splitlines()) == 2


@pytest.mark.parametrize("seed", range(5))
def test_no_two_numbers_of_the_table_run_together(seed):
    wildest = get_transforms(True, True, 180, 100, 0.99, 0.35, 1, 1)
    for line in str(wildest.draw(64, generator(seed))).splitlines():
        assert len(line.split()) == 1 + len(NAMES)


def test_draws_are_compared_without_an_error():
    draws = Draws(degrees=torch.tensor([1.0, 2.0]))
    assert draws == draws != Draws()


def test_draws_left_out_change_nothing():
    x = batch_of()
    assert torch.equal(apply(Draws(), x, x[:, 0])[0], x)
    affine, perspective = matrices_of(Draws())
    assert torch.equal(affine, torch.eye(3)) and perspective is None


# From draws to matrices

def test_the_product_is_dihedral_rotation_zoom_and_the_warp_comes_after():
    draws = get_transforms(flip_vert=True, p_affine=1).draw(5, generator())
    affine, perspective = matrices_of(draws)
    assert affine.shape == perspective.shape == (5, 3, 3)
    for i in range(5):
        one = {name: getattr(draws, name)[i].item() for name in NAMES}
        product = (dihedral(one["k"]) @ rotation(one["degrees"])
                   @ zoom(one["scale"], one["row_pct"], one["col_pct"]))
        warped = symmetric_warp(*(one[side] for side in ("right", "left", "bottom", "top")))
        assert torch.allclose(affine[i], product, atol=1e-6)
        assert torch.allclose(perspective[i], warped, atol=1e-6)


@pytest.mark.parametrize("draw, expected", [
    ({"k": 5}, lambda: dihedral(5)), ({"degrees": 30.0}, lambda: rotation(30)),
    ({"scale": 2.0, "row_pct": 0.0, "col_pct": 1.0}, lambda: zoom(2, 0, 1))])
def test_each_affine_column_is_an_argument_of_geometry(draw, expected):
    affine, perspective = matrices_of(Draws(**draw))
    assert torch.allclose(affine, expected(), atol=1e-7) and perspective is None


@pytest.mark.parametrize("number, side", [(0, "right"), (1, "left"), (2, "bottom"), (3, "top")])
def test_each_side_is_an_argument_of_the_warp(number, side):
    affine, perspective = matrices_of(Draws(**{side: 0.1}))
    expected = symmetric_warp(*(0.1 if i == number else 0.0 for i in range(4)))
    assert torch.equal(affine, torch.eye(3)) and torch.allclose(perspective, expected, atol=1e-7)


# From matrices to pictures and masks

def test_several_processes_do_to_their_parts_what_one_does_to_the_whole(monkeypatch):
    tfms, x = get_transforms(flip_vert=True), batch_of(6, 8, 8)
    masks = torch.randint(0, 3, (6, 8, 8), generator=generator())
    whole = tfms(x, masks, generator(1))
    monkeypatch.setattr("minifast.processes.count", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr("minifast.processes.rank", lambda: rank)
        mine = slice(2 * rank, 2 * rank + 2)
        parts.append(tfms(x[mine], masks[mine], generator(1)))
    for together, *pieces in zip(whole, *parts):
        assert torch.allclose(torch.cat(pieces), together, atol=1e-6)


def test_augmenting_never_waits_for_the_device():
    # The device "meta" has shapes but no numbers: to look at one raises, see test_01_metrics.
    x, masks = batch_of().to("meta"), torch.zeros(4, 12, 16, device="meta").long()
    moved = get_transforms(flip_vert=True)(x, masks, generator())
    assert [part.device.type for part in moved] == ["meta", "meta"]


def test_what_is_called_is_what_is_drawn():
    x, y = batch_of(), torch.arange(4)
    tfms = get_transforms()
    found = tfms(x, y, generator())
    expected = apply(tfms.draw(4, generator()), x, y)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], y)


def test_the_same_draws_do_the_same_again():
    x, mask = batch_of(), torch.randint(5, (4, 12, 16), generator=generator())
    draws = get_transforms().draw(4, generator())
    once, again = apply(draws, x, mask), apply(draws, x, mask)
    assert all(torch.equal(a, b) for a, b in zip(once, again))


def test_moving_is_one_warp_of_picture_and_mask():
    x, mask = batch_of(), torch.randint(5, (4, 12, 16), generator=generator())
    draws = get_transforms(max_lighting=0).draw(4, generator())
    affine, perspective = matrices_of(draws)
    found = apply(draws, x, mask)
    assert torch.equal(found[0], warp(x, affine, perspective=perspective))
    assert torch.equal(found[1], warp(mask, affine, "nearest", perspective=perspective))


@pytest.mark.parametrize("settings", [
    NOTHING, {"do_flip": False, "p_affine": 0, "p_lighting": 0},
    NOTHING | {"max_lighting": 0.2, "p_lighting": 0}, NOTHING | {"max_rotate": 10, "p_affine": 0},
    NOTHING | {"max_zoom": 2, "p_affine": 0}, NOTHING | {"max_warp": 0.2, "p_affine": 0}])
@pytest.mark.parametrize("seed", range(3))
def test_a_probability_or_amount_of_0_leaves_the_batch_bit_equal(settings, seed):
    x, mask = batch_of(), torch.randint(5, (4, 12, 16), generator=generator())
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])               # those a logit would not bring back
    found = get_transforms(**settings)(x, mask, generator(seed))
    assert torch.equal(found[0], x) and torch.equal(found[1], mask)


def test_without_light_only_the_geometry_is_done_and_the_other_way_round():
    x, mask = batch_of(), torch.randint(5, (4, 12, 16), generator=generator())
    moved = get_transforms(p_lighting=0)
    affine, perspective = matrices_of(moved.draw(4, generator()))
    expected = warp(x, affine, perspective=perspective)
    assert torch.equal(moved(x, mask, generator())[0], expected)
    lit, still = get_transforms(do_flip=False, p_affine=0, p_lighting=1)(x, mask, generator())
    assert torch.equal(still, mask)
    assert ((lit > x).flatten(1).any(dim=1) | (lit < x).flatten(1).any(dim=1)).all()


@pytest.mark.parametrize("settings", [{}, NOTHING,
                                      NOTHING | {"max_lighting": 0.2, "p_lighting": 1}])
def test_the_batch_that_came_is_left_as_it_was(settings):
    x, mask = batch_of(), torch.randint(5, (4, 12, 16), generator=generator())
    found, _ = get_transforms(**settings)(x, mask, generator())
    found.zero_()
    assert torch.equal(x, batch_of())
    assert torch.equal(mask, torch.randint(5, (4, 12, 16), generator=generator()))


def test_the_smallest_turn_is_done():
    x = batch_of()
    assert not torch.equal(apply(Draws(degrees=0.02), x, x[:, 0])[0], x)


@pytest.mark.parametrize("shape", [(4, 1, 12, 16), (4, 12, 15), (3, 12, 16), (5, 12, 16),
                                   (4, 5, 2)])
def test_what_is_no_mask_of_these_pictures_is_refused(shape):
    with pytest.raises(ValueError, match=rf"masks.*\({', '.join(map(str, shape))}\)"):
        apply(Draws(degrees=10.0), batch_of(), torch.zeros(shape))


@pytest.mark.parametrize("draws", [Draws(), Draws(degrees=10.0), Draws(change=0.6)])
def test_pictures_are_a_batch_of_floats(draws):
    for wrong in (batch_of()[0], batch_of()[None]):
        with pytest.raises(ValueError, match=r"\(n, 3, h, w\).*3, 12, 16\)"):
            apply(draws, wrong, torch.zeros(len(wrong)))
    with pytest.raises(ValueError, match=r"floats.*uint8"):
        apply(draws, torch.zeros(4, 3, 12, 16, dtype=torch.uint8), torch.zeros(4))


def test_classes_and_tags_stay():
    for y in (torch.arange(4), torch.rand(4, 17, generator=generator())):
        assert torch.equal(get_transforms(flip_vert=True)(batch_of(), y, generator())[1], y)


@pytest.mark.parametrize("settings", [*(NOTHING | move for move in MOVES_ALONE),
                                      {"flip_vert": True, "max_lighting": 0}])
@pytest.mark.parametrize("seed", range(3))
def test_picture_and_mask_stay_aligned(settings, seed):
    mask = torch.zeros(8, 40, 60, dtype=torch.int64)
    mask[:, 5:20, 10:50], mask[:, 15:38, 3:25] = 3, 7
    x = torch.stack([mask == 0, mask == 3, mask == 7], dim=1).float()      # a plane per class
    found, moved = get_transforms(**settings, p_affine=1)(x, mask, generator(seed))
    assert not torch.equal(moved, mask)
    # The class that is nearest has at least a quarter of a blend of four pixels.
    own = found.gather(1, torch.bucketize(moved, torch.tensor([0, 3, 7]))[:, None])
    assert own.min() > 0.2499
    assert share_of(own > 0.99) > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_gains_no_class(seed):
    mask = torch.tensor([2, 11, 30])[torch.randint(3, (4, 24, 24), generator=generator(seed))]
    tfms = get_transforms(flip_vert=True, max_warp=0.3)
    moved = tfms(batch_of(4, 24, 24), mask, generator(seed))[1]
    assert moved.dtype == torch.int64 and set(moved.unique().tolist()) <= {2, 11, 30}


def test_a_batch_on_a_device_is_not_waited_for():
    # torch's "meta" device has no numbers: whoever waits to read one there gets an error
    x, mask = torch.rand(4, 3, 8, 8, device="meta"), torch.zeros(4, 8, 8, device="meta")
    for found in get_transforms()(x, mask.long(), generator()):
        assert found.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_pictures_keep_their_dtype(dtype):
    x = batch_of().to(dtype)
    assert get_transforms()(x, torch.zeros(4), generator())[0].dtype == dtype


def test_any_number_of_workers_gives_the_same_batches(tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for i, file in enumerate(files):
        noise = numpy.random.default_rng(i).integers(0, 256, (10, 10, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(file)

    def batches(num_workers: int, seed: int = 0) -> list[Tensor]:
        dataset = Dataset(files, list("ababab"), Categories("ab"), (8, 8), moving=True)
        loader = Loader(dataset, 3, True, seed, num_workers, torch.device("cpu"), get_transforms())
        return [x for _ in range(2) for x, _ in loader]

    alone, helped, other = torch.stack(batches(0)), torch.stack(batches(2)), batches(0, seed=1)
    assert torch.equal(alone, helped) and not torch.equal(alone, torch.stack(other))


# Light

def lit(x: list[float], **draws) -> list[float]:
    return light(Draws(**draws), torch.tensor(x).reshape(1, 1, 1, -1)).flatten().tolist()


def test_brightness_is_v1s():
    # x c / (x c + (1 - x) (1 - c)): .25 * .6 / (.15 + .75 * .4); a grey of .5 becomes c
    assert lit([0.25, 0.5], change=0.6) == pytest.approx([1 / 3, 0.6], abs=1e-5)


def test_contrast_is_v1s():
    # x^s / (x^s + (1 - x)^s) = .25^.8 / (.25^.8 + .75^.8); a grey of .5 stays
    assert lit([0.25, 0.5], slope=0.8) == pytest.approx([0.29341, 0.5], abs=1e-5)
    assert lit([0.25], slope=2.0) == pytest.approx([0.1], abs=1e-5)        # 1/16 / (1/16 + 9/16)


def test_brightness_comes_before_contrast():
    # .5 becomes .6, and then .36 / (.36 + .16)
    assert lit([0.5], change=0.6, slope=2.0) == pytest.approx([0.36 / 0.52], abs=1e-5)


def test_black_and_white_are_clamped_first():
    # Half a logit is about that of the square root: of 1e-7, and (a float32 below 1) 1.2e-7.
    assert lit([0.0, 1.0], slope=0.5) == pytest.approx([3.16e-4, 1 - 3.45e-4], abs=2e-6)


def test_each_picture_has_its_own_light():
    x = torch.full((2, 3, 1, 1), 0.25)
    found = light(Draws(change=torch.tensor([0.5, 0.6]), slope=torch.tensor([0.8, 1.0])), x)
    assert found[:, 1, 0, 0].tolist() == pytest.approx([0.29341, 1 / 3], abs=1e-5)


def test_light_is_changed_in_place():
    for draws in (Draws(), Draws(change=0.6), Draws(slope=0.8)):
        x = batch_of()
        assert light(draws, x) is x


def test_brightness_adds_a_logit_and_contrast_multiplies_in_place():
    logits = torch.zeros(2, 1, 1, 1)
    assert brightness(logits, torch.tensor([0.5, 0.6])) is logits
    assert logits.flatten().tolist() == pytest.approx([0, log(0.6 / 0.4)])
    assert contrast(logits, 2) is logits
    assert logits.flatten().tolist() == pytest.approx([0, 2 * log(0.6 / 0.4)])


@pytest.mark.parametrize("number", [1.2, 1, 0, -0.1, torch.tensor([0.5, 2])])
def test_a_grey_cannot_become_white_or_black(number):
    with pytest.raises(ValueError, match=r"\bchange\b.*0\.001 and 0\.999"):
        brightness(torch.zeros(2, 3, 1, 1), number)


@pytest.mark.parametrize("number", [0, -1, float("nan"), torch.tensor([1.0, 2000])])
def test_contrast_neither_vanishes_nor_turns_round(number):
    with pytest.raises(ValueError, match=r"\bslope\b.*0\.001 and 1000"):
        contrast(torch.zeros(2, 3, 1, 1), number)


def test_the_strongest_light_is_allowed():
    strongest = get_transforms(**NOTHING | {"max_lighting": 0.99}, p_lighting=1)
    x = strongest(torch.full((20000, 3, 1, 1), 0.5), torch.zeros(20000), generator())[0]
    assert 0 <= x.min() < x.max() <= 1                      # false of NaN too


def test_a_number_per_picture_lies_along_the_batch():
    like = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    found = per_picture(torch.tensor([1.0, 2.0]), like)
    assert found.shape == (2, 1, 1, 1) and found.dtype == torch.float64
    assert per_picture(torch.tensor(3), like).tolist() == [[[[3]]]]
