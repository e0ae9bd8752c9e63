"""Reference annotation (words, phones, syllables in seconds), read from TextGrid, ctm and jsonl, written as jsonl.

The jsonl has one row per recording, `{"id", "duration", "missing", "words": [{"word", "start", "end", "conf",
"phones": [[label, start, end], ...]}, ...]}`; only id, duration and words are required. Silences are not kept in
memory: they are the time that no word covers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError, and_more, located
from syllablelm.core.files import json_objects, note_skipped, text_lines, walk_files, write_json_lines
from syllablelm.data.syllables import Interval, syllable_intervals
from syllablelm.formats.textgrid import read_textgrid

__all__ = [
    "Alignment",
    "AlignmentTable",
    "Interval",
    "Level",
    "Word",
    "is_silence",
    "read_alignments",
    "write_alignments",
]

Level = Literal["syllable", "phone", "word"]

SILENCES = frozenset({"", "sil", "sp", "spn", "pau", "<eps>"})
# Aligners write times rounded to 1-10 ms: smaller overlaps are rounding, larger ones are faults.
TOLERANCE = 1e-3
# The last interval may be rounded up to the aligner's frame, past the end of the recording.
END_TOLERANCE = 0.025


def is_silence(label: str) -> bool:
    """Return whether a label stands for silence or noise: SIL, sil, sp, spn, pau, <eps> or empty."""
    return label.strip().lower() in SILENCES


@dataclass(frozen=True)
class Word:
    """A word with its phones, in seconds; `phones` is empty where they are unknown (an out-of-vocabulary word)."""

    label: str
    start: float
    end: float
    phones: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Alignment:
    """Words, in order and without silences, and phones of one recording of `duration` seconds.

    Raises:
        FormatError: intervals are unsorted, overlap or leave their word by more than 1 ms, end before they start, or
            leave the recording by more than 25 ms.
    """

    id: str
    duration: float
    words: tuple[Word, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration >= 0):
            raise FormatError(f"alignment of {self.id}: duration is {self.duration}")
        _check("word", self.id, self.words, 0.0, self.duration + END_TOLERANCE)
        for word in self.words:
            _check(f"phone of {word.label!r}", self.id, word.phones, word.start, word.end)

    @cached_property
    def phones(self) -> tuple[Interval, ...]:
        """The phones in order, without silences."""
        return tuple(phone for word in self.words for phone in word.phones if not is_silence(phone.label))

    @cached_property
    def syllables(self) -> tuple[Interval, ...]:
        """The syllables in order (maximal onset within each word); FormatError if a phone is not ARPAbet."""
        syllables: list[Interval] = []
        for word in self.words:
            try:
                syllables += syllable_intervals([phone for phone in word.phones if not is_silence(phone.label)])
            except InputError as error:
                raise FormatError(f"alignment of {self.id}, word {word.label!r}: {error}") from error
        return tuple(syllables)

    def intervals(self, level: Level = "syllable") -> tuple[Interval, ...]:
        """Return the intervals of one level: "syllable", "phone" or "word"."""
        if level == "word":
            return tuple(Interval(one.label, one.start, one.end) for one in self.words if not is_silence(one.label))
        if level in ("phone", "syllable"):
            return self.phones if level == "phone" else self.syllables
        raise InputError(f"unknown alignment level {level!r}; choose syllable, phone or word")

    def boundaries(self, level: Level = "syllable") -> npt.NDArray[np.float64]:
        """Return sorted unique starts and ends of one level in seconds; times within 1 ms count once."""
        intervals = self.intervals(level)
        return _distinct([time for interval in intervals for time in (interval.start, interval.end)])

    def starts(self, level: Level = "syllable") -> npt.NDArray[np.float64]:
        """Return sorted starts of one level in seconds; times within 1 ms count once."""
        return _distinct([interval.start for interval in self.intervals(level)])


class AlignmentTable(dict[str, Alignment]):
    """Alignments by recording id; `unusable` has the faults of those that cannot be used, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.unusable: dict[str, FormatError] = {}

    def leave_out(self, path: Path, levels: Sequence[Level]) -> None:
        """Leave out, and name on standard error, alignments with a fault at some level; FormatError if none is left.

        In a folder of one file each, it is a fault to have no interval there.
        """
        total, faults = len(self), dict[str, FormatError]()
        for id, alignment in self.items():
            for level in levels:
                try:
                    if not alignment.intervals(level) and path.is_dir():
                        faults[id] = FormatError(f"{path}: alignment of {id}: it has no {level}")
                except FormatError as error:
                    faults[id] = FormatError(f"{path}: {error}")
        if faults and len(faults) == total:
            raise next(iter(faults.values()))
        for id in faults:
            del self[id]
        self.unusable |= faults
        note_skipped(path, "alignment", list(map(str, faults.values())), total)


