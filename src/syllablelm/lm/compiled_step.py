"""One token of every sequence on a CPU: products by torch, everything between them in a few compiled loops.

At a few sequences a small model spends most of a step on the overhead of torch's small operations, a larger one in
8-bit integers half of it. Shape suffixes as in ``lm.decode``, and N inputs or outputs of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from syllablelm.lm.fused import LEAST, MOST_INT8, Apply, FusedDecoder, Linear, Norm, Projection
from syllablelm.segment.kernels import compiled

# Least multiply-adds of attention in a layer that more threads of torch would do faster, small operations included.
_WORTH_THREADS = 2**18


class CompiledStep:
    """Drop-in for ``lm.decode.StaticStep`` on a CPU; the results of torch's steps, but for rounding.

    Args:
        weights, keys, values: model (``FusedDecoder.can_compile``) and cache, which is written in place.

    Attributes:
        first_B1: position of the first token of each sequence, to be written in place.
    """

    def __init__(self, weights: FusedDecoder, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._weights, rows = weights, len(keys[0])
        self._caches = [(key.numpy(), value.numpy()) for key, value in zip(keys, values, strict=True)]
        self.first_B1 = torch.zeros(rows, 1, dtype=torch.long)
        self._blocks = [
            (
                [_bound(linear, rows) for linear in (block.qkv, block.out, block.up, block.down)],
                [_arrays(norm) for norm in block.norms],
                block,
            )
            for block in weights.blocks
        ]
        assert weights.final_norm is not None
        self._final_norm = _arrays(weights.final_norm)
        self._output = _bound(weights.output, rows)
        self._normed_BD = torch.empty(rows, weights.embedding.shape[1])
        self._mixed_BN = torch.empty(rows, weights.heads * weights.head_dim)
        self._unturned = np.empty((2, rows, 0), dtype=np.float32)

    def pays(self, slot: int) -> bool:
        """Return whether this step is faster than torch's, whose attention uses all threads."""
        return self._mixed_BN.numel() * (slot + 1) * (1 - 1 / torch.get_num_threads()) <= _WORTH_THREADS

    def __call__(self, tokens_B: Tensor, slot: int) -> Tensor:
        """Return the logits of the next token, (B, V), after ``tokens_B`` at a slot."""
        weights, place_B1 = self._weights, slot - self.first_B1
        hidden_BD = F.embedding(tokens_B, weights.embedding)
        cos, sin = self._unturned
        if weights.positions is not None:
            hidden_BD = hidden_BD + F.embedding(place_B1[:, 0], weights.positions)
        elif weights.rotary is not None:
            cos, sin = (turn[:, 0].numpy() for turn in weights.rotary(hidden_BD, place_B1))
        hidden, first, x_BD, mixed_BN = hidden_BD.numpy(), self.first_B1.numpy(), self._normed_BD, self._mixed_BN
        normed, mixed = x_BD.numpy(), mixed_BN.numpy()
        added = np.zeros_like(hidden)
        for ((qkv, out, up, down), norms, block), (keys, values) in zip(self._blocks, self._caches, strict=True):
            _add_and_norm(hidden, added, *norms[0], normed)
            _attend(qkv(x_BD).numpy(), cos, sin, keys, values, slot, first, block.scale, mixed)
            _add_and_norm(hidden, out(mixed_BN).numpy(), *norms[1], normed)
            added = down(block.activate(up(x_BD))).numpy()
        _add_and_norm(hidden, added, *self._final_norm, normed)
        return self._output(x_BD).clone()


def _arrays(norm: Norm) -> tuple[np.ndarray, np.ndarray, float, bool]:
    weight = norm.weight.detach()
    bias = torch.zeros_like(weight) if norm.bias is None else norm.bias.detach()
    return weight.numpy(), bias.numpy(), norm.eps, norm.centred


def _bound(linear: Projection, rows: int) -> Apply:
    """A projection of a number of rows; its results share one buffer."""
    if isinstance(linear, Linear):
        weight, bias, out_BN = linear.weight.detach().T, linear.bias, torch.empty(rows, len(linear.weight))
        if bias is None:
            return lambda x: torch.mm(x, weight, out=out_BN)
        bias = bias.detach()
        return lambda x: torch.addmm(bias, x, weight, out=out_BN)
    inputs, outputs = linear.weight.shape
    rounded_BN, sums_BN = torch.empty(rows, inputs, dtype=torch.int8), torch.empty(rows, outputs, dtype=torch.int32)
    out_BN, weight = torch.empty(rows, outputs), linear.weight
    rounded, sums, out, steps = rounded_BN.numpy(), sums_BN.numpy(), out_BN.numpy(), np.empty(rows, dtype=np.float32)
    scale, bias = linear.scale.numpy(), linear.bias.numpy()

    def product(x: Tensor) -> Tensor:
        _round(x.numpy(), rounded, steps)
        torch.ops.aten._int_mm.out(rounded_BN, weight, out=sums_BN)
        _scale(sums, steps, scale, bias, out)
        return out_BN

    return product


