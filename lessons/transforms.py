"""Transforms: flip, rotate, zoom and warp are 3x3 matrices, and one sampling applies them all.

You turn a picture by hand, check ours against it, and then see what training makes of a tile and of
a street. Takes seconds. Read first: minifast/geometry.py, then minifast/transforms.py.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minifast.geometry import compose, dihedral, rotation, symmetric_warp, warp, zoom
from minifast.transforms import apply, get_transforms
from results import sheet, show
from sample_data import draw_street, draw_tile
from settings import read_settings


@dataclass
class Settings:
    seed: int = 4                # of the tile, the street, and what is drawn for them
    out: str = "runs/transforms"    # where the pictures go


s = read_settings(Settings, __doc__)
out = Path(s.out)

# %% By hand: turn a picture with one lit pixel by 90 degrees, counter-clockwise
# Do not ask where a pixel goes; ask for each new pixel where to look, and none stays empty. With
# (0, 0) in the centre and the edges at -1 and 1, the new pixel at (x, y) shows what was at (-y, x).
dot = torch.zeros(1, 3, 5, 5)
dot[:, :, 0, 2] = 1                                                     # top centre
by_hand = torch.zeros(5, 5)
for row in range(5):
    for column in range(5):
        x, y = column / 2 - 1, row / 2 - 1
        u, v = -y, x
        by_hand[row, column] = dot[0, 0, round(2 * v + 2), round(2 * u + 2)]
print(by_hand)

# %% Ours: the same for any angle, as a matrix times (x, y, 1); thanks to the 1 it could shift too
print(rotation(90).round().int())                                          # first row: u = -1 y
turned = warp(dot, rotation(90))
print("as by hand:", torch.allclose(turned[0, 0], by_hand, atol=1e-6))
show(sheet([dot[0], turned[0]], ["before", "rotation(90)"], 2), out / "by-hand.png")

# %% The eight ways to lay a square on itself: flips, and from k = 4 on a transposition too
tags = ["clear", "primary", "agriculture", "road", "water", "habitation"]
pixels = draw_tile(tags, 160, np.random.default_rng(s.seed))            # (h, w, 3) bytes
tile = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255            # (1, 3, h, w)
eight = warp(tile.expand(8, -1, -1, -1), dihedral(torch.arange(8)))
show(sheet(eight, [f"dihedral({k})" for k in range(8)], 4), out / "dihedral.png")

# %% Rotate, zoom, warp. In a product the first happens first; a warp comes last
turn, big, bend = rotation(20), zoom(1.5, row_pct=0, col_pct=1), symmetric_warp(-.3, .3, 0., 0.)
looks = {"as it was": torch.eye(3), "rotation(20)": turn, "zoom to the top right": big,
         "warp": bend, "all three": compose(turn, big, size=(160, 160)) @ bend}
for name, matrix in looks.items():
    print(f"{name}\n{matrix.numpy().round(3)}")
show(sheet([warp(tile, m)[0] for m in looks.values()], list(looks), 5), out / "matrices.png")

# %% One sampling or three: turn by 20 degrees and back in two steps, and you are where you were
# But each sampling blends neighbours, and what is blended does not come apart. A product is exact.
three = tile
for degrees in (20, -5, -15):
    three = warp(three, rotation(degrees))
once = warp(tile, rotation(20) @ rotation(-5) @ rotation(-15))
middle = [picture[0, :, 55:105, 55:105] for picture in (tile, three, once)]
print(f"off by {(middle[1] - middle[0]).abs().mean():.6f} after three samplings, "
      f"{(middle[2] - middle[0]).abs().mean():.6f} after one")
show(sheet(middle, ["as it was", "three samplings", "one sampling"], 3), out / "samplings.png")

# %% A picture and its mask: numbers are drawn once, and move both; light changes the picture alone
pixels, classes = draw_street(np.random.default_rng(s.seed))            # (h, w, 3), (h, w)
street = torch.from_numpy(pixels).permute(2, 0, 1).expand(4, -1, -1, -1) / 255      # (4, 3, h, w)
draws = get_transforms().draw(4, torch.Generator().manual_seed(s.seed))
print(draws)
streets, masks = apply(draws, street, torch.from_numpy(classes).expand(4, -1, -1))
greys = (masks / masks.max())[:, None].expand(-1, 3, -1, -1)            # a grey for each class
show(sheet([*streets, *greys], [f"picture {i % 4}" for i in range(8)], 4), out / "masks.png")

# %% From above there is no up, and a satellite looks straight down: all eight ways, and no warp
# On a street the sky is up, and a camera stands askew: flip left and right alone, but do warp.
for_tiles = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)
rng = torch.Generator().manual_seed(s.seed)
rows = [tfms(x.expand(4, -1, -1, -1), torch.zeros(4), rng)[0] for tfms, x in
        ((for_tiles, tile), (get_transforms(), street), (for_tiles, street))]
captions = ["flip_vert=True, max_warp=0"] * 4 + ["get_transforms()"] * 4 + ["no such street"] * 4
show(sheet([picture for row in rows for picture in row], captions, 4), out / "why.png")
