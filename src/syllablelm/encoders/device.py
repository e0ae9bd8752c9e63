"""Choice of device and precision, in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar, get_args

import torch

from syllablelm.core.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Resolve "auto", "cpu" or "cuda" ("cuda:1" too) to a torch device; an InputError for any other."""
    if isinstance(device, torch.device):
        return device
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"--device {device!r}: choose auto, cpu or cuda") from None
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"--device {device!r}: choose auto, cpu or cuda")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {device!r}: no CUDA device is available here; use --device cpu")
    return chosen


def check_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision if this device computes in it (float16: on a GPU only), else raise InputError."""
    if precision not in get_args(Precision):
        raise InputError(f"precision {precision!r}: choose {', '.join(get_args(Precision))}")
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision 'float16' needs a CUDA device; use bfloat16 or float32 on the CPU")
    return precision  # pyright: ignore[reportReturnType]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in ``precision``; weights and sums over layers stay float32."""
    if precision == "float32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, getattr(torch, precision))


def map_on_cores(function: Callable[[_Item], _Result], items: Sequence[_Item], device: torch.device) -> list[_Result]:
    """Apply a function of torch to every item: on a CPU several at once, between which torch's threads are divided.

    Cores that work on items of their own wait for each other once; those that share an item do so in every operation.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(items))
    if device.type != "cpu" or workers < 2:
        return [function(item) for item in items]
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)
        # The last number that any thread set is the one that new threads begin with.
        torch.set_num_threads(threads)