# What a reader found: id, place and alignment, or its fault.
_Found = Iterator[tuple[str, str, Alignment | FormatError]]


def _distinct(times: Iterable[float]) -> npt.NDArray[np.float64]:
    distinct: list[float] = []
    for time in sorted(times):
        if not distinct or time - distinct[-1] >= TOLERANCE:
            distinct.append(time)
    return np.array(distinct, dtype=np.float64)


def _check(kind: str, name: str, intervals: Sequence[Interval | Word], low: float, high: float) -> None:
    """Raise FormatError, naming the interval, unless the intervals are sorted, disjoint and within [low, high]."""
    previous = Interval("", low, low)
    for interval in intervals:
        where = f"alignment of {name}: {kind} {_show(interval)}"
        if not (math.isfinite(interval.start) and math.isfinite(interval.end)):
            raise FormatError(f"{where} has a time that is not a number")
        if interval.end < interval.start:
            raise FormatError(f"{where} ends before it starts")
        if interval.start < low - TOLERANCE or interval.end > high + TOLERANCE:
            raise FormatError(f"{where} lies outside of {low:.3f}-{high:.3f} s")
        if interval.start < previous.end - TOLERANCE:
            raise FormatError(f"{where} overlaps {_show(previous)}; intervals must be sorted and disjoint")
        previous = interval


def _show(interval: Interval | Word) -> str:
    return f"{interval.label!r} {interval.start:.3f}-{interval.end:.3f}"


def read_alignments(path: str | PathLike[str] | tuple[str | PathLike[str], str | PathLike[str]]) -> AlignmentTable:
    """Return the alignments of a corpus by recording id; those with faults are left out and named on standard error.

    Args:
        path: one of
            - a `.jsonl` file (see the module's docstring);
            - a `.TextGrid` file, or a folder searched for them at any depth (Montreal Forced Aligner and
              LibriSpeech-alignments layouts): tiers "words" and "phones", the id is the file's stem;
            - a phone `.ctm` (`id channel start duration label`), or a pair (words.ctm, phones.ctm), or a folder
              with files of those two names.
            Without words (phone ctm alone, TextGrid without a "words" tier) each run of phones between silences
            stands in for a word, so syllables may run across true word boundaries.

    Raises:
        FormatError: a file that cannot be read, repeated ids, or no alignment without fault; the message names file and
            line, or interval.
    """
    if isinstance(path, tuple):
        return _collect(Path(path[1]), _read_ctm(Path(path[1]), Path(path[0])))
    path = Path(path)
    if path.is_dir():
        if grids := sorted(file for file in walk_files(path) if file.suffix.lower() == ".textgrid"):
            return _collect(path, _read_textgrids(grids))
        if (path / "phones.ctm").is_file():
            words = path / "words.ctm"
            return _collect(path, _read_ctm(path / "phones.ctm", words if words.is_file() else None))
        raise InputError(f"{path} holds no TextGrid files and no phones.ctm")
    if not path.is_file():
        raise InputError(f"alignments {path} do not exist")
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _collect(path, _read_jsonl(path))
    if suffix == ".textgrid":
        return _collect(path, _read_textgrids([path]))
    if suffix == ".ctm":
        return _collect(path, _read_ctm(path, None))
    raise InputError(f"cannot tell the format of {path}; alignments are .jsonl, .ctm, .TextGrid or a folder of those")


