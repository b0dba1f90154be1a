"""`pytest --mine` tests your copy, mine/minifast, and names the function to write next."""

from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import sys
from types import CodeType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lessons"))          # scripts, and no package
# One thread is as fast for small tensors, and leaves the other cores to other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rebuild import MINE, OURS, ROOT, STUDY, YOUR_TURN, text            # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mine", action="store_true",
                     help="test what you wrote in mine/minifast, up to the first failure")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--mine"):
        config.pluginmanager.register(Mine(config))


class Mine:
    """Tests the modules of mine/minifast that differ from ours, and gives a verdict."""

    def __init__(self, config: pytest.Config):
        self.modules = {MINE / f"{module}.py": module for module in STUDY
                        if text(MINE / f"{module}.py") != text(OURS / f"{module}.py")}
        for file, module in self.modules.items():
            if not file.exists():
                pytest.exit(f"next: run `python lessons/rebuild.py {module}`, which makes "
                            f"{file.relative_to(ROOT)}", 1)
            try:
                compile(file.read_bytes(), file, "exec")
            except SyntaxError as error:
                pytest.exit(f"next: repair line {error.lineno} of {file.relative_to(ROOT)}: "
                            f"{error.msg}", 1)
        if not self.modules:
            pytest.exit("all of mine/minifast is like ours: well done, if you wrote it! `python "
                        "lessons/rebuild.py MODULE` empties a module", 0)
        for folder in [*MINE.rglob("__pycache__")]:
            shutil.rmtree(folder)           # may be stale: Python compares size and whole seconds
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(MINE.parent))
        self.chosen = bool(config.option.keyword) or (
            config.args_source == pytest.Config.ArgsSource.ARGS)
        if not self.chosen:
            config.args = [str(STUDY[module]) for module in self.modules.values()]
        config.option.maxfail, config.option.tbstyle = config.option.maxfail or 1, "short"
        self.called: list[str] = []         # the functions that the running test calls itself
        self.trusted: set[str] = set()      # the functions that passed tests have called
        self.passed, self.next = 0, ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        files = [STUDY[module] for module in self.modules.values()]
        items[:] = [item for item in items if item.path in files]

    def written(self, codes: list[CodeType]) -> list[str]:
        """The names of the functions that the learner writes, among these."""
        names = [getattr(code, "co_qualname", code.co_name).split(".<locals>")[0]   # 3.11; 3.10
                 for code in codes if Path(code.co_filename) in self.modules]
        return [name for name in names if name[0] != "<"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        codes = []

        def note(frame, event, _) -> None:
            if event == "call" and Path(frame.f_back.f_code.co_filename) == item.path:
                codes.append(frame.f_code)

        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.called = list(dict.fromkeys(self.written(codes)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
        report = yield
        if report.failed and not self.next:
            file, line, _ = item.location
            self.next = f"{self.what_to_do(call)}, for {item.name} ({file}:{line + 1})"
        elif report.when == "call" and report.passed:
            self.passed += 1
            self.trusted.update(self.called)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        report = yield
        if report.failed:                   # an import failed: of a function that was deleted, say
            error = report.longreprtext.splitlines()[-1].removeprefix("E").strip()
            self.next = f"repair what {report.nodeid} imports: {error}"
        return report

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo) -> None:
        inside = self.written([entry.frame.code.raw for entry in excinfo.traceback])
        if type(excinfo.value) is KeyboardInterrupt:     # and not pytest's own
            self.next = f"repair {(inside or ['something'])[-1]}, which did not come to an end"

    def what_to_do(self, call: pytest.CallInfo) -> str:
        """`write cosine` or `repair cosine`: the function in which the test failed; else those
        that the test called, preferably the ones that no earlier test has called."""
        message = str(call.excinfo.value)
        if message.startswith(YOUR_TURN):
            return f"write {message.removeprefix(YOUR_TURN)}"
        inside = self.written([entry.frame.code.raw for entry in call.excinfo.traceback])
        new = [name for name in self.called if name not in self.trusted]
        return f"repair {' or '.join(inside[-1:] or new or self.called or ['your module'])}"

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        screen, names = config.get_terminal_writer(), ", ".join(self.modules.values())
        if self.next:
            screen.line(f"next: {self.next}")
        elif self.passed and self.chosen:
            screen.line(f"The {self.passed} tests that you chose are green.")
        elif self.passed:
            screen.line(f"All {self.passed} tests are green. Well done: {names} is your own work!")
