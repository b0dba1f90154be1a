"""Which functions of a folder are called while something runs."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import sys
from types import FrameType

Place = tuple[str, int, str]            # file name, first line and name of a function


@contextmanager
def calls_of(folder: Path) -> Iterator[set[Place]]:
    """In a `with` statement: a set that comes to hold the functions called, generators included."""
    start, called = f"{folder}{os.sep}", set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(start):
            called.add((code.co_filename[len(start):], code.co_firstlineno, code.co_name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)
