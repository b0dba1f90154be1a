"""Draws sets in the lessons' layouts: tiles of an invented Amazon, and streets with masks.

The layouts are those of Kaggle's Planet competition, and of CamVid. Kaggle's licence does not let
us hand on its tiles; how often which tags meet is a fact, counted in its CSV. The tiles are
difficult: roads are a pixel wide, haze has all strengths, some tags are wrong.
"""

from argparse import ArgumentParser
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from minifast.draw import CLASS_COLOURS
from minifast.files import save_picture, write_atomic
from street import CODES, draw_street, noise

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
