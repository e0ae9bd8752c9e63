"""Voice activity detection."""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.data.audio import SAMPLE_RATE, FloatArray, check_waveform

IntArray = npt.NDArray[np.int64]
Method = Literal["silero", "energy", "none"]
METHODS: tuple[Method, ...] = ("silero", "energy", "none")
_THRESHOLDS = {"silero": 0.5, "energy": 0.1, "none": 0.5}

# Energy detector: frames of 10 ms, windows of 25 ms, the band with most of the energy of voices.
_HOP = 160
_WINDOW = 400
_BAND_HERTZ = (200.0, 4000.0)
# Below this level (dB relative to a full-scale sine in the band) nothing counts as speech.
_SILENCE_DB = -70.0
# Recordings whose loud and quiet frames differ by less than this count as speech throughout.
_FLAT_DB = 6.0
# The noise floor is the level that a tenth of the frames of a stretch (2 s) do not reach, smoothed over stretches.
_STRETCH, _NOISE_SHARE, _KEPT_NOISE = 200, 0.1, 0.9
# Energy differences are averaged over this number of frames on either side.
_REACH = 4


def speech_regions(
    waveform: npt.ArrayLike,
    *,
    method: Method = "silero",
    threshold: float | None = None,
    min_speech_ms: int = 250,
    min_silence_ms: int = 100,
    pad_ms: int = 30,
) -> IntArray:
    """Return the regions of speech of a recording.

    Args:
        waveform: (num_samples,) mono float at 16 kHz.
        method: "silero" is a small neural network (extra `vad`); "energy" is unsupervised: differences of the energy of
            the speech band, weighted by the signal-to-noise ratio, as in rVAD (Tan, Sarkar and Dehak 2020), without its
            denoising and its pitch detector; "none" returns everything.
        threshold: silero: probability above which a frame is speech (0.5 if None). energy: the same as a share of the
            recording's mean of these differences (0.1 if None).
        min_speech_ms: minimum length of a region; shorter ones are dropped.
        min_silence_ms: minimum length of a pause that divides regions.
        pad_ms: padding on both sides of a region.

    Returns:
        (num_regions, 2) int64 start and end samples, half-open, sorted, not overlapping; none for a silent recording.
    """
    samples = check_waveform(waveform, allow_silence=True)
    if method not in METHODS:
        raise InputError(f"unknown voice activity method '{method}'; use one of {', '.join(METHODS)}")
    threshold = _THRESHOLDS[method] if threshold is None else threshold
    if not 0 < threshold < 1 or min(min_speech_ms, min_silence_ms, pad_ms) < 0:
        raise InputError("threshold must lie between 0 and 1, min_speech_ms, min_silence_ms and pad_ms not below 0")
    if method == "none":
        return np.array([[0, len(samples)]], dtype=np.int64)
    find_regions = _energy_regions if method == "energy" else _silero_regions
    return find_regions(samples, threshold, min_speech_ms, min_silence_ms, pad_ms)


def speech_frames(
    waveform: npt.ArrayLike, num_frames: int, hop: int, *, method: Method = "energy", **options: int
) -> npt.NDArray[np.bool_]:
    """Return (num_frames,) True where the middle of a frame of `hop` samples lies in speech.

    Args:
        waveform, method, options: as of `speech_regions`.
    """
    regions = speech_regions(waveform, method=method, **options)
    centres = (np.arange(num_frames) + 0.5) * hop
    return np.searchsorted(regions.ravel(), centres, side="right") % 2 == 1


# Band energy


