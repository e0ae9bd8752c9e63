"""Mel spectra and MFCCs of a 16 kHz waveform on HuBERT's frame grid, in NumPy.

Frame t covers samples [hop * t, hop * t + window), so with the default hop and window there are as many frames as an
encoder of the HuBERT family gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import FloatArray, check_finite, to_float64

SAMPLE_RATE = 16_000
_FRAMES_AT_ONCE = 4096  # bounds the memory of the framed signal: 4096 * 512 float64 is 16 MiB


def frame_count(num_samples: int, hop: int = 320, window: int = 400) -> int:
    """Return the number of whole windows in a waveform, floor((num_samples - window) / hop) + 1, at least 0."""
    return max(0, (num_samples - window) // hop + 1)


def log_mel(
    waveform: Any, *, num_mels: int = 40, hop: int = 320, window: int = 400, low: float = 50.0, high: float = 7600.0
) -> npt.NDArray[np.float32]:
    """Return the logarithm of the mel power spectrum under a Hann window.

    Args:
        waveform: (num_samples,) at 16 kHz.
        num_mels, low, high: number of mel bands, and edges of the lowest and the highest, in Hz.
        hop, window: samples from one frame to the next, and in a frame.

    Returns:
        (T, num_mels) float32 with T = floor((num_samples - window) / hop) + 1; power is floored at 1e-10.

    Raises:
        InputError: wrong shape, values that are not finite, or settings that are not usable.
    """
    samples = to_waveform(waveform)
    power = mel_power(samples, hop=hop, taper=np.hanning(window), num_mels=num_mels, low=low, high=high)
    return np.log(np.maximum(power, 1e-10)).astype(np.float32)


def mfcc(waveform: Any, *, hop: int = 320) -> npt.NDArray[np.float32]:
    """Return 13 MFCCs with first and second differences: the label source of HuBERT's first iteration.

    The definition is Kaldi's default, which HuBERT used: 25 ms Povey windows after removal of the mean and
    pre-emphasis of .97, 23 mel bands from 20 Hz, orthonormal DCT, liftering by 22, differences over +-2 frames.
    HuBERT took them every 10 ms (hop 160); hop 320 gives one vector for each encoder frame.

    Args:
        waveform, hop: (num_samples,) at 16 kHz, full scale 1; samples from one frame to the next.

    Returns:
        (T, 39) float32 with T = floor((num_samples - 400) / hop) + 1.
    """
    povey = np.hanning(400) ** 0.85
    power = mel_power(to_waveform(waveform), hop=hop, taper=povey, num_mels=23, low=20.0, high=8000.0, preemphasis=0.97)
    if len(power) == 0:
        return np.zeros((0, 39), dtype=np.float32)
    logs = np.log(np.maximum(power, np.finfo(np.float32).eps))
    cepstra = np.asarray(scipy.fft.dct(logs, type=2, norm="ortho", axis=1))[:, :13] * (
        1.0 + 11.0 * np.sin(np.pi * np.arange(13) / 22.0)
    )
    first = _differences(cepstra)
    return np.concatenate([cepstra, first, _differences(first)], axis=1).astype(np.float32)


def to_waveform(waveform: Any) -> FloatArray:
    """Turn a waveform into a finite (num_samples,) float64 array, or raise InputError."""
    samples = to_float64(waveform, "a waveform", 1)
    check_finite(samples, "samples")
    return samples


def mel_power(
    samples: FloatArray,
    *,
    hop: int,
    taper: FloatArray,
    num_mels: int,
    low: float,
    high: float,
    preemphasis: float = 0.0,
) -> FloatArray:
    """Return the power in mel bands of every whole frame: (num_samples,) -> (T, num_mels) float64.

    Pre-emphasis is Kaldi's: inside each frame, after its mean is removed.
    """
    window = len(taper)
    if hop < 1 or window < 2 or num_mels < 1 or not 0.0 <= low < high <= SAMPLE_RATE / 2:
        raise InputError("mel bands need hop >= 1, window >= 2, num_mels >= 1 and 0 <= low < high <= 8000 Hz")
    num_frames = frame_count(len(samples), hop, window)
    power = np.zeros((num_frames, num_mels))
    if num_frames == 0:
        return power
    num_bins = 1 << (window - 1).bit_length()
    filters = mel_filters(num_mels, num_bins, low, high)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    for start in range(0, num_frames, _FRAMES_AT_ONCE):
        block = frames[start : start + _FRAMES_AT_ONCE]
        if preemphasis:
            block = block - block.mean(axis=1, keepdims=True)
            block = block - preemphasis * np.concatenate([block[:, :1], block[:, :-1]], axis=1)
        power[start : start + len(block)] = np.abs(np.fft.rfft(block * taper, num_bins, axis=1)) ** 2 @ filters
    return power


def mel_filters(num_mels: int, num_bins: int, low: float, high: float) -> FloatArray:
    """Return (num_bins // 2 + 1, num_mels) triangular filters of height 1, equally wide on the mel scale."""
    mels = _to_mel(np.linspace(0.0, SAMPLE_RATE / 2, num_bins // 2 + 1))[:, None]
    edges = np.linspace(_to_mel(low), _to_mel(high), num_mels + 2)
    width = edges[1] - edges[0]
    return np.maximum(0.0, np.minimum(mels - edges[:-2], edges[2:] - mels) / width)


def mel_centres(num_mels: int, low: float, high: float) -> FloatArray:
    """Return the centre of each mel band, in Hz."""
    return 700.0 * np.expm1(np.linspace(_to_mel(low), _to_mel(high), num_mels + 2)[1:-1] / 1127.0)


def _to_mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _differences(values: FloatArray) -> FloatArray:
    """Return the slope of the regression line over five frames, edges repeated."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return (padded[3:-1] - padded[1:-3] + 2.0 * (padded[4:] - padded[:-4])) / 10.0
