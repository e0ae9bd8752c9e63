"""Random weights under fairseq's names for HuBERT, and a plain forward pass over them, written from the definition."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """A HuBERT; the defaults are small, with the frame grid of the real ones."""

    dim: int = 32
    layers: int = 2
    heads: int = 4
    feed_forward: int = 48
    channels: int = 8
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    position: int = 16
    groups: int = 4
    labels: int = 12
    final: int = 16
    layer_norm: bool = False
    bias: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """A configuration as fairseq saves it, with what the weights do not tell."""
        model = {"encoder_attention_heads": self.heads, "layer_norm_first": self.layer_norm, "logit_temp": 0.1}
        return {"task": {"normalize": self.layer_norm, "labels": ["km"]}, "model": model | self.settings}


BASE = Shape(768, 12, 12, 3072, 512, position=128, groups=16, labels=504, final=256)


def random_weights(shape: Shape, seed: int = 0) -> dict[str, Tensor]:
    """Weights in the order in which fairseq saves them, as large as trained ones so that every part matters."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(*size: int, gain: float = 1.0) -> Tensor:
        return torch.randn(size, generator=generator) * gain / math.sqrt(math.prod(size[1:]))

    def affine(name: str, size: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + 0.2 * matrix(size, 1)[:, 0], f"{name}.bias": 0.2 * matrix(size, 1)[:, 0]}

    def linear(name: str, rows: int, columns: int, gain: float = 1.0) -> dict[str, Tensor]:
        return {f"{name}.weight": matrix(rows, columns, gain=gain), f"{name}.bias": 0.1 * matrix(rows, 1)[:, 0]}

    weights = {"mask_emb": torch.rand(shape.dim, generator=generator)}
    weights["label_embs_concat"] = torch.rand(shape.labels, shape.final, generator=generator)
    before = 1
    for number, kernel in enumerate(shape.kernels):
        name = f"feature_extractor.conv_layers.{number}"
        weights[f"{name}.0.weight"] = matrix(shape.channels, before, kernel, gain=2.0)
        if shape.bias:
            weights[f"{name}.0.bias"] = 0.1 * matrix(shape.channels, 1)[:, 0]
        if shape.layer_norm:
            weights |= affine(f"{name}.2.1", shape.channels)
        elif number == 0:
            weights |= affine(f"{name}.2", shape.channels)
        before = shape.channels
    weights |= linear("post_extract_proj", shape.dim, shape.channels)
    weights["encoder.pos_conv.0.bias"] = 0.1 * matrix(shape.dim, 1)[:, 0]
    weights["encoder.pos_conv.0.weight_g"] = 1 + torch.rand(1, 1, shape.position, generator=generator)
    weights["encoder.pos_conv.0.weight_v"] = matrix(shape.dim, shape.dim // shape.groups, shape.position)
    for number in range(shape.layers):
        name = f"encoder.layers.{number}"
        for part in ("k", "v", "q", "out"):
            weights |= linear(f"{name}.self_attn.{part}_proj", shape.dim, shape.dim, gain=1.5)
        weights |= affine(f"{name}.self_attn_layer_norm", shape.dim)
        weights |= linear(f"{name}.fc1", shape.feed_forward, shape.dim)
        weights |= linear(f"{name}.fc2", shape.dim, shape.feed_forward)
        weights |= affine(f"{name}.final_layer_norm", shape.dim)
    weights |= affine("encoder.layer_norm", shape.dim) | affine("layer_norm", shape.channels)
    return weights | linear("final_proj", shape.final, shape.dim)


def forward(shape: Shape, weights: dict[str, Tensor], wave_N: Tensor, mask_T: Tensor | None = None) -> list[Tensor]:
    """Input of the transformer, output of every block and, last, what the head reads: (T, D) each.

    Args:
        wave_N: raw samples; standardised here where the shape asks for it.
        mask_T: frames to hide.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    if shape.layer_norm:
        # As transformers' preprocessor does it; fairseq itself adds 1e-5, which a quiet recording would show.
        wave_N = (wave_N - wave_N.mean()) / torch.sqrt(wave_N.var(unbiased=False) + 1e-7)
    x_CT = wave_N[None]
    for number, stride in enumerate(shape.strides):
        name = f"feature_extractor.conv_layers.{number}"
        x_CT = F.conv1d(x_CT[None], weights[f"{name}.0.weight"], weights.get(f"{name}.0.bias"), stride)[0]
        if shape.layer_norm:
            x_CT = norm(x_CT.T, f"{name}.2.1").T
        elif number == 0:
            # Group norm with one group per channel: over time.
            spread = torch.sqrt(x_CT.var(1, unbiased=False, keepdim=True) + 1e-5)
            x_CT = (x_CT - x_CT.mean(1, keepdim=True)) / spread
            x_CT = x_CT * weights[f"{name}.2.weight"][:, None] + weights[f"{name}.2.bias"][:, None]
        x_CT = F.gelu(x_CT)
    x_TD = linear(norm(x_CT.T, "layer_norm"), "post_extract_proj")
    if mask_T is not None:
        x_TD = torch.where(mask_T[:, None], weights["mask_emb"], x_TD)
    direction = weights["encoder.pos_conv.0.weight_v"]
    kernel = weights["encoder.pos_conv.0.weight_g"] * direction / direction.pow(2).sum((0, 1), keepdim=True).sqrt()
    position = F.conv1d(
        x_TD.T[None], kernel, weights["encoder.pos_conv.0.bias"], padding=shape.position // 2, groups=shape.groups
    )
    x_TD = x_TD + F.gelu(position[0, :, : len(x_TD)]).T
    if not shape.layer_norm:
        x_TD = norm(x_TD, "encoder.layer_norm")
    outputs = [x_TD]
    for number in range(shape.layers):
        name = f"encoder.layers.{number}"

        def attend(x: Tensor, name: str = name) -> Tensor:
            query, key, value = (linear(x, f"{name}.self_attn.{part}_proj") for part in "qkv")
            width = shape.dim // shape.heads
            heads = []
            for head in range(shape.heads):
                part = slice(head * width, (head + 1) * width)
                scores = query[:, part] @ key[:, part].T / math.sqrt(width)
                heads.append(torch.softmax(scores, dim=-1) @ value[:, part])
            return linear(torch.cat(heads, dim=1), f"{name}.self_attn.out_proj")

        def feed(x: Tensor, name: str = name) -> Tensor:
            return linear(F.gelu(linear(x, f"{name}.fc1")), f"{name}.fc2")

        if shape.layer_norm:
            x_TD = x_TD + attend(norm(x_TD, f"{name}.self_attn_layer_norm"))
            x_TD = x_TD + feed(norm(x_TD, f"{name}.final_layer_norm"))
        else:
            x_TD = norm(x_TD + attend(x_TD), f"{name}.self_attn_layer_norm")
            x_TD = norm(x_TD + feed(x_TD), f"{name}.final_layer_norm")
        outputs.append(x_TD)
    return [*outputs, norm(x_TD, "encoder.layer_norm") if shape.layer_norm else x_TD]


def logits(weights: dict[str, Tensor], read_TD: Tensor) -> Tensor:
    """(T, labels) cosines over the temperature .1."""
    projected = read_TD @ weights["final_proj.weight"].T + weights["final_proj.bias"]
    return F.cosine_similarity(projected[:, None], weights["label_embs_concat"][None], dim=-1) / 0.1
