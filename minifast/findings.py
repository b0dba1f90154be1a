"""What is wrong with data, and the way out: what shows when all its items were looked at.

Nothing is opened here: doctor looks at each item once, and these functions compare the looks. The
text of a finding begins `2 of 9 pictures ...`: with how many there are among the looks given.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minifast.tools import check

PARTS = TRAIN, VALID, TEST = "training", "validation", "test"
FEW = 10                                    # a class shall have as many training pictures
CLEAR = " with transparency"                # stands behind the mode of a picture that has some


@dataclass(frozen=True)
class Look:
    """What was seen of one item.

    part      its set, one of PARTS
    file      the picture
    troubles  what would stop training, each as `what is wrong; way out`, or without way out
    mode      Pillow's, with CLEAR behind it where there is transparency
    size      (rows, columns), upright
    digest    of the file's bytes. This, size and mode are None where the picture cannot be read
    names     the classes that its label has; None without a label, or with a bad one
    orientation, turned_alone   EXIF's, and whether the mask has another one
    """

    part: str
    file: Path
    troubles: tuple[str, ...] = ()
    mode: str | None = None
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    names: tuple[str, ...] | None = None
    orientation: int = 1
    turned_alone: bool = False

    def __str__(self) -> str:
        """The file's folder and name, train/a.jpg."""
        return "/".join(self.file.parts[-2:])


@dataclass(frozen=True)
class Finding:
    """A problem: level "error" if training would stop, else "warning"; a text of how many there
    are, examples and the way out; and the files of all pictures that have it."""

    level: str
    text: str
    files: tuple[Path, ...]


def about(level: str, looks: Sequence[Look], what: str, way_out: str,
          notes: Sequence[str] = ()) -> list[Finding]:
    """No finding where there are no looks, else one: `2 WHAT: train/a.jpg, train/b.jpg; WAY OUT`.

    level    of the finding
    looks    at the pictures that have the problem; the first three are named
    what     stands between their number and their names
    way_out  what the reader can do
    notes    one for each look, in brackets behind its name, `train/a.jpg (NOTE)`; or none at all
    """
    names = [f"{look} ({note})" for look, note in zip(looks, notes)] or looks
    return [Finding(level, f"{len(looks)} {what}: {check.some(names, 3)}; {way_out}",
                    tuple(look.file for look in looks))] if looks else []


def bad_items(looks: Sequence[Look]) -> list[Finding]:
    """Errors: all troubles of the looks, as notes. Those with one way out are one finding; where a
    trouble names none, the way out is to repair, copy again or leave out the picture."""
    groups = defaultdict(list)
    for look in looks:
        for trouble in look.troubles:
            what, _, way_out = trouble.partition("; ")
            groups[way_out or "repair it, copy it again, or leave it out"].append((look, what))
    found = []
    for way_out, group in groups.items():
        bad, notes = zip(*group)
        found += about("error", bad, f"of {len(looks)} items cannot be used", way_out, notes)
    return found


def usual(values: Iterable) -> object | None:
    """The value that more than half of the values are, or None."""
    counts = Counter(values)
    return next((value for value, n in counts.items() if 2 * n > counts.total()), None)


def odd_modes(looks: Sequence[Look]) -> list[Finding]:
    """Warnings: one for each mode but the usual one, if there is that, and for each that loses
    something.

    looks  here and in odd_sizes: at pictures that can be read
    """
    found, most = [], usual(look.mode for look in looks)
    for mode in sorted({look.mode for look in looks}):
        others = f" (most have {most})" if most not in (mode, None) else ""
        if others or lost(mode):
            found += about("warning", [look for look in looks if look.mode == mode],
                           f"of {len(looks)} pictures have the mode {mode}{others}",
                           lost(mode) or "it becomes RGB; do they show what the others show?")
    return found


def lost(mode: str) -> str:
    """What a picture of this mode loses on its way to RGB, "" for nothing."""
    if mode.endswith(CLEAR):
        return "transparency is dropped: look at what shows instead"
    if mode.startswith("I"):
        return "only the upper 8 of 16 bits stay: if that makes them black, scale the files before"
    return "numbers outside 0..255 are cut: scale the files before" if mode == "F" else ""


def odd_sizes(looks: Sequence[Look], stacked: bool) -> list[Finding]:
    """The looks at pictures of another size than the usual one: a warning, if there is that.

    stacked  whether batches are made of these pictures as they are. Then all must have one size, it
             is an error, and where no size is usual it is those that differ from the first
    """
    most = usual(look.size for look in looks) or (looks[0].size if looks and stacked else None)
    if most is None:
        return []
    odd = [look for look in looks if look.size != most]
    level, way_out = (
        ("error", "pictures of one batch must have one size: give transform(size=...)") if stacked
        else ("warning", "do they show what the others show?"))
    return about(level, odd, f"of {len(looks)} pictures have not {by(most)} pixels as "
                 "others have", way_out, [by(look.size) for look in odd])


def by(size: tuple[int, int]) -> str:
    """A size as `rows x columns`."""
    return f"{size[0]} x {size[1]}"


def without_tags(looks: Sequence[Look]) -> list[Finding]:
    """A warning of the looks at labels without any class, which only Tags allow."""
    return about("warning", [look for look in looks if look.names == ()],
                 f"of {len(looks)} pictures have no tag", "is there nothing on them? if there is, "
                 "they teach the model to overlook it")


def turned_alone(looks: Sequence[Look]) -> list[Finding]:
    """A warning of pictures whose EXIF orientation turns them, but not their masks."""
    return about("warning", [look for look in looks if look.turned_alone],
                 f"of {len(looks)} pictures have an EXIF orientation that their masks do not have",
                 "look at show_batch, and save both upright if they do not fit")


def rare_classes(looks: Sequence[Look], classes: Sequence[str]) -> list[Finding]:
    """Warnings: those of the classes that no training picture has, each with how many of validation
    have it; and those that fewer than FEW have, with that number, rarest first: at most 20.

    looks  at good labels; the files of a finding are all pictures, of any part, with those classes
    """
    train, valid = (Counter(name for look in looks if look.part == part for name in look.names)
                    for part in (TRAIN, VALID))
    unseen = {name: f"{valid[name]} in validation" for name in classes if not train[name]}
    few = {name: train[name] for name in sorted(classes, key=train.__getitem__)
           if 0 < train[name] < FEW}
    return [Finding("warning", f"{len(names)} of {len(classes)} classes {what}: " + check.some(
                        [f"{name} ({note})" for name, note in names.items()], 20) + f"; {way_out}",
                    tuple(look.file for look in looks if not names.keys().isdisjoint(look.names)))
            for names, what, way_out in (
                (unseen, "are in no training picture",
                 "a model cannot learn what it never sees: split anew, or leave them out"),
                (few, f"are in fewer than {FEW} training pictures",
                 "expect little of them, or find more pictures")) if names]
