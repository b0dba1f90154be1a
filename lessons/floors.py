"""The plan of the house: which module of minifast is on which floor, and which tests are its own.

Study in this order: a module imports only from those before it, and a floor's number is that of
its test files. Floor 0 is the cellar, the tools that all others use.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = ROOT / "minifast"
MINE = ROOT / "mine" / "minifast"                        # the learner's copy
ORIGINAL = ROOT / "mine" / "original"                    # ours, as it was when it was copied

FLOORS = {"check": 0, "draw": 0, "progress": 0, "processes": 0, "files": 0, "weights": 0,
          "listing": 0, "device": 0, "seeds": 0, "scores": 1, "metrics": 1, "schedules": 2,
          "sizes": 3, "images": 3, "targets": 4, "labels": 4, "cache": 4, "dataset": 4,
          "workers": 5, "fetcher": 5, "loader": 5, "splits": 6, "databunch": 6, "datablock": 6,
          "resnet": 7, "groups": 8, "recorder": 9, "checkpoints": 10, "training": 10,
          "predictions": 10, "learner": 10, "lr_rule": 11, "lr_finder": 11, "unet": 12,
          "geometry": 13, "transforms": 14, "vision": 15, "tta": 16, "inference": 16,
          "submission": 16, "thresholds": 17, "interpret": 17, "findings": 18, "leaks": 18,
          "doctor": 18}
ORDER = list(FLOORS)
TOP = max(FLOORS.values())


def title(floor: int) -> str:
    """A floor's number and the last of its modules, which names it: `04 dataset`."""
    names = [module for module in ORDER if FLOORS[module] == floor]
    return f"{floor:02} {names[-1] if floor else 'cellar'}"


def floor_of(test_file: Path) -> int | None:
    """The floor that a test file is for. None: the plan's and the lessons' tests have no floor."""
    _, number, name = test_file.stem.split("_", 2)
    return int(number) if name in FLOORS and int(number) == FLOORS[name] else None


def test_files(floor: int) -> list[Path]:
    """A floor's test files, in the order of the modules that they are named after."""
    files = [ROOT / "tests" / f"test_{floor:02}_{module}.py"
             for module in ORDER if FLOORS[module] == floor]
    return [file for file in files if file.exists()]
