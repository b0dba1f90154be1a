"""A walkthrough's run: where its checkpoints lie, and how one that was cut off goes on.

Each LR range test and each epoch is kept in out/checkpoints. With --resume the script runs from the
top again, and finds there what was done: so it is soon where it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
import json
from pathlib import Path
from shutil import rmtree
import sys

from minifast.tools import processes
from minifast.tools.files import write_atomic

FREE = ("out", "resume", "skip_check", "quick", "test_folder")  # may differ when a run goes on


def start_run(out: Path, settings: object) -> None:
    """Make out/checkpoints ready: with settings.resume as the run that was cut off left it, if
    there was one, else empty. settings is a lesson's dataclass.

    Ends the lesson, and says what to do, where a run was cut off in `out` and settings.resume is
    not set, or where it is, and other settings than then. Of several processes, the first does it.
    """
    with first_goes_ahead():
        if processes.RANK == 0:
            prepare(out, settings)


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Inside, the first of several processes is alone; when it is done the others come."""
    if processes.RANK > 0:
        processes.wait_for_all()
    yield
    if processes.RANK == 0:
        processes.wait_for_all()


def prepare(out: Path, settings: object) -> None:
    """What start_run says, in one process."""
    folder, old = checkpoints(out), checkpoints(out).with_name("checkpoints.old")
    note, text = folder / "settings.json", json.dumps(
        {name: value for name, value in asdict(settings).items() if name not in FREE}, indent=1)
    begun = json.loads(note.read_text()) if note.is_file() else None
    if settings.resume and begun is not None:
        now = json.loads(text)
        differs = [f"--{name.replace('_', '-')} was {begun.get(name)}, is {now[name]}"
                   for name in now if begun.get(name) != now[name]]
        if differs:
            sys.exit(f"--resume goes on with the run in {out} as it began: {'; '.join(differs)}")
        for leftover in (*out.glob(".[0-9]*"), *folder.glob(".[0-9]*")):
            leftover.unlink()                           # of a file that was being written
        return
    if begun is not None and any(folder.glob("*.pth")) and not (out / "results.json").is_file():
        sys.exit(f"{out} holds a run that was cut off: add --resume to go on with it; or, to start "
                 f"anew, name another folder (--out), or delete {folder}")
    rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)                              # at one stroke: deleting takes a while
        rmtree(old)
    results, earlier = out / "results.json", out / "results.before.json"
    if results.is_file():
        results.replace(earlier)
        print(f"{out} holds a finished run, which this one replaces; its results: {earlier}")
    write_atomic(note, text.encode())


def checkpoints(out: Path) -> Path:
    """The folder of the checkpoints of a run whose pictures and results go to `out`."""
    return out / "checkpoints"
