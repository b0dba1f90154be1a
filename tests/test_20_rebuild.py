"""Study by tests, in a small package of two modules: emptied, tested, hinted at, audited."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from bodies import emptied, functions, is_empty, read
from calls import calls_of
from floors import ORDER, ROOT
from mutants import mutants
from rebuild import chosen

SCHEDULES = '''"""Numbers."""


def linear(start: float, end: float, pct: float) -> float:
    """From start to end."""
    return (1 - pct) * start + pct * end


def twice(number):
    """Two times a number."""
    # not number * 2, which is as good
    return number + number
'''
METRICS = '''"""Fractions. Source: Euclid."""


class Score:
    """Hits out of some."""

    def __init__(self, hits, out_of):
        self.hits, self.out_of = hits, out_of

    @property
    def value(self):
        """The fraction."""
        if self.out_of < 1:
            raise ValueError("out of nothing")
        return self.hits / self.out_of
'''
TEST_METRICS = '''import pytest

from minifast.metrics import Score


def test_value():
    assert Score(1, 4).value == 0.25


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="out of nothing"):
        Score(0, 0).value
'''
TEST_SCHEDULES = '''from minifast.schedules import linear, twice


def test_linear():
    assert linear(2, 6, 0.25) == 3


def test_twice():
    assert twice(4) == 8
'''
EMPTY = 'raise NotImplementedError("your turn: {}")'


@pytest.fixture
def house(tmp_path) -> Path:
    """A project like this one, in a folder with a space in its name, whose package is small."""
    root = tmp_path / "a house"
    for folder, names in (("lessons", ("audit", "bodies", "calls", "floors", "hints", "mutants",
                                       "patches", "rebuild", "states")), ("tests", ("conftest",))):
        (root / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(ROOT / folder / f"{name}.py", root / folder)
    shutil.copy(ROOT / "setup.cfg", root)
    (root / "minifast").mkdir()
    for module in ("__init__", *ORDER):
        (root / "minifast" / f"{module}.py").write_text('"""Nothing."""\n')
    (root / "minifast" / "schedules.py").write_text(SCHEDULES)
    (root / "minifast" / "metrics.py").write_text(METRICS)
    (root / "tests" / "test_01_metrics.py").write_text(TEST_METRICS)
    (root / "tests" / "test_02_schedules.py").write_text(TEST_SCHEDULES)
    return root


def run(root: Path, *command: str, folder: str = ".", **environment: str) -> str:
    """What a command in that project prints; its exit status is the last line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run([sys.executable, *command], cwd=root / folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**kept, "COLUMNS": "100", **environment})
    return f"{done.stdout}{done.returncode}"


def rebuild(root: Path, *arguments: str) -> list[str]:
    return run(root, "lessons/rebuild.py", *arguments).splitlines()


def grade(root: Path, *arguments: str, folder: str = ".") -> list[str]:
    return run(root, "-m", "pytest", "-p", "no:cacheprovider", "--mine", *arguments,
               folder=folder).splitlines()


def mine(root: Path, module: str = "schedules") -> Path:
    return root / "mine" / "minifast" / f"{module}.py"


