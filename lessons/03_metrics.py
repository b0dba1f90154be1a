"""Metrics: what a threshold does, why accuracy flatters, F2 by hand, and what partial is for.

For each tile and each tag, a model answers the question "does this tile have this tag?" You measure
how well it answers. The lesson takes seconds. Read next: minifast/metrics.py.
"""

from dataclasses import dataclass
from functools import partial

import torch

from minifast.metrics import accuracy_thresh, fbeta, metric, name_of, register
from minifast.targets import Tags
from minifast.tools.draw import chart
from kit.page import show, start_page
from kit.sample_data import planet_tags
from kit.settings import read_settings


@dataclass
class Settings:
    tiles: int = 1500            # how many tiles the last cells use
    seed: int = 42               # of their tags, and of an invented model's noise
    out: str = "runs/metrics"    # where the page and the picture go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% What a model gives for three tiles and four tags: logits. Sigmoid makes probabilities of them
logits = torch.tensor([[2, -1, -2, 0], [-3, 1, .5, -1.2], [-5, -5, -5, -5]])    # (n, c)
truth = torch.tensor([[1., 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]])               # (n, c)
probabilities = logits.sigmoid()
print("probabilities:", probabilities, "truth:", truth, sep="\n")

# %% A threshold turns a probability into yes or no. A low one gives more tags, right and wrong
for thresh in (0.5, 0.2):
    answers = (probabilities > thresh).float()
    right = (answers * truth).sum()
    print(f"above {thresh}: {answers.sum():g} tags, {right:g} of them right", answers.tolist())

# %% Accuracy: the share of all answers, yes or no, that are right
by_hand = (answers == truth).float().mean().item()
score = accuracy_thresh(logits, truth, 0.2)
print("by hand", by_hand, "ours", float(score))

# %% A metric tells you how the model does. It has no gradient, so it does not affect training
print("has a gradient:", accuracy_thresh(logits.requires_grad_(), truth).hits.requires_grad)

# %% A Score is a fraction, so the scores of batches can be added, also if a batch is smaller
first, second = (accuracy_thresh(logits[i], truth[i], 0.5) for i in (slice(2), slice(2, 3)))
print(first, "+", second, "=", float(first + second))
print("but the mean of the two is", (float(first) + float(second)) / 2)


# %% The lecture's question: a metric is called with two arguments, but this one needs a third
# So make a new function which calls the old one with its third argument set.
def acc_02_by_hand(logits, truth):
    return accuracy_thresh(logits, truth, thresh=0.2)


print("by hand", float(acc_02_by_hand(logits, truth)))

# %% partial makes such a function for you. It does nothing else
acc_02 = partial(accuracy_thresh, thresh=0.2)
print("as by hand:", float(acc_02(logits, truth)) == float(acc_02_by_hand(logits, truth)))
print("without partial, the threshold is 0.5:", float(accuracy_thresh(logits, truth)))

# %% The lecture also calls partial(fbeta, thresh=0.2). There 0.2 is what it has anyway
f_score = partial(fbeta, thresh=0.2)
print("as without:", float(f_score(logits, truth)) == float(fbeta(logits, truth)))

# %% The registry: give a metric a name, and get it by this name, with arguments preset if you like
register("acc_02", acc_02)
print(name_of(metric("acc_02")), name_of(metric("fbeta", thresh=0.5)), sep="\n")

# %% F2 by hand, for the first tile. Tags 0, 1 and 3 are predicted. Tags 0 and 3 are true
precision = 2 / 3                                   # two of three predicted tags are true
recall = 2 / 2                                      # both true tags are predicted
f1 = 2 * precision * recall / (precision + recall)
# F2 has beta = 2: recall is twice as important as precision.
f2 = (1 + 2 ** 2) * precision * recall / (2 ** 2 * precision + recall)
print(f"by hand F1 {f1:.6f} F2 {f2:.6f} ours {float(fbeta(logits[:1], truth[:1])):.6f}")

# %% Kaggle ranks by the mean of all tiles' F2
print(f"F2 of three tiles {float(fbeta(logits, truth)):.6f}")

# %% Why accuracy flatters: a tile has three of 17 tags. Predict no tag, and most answers are right
tags = planet_tags(s.tiles, s.seed)
target = Tags(sorted(set(sum(tags, []))))
truth = torch.stack([target.encode(each) for each in tags])                     # (n, c)
usual = (truth.mean(dim=0) > 0.5).float().expand_as(truth)
for name, answers in {"no tag": 0 * truth, "clear and primary": usual, "the truth": truth}.items():
    accuracy = float(accuracy_thresh(answers, truth, 0.2, sigmoid=False))
    f2 = float(fbeta(answers, truth, sigmoid=False))
    print(f"{name}: accuracy {accuracy:.3f}, F2 {f2:.3f}")

# %% Which threshold is best? Try them all, with an invented model: the truth and some noise
# Accuracy is nearly the same from 0.3 to 0.7. F2 wants a low threshold, because a missing tag costs
# more than a tag too many.
noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(s.seed))
logits = 4 * truth - 3 + 1.5 * noise
thresholds = [i / 50 for i in range(1, 50)]
curves = {}
for function in (accuracy_thresh, fbeta):
    scores = [float(function(logits, truth, thresh)) for thresh in thresholds]
    best = thresholds[scores.index(max(scores))]
    print(f"{name_of(function)}: best at {best:.2f}")
    curves[name_of(function)] = thresholds, scores
show(chart(curves, "threshold", "score"), out / "thresholds.png")
