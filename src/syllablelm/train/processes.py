"""The processes of a training run: one, or several started by ``torchrun``, the first of which is the main one.

Every process trains; only the main one prepares data, writes files and prints messages.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import distributed

from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.encoders.device import pick_device

T = TypeVar("T")

# The other processes wait while the main one prepares data, for days if necessary; the backends time out in minutes.
PATIENCE = timedelta(days=100)


def join(device: str | torch.device = "auto") -> torch.device:
    """Join the other processes, if any; further calls change nothing.

    Returns:
        the device of this process: the requested one, or of several GPUs the one of its local rank, which "cuda" and
        "auto" then stand for.

    Raises:
        InputError: an unavailable device, or one GPU for several processes.
    """
    chosen = pick_device(device)
    # Set by torchrun; accelerate reads it too.
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return chosen
    if chosen.type == "cuda" and isinstance(device, str) and chosen.index is not None:
        raise InputError(f"--device {device!r}: several processes take a GPU each; use --device cuda")
    from accelerate import PartialState

    mine: Any = PartialState(cpu=chosen.type == "cpu").device
    _waiting_group()
    return mine


@cache
def _waiting_group() -> Any:
    # Threads of a group that outlive the interpreter abort the process at its end.
    atexit.register(lambda: distributed.destroy_process_group() if distributed.is_initialized() else None)
    # Its messages are small and on the CPU, whatever the backend of training.
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def is_several() -> bool:
    """Return whether other processes have joined."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def is_main() -> bool:
    """Return whether this is the main process, which writes."""
    return not is_several() or distributed.get_rank() == 0


def on_main(work: Callable[[], T]) -> T:
    """Call a function in the main process while the others wait.

    Returns:
        in every process the function's result, which must be small and can be pickled.

    Raises:
        SyllableLMError: in the other processes, if it failed in the main one, which raises its own error.
    """
    if not is_several():
        return work()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except BaseException as error:
            failure = [None, str(error) or type(error).__name__]
            distributed.broadcast_object_list(failure, group=_waiting_group())
            raise
    distributed.broadcast_object_list(outcome, group=_waiting_group())
    result, failure = outcome
    if failure is not None:
        raise SyllableLMError(f"stopped with the main process: {failure}")
    return result


def total(values: Sequence[float]) -> list[float]:
    """Return sums over all processes, which must all call."""
    sums = torch.tensor(values, dtype=torch.float64)
    if is_several():
        distributed.all_reduce(sums, group=_waiting_group())
    return sums.tolist()
