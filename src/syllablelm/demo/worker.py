"""The process that holds the model of the page, so that stopping an action ends its work at once."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from syllablelm.core.errors import SyllableLMError


class Worker:
    """Runs actions on a model in a process of its own, one at a time.

    Args:
        name, device: see ``DemoModel.load``.

    Attributes:
        speaks: whether the model has a language model and a vocoder, too.

    Raises:
        FormatError, InputError: a model that cannot be used.
    """

    def __init__(self, name: str, *, device: str = "auto") -> None:
        self.name, self._device = name, device
        self._start()
        self.speaks: bool = self._connection.recv()
        self._loading = False

    def _start(self) -> None:
        # Not forked: this process has threads.
        context = get_context("spawn")
        connection, theirs = context.Pipe()
        self._connection = _Answers(connection)
        self._process = context.Process(target=_serve, args=(theirs, self.name, self._device), daemon=True)
        self._process.start()
        theirs.close()
        self._loading = True

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()

    async def run(
        self, action: Callable[..., Any], *arguments: Any, progress: Callable[[float, str], object], **options: Any
    ) -> Any:
        """Return ``action(model, *arguments, progress=progress, **options)``, computed by the process.

        Where this is cancelled, the process is ended and another one loads the model, for the next action.

        Raises:
            SyllableLMError: raised by the action, or the process died.
        """
        try:
            if self._loading:
                progress(0.0, "Loading the model")
                await asyncio.to_thread(self._connection.recv)
                self._loading = False
            self._connection.send((action, arguments, options))
            while isinstance(answer := await asyncio.to_thread(self._connection.recv), _Step):
                progress(*answer)
            return answer
        except (asyncio.CancelledError, _Died):
            self.close()
            self._start()
            raise


class _Step(tuple[float, str]):
    """Progress of an action, as it is sent."""


class _Died(SyllableLMError):
    """The process ended by itself, or was killed by the system."""


class _Answers:
    """This process's end of the connection: an exception that was sent is raised."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, request: Any) -> None:
        try:
            self._connection.send(request)
        except OSError as error:
            raise _died() from error

    def recv(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise _died() from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _died() -> _Died:
    return _Died("the process of the model ended, perhaps for want of memory; try a shorter recording")


def _serve(connection: Connection, name: str, device: str) -> None:
    """Answer requests until the other end is closed: first whether the model speaks, then one answer for each."""
    # Ctrl-C in a terminal reaches this process, too; the page's process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from syllablelm.demo.actions import DemoModel

    def progress(share: float, step: str) -> None:
        connection.send(_Step((share, step)))

    try:
        model = DemoModel.load(name, device=device)
        connection.send(model.speech is not None)
        while True:
            action, arguments, options = connection.recv()
            try:
                answer = action(model, *arguments, progress=progress, **options)
            except Exception as error:
                if not isinstance(error, SyllableLMError):
                    traceback.print_exc()
                answer = error
            connection.send(answer)
    except SyllableLMError as error:
        connection.send(error)
    except (EOFError, OSError):
        # The page's process has ended.
        return
