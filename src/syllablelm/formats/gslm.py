"""GSLM (fairseq, examples/textless_nlp/gslm): `name|unit unit ...`, one unit for every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import find_files, text_lines
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.form import Entry, Format, Unsaid
from syllablelm.formats.times import from_durations, parse_ints, to_durations
from syllablelm.formats.writer import RecordWriter


class _Writer(RecordWriter):
    name = "gslm"
    keeps_grid = False
    needs_units = True

    def _write(self, id: str, path: str | Path, segmentation: Segmentation) -> None:
        if not id or set(id) & set("|\r\n"):
            raise InputError(f"{id!r} cannot stand in a line: an id needs letters, and no '|' or line end")
        units, durations = to_durations(id, segmentation, self._unsaid.gap_unit)
        same = np.flatnonzero(units[1:] == units[:-1])
        if len(same):
            raise InputError(
                f"{id}: the boundary at frame {np.cumsum(durations)[same[0]]} is between two segments of one unit, "
                "where gslm files cannot hold it: join them by --merge-repeats"
            )
        frames = np.repeat(units, durations)
        self._stream.write(f"{id}|{' '.join(map(str, frames.tolist()))}\n")


def _read(path: Path, unsaid: Unsaid) -> Iterator[Entry]:
    hop = unsaid.need_hop("gslm")
    for file in find_files(path, GSLM.suffixes):
        for number, (place, line) in enumerate(text_lines(file), start=1):
            name, bar, numbers = line.rpartition("|")
            try:
                frames = parse_ints(numbers)
                segmentation = from_durations(frames, [1] * len(frames), hop, unsaid).merge_repeats()
            except FormatError as error:
                raise FormatError(f"{place}: {error}") from error
            yield Entry(name if bar else f"{file.stem}-{number}", "", segmentation, place)


GSLM = Format(
    "gslm",
    (".txt",),
    _read,
    _Writer,
    loses=(
        "path",
        "hop and sample rate",
        "gaps (need a gap unit)",
        "boundaries between segments of one unit (must be merged first)",
    ),
)