# -- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before, after", [
    ("def f(x): return x  # why\n", "def f(x): {f}\n"),
    ('def f(x): "Doc."; return x\n', 'def f(x): "Doc."; {f}\n'),
    ('def f(x):\n    """Doc.\n\n    More. """; y = x; return y\n# after\n',
     'def f(x):\n    """Doc.\n\n    More. """; {f}\n# after\n'),
    ("def f(x):  # (n, c)\n    # why\n\n    return x  # so\n    # and\n\n    # so on\n\n# not\n",
     "def f(x):  # (n, c)\n    {f}\n\n# not\n"),
    ('def f(x):\n\t"""Doc."""  # noqa\n\tif x:\n\t\treturn 1\n\treturn 2\n',
     'def f(x):\n\t"""Doc."""\n\t{f}\n'),
    ('def f(\n    a,\n    # first\n    b="ü€",  # second\n) -> str: return "é" + b\nx = "é"\n',
     'def f(\n    a,\n    # first\n    b="ü€",  # second\n) -> str: {f}\nx = "é"\n'),
    ("def f():\n    @wraps(x)\n    def inner(): pass\n    class Inner:\n        def g(self): 1\n"
     "    return inner\ny = f\n", "def f():\n    {f}\ny = f\n"),
    ('async def f():\n    yield """\n# text\n"""\n\n\n\n', "async def f():\n    {f}\n\n\n\n"),
    ("@cache\ndef f():\n    return 1", "@cache\ndef f():\n    {f}"),
    ('def f(b="ü€"): return "é"  # é\n', 'def f(b="ü€"): {f}\n'),
    ('\ufeffdef f(x): return "\x0c\u2028"\n', "\ufeffdef f(x): {f}\n"),
    ('def f():\n    """One\n    # two"""\n    return 1\n',
     'def f():\n    """One\n    # two"""\n    {f}\n'),
    ("def f():\n    return 1\n# no\n    # of f\n", "def f():\n    {f}\n# no\n    # of f\n"),
    ("try:\n    def f(): return 1\nexcept E:\n    def f(): return 2\n",
     "try:\n    def f(): {f}\nexcept E:\n    def f(): {f.2}\n"),
    ("if x:\n    def f(): return 1\nelse:\n    def f(): return 2\n",
     "if x:\n    def f(): {f}\nelse:\n    def f(): {f.2}\n"),
    ('def f():\n    """Only a docstring."""\n', 'def f():\n    """Only a docstring."""\n'),
    ("class A:\n    x = 1  # stays\n\n    @property\n    def p(self): return 1\n\n    @p.setter\n"
     "    def p(self, p): self.q = p\n\n    class B:\n        def __len__(self):\n"
     "            return 2\n        # of B\n    # of A\n",
     "class A:\n    x = 1  # stays\n\n    @property\n    def p(self): {A.p}\n\n    @p.setter\n"
     "    def p(self, p): {A.p.setter}\n\n    class B:\n        def __len__(self):\n"
     "            {A.B.__len__}\n        # of B\n    # of A\n"),
])
def test_a_body_gives_way_and_all_else_stays_as_it_was(before, after):
    names = set(functions(before))
    for name in names:
        after = after.replace("{" + name + "}", EMPTY.format(name))
    for newline in ("\n", "\r\n"):
        text = before.replace("\n", newline)
        assert emptied(text, names) == after.replace("\n", newline)
        assert emptied(emptied(text, names), names) == emptied(text, names)
    assert emptied(before, set()) == before


def test_what_is_empty_already_keeps_its_comments():
    text = "def f():\n    # first this\n    " + EMPTY.format("f") + "\n    # then that\n"
    assert emptied(text, {"f"}) == text


def test_a_layout_that_cannot_be_edited_is_refused():
    with pytest.raises(ValueError, match="the layout around f is too odd"):
        emptied('def f(x): \\\n    "Doc."; \\\n    return 1\n', {"f"})


@pytest.mark.parametrize("body, empty", [
    (EMPTY.format("f"), True), ('"""Doc."""\n    ' + EMPTY.format("f"), True),
    ('raise NotImplementedError("some day")', False), (EMPTY.format("f") + "; return 1", False),
    ("x = 1; " + EMPTY.format("f"), False), ("return 'your turn: f'", False)])
def test_empty_is_what_waits_for_the_learner_and_has_nothing_else(body, empty):
    assert is_empty(functions(f"def f():\n    {body}\n")["f"]) == empty


@pytest.mark.parametrize("module", ORDER)
def test_each_module_can_be_emptied_and_keeps_its_functions(module):
    text = read(ROOT / "minifast" / f"{module}.py")
    names = functions(text)
    left = functions(emptied(text, names))
    assert list(left) == list(names) and all(map(is_empty, left.values()))
    assert not any(map(is_empty, names.values()))


# -- emptying a copy -----------------------------------------------------------------------------


def test_the_copy_is_whole_and_only_the_targets_are_empty_in_it(house):
    said = rebuild(house, "twice", "metrics.Score.value")
    assert (said[:2], said[-1]) == (["metrics.Score.value: empty", "schedules.twice: empty"], "0")
    for path in (house / "minifast").glob("*.py"):
        theirs = mine(house, path.stem).read_text()
        assert theirs == emptied(path.read_text(), {"twice", "Score.value"})
    assert 'twice(number):\n    """Two times a number."""\n    ' + EMPTY.format("twice") in (
        mine(house).read_text())


@pytest.mark.parametrize("target, names", [
    ("schedules", ["schedules.linear", "schedules.twice"]), ("linear", ["schedules.linear"]),
    ("Score", ["metrics.Score.__init__", "metrics.Score.value"]),
    ("metrics.Score", ["metrics.Score.__init__", "metrics.Score.value"]),
    ("Score.value", ["metrics.Score.value"]), ("schedules.twice", ["schedules.twice"])])
