"""Conversion of files of units from one format to another, one recording at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.errors import FormatError, located
from syllablelm.core.results import Record, json_key
from syllablelm.formats import FORMATS, FormatOptions, detect_format, open_writer, read_entries, unit_files


@dataclass(frozen=True, kw_only=True)
class UnitsConversion(Record):
    """Result of `convert_units`: formats, counts, the frame grids (hop, sample rate) that occur, and what is lost."""

    source_format: str = json_key("from")
    to: str
    recordings: int
    segments: int
    grids: tuple[tuple[int, int], ...]
    loses: tuple[str, ...]


def convert_units(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    format: str | None = None,
    options: FormatOptions | None = None,
    deduplicate: bool = False,
) -> UnitsConversion:
    """Write the units of a file or a folder in another format; the output appears complete or not at all.

    Args:
        source, format: a file, or a folder of files of one format; None detects it by suffix and content.
        out, to: file, folder (textgrid, sdhubert) or prefix (textless-lines) to write, and its format.
        options: properties that foreign formats do not hold.
        deduplicate: join touching segments of equal units.

    Raises:
        FormatError: unreadable input, or a recording that the output's format would change; file and line are named.
    """
    format = detect_format(source) if format is None else format
    recordings, segments, grids = 0, 0, set[tuple[int, int]]()
    with open_writer(out, to, options, inputs=unit_files(source, format)) as writer:
        for entry in read_entries(source, format, options):
            with located(entry.place):
                segmentation = entry.segmentation.deduplicate() if deduplicate else entry.segmentation
                writer.write(entry.id, entry.path, segmentation)
            recordings, segments = recordings + 1, segments + len(segmentation)
            grids.add((segmentation.hop, segmentation.sample_rate))
        if not recordings:
            raise FormatError(f"{source}: holds no recording")
    counts = {"recordings": recordings, "segments": segments}
    return UnitsConversion(source_format=format, to=to, **counts, grids=tuple(sorted(grids)), loses=FORMATS[to].loses)
