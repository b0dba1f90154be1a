"""Predict: what does a trained model say of your own pictures?

Give it a file that learn.export wrote (each walkthrough ends with one), and a picture or a folder:

    python lessons/predict.py runs/planet/model.pth my_tiles

It prints what it says of each, and draws the first of them. It takes seconds. Run first:
lessons/06_planet.py. Read first: minifast/extras/inference.py.
"""

from dataclasses import dataclass
from pathlib import Path
import sys

from minifast.extras.inference import load_learner
from minifast.images import open_image, to_pil
from minifast.listing import picture_files
from minifast.targets import Masks
from minifast.tools import check
from minifast.tools.draw import grid
from kit.page import show, start_page
from kit.settings import read_settings
from kit.stages import with_masks


# %% Settings
@dataclass
class Settings:
    model: str = "runs/planet/model.pth"                # a file of learn.export
    pictures: str = "runs/planet/tiles-1500/train-jpg"  # a picture, or a folder of them
    thresh: float = -1.0         # a tag is said above this probability; below 0: the model's own
    views: int = 1               # not of masks: the mean over 1, 2 (a mirror) or 8 views of each
    most: int = 12               # how many to draw
    out: str = "runs/predict"    # where the drawings go


s = read_settings(Settings, __doc__, bare=("model", "pictures"))
out = start_page(s.out)

# %% The model, and how it wants its pictures: all of that is in the file
try:
    model, pictures = load_learner(s.model), Path(s.pictures)
    check.exists("picture or folder", pictures, "check the path")
    files = picture_files(pictures) if pictures.is_dir() else [pictures]
except ValueError as error:
    sys.exit(f"predict.py: {error}")
thresh = model.thresh if s.thresh < 0 else s.thresh
print(f"{type(model.target).__name__} of {len(model.classes)} classes, size {model.size}")
is_mask = isinstance(model.target, Masks)
if is_mask and s.views != 1:
    sys.exit("--views is not for masks here; predict_files(files, views=2) takes them")

# %% A class or tags: many pictures at once, and each answer beside its file
if not is_mask:
    predictions = model.predict_files(files, views=s.views, skip_broken=True)
    said = model.target.decisions(predictions.probabilities, thresh)
    captions = [model.target.caption(row) for row in said]
    files = predictions.files
    for file, caption, likely in zip(files, captions, predictions.probabilities):
        likeliest = model.classes[likely.argmax()]
        print(f"{file.name}  {caption or '(no tag)'}  likeliest: {likeliest} {likely.max():.3f}")
    pictures = [to_pil(open_image(file, (160, 160))) for file in files[:s.most]]
    labels = [f"{file.name};{caption}" for file, caption in zip(files, captions)][:s.most]
    show(grid(pictures, labels, 4), out / "predictions.png")

# %% Masks: one picture after the other, each at its own size
if is_mask:
    for number, file in enumerate(files):
        caption, mask, _ = model.predict(file)
        print(f"{file.name}  {caption}")
        if number < s.most:
            show(with_masks(file, model.classes, prediction=mask),
                 out / f"mask-{number}-{file.stem}.png")
