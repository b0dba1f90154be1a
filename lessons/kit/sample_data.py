"""Draws practice data: satellite tiles of an invented Amazon, and streets with masks.

The files are laid out as in Kaggle's Planet competition and in CamVid, so lessons run without a
download. Kaggle's tiles must not be passed on, so only the counts of its tags are real. The tiles
are hard on purpose: roads are a pixel wide, haze can be thin or thick, and some tags are wrong.
"""

from argparse import SUPPRESS, ArgumentParser
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from minifast.tools.draw import CLASS_COLOURS
from minifast.tools.files import write_atomic

WEATHER = ("clear", "partly_cloudy", "haze")        # the fourth, cloudy, comes without other tags
GROUND = dict(p="primary", a="agriculture", r="road", w="water", c="cultivation", h="habitation",
              b="bare_ground", l="selective_logging", m="artisinal_mine", f="blooming",
              s="slash_burn", x="conventional_mine", d="blow_down")
# How many real tiles have which tags. "pr 235/102/41" means primary and road: 235 of these tiles
# are clear, 102 partly cloudy and 41 hazy. The rarest combinations, 2 % of all tiles, are left out.
COMBINATIONS = """p 13636/3630/1471; pw 1850/595/314; pa 1626/692/172; par 1680/527/130;
pac 1187/312/73; parh 1125/169/34; paw 712/196/103; prw 504/112/55; parw 449/115/41; pc 472/52/34;
parc 389/123/24; pr 235/102/41; parch 282/55/12; pawc 227/61/19; w 261/24/5; parwh 240/32/4;
pf 248/13/3; prh 194/20/15; pb 161/23/7; pah 145/27/15; pwc 136/15/11; pwm 141/15/4; pach 126/25/3;
parwc 92/24/8; prwh 106/9/8; pl 105/6/2; pawh 86/17/3; pwh 72/16/13; prl 89/5/1; ar 69/10/5;
b 71/4/7; parwch 69/9/2; pwb 58/7/9; pch 57/11/2; rh 64/2; prb 58/8; pd 55/9; a 46/15/3; arh 55/6/1;
pwch 53/0/2; prwm 44/4; pcs 32/10/2; pacs 33/10; parhb 31/3/2; parb 30/4/2; pab 27/4/5; rb 29;
prhb 21/3/2; pas 21/4; px 11/12/1; pacl 19/2; pcb 12/5/2; pwl 16/2; prwl 15/1/1; pm 15/1/1; pacb 16;
pacf 14/0/1; arb 13/1; pars 12/2; pad 11/3; pwf 13; prx 8/3/1; prhx 6/2; prwx 5/2"""
# What draw_tile paints for each tag, from the ground up: how many patches; how far they scatter
# around one spot; the radius of a patch or half the width of a line; length / width, 99 for a line;
# how ragged the border is, 0 for a rectangle; opacity in percent; two colours to mix. Lengths are
# in hundredths of a tile's side. The other pairs are ranges for a random number.
LAYERS = (
    ("agriculture", (2, 7), 25, (6, 16), (1, 3), 0, (35, 95), (178, 160, 115), (100, 125, 65)),
    ("cultivation", (4, 9), 18, (2, 5), (1, 2), 4, (40, 95), (165, 145, 100), (105, 130, 65)),
    ("bare_ground", (1, 2), 20, (6, 20), (1, 2), 9, (50, 95), (150, 110, 75), (196, 170, 135)),
    ("slash_burn", (1, 1), 0, (11, 15), (1, 2), 9, (50, 90), (135, 85, 60), (150, 110, 80)),
    ("slash_burn", (1, 1), 0, (8, 12), (1, 2), 9, (70, 99), (40, 34, 32), (70, 60, 55)),
    ("water", (1, 1), 15, (.8, 13), (99, 99), 50, (75, 99), (18, 26, 36), (125, 98, 62)),
    ("water", (0, 2), 30, (2, 10), (1, 2), 6, (75, 99), (18, 26, 36), (90, 84, 66)),
    ("conventional_mine", (5, 9), 5, (5, 14), (1, 2), 3, (40, 90), (110, 106, 99), (215, 210, 205)),
    ("artisinal_mine", (3, 7), 12, (3, 7), (1, 3), 8, (60, 90), (190, 170, 130), (220, 205, 175)),
    ("artisinal_mine", (4, 9), 12, (1, 3), (1, 2), 3, (70, 99), (80, 140, 130), (140, 185, 170)),
    ("selective_logging", (1, 3), 9, (.3, .4), (99, 99), 9, (30, 60), (99, 85, 70), (170, 150, 99)),
    ("selective_logging", (4, 9), 20, (1, 2), (1, 2), 2, (30, 70), (150, 125, 95), (170, 150, 110)),
    ("blooming", (15, 40), 30, (1, 2), (1, 1), 1, (50, 90), (215, 205, 120), (225, 220, 200)),
    ("blow_down", (9, 18), 10, (.6, 1.2), (5, 12), 2, (40, 70), (150, 150, 110), (175, 165, 135)),
    ("road", (1, 1), 5, (.3, .9), (99, 99), 12, (40, 95), (190, 170, 135), (140, 120, 100)),
    ("road", (0, 2), 10, (.3, .5), (99, 99), 12, (35, 90), (190, 170, 135), (140, 120, 100)),
    ("habitation", (6, 30), 7, (.5, 1.2), (1, 2), 0, (50, 99), (238, 234, 228), (165, 135, 120)),
)


