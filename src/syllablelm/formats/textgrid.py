"""TextGrid, for Praat: a folder of files with one tier each, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import FormatError, InputError, import_optional
from syllablelm.core.files import find_files, id_below
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats.format import Entry, FolderWriter, FormatOptions
from syllablelm.formats.times import whole_frames

TIER = "units"
# Label of a segment without a unit: an empty label would be a gap.
NO_UNIT = "-"


class Writer(FolderWriter):
    """Writer of ``textgrid``."""

    def _open(self, stack: ExitStack) -> None:
        self._textgrid = import_textgrid()
        super()._open(stack)

    def _write_file(self, file: Path, id: str, segmentation: Segmentation) -> None:
        if segmentation.num_frames == 0:
            raise InputError(f"{id}: a TextGrid cannot hold a recording of no frames")
        labels = [NO_UNIT] * len(segmentation) if segmentation.unit is None else map(str, segmentation.unit.tolist())
        entries = [
            (start, end, label) for (start, end), label in zip(segmentation.seconds.tolist(), labels, strict=True)
        ]
        grid = self._textgrid.Textgrid()
        grid.addTier(self._textgrid.IntervalTier(TIER, entries, minT=0.0, maxT=segmentation.duration))
        grid.save(str(file), format="long_textgrid", includeBlankSpaces=True)


def read(path: Path, options: FormatOptions) -> Iterator[Entry]:
    """Read ``textgrid``."""
    hop = options.need_hop("TextGrid")
    for file in find_files(path, (".TextGrid",)):
        yield Entry(id_below(path, file), "", _read_file(file, hop, options.sample_rate), str(file))


def _read_file(file: Path, hop: int, sample_rate: int) -> Segmentation:
    textgrid = import_textgrid()
    from praatio.utilities.errors import PraatioException

    try:
        grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=False)
    # praatio lets the errors of its own parsing through.
    except (PraatioException, ValueError, IndexError, UnicodeError) as error:
        raise FormatError(f"{file}: not a readable TextGrid ({error})") from error
    if TIER not in grid.tierNames:
        raise FormatError(f"{file}: no tier called {TIER!r}, only {', '.join(grid.tierNames) or 'none'}")
    entries = grid.getTier(TIER).entries
    labels = [entry.label for entry in entries]
    try:
        return Segmentation(
            start=whole_frames([entry.start for entry in entries], hop, sample_rate),
            end=whole_frames([entry.end for entry in entries], hop, sample_rate),
            unit=None if labels and set(labels) == {NO_UNIT} else np.array([int(x) for x in labels], dtype=np.int32),
            num_frames=int(whole_frames(grid.maxTimestamp, hop, sample_rate)),
            hop=hop,
            sample_rate=sample_rate,
        )
    except (InputError, FormatError, ValueError, OverflowError) as error:
        raise FormatError(f"{file}: tier {TIER!r} does not hold units at {sample_rate / hop:g} Hz: {error}") from error


def import_textgrid() -> Any:
    """Return praatio's module, or raise MissingDependencyError."""
    import_optional("praatio", "TextGrid needs praatio", "praatio")
    from praatio import textgrid

    return textgrid
