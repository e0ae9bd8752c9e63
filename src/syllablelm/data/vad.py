"""Voice activity detection, and recordings shortened to speech with a map back to the original times."""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.data.audio import SAMPLE_RATE, FloatArray, check_waveform

IntArray = npt.NDArray[np.int64]
Method = Literal["silero", "energy", "none"]
METHODS: tuple[Method, ...] = ("silero", "energy", "none")
_THRESHOLDS = {"silero": 0.5, "energy": 0.3, "none": 0.5}

# Energy detector: frames of 10 ms, windows of 25 ms, the band with most of the energy of voices.
_HOP = 160
_WINDOW = 400
_BAND_HERTZ = (200.0, 4000.0)
# Below this level (dB relative to a full-scale sine in the band) nothing counts as speech.
_SILENCE_DB = -70.0
# Recordings whose loud and quiet frames differ by less than this count as speech throughout.
_FLAT_DB = 6.0


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
        method: "silero" is a small neural network (extra `vad`); "energy" compares the level of the speech band with
            the quiet and the loud parts of the same recording, without a model; "none" returns everything.
        threshold: silero: probability above which a frame is speech (0.5 if None). energy: position of the threshold
            between the recording's quiet level (0) and its loud level (1) in decibels (0.3 if None: keeps as much
            of read speech as silero).
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


@dataclass(frozen=True, eq=False)
class SpeechMap:
    """A map from the kept samples of a recording of `num_samples` to their original positions.

    `regions`, (num_regions, 2) int64 samples of the original, are half-open, sorted, not overlapping; or InputError.
    """

    regions: IntArray
    num_samples: int

    def __post_init__(self) -> None:
        regions = np.array(self.regions)
        if regions.size == 0:
            regions = np.zeros((0, 2), dtype=np.int64)
        if regions.ndim != 2 or regions.shape[1] != 2 or not np.issubdtype(regions.dtype, np.integer):
            raise InputError(f"regions must be whole numbers of shape (n, 2), not {regions.dtype}{regions.shape}")
        edges = regions.reshape(-1)
        inside = edges.size == 0 or (edges[0] >= 0 and edges[-1] <= self.num_samples)
        if not inside or np.any(np.diff(edges) < 0) or np.any(regions[:, 0] == regions[:, 1]):
            raise InputError(f"regions must be sorted, not empty, not overlapping, and lie in [0, {self.num_samples}]")
        regions = regions.astype(np.int64)
        regions.setflags(write=False)
        object.__setattr__(self, "regions", regions)

    @functools.cached_property
    def _before(self) -> IntArray:
        """(num_regions + 1,) samples kept before each region, and in total."""
        return np.concatenate([[0], np.cumsum(self.regions[:, 1] - self.regions[:, 0])]).astype(np.int64)

    @property
    def num_kept(self) -> int:
        """Samples kept."""
        return int(self._before[-1])

    def to_original(self, kept: npt.ArrayLike, *, side: Literal["start", "end"] = "start") -> IntArray:
        """Return the original positions of positions in the shortened recording, which are in [0, num_kept].

        At a join, the side "start" gives the beginning of the later region (for starts of segments), "end" the end of
        the earlier one (for half-open ends).
        """
        positions = np.asarray(kept)
        if positions.size and not np.issubdtype(positions.dtype, np.integer):
            raise InputError(f"kept positions must be whole samples, not {positions.dtype}")
        positions = positions.astype(np.int64)
        if positions.size and (positions.min() < 0 or positions.max() > self.num_kept):
            raise InputError(f"kept positions must lie in [0, {self.num_kept}]")
        if positions.size and not len(self.regions):
            raise InputError("nothing was kept, so no position can be mapped back")
        found = np.searchsorted(self._before, positions, side="right" if side == "start" else "left") - 1
        index = np.clip(found, 0, max(len(self.regions) - 1, 0))
        return self.regions[index, 0] + positions - self._before[index]


def keep_speech(waveform: npt.ArrayLike, regions: npt.ArrayLike) -> tuple[FloatArray, SpeechMap]:
    """Return the given regions of a recording joined, (num_kept,) float32, and the map from it to the original.

    Args:
        waveform: (num_samples,) mono float.
        regions: (num_regions, 2) start and end samples, as `speech_regions` returns them.
    """
    samples = check_waveform(waveform, allow_silence=True)
    mapping = SpeechMap(np.asarray(regions), len(samples))
    pieces = [samples[start:end] for start, end in mapping.regions]
    return np.concatenate([np.zeros(0, dtype=np.float32), *pieces]), mapping


# Band energy


def _energy_regions(
    samples: FloatArray, threshold: float, min_speech_ms: int, min_silence_ms: int, pad_ms: int
) -> IntArray:
    level = _band_level(samples)
    audible = level > _SILENCE_DB
    if not audible.any():
        return np.zeros((0, 2), dtype=np.int64)
    quiet, loud = np.percentile(level[audible], [10, 95])
    if loud - quiet < _FLAT_DB:
        speech = audible
    else:
        # Two thresholds: a region begins above the upper one and lasts until the level falls below the lower one, so
        # that weak consonants beside a vowel stay with it.
        upper = quiet + threshold * (loud - quiet)
        lower = quiet + 0.6 * threshold * (loud - quiet)
        speech = _hysteresis(level, lower, max(upper, _SILENCE_DB))
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


def _hysteresis(level: npt.NDArray[np.float64], lower: float, upper: float) -> npt.NDArray[np.bool_]:
    """Return the frames in runs above `lower` that reach `upper` somewhere."""
    runs = _runs(level > lower)
    reaches = np.concatenate([[0], np.cumsum(level > upper)])
    speech = np.zeros(len(level), dtype=bool)
    for start, end in runs[reaches[runs[:, 1]] > reaches[runs[:, 0]]]:
        speech[start:end] = True
    return speech


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
