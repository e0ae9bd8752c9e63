"""Progress lines on standard error, as in a log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from syllablelm.core.progress import ProgressBar, note


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syllablelm.core.progress.time", SimpleNamespace(monotonic=lambda: 7.0))


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr()
    assert printed.out == "", "standard output is for results"
    return printed.err.splitlines()


def test_a_line_when_its_time_has_come_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("work", 4, done=1, every=0.0) as bar:
        bar.advance(note="loss 1.5")
        bar.advance(2)
    assert lines_of(capsys) == ["work 2/4 0s loss 1.5", "work 4/4 0s", "work 4/4 0s"]
    with ProgressBar("work", 4, every=1e9) as bar:
        bar.advance(4)
    assert lines_of(capsys) == ["work 4/4 0s"]


def test_nothing_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("work", 2, every=0.0, quiet=True) as bar:
        bar.advance(2)
    with ProgressBar("work", 2, every=1e9, closing_line=False) as bar:
        bar.advance(2)
    with pytest.raises(KeyError), ProgressBar("work", 2, every=1e9):
        raise KeyError("no closing line after an error")
    assert (lines_of(capsys), bar.done) == ([], 2)
    note("one line")
    assert lines_of(capsys) == ["one line"]
