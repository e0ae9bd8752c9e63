"""DiscoPhon (github.com/bootphon/discophon): a jsonl record of `file` and `units`, one unit for every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, located
from syllablelm.core.files import find_files, json_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FormatOptions
from syllablelm.formats.times import from_frames, int_list, to_frames


def record_of(id: str, path: str | Path, segmentation: Segmentation, options: FormatOptions) -> dict[str, Any]:
    """Return the record of a recording."""
    return {"file": id, "units": to_frames(id, segmentation, options.gap_unit, "discophon")}


def read(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``discophon``."""
    hop = options.need_hop("discophon")
    for file in find_files(path, (".jsonl",)):
        for place, record in json_lines(file):
            with located(place):
                segmentation = from_frames(int_list(record, "units"), hop, options)
                if not isinstance(record.get("file"), str):
                    raise FormatError("'file' must be a string")
            yield Entry(record["file"], "", segmentation, place)
