"""The network of Data2Vec 2.0 for speech in plain PyTorch; `data2vec2.Data2Vec2Encoder` runs it.

Parameters carry the names of fairseq's ``data2vec_multi`` model, so that a checkpoint's weights go to their places by
name. Twelve post-norm blocks, four of them before fairseq's "main" eight; attention knows positions by ALiBi and by
five stacked convolutions. fairseq's dropout and layer drop are left out, in training too.

Shape suffixes: B clips, T frames, D features, H heads, E features of one head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CONV_KERNELS, CONV_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
HOP, RECEPTIVE_FIELD = 320, 400
PRENET_BLOCKS, MAIN_BLOCKS = 4, 8
NUM_LAYERS = PRENET_BLOCKS + MAIN_BLOCKS
# fairseq's out_layer -2, counted on the main blocks: one before the last.
RELEASED_LAYER = NUM_LAYERS - 1
POSITION_LAYERS, POSITION_KERNEL, POSITION_GROUPS = 5, 19, 16

# Numbers in one block of attention biases: 128 MB.
BIAS_NUMBERS = 1 << 25


@dataclass(frozen=True)
class Data2Vec2Shape:
    """The sizes that may differ from model to model; the defaults are the released ones."""

    channels: int = 512
    dim: int = 768
    heads: int = 12
    feed_forward: int = 3072


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head, before its learned scale: 2^(-8 h / heads), h = 1, 2, ..., for a power of two.

    Another number takes the slopes of the largest power of two below it, then every second one of twice that power,
    as many as are missing (Press et al., "Train short, test long", as fairseq does it).
    """
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * head / whole) for head in range(1, whole + 1)]
    between = [2.0 ** (-4.0 * head / whole) for head in range(1, 2 * whole, 2)]
    return slopes + between[: heads - whole]


class Alibi:
    """Attention biases -steepness x |query frame - key frame| of every head.

    The table of all pairs is made once and kept if it is small; for long clips it is made in blocks of queries.
    """

    def __init__(self, scale: Tensor, num_frames: int) -> None:
        scale_H = scale.float().clamp_min(0.0).reshape(-1)
        self._steepness_H11 = (scale_H * scale_H.new_tensor(alibi_slopes(len(scale_H))))[:, None, None]
        self._place_T = torch.arange(num_frames, device=scale.device, dtype=torch.float32)
        self._queries = max(1, BIAS_NUMBERS // max(1, len(scale_H) * num_frames))
        self._whole_HTT = self._rows(0, num_frames) if num_frames <= self._queries else None

    def _rows(self, first: int, last: int) -> Tensor:
        return -self._steepness_H11 * (self._place_T[first:last, None] - self._place_T[None, :]).abs()

    def attend(self, query_BHTE: Tensor, key_BHTE: Tensor, value_BHTE: Tensor) -> Tensor:
        """Attention with these biases, over all the frames given (at most ``num_frames``): (B, H, T, E)."""
        num_frames = query_BHTE.shape[2]
        if self._whole_HTT is not None:
            bias_HTT = self._whole_HTT[:, :num_frames, :num_frames].to(query_BHTE.dtype)
            return functional.scaled_dot_product_attention(query_BHTE, key_BHTE, value_BHTE, attn_mask=bias_HTT[None])
        parts = []
        for first in range(0, num_frames, self._queries):
            last = min(first + self._queries, num_frames)
            bias_HQT = self._rows(first, last)[..., :num_frames].to(query_BHTE.dtype)
            part = query_BHTE[:, :, first:last]
            parts.append(functional.scaled_dot_product_attention(part, key_BHTE, value_BHTE, attn_mask=bias_HQT[None]))
        return torch.cat(parts, dim=2)


class Attention(nn.Module):
    """Self-attention with biases by distance (ALiBi), each clip over its own frames."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BTD: Tensor, frames: Sequence[int], alibi: Alibi) -> Tensor:
        query, key, value = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if min(frames) == x_BTD.shape[1]:
            mixed_BHTE = alibi.attend(query, key, value)
        else:
            # Clip by clip: no work on padding, and the table of biases serves all clips, where masks of keys would
            # need one table each.
            mixed_BHTE = torch.zeros_like(query)
            for b, n in enumerate(frames):
                mixed_BHTE[b, :, :n] = alibi.attend(*(x[b : b + 1, :, :n] for x in (query, key, value)))[0]
        return self.proj(mixed_BHTE.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, under fairseq's names."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x_BTD)))


class Block(nn.Module):
    """A post-norm transformer block."""

    def __init__(self, shape: Data2Vec2Shape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.dim)
        self.attn = Attention(shape.dim, shape.heads)
        self.norm2 = nn.LayerNorm(shape.dim)
        self.mlp = FeedForward(shape.dim, shape.feed_forward)

    def forward(self, x_BTD: Tensor, frames: Sequence[int], alibi: Alibi) -> Tensor:
        x_BTD = self.norm1(x_BTD + self.attn(x_BTD, frames, alibi))
        return self.norm2(x_BTD + self.mlp(x_BTD))


class SwapLast(nn.Module):
    """Exchange channels and time, for norms over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)


def _conv_layer(channels_in: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    # The second place is fairseq's dropout; without it the norm would have another name.
    norm = nn.Sequential(SwapLast(), nn.LayerNorm(channels), SwapLast())
    conv = nn.Conv1d(channels_in, channels, kernel, stride=stride, bias=False)
    return nn.Sequential(conv, nn.Identity(), norm, nn.GELU())


def _position_layer(dim: int) -> nn.Sequential:
    conv = nn.Conv1d(dim, dim, POSITION_KERNEL, padding=POSITION_KERNEL // 2, groups=POSITION_GROUPS)
    return nn.Sequential(conv, SwapLast(), nn.LayerNorm(dim, elementwise_affine=False), SwapLast(), nn.GELU())


class AudioFrontEnd(nn.Module):
    """Everything before the main blocks, under fairseq's names."""

    def __init__(self, shape: Data2Vec2Shape) -> None:
        super().__init__()
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, shape.heads, 1, 1))
        channels_in = (1, *[shape.channels] * (len(CONV_KERNELS) - 1))
        layers = [
            _conv_layer(before, shape.channels, kernel, stride)
            for before, kernel, stride in zip(channels_in, CONV_KERNELS, CONV_STRIDES, strict=True)
        ]
        self.local_encoder = nn.ModuleDict({"conv_layers": nn.Sequential(*layers)})
        self.project_features = nn.Sequential(
            nn.Identity(), nn.LayerNorm(shape.channels), nn.Linear(shape.channels, shape.dim)
        )
        self.relative_positional_encoder = nn.ModuleDict(
            {str(number): _position_layer(shape.dim) for number in range(1, POSITION_LAYERS + 1)}
        )
        blocks = nn.ModuleList(Block(shape) for _ in range(PRENET_BLOCKS))
        self.context_encoder = nn.ModuleDict({"norm": nn.LayerNorm(shape.dim), "blocks": blocks})


class Data2Vec2(nn.Module):
    """The parameters of a Data2Vec 2.0 speech model; `Data2Vec2Encoder` runs them."""

    def __init__(self, shape: Data2Vec2Shape) -> None:
        super().__init__()
        self.shape = shape
        self.modality_encoders = nn.ModuleDict({"AUDIO": AudioFrontEnd(shape)})
        self.blocks = nn.ModuleList(Block(shape) for _ in range(MAIN_BLOCKS))
