"""The tests are tested: each function in turn is made wrong, and its own floor's tests must fail.

All tests are imported once. Then each wrong body gets a forked process, which puts it in the place
of the right one and runs the tests of its floor, those that call it first, until one fails. So it
takes minutes. Forks need Linux, macOS or WSL.
"""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
import gc
from itertools import islice
import json
import os
from pathlib import Path
import signal
import sys
import tempfile
from time import perf_counter
from traceback import print_exc
from types import CodeType, FunctionType
from typing import NamedTuple

import pytest

from bodies import Function, changed, emptied, first_line, functions, read
from calls import Place, calls_of
from floors import FLOORS, OURS, ROOT, floor_of, test_files, title
from mutants import mutants

HANGS = 10              # times the usual time of a floor's tests: what takes longer counts as dead
SURVIVED, DEAD, BROKEN = range(3)                       # how a process with a wrong body ends


class Job(NamedTuple):
    """A wrong body, to be noticed by the tests of its floor."""

    module: str
    name: str
    function: Function
    line: int
    change: str

    def __str__(self) -> str:
        return f"minifast/{self.module}.py:{self.line} {self.name}: {self.change}"

    @property
    def place(self) -> Place:
        return f"{self.module}.py", first_line(self.function), self.function.name


def empty_body(module: str, name: str) -> Iterator[Job]:
    """The function without its body."""
    function = functions(emptied(read(OURS / f"{module}.py"), {name}))[name]
    yield Job(module, name, function, function.lineno, "emptied")


def wrong_bodies(module: str, name: str) -> Iterator[Job]:
    """The function with each of its small mistakes."""
    for mutant in mutants(functions(read(OURS / f"{module}.py"))[name]):
        yield Job(module, name, mutant.function, mutant.line, mutant.change)


def audit(jobs: list[Job]) -> list[Job]:
    """Try all wrong bodies, print a line for each floor, and return those that no test noticed."""
    def try_all(items: list[pytest.Item]) -> list[Job]:
        live, survivors = live_functions(), []
        for floor in sorted({FLOORS[job.module] for job in jobs}):
            start = perf_counter()
            own = [item for item in items if floor_of(item.path) == floor]
            todo = [job for job in jobs if FLOORS[job.module] == floor]
            codes = attempts(todo, own, live)
            left = [job for job in todo if codes[job] == SURVIVED]
            hung = sum(code == -signal.SIGALRM for code in codes.values())
            print(f"{title(floor):16}{len(todo) - len(left)} of {len(todo)} noticed by {len(own)} "
                  f"tests" + f" ({hung} by hanging)" * bool(hung) +
                  f", {perf_counter() - start:.0f} s", flush=True)
            survivors += left
        return survivors

    return with_tests({FLOORS[job.module] for job in jobs}, try_all)


