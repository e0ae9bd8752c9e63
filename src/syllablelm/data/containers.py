"""Audio containers: where the samples of a file end by its header, which libsndfile shortens to the file in silence."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from syllablelm.core.errors import AudioError

COPY_AGAIN = "copy or download it again, or leave it out"
CONVERT = "convert it to wav or flac, or leave it out"


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is decoded as a file of its own: `head`, then the bytes from `start` to `stop`.

    `samples` is its length where the decoder only guesses it.
    """

    start: int
    stop: int
    head: bytes = b""
    samples: int | None = None


@dataclass(frozen=True)
class Layout:
    """Parts of a file whose samples follow each other, and what a user should know about them."""

    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Data:
    """Samples by a header: bytes from `start`; `field` is the place of their length: offset, struct format, bias."""

    start: int
    length: int
    field: tuple[int, str, int] | None = None
    chunked: bool = False  # other chunks may follow


def header_layout(raw: BinaryIO, size: int, name: str) -> Layout | None:
    """Compare the length that a header promises with the file's; None where its format is not known here.

    A file that ends too early is an AudioError; one whose header was never finished (length 0 or a placeholder) or
    cannot count beyond 4 GiB is read to its end, with a warning.
    """
    raw.seek(0)
    magic = raw.read(16)
    raw.seek(0)
    read = next((read for begin, read in _HEADERS.items() if magic.startswith(begin)), None)
    try:
        data = read(raw) if read else None
    except (struct.error, ValueError, IndexError, OSError):
        data = None  # a length or place that cannot be: libsndfile says what is wrong with such a header
    if data is None:
        return None
    rest = size - data.start
    length = max(data.length, 0)
    wraps = data.field is not None and data.field[1][1] == "I" and rest - length >= 1 << 32
    if wraps:
        length += (rest - length) >> 32 << 32
    if _is_unfinished(data, rest, raw):
        return _mended(raw, data, rest, name, f"its header was never finished; read to its end, {rest} bytes")
    if wraps:
        return _mended(raw, data, length, name, f"is longer than the 4 GiB its header can count; read {length} bytes")
    if length > rest:
        raise AudioError(f"{name}: is truncated, {length - rest} bytes of its data are missing; {COPY_AGAIN}")
    whole = Part(0, size)
    if length == rest or (data.chunked and _is_chunk(raw, data.start + length, name)):
        return Layout((whole,))
    return Layout((whole,), (f"{rest - length} bytes after its samples are not counted by its header and left out",))


def _is_unfinished(data: _Data, rest: int, raw: BinaryIO) -> bool:
    # Writers that cannot seek back (pipes), or died, leave 0, -1 or a placeholder near 2^31 or 2^32.
    length, width = data.length, struct.calcsize(data.field[1]) if data.field else 0
    if length <= 0:
        raw.seek(data.start)
        # A recording of no samples may have chunks behind it: a name of four letters and a length that fits.
        behind = raw.read(8)
        text = data.chunked and len(behind) == 8 and behind[:4].isalpha() and behind[:4].isascii()
        return rest > 0 and not (text and min(struct.unpack("<I", behind[4:])[0], rest) <= rest - 8)
    near = 0x7FFF_0000 <= length <= 0x8000_1000 or length >= 0xFFFF_0000 if width == 4 else length >= 1 << 62
    return near and length != rest


def _is_chunk(raw: BinaryIO, end: int, name: str) -> bool:
    raw.seek(end)
    behind = raw.read(12).removeprefix(b"\0")  # chunks begin at even offsets
    if behind[:4] in (b"RIFF", b"RF64", b"FORM"):
        raise AudioError(f"{name}: holds several files joined end to end; split it, or {CONVERT}")
    return len(behind) < 8 or behind[:4].replace(b" ", b"").isalnum() or not any(behind)


def _mended(raw: BinaryIO, data: _Data, length: int, name: str, warning: str) -> Layout:
    """Return the samples under a header that tells their length."""
    if data.field is None:
        raise AudioError(f"{name}: {warning.split(';')[0]}; {CONVERT}")
    raw.seek(0)
    head = bytearray(raw.read(data.start))
    offset, code, bias = data.field
    if struct.calcsize(code) == 4 and length + bias >= 1 << 32:
        if head[:4] == b"RIFF":
            # RF64 is RIFF with a first chunk of 64-bit lengths.
            sizes = struct.pack("<4sIQQQI", b"ds64", 28, 28 + len(head) + length, length, 0, 0)
            head = b"RF64\xff\xff\xff\xffWAVE" + sizes + head[12:-4] + b"\xff\xff\xff\xff"
        elif head[:4] in (b".snd", b"dns."):
            struct.pack_into(code, head, offset, 0xFFFF_FFFF)  # the format's own mark of an unknown length
        else:
            raise AudioError(f"{name}: is longer than the 4 GiB its header can count; {CONVERT}")
    else:
        struct.pack_into(code, head, offset, length + bias)
        if head[:4] == b"RIFF":
            struct.pack_into("<I", head, 4, min(len(head) - 8 + length, 0xFFFF_FFFF))
    return Layout((Part(data.start, data.start + length, bytes(head)),), (warning,))


