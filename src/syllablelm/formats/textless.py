"""textless-lib (github.com/facebookresearch/textlesslib): units with durations in frames.

Two formats. `textless` is a jsonl of what its `SpeechEncoder` returns, {"units", "durations"}; "dense" and "f0" are
ignored. `textless-lines` is what its `transcribe.py` writes: OUT.units and OUT.durations, a line per recording, numbers
between blanks, after the recording's name and a tab if it was told to preserve names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import find_files, json_lines, text_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.form import Entry, Format, Unsaid
from syllablelm.formats.times import from_durations, int_list, parse_ints, to_durations
from syllablelm.formats.writer import JsonlWriter, RecordWriter, open_new

_LOSES = ("path", "hop and sample rate", "gaps (need a gap unit)")
_UNITS, _DURATIONS = ".units", ".durations"


class _RecordsWriter(JsonlWriter):
    name = "textless"
    keeps_grid = False
    needs_units = True

    def _record(self, id: str, path: str | Path, segmentation: Segmentation) -> dict[str, Any]:
        units, durations = to_durations(id, segmentation, self._unsaid.gap_unit)
        return {"name": id, "units": units.tolist(), "durations": durations.tolist()}


def _read_records(path: Path, unsaid: Unsaid) -> Iterator[Entry]:
    hop = unsaid.need_hop("textless")
    for file in find_files(path, TEXTLESS.suffixes):
        for number, (place, record) in enumerate(json_lines(file), start=1):
            try:
                units, durations = int_list(record, "units"), int_list(record, "durations")
                segmentation = from_durations(units, durations, hop, unsaid)
            except FormatError as error:
                raise FormatError(f"{place}: {error}") from error
            # The library's own dictionary has no name; those who wrote it to disk added one.
            names = [record[key] for key in ("name", "id", "file_name") if isinstance(record.get(key), str)]
            yield Entry(names[0] if names else f"{file.stem}-{number}", "", segmentation, place)


class _LinesWriter(RecordWriter):
    """PREFIX.units and PREFIX.durations; a prefix that ends in ".units" is taken without it."""

    name = "textless-lines"
    keeps_grid = False
    needs_units = True

    def _open(self, stack: ExitStack) -> None:
        if not isinstance(self._target, (str, Path)):
            raise InputError("the textless-lines format writes two files: give --out PREFIX")
        units, durations = _pair(Path(self._target))
        self._stream, self._durations = open_new(stack, units), open_new(stack, durations)

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        if not id or set(id) & set("\t\r\n"):
            raise InputError(f"{id!r} cannot stand in a line: an id needs letters, and no tab or line end")
        units, durations = to_durations(id, segmentation, self._unsaid.gap_unit)
        for stream, numbers in ((self._stream, units), (self._durations, durations)):
            stream.write(f"{id}\t{' '.join(map(str, numbers.tolist()))}\n")


def _pair(path: Path) -> tuple[Path, Path]:
    """The two files of a prefix, or of one of them."""
    prefix = path.with_suffix("") if path.suffix in (_UNITS, _DURATIONS) else path
    return prefix.with_name(prefix.name + _UNITS), prefix.with_name(prefix.name + _DURATIONS)


def _read_lines(path: Path, unsaid: Unsaid) -> Iterator[Entry]:
    hop = unsaid.need_hop("textless-lines")
    for file in find_files(path, (_UNITS,)):
        units_file, durations_file = _pair(file)
        if durations_file.is_file():
            pairs = zip_longest(text_lines(units_file), text_lines(durations_file))
        else:
            unsaid.need_unit_frames("textless-lines (without the .durations file)")
            pairs = ((line, None) for line in text_lines(units_file))
        for number, (units, durations) in enumerate(pairs, start=1):
            if units is None or (durations is None and durations_file.is_file()):
                raise FormatError(f"{units_file}:{number}: as many lines as in {durations_file.name} are needed")
            yield _entry(units, durations, f"{units_file.stem}-{number}", hop, unsaid)


def _entry(units: tuple[str, str], durations: tuple[str, str] | None, nameless: str, hop: int, unsaid: Unsaid) -> Entry:
    place, line = units
    name, numbers = _split(line)
    try:
        values = parse_ints(numbers)
        if durations is None:
            lengths = [unsaid.unit_frames or 1] * len(values)
        else:
            other, numbers = _split(durations[1])
            if other != name:
                raise FormatError(f"units of {name!r} beside durations of {other!r}")
            lengths = parse_ints(numbers)
        segmentation = from_durations(values, lengths, hop, unsaid)
    except FormatError as error:
        raise FormatError(f"{place}: {error}") from error
    return Entry(nameless if name is None else name, "", segmentation, place)


def _split(line: str) -> tuple[str | None, str]:
    """Name and numbers of a line; None where names were not preserved."""
    name, tab, numbers = line.partition("\t")
    return (name, numbers) if tab else (None, line)


TEXTLESS = Format(
    "textless", (".jsonl",), _read_records, _RecordsWriter, loses=_LOSES, keys=frozenset({"units", "durations"})
)
TEXTLESS_LINES = Format("textless-lines", (_UNITS, _DURATIONS), _read_lines, _LinesWriter, loses=_LOSES)
