from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from minifast.databunch import DataBunch
from minifast.learner import Learner
from minifast.loader import Loader
from minifast.results import get_preds
from minifast.targets import Categories, Masks, Tags
from minifast.tta import mean_over_views, seen_as, tta, turned

CPU, FLOAT32 = torch.device("cpu"), torch.autocast("cpu", torch.bfloat16, enabled=False)
# What `turned` says, done by hand to 12/34: left to right, top to bottom, both, and these four with
# rows made columns.
EIGHT = ["12/34", "21/43", "34/12", "43/21", "13/24", "24/13", "31/42", "42/31"]


def symmetries(x: Tensor) -> list[Tensor]:
    """The eight as torch has them: a quarter turn 0 to 3 times, of the picture and its mirror."""
    return [torch.rot90(side, k, (-2, -1)) for side in (x, x.flip(-1)) for k in range(4)]


def undone(views: list[Tensor]) -> list[Tensor]:
    """Each of the symmetries turned back, by torch."""
    back = [torch.rot90(view, -(i % 4), (-2, -1)) for i, view in enumerate(views)]
    return back[:4] + [view.flip(-1) for view in back[4:]]


class Weighed(nn.Module):
    """A logit per class, each the sum of a picture's values with other weights: all views differ.
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.weights = torch.randn(classes, 12, generator=torch.Generator().manual_seed(1)) * 3
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x.flatten(1)) @ self.weights.T                      # (n, classes)


class Placed(nn.Module):
    """Two logits per pixel, 0 and its red value, with something that its place decides."""

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        place = torch.linspace(-2, 2, h * w).reshape(h, w)
        return torch.stack([torch.zeros(n, h, w), 3 * x[:, 0] + place], dim=1)  # (n, 2, h, w)


def pictures(h: int = 2, w: int = 2, n: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed))


def data_of(x: Tensor, target, tfms=None, test: Tensor | None = None) -> DataBunch:
    """Validation pictures x, whose targets are their numbers, or tags or masks of them."""
    n, _, h, w = x.shape
    y = {Tags: torch.arange(len(target.classes) * n).reshape(n, -1), Categories: torch.arange(n),
         Masks: torch.arange(n * h * w).reshape(n, h, w)}[type(target)]
    items = list(zip(x, y))
    return DataBunch.create(items, items, test if test is None else [(p, y[0]) for p in test],
                            target, (None, tfms), bs=2, device=CPU)


def learner(model: nn.Module, data: DataBunch) -> SimpleNamespace:
    """As much of a learner as is needed here."""
    return SimpleNamespace(model=model, data=data, autocast=FLOAT32)


# The views

def test_the_eight_views_of_a_square_by_hand():
    square = torch.tensor([[1, 2], [3, 4]])
    assert ["/".join("".join(map(str, row)) for row in turned(square, number).tolist())
            for number in range(8)] == EIGHT


def test_the_eight_views_are_all_different_and_all_that_a_square_can_be_turned_into():
    x = pictures(3, 3)
    ours, wanted = ({tuple(view.flatten().tolist()) for view in views} for views in
                    ([turned(x, number) for number in range(8)], symmetries(x)))
    assert len(ours) == 8 and ours == wanted


@pytest.mark.parametrize("number", range(8))
def test_a_view_turned_back_is_the_picture_pixel_by_pixel(number):
    x = pictures(2, 5)
    assert turned(x, number).shape == ((5, 3, 2, 5) if number < 4 else (5, 3, 5, 2))
    assert torch.equal(turned(turned(x, number), number, back=True), x)


# The loader of a view

def marked(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A transform: the upper left pixel becomes a number drawn, and targets grow by 10."""
    x = x.clone()
    x[..., 0, 0] = torch.rand(1, generator=rng)
    return x, y + 10


def test_a_loader_of_a_view_turns_pictures_after_its_own_transforms_and_leaves_targets():
    x = pictures(2, 3)
    loader = data_of(x, Categories("abcde"), marked).valid_dl
    for (plain, y), (seen, same_y) in zip(loader, seen_as(loader, 1), strict=True):
        assert torch.equal(seen, plain.flip(-1)) and torch.equal(y, same_y)
        assert (seen[..., 0, 2] == plain[0, 0, 0, 0]).all()     # the mark, now at the upper right
        assert y.min() >= 10
    assert loader.tfms is marked


def test_a_loader_of_a_view_normalizes_as_before():
    x, stats = pictures(2, 3), ([0.5, 0.25, 0], [0.5, 1, 2])
    loader = Loader(list(zip(x, range(5))), 5, False, 42, 0, CPU, None, stats)
    (seen, y), = seen_as(loader, 4)
    mean, std = (torch.tensor(part)[:, None, None] for part in stats)
    assert torch.allclose(seen, ((x - mean) / std).transpose(2, 3)) and y.tolist() == [*range(5)]


# The mean

