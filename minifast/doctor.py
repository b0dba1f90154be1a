"""Look at all of the data before training: what would stop it, and what would spoil it unseen.

Each file is read once, by several threads; what was seen of it is kept, the picture is not.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from time import perf_counter

from PIL import Image, UnidentifiedImageError

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.findings import (CLEAR, PARTS, Finding, Look, bad_items, by, odd_modes, odd_sizes,
                               rare_classes, turned_alone, without_tags)
from minifast.images import header
from minifast.leaks import copies, neighbours
from minifast.loader import Loader
from minifast.targets import Categories, Masks, Target
from minifast.tools import check
from minifast.tools.progress import bar

WIDTH = 100


@dataclass(frozen=True)
class Report:
    """What check_data found, and what it looked at.

    findings  errors first
    pictures  how many each part has, {"training": 367, ...}
    masks     how many could be used
    modes     how many pictures have each mode; modes and sizes are of pictures that can be read
    sizes     how many have each size, (rows, columns)
    seconds   how long it took
    """

    findings: tuple[Finding, ...]
    pictures: dict[str, int]
    masks: int
    modes: Counter
    sizes: Counter
    seconds: float

    @property
    def errors(self) -> list[Finding]:
        """The findings that would stop training."""
        return [finding for finding in self.findings if finding.level == "error"]

    def refuse_errors(self) -> None:
        """Raise ValueError with the texts of all errors, if there are any."""
        if self.errors:
            texts = "".join(f"\n- {finding.text}" for finding in self.errors)
            raise ValueError(f"this data cannot be trained on:{texts}")

    def __str__(self) -> str:
        """A table of two columns, at most WIDTH wide: what was looked at (of modes and sizes the
        five most frequent), then level and text of each finding, or `nothing found`."""
        parts = ", ".join(f"{n:,} {part}" for part, n in self.pictures.items())
        found = [(finding.level, finding.text) for finding in self.findings]
        masks = f", {self.masks:,} masks" if self.masks else ""
        modes = (f"{mode} ({n:,})" for mode, n in self.modes.most_common())
        sizes = (f"{by(size)} ({n:,})" for size, n in self.sizes.most_common())
        rows = [("pictures", f"{parts}{masks}; looked at in {self.seconds:.1f} s"),
                ("modes", check.some(modes)), ("sizes", check.some(sizes)),
                *(found or [("findings", "nothing found")])]
        return "\n".join(f"{'' if i else name:10}{line}" for name, text in rows for i, line
                         in enumerate(wrap(text, WIDTH - 10, break_long_words=False,
                                           break_on_hyphens=False)))


def check_data(data: DataBunch) -> Report:
    """Look at each picture and label of data, behind a progress bar, and compare them.

    data  whose sets are all minifast.dataset.Dataset; TypeError, naming the set, where one is not

    Bad files and labels are never an exception, but findings: bad_items of all looks; of those at
    good pictures odd_modes, copies, and odd_sizes of each part whose pictures are stacked as they
    are (no size, bs above 1), or, if that finds nothing, of all; of those at good labels
    without_tags and rare_classes; of Masks the neighbours. Nothing in data changes: no loader is
    asked.
    """
    start, sets = perf_counter(), loaders(data)
    items = [(part, loader.dataset, i) for part, loader in sets.items()
             for i in range(len(loader.dataset))]
    with ThreadPoolExecutor() as pool:
        looks = list(bar(pool.map(look_at, *zip(*items)), len(items), "data"))
    pictures, labels = ([look for look in looks if getattr(look, field) is not None]
                        for field in ("size", "names"))
    found = [*bad_items(looks), *odd_modes(pictures), *size_findings(pictures, sets),
             *copies(pictures), *without_tags(labels)]
    if isinstance(data.target, Target):
        found += rare_classes(labels, data.classes)
    if isinstance(data.target, Masks):
        found += [*turned_alone(looks), *neighbours(looks)]
    return Report(tuple(sorted(found, key=lambda finding: finding.level)),   # error before warning
                  {part: len(loader.dataset) for part, loader in sets.items()},
                  len(labels) if isinstance(data.target, Masks) else 0,
                  Counter(look.mode for look in pictures),
                  Counter(look.size for look in pictures), perf_counter() - start)


def loaders(data: DataBunch) -> dict[str, Loader]:
    """The loaders of data that there are, by PARTS. Raises TypeError as check_data does."""
    sets = {part: loader for part, loader in zip(PARTS, (data.train_dl, data.valid_dl,
                                                         data.test_dl)) if loader is not None}
    for part, loader in sets.items():
        if not isinstance(loader.dataset, Dataset):
            raise TypeError(f"check_data looks at the files of a minifast.dataset.Dataset, but the "
                            f"{part} set is a {type(loader.dataset).__name__}; make it one, or "
                            "check it yourself")
    return sets


def size_findings(looks: list[Look], sets: dict[str, Loader]) -> list[Finding]:
    """odd_sizes of looks at good pictures, as check_data says; sets are its loaders, by part."""
    errors = [finding for part, loader in sets.items()
              if loader.dataset.size is None and loader.bs > 1
              for finding in odd_sizes([look for look in looks if look.part == part], stacked=True)]
    return errors or odd_sizes(looks, stacked=False)


def look_at(part: str, dataset: Dataset, i: int) -> Look:
    """What is seen of item i of a dataset, the set `part`: see_picture, and see_label if there are
    labels. Whatever these raise is a trouble; paths in it begin at the picture's last folder."""
    look = Look(part, Path(dataset.files[i]))
    for see in [see_picture] + [see_label] * (dataset.labels is not None):
        try:
            look = see(look, dataset, i)
        # Pillow's decoders complain in a dozen ways, and a label may be anything.
        except Exception as error:
            above, text = look.file.parent.parent, str(error) or repr(error)
            if above.name:
                text = text.replace(str(above / "_")[:-1], "")
            look = replace(look, troubles=(*look.troubles, text))
    return look


