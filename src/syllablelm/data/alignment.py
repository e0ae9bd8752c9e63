"""Reference annotation (words, phones, syllables in seconds), read from TextGrid, ctm and jsonl, written as jsonl.

The jsonl has one row per recording, `{"id", "duration", "missing", "words": [{"word", "start", "end", "conf",
"phones": [[label, start, end], ...]}, ...], "syllables": [[label, start, end], ...]}`; only id, duration and words are
required. Silences are not kept in memory: they are the time that no word covers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from syllablelm.core.errors import FormatError, InputError, and_more, located
from syllablelm.core.files import json_objects, note_skipped, refuse_inputs, text_lines, walk_files, write_json_lines
from syllablelm.core.results import Record
from syllablelm.data.annotation import (
    END_TOLERANCE,
    TOLERANCE,
    Alignment,
    Interval,
    Level,
    Word,
    check_intervals,
    is_silence,
    show_interval,
)
from syllablelm.data.ipa import Onsets, read_onsets
from syllablelm.data.syllables import is_arpabet
from syllablelm.formats.textgrid import read_textgrid

__all__ = [
    "TOLERANCE",
    "Alignment",
    "AlignmentTable",
    "Interval",
    "Level",
    "Word",
    "is_silence",
    "prepare_alignments",
    "read_alignments",
    "write_alignments",
]


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


@dataclass(frozen=True)
class PreparedAlignments(Record):
    """Result of `prepare_alignments`.

    Args:
        alignments: path of the file.
        recordings, hours, words, syllables: recordings in it, their total length, their words and syllables.
        skipped: number of alignments left out; their faults are named on standard error.
    """

    alignments: Path
    recordings: int
    hours: float
    words: int
    syllables: int
    skipped: int


def prepare_alignments(
    source: str | PathLike[str], out: str | PathLike[str], *, onsets: str | PathLike[str] | None = None
) -> PreparedAlignments:
    """Write alignments with their syllables into one jsonl file, which every evaluation takes as it is.

    Args:
        source: alignments, as `read_alignments` takes them.
        out: file that ends in .jsonl.
        onsets: file of the language's onsets (`read_onsets`) for phones in IPA. Without it, alignments keep syllables
            that they bring along, and the others are divided by sonority.

    Raises:
        InputError: another name of `out`, or onsets for phones in ARPAbet. FormatError: no alignment without fault.
    """
    out = Path(out)
    if out.suffix != ".jsonl":
        raise InputError(f"--out {out}: the name of a file of alignments ends in .jsonl")
    inventory = None if onsets is None else read_onsets(Path(onsets))
    table = read_alignments(source)
    refuse_inputs([out], [Path(source)])
    table.leave_out(Path(source), ["syllable"])
    divided = [_divide(alignment, inventory) for alignment in table.values()]
    write_alignments(divided, out)
    hours = sum(alignment.duration for alignment in divided) / 3600
    words, syllables = (sum(len(one.intervals(level)) for one in divided) for level in ("word", "syllable"))
    return PreparedAlignments(out, len(divided), hours, words, syllables, len(table.unusable))


def _divide(alignment: Alignment, onsets: Onsets | None) -> Alignment:
    if onsets is None:
        return replace(alignment, own_syllables=alignment.syllables)
    if alignment.phones and is_arpabet([phone.label for phone in alignment.phones]):
        raise FormatError(f"--onsets: alignment of {alignment.id} has phones in ARPAbet; its onsets are fixed")
    return replace(alignment, own_syllables=alignment.divide(onsets))


# What a reader found: id, place and alignment, or its fault.
_Found = Iterator[tuple[str, str, Alignment | FormatError]]


def read_alignments(path: str | PathLike[str] | tuple[str | PathLike[str], str | PathLike[str]]) -> AlignmentTable:
    """Return the alignments of a corpus by recording id; those with faults are left out and named on standard error.

    Args:
        path: one of
            - a `.jsonl` file (see the module's docstring);
            - a `.TextGrid` file, or a folder searched for them at any depth (Montreal Forced Aligner and
              LibriSpeech-alignments layouts): tiers "words" and "phones", or "syllables" with or without them; the id
              is the file's stem;
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
    def intervals(items: Iterable[tuple[Any, Any, Any]]) -> tuple[Interval, ...]:
        return tuple(Interval(str(label), float(start), float(end)) for label, start, end in items)

    words: list[Word] = []
    for item in row["words"]:
        phones = intervals(item["phones"])
        words.append(Word(str(item["word"]), float(item["start"]), float(item["end"]), phones))
    own = intervals(row["syllables"]) if row.get("syllables") is not None else None
    return replace(_build(str(row["id"]), float(row["duration"]), words), own_syllables=own)


def _build(name: str, duration: float, words: Sequence[Word]) -> Alignment:
    """Return an alignment without silences; a word with a label or a phone that is not silence stays."""
    # Checked before the silences go, so that a fault in a silence is found too.
    check_intervals("word", name, words, 0.0, duration + END_TOLERANCE)
    kept = []
    for word in words:
        check_intervals(f"phone of {word.label!r}", name, word.phones, word.start, word.end)
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

    def rows(intervals: Iterable[Interval]) -> list[list[Any]]:
        return [[interval.label, round(interval.start, 4), round(interval.end, 4)] for interval in intervals]

    return {
        "id": alignment.id,
        "duration": round(alignment.duration, 4),
        "missing": [],
        "words": [
            {"word": word.label, "start": round(word.start, 4), "end": round(word.end, 4), "phones": rows(word.phones)}
            for word in words
        ],
    } | ({} if alignment.own_syllables is None else {"syllables": rows(alignment.own_syllables)})


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
                check_intervals("interval", name, [*tier[-1:], interval], 0.0, math.inf)
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
        kind = {"word": "words", "phone": "phones", "syllable": "syllables"}.get(kind, kind)
        if kind not in ("words", "phones", "syllables"):
            continue
        if kind in tiers:
            raise FormatError(f"{path} has more than one tier of {kind}; one speaker per recording is supported")
        if tier.intervals is None:
            raise FormatError(f"{path}: tier {tier.name!r} holds points, not intervals")
        tiers[kind] = [Interval(label, start, end) for start, end, label in tier.intervals]
    own = tiers.get("syllables")
    if "phones" not in tiers and own is None:
        names = ", ".join(tier.name for tier in grid.tiers)
        raise FormatError(f"{path} has no tier 'phones' or 'syllables'; its tiers are {names or 'none'}")
    words = tiers.get("words") if "phones" in tiers else tiers.get("words", own)
    alignment = _assemble(path.stem, tiers.get("phones", []), words, grid.end, path)
    with located(path):
        spoken = None if own is None else tuple(one for one in own if not is_silence(one.label))
        return replace(alignment, own_syllables=spoken)


def _assemble(
    name: str, phones: Sequence[Interval], words: Sequence[Interval] | None, duration: float | None, path: Path
) -> Alignment:
    """Assign each phone to the word that holds its middle; without words, to its run between silences."""
    with located(path):
        check_intervals("phone", name, phones, 0.0, math.inf)
        if duration is None:
            duration = max((interval.end for interval in [*phones, *(words or [])]), default=0.0)
        spoken = [phone for phone in phones if not is_silence(phone.label)]
        if words is None:
            return Alignment(name, duration, tuple(_runs(phones)))
        check_intervals("word", name, words, 0.0, math.inf)
        built, used = [], 0
        for word in words:
            if is_silence(word.label):
                continue
            first = used
            while used < len(spoken) and (spoken[used].start + spoken[used].end) / 2 < word.end:
                if (spoken[used].start + spoken[used].end) / 2 < word.start:
                    raise FormatError(f"alignment of {name}: phone {show_interval(spoken[used])} lies in no word")
                used += 1
            built.append(Word(word.label, word.start, word.end, tuple(spoken[first:used])))
        if used < len(spoken):
            raise FormatError(f"alignment of {name}: phone {show_interval(spoken[used])} lies in no word")
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
