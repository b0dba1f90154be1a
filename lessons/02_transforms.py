"""Transforms: flip, rotate, zoom and warp are 3x3 matrices, and one sampling applies them all.

You turn a picture by hand and compare it with ours. Then you look at what training makes of a tile
and of a street. The lesson takes seconds. Read next: minifast/geometry.py, minifast/transforms.py.
"""

from dataclasses import dataclass

import numpy as np
import torch

from minifast.geometry import compose, dihedral, rotation, symmetric_warp, warp, zoom
from minifast.images import to_pil
from minifast.tools.draw import grid, overlay
from minifast.transforms import apply, get_transforms
from kit.page import show, start_page
from kit.sample_data import draw_street, draw_tile
from kit.settings import read_settings


@dataclass
class Settings:
    seed: int = 27                  # of the tile, the street, and all random numbers
    out: str = "runs/transforms"    # where the page and the pictures go


s = read_settings(Settings, __doc__)
out = start_page(s.out)

# %% By hand: turn a picture with one white pixel by 90 degrees, counter-clockwise
# For each pixel of the new picture, ask where to look in the old one. So no new pixel stays empty.
# Coordinates go from -1 to 1, (0, 0) is the centre, and y points down. Here you look at (-y, x).
old, by_hand = torch.zeros(5, 5), torch.zeros(5, 5)
old[0, 2] = 1                                                       # top row, middle column
for row in range(5):
    for column in range(5):
        x, y = (column - 2) / 2, (row - 2) / 2
        look_x, look_y = -y, x
        by_hand[row, column] = old[round(2 * look_y + 2), round(2 * look_x + 2)]
print(by_hand)

# %% Ours: (look_x, look_y, 1) is a 3x3 matrix times (x, y, 1). Compare its rows with your formula
print(rotation(90).round())
turned = warp(old.expand(1, 3, 5, 5), rotation(90))                 # (n, 3, h, w)
print("as by hand:", torch.allclose(turned[0, 0], by_hand, atol=1e-6))

# %% A tile can lie in eight ways: four quarter turns, and the same mirrored. k is one of them
rng = np.random.default_rng(s.seed)
pixels = draw_tile(["clear", "primary", "agriculture", "road", "water", "habitation"], 160, rng)
tile = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255        # (1, 3, h, w)
eight = warp(tile.expand(8, 3, 160, 160), dihedral(torch.arange(8)))
show(grid([to_pil(x) for x in eight], [f"dihedral({k})" for k in range(8)], 4), out / "eight.png")

# %% Rotate and zoom. A warp is the view of a tilted camera: here, the right side looks nearer
# A matrix leads from the new picture to the old one. So a zoom by 1.5 has 1 / 1.5 in it. A warp is
# no affine matrix, since its last row is not (0, 0, 1). It is multiplied in after all others.
turn, big, tilt = rotation(20), zoom(1.5, row_pct=0, col_pct=1), symmetric_warp(-.3, .3, 0, 0)
print("rotation(20)", turn, "zoom", big, "symmetric_warp", tilt, sep="\n")
identity = compose()
seen = {"as it was": tile, "rotation(20)": warp(tile, turn), "zoom": warp(tile, big),
        "symmetric_warp": warp(tile, identity, perspective=tilt),
        "all three": warp(tile, compose(turn, big), perspective=tilt)}
show(grid([to_pil(x[0]) for x in seen.values()], list(seen), 5), out / "matrices.png")

# %% Why multiply matrices, and sample once? Each sampling mixes neighbouring pixels
# Turn by 20 degrees, back by 5, and back by 15. The product of these matrices changes nothing. But
# if you sample after each turn, you get a blurred tile.
three = warp(warp(warp(tile, rotation(20)), rotation(-5)), rotation(-15))
once = warp(tile, compose(rotation(20), rotation(-5), rotation(-15)))
middles = [x[0, :, 55:105, 55:105] for x in (tile, three, once)]    # far from the borders
for name, middle in zip(("three samplings", "one sampling"), middles[1:]):
    print(f"{name}: off by {(middle - middles[0]).abs().mean():.6f}")
show(grid([to_pil(x) for x in middles], ["as it was", "three samplings", "one sampling"], 3),
     out / "samplings.png")

# %% A mask has to move with its picture, so both get the same random numbers
pixels, classes = draw_street(np.random.default_rng(s.seed))        # (h, w, 3), (h, w)
street = (torch.from_numpy(pixels).permute(2, 0, 1) / 255).expand(4, -1, -1, -1)    # (4, 3, h, w)
mask = torch.from_numpy(classes).expand(4, -1, -1)                  # (4, h, w)
draws = get_transforms().draw(4, torch.Generator().manual_seed(s.seed))
print("mirrored", draws.k.tolist(), "turned by degrees", draws.degrees.numpy().round(1))
streets, masks = apply(draws, street, mask)
pictures = [overlay(to_pil(x), y) for x, y in zip([street[0], *streets], [mask[0], *masks])]
show(grid(pictures, ["as it was", "0", "1", "2", "3"], 5), out / "masks.png")

# %% Why is a mask never averaged? The mean of 1, a building, and 3, a road, would be 2, a pole
print("classes before:", mask.unique().tolist(), "after:", masks.unique().tolist())
print(len(warp(mask.float(), rotation(5)).unique()), "different numbers, if masks were averaged")

# %% Which transforms to use depends on the data
# Seen from above there is no up, so a tile may be flipped and turned. A satellite looks straight
# down and never takes a warped picture, so max_warp is 0. On a street, the sky is up, and cameras
# are tilted a little.
for_tiles = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)
for_streets = get_transforms()
for name, x, tfms in (("tiles", tile, for_tiles), ("streets", street[:1], for_streets),
                      ("a street treated as a tile", street[:1], for_tiles)):
    seen, _ = tfms(x.expand(5, -1, -1, -1), torch.zeros(5), torch.Generator().manual_seed(s.seed))
    show(grid([to_pil(x) for x in seen], [name] * 5, 5), out / f"{name}.png")
