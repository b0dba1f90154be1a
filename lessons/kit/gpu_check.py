"""Everything once, on a GPU: the tests, both walkthroughs, speed, the same seed twice.

    python lessons/kit/gpu_check.py CAMVID              CAMVID is a folder in that set's layout
    python lessons/kit/gpu_check.py CAMVID --tiny       only to see that it runs, on a CPU

It takes less than ten minutes on an H100, and prints a JSON for lessons/RESULTS.md.
"""

import json
import os
from pathlib import Path
from statistics import median
import subprocess
import sys
from tempfile import TemporaryDirectory
from time import perf_counter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch                                                            # noqa: E402
from minifast.resnet import resnet18, resnet50                          # noqa: E402

CAMVID, TINY = Path(sys.argv[1]).absolute(), "--tiny" in sys.argv
ARCH, SIZES, COPIES = (resnet18, (32, 64), 2) if TINY else (resnet50, (128, 256), 20)
TEMPORARY, found = TemporaryDirectory(), {}
OUT = Path(TEMPORARY.name)


def run(name: str, *command: object, limit: float = 300) -> dict:
    """Run a Python command, note how long it took or how it failed, and return its results.json."""
    began = perf_counter()
    try:
        done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
        found[name] = {"failed": done.stdout[-2000:].splitlines()} if done.returncode else {}
    except subprocess.TimeoutExpired:
        found[name] = {"stopped": True}
    found[name]["seconds"] = perf_counter() - began
    print(name, found[name], file=sys.stderr, flush=True)               # if a later one is killed
    results = OUT / name / "results.json"
    return json.loads(results.read_text()) if results.exists() else {}


run("tests", "-m", "pytest", "-q", *["tests/study"] * TINY)

# Planet: real tiles all differ, but a file takes as long to read under another name.
tiles, n = OUT / "tiles", 60 if TINY else 500
run("draw", "lessons/kit/sample_data.py", "planet", tiles, "--n", n, "--size", SIZES[1])
header, *rows = (tiles / "train_v2.csv").read_text().splitlines()
rows = [(row.split(",")[0], f"{copy}_{row}") for row in rows for copy in range(COPIES)]
for tile, row in rows:
    os.link(tiles / f"train-jpg/{tile}.jpg", tiles / f"train-jpg/{row.split(',')[0]}.jpg")
(tiles / "many.csv").write_text("\n".join([header, *(row for _, row in rows)]))
torch.save(ARCH().state_dict(), OUT / "random.pth")
results = run("planet", "lessons/06_planet.py", "--data", tiles, "--csv", "many.csv",
              "--epochs", 1, "--sizes", *SIZES, "--arch", ARCH.__name__, "--weights",
              OUT / "random.pth", "--out", OUT / "planet", *["--bs", 16, "--quick"] * TINY)
if results:
    seconds = sum(stage["seconds"] for stage in results["stages"])
    found["planet"]["minutes for 20 epochs of 40,479"] = 5 * seconds * 40479 / len(rows) / 60

results = run("camvid", "lessons/08_camvid.py", "--data", CAMVID, "--arch", "small", "--out",
              OUT / "camvid", *["--size", 32, 48, "--quick"] * TINY, limit=180)
found["camvid"]["stages"] = results.get("stages")

results = run("speed", "lessons/09_where_time_goes.py", "--arch", ARCH.__name__, "--net-size",
              SIZES[0], "--out", OUT / "speed", *["--pictures", 16, "--rounds", 1] * TINY)
found["speed"] |= results | {"figures": {name: 1 / median(figure["seconds"])
                                         for name, figure in results.get("figures", {}).items()}}

# Two epochs, one a stage, and the same again.
for name in ("once", "again"):
    results = run(name, "lessons/06_planet.py", "--data", tiles, "--weights", "none", "--arch",
                  ARCH.__name__, "--quick", "--sizes", *SIZES, "--out", OUT / name)
    found[name]["losses"] = [stage["train_loss"] for stage in results.get("stages", [])]
print(json.dumps(found))
