"""Draws sets in the lessons' layouts: tiles of an invented Amazon, and streets with masks.

The layouts are those of Kaggle's Planet competition, and of CamVid. Kaggle's licence does not let
us hand on its tiles; how often which tags meet is a fact, counted in its CSV. The tiles are
difficult: roads are a pixel wide, haze has all strengths, some tags are wrong.
"""

from argparse import ArgumentParser
from functools import partial
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from minifast.tools.draw import CLASS_COLOURS
from minifast.tools.files import write_atomic

WEATHER = ("clear", "partly_cloudy", "haze")        # and cloudy, which always comes alone
GROUND = dict(p="primary", a="agriculture", r="road", w="water", c="cultivation", h="habitation",
              b="bare_ground", l="selective_logging", m="artisinal_mine", f="blooming",
              s="slash_burn", x="conventional_mine", d="blow_down")
# "pr 235/102/41": 235 real tiles with primary and road are clear, 102 partly cloudy, 41 hazy.
COMBINATIONS = """p 13636/3630/1471; pw 1850/595/314; pa 1626/692/172; par 1680/527/130;
pac 1187/312/73; parh 1125/169/34; paw 712/196/103; prw 504/112/55; parw 449/115/41; pc 472/52/34;
parc 389/123/24; pr 235/102/41; parch 282/55/12; pawc 227/61/19; w 261/24/5; parwh 240/32/4;
pf 248/13/3; prh 194/20/15; pb 161/23/7; pah 145/27/15; pwc 136/15/11; pwm 141/15/4; pach 126/25/3;
parwc 92/24/8; prwh 106/9/8; pl 105/6/2; pawh 86/17/3; pwh 72/16/13; prl 89/5/1; ar 69/10/5;
b 71/4/7; parwch 69/9/2; pwb 58/7/9; pch 57/11/2; rh 64/2; prb 58/8; pd 55/9; a 46/15/3; arh 55/6/1;
pwch 53/0/2; prwm 44/4; pcs 32/10/2; pacs 33/10; parhb 31/3/2; parb 30/4/2; pab 27/4/5; rb 29;
prhb 21/3/2; pas 21/4; px 11/12/1; pacl 19/2; pcb 12/5/2; pwl 16/2; prwl 15/1/1; pm 15/1/1; pacb 16;
pacf 14/0/1; arb 13/1; pars 12/2; pad 11/3; pwf 13; prx 8/3/1; prhx 6/2; prwx 5/2"""
# What is drawn for a tag, from the ground up: how many; how far around one spot; radius, or half
# the width of a line; length / width, 99 for a line; how far borders stray, 0 for a rectangle; how
# much is hidden, in percent; two colours, to be mixed. Lengths are in hundredths of a tile side.
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
    """Draw n tiles into folder/train-jpg/train_<i>.jpg and write their tags to folder/train_v2.csv.

    n 1 or more; size 32..1024 pixels a side; seed 0 or more; returns the folder.
    Tile i depends on seed, size and i, not on n. A complete set is used again: see `prepared`.
    """
    folder = Path(folder)
    if not prepared(folder, "train_v2.csv", n=n, size=size, seed=seed):
        rows = ["image_name,tags"]
        for i, tags in enumerate(planet_tags(n, seed)):
            rng = np.random.default_rng([seed, i])
            tile = Image.fromarray(draw_tile(tags, size, rng))
            save_picture(folder / f"train-jpg/train_{i}.jpg", tile)
            if "cloudy" not in tags and rng.random() < 0.03:     # people err: a tag too few or many
                tags = {*tags} ^ {GROUND[rng.choice(list("arwch"))]}
            rows.append(f"train_{i},{' '.join(sorted(tags))}")
        write_atomic(folder / "train_v2.csv", ("\n".join(rows) + "\n").encode())
    return folder


def prepared(folder: Path, last: str, least: int = 1, **settings: int) -> bool:
    """Whether folder has a complete set with these settings; else it is made ready to take one.

    sample.json, written first, holds the settings; the file named `last` is written last. Raises
    ValueError where a setting is out of range (n: `least` or more), or the folder has something
    else than such a set.
    """
    for name, low, high in (("n", least, 10**6), ("size", 32, 1024), ("seed", 0, 2**32)):
        if not (isinstance(settings[name], int) and low <= settings[name] <= high):
            raise ValueError(f"{name} must be a whole number {low}..{high}, got {settings[name]!r}")
    note, text = folder / "sample.json", json.dumps({"last": last, **settings})
    if note.is_file() and note.read_text() == text:
        return (folder / last).is_file()
    if folder.is_file() or folder.is_dir() and any(not file.name.startswith(".")
                                                   for file in folder.iterdir()):
        raise ValueError(f"{folder} is no sample with {settings}: name another or delete it")
    write_atomic(note, text.encode())
    return False


