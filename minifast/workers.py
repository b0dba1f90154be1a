"""What happens in the worker processes of a loader, so that one that dies can be accounted for."""

from collections.abc import Iterable, Iterator
from multiprocessing import active_children
import os
import random
import re
import signal
import sys
from time import sleep

import numpy
import torch
from torch.utils.data import get_worker_info

from minifast.cache import shared
from minifast.tools import processes
from minifast.tools.device import cores
from minifast.tools.seeds import seed_of

# How workers are started. Any other way imports the script again, and a lesson, which has no main
# guard, would start again in each worker. None, where processes cannot be forked: no workers.
FORK = "fork" if sys.platform == "linux" else None


def default_workers(device: torch.device) -> int:
    """How many workers help a device: on the CPU 0, since there the model itself uses every core;
    else this process's share of the cores, but 1 to 8. 0 also where FORK is None."""
    if FORK is None or device.type == "cpu":
        return 0
    return max(1, min(8, cores() // processes.COUNT))


class Watched:
    """A data set that notes which item each worker process is at, where the parent can read it.

    dataset      anything with len() and [key]; keys are item numbers, or tuples that begin with one
    num_workers  how many processes there will be, forked off this one; 0: nothing is noted

    `board` has a row per worker: its process number and the item; `seed` is what the random numbers
    of workers follow from. Both are memory that parent and forks share (cache.shared).
    """

    def __init__(self, dataset: object, num_workers: int):
        self.dataset = dataset
        self.board = shared(2 * max(1, num_workers), numpy.int64).reshape(-1, 2)
        self.seed, self.seeded = shared(1, numpy.int64), None

    def __len__(self) -> int:
        return len(self.dataset)

    def reseed(self, seed: int) -> None:
        """At the start of an epoch: workers that stay shall draw what new ones would, by `seed`."""
        self.seed[0] = seed

    def __getitem__(self, key: int | tuple) -> object:
        """dataset[key]. Raises ValueError, naming the item, for any error but a ValueError, which
        names it already."""
        number = number_of(key)
        worker = get_worker_info()
        if worker is not None:
            self.board[worker.id] = os.getpid(), number
            if self.seeded != self.seed[0]:
                self.seeded = int(self.seed[0])
                seed_all(seed_of(self.seeded, worker.id))
        try:
            return self.dataset[key]
        except ValueError:
            raise
        except (Exception, SystemExit) as error:
            raise ValueError(f"{name_of_item(self.dataset, number)} cannot be had: "
                             f"{type(error).__name__}: {error}") from error

    def obituary(self, error: RuntimeError) -> str:
        """What to say of torch's error: which items the workers it names were at (name_of_item, or
        `nothing yet`), the cause, and a way out.

        It is "DataLoader worker (pid 123) is killed by signal: Killed"; or, where the parent was
        waiting, "DataLoader worker (pid(s) 123, 124) exited unexpectedly". If its __cause__ says
        "DataLoader worker" too, that is the cause, else the error itself. Numbers in the bracket
        are processes; without any, those of the board that no longer live are meant. Several items
        are joined by `or`.
        """
        news = [str(each).strip() for each in (error, error.__cause__)
                if "DataLoader worker" in str(each)]
        # Not the numbers behind the bracket: exit codes, the advice num_workers=0.
        gone = {int(number) for text in news
                for number in re.findall(r"\d+", text.rpartition(")")[0])}
        if not gone:
            sleep(0.5)                      # the end of a process is known a little later
            gone = set(self.board[:, 0].tolist()) - {p.pid for p in active_children()} - {0}
        items = [name_of_item(self.dataset, item) for pid, item in self.board.tolist()
                 if pid in gone]
        return (f"a loader's worker died while it read {' or '.join(items) or 'nothing yet'}: "
                f"{news[-1]} Look at that file; if the machine ran out of memory, take fewer "
                "workers (num_workers=1) or a smaller batch")


def let_go(fetched: Iterable) -> Iterator:
    """Yield what a DataLoader with workers, `fetched`, does. A ValueError goes on without its
    traceback (a worker's is in its text); an EOFError or OSError, by which a worker's end shows at
    times, becomes a RuntimeError "DataLoader worker is gone". Else error and frame would keep
    each other, and with them the workers, until the garbage collector comes, which waits for them.
    """
    try:
        yield from fetched
    except ValueError as error:
        raise error.with_traceback(None)
    except (EOFError, OSError) as error:    # a worker has ended that was to hand over a batch
        raise RuntimeError(f"DataLoader worker is gone: {error!r}") from error


def number_of(key: int | tuple) -> int:
    """The number of the item that a key asks for: the key itself, or what it begins with."""
    return key[0] if isinstance(key, tuple) else key


def name_of_item(dataset: object, number: int) -> str:
    """The file of a dataset's item, where that has `files`, else `item 5`, by its number."""
    files = getattr(dataset, "files", None)
    return f"item {number}" if files is None else str(files[number])


def ignore_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches forked workers too; the parent alone reacts to it, and ends them. torch calls
    this in each worker, and gives its number as `worker`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def seed_all(seed: int) -> None:
    """Have the global random numbers of Python, numpy and torch, on the CPU, follow from a seed."""
    random.seed(seed)
    numpy.random.seed(seed)
    torch.default_generator.manual_seed(seed)
