"""Audio files: whatever libsndfile reads as mono float32 samples at 16 kHz, or a clear error; wav, flac and ogg out."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from syllablelm.core.errors import AudioError, InputError, SyllableLMError
from syllablelm.core.files import atomic_path
from syllablelm.data.containers import COPY_AGAIN
from syllablelm.data.pyav import guess_suffix
from syllablelm.data.samples import (
    AudioInput,
    check_finite,
    check_same_rate,
    check_waveform,
    is_file,
    is_recording,
    mono_samples,
    unwrap,
)
from syllablelm.data.source import BLOCK_FRAMES, FloatArray, Source, measure

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside the package."""
MOST_SILENCE = 5.0


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


def load_audio(
    audio: AudioInput,
    *,
    start: int | None = None,
    stop: int | None = None,
    sampling_rate: int | None = None,
) -> FloatArray:
    """Load a recording as mono (mean of the channels) at 16 kHz; values are neither clipped nor rescaled.

    Args:
        audio: a file that libsndfile reads (wav, flac, ogg, opus, mp3, ...; any rate and channel count), as path, bytes
            or binary file object; a NumPy array, torch tensor or list of samples, (num_samples,), (2, num_samples) or
            (num_samples, 2), in floating point or 8, 16 or 32-bit integers; a pair of such samples and their rate
            (torchaudio, soundfile, scipy); a dictionary with "array" and "sampling_rate", or with "bytes" or "path"
            (Hugging Face data sets); a torchcodec decoder.
        start, stop: an excerpt, in samples at the recording's own rate (half-open).
        sampling_rate: rate in Hz of samples that come without one; 16,000 by default.

    Returns:
        (num_samples,) float32.

    Raises:
        AudioError: the file is missing, a folder, empty, zero-length, truncated, silent throughout, shorter than
            the excerpt, holds NaN or infinite samples, or is not audio; the message names it.
        InputError: start and stop do not enclose any samples, samples of another shape or type, or a sampling rate that
            contradicts the recording's own.
    """
    return _load(audio, "waveform", start, stop, sampling_rate)


def load_waveforms(audio: AudioInput | Iterable[AudioInput], *, sampling_rate: int | None = None) -> list[FloatArray]:
    """Load recordings as ``load_audio`` does, in order; samples that are all zero are allowed unless they are a file's.

    Raises:
        AudioError, InputError: see ``load_audio``; the message counts recordings from 0.
    """
    if is_recording(audio):
        raise InputError("a list of recordings is needed here; pass a single one as [recording]")
    recordings: Any = audio
    return [_load(one, f"waveform {i}", None, None, sampling_rate, silent=True) for i, one in enumerate(recordings)]


def waveform_source(audio: AudioInput, sampling_rate: int | None = None) -> Callable[[], FloatArray | None] | None:
    """Return a function that gives a recording's waveform again without keeping it in memory.

    It reads a path again, and returns None once an array or a tensor is gone; there is none for other recordings.
    """
    if isinstance(audio, str | os.PathLike):
        return lambda: load_waveforms([audio], sampling_rate=sampling_rate)[0]
    if not hasattr(audio, "__array__"):
        return None
    held = weakref.ref(audio)

    def reload() -> FloatArray | None:
        array: Any = held()
        return None if array is None else load_waveforms([array], sampling_rate=sampling_rate)[0]

    return reload


def load_blocks(blocks: AudioInput | Iterable[AudioInput], *, sampling_rate: int | None = None) -> Iterator[FloatArray]:
    """Yield blocks of one recording as mono float32 at 16 kHz, in bounded memory; their concatenation is the whole.

    Args:
        blocks: samples, as arrays or the like of ``load_audio``, at one rate; or a file.
        sampling_rate: see ``load_audio``.

    Raises:
        AudioError, InputError: see ``load_audio``; the message counts blocks from 0.
    """
    if is_file(blocks):
        return _file_blocks(*unwrap(blocks, sampling_rate, "stream"), None, None)
    if is_recording(blocks):
        raise InputError("stream takes an iterable of blocks, or a file; encode takes a single array")
    return _resample_blocks(cast("Iterable[AudioInput]", blocks), sampling_rate)


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


