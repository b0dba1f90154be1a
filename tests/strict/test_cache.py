import os

import numpy
import pytest

from minifast.cache import Cache, bytes_of, shared


def test_what_was_put_in_comes_out_and_the_rest_is_missing():
    cache = Cache([(2, 3), (1, 2), (2, 2)])
    cache[2] = numpy.array([[1, 2], [3, 4]], numpy.uint8)
    cache[0] = numpy.array([[5, 6, 7], [8, 9, 255]], numpy.uint8)
    assert cache[2].tolist() == [[1, 2], [3, 4]] and cache[2].dtype == numpy.uint8
    assert cache[0].tolist() == [[5, 6, 7], [8, 9, 255]]
    assert cache[1] is None


def test_what_comes_out_is_a_copy():
    cache = Cache([(2,)])
    cache[0] = numpy.array([1, 2])
    cache[0][:] = 7
    assert cache[0].tolist() == [1, 2]


def test_an_array_in_any_layout_goes_in():
    cache = Cache([(2, 3)])
    cache[0] = numpy.arange(6).reshape(3, 2).T
    assert cache[0].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_all_are_one_array_once_they_are_there():
    cache = Cache([(2, 2)] * 3)
    for i in (2, 0):
        cache[i] = numpy.full((2, 2), i)
    assert cache.all() is None
    cache[1] = numpy.full((2, 2), 1)
    assert cache.all().shape == (3, 2, 2) and cache.all()[:, 1, 0].tolist() == [0, 1, 2]


def test_arrays_of_different_shapes_are_not_one():
    cache = Cache([(1, 4), (2, 2)])
    for i in range(2):
        cache[i] = numpy.zeros(cache.shapes[i])
    assert cache.filled.all() and cache.all() is None


def test_how_many_bytes_a_cache_takes_is_known_before():
    assert bytes_of([(2, 3), (1, 2)]) == 8 == Cache([(2, 3), (1, 2)]).values.nbytes
    assert bytes_of([(2, 3), (1, 2)], numpy.int32) == 32
    assert bytes_of([]) == 0 == Cache([]).values.nbytes


def test_the_type_may_be_another():
    cache = Cache([(2,)], numpy.int32)
    cache[0] = numpy.array([70000, 1])
    assert cache[0].tolist() == [70000, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_what_a_forked_process_puts_in_its_parent_finds():
    cache = Cache([(3,), (3,)])
    child = os.fork()
    if child == 0:
        cache[1] = numpy.array([7, 8, 9])
        os._exit(0)
    os.waitpid(child, 0)
    assert cache[0] is None and cache[1].tolist() == [7, 8, 9]


def test_shared_memory_begins_with_zeros_and_may_be_empty():
    assert shared(3, numpy.int32).tolist() == [0, 0, 0]
    assert shared(0, bool).tolist() == []
