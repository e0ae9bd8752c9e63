"""Ogg: the links of a file, and whether any of its pages is damaged or missing, from its pages alone."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from syllablelm.core.errors import AudioError
from syllablelm.data.containers import COPY_AGAIN, Layout, Part

_FIRST, _LAST = 2, 4  # flags of a page
# Ogg's checksum is zlib's of the same polynomial with every byte and the result mirrored, from another start value.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_layout(raw: BinaryIO, size: int, name: str) -> Layout:
    """Walk the pages of an Ogg file; each link (a recording of a chain) is a part.

    A damaged, incomplete or missing page is an AudioError, for times after it would be shifted; a link without an end
    mark is a warning.
    """
    links = [0]
    numbers: dict[int, tuple[int, int]] = {}  # of the last page of each stream of the link: number, granule position
    open_streams: set[int] = set()
    warnings: list[str] = []
    in_data = False
    at = 0
    while at < size:
        raw.seek(at)
        head = raw.read(27)
        if head[:4] != b"OggS"[: len(head)]:
            if not open_streams and not _has_page(raw, at):
                warnings.append(f"{size - at} bytes after its last page are left out")
                break
            raise AudioError(f"{name}: is damaged at byte {at}, where a page should begin; {COPY_AGAIN}")
        table = raw.read(head[26]) if len(head) == 27 else b""
        body = raw.read(sum(table))
        missing = 27 + (head[26] if len(head) == 27 else 0) + sum(table) - len(head) - len(table) - len(body)
        if missing:
            raise AudioError(f"{name}: is truncated, {missing} bytes of its data are missing; {COPY_AGAIN}")
        flags, granule, stream, number, checksum = struct.unpack("<5xBqIII", head[:26])
        if _checksum(head[:22] + bytes(4) + head[26:] + table + body) != checksum:
            raise AudioError(f"{name}: is damaged, the page at byte {at} has a wrong checksum; {COPY_AGAIN}")
        if flags & _FIRST:
            if in_data:
                if open_streams:
                    warnings.append(f"has no end mark before byte {at}: cut at a page, or its recorder was stopped")
                links.append(at)
                numbers, open_streams, in_data = {}, set(), False
            open_streams.add(stream)
        else:
            in_data = True
            last, position = numbers.get(stream, (number - 1, 0))
            # A recorder that joins a broadcast stores the headers (position 0), then the pages of now.
            if number != (last + 1) % (1 << 32) and position != 0:
                raise AudioError(
                    f"{name}: is damaged, {max(number - last - 1, 1)} pages are missing at byte {at}; {COPY_AGAIN}"
                )
        numbers[stream] = number, granule
        if flags & _LAST:
            open_streams.discard(stream)
        at += 27 + len(table) + len(body)
    if open_streams:
        warnings.append("has no end mark: cut at a page, or its recorder was stopped; read to its end")
    stops = [*links[1:], at]
    return Layout(tuple(Part(*span) for span in zip(links, stops, strict=True)), tuple(warnings))


def _has_page(raw: BinaryIO, at: int) -> bool:
    raw.seek(at)
    tail = b""
    while block := raw.read(1 << 20):
        if b"OggS" in tail + block:
            return True
        tail = block[-3:]
    return False


def _checksum(page: bytes) -> int:
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
