"""Parameters and training FLOPs of decoders, FLOPs of GPU hours, named choices. Needs no numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from syllablelm.core.errors import InputError

Design = Literal["isoflop", "ratio", "grid"]
Per = Literal["token", "second"]
Figure = Literal["loss", "scores", "lines", "tokens"]
Family = Literal["opt", "llama"]

HEAD_DIM = 64
# Assumed model-FLOPs utilisation.
MFU = 0.4
# Training FLOPs per parameter and token: two forward, four backward.
FLOPS_PER_PARAM_TOKEN = 6
# Peak TFLOP/s of dense matrix products (tensor cores without sparsity) in bfloat16, for V100 in float16, accumulated in
# float32, from the data sheets: V100 SXM2, RTX A5000 and A6000, A100 of either kind, H100 and H200 SXM (an H100 PCIe
# has 756).
PEAK_TFLOPS = {"v100": 125.0, "a5000": 111.1, "a6000": 154.8, "rtx4090": 165.2, "l4": 121.0, "a40": 149.7,
               "l40s": 362.0, "a100": 312.0, "h100": 989.0, "h200": 989.0}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Shape of a decoder, whose embeddings are tied.

    An OPT has LayerNorm, biases, learned positions, and feed-forward layers of four times the width; a Llama RMSNorm,
    RoPE, and SwiGLU of 8/3 times the width, rounded up to a multiple of 256.

    Args:
        layers, dim, heads: number of layers, model width and attention heads.
        vocab: vocabulary size with special tokens.
        context: context length in tokens.
        family: "opt" or "llama".
    """

    layers: int
    dim: int
    heads: int
    vocab: int = 502
    context: int = 1024
    family: Family = "opt"

    @property
    def feed_forward(self) -> int:
        """Width of the feed-forward layers."""
        return 4 * self.dim if self.family == "opt" else 256 * -(-(8 * self.dim // 3) // 256)

    @property
    def matrix_params(self) -> int:
        """Number of weights in the layers' matrices, each used once per token."""
        matrices = 2 if self.family == "opt" else 3
        return self.layers * (4 * self.dim**2 + matrices * self.dim * self.feed_forward)

    @property
    def params(self) -> int:
        """Number of non-embedding parameters, norms and biases included."""
        by_layer, last = (13, 2) if self.family == "opt" else (2, 1)
        return self.matrix_params + (self.layers * by_layer + last) * self.dim

    @property
    def params_total(self) -> int:
        """Number of parameters with token embeddings and an OPT's learned positions (two of which are never used)."""
        positions = self.context + 2 if self.family == "opt" else 0
        return self.params + (self.vocab + positions) * self.dim

    def train_flops(self, tokens: float) -> float:
        """Return the exact FLOPs of training on a number of tokens: weights, attention over the context, and logits.

        That is three times the forward pass; 6 N D leaves out the latter two.
        """
        attention = 2 * self.layers * self.context * self.dim
        return float(FLOPS_PER_PARAM_TOKEN * (self.matrix_params + attention + self.vocab * self.dim) * tokens)


def nearest_shape(params: float, *, vocab: int = 502, context: int = 1024, family: Family = "opt") -> Shape:
    """Return the decoder with heads of 64 closest to a number of non-embedding parameters, neither thin nor flat."""
    best, least = None, math.inf
    for heads in range(1, 129):
        dim = HEAD_DIM * heads
        layers = max(1, round(params / Shape(1, dim, heads, family=family).matrix_params))
        shape = Shape(layers, dim, heads, vocab, context, family)
        # The size matters most; then that there are about 64 dimensions to a layer, as in the published shapes.
        cost = 5 * abs(math.log(shape.params / params)) + 0.25 * abs(math.log(dim / layers / 64))
        if cost < least:
            best, least = shape, cost
    if best is None or not 0.5 < best.params / params < 2:
        raise InputError(f"no decoder has about {params:.3g} parameters; the smallest has about 50,000")
    return best


def shape_of(layers: int, dim: int, *, vocab: int = 502, context: int = 1024, family: Family = "opt") -> Shape:
    """Return the decoder of a number of layers and a width, with heads of 64 or one smaller head."""
    if layers < 1 or dim < 1 or (dim > HEAD_DIM and dim % HEAD_DIM):
        raise InputError(f"{layers}x{dim}: needs layers >= 1, and a dim of at most 64 or a multiple of 64")
    return Shape(layers, dim, max(1, dim // HEAD_DIM), vocab, context, family)


def short_number(value: float, digits: int = 3, *, smallest: float = 1.0) -> str:
    """Return a number such as 20M or 1.3B in units from ``smallest`` on; an empty text for what is not finite."""
    if not math.isfinite(value):
        return ""
    # Rounded first: 999,999 is 1M, not 1e+03k.
    value = float(f"{value:.{digits}g}")
    units = {1e12: "T", 1e9: "B", 1e6: "M", 1e3: "k", 1.0: ""}
    unit = next((unit for unit in units if value >= unit or unit == smallest), 1.0)
    return f"{value / unit:.{digits}g}{units[unit]}"


def compute_budget(
    flops: float | None = None,
    gpu_hours: float | None = None,
    *,
    gpu: str | None = None,
    tflops: float | None = None,
    mfu: float = MFU,
) -> float | None:
    """Return a budget in FLOP, given as such or in hours of a device; None where neither is given.

    Args:
        flops, gpu_hours: budget in FLOP, or in hours times devices.
        gpu, tflops: a name in `PEAK_TFLOPS`, or peak TFLOP/s of another device.
        mfu: model-FLOPs utilisation, the share of the peak that 6 N D of training reach; a short run measures it
            (``mfu`` in its run.json).

    Raises:
        InputError: both budgets; neither or both of gpu and tflops; an unknown GPU; a number out of range.
    """
    if flops is not None and gpu_hours is not None:
        raise InputError("give the budget either in FLOP or in GPU hours")
    if flops is not None and not 0 < flops < math.inf:
        raise InputError(f"a budget of {flops:g} FLOP: must be above 0 and finite")
    if gpu_hours is None:
        return flops
    if (gpu is None) == (tflops is None):
        raise InputError("give either a GPU's name or its peak in TFLOP/s")
    if gpu is not None and gpu.lower() not in PEAK_TFLOPS:
        raise InputError(f"unknown GPU {gpu!r}; choose one of {', '.join(sorted(PEAK_TFLOPS))}, or give its TFLOP/s")
    peak = PEAK_TFLOPS[gpu.lower()] if gpu is not None else tflops
    if peak is None or not (peak > 0 and gpu_hours > 0 and 0 < mfu <= 1):
        raise InputError("hours and TFLOP/s must be above 0, and the model-FLOPs utilisation in (0, 1]")
    return gpu_hours * 3600 * peak * 1e12 * mfu
