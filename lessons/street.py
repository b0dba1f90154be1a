"""Draws a street as a driver sees it, in perspective, and an exact mask of what each pixel shows.

Everything stands somewhere, in metres: x to the right of the camera, y up from the road, z ahead.
It is painted from far to near, each shape on the picture and on the mask alike, in a colour (three
numbers 0..255); clouds, shadows, surfaces, blur and noise then change the picture alone.
"""

from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

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
