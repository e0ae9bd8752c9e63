"""Choice of device and precision, in one place."""

from __future__ import annotations

import torch

from syllablelm.errors import InputError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Resolve "auto", "cpu" or "cuda" ("cuda:1" too) to a torch device.

    Raises:
        InputError: the name is unknown or the device is not there.
    """
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
