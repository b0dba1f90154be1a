"""What runs beside the strict tests, on another core."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
import os
from pathlib import Path

import pytest

TASKS: dict[str, Callable[[Path], object]] = {}         # by name: what `begun` runs, and where


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for the other core come last."""
    items.sort(key=lambda item: "meanwhile" in getattr(item, "fixturenames", ()))


def task(name: str, folder: Path) -> object:
    return TASKS[name](folder)


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
          ) -> Iterator[dict[str, Future]]:
    """What runs on another core from the first test on: of each file with a test that asks for the
    fixture `meanwhile`, which is this one, the function `begin` says what. It runs in a process of
    its own: what a test does to this one, as a limit on the size of files, is none of its business.
    """
    for module in {item.module for item in request.session.items
                   if "meanwhile" in getattr(item, "fixturenames", ())}:
        TASKS.update(module.begin())
    pool = (ProcessPoolExecutor(1, get_context("fork")) if hasattr(os, "fork")      # not on Windows
            else ThreadPoolExecutor(1))
    yield {name: pool.submit(task, name, tmp_path_factory.mktemp(name)) for name in TASKS}
    pool.shutdown(cancel_futures=True)


@pytest.fixture
def meanwhile(begun: dict[str, Future]) -> dict[str, Future]:
    """By name, what runs on another core."""
    return begun
