"""Progress of long work on standard error: a live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def note(text: str) -> None:
    """Print one line for the user on standard error."""
    print(text, file=sys.stderr, flush=True)


class ProgressBar:
    """Count of finished items out of ``total`` with a changing note.

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
        self._live = sys.stderr.isatty() and not quiet
        self._started = self._printed = time.monotonic()
        if self._live:
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
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._live:
            self._bar.stop()
        elif kind is None and self._closing_line:
            self._print("")

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count ``count`` more items as finished."""
        self.done += count
        if self._live:
            self._bar.update(self._task, advance=count, note=note)
        elif time.monotonic() - self._printed >= self.every:
            self._print(note)

    def _print(self, note: str) -> None:
        if self._quiet:
            return
        self._printed = time.monotonic()
        elapsed = self._printed - self._started
        print(f"{self.label} {self.done}/{self.total} {elapsed:.0f}s {note}".rstrip(), file=sys.stderr, flush=True)