def _energy_regions(
    samples: FloatArray, threshold: float, min_speech_ms: int, min_silence_ms: int, pad_ms: int
) -> IntArray:
    level = _band_level(samples)
    audible = level > _SILENCE_DB
    if not audible.any():
        return np.zeros((0, 2), dtype=np.int64)
    quiet, loud = np.percentile(level[audible], [10, 95])
    speech = audible
    if loud - quiet >= _FLAT_DB:
        change = _weighted_differences(np.maximum(level, _SILENCE_DB))
        speech = change > threshold * change.mean()
    regions = _runs(speech) * _HOP
    regions = _close_gaps(regions, min_silence_ms * SAMPLE_RATE // 1000)
    regions = regions[regions[:, 1] - regions[:, 0] >= min_speech_ms * SAMPLE_RATE // 1000]
    pad = pad_ms * SAMPLE_RATE // 1000
    regions = np.clip(regions + np.array([-pad, pad]), 0, len(samples))
    return _close_gaps(regions, 0)


def _band_level(samples: FloatArray) -> npt.NDArray[np.float64]:
    """(num_frames,) level of the speech band in dB; frame i is centred on samples [i * hop, (i + 1) * hop)."""
    num_frames = -(-len(samples) // _HOP)
    before = (_WINDOW - _HOP) // 2
    padded = np.pad(samples, (before, _WINDOW + num_frames * _HOP - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:num_frames]
    hertz = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    band = (hertz >= _BAND_HERTZ[0]) & (hertz <= _BAND_HERTZ[1])
    window = np.hanning(_WINDOW)
    power = np.empty(num_frames)
    for first in range(0, num_frames, 4096):  # hours of audio would not fit as one matrix of spectra
        spectra = np.fft.rfft(frames[first : first + 4096] * window)[:, band]
        power[first : first + 4096] = np.sum(spectra.real**2 + spectra.imag**2, axis=1)
    # Relative to a sine of full scale, whose squared spectrum sums to this by Parseval.
    full_scale = _WINDOW * np.sum(window**2) / 4
    return 10 * np.log10(np.maximum(power / full_scale, 1e-20))


def _weighted_differences(level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(num_frames,) energy differences weighted by the signal-to-noise ratio in dB, square root, moving average."""
    power = 10 ** (level / 10)
    noise = np.empty_like(power)
    floor = None
    for first in range(0, len(power), _STRETCH):
        stretch = slice(first, first + _STRETCH)
        quiet = np.quantile(power[stretch], _NOISE_SHARE)
        floor = quiet if floor is None else _KEPT_NOISE * floor + (1 - _KEPT_NOISE) * quiet
        noise[stretch] = floor
    ratio = np.maximum(level - 10 * np.log10(noise), 0.0)
    change = np.sqrt(np.abs(np.diff(power, prepend=power[:1])) * ratio)
    sums = np.concatenate([[0.0], np.cumsum(change)])
    frame = np.arange(len(change))
    low, high = np.maximum(frame - _REACH, 0), np.minimum(frame + _REACH + 1, len(change))
    return (sums[high] - sums[low]) / (high - low)


def _runs(mask: npt.NDArray[np.bool_]) -> IntArray:
    """Return the start and end of every run of true values, (n, 2)."""
    change = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return change.reshape(-1, 2).astype(np.int64)


def _close_gaps(regions: IntArray, shortest: int) -> IntArray:
    """Join neighbours that overlap, touch, or lie less than `shortest` samples apart."""
    if len(regions) == 0:
        return regions
    gap = regions[1:, 0] - regions[:-1, 1]
    divides = (gap >= shortest) & (gap > 0)
    return np.stack([regions[np.r_[True, divides], 0], regions[np.r_[divides, True], 1]], axis=1)


# Silero


def _silero_regions(
    samples: FloatArray, threshold: float, min_speech_ms: int, min_silence_ms: int, pad_ms: int
) -> IntArray:
    import torch

    package, model = _silero()
    found = package.get_speech_timestamps(
        torch.from_numpy(samples.copy()),
        model,
        sampling_rate=SAMPLE_RATE,
        threshold=threshold,
        min_speech_duration_ms=min_speech_ms,
        min_silence_duration_ms=min_silence_ms,
        speech_pad_ms=pad_ms,
        max_speech_duration_s=math.inf,
    )
    regions = np.array([[region["start"], region["end"]] for region in found], dtype=np.int64).reshape(-1, 2)
    return _close_gaps(np.clip(regions, 0, len(samples)), 0)


@functools.lru_cache(maxsize=1)
def _silero() -> tuple[Any, Any]:
    """Return the package and the network inside it."""
    import torch

    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            package = importlib.import_module("silero_vad")
            return package, package.load_silero_vad()
    except ImportError as error:
        raise MissingDependencyError(
            f"voice activity by silero needs silero-vad ({error}); install it with: pip install 'syllablelm[vad]', "
            "or choose the method 'energy'"
        ) from error
    finally:
        # Importing silero_vad sets the whole process to one thread.
        torch.set_num_threads(threads)
