"""TextGrid, for Praat: a folder of files with one tier each, in seconds; and the reader of anybody's TextGrids."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from syllablelm.core.errors import FormatError, InputError, import_optional
from syllablelm.core.files import find_files, id_below, read_each
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

    def entries(file: Path) -> Iterator[Entry]:
        yield Entry(id_below(path, file), "", _read_units(file, hop, options.sample_rate), str(file))

    yield from read_each(path, find_files(path, (".TextGrid",)), entries)


def _read_units(file: Path, hop: int, sample_rate: int) -> Segmentation:
    grid = read_textgrid(file)
    tier = next((tier for tier in grid.tiers if tier.name == TIER and tier.intervals is not None), None)
    if tier is None or tier.intervals is None:
        names = ", ".join(tier.name for tier in grid.tiers)
        raise FormatError(f"{file}: no tier called {TIER!r}, only {names or 'none'}")
    intervals = [interval for interval in tier.intervals if interval.label]
    labels = [interval.label for interval in intervals]
    try:
        return Segmentation(
            start=whole_frames([interval.start for interval in intervals], hop, sample_rate),
            end=whole_frames([interval.end for interval in intervals], hop, sample_rate),
            unit=None if labels and set(labels) == {NO_UNIT} else np.array([int(x) for x in labels], dtype=np.int32),
            num_frames=int(whole_frames(grid.end, hop, sample_rate)),
            hop=hop,
            sample_rate=sample_rate,
        )
    except (InputError, FormatError, ValueError, OverflowError) as error:
        raise FormatError(f"{file}: tier {TIER!r} does not hold units at {sample_rate / hop:g} Hz: {error}") from error


class TierInterval(NamedTuple):
    """An interval of a tier, in seconds; the label has no blanks around it."""

    start: float
    end: float
    label: str


class Tier(NamedTuple):
    """A tier of a TextGrid; a tier of points has no intervals."""

    name: str
    intervals: list[TierInterval] | None


class TextGrid(NamedTuple):
    """The end of a TextGrid in seconds, and its tiers."""

    end: float
    tiers: list[Tier]


# As Praat reads text files: strings, flags, and numbers that stand free count, all else explains them to people. So one
# grammar covers the long and the short format.
_TOKEN = re.compile(
    r'"(?P<string>(?:[^"]|"")*)"|<(?P<flag>exists|absent)>|!.*'
    r"|(?<!\S)(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)"
)
# Sums of rounded durations miss zero by so much.
_ZERO = 1e-9


def read_textgrid(file: Path) -> TextGrid:
    """Read a TextGrid of the long or the short text format; a FormatError names file and line."""
    text = _decode(file)
    matches = _TOKEN.finditer(text)

    def take(kind: str, what: str) -> str:
        match = next((match for match in matches if match.lastgroup), None)
        if match is None:
            raise FormatError(f"{file}: not a readable TextGrid (it ends before {what}); write it again")
        if match.lastgroup != kind:
            line = text.count("\n", 0, match.start()) + 1
            raise FormatError(f"{file}:{line}: not a readable TextGrid ({match[0][:40]} instead of {what})")
        return match[kind]

    def time(what: str) -> float:
        value = float(take("number", what))
        return 0.0 if abs(value) < _ZERO else value

    kinds = [match["string"] for _, match in zip(range(2), matches, strict=False)]
    if kinds[:1] not in (["ooTextFile"], ["ooTextFile short"]) or kinds[1:] != ["TextGrid"]:
        raise FormatError(f"{file}: not a readable TextGrid; save it in Praat as a text file")
    time("the start")
    end = time("the end")
    if take("flag", "<exists>") == "absent":
        return TextGrid(end, [])
    tiers: list[Tier] = []
    for _ in range(_whole(take("number", "the number of tiers"))):
        has_intervals = take("string", "the class of a tier") == "IntervalTier"
        name = take("string", "the name of a tier").replace('""', '"')
        times = [time("the start of a tier"), time("the end of a tier")]
        intervals: list[TierInterval] = []
        for _ in range(_whole(take("number", f"the length of tier {name!r}"))):
            times = [time("a time") for _ in range(2 if has_intervals else 1)]
            label = take("string", "a label").replace('""', '"').strip()
            intervals.append(TierInterval(times[0], times[-1], label))
        tiers.append(Tier(name, intervals if has_intervals else None))
    return TextGrid(end, tiers)


def _whole(number: str) -> int:
    # A number that promises too much ends with the file.
    return int(min(float(number), 1e9))


def _decode(file: Path) -> str:
    try:
        data = file.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise FormatError(f"{file}: cannot be read ({error.strerror}); check the name") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FormatError(f"{file}:{line}: not a text in {error.encoding.upper()}; save it as UTF-8") from None


def import_textgrid() -> Any:
    """Return praatio's module, or raise MissingDependencyError."""
    import_optional("praatio", "TextGrid needs praatio", "'syllablelm[textgrid]'")
    from praatio import textgrid

    return textgrid
