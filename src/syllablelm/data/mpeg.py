"""MPEG audio (mp3, mp2): the length of a file by its frames, as headers of many files give none or a wrong one."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from syllablelm.core.errors import AudioError
from syllablelm.data.containers import COPY_AGAIN, Layout, Part

_RATES = (44_100, 48_000, 32_000)
_KBITS = {  # by (MPEG-1 or not, layer); index 0 is a free format
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class _Frame(NamedTuple):
    length: int  # bytes
    samples: int
    tag: int  # where a Xing or Info tag would begin


def is_mpeg(head: bytes) -> bool:
    """Tell whether these bytes begin with a frame of MPEG audio of a known length."""
    return len(head) >= 4 and _frame(int.from_bytes(head[:4], "big")) is not None


def id3_length(raw: BinaryIO, at: int) -> int:
    """Return the length of an ID3v2 tag that begins at a byte, or 0."""
    raw.seek(at)
    head = raw.read(10)
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:]) > 127:
        return 0
    seven = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + seven + (10 if head[5] & 0x10 else 0)


def mpeg_layout(raw: BinaryIO, at: int, size: int, name: str) -> Layout:
    """Walk the frames of an mp3 file from its first one; each stretch between tags or damage is a part.

    Where a Xing or Info tag promises more frames than there are, the file is truncated (AudioError); without one, an
    incomplete last frame and bytes between the frames are warnings. A part without a tag, or with frames beyond those
    of its tag, gets one that tells its length, as libsndfile would guess it.
    """
    parts: list[Part] = []
    warnings: list[str] = []
    while at < size:
        run = _run(raw, at, size)
        if run.promised is not None and run.count < run.promised:
            raise AudioError(
                f"{name}: is truncated or damaged, {run.count} of its {run.promised} frames are there; {COPY_AGAIN}"
            )
        if run.count:
            head = b"" if run.start == at and run.promised else _tag(run.header, run.count)
            parts.append(Part(run.start, run.stop, head, _untagged_samples(run)))
        at, end = _next_frame(raw, run.stop, size), _after_tags(raw, run.stop, size)
        if end < at < size:
            warnings.append(
                f"{at - end} bytes at byte {end} are not mp3 frames and left out; times after them may be shifted"
            )
        elif end < at and not run.promised and is_mpeg(_bytes(raw, end, 4)):
            warnings.append("ends within a frame: cut short, or its recorder was stopped; read to its last whole frame")
    return Layout(tuple(parts), tuple(warnings))


class _Run(NamedTuple):
    start: int  # of the part: its tag, where that tells the right length, or its first frame
    header: int
    count: int
    promised: int | None
    stop: int


def _run(raw: BinaryIO, at: int, size: int) -> _Run:
    """Walk frames of one kind until they end, a new tag begins, or those that the tag promises are there."""
    header = int.from_bytes(_bytes(raw, at, 4), "big")
    kind, start, count = _kind(header), at, 0
    promised: int | None = None
    while at < size and count != promised:
        begin = _bytes(raw, at, 54)
        word = int.from_bytes(begin[:4], "big")
        frame = _frame(word) if _kind(word) == kind else None
        if frame is None or at + frame.length > size:
            break
        frames, is_known = _tagged(begin, frame)
        if frames is not None:
            if at != start:
                break
            promised = frames or None
            start = at if promised and is_known else at + frame.length
        else:
            count += 1
        at += frame.length
    return _Run(start, header, count, promised, at)


def _tagged(tag: bytes, frame: _Frame) -> tuple[int | None, bool]:
    """Return the number of frames that a tag in place of a frame gives (0: none), and whether libsndfile knows it."""
    if tag[frame.tag : frame.tag + 4] in (b"Xing", b"Info"):
        flags, frames = struct.unpack_from(">II", tag, frame.tag + 4)
        return (frames if flags & 1 else 0), True
    if tag[36:40] == b"VBRI":
        return int.from_bytes(tag[50:54], "big"), False
    return None, False


def _untagged_samples(run: _Run) -> int | None:
    # Layers 1 and 2 have no tag; libsndfile guesses their length.
    frame = _frame(run.header)
    return frame.samples * run.count if frame and run.header >> 17 & 3 != 1 else None


def _tag(header: int, count: int) -> bytes:
    """Return an Info tag that tells the number of frames: a frame at the highest bit rate, without its checksum."""
    header = header & ~0xF200 | 0x1_E000
    frame = _frame(header)
    if frame is None or header >> 17 & 3 != 1:
        return b""
    tag = header.to_bytes(4, "big").ljust(frame.tag, b"\0") + b"Info" + struct.pack(">II", 1, count)
    return tag.ljust(frame.length, b"\0")


@lru_cache(maxsize=4096)
def _frame(header: int) -> _Frame | None:
    version, layer = header >> 19 & 3, 4 - (header >> 17 & 3)
    kbits, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    bits, hertz = _KBITS[is_first, layer][kbits] * 1000, _RATES[rate] >> (0, 1, 2)[(version == 2) + 2 * (version == 0)]
    if layer == 1:
        return _Frame((12 * bits // hertz + padding) * 4, 384, 4)
    samples = 576 if layer == 3 and not is_first else 1152
    mono = header >> 6 & 3 == 3
    side = (17 if mono else 32) if is_first else (9 if mono else 17)
    return _Frame(samples // 8 * bits // hertz + padding, samples, 4 + side)


@lru_cache(maxsize=4096)
def _kind(header: int) -> tuple[int, bool]:
    """Return what the frames of one stream have in common: version, layer, rate, and whether they are mono."""
    return header & 0xFFFE_0C00, header >> 6 & 3 == 3


def _next_frame(raw: BinaryIO, at: int, size: int) -> int:
    """Return where the next frame begins that another one of its kind or the end follows, or the size."""
    at = _after_tags(raw, at, size)
    while at < size:
        block = _bytes(raw, at, 1 << 16)
        found = block.find(b"\xff")
        while found >= 0:
            word = int.from_bytes(_bytes(raw, at + found, 4), "big")
            frame = _frame(word)
            if frame is not None:
                behind = at + found + frame.length
                if behind == size or _kind(int.from_bytes(_bytes(raw, behind, 4), "big")) == _kind(word):
                    return at + found
            found = block.find(b"\xff", found + 1)
        at += len(block)
    return size


def _after_tags(raw: BinaryIO, at: int, size: int) -> int:
    while at < size:
        head = _bytes(raw, at, 32)
        if head[:3] == b"TAG":
            at += 128
        elif head[:8] == b"APETAGEX":
            at += int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0)
        elif not (length := id3_length(raw, at)):
            break
        else:
            at += length
    return min(at, size)


def _bytes(raw: BinaryIO, at: int, count: int) -> bytes:
    raw.seek(at)
    return raw.read(count)
