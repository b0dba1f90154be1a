"""From labels to a kind of target: which one do they make, and is each a good label?

All are looked at before any training, masks too: no error waits in the middle of an epoch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import re
import warnings

from minifast.images import image_size
from minifast.listing import unique
from minifast.targets import Categories, Masks, Tags, Target
from minifast.tools import check
from minifast.tools.progress import bar


def tags_in(fields: Sequence[str], delim: str, files: Sequence[Path],
            csv: Path) -> list[list[str]]:
    """The tags that each of the fields holds, sorted; one field for each of the files.

    delim  what stands between two tags
    csv    the file of the fields, for the warning

    A tag said twice counts once, spaces around a tag do not matter, and an empty one is none. A
    picture may have no tag at all: then its target is all 0, and a warning names such pictures.
    """
    labels = [sorted({tag.strip() for tag in field.split(delim)} - {""}) for field in fields]
    bare = [file.name for file, tags in zip(files, labels) if not tags]
    if bare:
        warnings.warn(f"{csv}: {len(bare)} pictures have no tag: {check.some(bare)}")
    return labels


def first_group(pattern: str) -> Callable[[Path], str]:
    """What makes a class of a file: the first group of a regular expression, searched in its path
    with slashes. The function raises ValueError, naming the file, where the pattern is not found.
    """
    def class_of(file: Path) -> str:
        match = re.search(pattern, file.as_posix())
        if match is None:
            raise ValueError(f"label_from_re: no {pattern!r} in {file}")
        return match.group(1)

    return class_of


def target_for(labels: Sequence, files: Sequence[Path], train: Sequence[int],
               classes: Sequence[str] | None = None, div: bool = False) -> Target:
    """The kind of target that these labels make: Categories of strings, Tags of lists of strings,
    Masks of paths.

    labels, files  one per item (a picture and its label); a label None: the item is not used
    train          the numbers of the items for training
    classes        in the order of the model's outputs; None: those of all items, sorted
    div            see Masks

    Classes come from all items and not from those for training alone (as in v1): so a rare tag does
    not vanish by the luck of the split. A warning names those that no training item has; masks are
    not searched for that.
    Raises ValueError, naming the file
    - with its label, where that is of another kind, or of another than the first label, named too
    - with all those tags of it that are empty or not in `classes`
    - where no item has a class (is it the right column?), and as checked_masks does
    """
    labelled = [(label, file) for label, file in zip(labels, files) if label is not None]
    first = labelled[0][0]
    kind = next((kind for kind in (str, Path) if isinstance(first, kind)), (list, tuple, set))
    for label, file in labelled:
        if not isinstance(label, kind):
            raise ValueError(f"{file} has the label {label!r}, {labelled[0][1]} {first!r}; wanted "
                             "strings (a class each), lists of strings (tags), or paths (of masks)")
    if kind is Path:
        return checked_masks(labelled, classes, div)
    tags = [() if label is None else [label] if kind is str else label for label in labels]
    classes = sorted(set().union(*tags)) if classes is None else list(classes)
    for label, file in zip(tags, files):
        wrong = [tag for tag in label if tag == "" or tag not in classes]
        if wrong:
            is_file = Path(str(wrong[0])).suffix != ""
            hint = " (is it the file of a mask? then give a Path)" if is_file else ""
            raise ValueError(f"{file} has the label {check.some(map(repr, wrong))}{hint}; wanted "
                             f"of: {check.some(filter(None, classes), 20)}")
    if not classes:
        raise ValueError(f"no picture has a label, from {files[0]} on; is that the right column?")
    unseen = set(classes) - set().union(*(tags[i] for i in train))
    if unseen:
        warnings.warn(f"no training picture has {check.some(sorted(unseen), 20)}: a model cannot "
                      "learn what it never sees")
    return Categories(classes) if kind is str else Tags(classes)


def checked_masks(labelled: Sequence[tuple[Path, Path]], classes: Sequence[str] | None,
                  div: bool) -> Masks:
    """Masks(classes, div), after a look at each mask.

    labelled  pairs of files: a mask, and its picture

    Raises ValueError where pictures have no mask (how many, and the first picture and mask); where
    some cannot be read, have another size than their picture, or a value that is no class
    (Masks.refuse): the first ten, and how many in all; where classes are missing (give
    classes=codes), or two have one name (listing.unique).
    """
    if classes is None or len(classes) == 0:
        raise ValueError("which class has which number? give label_from_func(..., classes=codes), "
                         f"the name of each; got {classes}")
    target = Masks(classes, div)
    unique("names of classes", target.classes)
    missing = [(mask, file) for mask, file in labelled if not mask.is_file()]
    if missing:
        mask, file = missing[0]
        raise ValueError(f"{len(missing)} of {len(labelled)} pictures have no mask; the first is "
                         f"{file}, whose mask would be {mask}: check the function of the labels")

    def look_at(pair: tuple[Path, Path]) -> str:
        mask, file = pair
        try:
            have, want = tuple(target.encode(mask).shape), image_size(file)
        except ValueError as error:
            return str(error)
        return "" if have == want else (f"mask {mask} has {have} rows and columns, its picture "
                                        f"{file} {want}; is it the mask of another picture?")

    with ThreadPoolExecutor() as pool:
        bad = list(filter(None, bar(pool.map(look_at, labelled), len(labelled), "masks")))
    if bad:
        more = f"\n{len(bad)} of {len(labelled)} masks are bad, also:\n" if bad[1:] else ""
        raise ValueError(bad[0] + more + check.some(bad[1:], 9))
    return target