def _riff(raw: BinaryIO) -> _Data | None:
    kind = raw.read(12)[:4]
    order = ">" if kind == b"RIFX" else "<"
    wide: tuple[int, int] | None = None
    while len(header := raw.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", header)
        start = raw.tell()
        if name == b"ds64":
            wide = start + 8, struct.unpack("<QQ", raw.read(16))[1]
        if name == b"data" and wide and kind != b"RIFF" and length == 0xFFFF_FFFF:
            return _Data(start, wide[1] if wide[1] < 1 << 63 else -1, (wide[0], "<Q", 0), chunked=True)
        if name == b"data":
            return _Data(start, length, (start - 4, f"{order}I", 0), chunked=True)
        raw.seek(start + length + length % 2)
    return None


def _form(raw: BinaryIO) -> _Data | None:
    """AIFF, AIFF-C and IFF (8SVX, 16SV)."""
    raw.seek(12)
    while len(header := raw.read(8)) == 8:
        name, length = struct.unpack(">4sI", header)
        start, skip = raw.tell(), 8 if name == b"SSND" else 0
        if name in (b"SSND", b"BODY"):
            return _Data(start + skip, length - skip, (start - 4, ">I", skip), chunked=True)
        raw.seek(start + length + length % 2)
    return None


def _wave64(raw: BinaryIO) -> _Data | None:
    raw.seek(40)
    while len(header := raw.read(24)) == 24:
        length = struct.unpack("<q", header[16:])[0] - 24  # counts its own header
        start = raw.tell()
        if header[:4] == b"data":
            return _Data(start, length, (start - 8, "<q", 24), chunked=True)
        raw.seek(start + (max(length, 0) + 7) // 8 * 8)
    return None


def _core_audio(raw: BinaryIO) -> _Data | None:
    raw.seek(8)
    while len(header := raw.read(12)) == 12:
        name, length = struct.unpack(">4sq", header)
        start = raw.tell()
        if name == b"data":
            return _Data(start + 4, length - 4 if length > 0 else -1, (start - 8, ">q", 4), chunked=True)
        raw.seek(start + max(length, 0))
    return None


def _sun(raw: BinaryIO) -> _Data:
    header = raw.read(12)
    order = ">" if header[:4] == b".snd" else "<"
    start, length = struct.unpack(f"{order}II", header[4:])
    return _Data(start, length, (8, f"{order}I", 0))


def _sphere(raw: BinaryIO) -> _Data:
    header = raw.read(1 << 16)
    start = int(header.split(b"\n", 2)[1])
    counts = [re.search(rb"%s -i (-?\d+)" % key, header[:start]) for key in _SPHERE_COUNTS]
    samples, channels, width = (int(count[1]) if count else 1 for count in counts)
    return _Data(start, samples * channels * width)


_SPHERE_COUNTS = (b"sample_count", b"channel_count", b"sample_n_bytes")


def _creative_voice(raw: BinaryIO) -> _Data | None:
    raw.seek(20)
    raw.seek(struct.unpack("<H", raw.read(2))[0])
    while header := raw.read(4):
        length = int.from_bytes(header[1:], "little")
        if header[0] in (1, 9):
            return _Data(raw.tell(), length, chunked=True)
        raw.seek(length, io.SEEK_CUR)
    return None


def _matlab4(raw: BinaryIO) -> _Data | None:
    while len(header := raw.read(20)) == 20:
        order = "<" if header[1] == 0 and header[2] == 0 and header[3] == 0 else ">"
        kind, rows, columns, _, name = struct.unpack(f"{order}5I", header)
        length = rows * columns * (8, 4, 4, 2, 2, 1)[kind // 10 % 10]
        start = raw.tell() + name
        if raw.read(name).startswith(b"wavedata"):
            return _Data(start, length)
        raw.seek(start + length)
    return None


def _matlab5(raw: BinaryIO) -> _Data | None:
    raw.seek(126)
    order = "<" if raw.read(2) == b"IM" else ">"
    data = None
    while len(header := raw.read(8)) == 8:
        kind, length = struct.unpack(f"{order}II", header)
        if kind == 14 or kind >> 16:
            continue  # a matrix, which holds elements; a small element within its header
        data = _Data(raw.tell(), length)  # the last element holds the samples
        raw.seek((length + 7) // 8 * 8, io.SEEK_CUR)
    return data


def _matroska(raw: BinaryIO) -> _Data | None:
    """WebM and Matroska: the header, and one segment that holds everything; a broadcast has no size."""
    raw.seek(4)
    raw.seek(_variable_length(raw) or 0, io.SEEK_CUR)
    if raw.read(4) != b"\x18\x53\x80\x67" or (length := _variable_length(raw)) is None:
        return None
    return _Data(raw.tell(), length)


def _variable_length(raw: BinaryIO) -> int | None:
    first = raw.read(1)[0]
    width = 9 - first.bit_length()
    value = int.from_bytes(bytes([first & (1 << (8 - width)) - 1]) + raw.read(width - 1), "big")
    return None if value == (1 << 7 * width) - 1 else value


def _counted(start: int, code: str, width: Callable[[bytes], int]) -> Callable[[BinaryIO], _Data]:
    """Return the reader of a format whose header of `start` bytes ends with, or holds, a count of frames."""

    def read(raw: BinaryIO) -> _Data:
        header = raw.read(start)
        return _Data(start, struct.unpack_from(code, header)[0] * width(header))

    return read


_HEADERS: dict[bytes, Callable[[BinaryIO], _Data | None]] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), _riff),
    b"FORM": _form,
    b"riff": _wave64,
    b"\x1a\x45\xdf\xa3": _matroska,
    b"caff": _core_audio,
    **dict.fromkeys((b".snd", b"dns."), _sun),
    b"NIST_1A": _sphere,
    b"Creative Voice File"[:16]: _creative_voice,
    b"MATLAB 5.0": _matlab5,
    **dict.fromkeys((struct.pack("<I", 0), struct.pack(">I", 1000)), _matlab4),
    b"2BIT": _counted(128, ">26xI", lambda header: (1 + header[13] % 2) * header[15] // 8),
    b"\x01\x04": _counted(42, "<26xI", lambda header: 2 * (1 + header[21])),
    b"ALawSoundFile**": _counted(32, ">18xI", lambda header: 1),
}
