"""Look at all files and labels before training: what would stop it, and what would spoil it."""

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy
from PIL import Image

from minifast.databunch import DataBunch
from minifast.images import header, open_mask
from minifast.loader import Loader
from minifast.targets import Masks
from minifast.tools import check
from minifast.tools.progress import bar

FEW = 10            # warn of a class that fewer training pictures have
BLENDED = 0.25      # suspect a mask if blended(mask) is above this; real masks reach 0.05

# What can be found. An error would stop training; all else is a warning.
ERRORS = ["broken", "sizes", "mask sizes", "numbers"]
FINDINGS = {
    "broken": "files or labels that cannot be used; mend them, or leave them out",
    "sizes": "pictures of another size than most; give transform(size=...)",
    "mask sizes": "masks of another size than their pictures; did EXIF turn only one of the two?",
    "numbers": "masks with numbers that are no class; are they 0 and 255 (div=True), or colours?",
    "jpeg": "masks saved as JPEG, which changes numbers; make them again, as PNG from the start",
    "blended": "masks with wrong classes along edges; were they resized, or saved as JPEG, before?",
    "palette": "masks where a number has an unusual colour; do they mean the same class by it?",
    "turned": "pictures with an EXIF orientation that their masks do not have; save both upright",
    "empty": "pictures without a tag; is there really nothing on them?",
    "copies": "validation or test pictures that are in training, too; the score would be too good",
    "few": f"classes that fewer than {FEW} training pictures have; expect little of them"}


@dataclass
class Look:
    """What was seen of one item."""
    part: str                                               # training, validation or test
    file: Path
    notes: dict[str, str] = field(default_factory=dict)     # key of FINDINGS -> detail
    size: tuple[int, int] | None = None                     # rows, columns; None if resized
    digest: bytes | None = None                             # of the pixels
    classes: list[str] = field(default_factory=list)        # in its label
    colours: dict = field(default_factory=dict)             # class number -> colour in the mask


@dataclass(frozen=True)
class Report:
    """What check_data found: print it."""

    found: dict[str, dict[str, str]]        # key of FINDINGS -> file (or class) -> detail

    def __str__(self) -> str:
        lines = []
        for key, details in self.found.items():
            level = "error" if key in ERRORS else "warning"
            names = [f"{name} ({detail})" for name, detail in details.items()]
            lines.append(f"{level}: {len(names)} {FINDINGS[key]}: {check.some(names, 3)}")
        return "\n".join(lines) or "check_data found nothing wrong"

    def refuse_errors(self) -> None:
        """Raise ValueError if something would stop training."""
        if not self.found.keys().isdisjoint(ERRORS):
            raise ValueError(f"this data cannot be trained on:\n{self}")


def check_data(data: DataBunch) -> Report:
    """Read each file once, and compare them. A bad file becomes a finding, not an exception."""
    loaders = {"training": data.train_dl, "validation": data.valid_dl, "test": data.test_dl}
    items = [(part, loader, i) for part, loader in loaders.items() if loader is not None
             for i in range(len(loader.dataset))]
    with ThreadPoolExecutor() as pool:
        looks = list(bar(pool.map(_look_at, *zip(*items)), len(items), "check"))
    _compare(looks)
    found = {key: {str(look.file): look.notes[key] for look in looks if key in look.notes}
             for key in FINDINGS}
    count = Counter(name for look in looks if look.part == "training" for name in look.classes)
    found["few"] = {name: f"{count[name]}" for name in data.classes or () if count[name] < FEW}
    return Report({key: details for key, details in found.items() if details})


def _look_at(part: str, loader: Loader, i: int) -> Look:
    dataset = loader.dataset
    look = Look(part, Path(dataset.files[i]))
    try:
        with Image.open(look.file) as picture:
            size, turn = header(picture)                    # decodes it, too
            kind = repr((size, picture.mode, picture.getpalette())).encode()
            look.digest = sha256(kind + picture.tobytes()).digest()
        look.size = size if dataset.size is None and loader.bs > 1 else None
        if dataset.labels is not None and isinstance(dataset.target, Masks):
            _look_at_mask(look, size, turn, dataset.labels[i], dataset.target)
        elif dataset.labels is not None:
            label = dataset.labels[i]
            dataset.target.encode(label)                    # raises if it is no class
            look.classes = [label] if isinstance(label, str) else list(label)
            look.notes |= {} if look.classes else {"empty": str(label)}
    except Exception as error:                              # a label may be anything
        look.notes["broken"] = str(error)
    return look


def _look_at_mask(look: Look, size: tuple[int, int], turn: int, file: Path, target: Masks) -> None:
    with Image.open(file) as picture:
        mask_size, mask_turn = header(picture)
        mask, palette = open_mask(picture, div=target.div).numpy(), picture.getpalette()
    numbers, classes = numpy.unique(mask).tolist(), dict(enumerate(target.classes))
    is_so = {"mask sizes": mask_size != size, "turned": mask_size == size and mask_turn != turn,
             "numbers": not classes.keys() >= set(numbers), "blended": blended(mask) > BLENDED,
             "jpeg": picture.format in ("JPEG", "MPO")}
    look.notes |= {key: str(file) for key, found in is_so.items() if found}
    look.classes = [classes[number] for number in numbers if number in classes]
    if picture.mode == "P" and not target.div:
        look.colours = {number: tuple(palette[3 * number:3 * number + 3]) for number in numbers}


def blended(mask: numpy.ndarray) -> float:
    """How much a mask (h, w) looks averaged. Take all places where the numbers of two pixels, with
    one pixel between them, differ by more than 1. In which share of them has the middle pixel a
    number between theirs? In near 0 of a good mask, and about 0.5 after a resize or JPEG. Averages
    of neighbouring numbers, such as 0 and 1, are not seen."""
    steps = between = 0
    for rows in (mask, mask.T):
        before, here, after = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]
        steps += (abs(after - before) > 1).sum()
        between += ((here - before) * (after - here) > 0).sum()
    return between / max(steps, 1)


def _compare(looks: list[Look]) -> None:
    """Add the findings that need other files, too: odd sizes, odd palettes, and copies."""
    counts = defaultdict(Counter)   # two tables in one: part -> sizes, class number -> colours
    for look in looks:
        counts[look.part][look.size] += look.size is not None
        for number, colour in look.colours.items():
            counts[number][colour] += 1
    usual = {key: values.most_common(1)[0][0] for key, values in counts.items()}
    known = {look.digest: look.file for look in looks if look.part == "training" and look.digest}
    for look in looks:
        odd = [number for number, colour in look.colours.items() if colour != usual[number]]
        if odd:
            look.notes["palette"] = f"numbers {check.some(odd)}"
        if look.size not in (None, usual[look.part]):
            look.notes["sizes"] = "{} x {}".format(*look.size)
        if look.part != "training" and look.digest in known:
            look.notes["copies"] = f"as {known[look.digest]}"
