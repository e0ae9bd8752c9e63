"""Peak FLOP/s of a device, the reference of model-FLOPs utilisation."""

from __future__ import annotations

import re
import time
from typing import Literal

import torch

from syllablelm.scaling.flops import PEAK_TFLOPS

Source = Literal["recipe", "data sheet", "measured"]

# Side of the matrices: large enough to fill the device, small enough for products of milliseconds.
SIDE = {"cpu": 768, "cuda": 8192}
SECONDS = 0.3

# torch's names of the GPUs of `PEAK_TFLOPS`, without the maker. Slower relatives must not match: "H100 PCIe",
# "H200 NVL", "RTX 4090 D", MIG slices.
_NAMES = {
    "a100": r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe",
    "a40": r"A40",
    "a5000": r"RTX A5000",
    "a6000": r"RTX A6000",
    "h100": r"H100 80GB HBM3",
    "h200": r"H200",
    "l4": r"L4",
    "l40s": r"L40S",
    "rtx4090": r"GeForce RTX 4090",
    "v100": r"V100-SXM\d-\d+GB",
}


def known_peak_flops(name: str) -> float | None:
    """Return the dense half-precision FLOP/s of a GPU by torch's name of it, or None if unknown."""
    short = re.sub(r"^(NVIDIA|Tesla) ", "", name)
    key = next((key for key, pattern in _NAMES.items() if re.fullmatch(pattern, short)), None)
    return None if key is None else PEAK_TFLOPS[key] * 1e12


def find_peak_flops(device: torch.device, *, half: bool = False, tflops: float = 0.0) -> tuple[float, Source]:
    """Return the peak FLOP/s of a device and the source of the number.

    A recipe's ``tflops`` above 0 is taken as it is; else a known GPU that computes in bfloat16 (``half``) is looked up
    in its data sheet, any other device is measured.
    """
    if tflops:
        return tflops * 1e12, "recipe"
    known = known_peak_flops(torch.cuda.get_device_name(device)) if half and device.type == "cuda" else None
    return (measure_peak_flops(device, half=half), "measured") if known is None else (known, "data sheet")


@torch.inference_mode()
def measure_peak_flops(device: torch.device, *, half: bool = False, seconds: float = SECONDS) -> float:
    """Measure the FLOP/s of the fastest of the matrix products, in bfloat16 or float32, that fit into ``seconds``."""
    side = SIDE[device.type]
    dtype = torch.bfloat16 if half else torch.float32
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))

    def product() -> float:
        started = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    # The first ones load the kernels.
    started, best = time.perf_counter(), min(product() for _ in range(2))
    while time.perf_counter() - started < seconds:
        best = min(best, product())
    return 2 * side**3 / best
