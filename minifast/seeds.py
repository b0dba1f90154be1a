"""Random numbers that follow from a key, such as (seed, epoch), and from nothing else.

So the same seed gives the same result however many workers there are, and nothing that only looks
disturbs what comes after it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


def seed_of(*key: int) -> int:
    """One seed from several numbers from 0 up: other numbers, order or count give another seed."""
    # With the count, because numpy takes (1, 2) and (1, 2, 0) for the same.
    return int(numpy.random.SeedSequence((len(key), *key)).generate_state(1)[0])


def generator_for(*key: int) -> torch.Generator:
    """A random generator on the CPU whose numbers follow from the key alone."""
    return torch.Generator().manual_seed(seed_of(*key))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Inside, torch's global random numbers (first weights, dropout) follow from the key alone;
    afterwards the random state is as it was before. That is the CPU's, and the current GPU's where
    CUDA is in use; other GPUs are left alone."""
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(seed_of(*key))
        if gpus:
            torch.cuda.manual_seed(seed_of(*key))
        yield
