"""Sources: a file of recorded audio, measured by its container and decoded part by part at its own rate."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import soundfile

from syllablelm.core.errors import AudioError, AudioWarning
from syllablelm.data.containers import CONVERT, COPY_AGAIN, Layout, Part, header_layout
from syllablelm.data.mpeg import id3_length, is_mpeg, mpeg_layout
from syllablelm.data.ogg import ogg_layout
from syllablelm.data.pyav import DECODED_BY_AV, av_blocks, av_stream

FloatArray = npt.NDArray[np.float32]

BLOCK_FRAMES = 1 << 18
"""Samples that are decoded at once."""

_UNKNOWN_LENGTH = 1 << 62
# Sample rates in Hz outside of these are those of damaged headers; the resampler fails at some of them.
LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000
# libsndfile's names of formats whose decoder reports a cut.
_DECODER_CHECKS = ("FLAC", "HTK", "SDS")
_FETCH = "fetch it (git annex get, git lfs pull, dvc pull), or leave it out"


@dataclass(frozen=True)
class Source:
    """A measured file: its parts and their lengths in samples (no parts: PyAV decodes it)."""

    path: Path
    sample_rate: int
    channels: int
    num_samples: int
    parts: tuple[tuple[Part, int], ...]
    warnings: tuple[str, ...]
    container: str = ""

    def blocks(self, first: int, last: int) -> Iterator[FloatArray]:
        """Yield the samples from first to last, or fewer where the file ends, (num_samples, channels)."""
        if not self.parts:
            for block in av_blocks(self.path, first):
                yield block[: last - first]
                first += len(block)
                if first >= last:
                    return
        begin = 0
        for part, length in self.parts:
            at, stop = max(first - begin, 0), min(last - begin, length)
            begin += length
            if at < stop:
                with _open_part(self.path, part) as file:
                    if file.format == "MP3":
                        # Not sought, but decoded: see _Sequential.
                        for skipped in range(0, at, BLOCK_FRAMES):
                            file.read(min(BLOCK_FRAMES, at - skipped), "float32")
                    elif at:
                        file.seek(at)
                    while at < stop and len(block := file.read(min(BLOCK_FRAMES, stop - at), "float32", True)):
                        at += len(block)
                        yield np.asarray(block, dtype=np.float32)
                if at < stop:
                    return
        if self.container == "FLAC" and last == self.num_samples and _second_flac(self.path):
            raise AudioError(f"{self.path}: holds several files joined end to end; split it, or {CONVERT}")


def measure(path: Path, name: str = "") -> Source:
    """Return what a file holds by its container, and warn (AudioWarning) where that is not all it should be.

    A file that cannot be a recording, or is not all there, is an AudioError that says why. `name` stands for the path
    in warnings.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{path}: is a folder, not a recording; name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{path}: is no regular file (a pipe or a device); write the recording to a file first")
        source = _measured(path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        if path.is_symlink():
            raise AudioError(f"{path}: is a link to content that is not here; {_FETCH}") from None
        raise AudioError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:  # a NUL
        raise AudioError(f"{str(path)!r}: cannot be a file's name ({error}); check the name") from None
    for warning in source.warnings:
        warnings.warn(f"{name or path}: {warning}", AudioWarning, stacklevel=2)
    return source


# Excerpts of a long file are loaded one by one: its pages are walked once. Size and time tell a changed file.
@lru_cache(maxsize=64)
def _measured(path: Path, size: int, _changed: int) -> Source:
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); {COPY_AGAIN}")
    if size < 1000 and path.read_bytes().startswith((b"/annex/objects/", b"version https://git-lfs")):
        raise AudioError(f"{path}: is the pointer to a recording that is not here; {_FETCH}")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples say neither rate nor type; {CONVERT}")
    if path.suffix.lower() in DECODED_BY_AV:
        stream = av_stream(path)
        source = Source(path, stream.sample_rate, stream.channels, stream.num_samples, (), stream.warnings)
    else:
        source = _measured_parts(path, size)
    if source.num_samples <= 0:
        raise AudioError(f"{path}: holds no samples (zero length); leave it out")
    if not LOWEST_RATE <= source.sample_rate <= HIGHEST_RATE:
        raise AudioError(
            f"{path}: its header says {source.sample_rate} Hz, outside {LOWEST_RATE} to {HIGHEST_RATE}; {CONVERT}"
        )
    return source


