"""How fast a device multiplies matrices: the peak that model-FLOPs utilisation is a share of."""

from __future__ import annotations

import time

import torch

# Large enough to keep the device busy, small enough that one product takes a few milliseconds to tens of them.
SIDE = {"cpu": 768, "cuda": 8192}
SECONDS = 0.3


@torch.inference_mode()
def measure_peak_flops(device: torch.device, *, half: bool = False, seconds: float = SECONDS) -> float:
    """Floating-point operations per second of the fastest of the matrix products that fit into ``seconds``.

    Args:
        device: where to multiply.
        half: in bfloat16 instead of float32.
    """
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
