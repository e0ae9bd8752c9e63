"""The parts of the page that need no gradio, and what happens where there is none."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syllablelm.cli.app import main
from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.demo import page


@pytest.fixture(autouse=True)
def keep_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``import_gradio`` sets is undone."""
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "before")


def test_missing_gradio_is_one_line_and_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[demo\]'"):
        page.import_gradio(tmp_path)
    # Before any model is opened: this one does not exist.
    assert main(["demo", "--model", "./nowhere"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "error: the web page needs gradio: pip install 'syllablelm[demo]'\n"


def test_gradio_is_told_before_it_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gradio", os)  # any module will do
    assert page.import_gradio(tmp_path) is os
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)


@pytest.fixture
def keep_handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A shell's background jobs inherit that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_recordings_are_deleted_however_it_is_ended(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keep_handlers: None
) -> None:
    closed: list[bool] = []

    class Page:
        def close(self, verbose: bool) -> None:
            closed.append(verbose)

    class Worker:
        speaks = True

        def __init__(self, name: str, device: str) -> None:
            pass

        def close(self) -> None:
            closed.append(True)

    def build(gradio: Any, worker: Any, scratch: Path) -> Page:
        (scratch / "recording.wav").write_bytes(b"somebody's voice")
        return Page()

    def end(address: str, speaks: bool) -> None:
        assert (address, speaks, len(list(tmp_path.rglob("recording.wav")))) == ("here", True, 1)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(page, "import_gradio", lambda scratch: None)
    monkeypatch.setattr(page, "Worker", Worker)
    monkeypatch.setattr(page, "build_page", build)
    monkeypatch.setattr(page, "_launch", lambda *given: "here")
    page.serve("small", announce=end)
    assert closed == [False, True]
    assert list(tmp_path.iterdir()) == []


class FakeGradio:
    class Error(Exception):
        def __init__(self, message: str, **options: Any) -> None:
            super().__init__(message)
            self.options = options


async def give(value: Any) -> Any:
    return value


def test_errors_become_messages_with_a_title_and_without_folders_or_markup() -> None:
    async def fail() -> None:
        raise InputError("/srv/up/<b>.wav: is\nsilent")

    with pytest.raises(FakeGradio.Error) as caught:
        asyncio.run(page._or_message(FakeGradio, "/srv/up/<b>.wav", fail()))
    assert str(caught.value) == "<strong>That did not work</strong><br>&lt;b&gt;.wav: is silent"
    assert caught.value.options["print_exception"] is False
    assert asyncio.run(page._or_message(FakeGradio, None, give(3))) == 3


def test_faults_of_ours_are_not_hidden() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(page._or_message(FakeGradio, None, fail()))