def _measured_parts(path: Path, size: int) -> Source:
    with path.open("rb", buffering=1 << 18) as raw:
        layout = _layout(raw, size, str(path))
    measured: list[tuple[Part, int]] = []
    rates: set[int] = set()
    channels, container = 1, ""
    for part in layout.parts if layout else (Part(0, size),):
        with _open_part(path, part) as file:
            if file.frames >= _UNKNOWN_LENGTH:
                raise AudioError(f"{path}: its header does not say how long it is; {CONVERT}")
            if file.frames < (part.samples or 0):
                raise AudioError(f"{path}: is decoded as shorter than its frames are; {CONVERT}")
            measured.append((part, part.samples or file.frames))
            rates.add(file.samplerate)
            channels, container = max(channels, file.channels), file.format
    if len(rates) != 1:
        raise AudioError(f"{path}: is joined from recordings of {sorted(rates)} Hz; split it, or {CONVERT}")
    notes = layout.warnings if layout else ()
    if not layout and container not in _DECODER_CHECKS:
        notes = (f"its format ({container}) does not say how long it is: a cut would not be noticed",)
    total = sum(length for _, length in measured)
    return Source(path, rates.pop(), channels, total, tuple(measured), notes, container)


def _second_flac(path: Path) -> bool:
    # libsndfile stops where the first one ends. The mark is followed by the first block, which has a fixed length.
    mark, tail = b"fLaC\0\0\0\x22", b""
    with path.open("rb") as raw:
        raw.seek(len(mark) + id3_length(raw, 0))
        while block := raw.read(1 << 20):
            if mark in tail + block:
                return True
            tail = block[-len(mark) :]
    return False


def _layout(raw: BinaryIO, size: int, name: str) -> Layout | None:
    """Return the parts of a file, or None where only libsndfile knows the format."""
    at = 0
    while length := id3_length(raw, at):
        at += length
    raw.seek(at)
    head = raw.read(4)
    if head == b"OggS" and at == 0:
        return ogg_layout(raw, size, name)
    if is_mpeg(head):
        layout = mpeg_layout(raw, at, size, name)
        if not layout.parts:
            raise AudioError(f"{name}: is truncated within its first frame; {COPY_AGAIN}")
        return layout
    return header_layout(raw, size, name)


class _PartFile(io.RawIOBase):
    """A part of a file as a file of its own, for libsndfile."""

    def __init__(self, path: Path, part: Part) -> None:
        self._raw, self._part, self._at = path.open("rb", buffering=1 << 16), part, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = len(self._part.head) + self._part.stop - self._part.start
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        head, count = self._part.head, len(buffer)
        data = head[self._at : self._at + count]
        begin = self._part.start + max(self._at - len(head), 0)
        if len(data) < count and begin < self._part.stop:
            self._raw.seek(begin)
            data += self._raw.read(min(count - len(data), self._part.stop - begin))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Sequential(soundfile.SoundFile):
    def seekable(self) -> bool:
        # soundfile seeks after each block to where it is. An mp3 frame may hold bits of those before it, so that
        # libsndfile decodes the first ones after a seek wrongly.
        return False


@contextmanager
def _open_part(path: Path, part: Part) -> Generator[soundfile.SoundFile, None, None]:
    """Open a part of a file, or raise an AudioError that says why it cannot be a recording."""
    # A whole file is read by its name, encoded here as soundfile fails at names that are not UTF-8.
    whole = not part.head and part.start == 0 and part.stop == path.stat().st_size
    with nullcontext(os.fsencode(path)) if whole else _PartFile(path, part) as raw:
        try:
            file = _Sequential(cast(Any, raw))
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(". ")
            raise AudioError(f"{path}: is not readable audio, or its start is damaged ({reason}); {CONVERT}") from error
        with file:
            yield file
