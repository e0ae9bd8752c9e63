"""Random released tokenizers of true names and shapes, and a slow oracle of their encoder.

The oracle is written from the model's equations in double precision: windows times matrices for convolutions, one head
at a time for attention. Names of weights are those of the published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import erf
from torch import Tensor

Array = npt.NDArray[np.float64]
AUDIO = "model.modality_encoders.AUDIO."
KERNELS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
# For twelve heads: those of eight heads, then every second one of sixteen.
SLOPES = [2.0**-n for n in range(1, 9)] + [2.0**-n for n in (0.5, 1.5, 2.5, 3.5)]


def random_weights(
    *, channels: int = 16, dim: int = 48, heads: int = 12, feed_forward: int = 64, seed: int = 0
) -> dict[str, Tensor]:
    """All the weights of a released encoder, its unused decoder too, in small or (512, 768, 12, 3072) true sizes.

    Attention adds little to each frame and the 11th block's output is small, so that features differ from frame to
    frame, about as much as the published thresholds ask for.
    """
    torch.manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def affine(name: str, *shape: int, gain: float = 1.0, bias: bool = True) -> None:
        weights[f"{name}.weight"] = torch.randn(shape) * gain / np.sqrt(np.prod(shape[1:]))
        if bias:
            weights[f"{name}.bias"] = torch.randn(shape[0]) * 0.05

    def norm(name: str, size: int, gain: float = 1.0) -> None:
        weights[f"{name}.weight"] = gain * (1 + 0.1 * torch.randn(size))
        weights[f"{name}.bias"] = 0.05 * gain * torch.randn(size)

    weights[f"{AUDIO}alibi_scale"] = torch.rand(1, 1, heads, 1, 1) * 0.6 - 0.1
    for layer, (kernel, _) in enumerate(KERNELS):
        name = f"{AUDIO}local_encoder.conv_layers.{layer}"
        affine(f"{name}.0", channels, channels if layer else 1, kernel, gain=1.5, bias=False)
        norm(f"{name}.2.1", channels)
    norm(f"{AUDIO}project_features.1", channels)
    affine(f"{AUDIO}project_features.2", dim, channels)
    for layer in range(1, 6):
        affine(f"{AUDIO}relative_positional_encoder.{layer}.0", dim, dim // 16, 19)
    norm(f"{AUDIO}context_encoder.norm", dim)
    for number in range(12):
        name = block_name(number)
        norm(f"{name}.norm1", dim)
        norm(f"{name}.norm2", dim, gain=0.24 if number == 10 else 1.0)
        affine(f"{name}.attn.qkv", 3 * dim, dim, gain=2.0)
        affine(f"{name}.attn.proj", dim, dim, gain=0.3)
        affine(f"{name}.mlp.fc1", feed_forward, dim)
        affine(f"{name}.mlp.fc2", dim, feed_forward, gain=0.5)
    for layer in range(4):
        affine(f"{AUDIO}decoder.blocks.{layer}.0", 384, (384 if layer else dim) // 16, 7)
    affine(f"{AUDIO}decoder.proj", dim, 384)
    return weights


def block_name(number: int) -> str:
    """Name of a transformer block, counted from 0: four come before fairseq's main ones."""
    return f"{AUDIO}context_encoder.blocks.{number}" if number < 4 else f"model.blocks.{number - 4}"


def write_triple(
    folder: Path,
    name: str = "SylBoost_833Hz",
    *,
    weights: Mapping[str, Tensor] | None = None,
    centres: npt.NDArray[np.float32] | None = None,
) -> Path:
    """The three files of a tokenizer, 64 random centres where none are given; gives the path of the encoder's."""
    weights = random_weights() if weights is None else weights
    rng = np.random.default_rng(0)
    if centres is None:
        centres = rng.standard_normal((64, len(weights["model.blocks.0.norm1.weight"]))).astype(np.float32)
    torch.save({"model_seg": dict(weights)}, folder / f"{name}.pth")
    np.save(folder / f"{name}_kmeans.npy", centres)
    np.save(folder / f"{name}_agglom.npy", rng.integers(0, len(centres), len(centres)))
    return folder / f"{name}.pth"


