"""A submission for Kaggle's Planet competition: a CSV with the tags of each test picture."""

from collections.abc import Sequence
import csv
from io import StringIO
from pathlib import Path
import warnings

import torch
from torch import Tensor

from minifast.inference import Predictions
from minifast.listing import unique
from minifast.targets import Tags
from minifast.tools import check, processes
from minifast.tools.files import refuse_existing, write_atomic

DELIM = " "                                             # between two tags, in Planet's files


def write_submission(file: Path | str, names: Sequence[str], predictions: Predictions,
                     thresh: float | Tensor, overwrite: bool = False) -> Path:
    """Write a CSV with the columns image_name,tags: a row for each of `names`, in that order.

    names        of all test pictures, without folder and suffix: each once
    predictions  of tags, for these pictures and no others, in any order (Predictor.predict_files)
    thresh       strictly above it a tag is said: a number, or a tensor, one per tag
    overwrite    write even where the file is there
    returns      the file, which was written only after its text was read back and compared

    A warning names pictures that get no tag: their rows are empty, and score nothing.
    Raises ValueError where the file is there; where predictions are not of tags; where a name is
    twice in names or predictions, or in one of them alone; where thresholds are not one per tag;
    where a row does not come back as it was written, as where a tag has a space in it.
    """
    refuse_existing(file, "give another name, or overwrite=True", overwrite)
    thresh = torch.as_tensor(thresh, dtype=predictions.probabilities.dtype)
    check_answers(names, predictions, thresh)
    rows = rows_of(names, predictions, thresh)
    empty = [name for name, tags in rows if not tags]
    if empty:
        warnings.warn(f"{len(empty)} pictures have no tag above the threshold, their rows are "
                      f"empty: {check.some(empty)}")
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("image_name", "tags"), *((name, DELIM.join(tags)) for name, tags in rows)])
    read_back(text.getvalue(), rows)
    processes.wait_for_all()                # until all are past refuse_existing
    return write_atomic(file, text.getvalue().encode())


def check_answers(names: Sequence[str], predictions: Predictions, thresh: Tensor) -> None:
    """Raise ValueError unless predictions are of tags, 0..1, for each of the names once and for no
    other, and thresh is one number in 0..1, or one per tag."""
    if not isinstance(predictions.target, Tags):
        raise ValueError(f"a submission has tags, these are {type(predictions.target).__name__}")
    if thresh.ndim:
        tags = len(predictions.target.classes)
        check.between("number of thresholds", len(thresh), tags, tags)
    check.between("number of dimensions of thresholds", thresh.ndim, 0, 1)
    check.between("thresholds", thresh, 0, 1)
    check.between("probabilities", predictions.probabilities, 0, 1)
    unique("names of the test pictures", names)
    unique("names of the predicted pictures", predictions.names)
    missing, unknown = (sorted(set(one) - set(other))
                        for one, other in ((names, predictions.names), (predictions.names, names)))
    if missing or unknown:
        raise ValueError(f"predictions must be of the test pictures: {len(missing)} are missing "
                         f"({check.some(missing)}), {len(unknown)} are of no test picture "
                         f"({check.some(unknown)})")


def rows_of(names: Sequence[str], predictions: Predictions,
            thresh: float | Tensor) -> list[tuple[str, list[str]]]:
    """(name, its tags in the order of the classes) for each of the names; a tag is said where its
    probability, in `predictions`, is strictly above thresh."""
    target = predictions.target
    said = target.decisions(predictions.probabilities, thresh)                   # (n, c)
    tags_of = {name: [tag for tag, yes in zip(target.classes, row) if yes]
               for name, row in zip(predictions.names, said)}
    return [(name, tags_of[name]) for name in names]


def read_back(text: str, rows: Sequence[tuple[str, list[str]]]) -> None:
    """Raise ValueError unless the text of the CSV has these rows (name, tags), the tags with DELIM
    between them: so also where a tag has a DELIM in it, and what is read there is two others."""
    read = [(name, [tag for tag in tags.split(DELIM) if tag])
            for name, tags in list(csv.reader(StringIO(text)))[1:]]
    wrong = [found for found, wanted in zip(read, rows) if found != wanted]
    if len(read) != len(rows) or wrong:
        raise ValueError(f"the submission does not say what was written: of {len(rows)} rows "
                         f"{len(read)} were read, wrong ones: {check.some(wrong, 2)}. Has a name "
                         "or a tag a space?")
