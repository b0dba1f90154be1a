import sys

import pytest

from minifast import progress
from minifast.progress import EpochTable, bar, bar_line, is_live, minutes, table


class Stream:
    def __init__(self, terminal: bool):
        self.isatty = lambda: terminal


class NotebookStream(Stream):
    __module__ = "ipykernel.iostream"


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until `clock.append(seconds)`."""
    times = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: times[-1])
    return times


def screen(printed: str) -> str:
    """What a terminal's last line shows after all this was printed."""
    line = ""
    for part in printed.split("\n")[-1].split("\r"):
        line = part + line[len(part):]
    return line.rstrip()


@pytest.mark.parametrize("stream, wanted", [(Stream(True), True), (Stream(False), False),
                                            (NotebookStream(False), True)])
def test_a_line_can_be_overwritten_in_a_terminal_and_in_a_notebook(monkeypatch, stream, wanted):
    monkeypatch.setattr(sys, "stdout", stream)
    assert is_live() == wanted


def test_seconds_are_shown_as_minutes_and_seconds():
    assert [minutes(s) for s in (0, 65.2, 59.6, 600, 6000)] == [
        "00:00", "01:05", "01:00", "10:00", "100:00"]


def test_a_line_of_the_bar_by_hand():
    # 12/40 of 20 is 6; 12 in 4 seconds are 3 a second; 28 more take 9.3 seconds
    assert bar_line("train", 12, 40, 4.0, "loss 0.5") == (
        "train ██████·············· 12/40 3.0/s 00:09 left loss 0.5")
    assert bar_line("valid", 40, 40, 80.0, "") == "valid " + "█" * 20 + " 40/40 0.5/s 00:00 left "


def test_a_bar_line_without_any_time_gone_is_drawn_too():
    assert bar_line("x", 1, 2, 0.0, "").startswith("x ██████████·········· 1/2 ")


def test_the_bar_hands_on_every_item():
    assert list(bar(iter("abc"), 3, "train")) == ["a", "b", "c"]
    assert list(bar([], 0, "train")) == []


def test_a_bar_prints_nothing_where_the_output_is_no_terminal(capsys):
    assert list(bar(range(5), 5, "train", lambda: "note")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("live", [True, False])
def test_the_note_is_read_each_quarter_of_a_second_and_at_the_end(monkeypatch, clock, live):
    monkeypatch.setattr(progress, "is_live", lambda: live)
    seen, notes = [], []
    for item in bar(range(7), 7, "train", lambda: str(notes.append(seen[-1]))):
        seen.append(item)
        clock.append(clock[-1] + 0.125)
    assert notes == [1, 3, 5, 6]                                 # after .25, .5, .75 s and the last


def test_the_bar_shows_how_far_it_is_and_the_note(monkeypatch, capsys, clock):
    monkeypatch.setattr(progress, "is_live", lambda: True)
    shown, notes = "", iter(["a long note at first", "short", "3", "4"])
    lines = []
    for _ in bar(range(4), 4, "train", lambda: next(notes)):
        shown += capsys.readouterr().out
        lines.append(screen(shown))
        clock.append(clock[-1] + 0.5)
    # One item in half a second: 2.0/s. What is left of a longer line is overwritten.
    assert lines == ["", "train █████··············· 1/4 2.0/s 00:02 left a long note at first",
                     "train ██████████·········· 2/4 2.0/s 00:01 left short",
                     "train ███████████████····· 3/4 2.0/s 00:00 left 3"]
    end = capsys.readouterr().out
    assert "train " + "█" * 20 + " 4/4 2.0/s 00:00 left 4" in end
    assert "\n" not in shown + end and screen(shown + end) == ""


def test_the_bar_is_wiped_when_an_error_ends_it(monkeypatch, capsys, clock):
    def items():
        yield 1
        clock.append(clock[-1] + 1)
        yield 2
        raise ValueError("a broken file")

    monkeypatch.setattr(progress, "is_live", lambda: True)
    with pytest.raises(ValueError, match="a broken file"):
        for _ in bar(items(), 9, "train"):
            clock.append(clock[-1] + 1)
    printed = capsys.readouterr().out
    assert "2/9" in printed and screen(printed) == ""


def test_a_bar_that_drew_nothing_wipes_nothing(monkeypatch, capsys, clock):
    monkeypatch.setattr(progress, "is_live", lambda: True)
    assert list(bar(range(3), 9, "train")) == [0, 1, 2]          # fewer than announced, and quick
    assert capsys.readouterr().out == ""


def test_the_epoch_table_by_hand(capsys):
    table = EpochTable(["epoch", "train_loss", "accuracy_thresh(thresh=0.2)", "time"])
    table.line([0, 0.1251284, 0.9440101, "01:05"])
    table.line([10, 12.5, float("nan"), "00:59"])
    assert capsys.readouterr().out == (
        "     epoch  train_loss  accuracy_thresh(thresh=0.2)        time\n"
        "         0    0.125128                     0.944010       01:05\n"
        "        10   12.500000                          nan       00:59\n")


def test_a_bar_is_no_wider_than_the_terminal_and_so_can_be_wiped(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    list(progress.bar([1], 1, "train", lambda: "loss " * 20))
    assert [len(line) for line in capsys.readouterr().out.split("\r")] == [0, 29, 29, 0]


def test_a_table_has_its_columns_two_spaces_apart():
    assert table([["tag", "pictures", "F2"], ["haze", 1234, .66666], ["a", 5, float("nan")]]) == (
        "tag   pictures     F2\n"
        "haze     1,234  0.667\n"
        "a            5    n/a")
