from contextlib import ExitStack
from hashlib import sha256
import os
from pathlib import Path
import tempfile
from unittest.mock import Mock

import pytest
import torch

from minifast.tools import processes
from minifast.tools.files import load_tensors, refuse_existing, save_tensors, write_atomic

CONTENT = {"weights": {"w": torch.arange(6.).reshape(2, 3), "half": torch.ones(2).bfloat16()},
           "classes": ["haze", "road"], "size": (128, 128), "none": None, "yes": True, "lr": 1e-5}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_first_process_makes_folders_and_replaces_an_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "er" / "a.bin"
    assert write_atomic(str(path), b"a long old text") == path
    write_atomic(path, b"new")
    monkeypatch.setattr(processes, "RANK", 1)
    assert write_atomic(str(path), b"by another process") == path
    assert contents(path.parent) == {"a.bin": b"new"}


@pytest.mark.parametrize("function, error", [("fsync", OSError(28, "No space left on device")),
                                             ("replace", KeyboardInterrupt("Ctrl-C"))])
def test_after_an_error_only_the_old_file_is_there(tmp_path, monkeypatch, function, error):
    (tmp_path / "a.bin").write_bytes(b"old")
    monkeypatch.setattr(os, function, Mock(side_effect=error))
    with pytest.raises(type(error)):
        save_tensors(tmp_path / "a.bin", CONTENT)
    assert contents(tmp_path) == {"a.bin": b"old"}


def test_the_content_is_on_the_disk_before_a_hidden_file_gets_the_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda number: events.append(os.fstat(number).st_size))
    monkeypatch.setattr(os, "replace", lambda old, new: events.append((old.name, old.parent, new)))
    write_atomic(tmp_path / "a.bin", b"four")
    # Flushed, so all 4 bytes are there when fsync comes. A second run has a number of its own.
    assert events == [4, (f".{os.getpid()}.a.bin", tmp_path, tmp_path / "a.bin")]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of Unix")
def test_in_a_read_only_folder_the_old_file_stays():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:           # tmp_path lies where nobody may look
        (Path(folder) / "a.bin").write_bytes(b"old")
        Path(folder).chmod(0o555)
        os.seteuid(user or 65534)                           # root may write anywhere, nobody not
        with pytest.raises(PermissionError), ExitStack() as stack:
            stack.callback(os.seteuid, user)
            write_atomic(Path(folder) / "a.bin", b"new")
        assert contents(Path(folder)) == {"a.bin": b"old"}


def test_an_existing_file_is_refused_unless_it_may_be_overwritten(tmp_path):
    refuse_existing(tmp_path / "a.pth", "name another")
    refuse_existing(tmp_path, "name another", overwrite=True)
    with pytest.raises(ValueError, match=f"{tmp_path} .*name another"):
        refuse_existing(str(tmp_path), "name another")


def test_what_was_saved_is_loaded_and_torch_reads_the_file_too(tmp_path, monkeypatch):
    there, asked, load = [], [], torch.load
    monkeypatch.setattr(processes, "wait_for_all", lambda: there.append(len(contents(tmp_path))))
    monkeypatch.setattr(torch, "load", lambda file, *how, **more: (
        asked.append((how, more)), load(file, *how, **more))[1])
    path = save_tensors(str(tmp_path / "a.pt"), CONTENT)
    assert path == tmp_path / "a.pt" and there == [0, 1]    # all meet before and after
    for loaded in (load_tensors(path), load_tensors(str(path)), load(path, weights_only=True)):
        assert repr(loaded) == repr(CONTENT)
    assert asked == [(("cpu",), {"weights_only": True})] * 2    # before torch 2.6 not the default


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1])
def test_one_flipped_bit_and_a_cut_anywhere_are_noticed(tmp_path, share):
    content = save_tensors(tmp_path / "a.pt", CONTENT).read_bytes()
    place = int(share * (len(content) - 1))
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1:]
    for wrong in (flipped, content[:place]):
        (tmp_path / "a.pt").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"a\.pt .*altered"):
            load_tensors(tmp_path / "a.pt")


class Trap:
    def __reduce__(self):                                       # loading its pickle makes a folder
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("content", [{"weights": Trap()}, [torch.zeros(1)]])
def test_code_is_refused_and_not_run_and_so_is_what_is_no_dict(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "a.pt")
    body = Path("a.pt").read_bytes()
    for end, digest in ((b"", False), (sha256(body).digest(), True)):      # as one who means harm
        Path("a.pt").write_bytes(body + end)
        with pytest.raises(ValueError, match=r"a\.pt is damaged"):
            load_tensors("a.pt", digest)
    with pytest.raises(ValueError, match=r"no\.pt does not exist; was it saved"):
        load_tensors("no.pt")
    assert list(contents(tmp_path)) == ["a.pt"]
