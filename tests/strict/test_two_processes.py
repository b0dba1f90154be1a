"""Two processes against one: `work` is run by one Python and by two, as torchrun starts them."""

from functools import partial
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
from time import sleep

from PIL import Image
import pytest
import torch
from torch import Tensor, nn

from minifast.databunch import DataBunch
from minifast.dataset import Dataset
from minifast.extras.interpret import worst
from minifast.learner import Learner
from minifast.loader import imagenet_stats
from minifast.lr_finder import lr_find
from minifast.metrics import foreground_accuracy
from minifast.targets import Masks, Tags, pixel_loss
from minifast.tools import processes
from minifast.tools.files import load_tensors, refuse_existing, save_tensors, write_atomic
from minifast.transforms import get_transforms

CPU = torch.device("cpu")
# Of 80 pictures in batches of 16, 4 epochs are 20 steps.
N, N_VALID, BS, VAL_BS = 80, 13, 16, 4


class Noise:
    """Item i is a picture (3, 8, 8) of noise; its tags, or the class of each pixel, can be learned.
    Masks have ever more void, class 2, from picture to picture."""

    def __init__(self, n: int, seed: int, masks: bool = False):
        rng = torch.Generator().manual_seed(seed)
        self.x = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=rng)
        self.y = (self.x.float().mean(dim=(2, 3)) > 127).float()                    # (n, 3)
        if masks:
            self.y = (self.x[:, 0] > 127).long()                                    # (n, 8, 8)
            self.y[torch.rand(n, 8, 8, generator=rng) < torch.arange(n)[:, None, None] / n] = 2

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i], self.y[i]


def data_of(masks: bool) -> DataBunch:
    return DataBunch.create(
        Noise(N, 0, masks), Noise(N_VALID, 1, masks),
        target=Masks(["a", "b", "void"]) if masks else Tags(["a", "b", "c"]),
        tfms=get_transforms(), bs=BS, val_bs=VAL_BS, num_workers=0, device=CPU)


def plain(data: DataBunch, norm: bool = False) -> Learner:
    """A net of a few weights on tags."""
    torch.manual_seed(processes.RANK)         # the first one's weights count
    layers = [nn.Conv2d(3, 8, 3), *[nn.BatchNorm2d(8)] * norm, nn.ReLU(), nn.AdaptiveAvgPool2d(2),
              nn.Flatten(), nn.Linear(32, 3)]
    return Learner(data, nn.Sequential(*layers), metrics=["accuracy_thresh", "fbeta"],
                   precision="float32")


def work(folder: Path) -> None:
    """Train and look in all ways; write what came out to a file of this process's own."""
    processes.join()
    torch.set_num_threads(1)
    rank = processes.RANK
    found = {"rank": rank, "mean": processes.mean(torch.tensor(2. * rank)).item()}
    print("the first one speaks")
    for turn in (0, 1):                                 # so a second one that wrote would be last
        if rank == turn:
            write_atomic(folder / "who", str(rank).encode())
        processes.wait_for_all()
    save_tensors(folder / "who.pth", {"rank": rank})
    sleep(0.2 * rank)                                   # a slow process finds no file too early
    refuse_existing(folder / "late.pth", "")
    save_tensors(folder / "late.pth", {})

    learn = plain(data_of(masks=False))
    learn.fit_one_cycle(4, 1e-2, checkpoint=folder / "fit.pth")
    found["losses"], found["epochs"] = learn.recorder.losses, learn.recorder.epochs
    found["valid"], found["curve"] = learn.validate(), lr_find(learn, num_it=8).losses
    found["likely"] = learn.get_preds()[0].tolist()
    again = plain(data_of(masks=False))
    again.fit_one_cycle(4, 1e-2, checkpoint=folder / "fit.pth", resume=True)    # all was done
    found["resumed"] = again.recorder.losses

    torch.manual_seed(0)
    loss, metric = (partial(function, **{knob: 2}) for function, knob in
                    [(pixel_loss, "ignore"), (foreground_accuracy, "void_code")])
    pixels = Learner(data_of(masks=True), nn.Conv2d(3, 3, 1), loss, [metric], precision="float32")
    pixels.fit(2, 1e-2)
    found["pixel losses"], found["pixel scores"] = pixels.recorder.losses, pixels.validate()
    found["worst"] = worst(pixels, metric, 3)

    data = DataBunch.create(*(Dataset(sorted(folder.parent.glob("*.png"))[:n], ["ab"] * n,
                                      Tags(["a", "b", "c"]), (8, 8)) for n in (6, 1)),
                            bs=4, num_workers=1, device=CPU, cache=True)
    files = plain(data.normalize(imagenet_stats))
    files.fit(3, 1e-2)
    found["files"], found["shown"] = files.recorder.losses, data.show_batch(train=False).size
    found["files scores"] = [files.validate(), *(part.tolist() for part in files.get_preds())]

    if processes.COUNT > 1:
        norm = plain(data_of(masks=False), norm=True)
        norm.fit_one_cycle(2, 1e-2)
        found["statistics"] = [buffer.tolist() for buffer in norm.model.buffers()]
        found["norm"], found["norm curve"] = norm.validate(), lr_find(norm, num_it=4).losses
        norm.save(folder / "norm.pth")
    (folder / f"{processes.RANK}.json").write_text(json.dumps(found))


