"""Decoded pictures, kept in memory: so that a file is decoded once, and not once in each epoch."""

from collections.abc import Sequence
from math import prod
import mmap

import numpy


def shared(count: int, dtype: type) -> numpy.ndarray:
    """`count` zeros of a dtype that this process shares with those that are forked off it later.

    An anonymous map: no size of /dev/shm limits it, and what was never written takes no memory.
    """
    size = max(1, count * numpy.dtype(dtype).itemsize)          # an empty map is refused
    return numpy.frombuffer(mmap.mmap(-1, size), dtype, count)


def bytes_of(shapes: Sequence[tuple[int, ...]], dtype: type = numpy.uint8) -> int:
    """How many bytes a Cache of arrays with these shapes and this dtype takes."""
    return sum(map(prod, shapes)) * numpy.dtype(dtype).itemsize


class Cache:
    """An array for each item, empty at first; what one process puts in, all find.

    shapes  of each item's array: Cache([(2, 2), (1, 3)])
    dtype   of all of them
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtype: type = numpy.uint8):
        self.shapes = list(shapes)
        self.ends = numpy.cumsum(list(map(prod, self.shapes)), dtype=numpy.int64)
        self.values = shared(sum(map(prod, self.shapes)), dtype)
        self.filled = shared(len(self.shapes), bool)

    def __getitem__(self, i: int) -> numpy.ndarray | None:
        """The array of item i, a copy; None where nobody has put it in yet."""
        if not self.filled[i]:
            return None
        shape, end = self.shapes[i], self.ends[i]
        return self.values[end - prod(shape):end].reshape(shape).copy()

    def __setitem__(self, i: int, array: numpy.ndarray) -> None:
        """Copy the array of item i in; it has the shape that was given for it."""
        self.values[self.ends[i] - array.size:self.ends[i]] = array.ravel()
        self.filled[i] = True                   # last: nobody shall find half of an array

    def all(self) -> numpy.ndarray | None:
        """The arrays of all items as one, (n, ...), a view; None where some are still missing, or
        their shapes differ."""
        if not self.filled.all() or len(set(self.shapes)) > 1:
            return None
        return self.values.reshape(len(self.shapes), *self.shapes[0])