@pytest.mark.parametrize("views", [1, 2, 8])
def test_tags_get_the_mean_of_the_probabilities_of_each_view(views):
    x, model = pictures(), Weighed()
    seen = {1: [x], 2: [x, x.flip(-1)], 8: symmetries(x)}[views]
    wanted = sum((view.flatten(1) @ model.weights.T).sigmoid() for view in seen) / views
    data = data_of(x, Tags(["a", "b"]))
    likely, targets = mean_over_views(learner(model, data), data.valid_dl, views)
    assert torch.allclose(likely, wanted, atol=1e-6)
    assert targets.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_mean_of_probabilities_is_not_the_probability_of_a_mean():
    # Logits 10 and -4: of the probabilities, 1.000 and .018, the mean is .509; of logits it is 3,
    # whose probability is .953.
    x = torch.zeros(1, 3, 1, 4)
    x[0, 0, 0] = torch.tensor([10., 0, 0, -4])
    data, model = data_of(x, Tags(["a"])), Weighed(1)
    model.weights = torch.eye(12)[:1]                           # sees one value, the upper left red
    likely, _ = mean_over_views(learner(model, data), data.valid_dl, 2)
    assert likely.item() == pytest.approx(0.509, abs=1e-3)


def test_classes_keep_a_sum_of_1():
    x, model = pictures(), Weighed(3)
    data = data_of(x, Categories("abc"))
    likely, targets = mean_over_views(learner(model, data), data.valid_dl, 8)
    wanted = sum((view.flatten(1) @ model.weights.T).softmax(1) for view in symmetries(x)) / 8
    assert torch.allclose(likely, wanted, atol=1e-6) and targets.tolist() == [0, 1, 2, 3, 4]
    assert torch.allclose(likely.sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("h, w", [(3, 3), (2, 5)])
def test_masks_are_turned_back_before_the_mean(h, w):
    x, model = pictures(h, w), Placed()
    data = data_of(x, Masks(["dark", "red"]))
    mirrored = [model(x).softmax(1), model(x.flip(-1)).softmax(1).flip(-1)]
    all_eight = undone([model(view).softmax(1) for view in symmetries(x)])
    for views, wanted in ((2, mirrored), (8, all_eight)):
        likely, targets = mean_over_views(learner(model, data), data.valid_dl, views)
        assert torch.allclose(likely, sum(wanted) / views, atol=1e-6)
        assert torch.equal(targets, torch.arange(5 * h * w).reshape(5, h, w))


@pytest.mark.parametrize("views", [2, 8])
def test_one_lit_pixel_stays_where_it_is_in_a_picture_that_is_no_square(views):
    x = torch.zeros(1, 3, 4, 7)
    x[0, 0, 1, 5] = 1
    data, model = data_of(x, Masks(["dark", "red"])), nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()[1, 0] = 9
    likely, _ = mean_over_views(learner(model, data), data.valid_dl, views)
    assert (likely[0, 1] > 0.6).nonzero().tolist() == [[1, 5]]


def test_one_view_alone_is_get_preds():
    for target, model in ((Tags(["a", "b"]), Weighed()), (Masks(["dark", "red"]), Placed())):
        data = data_of(pictures(), target, marked)
        learn = learner(model, data)
        one, two = mean_over_views(learn, data.valid_dl, 1), get_preds(learn, data.valid_dl)
        assert all(map(torch.equal, one, two))


# Of a learner

def test_tta_sees_a_mirror_image_and_with_flip_vert_all_eight():
    x, model = pictures(), Weighed()
    learn = Learner(data_of(x, Tags(["a", "b"])), model, precision="float32")
    answers = [(view.flatten(1) @ model.weights.T).sigmoid() for view in symmetries(x)]
    likely, targets = tta(learn)
    assert torch.allclose(likely, (answers[0] + answers[4]) / 2, atol=1e-6)
    assert torch.equal(targets, learn.get_preds()[1])
    assert torch.allclose(tta(learn, flip_vert=True)[0], sum(answers) / 8, atol=1e-6)


def test_tta_keeps_the_transforms_of_validation():
    x = pictures(1, 2)
    x[:, 0] = 0
    learn = Learner(data_of(x, Masks(["dark", "red"]), lambda x, y, rng: (1 - x, y)), Placed(),
                    precision="float32")
    # What is dark becomes red, 3; places count -2 and 2, and in the mirror image 2 and -2.
    one, five = torch.tensor([3. - 2, 3 + 2]).sigmoid()
    assert tta(learn)[0][:, 1].flatten().tolist() == pytest.approx([(one + five).item() / 2] * 10)


def test_tta_of_the_test_set_and_where_there_is_none():
    x, more = pictures(), pictures(n=3, seed=7)
    learn = Learner(data_of(x, Tags(["a", "b"]), test=more), Weighed(), precision="float32")
    other = Learner(data_of(more, Tags(["a", "b"])), Weighed(), precision="float32")
    assert torch.equal(tta(learn, test=True)[0], tta(other)[0])
    with pytest.raises(ValueError, match="test_dl.*add_test_folder"):
        tta(other, test=True)


def test_tta_leaves_no_trace():
    learn = Learner(data_of(pictures(), Tags(["a", "b"]), marked), Weighed(), precision="float32")
    before = torch.get_rng_state()
    first = tta(learn, flip_vert=True)[0]
    assert torch.equal(torch.get_rng_state(), before) and learn.model.dropout.training
    assert learn.data.valid_dl.epoch == 0 and learn.data.valid_dl.tfms is marked
    assert torch.equal(tta(learn, flip_vert=True)[0], first)
