"""Distortions of a waveform that leave its timing as it is: gain, filtering, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly a training waveform is distorted; the default leaves it alone.

    Args:
        prob: chance of each of the distortions for each crop.
        gain_db: loudness changes by up to this much either way.
        tilt_db: a random smooth filter boosts and cuts frequency regions by up to this much.
        snr_db: lowest signal-to-noise ratio of added coloured noise; the highest is 25 dB above it.
    """

    prob: float = 0.0
    gain_db: float = 10.0
    tilt_db: float = 8.0
    snr_db: float = 5.0


def augment(waveform: Waveform, config: AugmentConfig, rng: np.random.Generator) -> Waveform:
    """Distort a copy of a waveform: (num_samples,) in, (num_samples,) out, time unchanged."""
    if config.prob <= 0 or len(waveform) == 0:
        return waveform
    result = waveform.astype(np.float32)
    if rng.random() < config.prob:
        result = _filter(result, rng.uniform(-config.tilt_db, config.tilt_db, size=8))
    if rng.random() < config.prob:
        noise = _filter(rng.standard_normal(len(result), dtype=np.float32), rng.uniform(-12, 12, size=8))
        snr = rng.uniform(config.snr_db, config.snr_db + 25.0)
        level = np.sqrt(np.mean(result**2) / max(float(np.mean(noise**2)), 1e-12)) * 10 ** (-snr / 20)
        result = result + np.float32(level) * noise
    if rng.random() < config.prob:
        result = result * np.float32(10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20))
    return result


def _filter(waveform: Waveform, gains_db: npt.NDArray[np.float64]) -> Waveform:
    """Zero-phase filter whose gain runs smoothly through the given values, spaced evenly in mel."""
    spectrum = np.fft.rfft(waveform)
    mel = np.log1p(np.linspace(0, 8000, len(spectrum)) / 700.0)
    points = np.linspace(0, mel[-1], len(gains_db))
    return np.fft.irfft(spectrum * 10 ** (np.interp(mel, points, gains_db) / 20), len(waveform)).astype(np.float32)
