"""Audio files: whatever libsndfile reads as mono float32 samples at 16 kHz, or a clear error; wav, flac and ogg out."""

from __future__ import annotations

import io
import os
import struct
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

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside the package."""

FloatArray = npt.NDArray[np.float32]

_BLOCK_FRAMES = 1 << 18
# Writers that cannot seek back (pipes) leave a placeholder near 2^31 or 2^32 as the data size: length unknown.
_STREAMED_SIZE = 0x7FFF_0000
_UNKNOWN_LENGTH = 1 << 62
_CONVERT = "convert it to wav or flac, or leave it out"
_COPY_AGAIN = "copy or download it again, or leave it out"


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
    with _open_audio(Path(path)) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


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
            for first in range(0, len(samples), _BLOCK_FRAMES):
                file.write(samples[first : first + _BLOCK_FRAMES])
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
    with _open_audio(path) as file:
        rate, num_samples = file.samplerate, file.frames
    first, last = start or 0, num_samples if stop is None else stop
    if first < 0 or last <= first:
        raise InputError(f"{path}: start {start} and stop {stop} do not enclose any samples")
    if last > num_samples:
        raise AudioError(
            f"{path}: has {num_samples} samples where {first} to {last} are wanted; "
            "it is cut short or another version of the recording"
        )
    return rate, _decoded_blocks(path, first, last)


def _decoded_blocks(path: Path, first: int, last: int) -> Iterator[FloatArray]:
    any_channel = any_mono = False
    done = first
    with _open_audio(path) as file:
        try:
            if first:
                file.seek(first)
            while done < last:
                frames = file.read(min(_BLOCK_FRAMES, last - done), dtype="float32", always_2d=True)
                block = np.asarray(frames, dtype=np.float32)  # (frames, channels)
                if len(block) == 0:
                    break
                _check_finite(block, str(path), done)
                mono = block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
                any_channel, any_mono = any_channel or bool(block.any()), any_mono or bool(mono.any())
                done += len(block)
                yield mono
        except soundfile.LibsndfileError as error:
            reason = error.error_string or "decoding failed"
            raise AudioError(
                f"{path}: is truncated or damaged after sample {done} of {file.frames} ({reason}); {_COPY_AGAIN}"
            ) from error
        if done < last:
            raise AudioError(
                f"{path}: is truncated, it ends at sample {done} where its header promises {file.frames}; {_COPY_AGAIN}"
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


def _open_audio(path: Path) -> soundfile.SoundFile:
    """Open a recording, or raise an AudioError that says why it cannot be one."""
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, not a recording; name the files in it")
    try:
        with path.open("rb") as raw:
            size = raw.seek(0, io.SEEK_END)
            if size == 0:
                raise AudioError(f"{path}: is empty (0 bytes); {_COPY_AGAIN}")
            raw.seek(0)
            missing = _missing_bytes(raw, size)
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if missing:
        raise AudioError(f"{path}: is truncated, {missing} bytes of its data are missing; {_COPY_AGAIN}")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples say neither rate nor type; {_CONVERT}")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". ")
        raise AudioError(f"{path}: is not readable audio, or its start is damaged ({reason}); {_CONVERT}") from error
    if 0 < file.frames < _UNKNOWN_LENGTH:
        return file
    frames = file.frames
    file.close()
    if frames <= 0:
        raise AudioError(f"{path}: holds no samples (zero length); leave it out")
    raise AudioError(f"{path}: its header does not say how long it is; {_CONVERT}")


def _missing_bytes(raw: io.BufferedReader, size: int) -> int:
    """Return the number of bytes missing from a truncated wav, aiff or ogg file.

    libsndfile shortens such files silently, so their containers are measured here; truncated flac and mp3 files fail
    in the decoder.
    """
    head = raw.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _missing_chunk_bytes(raw, size, "<", b"data")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _missing_chunk_bytes(raw, size, ">", b"SSND")
    if head[:4] == b"OggS":
        return _missing_page_bytes(raw, size)
    return 0


def _missing_chunk_bytes(raw: io.BufferedReader, size: int, order: str, wanted: bytes) -> int:
    while len(header := raw.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", header)
        if name == wanted:
            return 0 if length >= _STREAMED_SIZE else max(raw.tell() + length - size, 0)
        raw.seek(length + length % 2, io.SEEK_CUR)
    return 0


def _missing_page_bytes(raw: io.BufferedReader, size: int) -> int:
    # A page is at most 27 + 255 + 255 * 255 bytes, so the last one begins in the last 64 KiB.
    begin = max(size - (1 << 16), 0)
    raw.seek(begin)
    tail = raw.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 27 + (page[26] if len(page) >= 27 else 0) - len(page)
    return max(27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page), 0)
