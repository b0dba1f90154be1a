"""Makes the figures of lessons/figures/ anew: runs all lessons, and keeps some of their pictures.

It takes eight minutes on two cores. With --quick the walkthroughs are run in their quickest form,
to see that all lessons run; then the pictures go elsewhere. Any lesson that fails ends it.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory

from PIL import Image

from minifast.datablock import ImageList
from minifast.extras.inference import load_learner
from minifast.images import open_image, open_mask, to_pil
from minifast.tools.draw import grid, overlay, with_legend
from minifast.tools.files import write_atomic
from kit.settings import read_settings

LESSONS = Path(__file__).resolve().parent
# In the order of the lecture; of each lesson the pictures to keep.
COURSE = {"01_data_block": ["batch"], "02_transforms": ["matrices"], "03_metrics": ["thresholds"],
          "04_learning_rate": ["frozen", "unfrozen"], "05_fine_tuning": ["losses"],
          "06_planet": ["losses"], "07_unet": ["u", "with-bridges", "without"],
          "08_camvid": ["confusion"], "09_where_time_goes": ["bars"]}
WALKTHROUGHS = "06_planet", "08_camvid"


@dataclass
class Settings:
    out: str = str(LESSONS / "figures")     # where the pictures go
    quick: bool = False                     # only to see that the lessons run


def presets(given: Settings) -> dict:
    return {"out": "runs/figures"} if given.quick else {}


def cover(planet: Path, camvid: Path) -> Image.Image:
    """A tile with its tags, and a street with its mask, each with what a net says of it.

    planet, camvid  where the walkthroughs put their pictures and models
    """
    tiles, streets = next(planet.glob("tiles-*")), next(camvid.glob("streets-*"))
    src = (ImageList.from_csv(tiles, "train_v2.csv", folder="train-jpg", suffix=".jpg")
           .split_by_rand_pct(0.2, seed=42))                    # as in the lesson: tiles unseen
    tags, tile = max(((src.rows[i]["tags"], src.files[i]) for i in src.valid),
                     key=lambda row: len(row[0].split()))
    said, *_ = load_learner(planet / "model.pth").predict(tile)
    file = streets / "images" / (streets / "valid.txt").read_text().split()[0]
    truth = open_mask(streets / "labels" / f"{file.stem}_P.png")
    model = load_learner(camvid / "model.pth")
    _, mask, _ = model.predict(file)
    street = to_pil(open_image(file))
    pictures = [to_pil(open_image(tile, (160, 160))), street, overlay(street, truth),
                overlay(street, mask)]
    captions = [f"tags: {tags}; the net says: {said.replace(';', ' ')}", "street", "its mask",
                "the net says"]
    names = model.target.classes
    seen = {*truth.unique().tolist(), *mask.unique().tolist()}
    return with_legend(grid(pictures, captions, 4), {code: names[code] for code in sorted(seen)})


def keep(picture: Image.Image, file: Path) -> None:
    """Write a picture as a small PNG, whole or not at all, and say how large it is."""
    png = BytesIO()
    picture.save(png, "PNG", optimize=True)
    write_atomic(file, png.getvalue())
    print(f"{file}  {file.stat().st_size:,} bytes")


def main() -> None:
    """Run the lessons, one after the other, and keep their pictures."""
    s = read_settings(Settings, __doc__, presets)
    with TemporaryDirectory() as folder:
        for lesson, names in COURSE.items():
            out = Path(folder, lesson)
            flags = ["--quick"] * (s.quick and lesson in WALKTHROUGHS)
            print(f"\n{lesson}.py", *flags, flush=True)
            subprocess.run([sys.executable, LESSONS / f"{lesson}.py", "--out", out, *flags],
                           check=True)
            for name in names:
                with Image.open(out / f"{name}.png") as picture:
                    keep(picture, Path(s.out, f"{lesson}-{name}.png"))
        keep(cover(*(Path(folder, lesson) for lesson in WALKTHROUGHS)), Path(s.out, "cover.png"))


if __name__ == "__main__":
    main()
