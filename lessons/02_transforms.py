"""Transforms: flip, rotate, zoom and warp are 3x3 matrices, and one sampling applies them all.

You turn a picture by hand, check ours against it, and then see what training makes of a tile and of
a street. Takes seconds. Read first: minifast/geometry.py, then minifast/transforms.py.
"""

from dataclasses import dataclass

import numpy as np
import torch

from minifast.geometry import compose, dihedral, rotation, symmetric_warp, warp, zoom
from minifast.images import to_pil
from minifast.tools.draw import grid, overlay
from minifast.transforms import apply, get_transforms
from kit.page import sheet, show, start_page
from kit.sample_data import draw_street, draw_tile
from kit.settings import read_settings


@dataclass
class Settings:
    seed: int = 27               # of the tile, the street, and what is drawn for them
    out: str = "runs/transforms"    # where the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% By hand: turn a picture with one lit pixel by 90 degrees, counter-clockwise
# Do not ask where a pixel goes; ask for each new one where to look, and none stays empty. Say that
# (0, 0) is the centre, -1 and 1 are the outermost pixels, y points down: look at (u, v) = (-y, x).
dot, by_hand = torch.zeros(1, 3, 5, 5), torch.zeros(5, 5)
dot[:, :, 0, 2] = 1                                                     # top centre
for row, column in np.ndindex(5, 5):
    x, y = column / 2 - 1, row / 2 - 1
    u, v = -y, x
    by_hand[row, column] = dot[0, 0, round(2 * (v + 1)), round(2 * (u + 1))]
print(by_hand)

# %% Ours, for any angle: (u, v, 1) is a matrix times (x, y, 1); its last column could shift
turned = warp(dot, rotation(90))                                        # u = 0 x - 1 y + 0
print(rotation(90).round().int(), "as by hand:", torch.allclose(turned[0, 0], by_hand, atol=1e-6))
show(sheet([dot[0], turned[0]], ["before", "rotation(90)"], 2), out / "by-hand.png")

# %% The eight ways to lay a square on itself: flips, and from 4 on rows and columns change places
tags = ["clear", "primary", "agriculture", "road", "water", "habitation"]
pixels = draw_tile(tags, 160, np.random.default_rng(s.seed))            # (h, w, 3) bytes
tile = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255            # (1, 3, h, w)
eight = warp(tile.expand(8, -1, -1, -1), dihedral(torch.arange(8)))
show(sheet(eight, [f"dihedral({k})" for k in range(8)], 4), out / "dihedral.png")

# %% Rotate, zoom, and warp: the perspective of a tilted camera, which sees more of the right side
# A matrix leads from the new picture back to the old. So zoom by 1.5 has 1 / 1.5, what is first in
# a product happens first, and a warp, by its last row not affine, goes after (compose(): nothing).
turn, big, tilt = rotation(20), zoom(1.5, row_pct=0, col_pct=1), symmetric_warp(-.3, .3, 0, 0)
seen = {"as it was": tile, "rotation(20)": warp(tile, turn), "zoom": warp(tile, big),
        "symmetric_warp": warp(tile, compose(), perspective=tilt),
        "all three": warp(tile, compose(turn, big), perspective=tilt)}
print("rotation(20)", turn, "zoom", big, "symmetric_warp", tilt, "all", turn @ big @ tilt, sep="\n")
show(sheet(torch.cat([*seen.values()]), list(seen), 5), out / "matrices.png")

# %% Turn by 20 degrees, back by 5, by 15: nothing happened, yet each sampling blended neighbours
three = warp(warp(warp(tile, rotation(20)), rotation(-5)), rotation(-15))
once = warp(tile, compose(rotation(20), rotation(-5), rotation(-15)))
middle = [x[0, :, 55:105, 55:105] for x in (tile, three, once)]         # far from borders
print("off by", *(f"{(x - middle[0]).abs().mean():.6f}" for x in middle))
show(sheet(middle, ["as it was", "three samplings", "one sampling"], 3), out / "samplings.png")

# %% A picture and its mask move alike, since what is drawn at random is drawn once for both
# Light is for the picture alone; a mask takes the nearest pixel: between class 1 and 3 lies no 2.
pixels, classes = draw_street(np.random.default_rng(s.seed))            # (h, w, 3), (h, w)
street = torch.from_numpy(pixels).permute(2, 0, 1).expand(4, -1, -1, -1) / 255      # (4, 3, h, w)
mask = torch.from_numpy(classes).expand(4, -1, -1)                      # (4, h, w)
draws = get_transforms().draw(4, torch.Generator().manual_seed(s.seed))
print("drawn for four pictures: flipped", draws.k.tolist(), "turned by degrees", draws.degrees)
streets, masks = apply(draws, street, mask)
print("classes", masks.unique().tolist(), "blended", len(warp(mask / 1, rotation(5)).unique()))
pictures = [to_pil(x) for x in (street[0], *streets)]
pictures += map(overlay, pictures, (mask[0], *masks))
show(grid(pictures, ["as it was", *"0123"] * 2, 5), out / "masks.png")

# %% From above there is no up, and a satellite looks straight down: all eight ways, and no warp
# On a street the sky is up, and cameras tilt. Last, not-streets.png: a street treated as a tile
for_tiles = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)
for name, tfms, x in (("tiles", for_tiles, tile), ("streets", get_transforms(), street[:1]),
                      ("not-streets", for_tiles, street[:1])):
    seen, _ = tfms(x.expand(5, -1, -1, -1), torch.zeros(5), torch.Generator().manual_seed(s.seed))
    show(sheet([x[0], *seen], ["as it was"] + [""] * 5, 6), out / f"{name}.png")
