"""The records of `tokenize`, and the jsonl of them: frames, exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import find_files, json_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.form import Entry, Format, Unsaid
from syllablelm.formats.writer import JsonlWriter

KEYS = ("id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end")


def to_record(id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]:
    """Turn a segmentation into the record of the JSONL format (plain Python values; frames, not seconds).

    Args:
        id: name of the recording, unique in its file.
        path: where its audio is.
        segmentation: its segments; without units, "unit" is None.
    """
    return {
        "id": str(id),
        "path": str(path),
        "sample_rate": segmentation.sample_rate,
        "hop": segmentation.hop,
        "num_frames": segmentation.num_frames,
        "unit": None if segmentation.unit is None else segmentation.unit.tolist(),
        "start": segmentation.start.tolist(),
        "end": segmentation.end.tolist(),
    }


def from_record(record: Mapping[str, Any]) -> Segmentation:
    """Rebuild the segmentation of a record; other keys than the format's are ignored.

    Raises:
        FormatError: a key is missing, a value is of the wrong kind, or the segments are unsorted, overlap or leave
            the recording.
    """
    if not isinstance(record, Mapping):
        raise FormatError(f"a record must be an object with keys {', '.join(KEYS)}, not {type(record).__name__}")
    name = f"record {record['id']!r}" if "id" in record else "record without id"
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise FormatError(f"{name}: missing {', '.join(missing)}")
    for key in ("id", "path"):
        if not isinstance(record[key], str):
            raise FormatError(f"{name}: {key} must be a string, not {record[key]!r}")
    for key in ("sample_rate", "hop", "num_frames"):
        if not _is_int(record[key]):
            raise FormatError(f"{name}: {key} must be an integer, not {record[key]!r}")
    for key in ("unit", "start", "end"):
        values = record[key]
        if key == "unit" and values is None:
            continue
        if not isinstance(values, list) or not all(_is_int(value) for value in values):
            raise FormatError(f"{name}: {key} must be a list of integers{' or null' if key == 'unit' else ''}")
        if values and not -(2**31) <= min(values) <= max(values) < 2**31:
            raise FormatError(f"{name}: {key} holds a number that does not fit 32 bits")
    try:
        return Segmentation(
            start=np.array(record["start"], dtype=np.int32),
            end=np.array(record["end"], dtype=np.int32),
            unit=None if record["unit"] is None else np.array(record["unit"], dtype=np.int32),
            num_frames=record["num_frames"],
            hop=record["hop"],
            sample_rate=record["sample_rate"],
        )
    except InputError as error:
        raise FormatError(f"{name}: {error}") from error


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def entry_of(place: str, record: Any) -> Entry:
    """The entry of a record that was read somewhere.

    Raises:
        FormatError: see `from_record`; the message begins with the place.
    """
    try:
        segmentation = from_record(record)
    except FormatError as error:
        raise FormatError(f"{place}: {error}") from error
    return Entry(record["id"], record["path"], segmentation, place)


def _read(path: Path, unsaid: Unsaid) -> Iterator[Entry]:
    for file in find_files(path, JSONL.suffixes):
        for place, record in json_lines(file):
            yield entry_of(place, record)


class _Writer(JsonlWriter):
    name = "jsonl"

    def _record(self, id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]:
        return to_record(id, path, segmentation)


JSONL = Format("jsonl", (".jsonl",), _read, _Writer, keys=frozenset({"unit", "start", "end"}))
