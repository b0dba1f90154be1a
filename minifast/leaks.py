"""What training knows of validation: files that are the same, and neighbours in a film.

A score on pictures that are known already says how well a model remembers, not what it has learned.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations, pairwise, permutations
from operator import itemgetter
import re
from statistics import median_low

from minifast.findings import PARTS, TRAIN, VALID, Finding, Look, about

# CamVid's 0001TP_006690, 0006R0_f00930, Seq05VD_f00000. A film's name has letters and digits: so
# street_0007 is no frame, nor are other sets' 2007_000033 and COCO_train2014_000000000009.
FRAME = re.compile(r"(?=[^_]*\d)(?=[^_]*[A-Za-z])([^_]+)_f?(\d{4,})")


def copies(looks: Sequence[Look]) -> list[Finding]:
    """Warnings of looks at files with the same digest, each noting the first that it is the same
    as: within each of PARTS (all but the first), and between two of them (those of the later part).
    """
    first, found = {}, []
    for look in looks:
        first.setdefault((look.part, look.digest), look)
    for one, two in [*zip(PARTS, PARTS), *combinations(PARTS, 2)]:
        among = [look for look in looks if look.part == two]
        again = [look for look in among if first.get((one, look.digest), look) is not look]
        what, way_out = (("are copies of another one", "leave out all but one") if one == two else
                         (f"are {one} pictures too", "a score on what is known says nothing: leave "
                          f"them out of {one} or {two}"))
        found += about("warning", again, f"of {len(among)} {two} pictures {what}", way_out,
                       [f"= {first[one, look.digest]}" for look in again])
    return found


def neighbours(looks: Sequence[Look]) -> list[Finding]:
    """A warning of validation pictures that come right before or after one of training in a film.

    looks  at all items. Where a file's stem fits FRAME wholly, its groups are film and frame; two
           are neighbours if no frame of that film, in any part, lies between them

    It begins `3 of 9 validation pictures`, notes of each its nearest neighbour of training, as `30
    from x/0001TP_000030.png`, and says the median, `half of them at most 30 frames away`.
    """
    films = defaultdict(lambda: defaultdict(list))          # film -> frame -> looks
    for look in looks:
        match = FRAME.fullmatch(look.file.stem)
        if match:
            films[match[1]][int(match[2])].append(look)
    near = {}                               # file of validation -> frames apart, and the two looks
    for frames in films.values():
        numbers = sorted(frames)
        for i, j in [*zip(numbers, numbers), *pairwise(numbers)]:
            for valid, train in permutations(frames[i] + frames[j], 2):
                if (valid.part, train.part) == (VALID, TRAIN):
                    this = j - i, valid, train
                    near[valid.file] = min(near.get(valid.file, this), this, key=itemgetter(0))
    if not near:
        return []
    steps, valids, trains = zip(*near.values())
    total = sum(look.part == VALID for look in looks)
    return about("warning", valids, f"of {total} validation pictures are next to a training "
                 f"picture in a film, half of them at most {median_low(steps)} frames away",
                 "frames in a row look alike, so the score is too good: keep stretches of a film "
                 "on one side", [f"{step} from {train}" for step, train in zip(steps, trains)])