def test_a_target_is_a_module_a_class_a_function_or_a_method(house, target, names):
    assert rebuild(house, target)[:-3] == [f"{name}: empty" for name in names]


def test_a_name_that_is_a_module_and_a_function_can_be_read_either_way():
    assert {module for module, _ in chosen("scores")} == {"scores"}
    assert chosen("scores", modules_first=False) == [("training", "scores")]


@pytest.mark.parametrize("arguments", [("--mutate",), ("--hint", "twice", "linear"),
                                       ("--answer", "twice", "--audit")])
def test_options_that_do_not_go_together_are_refused(house, arguments):
    said = rebuild(house, *arguments)
    assert said[0].startswith("usage:") and said[-1] == "2" and not (house / "mine").exists()


@pytest.mark.parametrize("target, nearest", [
    ("schedule", "schedules"), ("linaer", "linear"), ("metric.Score", "metrics.Score"),
    ("Score.valeu", "Score.value")])
def test_a_target_that_is_not_there_is_refused_with_the_nearest_names(house, target, nearest):
    said = rebuild(house, "twice", target)
    assert said[0].startswith(f"rebuild.py: minifast has no '{target}'; did you mean {nearest}")
    assert said[-1] == "1" and not mine(house).exists()


def test_what_the_learner_wrote_is_kept_and_said_so(house):
    rebuild(house, "schedules")
    written = mine(house).read_text().replace(EMPTY.format("twice"), "return help(number)  # mine")
    written += "\n\ndef help(number):\n    return number << 1\n"
    mine(house).write_text(written)
    assert rebuild(house, "schedules")[:2] == [
        "schedules.linear: was empty already",
        "schedules.twice: you wrote it, so it stays; to start afresh, delete it and empty it again"]
    assert mine(house).read_text() == written


def test_comments_of_the_learner_are_kept_in_ours_and_in_what_is_empty(house):
    rebuild(house, "linear")
    noted = mine(house).read_text().replace("    raise", "    # first the start\n    raise")
    noted = noted.replace("return number + number", "return number + number  # as I thought")
    mine(house).write_text(noted)
    said = rebuild(house, "schedules")
    assert said[0] == "schedules.linear: was empty already" and "you wrote it" in said[1]
    assert mine(house).read_text() == noted


def test_ours_in_another_layout_is_still_ours(house):
    rebuild(house, "linear")
    text = mine(house).read_text()
    mine(house).write_text(text.replace("number + number", "(number +\n   number)"))
    assert rebuild(house, "twice")[0] == "schedules.twice: empty"


@pytest.mark.parametrize("module, name, source", [
    ("schedules", "linear", SCHEDULES), ("schedules", "twice", SCHEDULES),
    ("metrics", "Score.__init__", METRICS), ("metrics", "Score.value", METRICS)])
def test_a_function_that_was_deleted_comes_back_empty_in_its_place(house, module, name, source):
    rebuild(house, module)
    blank = emptied(source, functions(source))
    function = functions(blank)[name]
    start = min(node.lineno for node in (function, *function.decorator_list)) - 1
    lines = blank.splitlines(keepends=True)
    gap = 1 if "." in name else 2
    before, after = lines[:start], lines[function.end_lineno:]
    if name in ("linear", "Score.__init__"):                  # one gap goes with it, above or below
        after = after[gap:]
    else:
        before = before[:-gap]
    mine(house, module).write_text("".join(before + after))
    assert rebuild(house, name)[0] == f"{module}.{name}: was missing, is back, empty"
    assert mine(house, module).read_text() == blank


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_class_that_was_deleted_comes_back(house, newline):
    rebuild(house, "Score.value")
    mine(house, "metrics").write_text(f'"""Fractions. Source: Euclid."""{newline}', newline="")
    rebuild(house, "Score.value")
    assert mine(house, "metrics").read_bytes().decode() == emptied(
        METRICS, {"Score.value"}).replace("\n", newline)


@pytest.mark.parametrize("user", ["class A:\n    x = linear\n", "NUMBER = linear\n"])
def test_what_comes_back_stands_before_what_needs_it(house, user):
    ours = SCHEDULES.replace("def twice", f"{user}\n\ndef twice")
    (house / "minifast" / "schedules.py").write_text(ours)
    rebuild(house, "linear")
    mine(house).write_text('"""Numbers."""\n\n\n' + ours[ours.index(user):])
    rebuild(house, "linear")
    assert mine(house).read_text() == emptied(ours, {"linear"})


