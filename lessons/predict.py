"""Predict: what does a trained model say about your own pictures?

Give it a file that learn.export wrote, as each walkthrough does, and a picture or a folder:

    python lessons/predict.py runs/planet/model.pth my_tiles

It prints an answer for each picture, and draws the first ones. Run lessons/06_planet.py first. Read
next: minifast/extras/inference.py.
"""

from dataclasses import dataclass
from pathlib import Path
import sys

from minifast.extras.inference import load_learner
from minifast.images import open_image, to_pil
from minifast.listing import picture_files
from minifast.targets import Masks
from minifast.tools import check
from minifast.tools.draw import grid, overlay, with_legend
from kit.page import show, start_page
from kit.settings import read_settings


# %% Settings
@dataclass
class Settings:
    model: str = "runs/planet/model.pth"                # a file that learn.export wrote
    pictures: str = "runs/planet/tiles-950-104/train-jpg"   # a picture, or a folder of them
    thresh: float = -1.0         # tags above this probability are predicted; -1: the model's own
    views: int = 1               # average over 1, 2 (mirrored) or 8 views of each; not for masks
    most: int = 12               # how many to draw
    out: str = "runs/predict"    # where the page and the drawings go


s = read_settings(Settings, __doc__, bare=("model", "pictures"))

# %% The model. Its file says how large pictures should be, and how to normalize them
try:
    model, pictures = load_learner(s.model), Path(s.pictures)
    check.exists("picture or folder", pictures, "check the path")
    files = picture_files(pictures) if pictures.is_dir() else [pictures]
except ValueError as error:
    sys.exit(f"predict.py: {error}")
out = start_page(s.out)
thresh = model.thresh if s.thresh < 0 else s.thresh
print(type(model.target).__name__, "of", len(model.classes), "classes, size", model.size)
is_mask = isinstance(model.target, Masks)
if is_mask and s.views != 1:
    sys.exit("--views is not for masks; predict_files(files, views=2) takes them")

# %% Tags, or a class: many pictures at once, and an answer for each
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

# %% Masks: one picture after the other, each at its own size, since sizes may differ
if is_mask:
    for number, file in enumerate(files):
        caption, mask, _ = model.predict(file)
        print(f"{file.name}  {caption}")
        if number < s.most:
            picture = to_pil(open_image(file))
            drawn = grid([picture, overlay(picture, mask)], [file.name, "prediction"], columns=2)
            show(with_legend(drawn, model.target.names_in(mask)),
                 out / f"mask-{number}-{file.stem}.png")
