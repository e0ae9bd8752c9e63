"""Audio files: whatever libsndfile reads as mono float32 samples at 16 kHz, or a clear error; wav, flac and ogg out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.data.containers import COPY_AGAIN
from syllablelm.data.source import BLOCK_FRAMES, FloatArray, Source, measure

SAMPLE_RATE = 16_000
MOST_SILENCE = 5.0
"""Samples per second of every waveform inside the package."""


@dataclass(frozen=True)
class AudioInfo:
    """Header of a file: length in samples at its own rate, that rate in Hz, and number of channels."""

    num_samples: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Return length, sample rate and channel count of a file by its header; AudioError if it cannot be a recording."""
    source = measure(Path(path))
    return AudioInfo(source.num_samples, source.sample_rate, source.channels)


def load_audio(path: str | os.PathLike[str], *, start: int | None = None, stop: int | None = None) -> FloatArray:
    """Load a recording as mono (mean of the channels) at 16 kHz; values are neither clipped nor rescaled.

    Args:
        path: any file libsndfile reads (wav, flac, ogg, opus, mp3, ...), any rate and channel count.
        start, stop: an excerpt, in samples at the file's own rate (half-open).

    Returns:
        (num_samples,) float32.

    Raises:
        AudioError: the file is missing, a folder, empty, zero-length, truncated, silent throughout, shorter than
            the excerpt, holds NaN or infinite samples, or is not audio; the message names it.
        InputError: start and stop do not enclose any samples.
    """
    return np.concatenate(list(_resampled(Path(path), start, stop)))


def check_silence(seconds: float) -> None:
    """Raise an InputError unless this much silence can be put around a recording."""
    if not 0.0 <= seconds <= MOST_SILENCE:
        raise InputError(f"silence {seconds:g}: must be 0 to {MOST_SILENCE:g} seconds")


def read_blocks(
    path: str | os.PathLike[str], seconds: float = 30.0, *, start: int | None = None, stop: int | None = None
) -> Iterator[FloatArray]:
    """Yield a recording in pieces of `seconds` in bounded memory; the pieces joined equal `load_audio`.

    A fault inside the file is raised when it is reached, silence at the end.
    """
    size = round(seconds * SAMPLE_RATE)
    if size < 1:
        raise InputError(f"seconds must be at least one sample (1/{SAMPLE_RATE}), not {seconds}")
    held: list[FloatArray] = []
    num_held = 0
    for piece in _resampled(Path(path), start, stop):
        held.append(piece)
        num_held += len(piece)
        if num_held >= size:
            joined = np.concatenate(held)
            cut = num_held - num_held % size
            for first in range(0, cut, size):
                # A copy, so that a kept block does not keep its neighbours alive.
                yield joined[first : first + size].copy()
            held, num_held = [joined[cut:].copy()], num_held - cut
    if num_held:
        yield np.concatenate(held)


def check_audio(path: str | os.PathLike[str], *, start: int | None = None, stop: int | None = None) -> None:
    """Decode a recording (or an excerpt) completely in bounded memory and raise what `load_audio` would raise."""
    for _ in _decoded(Path(path), start, stop)[1]:
        pass


def check_waveform(array: Any, *, name: str = "waveform", allow_silence: bool = False) -> FloatArray:
    """Check samples that a caller passes and return them as a contiguous float32 array (unchanged if they are one).

    Args:
        array: (num_samples,) floating point, mono, 16 kHz, full scale at 1.0; another type or shape is an InputError.
        name: its name in messages.
        allow_silence: accept samples that are all zero; without, they are an AudioError as are none, NaN or infinity.
    """
    try:
        samples = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: cannot be read as an array of samples ({error}); pass a 1-D float array") from None
    if samples.ndim != 1:
        raise InputError(
            f"{name}: has shape {samples.shape}, expected (num_samples,); average the channels, "
            "or pass several recordings as a list of 1-D arrays"
        )
    if samples.size == 0:
        raise AudioError(f"{name}: holds no samples; leave it out")
    if np.issubdtype(samples.dtype, np.integer):
        raise InputError(
            f"{name}: has integer samples ({samples.dtype}); convert 16-bit ones with samples.astype('float32') / 32768"
        )
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(f"{name}: has dtype {samples.dtype}; pass float32 samples with full scale at 1.0")
    with np.errstate(over="ignore"):  # an overflow becomes inf, which is reported below
        samples = np.ascontiguousarray(samples, dtype=np.float32)
    _check_finite(samples, name, 0)
    if not allow_silence and not samples.any():
        raise AudioError(f"{name}: is silent (every sample is zero); leave it out")
    return samples