def test_into_a_file_without_a_line_end_at_its_end(house):
    rebuild(house, "twice")
    text = emptied(SCHEDULES, {"twice"})
    mine(house).write_text(text[:text.index("def twice")].rstrip())
    rebuild(house, "twice")
    assert mine(house).read_text() == text


def pulled(house: Path) -> None:
    """Change ours under a copy in which Score.value was written, and linear is empty."""
    rebuild(house, "linear", "Score")
    written = mine(house, "metrics").read_text().replace(EMPTY.format("Score.value"), "return 7")
    mine(house, "metrics").write_text(written)
    ours = SCHEDULES.replace("From start to end.", "From start to the end.").replace(
        "number + number", "2 * number").replace('"""Numbers."""', '"""Numbers."""\n\nTWO = 2')
    (house / "minifast" / "schedules.py").write_text(ours + "\n\ndef thrice(number): return 3\n")
    (house / "minifast" / "metrics.py").write_text(METRICS.replace("The fraction", "The share"))
    (house / "minifast" / "draw.py").write_text('"""More."""\n')


def test_after_a_pull_the_copy_is_new_where_nothing_was_written_and_the_rest_is_named(house):
    pulled(house)
    for _ in range(2):
        said = " ".join(" ".join(rebuild(house)).split())
        assert "or docstring now: Score.value, linear `python" in said
        assert "outside of functions (imports, constants, classes)" in said
        assert "which you have to copy yourself: in schedules" in said
    text = mine(house).read_text()
    assert EMPTY.format("linear") in text and "return 2 * number" in text and "thrice" in text
    assert "From start to end." in text and "TWO" not in text
    assert mine(house, "draw").read_text() == '"""More."""\n'


def test_after_a_pull_what_is_renewed_is_said_once(house):
    pulled(house)
    said = " ".join(rebuild(house, "twice"))
    assert "written nothing: draw.py, schedules.twice, schedules.thrice" in said
    assert "up to date" not in " ".join(rebuild(house, "twice"))


def test_after_a_pull_an_empty_function_takes_the_new_text_and_a_written_one_stays(house):
    pulled(house)
    said = " ".join(rebuild(house, "linear", "Score.value"))
    assert "metrics.Score.value: you wrote it" in said
    assert "schedules.linear: empty, with the new text of ours" in said
    assert "From start to the end." in mine(house).read_text()
    assert "return 7" in mine(house, "metrics").read_text()


def test_a_second_pull_is_noticed_too(house):
    rebuild(house, "linear")
    for version in ("From the start.", "From the very start."):
        text = SCHEDULES.replace("From start to end.", version)
        (house / "minifast" / "schedules.py").write_text(text)
        assert "linear: empty, with the new text" in rebuild(house, "linear")[0]
        assert version in mine(house).read_text()


def test_after_a_pull_an_empty_function_with_notes_of_the_learner_stays(house):
    rebuild(house, "linear")
    noted = mine(house).read_text().replace("    raise", "    # first the start\n    raise")
    mine(house).write_text(noted)
    ours = SCHEDULES.replace("From start to end.", "From the start.")
    (house / "minifast" / "schedules.py").write_text(ours)
    assert "what you noted stays" in rebuild(house, "linear")[0]
    assert mine(house).read_text() == noted


def test_a_new_body_in_ours_outdates_no_exercise(house):
    rebuild(house, "linear")
    ours = (house / "minifast" / "schedules.py")
    ours.write_text(SCHEDULES.replace("(1 - pct) * start", "start * (1 - pct)"))
    assert rebuild(house, "linear")[0] == "schedules.linear: was empty already"


def test_after_a_pull_what_ours_has_no_more_is_named(house):
    rebuild(house, "linear")
    (house / "minifast" / "schedules.py").write_text(SCHEDULES[:SCHEDULES.index("def twice")])
    assert "                schedules: gone from ours: twice" in rebuild(house)


def test_line_endings_of_windows_stay(house):
    (house / "minifast" / "schedules.py").write_bytes(SCHEDULES.replace("\n", "\r\n").encode())
    rebuild(house, "twice")
    want = emptied(SCHEDULES, {"twice"}).replace("\n", "\r\n").encode()
    assert mine(house).read_bytes() == want


