import pytest
import torch

from minifast.geometry import dihedral, rotation, symmetric_warp, warp, zoom
from minifast.transforms import Draws, apply, get_transforms, light, matrices_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 3, 12, 12, generator=generator())


def test_a_draw_by_default_changes_nothing():
    affine, perspective = matrices_of(Draws())
    assert torch.equal(affine, torch.eye(3)) and perspective is None


def test_matrices_are_those_of_geometry_with_the_numbers_drawn():
    affine, _ = matrices_of(Draws(k=7, degrees=30., scale=2., row_pct=0., col_pct=1.))
    assert torch.allclose(affine, dihedral(7) @ rotation(30) @ zoom(2, 0, 1), atol=1e-6)
    _, perspective = matrices_of(Draws(right=0.1, left=0.2, bottom=0., top=-0.1))
    assert torch.allclose(perspective, symmetric_warp(0.1, 0.2, 0., -0.1), atol=1e-6)


def test_brightness_is_what_a_grey_becomes():
    grey = torch.full((1, 3, 1, 1), 0.5)
    assert light(Draws(change=0.6), grey).flatten().tolist() == pytest.approx([0.6] * 3)


def test_contrast_makes_dark_pixels_darker_after_brightness():
    # The logit of 1/4 is -log 3, twice that is -log 9, which is the logit of 1/10
    pixels = torch.tensor([0.25, 0.5]).reshape(1, 1, 1, 2)
    assert light(Draws(slope=2.), pixels).flatten().tolist() == pytest.approx([0.1, 0.5])
    # A grey of .5 becomes .6, whose logit is log(3/2); twice that is log(9/4), the logit of 9/13
    grey = torch.full((1, 1, 1, 1), 0.5)
    assert light(Draws(change=0.6, slope=2.), grey).item() == pytest.approx(9 / 13)


def test_black_and_white_have_no_logit_and_are_clamped_first():
    pixels = torch.tensor([0., 1.]).reshape(1, 1, 1, 2)
    found = light(Draws(change=0.6, slope=2.), pixels).flatten()
    assert 0 <= found[0] < 1e-6 and 1 - 1e-6 < found[1] <= 1


def test_each_picture_has_its_own_light():
    grey = torch.full((2, 1, 1, 1), 0.5)
    found = light(Draws(change=torch.tensor([0.4, 0.6])), grey)
    assert found.flatten().tolist() == pytest.approx([0.4, 0.6])


def test_a_mask_moves_with_its_picture():
    mask = torch.zeros(1, 9, 9, dtype=torch.int64)
    mask[0, 0, 4] = 7                                       # one pixel, top centre
    x, y = apply(Draws(degrees=90.), (mask[:, None] == 7).float().expand(1, 3, 9, 9), mask)
    assert y.nonzero().tolist() == [[0, 4, 0]] and y.max() == 7                 # left centre
    assert x[0, 0].argmax() == 4 * 9 and x[0, 0, 4, 0] > 0.99


def test_pictures_are_moved_and_lit_in_a_copy_and_tags_stay():
    x, tags = pictures(), torch.ones(4, 17)
    found, y = apply(Draws(k=1, change=0.6), x, tags)                           # mirrored
    assert torch.allclose(found, light(Draws(change=0.6), x.flip(-1)), atol=1e-5)
    assert torch.equal(y, tags) and torch.equal(x, pictures())


def test_what_is_not_drawn_leaves_every_bit_as_it_was():
    x, _ = apply(Draws(), pictures(), torch.zeros(4))
    assert torch.equal(x, pictures())


@pytest.mark.parametrize("settings", [{"max_lighting": 1.}, {"max_warp": 0.5}, {"max_zoom": 0.}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError):
        get_transforms(**settings)


def test_numbers_are_drawn_between_their_limits():
    draws = get_transforms(max_rotate=10., max_zoom=1.5, p_affine=1.).draw(10000, generator())
    assert -10 <= draws.degrees.min() < -9.9 and 9.9 < draws.degrees.max() <= 10
    assert 1 <= draws.scale.min() < 1.01 and 1.49 < draws.scale.max() <= 1.5
    assert -0.2 <= draws.top.min() < -0.19 and 0.19 < draws.top.max() <= 0.2
    assert 0 <= draws.row_pct.min() < 0.01 and 0.99 < draws.col_pct.max() <= 1


def test_light_is_drawn_between_its_limits():
    draws = get_transforms(max_lighting=0.2, p_lighting=1.).draw(10000, generator())
    assert 0.4 <= draws.change.min() < 0.401 and 0.599 < draws.change.max() <= 0.6
    assert 0.8 <= draws.slope.min() < 0.801 and 1.249 < draws.slope.max() <= 1.25
    assert draws.slope.log().mean().abs() < 0.01           # 0.8 and 1.25 are the same factor from 1


def test_each_transform_happens_to_three_of_four_pictures():
    draws = get_transforms().draw(10000, generator())
    turned, zoomed, warped = draws.degrees != 0, draws.scale != 1, draws.left != 0
    for happens in (turned, zoomed, warped, draws.change != 0.5, draws.slope != 1):
        assert happens.float().mean().item() == pytest.approx(0.75, abs=0.02)
    for both in (turned & zoomed, zoomed & warped, turned & warped):            # each on its own
        assert both.float().mean().item() == pytest.approx(0.75 ** 2, abs=0.02)
    assert torch.equal(warped, draws.top != 0)              # a warp moves all four sides


@pytest.mark.parametrize("settings, ways", [({}, 2), ({"flip_vert": True}, 8),
                                            ({"do_flip": False, "flip_vert": True}, 1)])
def test_each_dihedral_way_is_equally_likely(settings, ways):
    counts = torch.bincount(get_transforms(**settings).draw(10000, generator()).k)
    assert (counts / 10000).tolist() == pytest.approx([1 / ways] * ways, abs=0.02)


def test_a_batch_is_transformed_as_its_generator_says():
    tfms, x = get_transforms(), pictures()
    draws = tfms.draw(4, generator(1))
    affine, perspective = matrices_of(draws)
    found, _ = tfms(x, torch.zeros(4), generator(1))
    assert torch.equal(found, light(draws, warp(x, affine, "nearest", perspective=perspective)))
