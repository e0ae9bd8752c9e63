"""Batches of clips of different lengths: to the device, masked there, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from syllablelm.encoders.base import Waveform

# On a CPU: samples that are encoded together, and the longest of them over the shortest.
GROUP_SAMPLES, GROUP_RATIO = 16 * 16_000, 1.1


def stack_waveforms(waveforms: Sequence[Waveform], device: torch.device) -> Tensor:
    """Waveforms of different lengths in one tensor (B, N), zero-padded float32."""
    # From page-locked memory the copy to a GPU runs beside the computation.
    pinned = device.type == "cuda"
    wave_BN = torch.zeros(len(waveforms), max(len(waveform) for waveform in waveforms), pin_memory=pinned)
    for row, waveform in zip(wave_BN, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return wave_BN.to(device, non_blocking=pinned)


def pad_waveforms(waveforms: Sequence[Waveform], device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack waveforms of different lengths: (wave_BN zero-padded float32, lengths_B in samples)."""
    return stack_waveforms(waveforms, device), torch.tensor([len(w) for w in waveforms]).to(device)


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Indices of clips, the longest first: those that are long enough for anything are then a slice."""
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of clips in groups of much the same length that together are short; a long clip stays alone."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        last = groups[-1] if groups else []
        fits = last and lengths[index] * (len(last) + 1) <= GROUP_SAMPLES
        if fits and lengths[index] <= GROUP_RATIO * lengths[last[0]]:
            last.append(index)
        else:
            groups.append([index])
    return groups


def start_download(tensor: Tensor) -> Tensor:
    """A float32 copy in host memory. From a GPU it is under way only: synchronise before reading it."""
    tensor = tensor.float()
    if tensor.device.type != "cuda":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def frame_mask(lengths_B: Tensor, num_frames: int) -> Tensor:
    """(B, T) True where a frame belongs to the clip."""
    return torch.arange(num_frames, device=lengths_B.device)[None, :] < lengths_B[:, None]


def standardize(wave_BN: Tensor, lengths_B: Tensor, eps: float = 1e-7) -> Tensor:
    """Each clip to mean 0 and variance 1 over its own samples, zero behind them."""
    valid_BN = frame_mask(lengths_B, wave_BN.shape[1])
    count_B1 = lengths_B[:, None].to(wave_BN.dtype)
    centred_BN = (wave_BN - wave_BN.sum(1, keepdim=True) / count_B1) * valid_BN
    return centred_BN / torch.sqrt(centred_BN.pow(2).sum(1, keepdim=True) / count_B1 + eps)


def fold_scaling(norm: nn.LayerNorm, mean: Tensor, scale: Tensor) -> None:
    """Change the affine weights of a layer norm so that its output becomes (output - mean) / scale; both are (dim,)."""
    with torch.no_grad():
        norm.bias.sub_(mean.to(norm.bias)).div_(scale.to(norm.bias))
        norm.weight.div_(scale.to(norm.weight))