def see_picture(look: Look, dataset: Dataset, i: int) -> Look:
    """The look, and what its file shows: digest (SHA-256), mode and size, once it was decoded whole
    and turned upright, as training will do it. dataset and i are only there for see_label.

    Raises ValueError where there is no file, or it is empty or no picture, and what Pillow raises.
    """
    if not look.file.is_file():
        raise ValueError("there is no such file; check the folder and the suffix")
    content = look.file.read_bytes()
    if not content:
        raise ValueError("the file is empty; download or copy it again")
    try:
        with Image.open(BytesIO(content)) as picture:
            mode = picture.mode + CLEAR * picture.has_transparency_data
            picture.load()                          # decodes it
            size, orientation = header(picture)
    except UnidentifiedImageError:          # its text names the bytes in memory
        raise ValueError("Pillow knows no picture like this") from None
    return replace(look, digest=sha256(content).digest(), mode=mode, size=size,
                   orientation=orientation)


def see_label(look: Look, dataset: Dataset, i: int) -> Look:
    """The look, and what label i of the dataset says: the names of its classes, each once.

    Raises ValueError where a mask cannot be read (Masks.encode) or has another size than a picture
    that can, or with all tags (or the class) that are empty or no class.
    """
    label, target = dataset.labels[i], dataset.target
    if isinstance(target, Masks):
        mask = target.encode(label)                                             # (h, w)
        other = look.size is not None and header(label)[1] != look.orientation
        if look.size not in (None, tuple(mask.shape)):
            way_out = ("their EXIF orientations differ: save both upright" if other
                       else "is it the mask of another picture?")
            raise ValueError(f"mask {label} has {tuple(mask.shape)} rows and columns, its picture "
                             f"{look.size}; {way_out}")
        return replace(look, names=tuple(target.names_in(mask).values()), turned_alone=other)
    names = [label] if isinstance(target, Categories) else list(label)
    wrong = [name for name in names if name == "" or name not in target.classes]
    if wrong:
        raise ValueError(f"its label has {check.some(map(repr, wrong))}; wanted of: "
                         f"{check.some(filter(None, target.classes), 20)}")
    return replace(look, names=tuple(sorted(set(names))))
