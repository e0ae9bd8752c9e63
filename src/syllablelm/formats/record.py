"""The records of `tokenize` and their jsonl: frames, exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, located
from syllablelm.core.files import find_files, json_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FormatOptions
from syllablelm.formats.times import int_array

KEYS = ("id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end")


def to_record(id: str, path: str | Path, segmentation: Segmentation, *_: FormatOptions) -> dict[str, Any]:
    """Return the record of a recording (plain Python values; frames, not seconds); "unit" is None without units."""
    return {"id": str(id), "path": str(path), **segmentation.to_dict()}


def from_record(record: Mapping[str, Any]) -> Segmentation:
    """Return the segmentation of a record; FormatError if it is invalid. Unknown keys are ignored."""
    if not isinstance(record, Mapping):
        raise FormatError(f"a record must be an object with keys {', '.join(KEYS)}, not {type(record).__name__}")
    with located(f"record {record['id']!r}" if "id" in record else "record without id"):
        missing = [key for key in KEYS if key not in record]
        if missing:
            raise FormatError(f"missing {', '.join(missing)}")
        for key in ("id", "path"):
            if not isinstance(record[key], str):
                raise FormatError(f"{key} must be a string, not {record[key]!r}")
        for key in ("sample_rate", "hop", "num_frames"):
            if not isinstance(record[key], int) or isinstance(record[key], bool):
                raise FormatError(f"{key} must be an integer, not {record[key]!r}")
        return Segmentation(
            start=int_array(record["start"], "start"),
            end=int_array(record["end"], "end"),
            unit=None if record["unit"] is None else int_array(record["unit"], "unit", or_null=True),
            num_frames=record["num_frames"],
            hop=record["hop"],
            sample_rate=record["sample_rate"],
        )


def entry_of(place: str, record: Any) -> Entry:
    """Return the entry of a record; the place begins the message of a FormatError."""
    with located(place):
        segmentation = from_record(record)
    return Entry(record["id"], record["path"], segmentation, place)


def read(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``jsonl``."""
    for file in find_files(path, (".jsonl",)):
        for place, record in json_lines(file):
            yield entry_of(place, record)
