"""Rebuilding a module, as a learner does it: by the two commands, in a copy of the project."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from minifast import READING_ORDER
from rebuild import OURS, ROOT, STUDY, emptied, functions, text

SCHEDULES = text(OURS / "schedules.py")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture
def project(tmp_path) -> Path:
    """What the commands need of the project, in a folder with a space in its name."""
    folder = tmp_path / "my projects"
    for name in ("minifast", "tests/study"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("lessons/rebuild.py", "tests/conftest.py", "setup.cfg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(project: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=project, env=ENVIRONMENT, text=True,
                          capture_output=True)


def rebuild(project: Path, *arguments: str) -> str:
    done = run(project, "lessons/rebuild.py", *arguments)
    return done.stdout + done.stderr


def verdict(project: Path, source: str | bytes) -> tuple[str, int]:
    """The last line of `pytest --mine` after this was written in mine/, and the exit status."""
    rebuild(project, "schedules")
    content = source if isinstance(source, bytes) else source.encode()
    (project / "mine" / "minifast" / "schedules.py").write_bytes(content)
    done = run(project, "-m", "pytest", "--mine")
    return (done.stdout + done.stderr).strip().splitlines()[-1], done.returncode


def test_the_copy_is_whole_and_only_the_module_is_empty_in_it(project):
    said = rebuild(project, "schedules")
    assert "still empty: linear, cosine, exponential, one_cycle" in said and "pytest --mine" in said
    for file in OURS.rglob("*.py"):
        copy = project / "mine" / file.relative_to(ROOT)
        assert (text(copy) == text(file)) == (file.name != "schedules.py")


def test_an_emptied_function_keeps_its_signature_and_its_docstring():
    names = list(functions(SCHEDULES))
    assert names == ["linear", "cosine", "exponential", "one_cycle"]
    blank = emptied(SCHEDULES, ["cosine"])
    assert '    """From start to end along half a period' in blank and "cos(pi * pct)" not in blank
    assert 'raise NotImplementedError("your turn: cosine")' in blank
    assert blank.replace('raise NotImplementedError("your turn: cosine")',
                         "return linear(start, end, (1 - cos(pi * pct)) / 2)") == SCHEDULES


def test_methods_are_emptied_and_helpers_are_not():
    source = ('class A:\n    x = 1\n\n    def __len__(self):\n        # why\n        return 1\n'
              '\n    def _help(self):\n        return 2\n\n\ndef _aid():\n    return 3\n')
    assert list(functions(source)) == ["A.__len__"]
    assert emptied(source, ["A.__len__"]) == source.replace(
        "        # why\n        return 1", "        # why\n"
        '        raise NotImplementedError("your turn: A.__len__")')


@pytest.mark.parametrize("module", STUDY)
def test_all_our_modules_can_be_emptied(module):
    source = text(OURS / f"{module}.py")
    blank = emptied(source, list(functions(source)))
    compile(blank, module, "exec")
    assert blank.count("your turn: ") == len(functions(source)) == len(functions(blank))


def test_what_was_written_stays_however_often_the_module_is_emptied(project):
    rebuild(project, "schedules")
    file = project / "mine" / "minifast" / "schedules.py"
    mine = text(file).replace('raise NotImplementedError("your turn: linear")', "return 7")
    file.write_text(mine)
    said = rebuild(project, "schedules")
    assert "stays" in said and "still empty: cosine, exponential, one_cycle" in said
    assert text(file) == mine
    rebuild(project, "metrics")
    assert text(file) == mine


def test_a_module_without_study_tests_cannot_be_rebuilt_yet(project):
    without = next(module for module in READING_ORDER if module not in STUDY)
    assert "no study tests yet" in rebuild(project, without)
    assert "unknown" in rebuild(project, "shedules")
    assert not (project / "mine").exists()


def test_an_answer_is_our_source(project):
    assert "@property\n    def values(" in rebuild(project, "--answer", "Score.values")
    assert "(1 - cos(pi * pct)) / 2" in rebuild(project, "--answer", "cosine")
    assert "schedules.py, line" in rebuild(project, "--answer", "schedules.cosine")
    assert "self.hits + other.hits" in rebuild(project, "--answer", "Score.__add__")
    assert "no function 'cosin'" in rebuild(project, "--answer", "cosin")


def test_the_verdict_names_function_test_and_place(project):
    said, status = verdict(project, emptied(SCHEDULES, list(functions(SCHEDULES))))
    name = "test_linear_goes_in_equal_steps"
    line = text(STUDY["schedules"]).splitlines().index(f"def {name}():") + 1
    place = os.path.join("tests", "study", "test_02_schedules.py")
    assert said == f"next: write linear, for {name} ({place}:{line})" and status == 1


@pytest.mark.parametrize("ours, mine, wanted", [
    ("1 - cos(pi * pct)", "1 + cos(pi * pct)", "repair cosine, for test_cosine_is_slow"),
    ("return start * (end", "return no * (end", "repair exponential, for test_exponential"),
    ("max(1, before_peak)", "before_peak", "repair one_cycle, for test_with_pct_start_0"),
    ("def linear(", "def straight(", "cannot import name 'linear'"),
    ("    return start", "    return return start", "repair line 22 of mine.minifast"),
])
def test_a_mistake_is_found_in_the_function_where_it_is(project, ours, mine, wanted):
    said, status = verdict(project, SCHEDULES.replace(ours, mine, 1))
    assert wanted in said.replace(os.sep, ".").replace("/", ".") and status != 0


def test_when_all_is_green_it_says_so_gladly_also_of_a_file_with_windows_line_endings(project):
    mine = SCHEDULES + "# mine\n"
    said, status = verdict(project, mine.replace("\n", "\r\n").encode())
    assert "Well done" in said and "schedules" in said and status == 0
    assert "still empty: nothing" in rebuild(project, "schedules")


def test_without_anything_to_grade_it_says_how_to_begin(project):
    done = run(project, "-m", "pytest", "--mine")
    assert "rebuild.py metrics" in done.stdout + done.stderr
    said, status = verdict(project, SCHEDULES)
    assert "well done" in said and status == 0
