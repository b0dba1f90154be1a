"""Does a study test need each public function? Empties each in turn, and expects a test to fail.

    python tests/empty_each.py              all modules that have study tests
    python tests/empty_each.py metrics      one of them

lessons/rebuild.py does the emptying. torch is imported once. Then each function is emptied, only in
memory, in a process of its own that is forked off this one: so this does not run on Windows.
"""

from contextlib import redirect_stderr, redirect_stdout
import os
from pathlib import Path
import sys
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]
CRASHED = 99                            # pytest's own codes are 0 to 5; 1 says that a test failed

import pytest                                                           # noqa: E402
import torch                                                            # noqa: E402, F401

from rebuild import OURS, STUDY, emptied, functions, text               # noqa: E402


def main() -> None:
    modules = sys.argv[1:] or list(STUDY)
    if not set(modules) <= set(STUDY):
        sys.exit(f"these modules have study tests: {', '.join(STUDY)}")
    jobs = [(module, name) for module in modules for name in functions(text(OURS / f"{module}.py"))]
    unneeded = [f"{module}.{name}" for module, name in jobs if is_green_without(module, name)]
    for name in unneeded:
        print(f"no study test needs {name}")
    print(f"{len(jobs) - len(unneeded)} of {len(jobs)} emptied functions turn a study test red")
    sys.exit(bool(unneeded))


def is_green_without(module: str, name: str) -> bool:
    """Whether no study test of the module fails with this function emptied."""
    child = os.fork()
    if child == 0:
        code = CRASHED
        try:
            with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
                install(module, emptied(text(OURS / f"{module}.py"), [name]))
                code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", str(STUDY[module])])
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != pytest.ExitCode.TESTS_FAILED


def install(module: str, source: str) -> None:
    """Make a source the module that the tests will import."""
    import minifast

    empty_module = ModuleType(f"minifast.{module}")
    sys.modules[empty_module.__name__] = empty_module
    setattr(minifast, module, empty_module)
    exec(compile(source, str(OURS / f"{module}.py"), "exec"), empty_module.__dict__)


if __name__ == "__main__":
    main()
