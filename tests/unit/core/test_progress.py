"""Progress lines on standard error, as in a log."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

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


class Notebook:
    """IPython inside a notebook's kernel: what is shown, output by output, and their updates."""

    def __init__(self, kernel: object | None) -> None:
        self.shell, self.display = SimpleNamespace(kernel=kernel), SimpleNamespace(display=self.show)
        self.outputs: list[list[dict[str, str]]] = []

    def get_ipython(self) -> Any:
        return self.shell

    def show(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw and display_id
        updates = [data]
        self.outputs.append(updates)
        return SimpleNamespace(update=lambda data, raw: updates.append(data))


def test_one_bar_in_a_notebook(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("syllablelm.core.progress.time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    notebook = Notebook(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    with ProgressBar("work", 4) as bar:
        bar.advance(1, "loss <1>")
        bar.advance(3)
    assert lines_of(capsys) == [], "standard error of a notebook has a red background"
    (updates,) = notebook.outputs
    assert [data["text/plain"].split()[1] for data in updates] == ["0/4", "1/4", "4/4", "4/4"]
    assert 'value="1" max="4"' in updates[1]["text/html"] and updates[1]["text/html"].endswith("loss &lt;1&gt;")
    with pytest.raises(KeyError), ProgressBar("work", 4) as bar:
        raise KeyError("an error")
    assert notebook.outputs[1][-1]["text/plain"].endswith("stopped")
    with ProgressBar("work", 4, quiet=True) as bar:
        bar.advance(4)
    assert len(notebook.outputs) == 2


def test_updates_in_a_notebook_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    with ProgressBar("work", 1000) as bar:  # the clock stands still
        for _ in range(1000):
            bar.advance()
    assert [data["text/plain"].split()[1] for data in notebook.outputs[0]] == ["0/1000", "1000/1000"]


def test_ipython_in_a_terminal_is_no_notebook(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    with ProgressBar("work", 4) as bar:
        bar.advance(4)
    assert lines_of(capsys) == ["work 4/4 0s"] and notebook.outputs == []
