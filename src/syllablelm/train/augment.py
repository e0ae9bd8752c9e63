"""Distortions of training waveforms that leave their timing as it is: filtering, reverberation, noise, band, gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, check_positive
from syllablelm.data.distortions import add_noise, equalize, gain, reverberate, telephone

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly a training waveform is distorted; the default leaves it alone.

    Args:
        prob: probability of each of the distortions for each crop.
        gain_db: maximum change of loudness in either direction, in dB.
        tilt_db: maximum boost and cut of a random smooth filter, in dB.
        snr_db: minimum signal-to-noise ratio of added coloured noise; the maximum is 25 dB above it.
        reverb_seconds: maximum reverberation time in seconds; 0: no reverberation.
        telephone_prob: probability of a telephone band, independent of ``prob``.
    """

    prob: float = 0.0
    gain_db: float = 10.0
    tilt_db: float = 8.0
    snr_db: float = 5.0
    reverb_seconds: float = 0.0
    telephone_prob: float = 0.0

    def __post_init__(self) -> None:
        for key in ("prob", "telephone_prob"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"augment.{key} {getattr(self, key)}: a probability lies between 0 and 1")
        for key in ("gain_db", "tilt_db", "reverb_seconds"):
            check_positive(f"augment.{key}", getattr(self, key), zero=True)


def augment(waveform: Waveform, config: AugmentConfig, rng: np.random.Generator) -> Waveform:
    """Distort a copy of a waveform: (num_samples,) in, (num_samples,) out, time unchanged."""
    if max(config.prob, config.telephone_prob) <= 0 or len(waveform) == 0:
        return waveform
    result = waveform.astype(np.float32)
    if rng.random() < config.prob:
        result = equalize(result, rng.uniform(-config.tilt_db, config.tilt_db, size=8))
    if config.reverb_seconds > 0 and rng.random() < config.prob:
        seconds = rng.uniform(0.1, 1.0) * config.reverb_seconds
        result = reverberate(result, seconds, rng, direct=rng.uniform(0.3, 0.9))
    if rng.random() < config.prob:
        noise = equalize(rng.standard_normal(len(result), dtype=np.float32), rng.uniform(-12, 12, size=8))
        result = add_noise(result, noise, rng.uniform(config.snr_db, config.snr_db + 25.0))
    if config.telephone_prob > 0 and rng.random() < config.telephone_prob:
        result = telephone(result)
    if rng.random() < config.prob:
        result = gain(result, rng.uniform(-config.gain_db, config.gain_db))
    return result
