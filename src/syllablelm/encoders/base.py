"""What every encoder offers to the tokenizer and the segmenters, whatever checkpoint it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from syllablelm.data.samples import AudioInput

Waveform = npt.NDArray[np.float32]


@runtime_checkable
class FrameEncoder(Protocol):
    """Waveforms to features of one layer; the same clip gives the same features alone and in any batch.

    Attributes:
        sample_rate: Hz of the waveforms.
        hop: samples from one frame to the next.
        dim: size of one frame's feature.
        layer: the layer whose output is the feature, counted from 1 (0 is the first layer's input).
        receptive_field: samples that the shortest clip needs to give one frame.

    An encoder that limits the length of clips has ``max_frames``, too: the longest clip in frames.
    """

    sample_rate: int
    hop: int
    dim: int
    layer: int
    receptive_field: int

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def num_frames(self, num_samples: int) -> int:
        """Frames that a clip of ``num_samples`` samples gives; 0 below the receptive field."""
        ...

    def encode(self, waveforms: Sequence[AudioInput], layers: Sequence[int] | None = None) -> list[Any]:
        """Encode one batch of clips, each at least ``receptive_field`` samples long.

        Args:
            waveforms: list of recordings, float32 (num_samples,) at 16 kHz or whatever else ``load_audio`` takes.
            layers: give several layers and get, per clip, a dict {layer: features}.

        Returns:
            per clip float32 (num_frames, dim).
        """
        ...


@runtime_checkable
class TrainableEncoder(FrameEncoder, Protocol):
    """An encoder that SylBoost trains and that can be saved; a ``torch.nn.Module``."""

    def __call__(self, wave_BN: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the chosen layer: (feats_BTD, frames_B); frames past ``frames_B`` are meaningless."""
        ...

    def frames(self, lengths_B: torch.Tensor) -> torch.Tensor:
        """Frame counts of clips of the given sample counts."""
        ...

    def freeze(self, *, extractor: bool = True, blocks: int = 0) -> None:
        """Freeze the convolutional extractor, and ``blocks`` transformer blocks counted from the input."""
        ...

    def rescale(self, mean: torch.Tensor, scale: torch.Tensor) -> bool:
        """Change the weights so that features become (feature - mean) / scale; False where that cannot be."""
        ...

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write into an existing folder what ``load_encoder`` opens; ``half``: weights in float16."""
        ...