def test_a_syntax_error_is_named_with_its_line(house):
    rebuild(house, "linear")
    mine(house).write_text(mine(house).read_text().replace("def twice(", "def twice(("))
    place = f"{mine(house)}, line 9: "
    assert place in rebuild(house, "twice")[0]
    said = grade(house)
    assert f"next: repair {place}" in " ".join(said) and said[-1] == "4"
    assert "INTERNALERROR" not in " ".join(said)


def test_without_a_target_the_floors_are_listed_with_what_is_to_do(house):
    assert "02 schedules    schedules" in rebuild(house) and not (house / "mine").exists()
    rebuild(house, "twice", "Score.value")
    said = rebuild(house)
    assert said[said.index("02 schedules    schedules") + 1] == (
        "                schedules: to write: twice")


# -- pytest --mine -------------------------------------------------------------------------------


def test_the_first_thing_to_write_is_named_and_nothing_after_it_runs(house):
    rebuild(house, "Score.value", "twice")
    said = grade(house)
    assert said[-2:] == ["next: write Score.value, for tests/test_01_metrics.py::test_value", "1"]
    assert "01 metrics      ---------- 0/2" in said and "02 schedules    not run" in said
    assert " ".join(said).count("FAILED") == 1 and "test_nothing_is_refused" not in " ".join(said)
    assert not [line for line in said if line.startswith(">")]              # a short traceback


def test_what_is_written_but_wrong_is_to_be_repaired(house):
    rebuild(house, "schedules")
    text = mine(house).read_text()
    text = text.replace(EMPTY.format("linear"), "return start + pct * (end - start)")
    mine(house).write_text(text.replace(EMPTY.format("twice"), "return number * 3"))
    said = grade(house)
    assert said[-2:] == ["next: repair twice, for tests/test_02_schedules.py::test_twice", "1"]
    assert "02 schedules    #####----- 1/2" in said


def test_of_two_that_were_called_the_one_that_passed_no_test_is_to_be_repaired(house):
    rebuild(house, "schedules")
    text = SCHEDULES.replace("(1 - pct) * start + pct * end", "start + pct * (end - start)")
    mine(house).write_text(text.replace("number + number", "linear(number, number * 3, 1)"))
    assert "next: repair twice, for" in grade(house)[-2]


def test_a_name_that_is_not_known_in_ours_is_named_with_its_line(house):
    ours = SCHEDULES.replace("(1 - pct)", "(ONE - pct)").replace("\n\n\n", "\nONE = 1\n\n", 1)
    (house / "minifast" / "schedules.py").write_text(ours)
    rebuild(house, "twice")
    mine(house).write_text(ours.replace("ONE = 1", "").replace("number + number", "number * 2"))
    assert "next: repair mine/minifast/schedules.py:6 (name 'ONE' is not" in grade(house)[-2]


def test_an_operator_that_was_deleted_is_to_be_written(house):
    plus = "\n    def __add__(self, other):\n        return Score(self.hits + other.hits, 4)\n"
    (house / "minifast" / "metrics.py").write_text(METRICS + plus)
    rebuild(house, "twice")
    mine(house, "metrics").write_text(METRICS)
    (house / "tests" / "test_01_metrics.py").write_text(TEST_METRICS.replace(
        "Score(1, 4).value", "(Score(1, 4) + Score(0, 4)).value"))
    assert "next: write Score.__add__ (`python" in grade(house)[-2]


@pytest.mark.parametrize("body", ["return 1 / 0", "raise ValueError('no')"])
def test_where_an_error_came_up_is_to_be_repaired(house, body):
    rebuild(house, "metrics")
    text = METRICS.replace('raise ValueError("out of nothing")', body).replace(
        "self.hits, self.out_of = hits, out_of", "self.hits = hits; self.out_of = out_of")
    mine(house, "metrics").write_text(text)
    assert "next: repair Score.value, for" in grade(house)[-2]


def test_a_stop_by_ctrl_c_tells_where_it_was(house):
    rebuild(house, "twice")
    mine(house).write_text(SCHEDULES.replace("return number + number", "raise KeyboardInterrupt"))
    assert grade(house)[-2:] == ["next: repair twice, if it was that which took so long", "2"]