def save_picture(file: Path, picture: Image.Image) -> None:
    """Write a picture in the format of its suffix, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, quality=90, compress_level=1)


def planet_tags(n: int, seed: int) -> list[list[str]]:
    """Tags of n tiles: one for weather, then the ground's; as in Planet, but for its rarest 2 %."""
    choices, counts = [["cloudy"]], [2089]
    for entry in COMBINATIONS.split(";"):
        letters, numbers = entry.split()
        for weather, number in zip(WEATHER, numbers.split("/")):
            choices.append([weather] + [GROUND[letter] for letter in letters])
            counts.append(int(number))
    # Steps of the golden ratio along 0..1 fall evenly everywhere, so any n has the right shares.
    points = (np.random.default_rng(seed).random() + np.arange(n) * (5 ** 0.5 - 1) / 2) % 1
    return [choices[k] for k in np.searchsorted(np.cumsum(counts) / sum(counts), points)]


def weather_in(tags: list[str]) -> str:
    """The weather among the tags of a tile."""
    return min({*WEATHER, "cloudy"} & {*tags})


def draw_tile(tags: list[str], size: int, rng: np.random.Generator) -> np.ndarray:
    """A picture, (size, size, 3) uint8, of a tile with these tags; rng decides everything else."""
    forest, soil = ((44, 66, 42), (78, 90, 56)), ((112, 98, 66), (168, 150, 112))
    base = rng.dirichlet((1, 1)) @ (forest if "primary" in tags else soil) + rng.normal(0, 4, 3)
    grain = rng.uniform(0.2, 0.5) * sum(noise(rng, size, cells) - 0.5 for cells in (7, 25, 80))
    picture, spot = base * (1 + grain), rng.uniform(0.2, 0.8, 2)          # (size, size, 3)
    for tag, many, spread, radius, stretch, ragged, strength, *colours in LAYERS:
        angle, cover = rng.uniform(0, np.pi), rng.uniform(*strength) / 100
        for _ in range(rng.integers(*many, endpoint=True) if tag in tags else 0):
            mask = shape(rng, size, rng.normal(spot, spread / 100), rng.normal(angle, 0.1),
                         rng.uniform(*radius), rng.uniform(*stretch), ragged)
            paint = rng.dirichlet((1, 1)) @ colours * (1 + grain / 2)     # any mixture of the two
            picture += cover * mask * (paint - picture)
    light = rng.normal(1, 0.12) * rng.normal(1, 0.03, 3)                  # of day and season
    return weathered(picture * light, tags, rng).clip(0, 255).astype(np.uint8)


def shape(rng, size, place, angle, radius, stretch, ragged) -> np.ndarray:
    """Mask (size, size, 1), 1 inside a field, patch or line, 0 outside; units as in LAYERS."""
    x, y = np.meshgrid(*(np.arange(size) / size - centre for centre in place))
    along = (np.cos(angle) * x + np.sin(angle) * y) / stretch
    across = np.cos(angle) * y - np.sin(angle) * x
    bend = ragged / 100 * (noise(rng, size, 4 if stretch == 99 else 16)[..., 0] - 0.5)
    round_or_straight = np.hypot if ragged else np.maximum
    distance = round_or_straight(np.abs(along), np.abs(across + bend))
    return np.clip((radius / 100 - distance) * size + 0.5, 0, 1)[..., None]


def weathered(picture: np.ndarray, tags: list[str], rng: np.random.Generator) -> np.ndarray:
    """The picture (size, size, 3) under a veil of haze, and clouds with their shadows."""
    size, step = len(picture), len(picture) // 12
    veil = rng.uniform(0.25, 0.6) if "haze" in tags else rng.uniform(0, 0.28)
    picture = picture + veil * (0.5 + noise(rng, size, 2)) * ((190, 202, 214) - picture)
    if "partly_cloudy" not in tags and "cloudy" not in tags:
        return picture
    puffs = sum(noise(rng, size + step, cells) / cells ** 0.8 for cells in (4, 7, 16, 40, 90))
    level = -1 if "cloudy" in tags else np.quantile(puffs, rng.uniform(0.55, 0.9))
    cloud = np.clip((puffs - level) / 0.12, 0, 1)
    white = rng.uniform(150, 215) + 120 * (puffs - puffs.mean())[step:, step:]
    cloud, shadow = cloud[step:, step:], cloud[:size, :size]             # (size, size, 1)
    return picture * (1 - 0.45 * shadow) * (1 - cloud) + white * cloud


