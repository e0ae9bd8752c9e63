"""SlamKit (github.com/slp-rl/slamkit): the features jsonl of its `extract_features`, the tokens of `prepare_tokens`.

A line of the first has units, duration (frames of each unit) and file_name; a line of the second has file_name and
audio_repr, a string "<Un7><Un0>..." without times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from syllablelm.core.errors import FormatError, located
from syllablelm.core.files import find_files, json_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FormatOptions
from syllablelm.formats.times import from_durations, int_list, to_durations

_TOKENS = re.compile(r"(?:<Un[0-9]{1,10}>)*")


def features_of(id: str, path: str | Path, segmentation: Segmentation, options: FormatOptions) -> dict[str, Any]:
    """Return the record of ``slamkit``."""
    units, durations = to_durations(id, segmentation, options.gap_unit)
    return {"units": units.tolist(), "duration": durations.tolist(), "file_name": str(path) or id}


def tokens_of(id: str, path: str | Path, segmentation: Segmentation, options: FormatOptions) -> dict[str, Any]:
    """Return the record of ``slamkit-tokens``."""
    # The format has no times, so gaps are lost unless a unit stands for them.
    units = segmentation.unit
    if units is None or options.gap_unit is not None:
        units, _ = to_durations(id, segmentation, options.gap_unit)
    return {"file_name": str(path) or id, "audio_repr": "".join(f"<Un{unit}>" for unit in units.tolist())}


def read_features(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``slamkit``."""
    hop = options.need_hop("slamkit")
    for place, id, record in _records(path):
        with located(place):
            segmentation = from_durations(int_list(record, "units"), int_list(record, "duration"), hop, options)
        yield Entry(id, record["file_name"], segmentation, place)


def read_tokens(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``slamkit-tokens``."""
    hop, frames = options.need_hop("slamkit-tokens"), options.need_unit_frames("slamkit-tokens")
    for place, id, record in _records(path):
        text = record.get("audio_repr")
        if not isinstance(text, str) or not _TOKENS.fullmatch(text):
            raise FormatError(f"{place}: 'audio_repr' must be a string of <Un...> tokens and nothing else")
        units = [int(unit) for unit in re.findall("[0-9]+", text)]
        with located(place):
            segmentation = from_durations(units, [frames] * len(units), hop, options)
        yield Entry(id, record["file_name"], segmentation, place)


def _records(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place, id and content of every record.

    The id is the audio file's name without suffix, and without folder where the ids are unique nevertheless.
    """
    files = find_files(path, (".jsonl",))
    # Read twice, because a corpus does not fit into memory.
    names = {_file_name(place, record) for file in files for place, record in json_lines(file)}
    unique = len({PurePosixPath(name).stem for name in names}) == len(names)
    for file in files:
        for place, record in json_lines(file):
            name = PurePosixPath(record["file_name"])
            yield place, name.stem if unique else name.with_suffix("").as_posix(), record


def _file_name(place: str, record: Any) -> str:
    name = record.get("file_name") if isinstance(record, dict) else None
    if not isinstance(name, str) or not PurePosixPath(name).name:
        raise FormatError(f"{place}: a record must be an object in which 'file_name' names an audio file")
    return name