def test_of_two_floors_the_higher_one_is_to_be_repaired(house):
    ours = SCHEDULES.replace('"""Numbers."""', "from minifast.metrics import Score").replace(
        "number + number", "Score(number * 2, 1).value")
    (house / "minifast" / "schedules.py").write_text(ours)
    rebuild(house, "twice", "Score.value")
    mine(house).write_text(ours.replace("* 2", "* 3"))
    value = METRICS.replace("self.hits / self.out_of", "self.out_of ** -1 * self.hits")
    mine(house, "metrics").write_text(value)
    assert "next: repair twice, for" in grade(house)[-2]


def test_a_mistake_outside_of_functions_is_named_with_its_line(house):
    rebuild(house, "twice")
    mine(house).write_text(mine(house).read_text().replace('"""Numbers."""', "import maths"))
    assert grade(house)[-2] == ("next: repair mine/minifast/schedules.py:1, for "
                                "tests/test_02_schedules.py")


def test_another_signature_is_to_be_repaired(house):
    rebuild(house, "twice")
    mine(house).write_text(SCHEDULES.replace("def twice(number)", "def twice()"))
    assert "next: repair twice, for" in grade(house)[-2]


def test_where_nothing_of_the_learners_was_called_that_is_said(house):
    rebuild(house, "twice")
    tests = house / "tests" / "test_01_metrics.py"
    tests.write_text(TEST_METRICS.replace("0.25", "0.5"))
    assert grade(house)[-2] == ("next: look: what was called is ours, word for word, for "
                                "tests/test_01_metrics.py::test_value")


def test_all_green_is_said_with_how_much_of_it_is_the_learners(house):
    rebuild(house, "twice")
    mine(house).write_text(SCHEDULES.replace("number + number", "number * 2"))
    said = grade(house)
    assert said[-2:] == ["finished: 4 tests are green, and 1 of 4 functions are not like ours", "0"]
    assert "02 schedules    ########## 2/2" in said


def test_a_copy_of_ours_alone_is_not_praised(house):
    rebuild(house, "twice")
    mine(house).write_text(SCHEDULES)
    assert "4 tests are green, and all functions are like ours" in grade(house)[-2]


def test_ours_is_never_graded_as_theirs(house):
    assert "there is no mine/minifast yet" in " ".join(grade(house))
    rebuild(house, "twice")
    for path in ("", str(house)):
        said = run(house, "-m", "pytest", "--mine", "-p", "no:cacheprovider", PYTHONPATH=path)
        assert "next: write twice" in said
    said = run(house, "-c", "import minifast.schedules, pytest; pytest.main(['--mine'])")
    assert "is not yours" in said and "passed" not in said
    mine(house).unlink()
    said = " ".join(grade(house))
    assert f"bring back {mine(house)}" in said and "passed" not in said


def test_pytest_says_which_package_it_tests(house):
    rebuild(house, "linear")
    mine(house).write_text(SCHEDULES)
    said = run(house, "-m", "pytest", "-p", "no:cacheprovider")
    assert f"minifast: {house / 'minifast'}" in said and "next" not in said
    assert f"minifast: {house / 'mine' / 'minifast'}" in " ".join(grade(house))


def test_a_function_that_was_deleted_is_to_be_written(house):
    rebuild(house, "twice")
    mine(house).write_text(SCHEDULES[:SCHEDULES.index("def twice")])
    assert grade(house)[-2] == (
        "next: write twice (`python lessons/rebuild.py twice` puts it back, empty), for "
        "tests/test_02_schedules.py")


def test_options_of_pytest_work_as_elsewhere(house):
    rebuild(house, "Score", "schedules")
    assert "next: write linear" in grade(house, "-k", "schedules")[-2]
    assert "next: write linear" in grade(house, "tests/test_02_schedules.py")[-2]
    assert "next: write twice" in grade(house, "tests/test_02_schedules.py::test_twice")[-2]
    assert "next: write Score.__init__" in grade(house, folder="tests")[-2]
    assert "next: write linear" in grade(house, "test_02_schedules.py", folder="tests")[-2]
    assert " ".join(grade(house, "--maxfail=3")).count("FAILED") == 3
    assert "next:" not in " ".join(grade(house, "--collect-only"))
    assert grade(house, "-p", "no:terminal") == ["1"]
    assert "no test of a floor was chosen" in grade(house, "-k", "nothing_like_it")[-2]
    assert "5 failed" not in " ".join(grade(house)) and "4 failed" in " ".join(
        grade(house, "--maxfail=0"))


