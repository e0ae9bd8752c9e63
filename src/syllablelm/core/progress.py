"""Progress of long work: a live bar on a terminal or in a notebook, plain lines on standard error elsewhere."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any


def note(text: str) -> None:
    """Print one line for the user on standard error."""
    print(text, file=sys.stderr, flush=True)


# Seconds between updates of a bar in a notebook; each is a message to the browser.
_NOTEBOOK_EVERY = 0.25


class ProgressBar:
    """Count of finished items out of ``total`` with a changing note.

    In a notebook it is one output of its cell, which is updated, and not a part of standard error.

    Args:
        label, total, done: name of the work, number of items, and of those that an earlier run finished.
        every: seconds between lines where standard error is not a terminal.
        closing_line: print a last line there; for callers that print no summary of their own.
        quiet: show nothing.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        done: int = 0,
        every: float = 30,
        closing_line: bool = True,
        quiet: bool = False,
    ) -> None:
        self.label, self.total, self.done, self.every = label, total, done, every
        self._closing_line = closing_line
        self._quiet = quiet
        self._display = None if quiet else _notebook_display()
        self._handle: Any = None
        self._live = self._display is None and sys.stderr.isatty() and not quiet
        self._started = self._printed = time.monotonic()
        if self._live:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> ProgressBar:
        if self._display is not None:
            self._handle = self._display(self._mime(""), raw=True, display_id=True)
        elif self._live:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._handle is not None:
            self._handle.update(self._mime("" if kind is None else "stopped"), raw=True)
        elif self._live:
            self._bar.stop()
        elif kind is None and self._closing_line:
            self._print("")

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count ``count`` more items as finished."""
        self.done += count
        if self._handle is not None:
            if time.monotonic() - self._printed >= _NOTEBOOK_EVERY:
                self._handle.update(self._mime(note), raw=True)
        elif self._live:
            self._bar.update(self._task, advance=count, note=note)
        elif time.monotonic() - self._printed >= self.every:
            self._print(note)

    def _print(self, note: str) -> None:
        if not self._quiet:
            print(self._line(note), file=sys.stderr, flush=True)

    def _mime(self, note: str) -> dict[str, str]:
        line = self._line(note)
        bar = (
            f'<progress value="{self.done}" max="{self.total}" style="width: 20em; vertical-align: middle"></progress>'
        )
        return {"text/plain": line, "text/html": f"{bar} {escape(line)}"}

    def _line(self, note: str) -> str:
        self._printed = time.monotonic()
        return f"{self.label} {self.done}/{self.total} {self._printed - self._started:.0f}s {note}".rstrip()


def _notebook_display() -> Any:
    """Return IPython's ``display`` inside a notebook's kernel, else None."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return ipython.display.display if ipython is not None and getattr(shell, "kernel", None) is not None else None