def camvid(folder: Path | str, n: int = 300, size: int = 180, seed: int = 42) -> Path:
    """Draw n streets in CamVid's layout: images/street_<i>.png, labels/street_<i>_P.png (class
    numbers, with a palette), their names in codes.txt, and in valid.txt every fifth picture.

    n 5 or more; size 32..1024 rows; seed 0 or more; returns the folder.
    Street i depends on seed, size and i, not on n. A complete set is used again: see `prepared`.
    """
    folder = Path(folder)
    if not prepared(folder, "valid.txt", least=5, n=n, size=size, seed=seed):
        palette = b"".join(bytes(ImageColor.getrgb(colour)) for colour in CLASS_COLOURS)
        for i in range(n):
            picture, mask = draw_street(np.random.default_rng([seed, i]), size)
            save_picture(folder / f"images/street_{i:04}.png", Image.fromarray(picture))
            label = Image.fromarray(mask.astype(np.uint8)).convert("P")
            label.putpalette(palette)
            save_picture(folder / f"labels/street_{i:04}_P.png", label)
        valid = [f"street_{i:04}.png" for i in range(4, n, 5)]
        for name, lines in (("codes.txt", CODES), ("valid.txt", valid)):
            write_atomic(folder / name, ("\n".join(lines) + "\n").encode())
    return folder


# Streets: everything stands somewhere, in metres: x to the right of the camera, y up from the road,
# z ahead. It is painted from far to near, each shape on the picture and on the mask alike, in a
# colour (three numbers 0..255); clouds, shadows, surfaces, blur and noise change the picture alone.

CODES = ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
         "Pedestrian", "Bicyclist", "Void")
EYE = 1.4                                           # height of the camera
Point = tuple[float, float, float]


def draw_street(rng: np.random.Generator, rows: int = 180) -> tuple[np.ndarray, np.ndarray]:
    """A picture (rows, columns, 3) uint8 and its mask (rows, columns) int64, with the numbers that
    the classes have in CODES. There is a third more columns than rows."""
    street = Street(rng, rows)
    kerb, wall, grey = rng.uniform(2.8, 4.5), rng.uniform(6.5, 11), rng.uniform(70, 130)
    for name, x, colour in (("Pavement", 99, rng.normal(grey + 15, 12, 3)),
                            ("Road", kerb, rng.normal(grey, 4, 3))):
        street.flat(name, colour, -x, x, 0, 1, 400)
    for z in range(3, 90, 6):                                       # dashes in the middle
        street.flat("Road", (190, 190, 185), -.1, .1, 0, z, z + 2)
    things = [(130, partial(backdrop, street, rng))]
    for side in (-1, 1):
        z = rng.uniform(1.5, 8)
        while z < 110:
            kind, long = rng.choice([house, garden], p=[0.7, 0.3]), rng.uniform(7, 20)
            things.append((z + 1, partial(kind, street, rng, side * wall, z, long)))
            z += long
        for kind, every, near, far in (                             # metres between two, and where
                (tree, 25, kerb + .6, wall - .4), (pole, 15, kerb + .3, kerb + .7),
                (fence, 40, kerb + .2, kerb + .4), (person, 6, kerb + .5, wall - .3),
                (car, 16, kerb - 1.1, kerb - .9), (car, 50, 1.5, 1.8),
                (cyclist, 60, 2, kerb - .8), (rubbish, 12, kerb + .5, wall - .5)):
            z = 3 + rng.exponential(every)
            while z < 90:
                things.append((z, partial(kind, street, rng, side * rng.uniform(near, far), z)))
                z += 2 + rng.exponential(every)
    for _, draw in sorted(things, key=lambda thing: -thing[0]):     # from far to near
        draw()
    return street.photograph(rng), np.array(street.mask).astype(np.int64)


