"""The processes of a training run: one, or several that ``torchrun`` started, of which the first is the main one.

Every process trains; only the main one prepares data, writes files and talks to the person.
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

# While the main process prepares data the others wait, for days if it must be; the backends give up after minutes.
PATIENCE = timedelta(days=100)


def join(device: str | torch.device = "auto") -> torch.device:
    """Meet the other processes, if there are any; calling it again changes nothing.

    Returns:
        the device of this process: the one that was asked for, or of several GPUs the one with its local rank, which
        "cuda" and "auto" mean from now on.

    Raises:
        InputError: a device that is not there, or one GPU for several processes.
    """
    chosen = pick_device(device)
    # torchrun's way to say how many there are; accelerate reads it too.
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
    # Threads of a group that outlive the interpreter abort the process at its very end.
    atexit.register(_leave)
    # Its messages are small and on the CPU, whatever the backend of training.
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_several() -> bool:
    """Whether other processes have joined."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def is_main() -> bool:
    """Whether this is the process that writes."""
    return not is_several() or distributed.get_rank() == 0


def on_main(work: Callable[[], T]) -> T:
    """Call a function in the main process while the others wait.

    Returns:
        in every process what the function returned, which must be small and can be pickled.

    Raises:
        SyllableLMError: in the others, where it failed in the main process; there its own error is raised.
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
    """Sums over all processes, which must all ask."""
    sums = torch.tensor(values, dtype=torch.float64)
    if is_several():
        distributed.all_reduce(sums, group=_waiting_group())
    return sums.tolist()
