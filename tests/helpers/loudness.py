"""An encoder without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

SAMPLE_RATE = 16_000


class Loudness:
    """An encoder without a model: mean level of each frame and of the half second around it. It counts its batches."""

    sample_rate, hop, dim, layer, receptive_field = SAMPLE_RATE, 320, 2, 0, 400
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def num_frames(self, num_samples: int) -> int:
        return max(0, (num_samples - 400) // 320 + 1)

    def encode(self, waveforms: Any, layers: Any = None) -> list[np.ndarray]:
        self.batches.append([len(wave) for wave in waveforms])
        return [self._features(wave) for wave in waveforms]

    def _features(self, wave: np.ndarray) -> np.ndarray:
        count = self.num_frames(len(wave))
        level = np.abs(wave[: count * 320]).reshape(count, 320).mean(1)
        around = np.convolve(level, np.full(25, 0.04))[12 : 12 + count]
        return np.stack([level, around], axis=1).astype(np.float32)