def _load(
    audio: Any, name: str, start: int | None, stop: int | None, sampling_rate: int | None, *, silent: bool = False
) -> FloatArray:
    held, rate, name = unwrap(audio, sampling_rate, name)
    if is_file(held):
        return np.concatenate(list(_file_blocks(held, rate, name, start, stop)))
    samples = mono_samples(held, name)
    if start is not None or stop is not None:
        first, last = _excerpt(start, stop, len(samples), name)
        samples = samples[first:last]
    samples = check_waveform(samples, name=name, allow_silence=silent)
    resampled = resample(samples, rate or SAMPLE_RATE)
    if len(resampled) == 0:
        raise AudioError(f"{name}: is shorter than one sample at {SAMPLE_RATE} Hz; leave it out")
    return resampled


def _file_blocks(held: Any, rate: int | None, name: str, start: int | None, stop: int | None) -> Iterator[FloatArray]:
    """Blocks of a file, by its path, its bytes or an open file, whose stated rate must be its own."""
    if isinstance(held, str | os.PathLike):
        yield from _resampled(Path(held), start, stop, stated_rate=rate)
        return
    with _stored(held, name) as path:
        try:
            yield from _resampled(path, start, stop, stated_rate=rate, name=name)
        except SyllableLMError as error:
            # The user knows the data, not the file that they were put into.
            raise type(error)(error.args[0].replace(str(path), name)) from None


@contextmanager
def _stored(held: Any, name: str) -> Generator[Path, None, None]:
    """Write the bytes of a recording to a temporary file, for decoders that seek."""
    file = held if hasattr(held, "read") else io.BytesIO(held)
    head = file.read(1 << 16)
    if not isinstance(head, bytes):
        raise InputError(f"{name}: the file is opened as text; open it with mode 'rb'")
    with tempfile.TemporaryDirectory(prefix="syllablelm-") as folder:
        path = Path(folder) / f"recording{Path(name).suffix[:8] or guess_suffix(head)}"
        with path.open("wb") as copy:
            copy.write(head)
            shutil.copyfileobj(file, copy)
        yield path


def _resample_blocks(blocks: Iterable[Any], sampling_rate: int | None) -> Iterator[FloatArray]:
    stream, first_rate = None, None
    for i, block in enumerate(blocks):
        name = f"block {i}"
        held, rate, name = unwrap(block, sampling_rate, name)
        if is_file(held):
            raise InputError(f"{name}: is bytes or a file, not samples; raw samples are np.frombuffer(block, 'int16')")
        rate = rate or SAMPLE_RATE
        if first_rate not in (None, rate):
            raise InputError(f"{name}: has {rate} Hz after blocks of {first_rate} Hz; give all blocks at one rate")
        first_rate = rate
        samples = mono_samples(held, name, allow_cancelled=True)
        # A live source may deliver empty blocks.
        if len(samples) == 0:
            continue
        samples = check_waveform(samples, name=name, allow_silence=True)
        if rate == SAMPLE_RATE:
            yield samples
            continue
        stream = stream or _resampler(rate)
        yield stream.resample_chunk(samples)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _resampler(rate: int) -> soxr.ResampleStream:
    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


def _resampled(
    path: Path, start: int | None, stop: int | None, *, stated_rate: int | None = None, name: str = ""
) -> Iterator[FloatArray]:
    rate, blocks = _decoded(path, start, stop, name)
    check_same_rate(stated_rate, rate, str(path))
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = _resampler(rate)
    num_out = 0
    for block in blocks:
        piece = stream.resample_chunk(block)
        num_out += len(piece)
        yield piece
    rest = stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    if num_out + len(rest) == 0:
        raise AudioError(f"{path}: is shorter than one sample at {SAMPLE_RATE} Hz; leave it out")
    yield rest


def _decoded(path: Path, start: int | None, stop: int | None, name: str = "") -> tuple[int, Iterator[FloatArray]]:
    """Return the file's own rate, and its mono samples at that rate in checked blocks."""
    source = measure(path, name)
    first, last = _excerpt(start, stop, source.num_samples, str(path))
    return source.sample_rate, _decoded_blocks(source, first, last)


def _excerpt(start: int | None, stop: int | None, num_samples: int, name: str) -> tuple[int, int]:
    first, last = start or 0, num_samples if stop is None else stop
    if first < 0 or last <= first:
        raise InputError(f"{name}: start {start} and stop {stop} do not enclose any samples")
    if last > num_samples:
        raise AudioError(
            f"{name}: has {num_samples} samples where {first} to {last} are wanted; "
            "it is cut short or another version of the recording"
        )
    return first, last


def _decoded_blocks(source: Source, first: int, last: int) -> Iterator[FloatArray]:
    path = source.path
    any_channel = any_mono = False
    done = first
    try:
        for block in source.blocks(first, last):  # (frames, channels)
            check_finite(block, str(path), done)
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
