"""textless-lib (github.com/facebookresearch/textlesslib): units with durations in frames.

Two formats. `textless` is a jsonl of what its `SpeechEncoder` returns, {"units", "durations"}; "dense" and "f0" are
ignored. `textless-lines` is what its `transcribe.py` writes: OUT.units and OUT.durations, a line per recording, numbers
between blanks, after the recording's name and a tab where names were preserved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError, located
from syllablelm.core.files import find_files, json_lines, text_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FormatOptions, RecordWriter
from syllablelm.formats.times import from_durations, int_list, parse_ints, to_durations

_UNITS, _DURATIONS = ".units", ".durations"


def record_of(id: str, path: str | Path, segmentation: Segmentation, options: FormatOptions) -> dict[str, Any]:
    """Return the record of ``textless``."""
    units, durations = to_durations(id, segmentation, options.gap_unit)
    return {"name": id, "units": units.tolist(), "durations": durations.tolist()}


def read_records(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``textless``."""
    hop = options.need_hop("textless")
    for file in find_files(path, (".jsonl",)):
        for number, (place, record) in enumerate(json_lines(file), start=1):
            with located(place):
                units, durations = int_list(record, "units"), int_list(record, "durations")
                segmentation = from_durations(units, durations, hop, options)
            # The library's own dictionary has no name; programs that write it to disk add one.
            names = [record[key] for key in ("name", "id", "file_name") if isinstance(record.get(key), str)]
            yield Entry(names[0] if names else f"{file.stem}-{number}", "", segmentation, place)


class LinesWriter(RecordWriter):
    """Writer of ``textless-lines``: PREFIX.units and PREFIX.durations; either suffix of the prefix is dropped."""

    def _open(self, stack: ExitStack) -> None:
        if not isinstance(self._target, (str, Path)):
            raise InputError("the textless-lines format writes two files: give --out PREFIX")
        units, durations = _pair(Path(self._target))
        self._stream, self._durations = self._open_new(stack, units), self._open_new(stack, durations)

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        if not id or set(id) & set("\t\r\n"):
            raise InputError(f"{id!r} cannot stand in a line: an id needs letters, and no tab or line end")
        units, durations = to_durations(id, segmentation, self._options.gap_unit)
        for stream, numbers in ((self._stream, units), (self._durations, durations)):
            stream.write(f"{id}\t{' '.join(map(str, numbers.tolist()))}\n")


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the two files of a prefix, or of one of them."""
    prefix = path.with_suffix("") if path.suffix in (_UNITS, _DURATIONS) else path
    return prefix.with_name(prefix.name + _UNITS), prefix.with_name(prefix.name + _DURATIONS)


def read_lines(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``textless-lines``."""
    hop = options.need_hop("textless-lines")
    for file in find_files(path, (_UNITS,)):
        units_file, durations_file = _pair(file)
        if durations_file.is_file():
            pairs = zip_longest(text_lines(units_file), text_lines(durations_file))
        else:
            options.need_unit_frames("textless-lines (without the .durations file)")
            pairs = ((line, None) for line in text_lines(units_file))
        for number, (units, durations) in enumerate(pairs, start=1):
            if units is None or (durations is None and durations_file.is_file()):
                raise FormatError(f"{units_file}:{number}: as many lines as in {durations_file.name} are needed")
            yield _entry(units, durations, f"{units_file.stem}-{number}", hop, options)


def _entry(
    units: tuple[str, str], durations: tuple[str, str] | None, nameless: str, hop: int, options: FormatOptions
) -> Entry:
    place, line = units
    name, numbers = _split(line)
    with located(place):
        values = parse_ints(numbers)
        if durations is None:
            lengths = [options.unit_frames or 1] * len(values)
        else:
            other, numbers = _split(durations[1])
            if other != name:
                raise FormatError(f"units of {name!r} beside durations of {other!r}")
            lengths = parse_ints(numbers)
        segmentation = from_durations(values, lengths, hop, options)
    return Entry(nameless if name is None else name, "", segmentation, place)


def _split(line: str) -> tuple[str | None, str]:
    """Return name and numbers of a line; None where names were not preserved."""
    name, tab, numbers = line.partition("\t")
    return (name, numbers) if tab else (None, line)
