"""`pytest --mine` tests the learner's copy, mine/minifast, and names the function to write next."""

from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import sys
from types import CodeType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lessons"))          # scripts, and no package
# One thread for torch: small tensors are as quick so, and other processes have the other cores.
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
        self.files = {MINE / f"{module}.py": module for module in STUDY
                      if text(MINE / f"{module}.py") != text(OURS / f"{module}.py")}
        for file, module in self.files.items():
            if not file.exists():
                pytest.exit(f"next: run `python lessons/rebuild.py {module}`, which makes "
                            f"{file.relative_to(ROOT)}", 1)
            try:
                compile(text(file), file, "exec")
            except SyntaxError as error:
                pytest.exit(f"next: repair line {error.lineno} of {file.relative_to(ROOT)}: "
                            f"{error.msg}", 1)
        if not self.files:
            pytest.exit("all of mine/minifast is like ours: well done! `python lessons/rebuild.py "
                        "MODULE` empties another module", 0)
        for folder in [*MINE.rglob("__pycache__")]:
            shutil.rmtree(folder)           # may be stale: Python compares whole seconds, and sizes
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(MINE.parent))
        if config.args_source != pytest.Config.ArgsSource.ARGS:
            config.args = [str(STUDY[module]) for module in self.files.values()]
        config.option.maxfail, config.option.tbstyle = 1, "short"
        self.called: list[str] = []         # your functions, in the test that runs
        self.trusted: set[str] = set()      # and in those that have passed
        self.passed, self.next = 0, ""

    def yours(self, codes: list[CodeType]) -> list[str]:
        """Which of your functions these are."""
        names = [getattr(code, "co_qualname", code.co_name).split(".<locals>")[0]
                 for code in codes if Path(code.co_filename) in self.files]
        return [name for name in names if name[0] != "<"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        codes = []
        sys.setprofile(lambda frame, event, _: event == "call" and codes.append(frame.f_code))
        try:
            yield
        finally:
            sys.setprofile(None)
            self.called = list(dict.fromkeys(self.yours(codes)))

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
            self.next = f"repair {', '.join(self.files.values())}: {error}"
        return report

    def what_to_do(self, call: pytest.CallInfo) -> str:
        """`write cosine`, or `repair cosine`: where the test failed inside of your function that
        one, otherwise those that it calls, best of all the ones that no test before has called."""
        message = str(call.excinfo.value)
        if message.startswith(YOUR_TURN):
            return f"write {message.removeprefix(YOUR_TURN)}"
        inside = self.yours([entry.frame.code.raw for entry in call.excinfo.traceback])
        new = [name for name in self.called if name not in self.trusted]
        return f"repair {' or '.join(inside[-1:] or new or self.called or ['your module'])}"

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        screen = config.get_terminal_writer()
        if self.next:
            screen.line(f"next: {self.next}")
        elif self.passed and (config.option.keyword or "::" in str(config.args)):
            screen.line(f"{self.passed} tests are green, of those that you chose.")
        elif self.passed:
            screen.line(f"All {self.passed} tests are green. Well done! This is your own work: "
                        f"{', '.join(self.files.values())}")
