"""Actions for the worker process of the demo page, which imports them by name."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

from syllablelm.core.errors import InputError


def name_process(model: Any, *, progress: Any) -> tuple[int, int]:
    """Return the process's id and the number of units of its model, after two reports of progress."""
    progress(0.25, "first")
    progress(0.5, "second")
    return os.getpid(), model.tokenizer.num_units


def never_end(model: Any, *, progress: Any) -> NoReturn:
    """Report the process's id as progress, and work until it is killed."""
    progress(0.0, str(os.getpid()))
    while True:
        time.sleep(0.01)


def refuse(model: Any, text: str, *, progress: Any) -> NoReturn:
    """Raise an error of the user."""
    raise InputError(text)


def fail(model: Any, *, progress: Any) -> NoReturn:
    """Raise an error of the code."""
    raise ZeroDivisionError


def die(model: Any, *, progress: Any) -> NoReturn:
    """End the process as the system does when memory is short."""
    os._exit(9)
