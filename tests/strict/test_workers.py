import gc
import os
from pathlib import Path
import signal
from types import SimpleNamespace
import weakref

import pytest
import torch
from torch.utils.data import DataLoader

from minifast import workers
from minifast.workers import Watched, ignore_ctrl_c, let_go, name_of_item

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked processes")


class Numbered:
    """Item i is the number i; keys as they came are in `asked`."""

    def __init__(self, n: int):
        self.n, self.asked = n, []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: int | tuple) -> int:
        self.asked.append(key)
        return key if isinstance(key, int) else key[0]


class Broken(Numbered):
    """Whatever it is asked for, it raises the error."""

    def __init__(self, n: int, error: BaseException):
        super().__init__(n)
        self.error = error

    def __getitem__(self, key: int | tuple) -> int:
        raise self.error


def test_the_data_set_gets_the_keys_as_they_come_and_its_items_go_through():
    dataset = Numbered(9)
    watched = Watched(dataset, 0)
    assert len(watched) == 9 and watched.dataset is dataset
    assert [watched[key] for key in (3, (5, 42, 7))] == [3, 5]
    assert dataset.asked == [3, (5, 42, 7)]                 # the number, seed and epoch of an item


def test_the_board_has_a_row_for_each_worker_and_is_empty_at_first():
    for count in (1, 3):
        assert Watched(Numbered(9), count).board.tolist() == [[0, 0]] * count


def test_without_workers_nothing_is_noted():
    watched = Watched(Numbered(9), 0)
    assert watched[4] == 4 and not watched.board.any()


@pytest.mark.parametrize("key", [4, (4, 42, 7)])
def test_a_worker_notes_its_process_and_the_item_before_it_is_had(monkeypatch, key):
    monkeypatch.setattr(workers, "get_worker_info", lambda: SimpleNamespace(id=1))
    watched = Watched(Broken(9, ValueError("broken")), 3)
    with pytest.raises(ValueError, match="broken"):
        watched[key]
    assert watched.board.tolist() == [[0, 0], [os.getpid(), 4], [0, 0]]


@FORKS
def test_what_a_forked_process_notes_is_seen_by_its_parent(monkeypatch):
    monkeypatch.setattr(workers, "get_worker_info", lambda: SimpleNamespace(id=0))
    watched = Watched(Numbered(2 ** 40 + 1), 1)
    child = os.fork()
    if child == 0:
        try:
            watched[2 ** 40]                                # numbers of 64 bits
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert watched.board.tolist() == [[child, 2 ** 40]]


@pytest.mark.parametrize("error", [KeyError("tags"), RuntimeError("too large"), OSError("gone")])
def test_any_error_of_a_data_set_names_the_item(error):
    dataset = Broken(9, error)
    for key in (5, (5, 42, 7)):
        wanted = f"^item 5 cannot be had: {type(error).__name__}: .*{error.args[0]}"
        with pytest.raises(ValueError, match=wanted) as raised:
            Watched(dataset, 0)[key]
        assert raised.value.__cause__ is error
    dataset.files = [Path("pics", f"{i}.jpg") for i in range(9)]
    with pytest.raises(ValueError, match=r"^pics.5\.jpg cannot be had: "):
        Watched(dataset, 0)[5]


@pytest.mark.parametrize("error", [ValueError("a.jpg is broken"), KeyboardInterrupt("Ctrl-C")])
def test_a_valueerror_names_the_item_already_and_ctrl_c_is_none(error):
    with pytest.raises(type(error)) as raised:
        Watched(Broken(9, error), 0)[5]
    assert raised.value is error and error.__cause__ is None


def died(error: str | RuntimeError, board: list, n: int = 9) -> str:
    """The obituary for an error of torch's, or one of that message, where the board says so."""
    dataset = Numbered(n)
    dataset.files = [f"{i}.jpg" for i in range(n)]
    watched = Watched(dataset, len(board))
    watched.board[:] = torch.tensor(board).numpy()
    return watched.obituary(error if isinstance(error, RuntimeError) else RuntimeError(error))


def test_an_obituary_names_the_item_the_cause_and_a_way_out():
    text = died("DataLoader worker (pid 71) is killed by signal: Killed. ", [[70, 2], [71, 5]])
    assert text == ("a loader's worker died while it read 5.jpg: DataLoader worker (pid 71) is "
                    "killed by signal: Killed. Look at that file; if the machine ran out of "
                    "memory, take fewer workers (num_workers=1) or a smaller batch")


def test_several_workers_may_die_at_once():
    message = "DataLoader worker (pid(s) 70, 72) exited unexpectedly"
    text = died(message, [[70, 2], [71, 5], [72, 0]])
    assert text.startswith(f"a loader's worker died while it read 2.jpg or 0.jpg: {message} Look")


@pytest.mark.parametrize("cause, said", [
    (RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "),
     "5.jpg: DataLoader worker (pid 71) is killed by signal: Killed. Look"),
    (KeyError("empty"), "5.jpg: DataLoader worker (pid(s) 71) exited unexpectedly Look")])
