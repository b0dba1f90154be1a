"""Does a study test need each public function? Empties one after the other, and sees a test fail.

    python tests/empty_each.py              all modules that have study tests
    python tests/empty_each.py metrics      some

What an emptied function is, lessons/rebuild.py decides. torch is imported once; each function is
then emptied in a process of its own, forked off this one (so not on Windows), in memory alone.
"""

from contextlib import redirect_stderr, redirect_stdout
import os
from pathlib import Path
import sys
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

import pytest                                                           # noqa: E402
import torch                                                            # noqa: E402, F401

from rebuild import OURS, STUDY, emptied, functions, text               # noqa: E402


def main() -> None:
    modules = sys.argv[1:] or list(STUDY)
    jobs = [(module, name) for module in modules for name in functions(text(OURS / f"{module}.py"))]
    unneeded = [f"{module}.{name}" for module, name in jobs if is_green_without(module, name)]
    for name in unneeded:
        print(f"no study test needs {name}")
    print(f"{len(jobs) - len(unneeded)} of {len(jobs)} emptied functions turn a study test red")
    sys.exit(bool(unneeded))


def is_green_without(module: str, name: str) -> bool:
    """Whether the module's study tests are anything but red with this function emptied."""
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            install(module, emptied(text(OURS / f"{module}.py"), [name]))
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", str(STUDY[module])])
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != pytest.ExitCode.TESTS_FAILED


def install(module: str, source: str) -> None:
    """Make a source the module that the tests will import."""
    import minifast

    made = ModuleType(f"minifast.{module}")
    sys.modules[made.__name__] = made
    setattr(minifast, module, made)
    exec(compile(source, str(OURS / f"{module}.py"), "exec"), made.__dict__)


if __name__ == "__main__":
    main()
