"""The convolutional extractor that the wav2vec 2.0 family shares, padding-exact and in little memory.

Every layer but the first group norm sees only a few samples, so recordings are convolved tile by tile: memory stays
flat, a CPU's caches hold the tile, and padding behind a clip's end is never convolved. The group norm of HuBERT-base
averages over a clip's whole length; its statistics are taken from the waveform before the first tile.

Shape suffixes: B clips, N samples, T frames, C channels, L frames of the first convolution, K its taps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import InputError
from syllablelm.encoders.device import Precision

# Frames of one tile (of one clip on a CPU, of all clips together on a GPU): measured on a CPU; on a GPU the first
# layer's output of a tile is about 1.3 GB at HuBERT-base size.
TILE_CPU, TILE_GPU = 100, 10_000


class ConvolvedEncoder(nn.Module):
    """Frame grid and forward pass of encoders that convolve, project and transform; see `FrameEncoder`."""

    sample_rate = 16_000
    precision: Precision = "float32"
    max_frames: int | None = None
    hop: int
    receptive_field: int
    layer: int
    convolve: Callable[[Tensor, Tensor], Tensor]
    project: Callable[[Tensor], Tensor]
    transform: Callable[..., dict[int, Tensor]]

    def num_frames(self, num_samples: int) -> int:
        """Frames that a clip of ``num_samples`` samples at 16 kHz gives; 0 below the receptive field."""
        return max(0, (num_samples - self.receptive_field) // self.hop + 1)

    def frames(self, lengths_B: Tensor) -> Tensor:
        """Frame counts of clips of the given sample counts."""
        return ((lengths_B - self.receptive_field) // self.hop + 1).clamp(min=0)

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """Raise InputError for a clip that is shorter than one frame."""
        if lengths and min(lengths) < self.receptive_field:
            raise InputError(
                f"a clip of {min(lengths)} samples is shorter than one frame ({self.receptive_field} samples); "
                "drop or join it"
            )

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the chosen layer: (feats_BTD, frames_B); frames past ``frames_B`` are meaningless."""
        frames_B = self.frames(lengths_B)
        return self.transform(self.project(self.convolve(wave_BN, lengths_B)), frames_B)[self.layer], frames_B


def convolve_tiles(
    extractor: Any, wave_BN: Tensor, lengths: Sequence[int], frames: Sequence[int], *, hop: int, window: int
) -> Tensor:
    """Run a feature extractor of transformers (``conv_layers``) so that no clip hears its padding.

    Args:
        extractor: module with ``conv_layers``, with a layer norm or a group norm after the first convolution.
        wave_BN, lengths, frames: zero-padded waveforms, and samples and frames of each clip.
        hop, window: samples from frame to frame, and samples that one frame sees.

    Returns:
        (B, T, C); frames past a clip's end are zero, or meaningless where gradients are recorded.
    """
    first = extractor.conv_layers[0]
    affine = None
    if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
        affine = clip_affine(first.conv, first.layer_norm, wave_BN, lengths)
    if torch.is_grad_enabled():
        return _run_layers(extractor, wave_BN, affine)
    result: Tensor | None = None
    for clips, start, stop in _tiles(frames, wave_BN.device.type):
        # A slice where that is possible: a list would have to be copied to the device first.
        rows = slice(clips[0], clips[-1] + 1) if clips[-1] - clips[0] + 1 == len(clips) else clips
        tile = wave_BN[rows, start * hop : (stop - 1) * hop + window]
        found = _run_layers(extractor, tile, affine and (affine[0][rows], affine[1][rows]))
        if result is None:
            result = found.new_zeros(len(frames), max(frames), found.shape[2])
        result[rows, start:stop] = found
    if result is None:
        raise InputError(f"no clip has the {window} samples of one frame")
    return result


def _tiles(frames: Sequence[int], device: str) -> Iterator[tuple[list[int], int, int]]:
    """Clips, in ascending order, and the range of frames [start, stop) that are convolved together."""
    if device == "cpu":
        for row, count in enumerate(frames):
            for start in range(0, count, TILE_CPU):
                yield [row], start, min(start + TILE_CPU, count)
        return
    start, longest = 0, max(frames)
    while start < longest:
        rows = [row for row, count in enumerate(frames) if count > start]
        stop = min(start + max(1, TILE_GPU // len(rows)), longest)
        yield rows, start, stop
        start = stop


def _run_layers(extractor: Any, wave_BN: Tensor, affine: tuple[Tensor, Tensor] | None) -> Tensor:
    first, *others = extractor.conv_layers
    # Raw samples need more digits than bfloat16 has, and the first layer is a hundredth of the work.
    with torch.autocast(wave_BN.device.type, enabled=False):
        if affine is None:
            hidden_BCT = first(wave_BN[:, None])
        else:
            convolved_BCL = F.conv1d(wave_BN[:, None], first.conv.weight, stride=first.conv.stride)
            hidden_BCT = first.activation(torch.addcmul(affine[1], convolved_BCL, affine[0]))
    for layer in others:
        hidden_BCT = layer(hidden_BCT)
    return hidden_BCT.transpose(1, 2)


def clip_affine(conv: nn.Conv1d, norm: nn.GroupNorm, wave_BN: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Group norm of a first convolution's output as a scale and a shift per clip and channel: (B, C, 1) each.

    The output is linear in the K samples under the filter, so its mean and variance over a clip's own frames follow
    exactly from the mean and covariance of those K samples. They are taken in float64, before anything is convolved.
    A bias of the convolution cancels.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    counts = [(length - kernel) // stride + 1 for length in lengths]
    counts_B = torch.tensor(counts).to(wave_BN.device, non_blocking=True)
    windows_BLK = wave_BN.double().unfold(1, kernel, stride)
    own_BL1 = (torch.arange(windows_BLK.shape[1], device=wave_BN.device) < counts_B[:, None])[..., None]
    count_B11 = counts_B[:, None, None].double()
    mean_B1K = (windows_BLK * own_BL1).sum(1, keepdim=True) / count_B11
    centred_BLK = (windows_BLK - mean_B1K) * own_BL1
    covariance_BKK = centred_BLK.transpose(1, 2) @ centred_BLK / count_B11
    weight_CK = conv.weight[:, 0].double()
    variance_BC = ((weight_CK @ covariance_BKK) * weight_CK).sum(-1)
    scale_BC = norm.weight.double() / torch.sqrt(variance_BC + norm.eps)
    shift_BC = norm.bias.double() - (mean_B1K @ weight_CK.T)[:, 0] * scale_BC
    return scale_BC.to(wave_BN.dtype)[..., None], shift_BC.to(wave_BN.dtype)[..., None]
