"""Random numbers that follow from a key, such as (seed, epoch), and from nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
import random

import numpy
import torch


def seed_of(*key: int) -> int:
    """A seed below 2**32 that depends on the numbers of the key, their order and their count."""
    # With the count, because numpy takes (1, 2) and (1, 2, 0) for the same.
    return int(numpy.random.SeedSequence((len(key), *key)).generate_state(1)[0])


def generator_for(*key: int) -> torch.Generator:
    """A random generator on the CPU for this key."""
    return torch.Generator().manual_seed(seed_of(*key))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Inside, the global random numbers of Python, numpy and torch follow from the key: initial
    weights, dropout, a data set of your own. Afterwards they go on as before."""
    seed, gpus = seed_of(*key), torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    python_state, numpy_state = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(range(gpus)):
        try:
            random.seed(seed)
            numpy.random.seed(seed)
            torch.default_generator.manual_seed(seed)   # torch.manual_seed would also start a GPU
            if gpus:
                torch.cuda.manual_seed_all(seed)
            yield
        finally:
            random.setstate(python_state)
            numpy.random.set_state(numpy_state)
