"""GSLM (fairseq, examples/textless_nlp/gslm): `name|unit unit ...`, one unit for every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from syllablelm.core.errors import InputError, located
from syllablelm.core.files import find_files, text_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FormatOptions
from syllablelm.formats.times import from_frames, parse_ints, to_frames


def line_of(id: str, path: str | Path, segmentation: Segmentation, options: FormatOptions) -> str:
    """Return the line of a recording."""
    if not id or set(id) & set("|\r\n"):
        raise InputError(f"{id!r} cannot stand in a line: an id needs letters, and no '|' or line end")
    return f"{id}|{' '.join(map(str, to_frames(id, segmentation, options.gap_unit, 'gslm')))}"


def read(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``gslm``."""
    hop = options.need_hop("gslm")
    for file in find_files(path, (".txt",)):
        for number, (place, line) in enumerate(text_lines(file), start=1):
            name, bar, numbers = line.rpartition("|")
            with located(place):
                segmentation = from_frames(parse_ints(numbers), hop, options)
            yield Entry(name if bar else f"{file.stem}-{number}", "", segmentation, place)
