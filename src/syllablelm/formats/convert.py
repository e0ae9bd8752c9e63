"""Files of units from one format to another, one recording at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError
from syllablelm.formats import FORMATS, Unsaid, detect_format, open_writer, read_entries


def convert_units(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    format: str | None = None,
    unsaid: Unsaid | None = None,
    merge_repeats: bool = False,
) -> dict[str, Any]:
    """Write the units of a file or a folder in another format; the output appears complete or not at all.

    Args:
        source: a file, or a folder of files of one format.
        out: file, folder (textgrid, sdhubert) or prefix (textless-lines) to write.
        to: format of the output, a name of the registry.
        format: format of the source; None tells it by suffix and content.
        unsaid: what foreign formats leave out.
        merge_repeats: join segments that touch and carry the same unit.

    Returns:
        the formats, the counts of recordings and segments, the frame grids ([hop, sample_rate]), and what the output's
        format does not hold.

    Raises:
        FormatError: unreadable input, or a recording that the output's format would change; file and line are named.
        InputError: unknown format, an output that cannot be written, or something that a format must be told.
    """
    unsaid = unsaid or Unsaid()
    format = detect_format(source) if format is None else format
    if Path(out).exists() and Path(out).samefile(source):
        raise InputError(f"{out} is the input itself: choose another --out")
    recordings, segments, grids = 0, 0, set()
    with open_writer(out, to, unsaid) as writer:
        for entry in read_entries(source, format, unsaid):
            segmentation = entry.segmentation
            try:
                if merge_repeats:
                    segmentation = segmentation.merge_repeats()
                writer.write(entry.id, entry.path, segmentation)
            except InputError as error:
                raise FormatError(f"{entry.place}: {error}") from None
            recordings, segments = recordings + 1, segments + len(segmentation)
            grids.add((segmentation.hop, segmentation.sample_rate))
        if not recordings:
            raise FormatError(f"{source}: holds no recording")
    return {
        "from": format,
        "to": to,
        "recordings": recordings,
        "segments": segments,
        "grids": [list(grid) for grid in sorted(grids)],
        "loses": list(FORMATS[to].loses),
    }
