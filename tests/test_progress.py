"""What stderr says of something long."""

import pytest

from labelsmooth.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
        (86400 * 30, "30 d 0 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_line_for_each_item(capsys):
    with Progress("model", 3, unit="rows", complete=1) as progress:
        progress.begin("a: measuring", 10)
        progress.advance(10)
        progress.item_done("a, right")
        progress.item_done("b, wrong")
    assert capsys.readouterr().err == "model 2 of 3: a, right, about 0 s left\nmodel 3 of 3: b, wrong\n"


def test_a_silent_one_says_nothing(capsys):
    with Progress("model", 1, unit="rows", silent=True) as progress:
        progress.item_done("a")
    assert capsys.readouterr().err == ""


def test_a_bar_goes_on_where_it_was(monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("trial", 4, unit="epochs", complete=1) as progress:
        progress.begin("4 trials", 40, 10)
        progress.advance(10)
        progress._bar.refresh()
    assert "4 trials |" in (bar := capsys.readouterr().err)
    assert "20/40 epochs" in bar
