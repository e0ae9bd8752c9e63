"""Pitch by normalised autocorrelation (Boersma 1993, without his search for the best path)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import medfilt

from syllablelm.core.errors import InputError

FloatArray = npt.NDArray[np.float32]
# A frame is voiced if the autocorrelation at its period and its level below the loudest frame are within these limits.
PERIODIC, QUIET_DB = 0.5, 45.0
# Of the peaks nearly as high as the highest the first counts: the others are multiples of the period.
NEARLY = 0.85
_FRAMES_AT_ONCE = 2048


def track_pitch(
    waveform: Any, num_frames: int, *, hop: int = 160, sample_rate: int = 16_000, low: float = 75.0, high: float = 400.0
) -> FloatArray:
    """Return the fundamental frequency of every frame: (num_frames,) Hz, 0 where the frame is unvoiced.

    Args:
        waveform: (num_samples,) at ``sample_rate``.
        num_frames, hop: number of frames, and samples per frame; frame t is centred on sample t * hop.
        low, high: lowest and highest pitch in Hz; a window is three periods of the lowest.

    Raises:
        InputError: an empty range of frequencies, or one that reaches a quarter of the sample rate.
    """
    if not 0 < low < high < sample_rate / 4:
        raise InputError(f"pitch between {low} and {high} Hz cannot be tracked at {sample_rate} Hz")
    window = int(3 * sample_rate / low)
    padded = np.pad(np.asarray(waveform, dtype=np.float64), (window // 2, window + num_frames * hop))
    lags = np.arange(int(sample_rate / high), int(sample_rate / low) + 2)
    pitch, level = np.zeros(num_frames, dtype=np.float32), np.full(num_frames, -np.inf)
    for first in range(0, num_frames, _FRAMES_AT_ONCE):
        part = slice(first, min(first + _FRAMES_AT_ONCE, num_frames))
        starts = np.arange(part.start, part.stop) * hop
        frames_TW = padded[starts[:, None] + np.arange(window)]
        frames_TW = frames_TW - frames_TW.mean(1, keepdims=True)
        level[part] = 10 * np.log10((frames_TW**2).mean(1) + 1e-12)
        pitch[part] = sample_rate / _periods(frames_TW, lags)
    voiced = np.isfinite(pitch) & (pitch > 0) & (level > level.max(initial=-np.inf) - QUIET_DB) & (level > -100.0)
    # Isolated frames are errors of voicing or of octave.
    return medfilt(np.where(voiced, pitch, 0.0), 5).astype(np.float32) if num_frames else pitch


def _periods(frames_TW: npt.NDArray[np.float64], lags: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Period in samples, with a fraction, of every frame; infinite where none stands out."""
    window = frames_TW.shape[1]
    taper, size = np.hanning(window), 2 ** int(np.ceil(np.log2(2 * window)))
    power_TF = np.abs(np.fft.rfft(frames_TW * taper, size)) ** 2
    own = np.fft.irfft(np.abs(np.fft.rfft(taper, size)) ** 2)
    corr_TL = np.fft.irfft(power_TF)[:, lags[0] - 1 : lags[-1] + 2] / own[lags[0] - 1 : lags[-1] + 2] * own[0]
    corr_TL = corr_TL / (power_TF.sum(1, keepdims=True) * 2 / size + 1e-12)
    before, here, after = corr_TL[:, :-2], corr_TL[:, 1:-1], corr_TL[:, 2:]
    peak = (here > before) & (here >= after)
    best = np.where(peak, here, -np.inf).max(1)
    first = (peak & (here >= NEARLY * best[:, None])).argmax(1)
    rows = np.arange(len(first))
    a, b, c = before[rows, first], here[rows, first], after[rows, first]
    bend = 2 * b - a - c
    fraction = np.where(bend > 0, (c - a) / np.where(bend > 0, 2 * bend, 1.0), 0.0)
    return np.where(best > PERIODIC, lags[first] + fraction, np.inf)