class Street:
    """A picture and its mask, seen by one camera in one light."""

    def __init__(self, rng: np.random.Generator, rows: int):
        columns = rows * 4 // 3
        self.light = rng.uniform(0.6, 1.1)
        self.sky = np.array((120, 155, 185)) + rng.random() * np.array((95, 70, 60))
        self.picture = Image.new("RGB", (columns, rows), tuple(self.sky.astype(int)))
        self.mask = Image.new("L", (columns, rows), CODES.index("Sky"))
        self.pens = [ImageDraw.Draw(self.picture), ImageDraw.Draw(self.mask)]
        self.focal = rng.uniform(0.75, 1.1) * columns
        self.vanishing = rng.uniform(0.35, 0.65) * columns, rng.uniform(0.38, 0.52) * rows

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Where a point is in the picture: (column, row)."""
        scale = self.focal / z
        return self.vanishing[0] + scale * x, self.vanishing[1] + scale * (EYE - y)

    def inks(self, name: str, colour: np.ndarray, z: float) -> tuple[tuple[int, ...], int]:
        """What to paint with: the colour, in this light and paler with distance; the class."""
        clear = np.exp(-z / 120)
        colour = clear * self.light * np.asarray(colour) + (1 - clear) * self.sky
        return tuple(colour.clip(0, 255).astype(int).tolist()), CODES.index(name)

    def shape(self, name: str, colour: np.ndarray, points: list[Point]) -> None:
        """A polygon; all its points are ahead."""
        corners, z = [self.pixel(*point) for point in points], min(point[2] for point in points)
        for pen, ink in zip(self.pens, self.inks(name, colour, z)):
            pen.polygon(corners, ink)

    def flat(self, name, colour, left, right, y, near, far) -> None:
        """A rectangle that lies."""
        self.shape(name, colour, [(left, y, near), (right, y, near), (right, y, far),
                                  (left, y, far)])

    def flank(self, name, colour, x, near, far, low, high) -> None:
        """An upright rectangle along the street."""
        self.shape(name, colour, [(x, low, near), (x, low, far), (x, high, far), (x, high, near)])

    def board(self, name, colour, x, y, z, wide, high) -> None:
        """An upright rectangle that faces the camera, with its lower edge's middle at a point."""
        left, right = x - wide / 2, x + wide / 2
        self.shape(name, colour, [(left, y, z), (right, y, z), (right, y + high, z),
                                  (left, y + high, z)])

    def ball(self, name, colour, x, y, z, wide, high) -> None:
        """An ellipse around a point."""
        corners = [*self.pixel(x - wide / 2, y + high / 2, z),
                   *self.pixel(x + wide / 2, y - high / 2, z)]
        for pen, ink in zip(self.pens, self.inks(name, colour, z)):
            pen.ellipse(corners, ink)

    def photograph(self, rng: np.random.Generator) -> np.ndarray:
        """The picture as a camera takes it: (rows, columns, 3) uint8."""
        columns, rows = self.picture.size
        sky = np.array(self.mask)[..., None] == CODES.index("Sky")
        clouds, shade, grain = (noise(rng, columns, cells)[:rows] for cells in (6, 5, 60))
        pixels = np.array(self.picture) * (1 + 0.25 * (grain - 0.5) * ~sky)
        pixels += sky * (clouds > 0.45) * (clouds - 0.45) * rng.uniform(0, 400) * (1, 0.97, 0.9)
        pixels *= 1 - rng.uniform(0, 0.5) * ~sky * np.clip((shade - 0.5) * 6, 0, 1)
        blurred = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(rows / 300))
        return (blurred + rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8)


def house(street: Street, rng: np.random.Generator, x: float, z: float, long: float) -> None:
    """From z on along the street, its front at x, and the end wall that faces the camera."""
    high, colour = rng.uniform(5, 16), rng.normal(rng.uniform(70, 190), 12, 3)
    far = z + long
    street.board("Building", 0.8 * colour, x + np.sign(x) * 6, 0, z, 12, high)
    street.flank("Building", colour, x, z, far, 0, high)
    pane = colour * rng.uniform(0.3, 0.7)
    for y in np.arange(1, high - 1.5, 3):
        for start in np.arange(z + 0.8, far - 1.5, rng.uniform(2.2, 3.2)):
            street.flank("Building", pane, x, start, start + 1.1, y, y + 1.7)


def garden(street: Street, rng: np.random.Generator, x: float, z: float, long: float) -> None:
    """Trees, and a fence or a hedge before them."""
    for far in sorted(rng.uniform(z, z + long, 3), reverse=True):
        tree(street, rng, x + np.sign(x) * rng.uniform(1, 5), far)
    name = rng.choice(["Fence", "Tree"])
    colour = rng.normal((50, 75, 40), 12)
    if name == "Fence":
        colour = rng.normal(rng.uniform(60, 180), 10, 3)
    street.flank(name, colour, x, z, z + long, 0, rng.uniform(1, 1.8))


def backdrop(street: Street, rng: np.random.Generator) -> None:
    """What closes the street far away: houses, and trees before them."""
    for x in np.arange(-150, 150, 12):
        street.board("Building", rng.normal(130, 25, 3), x, 0, 140, 12, rng.uniform(6, 16))
    for x in np.arange(-150, 150, 7):
        if rng.random() < 0.5:
            tree(street, rng, x, 131)


