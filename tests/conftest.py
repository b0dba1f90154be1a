"""`pytest --mine` tests the learner's copy of minifast, and says what to write next.

The copy is mine/minifast, made by lessons/rebuild.py. Nothing here imports minifast: which one the
tests get is decided by sys.path, before the first of them is imported.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import cache_from_source, find_spec
from multiprocessing import get_context
import os
from pathlib import Path
import re
import sys
from traceback import walk_tb

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lessons"))     # scripts, and no package
# One thread for torch: small pictures are as quick so, and the other core is for `begun`, below.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bodies import YOUR_TURN, first_line, functions, read               # noqa: E402
from calls import Place, calls_of                                       # noqa: E402
from floors import FLOORS, MINE, ORDER, TOP, floor_of, test_files, title      # noqa: E402
from states import changed_outside, entries                             # noqa: E402


BACK = "`python lessons/rebuild.py {}` puts it back, empty"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mine", action="store_true",
                     help="test mine/minifast, floor by floor, up to the first thing to do")


def pytest_report_header(config: pytest.Config) -> str:
    found = sys.modules.get("minifast") or find_spec("minifast")
    return f"minifast: {getattr(found, '__file__', None) or found.origin}"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--mine"):
        config.pluginmanager.register(Mine(config))


TASKS: dict[str, Callable[[Path], object]] = {}         # by name: what `begun` runs, and where


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


class Mine:
    """What pytest does otherwise where it tests the learner's copy."""

    def __init__(self, config: pytest.Config):
        if not MINE.exists():
            raise pytest.UsageError("there is no mine/minifast yet; `python lessons/rebuild.py "
                                    "schedules` makes it, and empties a module")
        try:
            texts = {module: read(MINE / f"{module}.py") for module in ORDER}
        except FileNotFoundError as error:
            raise pytest.UsageError(f"next: bring back {error.filename}, which `python "
                                    "lessons/rebuild.py` copies") from None
        except ValueError as error:
            raise pytest.UsageError(f"next: repair {error}") from None
        for path in MINE.glob("*.py"):
            # Python takes an old .pyc for a file of the same size, changed within the same second.
            Path(cache_from_source(str(path))).unlink(missing_ok=True)
        sys.path.insert(0, str(MINE.parent))
        self.refuse_ours()

        self.tests, self.passed, self.skipped, self.left_out = Counter(), Counter(), 0, 0
        self.reached = set()
        self.called, self.trust, self.next, self.exitstatus = set(), Counter(), None, None
        self.entries = [entry for module in ORDER for entry in entries(module)]
        yours = [(entry.module, entry.name) for entry in self.entries if entry.state == "yours"]
        self.places = {(f"{module}.py", first_line(function), function.name): (module, name)
                       for module, text in texts.items()
                       for name, function in functions(text).items() if (module, name) in yours}
        given = [*config.invocation_params.args, *os.environ.get("PYTEST_ADDOPTS", "").split()]
        if not any(arg.startswith("--maxfail") for arg in given):
            config.option.maxfail = 1
        if getattr(config.option, "tbstyle", None) == "auto":
            config.option.tbstyle = "short"

    def names(self, state: str) -> list[str]:
        return [entry.name for entry in self.entries if entry.state == state]

    @staticmethod
    def refuse_ours() -> None:
        """Raise UsageError where some of minifast was imported from elsewhere than mine/."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name.split(".")[0] == "minifast" and Path(file or "").parent != MINE:
                raise pytest.UsageError(f"{name} was imported from {file}, and not from {MINE}: "
                                        "what would be graded is not yours")

    def pytest_report_header(self) -> list[str]:
        changed = any(entry.outdated for entry in self.entries) or any(map(changed_outside, ORDER))
        return [f"to be written: {len(self.names('empty'))} of {len(self.entries)} functions",
                *["ours has changed since then: see `python lessons/rebuild.py`"] * changed]

    @pytest.hookimpl(trylast=True)                                      # after -k
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list) -> None:
        """Keep the tests of the floors, in study order."""
        config.hook.pytest_deselected(items=[item for item in items if floor_of(item.path) is None])
        items[:] = sorted((item for item in items if floor_of(item.path) is not None), key=place_of)
        self.tests.update(floor_of(item.path) for item in items)

    def pytest_collection_finish(self) -> None:
        self.refuse_ours()

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.left_out += sum(floor_of(item.path) is not None for item in items)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.reached.add(floor_of(item.path))
        with calls_of(MINE) as self.called:
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
        report = (yield).get_result()
        if report.failed and not self.next:
            what = self.what_to_do(report.longreprtext, call.excinfo.value)
            self.next = f"{what}, for {item.nodeid}"
        if report.skipped or report.when == "call" and report.passed:
            self.passed[floor_of(item.path)] += 1
            self.skipped += report.skipped
            self.trust.update(self.called)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        report = (yield).get_result()
        if report.failed and not self.next:
            what = self.what_to_do(str(report.longrepr), report.call.excinfo.value)
            self.next = f"{what}, for {report.nodeid}"

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo) -> None:
        hanging = self.raised_in(excinfo.value)
        self.next = self.next or hanging and f"repair {hanging}, if it was that which took so long"

    def what_to_do(self, text: str, error: BaseException) -> str:
        """What a failure asks the learner to do; text is what pytest shows of it."""
        unwritten = re.search(rf"{YOUR_TURN}([\w.]*\w)", text)
        if unwritten and unwritten[1] in self.names("empty"):
            return f"write {unwritten[1]}"
        missing = self.names("missing")
        quoted = [name for part in (-1, 0) for name in missing
                  if f"'{name.split('.')[part]}'" in text]
        if quoted:
            return f"write {quoted[0]} ({BACK.format(quoted[0])})"
        line = self.unknown_name_at(error)
        if line:
            return f"repair {line}"
        if self.raised_in(error):
            return f"repair {self.raised_in(error)}"
        suspects = self.called & set(self.places)
        if suspects:                    # on the highest floor, those that the fewest tests trust
            least = min(map(self.suspicion, suspects))
            return "repair " + " or ".join(sorted(self.places[place][1] for place in suspects
                                                  if self.suspicion(place) == least))
        complaint = "\n".join(re.findall(r"^E .*", text, re.MULTILINE))
        named = [name for name in self.names("yours") + self.names("empty")
                 if re.search(rf"\b{name.split('.')[-1]}\b", complaint)]
        if named:                               # as where its signature is another than the test's
            return f"repair {' or '.join(named)}"
        if missing:                             # as of an operator, which nobody calls by its name
            return f"write {missing[0]} ({BACK.format(missing[0])})"
        where = re.findall(r"^(\S*minifast\W\w+\.py:\d+): in <module>", text, re.MULTILINE)
        if where:
            return f"repair {where[-1]}"
        return "look: what was called is ours, word for word"

    def unknown_name_at(self, error: BaseException) -> str | None:
        """The line at which a name is not known in a function of ours: its import is missing."""
        code, line = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)][-1]
        file = Path(code.co_filename)
        yours = (file.name, code.co_firstlineno, code.co_name) in self.places
        if not isinstance(error, NameError) or file.parent != MINE or yours:
            return None
        return f"{file.relative_to(MINE.parents[1])}:{line} ({error})"

    def raised_in(self, error: BaseException | None) -> str | None:
        """The innermost function of the learner's in which an error came up, or what led to it."""
        while error is not None:
            for frame, _ in reversed(list(walk_tb(error.__traceback__))):
                code = frame.f_code
                place = Path(code.co_filename).name, code.co_firstlineno, code.co_name
                if place in self.places and Path(code.co_filename).parent == MINE:
                    return self.places[place][1]
            error = error.__cause__ or error.__context__
        return None

    def suspicion(self, place: Place) -> tuple[int, int]:
        """The lower, the more likely is it that a function that was called is wrong."""
        return -FLOORS[self.places[place][0]], self.trust[place]

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.exitstatus = exitstatus

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """The last lines: a bar for each floor, and what is next."""
        no_verdict = (None, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
        if (self.exitstatus in no_verdict or config.option.collectonly
                or not config.pluginmanager.hasplugin("terminalreporter")):
            return
        screen = config.get_terminal_writer()
        screen.line()
        for floor in range(TOP + 1):
            screen.line(bar(floor, self.passed[floor], self.tests[floor]) if floor in self.reached
                        else f"{title(floor):16}not run")
        screen.line(self.verdict())

    def verdict(self) -> str:
        """What is to be done next, or that nothing is."""
        done = (f"{self.passed.total() - self.skipped} tests are green"
                + f", {self.skipped} skipped" * bool(self.skipped))
        if self.next:
            return f"next: {self.next}"
        if self.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            return "no test of a floor was chosen; `python -m pytest --mine` runs all"
        if self.exitstatus != pytest.ExitCode.OK:
            return f"{done}; it ended before the rest"
        if self.left_out or any(test_files(floor) and not self.tests[floor]
                                for floor in range(TOP + 1)):
            return f"{done}, of those that you chose; `python -m pytest --mine` runs all"
        if self.names("empty"):
            return f"{done}, though still empty: {', '.join(self.names('empty'))}"
        yours = len(self.names("yours"))
        if not yours:
            return (f"finished: {done}, and all functions are like ours; empty others: `python "
                    "lessons/rebuild.py TARGET`")
        return f"finished: {done}, and {yours} of {len(self.entries)} functions are not like ours"


def place_of(item: pytest.Item) -> int:
    """Where the module that a test file is named after comes in study order."""
    return ORDER.index(item.path.stem.split("_", 2)[2])


def bar(floor: int, passed: int, tests: int) -> str:
    """`04 dataset ####------ 4/11`"""
    return f"{title(floor):16}{'#' * (10 * passed // tests):-<10} {passed}/{tests}"
