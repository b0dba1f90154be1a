from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
import errno
from hashlib import sha256
from io import BytesIO
import os
from pathlib import Path
import pickle
import tempfile

import numpy
from PIL import Image
import pytest
import torch

from minifast.files import (load_tensors, refuse_existing, replacing, save_picture, save_tensors,
                            unpickled, write_atomic)

CONTENT = {"weights": {"w": torch.arange(6.).reshape(2, 3), "half": torch.ones(2).bfloat16()},
           "classes": ["haze", "road"], "size": (128, 128), "mean": 0.25, "epoch": 3,
           "name": "resnet34", "nothing": None, "yes": True, "deep": {"er": {"lr": [1e-5, 2e-3]}}}


def same(one: object, other: object) -> bool:
    """Whether both are equal, tensors bit by bit and with their types."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other


# write_atomic

def test_bytes_are_written_and_the_path_is_returned(tmp_path):
    assert write_atomic(str(tmp_path / "a.bin"), b"abc") == tmp_path / "a.bin"
    assert (tmp_path / "a.bin").read_bytes() == b"abc"


def test_folders_are_made_where_needed(tmp_path):
    assert write_atomic(tmp_path / "deep" / "er" / "a.bin", b"abc").read_bytes() == b"abc"


def test_an_old_file_is_replaced_whole(tmp_path):
    write_atomic(tmp_path / "a.bin", b"a long old text")
    write_atomic(tmp_path / "a.bin", b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"new"]


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_where_writing_fails_the_old_file_is_intact_and_nothing_is_left_behind(
        tmp_path, monkeypatch, function):
    def full_disk(*arguments):
        raise OSError("No space left on device")

    (tmp_path / "a.bin").write_bytes(b"old")
    monkeypatch.setattr(os, function, full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a.bin", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_the_whole_content_is_on_the_disk_before_the_name_is_changed(tmp_path, monkeypatch):
    events, replace = [], os.replace

    def noted(source, target):
        events.append((Path(source).read_bytes(), Path(source).parent, Path(target).exists()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda number: events.append(os.fstat(number).st_size))
    monkeypatch.setattr(os, "replace", noted)
    write_atomic(tmp_path / "a.bin", b"four")
    # flushed, so all 4 bytes are there when fsync comes; then a rename within the same folder
    assert events == [4, (b"four", tmp_path, False)]


def test_two_processes_may_write_the_same_file_at_once(tmp_path, monkeypatch):
    names, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(old), replace(old, new)))
    for process in (7, 8):
        monkeypatch.setattr(os, "getpid", lambda: process)
        write_atomic(tmp_path / "a.bin", b"abc")
    assert names[0] != names[1]


# replacing

def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", [Path, str])
def test_what_is_written_to_the_temporary_name_gets_the_name_in_the_end(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(b"old")
    with replacing(kind(tmp_path / "a.png")) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
        assert temporary.name.startswith(".") and temporary.name != ".a.png"
        temporary.write_bytes(b"new")
        assert (tmp_path / "a.png").read_bytes() == b"old"
    assert contents(tmp_path) == {"a.png": b"new"}


@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt("Ctrl-C")])
def test_an_error_of_the_writer_comes_through_and_nothing_is_left_behind(tmp_path, error):
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(type(error)) as raised, replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert raised.value is error and contents(tmp_path) == {"a.bin": b"old"}


def test_a_refusal_names_the_file_the_cause_and_the_way_out(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    wanted = r"\ba\.bin cannot be written: Quota exceeded\. .* free some space, or choose another"
    with pytest.raises(OSError, match=wanted) as raised, replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.EDQUOT, "Quota exceeded", str(temporary))
    assert raised.value.errno == errno.EDQUOT and contents(tmp_path) == {"a.bin": b"old"}


def test_where_the_folder_is_a_file_that_is_said_and_it_stays_as_it_is(tmp_path):
    (tmp_path / "runs").write_bytes(b"a file")
    for path in ("runs/a.bin", "runs/deep/er/a.bin"):
        with pytest.raises(OSError, match=rf"{path} cannot be written: (File exists|Not a dir)"):
            write_atomic(tmp_path / path, b"new")
    assert contents(tmp_path) == {"runs": b"a file"}


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OSError, match=r"a\.bin cannot be written: Is a directory"):
        write_atomic(tmp_path / "a.bin", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Inside, this process may do what others may: root, who may write anywhere, is nobody."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of Unix")
def test_a_read_only_folder_is_named_and_its_file_stays():
    with tempfile.TemporaryDirectory() as folder:           # tmp_path lies where nobody may look
        (Path(folder) / "a.bin").write_bytes(b"old")
        Path(folder).chmod(0o555)
        wanted = r"a\.bin cannot be written: Permission denied"
        with as_nobody(), pytest.raises(PermissionError, match=wanted):
            write_atomic(Path(folder) / "a.bin", b"new")
        assert contents(Path(folder)) == {"a.bin": b"old"}
        Path(folder).chmod(0o755)                           # so that it can be removed


# save_picture

def noise(rows: int, columns: int) -> Image.Image:
    numbers = numpy.random.default_rng(0).integers(0, 4, (rows, columns, 3), dtype=numpy.uint8)
    return Image.fromarray(numbers)


def test_a_picture_is_written_in_the_format_of_its_suffix(tmp_path):
    picture = noise(30, 40)
    assert save_picture(str(tmp_path / "new" / "a.png"), picture) == tmp_path / "new" / "a.png"
    with Image.open(tmp_path / "new" / "a.png") as found:
        assert found.format == "PNG" and found.tobytes() == picture.tobytes()
    sizes = []
    for knobs in ({}, {"quality": 90}, {"quality": 30}):
        with Image.open(save_picture(tmp_path / "a.jpg", picture, **knobs)) as found:
            assert (found.format, found.size) == ("JPEG", (40, 30))
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes[0] == sizes[1] > sizes[2]


def test_pngs_are_packed_by_the_fastest_method(tmp_path):
    picture, sizes = noise(60, 80), []
    for level in (0, 1, 2, 6):                              # not at all, ..., Pillow's usual level
        picture.save(tmp_path / "theirs.png", compress_level=level)
        sizes.append((tmp_path / "theirs.png").stat().st_size)
    assert sizes.count(sizes[1]) == 1
    assert save_picture(tmp_path / "a.png", picture).stat().st_size == sizes[1]


def test_where_a_picture_cannot_be_written_the_old_file_is_intact(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"old")
    with pytest.raises(OSError, match=r"a\.jpg cannot be written: cannot write mode P as JPEG"):
        save_picture(tmp_path / "a.jpg", Image.new("P", (4, 4)))
    assert contents(tmp_path) == {"a.jpg": b"old"}


# refuse_existing

def test_what_is_there_is_refused_with_the_remedy_unless_it_may_be_overwritten(tmp_path):
    refuse_existing(tmp_path / "a.pth", "name another")
    (tmp_path / "a.pth").touch()
    for path in (tmp_path / "a.pth", str(tmp_path / "a.pth"), tmp_path):        # a folder, too
        with pytest.raises(ValueError, match=r"^/\S+ exists already, .* as it is; name another$"):
            refuse_existing(path, "name another")
        refuse_existing(path, "name another", True)
        refuse_existing(path, "name another", overwrite=True)


# save_tensors, load_tensors

def test_what_was_saved_is_loaded(tmp_path):
    path = save_tensors(tmp_path / "a.pt", CONTENT)
    assert path == tmp_path / "a.pt"
    assert same(load_tensors(path), CONTENT)
    assert same(load_tensors(str(path)), CONTENT)


def test_a_state_dict_can_be_saved(tmp_path):
    layer = torch.nn.BatchNorm2d(2)
    loaded = load_tensors(save_tensors(tmp_path / "a.pt", layer.state_dict()))
    assert same(OrderedDict(loaded), layer.state_dict())


def test_torch_reads_the_file_too(tmp_path):
    path = save_tensors(tmp_path / "a.pt", CONTENT)
    assert same(torch.load(path, weights_only=True), CONTENT)


def test_saving_is_atomic(tmp_path, monkeypatch):
    path = save_tensors(tmp_path / "a.pt", {"epoch": 1})

    def full_disk(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_tensors(path, {"epoch": 2})
    assert load_tensors(path) == {"epoch": 1}


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no\.pt does not exist; was it saved under another"):
        load_tensors(tmp_path / "no.pt")
    with pytest.raises(ValueError, match="does not exist"):
        load_tensors(tmp_path)                                   # a folder is no file


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1])
def test_one_flipped_bit_anywhere_is_noticed(tmp_path, share):
    path = save_tensors(tmp_path / "a.pt", CONTENT)
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt was altered, cut short, or not written by mini"):
        load_tensors(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_noticed(tmp_path, share):
    path = save_tensors(tmp_path / "a.pt", CONTENT)
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.pt was altered, cut short"):
        load_tensors(path)


def test_a_file_of_other_origin_is_refused(tmp_path):
    torch.save(CONTENT, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt was altered, .* or not written by minifast"):
        load_tensors(tmp_path / "a.pt")


class Trap:
    """An object whose pickle would make a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path):
    buffer = BytesIO()
    torch.save({"weights": Trap(tmp_path / "trapped")}, buffer)
    body, path = buffer.getvalue(), tmp_path / "a.pt"
    path.write_bytes(body + sha256(body).digest())          # as someone would who means harm
    with pytest.raises(ValueError, match=r"a\.pt is no file of plain tensors"):
        load_tensors(path)
    assert not (tmp_path / "trapped").exists()