def test_the_cause_is_the_error_that_torch_made_a_vaguer_one_of(cause, said):
    error = RuntimeError("DataLoader worker (pid(s) 71) exited unexpectedly")
    error.__cause__ = cause
    assert said in died(error, [[70, 2], [71, 5]])


def test_where_no_process_is_named_it_is_the_one_that_lives_no_longer(monkeypatch):
    monkeypatch.setattr(workers, "sleep", lambda seconds: None)
    monkeypatch.setattr(workers, "active_children", lambda: [SimpleNamespace(pid=70)])
    text = died("DataLoader worker is gone: EOFError()", [[70, 2], [71, 5], [0, 0]])
    assert text.startswith("a loader's worker died while it read 5.jpg: DataLoader worker is gone")


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "reset"),
                                   FileNotFoundError(2, "no such file")])
def test_a_batch_that_cannot_be_handed_over_is_the_end_of_a_worker(error):
    # torch lets the error of the broken pipe through, bare
    def fetched():
        yield 1
        raise error

    got = let_go(fetched())
    assert next(got) == 1
    with pytest.raises(RuntimeError, match=f"^DataLoader worker is gone: {type(error).__name__}"):
        next(got)


def test_a_worker_that_had_not_begun_read_nothing_and_exit_codes_are_no_processes():
    message = ("DataLoader worker (pid 71) exited unexpectedly with exit code 7. Details are lost "
               "due to multiprocessing. Rerunning with num_workers=0 may give better error trace.")
    for board, item in (([[71, 5], [0, 0]], "5.jpg"), ([[7, 1], [0, 0]], "nothing yet")):
        text = died(message, board)
        assert text.startswith(f"a loader's worker died while it read {item}: {message} Look")


class Fetched:
    """An iterator whose error keeps itself alive, as torch's does: in a variable of its frame."""

    left = 2

    def __iter__(self) -> "Fetched":
        return self

    def __next__(self) -> int:
        self.left -= 1
        if self.left >= 0:
            return self.left
        error = ValueError("a.jpg cannot be read")
        raise error


def test_an_error_of_a_worker_keeps_no_iterator_alive():
    fetched, got = Fetched(), []
    alive = weakref.ref(fetched)
    gc.disable()                                # which would come, but later
    try:
        with pytest.raises(ValueError, match="^a.jpg cannot be read$") as raised:
            for item in let_go(fetched):
                got.append(item)
        del fetched, raised
        assert got == [1, 0] and alive() is None
    finally:
        gc.enable()


def test_an_item_is_named_by_its_file_or_else_by_its_number():
    dataset = Numbered(9)
    assert name_of_item(dataset, 5) == "item 5"
    dataset.files = [Path("pics", f"{i}.jpg") for i in range(9)]
    assert name_of_item(dataset, 5) == str(Path("pics", "5.jpg"))


def test_ignore_ctrl_c_makes_a_process_ignore_it():
    before = signal.getsignal(signal.SIGINT)
    try:
        ignore_ctrl_c(0)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@FORKS
def test_workers_ignore_ctrl_c_and_the_parent_does_not():
    class Asks(Numbered):
        def __getitem__(self, i):
            return signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    for count, wanted in ((1, True), (0, False)):
        context = "fork" if count else None
        asked = DataLoader(Asks(2), num_workers=count, worker_init_fn=ignore_ctrl_c,
                           multiprocessing_context=context, generator=torch.Generator())
        assert [answer.item() for answer in asked] == [wanted, wanted]


@pytest.mark.parametrize("fork, device, cores, count, wanted", [
    ("fork", "cuda", 3, 1, 3), ("fork", "cuda", 64, 1, 8), ("fork", "cuda", 12, 2, 6),
    ("fork", "cuda", 12, 16, 1), ("fork", "cpu", 64, 1, 0), (None, "cuda", 64, 1, 0)])
def test_a_gpu_has_a_worker_per_core_of_this_process_up_to_8(monkeypatch, fork, device, cores,
                                                             count, wanted):
    monkeypatch.setattr(workers, "FORK", fork)
    monkeypatch.setattr(workers, "cores", lambda: cores)
    monkeypatch.setattr(workers.processes, "COUNT", count)
    assert workers.default_workers(torch.device(device)) == wanted


@pytest.mark.parametrize("platform, wanted", [("linux", "fork"), ("darwin", None), ("win32", None)])
def test_workers_are_forked_on_linux_only(monkeypatch, platform, wanted):
    from runpy import run_path
    monkeypatch.setattr("sys.platform", platform)
    assert run_path(workers.__file__)["FORK"] == wanted


def test_all_global_random_numbers_follow_from_a_seed_and_no_gpu_is_touched(monkeypatch):
    import random

    import numpy
    seeds, numbers = [], []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    for seed in (7, 7, 8):
        workers.seed_all(seed)
        numbers.append((random.random(), numpy.random.random(), torch.rand(1).item()))
    assert numbers[0] == numbers[1] and seeds == []
    assert all(one != other for one, other in zip(numbers[0], numbers[2]))
