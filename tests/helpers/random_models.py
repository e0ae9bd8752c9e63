"""Small random models and recordings for tests; but for SLOW_SHAPE the models have the frame grid of HuBERT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import Manifest
from syllablelm.data.manifest import Recording
from syllablelm.encoders import MaskedPredictor
from syllablelm.encoders.masked_prediction import EncoderShape

SHAPE = EncoderShape(
    layers=2,
    dim=32,
    heads=2,
    feed_forward=64,
    conv_dim=(16, 16, 16, 16),
    conv_kernel=(40, 9, 4, 2),
    conv_stride=(10, 4, 4, 2),
    position_kernel=15,
    position_groups=4,
    dropout=0.0,
    final_dim=16,
)
# 25 frames a second, by one convolution more.
SLOW_SHAPE = replace(
    SHAPE, conv_dim=(16,) * 5, conv_kernel=(*SHAPE.conv_kernel, 2), conv_stride=(*SHAPE.conv_stride, 2)
)


def small_predictor(seed: int = 0, num_labels: int = 7, shape: EncoderShape = SHAPE) -> MaskedPredictor:
    """A random masked predictor whose predictions depend visibly on what it hears."""
    torch.manual_seed(seed)
    model = MaskedPredictor.create(shape, num_labels)
    with torch.no_grad():
        # transformers draws weights of .02, under which a small transformer hardly mixes frames.
        for parameter in model.encoder.model.encoder.layers.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
        model.encoder.model.masked_spec_embed.normal_()
    return model.eval()


def noise(num_samples: int, seed: int = 0) -> Any:
    """Seeded noise whose level and colour change every few hundredths of a second, float32."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(num_samples + 1)
    pieces = num_samples // 1500 + 1
    level = np.repeat(rng.uniform(0.02, 0.2, pieces), 1500)[:num_samples]
    colour = np.repeat(rng.uniform(-1, 1, pieces), 1500)[:num_samples]
    return (level * (white[1:] + colour * white[:-1])).astype(np.float32)


def small_corpus(folder: Path, lengths: list[int], *, sample_rate: int = 16_000) -> Manifest:
    """Recordings of noise named r0, r1, ... of the given sample counts."""
    recordings = []
    for index, length in enumerate(lengths):
        path = folder / f"r{index}.wav"
        save_audio(path, noise(length, seed=100 + index), sample_rate=sample_rate)
        recordings.append(Recording(f"r{index}", path, length, sample_rate))
    return Manifest(recordings)