def started(folder: Path, count: int) -> list[subprocess.Popen]:
    """`count` processes that work in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = f"from pathlib import Path; from {__name__} import work; work(Path({str(folder)!r}))"
    shared = {**os.environ, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
              "CUDA_VISIBLE_DEVICES": "",
              "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return [subprocess.Popen([sys.executable, "-c", call], text=True, stdout=subprocess.PIPE,
                             env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What one process found, "one"; and two, "first" and "second"; and what these printed."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 90, 200 - 20 * i)).save(folder / f"{i}.png")
    one, two = folder / "one", folder / "two"
    one.mkdir(), two.mkdir()
    running = [*started(two, 2), *started(one, 1)]
    printed = [process.communicate(timeout=100)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    first, second, alone = (json.loads(file.read_text())
                            for file in (two / "0.json", two / "1.json", one / "0.json"))
    return {"one": alone, "first": first, "second": second, "printed": printed, "folder": two}


def near(value, tolerance: float):
    return pytest.approx(value, abs=tolerance, rel=0)


def test_two_processes_that_share_each_batch_follow_the_losses_of_one(found):
    one, first, second = (found[name]["losses"] for name in ("one", "first", "second"))
    assert len(one) == 20 and max(one) - min(one) > 0.01
    assert first == second == near(one, 1e-4)


def test_they_have_the_same_validation_scores(found):
    one, first, second = (found[name]["valid"] for name in ("one", "first", "second"))
    assert first == second == near(one, 1e-6) and 0 < one["fbeta"] < 1


def test_they_predict_all_pictures_in_order(found):
    one, first, second = (found[name]["likely"] for name in ("one", "first", "second"))
    assert first == second and len(first) == N_VALID
    assert torch.allclose(torch.tensor(first), torch.tensor(one), atol=1e-5)


def test_they_find_the_same_curve_of_learning_rates(found):
    one, first, second = (found[name]["curve"] for name in ("one", "first", "second"))
    assert first == second == near(one, 1e-4) and len(one) == 8


def test_a_loss_that_ignores_pixels_is_the_same_in_two_processes(found):
    one, first, second = (found[name]["pixel losses"] for name in ("one", "first", "second"))
    assert first == second == near(one, 1e-4) and len(one) == 10
    one, first, second = (found[name]["pixel scores"] for name in ("one", "first", "second"))
    assert first == second == near(one, 1e-6)
    assert found["first"]["worst"] == found["second"]["worst"]


def test_files_with_a_cache_and_workers_are_shared_out_too(found):
    one, first, second = (found[name]["files"] for name in ("one", "first", "second"))
    assert first == second == near(one, 1e-4) and len(one) == 3
    one, first, second = (found[name]["files scores"] for name in ("one", "first", "second"))
    assert first == second and first[0] == near(one[0], 1e-6)
    assert first[1][0] == near(one[1][0], 1e-5) and first[2] == [[1, 1, 0]]
    assert found["one"]["shown"] == found["first"]["shown"] == found["second"]["shown"]


def test_with_batchnorm_all_validate_the_model_that_the_first_one_saves(found):
    alone = plain(data_of(masks=False), norm=True)
    alone.load(found["folder"] / "norm.pth")
    assert found["first"]["norm"] == found["second"]["norm"] == near(alone.validate(), 1e-6)
    saved = [buffer.tolist() for buffer in alone.model.buffers()]
    assert found["first"]["statistics"] == found["second"]["statistics"] == saved
    assert saved[0] != [0] * 8 and saved[2] == 10               # batches
    assert found["first"]["norm curve"] == found["second"]["norm curve"]


def test_the_first_one_alone_prints(found):
    first, second, alone = found["printed"]
    assert first.startswith("the first one speaks") and first.count("train_loss") == 5
    assert second == "" and alone.startswith("the first one speaks")


def test_the_first_one_alone_writes(found):
    assert (found["folder"] / "who").read_text() == "0"
    assert load_tensors(found["folder"] / "who.pth") == {"rank": 0}


def test_a_mean_is_over_the_processes(found):
    # Adam does not mind if all gradients are too large by one factor: so the losses do not tell.
    assert [found[name]["mean"] for name in ("one", "first", "second")] == [0, 1, 1]


def test_a_checkpoint_is_written_once_and_all_go_on_from_it(found):
    for name in ("one", "first", "second"):
        assert found[name]["resumed"] == found[name]["losses"]
    names = sorted(path.name for path in found["folder"].iterdir())
    assert names == ["0.json", "1.json", "fit.pth", "late.pth", "norm.pth", "who", "who.pth"]