def planet(folder: Path | str, n: int = 1500, size: int = 128, seed: int = 42) -> Path:
    """Draw n tiles, size pixels high and wide, in the layout of Kaggle's Planet competition: files
    train-jpg/train_<i>.jpg, and train_v2.csv with their tags. Tile i depends on seed, size and i,
    but not on n. A complete set is not drawn again. Returns the folder."""
    folder = Path(folder)
    if is_drawn(folder, "train_v2.csv", 1, n=n, size=size, seed=seed):
        return folder
    (folder / "train-jpg").mkdir(exist_ok=True)
    rows = ["image_name,tags"]
    for i, tags in enumerate(planet_tags(n, seed)):
        rng = np.random.default_rng([seed, i])
        tile = Image.fromarray(draw_tile(tags, size, rng))
        tile.save(folder / f"train-jpg/train_{i}.jpg", quality=90)
        if "cloudy" not in tags and rng.random() < 0.03:    # a wrong label: one tag too few or many
            tags = {*tags} ^ {GROUND[rng.choice(list("arwch"))]}
        rows.append(f"train_{i},{' '.join(sorted(tags))}")
    write_atomic(folder / "train_v2.csv", "\n".join([*rows, ""]).encode())
    return folder


def is_drawn(folder: Path, last: str, least_n: int, **settings: int) -> bool:
    """Whether the folder has a complete set with these settings. If not, get it ready for one.
    sample.json is written first and holds the settings; the file `last` is written last. Raises
    ValueError if a setting is too small, or if drawing could overwrite something else."""
    for name, least in (("n", least_n), ("size", 32), ("seed", 0)):
        if not isinstance(settings[name], int) or settings[name] < least:
            raise ValueError(f"{name} must be a whole number {least} or more: {settings[name]!r}")
    note, text = folder / "sample.json", json.dumps({"last": last, **settings})
    if note.is_file() and note.read_text() == text:
        return (folder / last).is_file()
    if any(folder.glob("[!.]*")):                           # hidden files do not count
        raise ValueError(f"{folder} is no sample with {settings}: name another or delete it")
    write_atomic(note, text.encode())
    return False


def planet_tags(n: int, seed: int) -> list[list[str]]:
    """The tags of n tiles, each combination as often as in Planet. The weather comes first."""
    choices, counts = [["cloudy"]], [2089]
    for entry in COMBINATIONS.split(";"):
        letters, numbers = entry.split()
        for weather, number in zip(WEATHER, numbers.split("/")):
            choices.append([weather] + [GROUND[letter] for letter in letters])
            counts.append(int(number))
    # Steps of the golden ratio cover 0..1 evenly, so the shares are right even for a small n.
    points = (np.random.default_rng(seed).random() + np.arange(n) * (5 ** 0.5 - 1) / 2) % 1
    return [choices[k] for k in np.searchsorted(np.cumsum(counts) / sum(counts), points)]