def test_an_edit_within_the_same_second_counts(house):
    rebuild(house, "twice")
    right = SCHEDULES.replace("number + number", "number * 2")
    for text, end in ((right, "finished"), (right.replace("* 2", "* 3"), "next: repair twice")):
        mine(house).write_text(text)
        os.utime(mine(house), (1e9, 1e9))
        said = run(house, "-m", "pytest", "--mine", PYTHONDONTWRITEBYTECODE="")
        assert said.splitlines()[-2].startswith(end)


# -- hints and answers ---------------------------------------------------------------------------


def test_a_hint_has_the_docstring_the_tests_that_need_it_and_the_source(house):
    said = "\n".join(rebuild(house, "--hint", "Score.value"))
    assert '"""The fraction."""' in said and "return" not in said
    assert '"""Hits out of some."""' in said and "mine/minifast/metrics.py" in said
    assert "    tests/test_01_metrics.py::test_value\n" in said
    assert "    tests/test_01_metrics.py::test_nothing_is_refused\n" in said
    assert "Source: Euclid." in said and "test_02" not in said


def test_a_hint_counts_the_cases_of_a_test(house):
    cases = '@pytest.mark.parametrize("x", [1, 2])\ndef test_value(x):'
    tests = "import pytest\n" + TEST_METRICS.replace("def test_value():", cases)
    (house / "tests" / "test_01_metrics.py").write_text(tests)
    said = rebuild(house, "--hint", "Score.value")
    assert "    tests/test_01_metrics.py::test_value  (2 cases)" in said


def test_a_hint_has_the_docstring_even_where_the_tests_are_broken(house):
    (house / "tests" / "test_01_metrics.py").write_text("import nowhere\n")
    said = "\n".join(rebuild(house, "--hint", "Score.value"))
    assert '"""The fraction."""' in said and "unknown here: a test file fails" in said


def test_an_answer_has_our_body_beside_theirs_or_below(house):
    rebuild(house, "twice")
    mine(house).write_text(SCHEDULES.replace("number + number", "3"))
    lines = [line.split(" | ") for line in rebuild(house, "--answer", "twice")[2:4]]
    assert [left.strip() for left, _ in lines] == ["# not number * 2, which is as good", "return 3"]
    assert [right for _, right in lines] == ["# not number * 2, which is as good",
                                             "return number + number"]
    narrow = run(house, "lessons/rebuild.py", "--answer", "twice", COLUMNS="40").splitlines()
    assert narrow.index("return 3") < narrow.index("return number + number")


# -- the audit -----------------------------------------------------------------------------------


def test_the_audit_lists_functions_that_no_test_of_their_floor_needs(house):
    said = rebuild(house, "--audit")
    assert said[-2:] == ["4 of 4 wrong bodies turn their floor red", "0"]
    tests = house / "tests" / "test_02_schedules.py"
    tests.write_text(TEST_SCHEDULES.replace("assert twice(4) == 8", "assert twice"))
    said = rebuild(house, "--audit")
    assert [line for line in said if "no test" in line] == ["no test needs twice"]
    assert said[-1] == "1"


def test_the_cellar_is_audited_where_it_is_named(house):
    (house / "minifast" / "draw.py").write_text("def dot():\n    return 1\n")
    assert rebuild(house, "--audit")[-1] == "0"
    assert "no test needs dot" in rebuild(house, "--audit", "draw")


def test_watching_calls_ends_with_its_block(tmp_path):
    before = sys.getprofile()
    with pytest.raises(ValueError, match="enough"), calls_of(tmp_path):
        assert sys.getprofile() is not before
        raise ValueError("enough")
    assert sys.getprofile() is before


def test_a_test_of_another_floor_does_not_count(house):
    tests = house / "tests" / "test_02_schedules.py"
    value = "\n\ndef test_value():\n    assert Score(1, 4).value == 0.25\n"
    tests.write_text("from minifast.metrics import Score\n" + TEST_SCHEDULES + value)
    (house / "tests" / "test_01_metrics.py").write_text("def test_nothing():\n    assert True\n")
    said = rebuild(house, "--audit")
    assert [line for line in said if "no test" in line] == [
        "no test needs Score.__init__", "no test needs Score.value"]


@pytest.mark.parametrize("test, message", [
    ("def test_it():\n    assert twice(4) == 9", "with the right bodies a test fails"),
    ("import nowhere", "a test file fails at its import"),
    ("NUMBER = twice(3)", "call functions at their import: [('schedules.py', 9, 'twice')]")])
