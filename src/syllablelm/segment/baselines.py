"""Boundaries without learning: equal lengths, valleys of the amplitude envelope, and a stronger acoustic score.

They are the baselines of learned boundaries, and the first boundaries of training without an encoder. Every curve
here is sampled where boundaries lie: entry t belongs to sample hop * t, the start of frame t, so that an extremum at
index t is a boundary before frame t. There are as many entries as an encoder of the HuBERT family gives frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import FloatArray, IntArray, check_finite, to_float64
from syllablelm.segment.mel import SAMPLE_RATE, frame_count, mel_centres, mel_power, to_waveform

_WINDOW = 400  # of the encoders whose frame count is matched, and of the mel analysis


def even_boundaries(num_frames: int, num_segments: int) -> IntArray:
    """Divide a recording into 1 to num_frames segments of equal length, to within one frame: [0, ..., num_frames].

    Raises:
        InputError: the number of segments does not fit.
    """
    if not min(1, num_frames) <= num_segments <= num_frames:
        raise InputError(f"{num_frames} frames cannot be cut into {num_segments} segments; ask for 1 to {num_frames}")
    if num_frames == 0:
        return np.zeros(1, dtype=np.int32)
    return (np.arange(num_segments + 1) * num_frames // num_segments).astype(np.int32)


def envelope(
    waveform: Any,
    *,
    low: float = 300.0,
    high: float = 3000.0,
    hop: int = 320,
    smoothing: float = 11.0,
    floor: float = 0.02,
) -> FloatArray:
    """Return the logarithm of the slow amplitude envelope of the vowel band: the classic sonority curve.

    Args:
        waveform: (num_samples,) at 16 kHz.
        low, high, smoothing: edges of the band, and cut-off of the low-pass filter over the rectified signal, in Hz.
        hop: samples from one value to the next.
        floor: amplitude added before the logarithm, as a share of the recording's maximum; it masks noise in pauses.

    Returns:
        (T,) float64 at the starts of frames, T = floor((num_samples - 400) / hop) + 1; at most about 0.

    Raises:
        InputError: wrong shape, values that are not finite, or settings that are not usable.
    """
    if not (0.0 < low < high < SAMPLE_RATE / 2 and hop >= 1 and 0.0 < smoothing < 500.0 and floor > 0.0):
        raise InputError("envelope needs 0 < low < high < 8000 Hz, hop >= 1, 0 < smoothing < 500 Hz and floor > 0")
    samples = to_waveform(waveform)
    num_frames = frame_count(len(samples), hop, _WINDOW)
    if num_frames == 0:
        return np.zeros(0)
    band = scipy.signal.butter(2, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos")
    loudness = np.abs(scipy.signal.sosfiltfilt(band, samples))
    # The low-pass filter works on 1 ms means: at 16 kHz its poles would crowd around 1.
    coarse = loudness[: len(loudness) // 16 * 16].reshape(-1, 16).mean(axis=1)
    slow = scipy.signal.butter(2, smoothing, "lowpass", fs=SAMPLE_RATE / 16, output="sos")
    smooth = np.maximum(scipy.signal.sosfiltfilt(slow, coarse), 0.0)
    largest = smooth.max()
    level = np.log(smooth / largest + floor) if largest > 0 else np.full(len(smooth), np.log(floor))
    return level[np.minimum(np.arange(num_frames) * hop // 16, len(level) - 1)]


def envelope_valleys(envelope: Any, num_segments: int) -> IntArray:
    """Return boundaries at the most prominent valleys of a curve.

    Args:
        envelope: (T,) curve that is low at boundaries: `envelope`, or `boundary_strength` with its sign turned.
        num_segments: requested number of segments; an InputError for fewer than 1 of a curve that is not empty.

    Returns:
        int32 boundaries [0, ..., T]: the num_segments - 1 valleys of highest prominence, in order. A curve with fewer
        valleys gives fewer segments; ties go to the earlier valley.
    """
    curve = to_float64(envelope, "an envelope", 1)
    check_finite(curve, "envelope values")
    if len(curve) == 0 and num_segments == 0:
        return np.zeros(1, dtype=np.int32)
    if not 1 <= num_segments <= len(curve):
        raise InputError(f"{len(curve)} frames cannot be cut into {num_segments} segments")
    valleys, properties = scipy.signal.find_peaks(-curve, prominence=0.0)
    order = np.argsort(-properties["prominences"], kind="stable")[: num_segments - 1]
    return np.concatenate([[0], np.sort(valleys[order]), [len(curve)]]).astype(np.int32)


def boundary_strength(waveform: Any, *, hop: int = 320) -> npt.NDArray[np.float64]:
    """Return the score of a syllable boundary before every frame, from the waveform alone.

    The sum of three standardised curves over 40 mel bands of log amplitude, each smoothed by a Gaussian:
    the upward bend of the mean level (40 ms), which marks valleys and also both ends of a pause, where a valley
    picker finds one boundary in the middle; twice the lowness of the mean level (20 ms); and the fall of the level
    below 600 Hz (25 ms), which moves the score towards the start of a consonant. The constants were set by hand on
    training speakers. For boundaries take `envelope_valleys(-boundary_strength(waveform), num_segments)`.

    Args:
        waveform: (num_samples,) at 16 kHz; the whole recording, since levels are relative to its loudest band.
        hop: samples from one value to the next, even.

    Returns:
        (T,) float64 at the starts of frames, T = floor((num_samples - 400) / hop) + 1; high at boundaries.

    Raises:
        InputError: wrong shape, values that are not finite, or hop < 2 or odd.
    """
    if hop < 2 or hop % 2:
        raise InputError(f"boundary_strength needs an even hop of at least 2 samples, not {hop}")
    samples = to_waveform(waveform)
    num_frames = frame_count(len(samples), hop, _WINDOW)
    if num_frames == 0:
        return np.zeros(0)
    low, high, num_mels, step = 50.0, 7600.0, 40, hop // 2
    # Zeros in front centre the windows on samples 0, step, 2 * step, ...
    padded = np.pad(samples, _WINDOW // 2)
    amplitude = np.sqrt(mel_power(padded, hop=step, taper=np.hanning(_WINDOW), num_mels=num_mels, low=low, high=high))
    largest = amplitude.max()
    if largest == 0:
        return np.zeros(num_frames)
    levels = np.log(amplitude / largest + 0.003)
    mean = levels.mean(axis=1)
    voice = levels[:, mel_centres(num_mels, low, high) <= 600.0].mean(axis=1)
    per_ms = SAMPLE_RATE / 1000 / step
    bend = scipy.ndimage.gaussian_filter1d(mean, 40 * per_ms, order=2, mode="nearest")
    lowness = -scipy.ndimage.gaussian_filter1d(mean, 20 * per_ms, mode="nearest")
    fall = -scipy.ndimage.gaussian_filter1d(voice, 25 * per_ms, order=1, mode="nearest")
    score = _standardised(bend) + 2.0 * _standardised(lowness) + _standardised(fall)
    return score[::2][:num_frames]


def _standardised(curve: FloatArray) -> FloatArray:
    spread = curve.std()
    return (curve - curve.mean()) / spread if spread > 0 else np.zeros_like(curve)