def tests_that_call(names: list[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """The tests, of their own floor, that call functions (module, name), as pytest names them."""
    places = {name: job.place for name in names for job in empty_body(*name)}

    def callers(items: list[pytest.Item]) -> dict[tuple[str, str], list[str]]:
        _, numbers = watched(items)
        return {name: [items[number].nodeid for number in numbers[place]
                       if floor_of(items[number].path) == FLOORS[name[0]]]
                for name, place in places.items()}

    return with_tests({FLOORS[module] for module, _ in names}, callers)


def with_tests(floors: Iterable[int], task: Callable) -> object:
    """What a task returns that is given the tests of some floors, imported but not run."""
    class Instead:
        """A plugin for this run of pytest."""

        result = error = None

        @pytest.hookimpl(hookwrapper=True)
        def pytest_collection(self) -> Iterator[None]:
            with calls_of(OURS) as self.called:
                yield

        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            try:
                early = self.called & set(live_functions())
                if session.testsfailed:
                    raise ValueError("a test file fails at its import; `python -m pytest` says why")
                if early:                       # or nobody could write them in the order of floors
                    raise ValueError(f"test files call functions at their import: {sorted(early)}")
                self.result = task(session.items)
            except (Exception, KeyboardInterrupt) as error:     # pytest would report it its way
                self.error = error
            return True

    if not hasattr(os, "fork"):
        raise ValueError("this needs processes that fork: Linux, macOS or WSL")
    plugin = Instead()
    os.environ["OMP_NUM_THREADS"] = "1"               # a process with threads cannot well be forked
    os.environ.pop("PYTEST_ADDOPTS", None)            # which might leave tests out
    sys.path.insert(0, str(ROOT))
    files = [str(file) for floor in sorted(floors) for file in test_files(floor)]
    pytest.main(["-p", "no:terminal", "-p", "no:cacheprovider", "--capture=no",
                 f"--rootdir={ROOT}", *files], [plugin])
    if plugin.error or plugin.result is None:
        raise plugin.error or ValueError("pytest cannot begin; `python -m pytest` says why")
    return plugin.result


def attempts(jobs: list[Job], items: list[pytest.Item],
             live: dict[Place, FunctionType]) -> dict[Job, int]:
    """How the tests of a floor end with each wrong body: SURVIVED, DEAD, or below 0 by a signal."""
    seconds, callers = watched(items)

    def attempt(job: Job) -> int:
        if job.place not in live:                           # no test of the floor imports it
            return SURVIVED
        put(job, live[job.place])
        first = sorted(callers[job.place], key=seconds.__getitem__)
        rest = set(range(len(items))) - set(first)
        return DEAD if any(map(fails, (items[number] for number in (*first, *rest)))) else SURVIVED

    return dict(in_processes(attempt, jobs, HANGS * max(0.2, sum(seconds))))


def fails(item: pytest.Item) -> bool:
    """Run a test, and say whether it fails."""
    try:
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
    except KeyboardInterrupt:               # a test of Ctrl-C, and nobody was there to catch it
        return True
    return item.session.testsfailed > 0


def watched(items: list[pytest.Item]) -> tuple[list[float], dict[Place, list[int]]]:
    """Run tests once: the seconds that each takes, and which of them (numbers) call a function."""
    with tempfile.NamedTemporaryFile("r") as file:
        def watch(_: None) -> int:
            seconds, seen = [], []
            for item in items:
                start = perf_counter()
                with calls_of(OURS) as called:
                    if fails(item):
                        return DEAD
                seconds.append(perf_counter() - start)
                seen.append(sorted(called))
            Path(file.name).write_text(json.dumps([seconds, seen]))
            return SURVIVED

        (_, status), = in_processes(watch, [None])
        if status != SURVIVED:
            raise ValueError("with the right bodies a test fails; `python -m pytest` says which")
        seconds, seen = json.load(file)
    callers = defaultdict(list)
    for number, called in enumerate(seen):
        for place in called:
            callers[tuple(place)].append(number)
    return seconds, callers


def in_processes(task: Callable[[object], int], jobs: Iterable, seconds: float = 0) -> Iterator:
    """Each job with what task(job) returns in a forked process, as many at once as there are cores.

    Such a process prints nothing and has a folder of its own for temporary files. What takes more
    than some seconds (0: any time) is ended: then it is -SIGALRM, as for other ends by a signal.
    """
    waiting, running = iter(jobs), {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            while True:
                for job in islice(waiting, os.cpu_count() - len(running)):
                    running[fork(task, job, folder, seconds)] = job
                if not running:
                    return
                process, status = os.wait()
                code = os.waitstatus_to_exitcode(status)
                job = running.pop(process)
                if code == BROKEN:
                    raise ValueError(f"the audit itself failed at {job}; see above")
                yield job, code
        finally:
            for process in running:
                with suppress(ProcessLookupError):                # it may have ended by itself
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)


def fork(task: Callable[[object], int], job: object, folder: str, seconds: float) -> int:
    """Begin task(job) in a process of its own; returns its number."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code, errors, nowhere = BROKEN, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        tempfile.tempdir = tempfile.mkdtemp(dir=folder)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        code = task(job)
    except BaseException:
        os.dup2(errors, 2)
        print_exc()
    finally:
        os._exit(code)


def live_functions() -> dict[Place, FunctionType]:
    """The functions of minifast that exist in this process, by where they are written."""
    return {(Path(thing.__code__.co_filename).name, thing.__code__.co_firstlineno,
             thing.__code__.co_name): thing
            for thing in gc.get_objects() if type(thing) is FunctionType
            and thing.__code__.co_filename.startswith(f"{OURS}/")}


def put(job: Job, function: FunctionType) -> None:
    """Give a live function the wrong body, wherever it was imported and whatever decorates it."""
    tree = changed(job.function, decorator_list=[])
    if "__class__" in function.__code__.co_freevars:              # super() needs it
        tree.body = [*ast.parse("if False: __class__").body, *tree.body]
    module = ast.parse(f"class {job.name.partition('.')[0]}: pass")
    module.body[0].body = [tree]
    code = compile(ast.fix_missing_locations(module), function.__code__.co_filename, "exec")
    for name in (module.body[0].name, job.function.name):
        code = next(inner for inner in code.co_consts
                    if isinstance(inner, CodeType) and inner.co_name == name)
    function.__code__ = code