def test_what_could_not_be_loaded_again_is_not_written(tmp_path):
    save_tensors(tmp_path / "a.pt", CONTENT)
    with pytest.raises(ValueError, match=r"a\.pt is no file of plain tensors"):
        save_tensors(tmp_path / "a.pt", {"weights": Trap(tmp_path / "trapped")})
    assert load_tensors(tmp_path / "a.pt").keys() == CONTENT.keys()
    assert not (tmp_path / "trapped").exists()


def test_tensors_are_loaded_on_the_cpu_and_nothing_but_plain_values(tmp_path, monkeypatch):
    # said to torch in so many words: before torch 2.6 code in a file was run unless forbidden
    asked, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, device, weights_only=None: (
        asked.append((str(device), weights_only)), load(file, device, weights_only=True))[1])
    load_tensors(save_tensors(tmp_path / "a.pt", CONTENT))
    assert asked == [("cpu", True)] * 2                     # saving looks whether it can be loaded


@pytest.mark.parametrize("complaint", [RuntimeError, EOFError, OSError, KeyError])
def test_each_of_torchs_complaints_becomes_one_with_the_files_name(complaint):
    def load():
        raise complaint("reason")

    with pytest.raises(ValueError, match="old.pth is no file of plain tensors: .*reason"):
        unpickled(Path("old.pth"), load)


@pytest.mark.parametrize("complaint, met", [
    ("Unsupported global: GLOBAL posix.system was not", "posix.system"),          # torch 2.4
    ("Trying to load unsupported GLOBAL posix.system whose module", "posix.system"),    # 2.13
    ("Unsupported operand 149", "something else")])
def test_torchs_advice_to_load_code_all_the_same_is_not_handed_on(complaint, met):
    def load():
        raise pickle.UnpicklingError(f"Re-run with weights_only=False. {complaint}")

    with pytest.raises(ValueError, match=rf"old.pth .*there is {met} in it, which") as said:
        unpickled(Path("old.pth"), load)
    assert "weights_only" not in str(said.value)


def test_what_is_no_dict_is_refused():
    with pytest.raises(ValueError, match="a.pth holds a list, wanted a dict"):
        unpickled(Path("a.pth"), lambda: [1])


def test_unpickled_hands_on_what_was_loaded():
    assert unpickled(Path("a.pth"), lambda: {"epoch": 1}) == {"epoch": 1}
