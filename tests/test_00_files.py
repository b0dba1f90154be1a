from collections import OrderedDict
from hashlib import sha256
from io import BytesIO
import os
from pathlib import Path
import pickle

import pytest
import torch

from minifast.files import load_tensors, save_tensors, unpickled, write_atomic

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


@pytest.mark.parametrize("complaint", [pickle.UnpicklingError, RuntimeError, EOFError, OSError,
                                       KeyError])
def test_each_of_torchs_complaints_becomes_one_with_the_files_name(complaint):
    def load():
        raise complaint("reason")

    with pytest.raises(ValueError, match="old.pth is no file of plain tensors: .*reason"):
        unpickled(Path("old.pth"), load)


def test_what_is_no_dict_is_refused():
    with pytest.raises(ValueError, match="a.pth holds a list, wanted a dict"):
        unpickled(Path("a.pth"), lambda: [1])


def test_unpickled_hands_on_what_was_loaded():
    assert unpickled(Path("a.pth"), lambda: {"epoch": 1}) == {"epoch": 1}