def tones(num_samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Chords in a little noise that change every 60 to 300 ms, float32."""
    rng = np.random.default_rng(seed)
    wave = 0.01 * rng.standard_normal(num_samples)
    first = 0
    while first < num_samples:
        time = np.arange(min(int(rng.integers(960, 4800)), num_samples - first)) / 16_000
        for pitch, level in zip(rng.uniform(90, 4000, 4), rng.uniform(0.01, 0.1, 4), strict=True):
            wave[first : first + len(time)] += level * np.sin(2 * np.pi * pitch * time)
        first += len(time)
    return wave.astype(np.float32)


class Oracle:
    """The encoder of twelve heads, slowly."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    def _get(self, name: str) -> Array:
        return self._weights[name].double().numpy()

    def _affine(self, x: Array, name: str) -> Array:
        return x @ self._get(f"{name}.weight").T + self._get(f"{name}.bias")

    def _norm(self, x: Array, name: str) -> Array:
        return standardized(x) * self._get(f"{name}.weight") + self._get(f"{name}.bias")

    def inputs(self, wave: npt.NDArray) -> Array:
        """(T, D) projected convolutional features."""
        x = wave.astype(np.float64)[:, None]
        for layer, (_, stride) in enumerate(KERNELS):
            name = f"{AUDIO}local_encoder.conv_layers.{layer}"
            x = gelu(self._norm(convolved(x, self._get(f"{name}.0.weight"), stride), f"{name}.2.1"))
        return self._affine(self._norm(x, f"{AUDIO}project_features.1"), f"{AUDIO}project_features.2")

    def positions(self, x: Array) -> Array:
        """(T, D) what the five stacked convolutions make of the inputs."""
        for layer in range(1, 6):
            name = f"{AUDIO}relative_positional_encoder.{layer}.0"
            weight, size = self._get(f"{name}.weight"), x.shape[1] // 16
            padded = np.pad(x, ((9, 9), (0, 0)))
            groups = [slice(first, first + size) for first in range(0, x.shape[1], size)]
            mixed = np.concatenate([convolved(padded[:, group], weight[group], 1) for group in groups], axis=1)
            x = gelu(standardized(mixed + self._get(f"{name}.bias")))
        return x

    def attention(self, x: Array, name: str) -> Array:
        num_frames, dim = x.shape
        query, key, value = np.split(self._affine(x, f"{name}.qkv"), 3, axis=1)
        scale = np.maximum(self._get(f"{AUDIO}alibi_scale").ravel(), 0.0)
        distance = np.array([[abs(i - j) for j in range(num_frames)] for i in range(num_frames)])
        size, mixed = dim // len(SLOPES), []
        for head, slope in enumerate(SLOPES):
            part = slice(head * size, (head + 1) * size)
            score = query[:, part] @ key[:, part].T / np.sqrt(size) - slope * scale[head] * distance
            share = np.exp(score - score.max(axis=1, keepdims=True))
            mixed.append(share / share.sum(axis=1, keepdims=True) @ value[:, part])
        return self._affine(np.concatenate(mixed, axis=1), f"{name}.proj")

    def layers(self, wave: npt.NDArray, last: int = 12) -> list[Array]:
        """(T, D) input of the first block, then the output of every block up to number ``last``, counted from 1."""
        x = self.inputs(wave)
        x = self._norm(x + self.positions(x), f"{AUDIO}context_encoder.norm")
        outputs = [x]
        for number in range(last):
            name = block_name(number)
            x = self._norm(x + self.attention(x, f"{name}.attn"), f"{name}.norm1")
            hidden = gelu(self._affine(x, f"{name}.mlp.fc1"))
            x = self._norm(x + self._affine(hidden, f"{name}.mlp.fc2"), f"{name}.norm2")
            outputs.append(x)
        return outputs


def gelu(x: Array) -> Array:
    """GELU by the error function."""
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def standardized(x: Array) -> Array:
    """Mean 0 and variance 1 over the last axis."""
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


def convolved(x: Array, weight: Array, stride: int) -> Array:
    """(T_in, C_in) with (C_out, C_in, K) -> (T_out, C_out), no padding."""
    starts = range(0, len(x) - weight.shape[2] + 1, stride)
    windows = np.stack([x[start : start + weight.shape[2]] for start in starts])
    return np.tensordot(windows, weight, axes=([1, 2], [2, 1]))
