"""Choice of device and precision, in one place."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from syllablelm.core.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


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
