"""Counting: parameters and training FLOPs of Llama and OPT decoders, and what a GPU does in an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from syllablelm.core.errors import InputError
from syllablelm.scaling.laws import FLOPS_PER_PARAM_TOKEN

Kind = Literal["llama", "opt"]
HEAD_DIM = 64
# Peak TFLOP/s of dense matrix products (tensor cores without sparsity) in bfloat16, for V100 in float16, with sums in
# float32, from the maker's data sheets: V100 SXM2, RTX A5000 and A6000, A100 of either kind, H100 and H200 SXM (an H100
# of the PCIe kind has 756).
PEAK_TFLOPS = {"v100": 125.0, "a5000": 111.1, "a6000": 154.8, "rtx4090": 165.2, "l4": 121.0, "a40": 149.7,
               "l40s": 362.0, "a100": 312.0, "h100": 989.0, "h200": 989.0}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A decoder.

    Args:
        kind: "llama" (RMSNorm, SwiGLU, rotary positions) or "opt" (LayerNorm, biases, learned positions).
        layers, dim, heads, hidden: of the decoder; hidden is that of the feed-forward part.
        vocab: tokens with the special ones; embeddings are tied.
        context: positions of a sequence.
    """

    kind: Kind
    layers: int
    dim: int
    heads: int
    hidden: int
    vocab: int = 502
    context: int = 2050

    @property
    def matrix_params(self) -> int:
        """Weights of the layers' matrices: each is used once for every token."""
        branches = 3 if self.kind == "llama" else 2
        return self.layers * (4 * self.dim**2 + branches * self.dim * self.hidden)

    @property
    def params(self) -> int:
        """All parameters but embeddings, norms and biases included."""
        if self.kind == "llama":
            return self.matrix_params + self.layers * 2 * self.dim + self.dim
        biases_and_norms = 4 * self.dim + self.hidden + self.dim + 4 * self.dim
        return self.matrix_params + self.layers * biases_and_norms + 2 * self.dim

    @property
    def params_total(self) -> int:
        """With token embeddings and, for OPT, learned positions (two of which are never used)."""
        positions = self.context + 2 if self.kind == "opt" else 0
        return self.params + (self.vocab + positions) * self.dim

    def train_flops(self, tokens: float, *, exact: bool = True) -> float:
        """FLOPs of training on so many tokens.

        Args:
            exact: multiplications of weights, attention over the whole context, and logits (three times the forward
                pass); else 6 N D.
        """
        if not exact:
            return float(FLOPS_PER_PARAM_TOKEN * self.params * tokens)
        attention = 2 * self.layers * self.context * self.dim
        return float(FLOPS_PER_PARAM_TOKEN * (self.matrix_params + attention + self.vocab * self.dim) * tokens)


def llama_hidden(dim: int) -> int:
    """Width of SwiGLU: two thirds of 4 ``dim``, up to a multiple of 256."""
    return 256 * math.ceil(int(8 * dim / 3) / 256)


def llama(layers: int, dim: int, heads: int) -> Shape:
    """A Llama decoder of the speech scaling study."""
    return Shape("llama", layers, dim, heads, llama_hidden(dim))


# The five of Cuervo & Marxer (2024), Table 1.
SPEECH_SHAPES = {
    "20M": llama(6, 512, 8),
    "85M": llama(12, 768, 12),
    "155M": llama(12, 1024, 16),
    "309M": llama(24, 1024, 16),
    "823M": llama(16, 2048, 32),
}


def opt_shape(params: float, *, vocab: int = 502, context: int = 1024) -> Shape:
    """The OPT decoder of heads of 64 that comes near to so many non-embedding parameters, neither thin nor flat.

    Raises:
        InputError: fewer parameters than the smallest decoder has.
    """
    best, least = None, math.inf
    for heads in range(1, 129):
        dim = HEAD_DIM * heads
        layers = max(1, round(params / (12 * dim**2)))
        shape = Shape("opt", layers, dim, heads, 4 * dim, vocab, context)
        # The size matters most; then that there are about 64 dimensions to a layer, as in the published shapes.
        cost = 5 * abs(math.log(shape.params / params)) + 0.25 * abs(math.log(dim / layers / 64))
        if cost < least:
            best, least = shape, cost
    if best is None or not 0.5 < best.params / params < 2:
        raise InputError(f"no decoder has about {params:.3g} parameters; the smallest has about 50,000")
    return best


def opt_layers(layers: int, dim: int, *, vocab: int = 502, context: int = 1024) -> Shape:
    """The OPT decoder of so many layers: heads of 64, or one head of less.

    Raises:
        InputError: no layers, or a width that heads of 64 do not divide.
    """
    heads = max(1, dim // HEAD_DIM)
    if layers < 1 or dim < 1 or (dim > HEAD_DIM and dim % HEAD_DIM):
        raise InputError(f"{layers}x{dim}: needs layers >= 1, and a dim of at most 64 or a multiple of 64")
    return Shape("opt", layers, dim, heads, 4 * dim, vocab, context)


def flops_of_hours(hours: float, *, gpu: str | None = None, tflops: float | None = None, use: float = 0.4) -> float:
    """FLOPs that a device does in some hours.

    Args:
        hours: times devices.
        gpu: one of `PEAK_TFLOPS` (dense bfloat16 or float16 tensor peak, no sparsity); tflops: or a peak of your own.
        use: share of the peak that 6 N D of training reach; measure it with a short run (``mfu`` of its run.json).

    Raises:
        InputError: neither or both of gpu and tflops, an unknown GPU, a number out of range.
    """
    if (gpu is None) == (tflops is None):
        raise InputError("give either a GPU's name or its peak in TFLOP/s")
    if gpu is not None and gpu.lower() not in PEAK_TFLOPS:
        raise InputError(f"unknown GPU {gpu!r}; choose of {', '.join(sorted(PEAK_TFLOPS))}, or give its TFLOP/s")
    peak = PEAK_TFLOPS[gpu.lower()] if gpu is not None else tflops
    if peak is None or not (peak > 0 and hours > 0 and 0 < use <= 1):
        raise InputError("hours and TFLOP/s must be above 0, and the share of the peak in (0, 1]")
    return hours * 3600 * peak * 1e12 * use
