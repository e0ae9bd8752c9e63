"""Audio that libsndfile does not read (AAC, AMR, WMA, WebM), decoded by FFmpeg through the optional package PyAV."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, MissingDependencyError, import_optional
from syllablelm.data.containers import CONVERT, COPY_AGAIN, header_layout

# The demuxer is chosen by the suffix, not by FFmpeg: those of playlists would open other files and addresses.
_DEMUXERS = {
    **dict.fromkeys((".m4a", ".m4b", ".mp4", ".3gp"), "mp4"),
    **dict.fromkeys((".webm", ".mka"), "matroska"),
    ".wma": "asf",
    ".aac": "aac",
    ".amr": "amr",
}
DECODED_BY_AV = frozenset(_DEMUXERS)
"""Suffixes of recordings that are read where the extra `av` is installed."""

# First bytes of files of these kinds; aac has too few of its own.
_SIGNATURES = {
    rb"....ftyp": ".m4a",
    rb"\x1a\x45\xdf\xa3": ".webm",
    rb"\x30\x26\xb2\x75": ".wma",
    rb"#!AMR": ".amr",
}

# Seconds by which the last packet may end before the rounded duration of a WMA header.
_SLACK = 0.05


@dataclass(frozen=True)
class AvStream:
    """Audio stream of a file: rate in Hz, number of channels, and of samples, all of them decoded."""

    sample_rate: int
    channels: int
    num_samples: int
    warnings: tuple[str, ...] = ()


def can_decode_av() -> bool:
    """Tell whether files with a suffix of `DECODED_BY_AV` can be read: whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def guess_suffix(head: bytes) -> str:
    """Return the suffix of `DECODED_BY_AV` of a recording that begins with these bytes; "" for other formats."""
    return next((suffix for mark, suffix in _SIGNATURES.items() if re.match(mark, head, re.DOTALL)), "")


def av_stream(path: Path) -> AvStream:
    """Decode the first audio stream of a file completely and return its length, or AudioError.

    A file that ends before its container's size, packet count or duration is truncated; one without any is a warning.
    """
    rate = channels = total = 0
    with path.open("rb") as raw:
        layout = header_layout(raw, path.stat().st_size, str(path))
    with _opened(path) as container:
        packets, end = [0], [0.0]
        for block_rate, block in _blocks(path, container, packets, end):
            rate, channels, total = block_rate, block.shape[1], total + len(block)
        expected = container.streams.audio[0].frames  # packets, or 0 where the container does not count them
        seconds = (container.duration or 0) / 1e6 if container.format.name == "asf" else 0.0
    if packets[0] < expected:
        raise AudioError(f"{path}: is truncated, {packets[0]} of its {expected} packets are there; {COPY_AGAIN}")
    if end[0] < seconds - _SLACK:
        raise AudioError(
            f"{path}: is truncated, it ends at {end[0]:.2f} s where its header promises {seconds:.2f} s; {COPY_AGAIN}"
        )
    warning = "its format does not say how long it is: a cut would not be noticed"
    return AvStream(rate, channels, total, () if layout or expected or seconds else (warning,))


def av_blocks(path: Path, first: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the samples of a file from `first` on, (num_samples, channels); everything before is decoded, too."""
    with _opened(path) as container:
        for _, block in _blocks(path, container, [0], [0.0]):
            if first < len(block):
                yield block[first:]
            first = max(first - len(block), 0)


@contextmanager
def _opened(path: Path) -> Generator[Any, None, None]:
    try:
        av = import_optional("av", f"{path}: '{path.suffix}' needs PyAV", "'syllablelm[av]'")
    except MissingDependencyError as error:
        raise AudioError(f"{error}, or {CONVERT}") from None
    with path.open("rb") as raw:
        try:
            container = av.open(raw, format=_DEMUXERS[path.suffix.lower()])
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = f"is not readable audio, or its start is damaged ({_reason(error)})"
            raise AudioError(f"{path}: {reason}; {CONVERT}") from None
        with container:
            if not container.streams.audio:
                raise AudioError(f"{path}: holds no audio stream; leave it out")
            yield container


def _blocks(
    path: Path, container: Any, packets: list[int], end: list[float]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield rate and samples; count the packets of audio, and note where the last one of any ends in seconds."""
    av = import_optional("av", f"{path}: needs PyAV", "'syllablelm[av]'")
    resampler, rate = None, 0
    try:
        audio = container.streams.audio[0]
        for packet in container.demux():  # a duration is that of the longest stream
            if packet.size and packet.pts is not None:
                end[0] = max(end[0], float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream != audio:
                continue
            packets[0] += bool(packet.size)
            for frame in packet.decode():
                if resampler is None:
                    rate = frame.sample_rate
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                elif frame.sample_rate != rate:
                    raise AudioError(
                        f"{path}: changes its sample rate from {rate} to {frame.sample_rate} Hz; {CONVERT}"
                    )
                for converted in resampler.resample(frame):
                    yield rate, converted.to_ndarray().T
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(f"{path}: is truncated or damaged ({_reason(error)}); {COPY_AGAIN}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0][:120]
