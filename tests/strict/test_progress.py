import sys

import pytest

from minifast.tools import progress
from minifast.tools.progress import bar, print_row


@pytest.fixture
def clock(monkeypatch):
    times = [100.0]                         # it stands still until `clock.append(seconds)`
    monkeypatch.setattr(progress, "perf_counter", lambda: times[-1])
    return times


def screen(printed: str) -> str:
    line = ""                               # what a terminal's line shows after this was printed
    for part in printed.split("\r"):
        line = part + line[len(part):]
    return line.rstrip()


@pytest.fixture
def terminal(monkeypatch, capsys, clock):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: True)
    return clock


def test_in_a_log_file_nothing_is_drawn_read_or_timed(monkeypatch, capsys):
    monkeypatch.setattr(progress, "perf_counter", None)         # to call it would be an error
    assert list(bar(range(7), 7, "train", None)) == list(bar(range(7), 7, "train", 1 / 3))
    assert list(bar(iter("ab"), 2, "")) == ["a", "b"] and capsys.readouterr().out == ""


def test_the_bar_shows_how_far_it_is_and_overwrites_a_longer_line(terminal, capsys):
    shown, losses, lines = "", iter([123456.7, 0.5, 0.25, 1 / 3]), []
    for _ in bar(range(4), 4, "train", lambda: next(losses)):
        shown += capsys.readouterr().out
        lines.append(screen(shown))
        terminal.append(terminal[-1] + 0.5)
    # 1/4 of 20 are 5 blocks. An item in half a second is 2.0/s, so 3 more take 1.5 s, or 2.
    assert lines == ["", "train █████··············· 1/4 2.0/s 00:02 left loss 123456.7000",
                     "train ██████████·········· 2/4 2.0/s 00:01 left loss 0.5000",
                     "train ███████████████····· 3/4 2.0/s 00:00 left loss 0.2500"]
    end = capsys.readouterr().out
    assert f"train {'█' * 20} 4/4 2.0/s 00:00 left loss 0.3333" in end and screen(shown + end) == ""


def test_before_a_loss_is_read_none_is_shown(terminal, capsys):
    for _ in bar(range(2), 2, "train", lambda: float("nan")):
        terminal.append(terminal[-1] + 0.5)
    assert "2/2" in (printed := capsys.readouterr().out) and "nan" not in printed


def test_it_is_drawn_each_quarter_of_a_second_and_after_the_last_item(terminal, capsys):
    drawn = []
    for number in bar(range(7), 7, "valid", lambda: drawn.append(number) or 0.0):
        terminal.append(terminal[-1] + 0.125)
    assert drawn == [1, 3, 5, 6]                                # after .25, .5, .75 s and the last


def test_the_bar_is_wiped_after_an_error(terminal, capsys):
    assert list(bar(range(3), 9, "train")) == [0, 1, 2]         # fewer than announced, and quick
    assert capsys.readouterr().out.strip() == ""
    with pytest.raises(KeyError):
        for item in bar(range(9), 240, "train"):
            terminal.append(terminal[-1] + 30)
            {0: "fine", 1: "fine"}[item]
    printed = capsys.readouterr().out
    # 238 more at half a minute each are 119 minutes
    assert "2/240 0.0/s 119:00 left" in printed and "loss" not in printed and screen(printed) == ""


def test_in_a_notebook_a_bar_is_drawn_and_fits_into_80_columns(monkeypatch, capsys, clock):
    monkeypatch.setattr(type(sys.stdout), "__module__", "ipykernel.iostream")
    list(bar([1], 1, "train", lambda: 0.5))
    first, line, wiped, last = capsys.readouterr().out.split("\r")
    assert first == last == "" and len(line) == len(wiped) < 80 and not wiped.strip()


def test_the_table_of_epochs_by_hand(capsys):
    columns = ["epoch", "train_loss", "accuracy_thresh(thresh=0.2)"]
    for cells in (columns, [0, 0.1251284, "01:05"], [10, float("nan"), 0.9440101]):
        print_row(cells, columns)
    assert capsys.readouterr().out == (
        "     epoch  train_loss  accuracy_thresh(thresh=0.2)\n"
        "         0    0.125128                        01:05\n"
        "        10         nan                     0.944010\n")