def _collect(path: Path, found: _Found) -> AlignmentTable:
    table = AlignmentTable()
    twice: list[str] = []
    total = 0
    try:
        for id, place, item in found:
            total += 1
            if id in table or id in table.unusable:
                twice.append(f"{place}: id {id!r} appears twice")
            elif isinstance(item, Alignment):
                table[id] = item
            else:
                table.unusable[id] = item
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror or error}); check the name") from None
    if twice:
        raise FormatError(twice[0] + and_more(len(twice)))
    faults = list(table.unusable.values())
    if faults and not table:
        raise faults[0]
    note_skipped(path, "alignment", list(map(str, faults)), total)
    return table


# jsonl


def _read_jsonl(path: Path) -> _Found:
    for place, row in json_objects(path):
        id = str(row.get("id", place))
        try:
            with located(place):
                yield id, place, _from_row(row)
        except FormatError as error:
            yield id, place, error
        except KeyError as error:
            yield id, place, FormatError(f"{place}: {error} is missing")
        except (ValueError, TypeError, OverflowError) as error:
            yield id, place, FormatError(f"{place}: not a row of an alignment jsonl: {error}")


def _from_row(row: Mapping[str, Any]) -> Alignment:
    words: list[Word] = []
    for item in row["words"]:
        phones = [Interval(str(label), float(start), float(end)) for label, start, end in item["phones"]]
        words.append(Word(str(item["word"]), float(item["start"]), float(item["end"]), tuple(phones)))
    return _build(str(row["id"]), float(row["duration"]), words)


def _build(name: str, duration: float, words: Sequence[Word]) -> Alignment:
    """Return an alignment without silences; a word with a label or a phone that is not silence stays."""
    # Checked before the silences go, so that a fault in a silence is found too.
    _check("word", name, words, 0.0, duration + END_TOLERANCE)
    kept = []
    for word in words:
        _check(f"phone of {word.label!r}", name, word.phones, word.start, word.end)
        phones = tuple(phone for phone in word.phones if not is_silence(phone.label))
        if phones or not is_silence(word.label):
            kept.append(replace(word, phones=phones))
    return Alignment(name, duration, tuple(kept))


def write_alignments(alignments: Iterable[Alignment] | Mapping[str, Alignment], path: str | PathLike[str]) -> None:
    """Write alignments, or what `read_alignments` returned; time that no word covers becomes a word "" of SIL."""
    values = alignments.values() if isinstance(alignments, Mapping) else alignments
    write_json_lines(Path(path), map(alignment_row, values))


def alignment_row(alignment: Alignment) -> dict[str, Any]:
    """Return the jsonl row of an alignment, times in seconds rounded to 0.1 ms."""
    words: list[Word] = []
    time = 0.0
    for word in [*alignment.words, Word("", alignment.duration, alignment.duration)]:
        if word.start - time >= TOLERANCE:
            words.append(Word("", time, word.start, (Interval("SIL", time, word.start),)))
        if word.label or word.phones:
            words.append(word)
        time = word.end
    return {
        "id": alignment.id,
        "duration": round(alignment.duration, 4),
        "missing": [],
        "words": [
            {"word": word.label, "start": round(word.start, 4), "end": round(word.end, 4)}
            | {"phones": [[phone.label, round(phone.start, 4), round(phone.end, 4)] for phone in word.phones]}
            for word in words
        ],
    }


# ctm


def _read_ctm(phones: Path, words: Path | None) -> _Found:
    faults: dict[str, FormatError] = {}
    phone_tiers = _ctm_tiers(phones, faults)
    word_tiers = {} if words is None else _ctm_tiers(words, faults)
    for name in phone_tiers.keys() ^ word_tiers.keys() if words is not None else ():
        both = f"{phones} and {words} do not list the same recordings: {name!r} is in one only"
        faults.setdefault(name, FormatError(both))
    yield from ((name, str(phones), fault) for name, fault in sorted(faults.items()))
    for name in phone_tiers.keys() - faults.keys() if faults else phone_tiers:
        try:
            yield name, str(phones), _assemble(name, phone_tiers[name], word_tiers.get(name), None, phones)
        except FormatError as error:
            yield name, str(phones), error