# "reassoc" and "contract" let sums use vector instructions; infinities and NaN keep their meaning.
@compiled(fastmath={"reassoc", "contract"})
def _add_and_norm(
    hidden: np.ndarray, added: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, centred: bool,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Add to the hidden states (B, D) in place; write their LayerNorm, or RMSNorm if not centred."""
    rows, dims = hidden.shape
    for row in range(rows):
        x, y, z = hidden[row], added[row], out[row]
        mean = square = np.float32(0.0)
        for dim in range(dims):
            x[dim] += y[dim]
            mean += x[dim]
        mean = mean / np.float32(dims) if centred else np.float32(0.0)
        for dim in range(dims):
            square += (x[dim] - mean) * (x[dim] - mean)
        factor = np.float32(1.0 / math.sqrt(square / dims + eps))
        for dim in range(dims):
            z[dim] = (x[dim] - mean) * factor * weight[dim] + bias[dim]


@compiled(fastmath={"reassoc", "contract"})
def _attend(
    qkv: np.ndarray, cos: np.ndarray, sin: np.ndarray, keys: np.ndarray, values: np.ndarray, slot: int,
    first: np.ndarray, scale: float, out: np.ndarray,
) -> None:  # fmt: skip
    """Cache the new keys and values at a slot and attend from the new queries to those from ``first`` (B, 1) on.

    Queries, keys and values (B, heads x size) are turned by the angles of RoPE where there are any.
    """
    rows, kv_heads, size = len(qkv), keys.shape[1], keys.shape[3]
    heads, half = out.shape[1] // size, cos.shape[1] // 2
    weights = np.empty(slot + 1, dtype=np.float32)
    for row in range(rows):
        parts = qkv[row].reshape(-1, size)
        for head in range(heads + kv_heads):
            for dim in range(half):
                x, y = parts[head, dim], parts[head, half + dim]
                parts[head, dim] = x * cos[row, dim] - y * sin[row, dim]
                parts[head, half + dim] = y * cos[row, half + dim] + x * sin[row, half + dim]
        for head in range(kv_heads):
            keys[row, head, slot] = parts[heads + head]
            values[row, head, slot] = parts[heads + kv_heads + head]
        for head in range(heads):
            query, mixed, shared = parts[head], out[row, head * size : (head + 1) * size], head * kv_heads // heads
            highest, total = np.float32(-np.inf), np.float32(0.0)
            for place in range(first[row, 0], slot + 1):
                key, score = keys[row, shared, place], np.float32(0.0)
                for dim in range(size):
                    score += query[dim] * key[dim]
                weights[place] = score * np.float32(scale)
                highest = max(highest, weights[place])
            mixed[:] = 0.0
            for place in range(first[row, 0], slot + 1):
                value, weight = values[row, shared, place], np.float32(math.exp(weights[place] - highest))
                total += weight
                for dim in range(size):
                    mixed[dim] += weight * value[dim]
            for dim in range(size):
                mixed[dim] /= total


@compiled()
def _round(x: np.ndarray, rounded: np.ndarray, steps: np.ndarray) -> None:
    """Round each row (B, N) to 8-bit integers times a step, as ``Int8Linear`` does."""
    rows, dims = x.shape
    for row in range(rows):
        # Bits of numbers without their sign are ordered as these, NaN above all; integers are compared many at once.
        bits, largest = x[row].view(np.int32), np.int32(0)
        for dim in range(dims):
            largest = max(largest, bits[dim] & np.int32(0x7FFFFFFF))
        step = max(np.int32(largest).view(np.float32), np.float32(LEAST)) / np.float32(MOST_INT8)
        steps[row] = step
        for dim in range(dims):
            rounded[row, dim] = np.int8(np.rint(x[row, dim] / step))


@compiled()
def _scale(sums: np.ndarray, steps: np.ndarray, scale: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    rows, outputs = sums.shape
    for row in range(rows):
        for output in range(outputs):
            out[row, output] = np.float32(sums[row, output]) * steps[row] * scale[output] + bias[output]