def test_an_audit_needs_sound_tests(house, test, message):
    tests = house / "tests" / "test_02_schedules.py"
    tests.write_text("from minifast.schedules import twice\n" + test + "\n")
    said = rebuild(house, "--audit")
    assert message in " ".join(said) and said[-1] == "1"


def test_methods_that_call_their_parents_and_decorated_functions_are_audited(house):
    (house / "minifast" / "schedules.py").write_text('''"""More."""

from contextlib import contextmanager


class Base:
    pass


class Child(Base):
    def __init__(self):
        super().__init__()
        self.x = 1


@contextmanager
def ctrl_c():
    yield 3
    raise KeyboardInterrupt
''')
    (house / "tests" / "test_02_schedules.py").write_text('''import pytest
from minifast.schedules import Child, ctrl_c


def test_child():
    assert Child().x == 1


def test_ctrl_c():
    with pytest.raises(KeyboardInterrupt), ctrl_c() as number:
        assert number == 3
''')
    assert rebuild(house, "--audit", "schedules")[-2:] == [
        "2 of 2 wrong bodies turn their floor red", "0"]
    assert "survived: minifast/schedules.py:12 Child.__init__: super().__init__() -> dropped" in (
        rebuild(house, "--audit", "--mutate", "schedules"))


def test_small_mistakes_that_no_test_notices_are_listed_with_line_and_change(house):
    said = rebuild(house, "--audit", "--mutate")
    assert [line for line in said if line.startswith("survived")] == [
        "survived: minifast/metrics.py:13 Score.value: self.out_of < 1 -> self.out_of <= 1",
        "survived: minifast/metrics.py:13 Score.value: 1 -> 2"]
    assert said[-1] == "1"


def test_a_wrong_body_that_hangs_counts_as_dead(house):
    (house / "minifast" / "schedules.py").write_text(SCHEDULES + '''

def down(number):
    """To 0, step by step."""
    while number > 0:
        number -= 1
    return number
''')
    (house / "tests" / "test_02_schedules.py").write_text(TEST_SCHEDULES.replace(
        "import linear", "import down, linear") + '''

def test_down():
    assert down(3) == 0
''')
    assert "survived" not in " ".join(rebuild(house, "--audit", "--mutate", "down"))


@pytest.mark.parametrize("line, expected", [
    ("return 1", ["return 1 -> dropped", "1 -> 2"]),
    ("return x < True", ["return x < True -> dropped", "x < True -> x <= True",
                         "x < True -> x >= True", "True -> False"]),
    ("x -= y", ["x -= y -> x += y", "x -= y -> dropped"]),
    ("return -x", ["return -x -> dropped", "-x -> x"]),
    ("return not x or y", ["return not x or y -> dropped", "not x or y -> not x and y",
                           "not x -> x"]),
    ("f(x, y)", ["f(x, y) -> dropped", "f(x, y) -> f(y, x)"]),
    ("return max(x, y) @ x", ["return max(x, y) @ x -> dropped",
                              "max(x, y) @ x -> x @ max(x, y)"]),
    ("return 'sum'", ["return 'sum' -> dropped", "'sum' -> 'sumx'"]),
    ("z: int = x", ["z: int = x -> dropped"]),
    ("raise ValueError(f'got {x + 1}', 1)", ["raise ValueError(f'got {x + 1}', 1) -> dropped"]),
    ('return f"got {x % y}"', ["return f'got {x % y}' -> dropped", "x % y -> x * y"]),
    ('check.some("x", x, 0)', ["check.some('x', x, 0) -> dropped",
                               "check.some('x', x, 0) -> check.some(x, 'x', 0)", "0 -> 1"]),
    ("return x < y < 2", ["return x < y < 2 -> dropped", "x < y < 2 -> x <= y < 2",
                          "x < y < 2 -> x >= y < 2", "x < y < 2 -> x < y <= 2",
                          "x < y < 2 -> x < y >= 2", "2 -> 3"]),
    ("return x ** 640", ["return x ** 640 -> dropped", "x ** 640 -> x * 640", "640 -> 1280"]),
    ("y('some words')", ["y('some words') -> dropped"]),
    ("def g(z: x + 1) -> x - 1: 'Doc 2.'", []),
])
def test_mutants_are_the_changes_that_the_docstring_lists(line, expected):
    source = f'def f(x: int = 1, y: str = "") -> int:\n    """Doc 1."""\n    {line}\n'
    assert [mutant.change for mutant in mutants(functions(source)["f"])] == expected
