"""Metrics: what a threshold does, why accuracy flatters, F2 by hand, and partial, which sets knobs.

You have one yes/no question per tag and tile, and ask how well they are answered. Takes seconds.
Read next: minifast/metrics.py.
"""

from dataclasses import dataclass
from functools import partial

import torch

from minifast.metrics import Score, accuracy_thresh, fbeta, metric, name_of, register
from minifast.targets import Tags
from minifast.tools.draw import chart
from kit.page import show, start_page
from kit.sample_data import planet_tags
from kit.settings import read_settings


@dataclass
class Settings:
    tiles: int = 1500            # how many tiles the last cells have tags of
    seed: int = 42               # of these tags, and of how sure an invented model is of them
    out: str = "runs/metrics"    # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% What a net says of three tiles and four tags: logits, any numbers. Sigmoid makes them 0 to 1
logits = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])    # (n, c)
truth = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])               # (n, c)
probabilities = logits.sigmoid()
print("sure of it:", probabilities, "true:", truth, sep="\n")

# %% Above which of them is a tag said? At 0.5 few tags are; at 0.2 more, right and wrong ones
for thresh in (0.5, 0.2):
    said = (probabilities > thresh).float()
    print(f"{thresh}: {said.tolist()}, right {(said * truth).sum():g} of {said.sum():g} said")

# %% Accuracy: of all cells, tile times tag, the share that is answered right
score = accuracy_thresh(logits, truth, 0.2)
print("by hand", (said == truth).float().mean().item(), "ours", float(score), "as", score)


# %% The lecture's question: fastai wants a function of two things, and this one has a third, thresh
# So make a new function, that calls the old one with that knob set. That is all that partial does.
def acc_by_hand(logits: torch.Tensor, truth: torch.Tensor) -> Score:
    return accuracy_thresh(logits, truth, thresh=0.2)


old_func = accuracy_thresh
new_func = acc_02 = partial(old_func, thresh=0.2)
old, new, by_hand = (float(func(logits, truth)) for func in (old_func, new_func, acc_by_hand))
print(f"old {old:.4g} new {new:.4g} by hand {by_hand:.4g}")

# %% A partial has no name of its own; so a table of ours says which knobs it has set
# fbeta has thresh 0.2 and beta 2 already: there, the lecture's partial(fbeta, thresh=0.2) changes
# nothing. A registry finds both by name; you can put your own there.
register("acc_02", acc_02)
print(name_of(metric("acc_02")), name_of(metric("fbeta", thresh=0.5)), sep="\n")

# %% F2 by hand, of the first tile: tags 0, 1 and 3 are said, 0 and 3 are true
precision, recall = 2 / 3, 2 / 2                        # of what is said; of what is true
f1, f2 = (((1 + b * b) * precision * recall / (b * b * precision + recall)) for b in (1, 2))
print(f"F1 {f1:.6f}, F2, where recall counts twice as much as precision, {f2:.6f}")
ours, mean = fbeta(logits[:1], truth[:1]), fbeta(logits, truth)
print(f"ours {float(ours):.6f} and Kaggle's, the mean over tiles, {float(mean):.6f}")

# %% The trap: of 17 tags a tile has three. Say no to everything, and most cells are right
tags = planet_tags(s.tiles, s.seed)
target = Tags(sorted({tag for each in tags for tag in each}))
truth = torch.stack([target.encode(each) for each in tags])                     # (n, c)
usual = (truth.mean(dim=0) > 0.5).float().expand_as(truth)
for name, says in {"nothing": truth * 0, "clear and primary": usual, "the truth": truth}.items():
    print(f"{name}: accuracy {float(accuracy_thresh(says, truth, 0.2, sigmoid=False)):.3f},",
          f"F2 {float(fbeta(says, truth, sigmoid=False)):.3f}")

# %% Every threshold, for an invented model that is right, but unsure: it adds noise to the truth
# From 0.2 on, accuracy hardly tells them apart. F2 wants a low one: to miss a tag costs it more.
noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(s.seed))
logits, xs = 4 * truth - 3 + 1.5 * noise, [0.02 * i for i in range(1, 50)]
curves = {f"{name_of(f)}, best at {max(xs, key=lambda t: float(f(logits, truth, t))):.2f}":
          (xs, [float(f(logits, truth, t)) for t in xs]) for f in (accuracy_thresh, fbeta)}
print(*curves, sep="\n")
show(chart(curves, "threshold", "score"), out / "thresholds.png")