def weather_in(tags: list[str]) -> str:
    """The one tag of a tile that tells its weather."""
    return min({*WEATHER, "cloudy"} & {*tags})


def draw_tile(tags: list[str], size: int, rng: np.random.Generator) -> np.ndarray:
    """A tile with these tags, (size, size, 3) uint8. Everything else about it is random."""
    forest, soil = ((44, 66, 42), (78, 90, 56)), ((112, 98, 66), (168, 150, 112))
    base = rng.dirichlet((1, 1)) @ (forest if "primary" in tags else soil) + rng.normal(0, 4, 3)
    grain = rng.uniform(0.2, 0.5) * sum(noise(rng, size, cells) - 0.5 for cells in (7, 25, 80))
    picture = base * (1 + grain)                                          # (size, size, 3)
    spot = rng.uniform(0.2, 0.8, 2)                                       # most patches are near
    for tag, many, spread, radius, stretch, ragged, opacity, *colours in LAYERS:
        angle, cover = rng.uniform(0, np.pi), rng.uniform(*opacity) / 100
        for _ in range(rng.integers(*many, endpoint=True) if tag in tags else 0):
            mask = patch(rng, size, rng.normal(spot, spread / 100), rng.normal(angle, 0.1),
                         rng.uniform(*radius), rng.uniform(*stretch), ragged)
            paint = rng.dirichlet((1, 1)) @ colours * (1 + grain / 2)     # any mixture of the two
            picture += cover * mask * (paint - picture)
    light = rng.normal(1, 0.12) * rng.normal(1, 0.03, 3)                  # day and season vary
    return weathered(picture * light, tags, rng).clip(0, 255).astype(np.uint8)


def patch(rng, size, centre, angle, radius, stretch, ragged) -> np.ndarray:
    """Where a patch or line is: (size, size, 1), 1 inside and 0 outside. Units as in LAYERS."""
    x, y = np.meshgrid(*(np.arange(size) / size - middle for middle in centre))
    along = (np.cos(angle) * x + np.sin(angle) * y) / stretch
    across = np.cos(angle) * y - np.sin(angle) * x
    bend = ragged / 100 * (noise(rng, size, 4 if stretch == 99 else 16)[..., 0] - 0.5)
    round_or_straight = np.hypot if ragged else np.maximum
    distance = round_or_straight(np.abs(along), np.abs(across + bend))
    return np.clip((radius / 100 - distance) * size + 0.5, 0, 1)[..., None]


def weathered(picture: np.ndarray, tags: list[str], rng: np.random.Generator) -> np.ndarray:
    """The picture (size, size, 3) seen through haze, and with clouds and their shadows."""
    size, step = len(picture), len(picture) // 12                         # shadows lie a step away
    veil = rng.uniform(0.25, 0.6) if "haze" in tags else rng.uniform(0, 0.28)
    picture = picture + veil * (0.5 + noise(rng, size, 2)) * ((190, 202, 214) - picture)
    if "partly_cloudy" not in tags and "cloudy" not in tags:
        return picture
    puffs = sum(noise(rng, size + step, cells) / cells ** 0.8 for cells in (4, 7, 16, 40, 90))
    level = -1 if "cloudy" in tags else np.quantile(puffs, rng.uniform(0.55, 0.9))
    cloud = np.clip((puffs - level) / 0.12, 0, 1)
    white = rng.uniform(150, 215) + 120 * (puffs - puffs.mean())[step:, step:]
    cloud, shadow = cloud[step:, step:], cloud[:size, :size]              # (size, size, 1)
    return picture * (1 - 0.45 * shadow) * (1 - cloud) + white * cloud


def noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise (size, size, 1), about 0..1: cells x cells random numbers, enlarged."""
    few = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(few.resize((size, size), Image.Resampling.BICUBIC))[..., None]


def camvid(folder: Path | str, n: int = 300, size: int = 180, seed: int = 42) -> Path:
    """Draw n streets, size pixels high, in CamVid's layout: pictures images/street_<i>.png, masks
    labels/street_<i>_P.png of class numbers, the classes' names in codes.txt, and every fifth
    picture's name in valid.txt. Street i depends on seed, size and i, but not on n. A complete set
    is not drawn again. Returns the folder."""
    folder = Path(folder)
    if is_drawn(folder, "valid.txt", 5, n=n, size=size, seed=seed):
        return folder
    for name in ("images", "labels"):
        (folder / name).mkdir(exist_ok=True)
    palette = b"".join(bytes(ImageColor.getrgb(colour)) for colour in CLASS_COLOURS)
    for i in range(n):
        picture, mask = draw_street(np.random.default_rng([seed, i]), size)
        label = Image.fromarray(mask.astype(np.uint8))
        label.putpalette(palette)                           # image viewers show classes as colours
        Image.fromarray(picture).save(folder / f"images/street_{i:04}.png", compress_level=1)
        label.save(folder / f"labels/street_{i:04}_P.png", compress_level=1)
    valid = [f"street_{i:04}.png" for i in range(4, n, 5)]
    write_atomic(folder / "codes.txt", "\n".join([*CODES, ""]).encode())
    write_atomic(folder / "valid.txt", "\n".join([*valid, ""]).encode())
    return folder


CODES = ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
         "Pedestrian", "Bicyclist", "Void")


def draw_street(rng: np.random.Generator, rows: int = 180) -> tuple[np.ndarray, np.ndarray]:
    """A picture (rows, columns, 3) uint8 and its mask (rows, columns) int64, indices in CODES."""
    street = Street(rng, rows)
    kerb, wall, grey = rng.uniform(2.8, 4.5), rng.uniform(6.5, 11), rng.uniform(70, 130)
    street.box("Pavement", rng.normal(grey + 15, 12, 3), (0, 0, 1), (200, 0, 400))
    street.box("Road", rng.normal(grey, 4, 3), (0, 0, 1), (2 * kerb, 0, 400))
    for z in range(3, 90, 6):                                   # white dashes in the middle
        street.box("Road", (175, 175, 170), (0, 0, z), (.2, 0, 2))
    for x in range(-120, 121, 8):                               # houses at the far end
        street.house(x, 140, long=0)
    for side in (-1, 1):
        long = rng.uniform(7, 20)
        for z in np.arange(rng.uniform(1.5, 8), 110, long)[::-1]:
            plot = street.house if rng.random() < 0.65 else street.garden
            plot(side * wall, z, long)
    for z in np.arange(rng.uniform(89, 90), 3, -1):             # a metre nearer at each step
        for kind, every, near, far in (     # one in so many metres, and its least and greatest x
                (street.tree, 35, kerb + .6, wall - .4), (street.pole, 18, kerb + .3, kerb + .7),
                (street.person, 11, kerb + .5, wall - .3), (street.car, 18, kerb - 1.1, kerb - .9),
                (street.car, 50, 1.5, 1.8), (street.cyclist, 65, 2, kerb - .8),
                (street.rubbish, 20, kerb + .5, wall - .5)):
            for side in (-1, 1):
                if rng.random() < 1 / every:
                    kind(side * rng.uniform(near, far), z)
    return street.photograph(), np.array(street.mask).astype(np.int64)


class Street:
    """A picture and its mask. Paint from far to near, so that near things hide those behind them.
    A place (x, y, z) is in metres: x to the right of the camera, y up from the road, z ahead of the
    camera. A size is (width, height, length) in metres. A colour is three numbers, 0..255."""

    def __init__(self, rng: np.random.Generator, rows: int):
        columns = rows * 4 // 3
        self.rng = rng
        self.light = rng.uniform(0.6, 1.1)
        self.sky = np.array((120, 155, 185)) + rng.random() * np.array((95, 70, 60))
        self.picture = Image.new("RGB", (columns, rows), tuple(self.sky.astype(int)))
        self.mask = Image.new("L", (columns, rows), CODES.index("Sky"))
        self.pens = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.mask)
        self.focal = rng.uniform(0.75, 1.1) * columns
        self.vanishing = rng.uniform(0.35, 0.65) * columns, rng.uniform(0.38, 0.52) * rows

    def paint(self, shape: str, name: str, colour, places: list) -> None:
        """Paint a "polygon" or "ellipse" on picture and mask. Far ones are paler, as in haze."""
        z = places[0][2]
        clear = np.exp(-z / 120)
        colour = clear * self.light * np.array(colour) + (1 - clear) * self.sky
        inks = tuple(colour.clip(0, 255).astype(int).tolist()), CODES.index(name)
        column, row = self.vanishing
        points = [(column + self.focal * x / z, row + self.focal * (1.4 - y) / z)
                  for x, y, z in places]                    # the camera is 1.4 m above the road
        for pen, ink in zip(self.pens, inks):
            getattr(pen, shape)(points, ink)

    def box(self, name: str, colour, place, size) -> None:
        """Paint a box. The middle of its lower front edge is at `place`. One number of `size` can
        be 0: a road has no height, and a window has no width."""
        (x, low, near), (wide, high, long) = place, size
        left, right, top, far = x - wide / 2, x + wide / 2, low + high, near + long
        seen = left if x > 0 else right                     # the camera sees one side only
        lid = [(left, top, near), (right, top, near), (right, top, far), (left, top, far)]
        side = [(seen, low, near), (seen, top, near), (seen, top, far), (seen, low, far)]
        front = [(left, low, near), (right, low, near), (right, top, near), (left, top, near)]
        # The lid comes first: if it is above the camera, side and front hide it.
        for area, shade, corners in ((wide * long, 1.1, lid), (high * long, 0.8, side),
                                     (wide * high, 1, front)):
            if area > 0:
                self.paint("polygon", name, np.multiply(colour, shade), corners)

    def ball(self, name: str, colour, place, wide: float, high: float) -> None:
        """Paint an ellipse around a place."""
        x, y, z = place
        self.paint("ellipse", name, colour, [(x - wide / 2, y + high / 2, z),
                                             (x + wide / 2, y - high / 2, z)])

    def house(self, x: float, z: float, long: float) -> None:
        """A house with windows. Its front is at x and faces the street."""
        high, colour = self.rng.uniform(5, 16), self.rng.normal(self.rng.uniform(80, 200), 12, 3)
        self.box("Building", colour, (x + np.sign(x) * 10, 0, z), (20, high, long))
        pane, step = colour * self.rng.uniform(0.3, 0.7), self.rng.uniform(2.2, 3.2)
        for y in np.arange(1, high - 1.5, 3):
            for start in np.arange(z + 0.8, z + long - 1.5, step):
                self.box("Building", pane, (x, y, start), (0, 1.7, 1.1))

    def garden(self, x: float, z: float, long: float) -> None:
        """Three trees behind a fence."""
        for part in (0.9, 0.5, 0.1):
            self.tree(x + np.sign(x) * self.rng.uniform(1, 5), z + part * long)
        self.box("Fence", self.rng.normal(110, 25, 3), (x, 0, z), (0, 1.6, long))

    def tree(self, x: float, z: float) -> None:
        """A trunk with a crown of leaves, light at the top and dark at the bottom."""
        high, wide = self.rng.uniform(4, 9), self.rng.uniform(1.2, 2.8)
        self.box("Tree", self.rng.normal((75, 60, 45), 10), (x, 0, z), (wide / 6, high, 0))
        colour = self.rng.normal((75, 100, 50), 18)
        for _ in range(self.rng.integers(12, 40)):
            (dx, dy), shade = self.rng.normal(0, wide / 2, 2), self.rng.uniform(0.6, 1.3)
            self.ball("Tree", colour * shade * (1 + dy / 8), (x + dx, high + dy, z),
                      *self.rng.uniform(wide / 3, wide, 2))

    def pole(self, x: float, z: float) -> None:
        """A low pole with a sign, or a high one with a lamp over the road."""
        high, grey = self.rng.uniform(2, 7), self.rng.normal(self.rng.uniform(60, 150), 6, 3)
        self.box("Pole", grey, (x, 0, z), (.16, high, 0))
        if high > 4:
            self.box("Pole", grey, (x - np.sign(x) * .6, high, z), (1.2, .2, 0))
        else:
            red_or_blue = self.rng.choice([(200, 40, 40), (40, 80, 180)])
            self.ball("SignSymbol", red_or_blue, (x, high, z), 1, 1)

    def car(self, x: float, z: float) -> None:
        """A car seen from behind."""
        wide, high, long = self.rng.uniform((1.6, 1.35, 3.6), (2, 2, 5))
        colour, black, waist = self.rng.uniform(30, 220, 3), np.full(3, 25), .6 * high
        self.box("Car", black, (x, 0, z), (.8 * wide, .25, long))       # wheels and shadow
        self.box("Car", colour, (x, .25, z), (wide, waist - .25, long))
        self.box("Car", .45 * colour, (x, waist, z + long / 5), (wide, high - waist, long * .6))
        for start in (z + .7, z + long - .8):
            self.ball("Car", black, (x - np.sign(x) * wide / 2, .3, start), .25, .6)
        for offset in (-.35, .35):                                      # the lights
            self.box("Car", (200, 40, 30), (x + offset * wide, .5 * high, z), (.25, .15, 0))

    def person(self, x: float, z: float, name: str = "Pedestrian", low: float = 0) -> None:
        """Legs, a coat and a head. The feet are `low` metres above the ground."""
        tall, wide = self.rng.uniform(1.55, 1.9), self.rng.uniform(.4, .6)
        self.box(name, self.rng.uniform(20, 90, 3), (x, low, z), (wide * .7, tall * .5, 0))
        self.box(name, self.rng.uniform(20, 200, 3), (x, low + tall * .4, z), (wide, tall * .45, 0))
        self.ball(name, self.rng.normal((170, 130, 105), 12), (x, low + tall * .93, z), .24, .26)

    def cyclist(self, x: float, z: float) -> None:
        """A person on a bicycle, seen from behind."""
        self.ball("Bicyclist", np.full(3, 30), (x, .35, z), .14, .7)
        self.person(x, z, "Bicyclist", low=.3)

    def rubbish(self, x: float, z: float) -> None:
        """A bin or a crate. These have no class of their own, so they are Void."""
        self.box("Void", self.rng.uniform(30, 180, 3), (x, 0, z), self.rng.uniform(.4, 1.4, 3))

    def photograph(self) -> np.ndarray:
        """The picture with clouds, shadows, blur and noise: (rows, columns, 3) uint8."""
        columns, rows = self.picture.size
        sky = np.array(self.mask)[..., None] == CODES.index("Sky")
        clouds, shade, grain = (noise(self.rng, columns, cells)[:rows] for cells in (6, 5, 60))
        pixels = np.array(self.picture) * (1 + 0.25 * (grain - 0.5) * ~sky)
        pixels += sky * np.maximum(clouds - 0.45, 0) * self.rng.uniform(0, 300)
        pixels *= 1 - self.rng.uniform(0, 0.5) * ~sky * np.clip((shade - 0.5) * 6, 0, 1)
        sharp = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        blurred = sharp.filter(ImageFilter.GaussianBlur(rows / 300))
        return (blurred + self.rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.partition("\n\n")[0], argument_default=SUPPRESS)
    parser.add_argument("kind", choices=["planet", "camvid"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, help="default: 1500 tiles or 300 streets")
    parser.add_argument("--size", type=int, help="height in pixels, default: 128 or 180")
    parser.add_argument("--seed", type=int, help="default: 42")
    settings = vars(parser.parse_args())        # without the flags that were not given
    draw = planet if settings.pop("kind") == "planet" else camvid
    print(*sorted(draw(**settings).iterdir()), sep="\n")
