"""Random numbers that follow from a key, such as (seed, epoch), and from nothing else.

So the same seed gives the same result however many workers there are, and nothing that only looks
disturbs what comes after it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import random

import numpy
import torch


def seed_of(*key: int) -> int:
    """A seed below 2**32 by a key of numbers from 0 up: other numbers, order or count, another."""
    # With the count, because numpy takes (1, 2) and (1, 2, 0) for the same.
    return int(numpy.random.SeedSequence((len(key), *key)).generate_state(1)[0])


def generator_for(*key: int) -> torch.Generator:
    """A random generator on the CPU whose numbers follow from the key alone."""
    return torch.Generator().manual_seed(seed_of(*key))


def seed_all(seed: int) -> None:
    """Have the global random numbers of Python, numpy and torch, on the CPU, follow from a seed."""
    random.seed(seed)
    numpy.random.seed(seed)
    # Not torch.manual_seed, which would leave a note for a CUDA that is not in use yet.
    torch.default_generator.manual_seed(seed)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Inside, global random numbers follow from seed_of(*key) alone: Python's, numpy's and torch's
    (first weights, dropout) on the CPU and, if torch.cuda.is_initialized(), each GPU; else CUDA is
    not touched. Then, also after an error, each is as before (torch's by torch.random.fork_rng)."""
    seed, gpus = seed_of(*key), torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    python, numpys = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(range(gpus)):
        try:
            seed_all(seed)
            if gpus:
                torch.cuda.manual_seed_all(seed)
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(numpys)