def _ctm_tiers(path: Path, faults: dict[str, FormatError]) -> dict[str, list[Interval]]:
    tiers: dict[str, list[Interval]] = {}
    for place, line in text_lines(path):
        if line.startswith(";;") or not line.strip():
            continue
        fields = line.split()
        name = fields[0]
        tier = tiers.setdefault(name, [])
        try:
            start, seconds = float(fields[2]), float(fields[3])
            # Kaldi marks the position in the word: AH0_B, AH0_I, AH0_E, AH0_S.
            interval = Interval(re.sub(r"_[BIES]$", "", fields[4]), start, round(start + seconds, 6))
            with located(place):
                _check("interval", name, [*tier[-1:], interval], 0.0, math.inf)
            tier.append(interval)
        except FormatError as error:
            faults.setdefault(name, error)
        except (IndexError, ValueError):
            faults.setdefault(name, FormatError(f"{place}: not a ctm line 'id channel start duration label'"))
    return tiers


# TextGrid


def _read_textgrids(paths: Sequence[Path]) -> _Found:
    for path in paths:
        try:
            yield path.stem, str(path), _read_textgrid(path)
        except FormatError as error:
            yield path.stem, str(path), error


def _read_textgrid(path: Path) -> Alignment:
    grid = read_textgrid(path)
    tiers: dict[str, list[Interval]] = {}
    for tier in grid.tiers:
        # The aligner prefixes the speaker: "speaker - words".
        kind = tier.name.split(" - ")[-1].strip().lower()
        kind = {"word": "words", "phone": "phones"}.get(kind, kind)
        if kind not in ("words", "phones"):
            continue
        if kind in tiers:
            raise FormatError(f"{path} has more than one tier of {kind}; one speaker per recording is supported")
        if tier.intervals is None:
            raise FormatError(f"{path}: tier {tier.name!r} holds points, not intervals")
        tiers[kind] = [Interval(label, start, end) for start, end, label in tier.intervals]
    if "phones" not in tiers:
        names = ", ".join(tier.name for tier in grid.tiers)
        raise FormatError(f"{path} has no tier 'phones'; its tiers are {names or 'none'}")
    return _assemble(path.stem, tiers["phones"], tiers.get("words"), grid.end, path)


def _assemble(
    name: str, phones: Sequence[Interval], words: Sequence[Interval] | None, duration: float | None, path: Path
) -> Alignment:
    """Assign each phone to the word that holds its middle; without words, to its run between silences."""
    with located(path):
        _check("phone", name, phones, 0.0, math.inf)
        if duration is None:
            duration = max((interval.end for interval in [*phones, *(words or [])]), default=0.0)
        spoken = [phone for phone in phones if not is_silence(phone.label)]
        if words is None:
            return Alignment(name, duration, tuple(_runs(phones)))
        _check("word", name, words, 0.0, math.inf)
        built, used = [], 0
        for word in words:
            if is_silence(word.label):
                continue
            first = used
            while used < len(spoken) and (spoken[used].start + spoken[used].end) / 2 < word.end:
                if (spoken[used].start + spoken[used].end) / 2 < word.start:
                    raise FormatError(f"alignment of {name}: phone {_show(spoken[used])} lies in no word")
                used += 1
            built.append(Word(word.label, word.start, word.end, tuple(spoken[first:used])))
        if used < len(spoken):
            raise FormatError(f"alignment of {name}: phone {_show(spoken[used])} lies in no word")
        return Alignment(name, duration, tuple(built))


def _runs(phones: Sequence[Interval]) -> Iterator[Word]:
    run: list[Interval] = []
    for phone in [*phones, Interval("", math.inf, math.inf)]:
        silent = is_silence(phone.label)
        if run and (silent or phone.start - run[-1].end > TOLERANCE):
            yield Word("-".join(one.label for one in run), run[0].start, run[-1].end, tuple(run))
            run = []
        if not silent:
            run.append(phone)