def save_audio(path: str | os.PathLike[str], waveform: npt.ArrayLike, sample_rate: int = SAMPLE_RATE) -> None:
    """Write mono samples as 16-bit wav or flac, or as ogg (Vorbis), by the suffix, atomically.

    Args:
        path: file that ends in .wav, .flac or .ogg; missing folders are created.
        waveform: (num_samples,) floating point, not empty; values outside [-1, 1] are clipped to it.
        sample_rate: samples per second.
    """
    path = Path(path)
    formats = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
    if path.suffix.lower() not in formats:
        raise InputError(f"{path}: cannot write '{path.suffix}' audio; use .wav, .flac or .ogg")
    if sample_rate != int(sample_rate) or sample_rate < 1:
        raise InputError(f"sample_rate must be a positive whole number, not {sample_rate}")
    samples = np.clip(check_waveform(waveform, name=str(path), allow_silence=True), -1.0, 1.0)
    kind, subtype = formats[path.suffix.lower()]
    if subtype == "PCM_16":
        # The exact inverse of reading, which divides by 32768: a 16-bit file survives a round trip unchanged.
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    try:
        with (
            atomic_path(path) as part,
            soundfile.SoundFile(part, "w", int(sample_rate), 1, subtype, format=kind) as file,
        ):
            # libsndfile's Vorbis writer overflows its stack on one very long write.
            for first in range(0, len(samples), BLOCK_FRAMES):
                file.write(samples[first : first + BLOCK_FRAMES])
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); check the folder and the sample rate") from error


def resample(waveform: npt.ArrayLike, from_rate: int, to_rate: int = SAMPLE_RATE) -> FloatArray:
    """Return a waveform (num_samples,) at another sample rate; unchanged if the rates are equal."""
    samples = np.asarray(waveform, dtype=np.float32)
    return samples if from_rate == to_rate else soxr.resample(samples, from_rate, to_rate, quality="HQ")


def _resampled(path: Path, start: int | None, stop: int | None) -> Iterator[FloatArray]:
    rate, blocks = _decoded(path, start, stop)
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    num_out = 0
    for block in blocks:
        piece = stream.resample_chunk(block)
        num_out += len(piece)
        yield piece
    rest = stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    if num_out + len(rest) == 0:
        raise AudioError(f"{path}: is shorter than one sample at {SAMPLE_RATE} Hz; leave it out")
    yield rest


def _decoded(path: Path, start: int | None, stop: int | None) -> tuple[int, Iterator[FloatArray]]:
    """Return the file's own rate, and its mono samples at that rate in checked blocks."""
    source = measure(path)
    first, last = start or 0, source.num_samples if stop is None else stop
    if first < 0 or last <= first:
        raise InputError(f"{path}: start {start} and stop {stop} do not enclose any samples")
    if last > source.num_samples:
        raise AudioError(
            f"{path}: has {source.num_samples} samples where {first} to {last} are wanted; "
            "it is cut short or another version of the recording"
        )
    return source.sample_rate, _decoded_blocks(source, first, last)


def _decoded_blocks(source: Source, first: int, last: int) -> Iterator[FloatArray]:
    path = source.path
    any_channel = any_mono = False
    done = first
    try:
        for block in source.blocks(first, last):  # (frames, channels)
            _check_finite(block, str(path), done)
            mono = block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
            any_channel, any_mono = any_channel or bool(block.any()), any_mono or bool(mono.any())
            done += len(block)
            yield mono
    except soundfile.LibsndfileError as error:
        reason = error.error_string or "decoding failed"
        raise AudioError(
            f"{path}: is truncated or damaged after sample {done} of {source.num_samples} ({reason}); {COPY_AGAIN}"
        ) from error
    if done < last:
        raise AudioError(
            f"{path}: is truncated, it ends at sample {done} where {source.num_samples} are promised; {COPY_AGAIN}"
        )
    if any_channel and not any_mono:
        raise AudioError(f"{path}: its channels cancel each other when averaged; keep one channel of it")
    if not any_channel:
        raise AudioError(f"{path}: is silent (every sample is zero); leave it out")


def _check_finite(samples: FloatArray, name: str, offset: int) -> None:
    finite = np.isfinite(samples)
    if not finite.all():
        where = offset + int(np.argwhere(~finite)[0][0])
        raise AudioError(f"{name}: has a NaN or infinite sample at {where}; write it again without, or leave it out")