def tree(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """A trunk under a crown of leaves, light above and dark below."""
    high, wide = rng.uniform(4, 9), rng.uniform(1.2, 2.8)
    street.board("Tree", rng.normal((75, 60, 45), 10), x, 0, z, rng.uniform(.2, .5), high)
    colour = rng.normal((75, 100, 50), 18)
    for _ in range(rng.integers(12, 40)):
        dx, dy = rng.normal(0, wide / 2, 2)
        street.ball("Tree", colour * (1 + dy / 8) * rng.uniform(.6, 1.3), x + dx, high + dy, z,
                    *rng.uniform(wide / 3, wide, 2))


def pole(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """A lamp post, or a lower pole with a sign."""
    has_sign = rng.random() < 0.5
    high = rng.uniform(2.3, 3.2) if has_sign else rng.uniform(4.5, 8)
    street.board("Pole", rng.normal(rng.uniform(60, 150), 6, 3), x, 0, z, .16, high)
    if has_sign:
        paint = [(200, 40, 40), (40, 80, 180), (230, 230, 225), (220, 190, 50)][rng.integers(4)]
        shape = street.ball if rng.random() < 0.5 else street.board
        shape("SignSymbol", np.array(paint), x, high - .3, z, *rng.uniform(.7, 1.1, 2))
    else:
        street.board("Pole", rng.normal(90, 6, 3), x - np.sign(x) * .6, high - .1, z, 1.2, .2)


def fence(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Along the kerb."""
    long, high, colour = rng.uniform(4, 12), rng.uniform(.9, 1.2), rng.normal(110, 25, 3)
    street.flank("Fence", colour, x, z, z + long, 0, high)
    for start in np.arange(z, z + long, 0.5):
        street.board("Fence", 0.7 * colour, x, 0, start, .06, high)


def car(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Seen from behind, and from the side that the camera sees."""
    colour, (wide, high, long) = rng.uniform(30, 220, 3), rng.uniform((1.6, 1.35, 3.6), (2, 2, 5))
    side, waist = x - np.sign(x) * wide / 2, .6 * high
    street.flat("Car", 1.1 * colour, x - wide / 2, x + wide / 2, waist, z, z + long)
    for low, top, hood, ink in ((.25, waist, 0, colour), (waist, high, long / 5, colour * .45)):
        street.flank("Car", .8 * ink, side, z + hood, z + long - hood, low, top)
        street.board("Car", ink, x, low, z + hood, wide, top - low)
    for start in (z + .7, z + long - .8):
        street.ball("Car", np.full(3, 25), side, .3, start, .25, .6)
    for offset in (-.7, .7):
        street.board("Car", np.array((200, 40, 30)), x + offset * wide / 2, .5 * high, z, .25, .15)
        street.board("Car", np.full(3, 25), x + offset * wide / 2, 0, z, .25, .35)


def person(street: Street, rng: np.random.Generator, x: float, z: float,
           name: str = "Pedestrian", low: float = 0.) -> None:
    """Legs, a coat and a head, from `low` metres up."""
    tall, wide = rng.uniform(1.55, 1.9), rng.uniform(.4, .6)
    street.board(name, rng.uniform(20, 90, 3), x, low, z, wide * .7, tall * .5)
    street.board(name, rng.uniform(20, 200, 3), x, low + tall * .42, z, wide, tall * .43)
    street.ball(name, rng.normal((170, 130, 105), 12), x, low + tall * .93, z, .24, .26)


def cyclist(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """From behind: a wheel below, and a person."""
    street.ball("Bicyclist", np.full(3, 30), x, .35, z, .14, .7)
    person(street, rng, x, z, "Bicyclist", low=.3)


def rubbish(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """A bin, a sack or a box: something that has no class of its own."""
    street.board("Void", rng.uniform(30, 180, 3), x, 0, z, *rng.uniform(.5, 1.8, 2))


def noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise (size, size, 1), about 0..1: cells x cells random numbers, enlarged."""
    few = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(few.resize((size, size), Image.Resampling.BICUBIC))[..., None]


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.partition("\n\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for draw, n, size in ((planet, 1500, 128), (camvid, 300, 180)):
        flags = kinds.add_parser(draw.__name__)
        flags.add_argument("folder", type=Path)
        for name, usual in (("n", n), ("size", size), ("seed", 42)):
            flags.add_argument(f"--{name}", type=int, default=usual, help=f"default {usual}")
        flags.set_defaults(draw=draw)
    asked = parser.parse_args()
    folder = asked.draw(asked.folder, asked.n, asked.size, asked.seed)
    print(*sorted(folder.iterdir()), sep="\n")
