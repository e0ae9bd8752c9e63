"""What evaluations score: recordings, units made of them or read from a file, and reference alignments.

Public functions take these as paths or as values, see `Recordings`, `Units`, `Alignments` and `Model`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast, get_args

from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note
from syllablelm.core.results import Record, Result, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, AlignmentTable, Level, read_alignments
from syllablelm.data.corpus import SkippedFile, no_usable, read_recordings
from syllablelm.data.manifest import Manifest, Recording
from syllablelm.evaluate.boundaries.selection import AlignmentLike
from syllablelm.formats import read_segmentations, split_units
from syllablelm.tokenizer.recordings import encode_recordings
from syllablelm.tokenizer.tokenizer import Tokenizer

PathLike = str | os.PathLike[str]
Recordings = PathLike | Sequence[PathLike] | Sequence[Recording]
"""Audio files, folders, patterns or one manifest; or the recordings themselves."""
Units = Mapping[str, Segmentation]
"""Segmentations by recording id."""
Alignments = PathLike | Mapping[str, Alignment]
"""A file or folder of alignments, or the alignments by recording id."""
Model = PathLike | Tokenizer
"""A tokenizer, or what it is loaded by: bundled name, folder, hub id or checkpoint file."""

# Seconds by which a recording may be shorter than its alignment: encoders drop part of a frame, aligners round up.
_SHORTER = 0.1
# A reference without silences (ctm) ends with its last phone, so a recording may be longer; twice as long it is not.
_LONGER = 1.5


@dataclass(frozen=True, kw_only=True)
class ScoredData(Record):
    """The data behind a result.

    Args:
        name: recordings or file of units, as given.
        alignments: file of the references.
        recordings, seconds: number of recordings scored, and their total length.
        left_out, unusable, without_units: numbers of recordings without an alignment, of unreadable ones, and of
            alignments without units.
    """

    name: str
    alignments: str | None = json_key(omit_none=True)
    recordings: int
    seconds: float
    left_out: int | None = json_key(omit_none=True)
    unusable: int | None = json_key(omit_none=True)
    without_units: int | None = json_key(omit_none=True)

    @classmethod
    def of(cls, name: str, alignments: str | None, units: Units, omitted: Mapping[str, int]) -> ScoredData:
        """Describe scored segmentations; ``omitted`` holds the last three fields that apply."""
        seconds = round(sum(one.duration for one in units.values()), 3)
        return cls(name=name, alignments=alignments, recordings=len(units), seconds=seconds, **omitted)


@dataclass(frozen=True)
class UnitsResult(Result):
    """Base of the results of units: tokenizers joined by commas (None for units made before), and what was scored."""

    derived: ClassVar[tuple[str, ...]] = ("recordings",)

    model: str | None
    data: ScoredData

    @property
    def recordings(self) -> int:
        """Number of recordings."""
        return self.data.recordings


def note_omitted(omitted: Mapping[str, int]) -> None:
    """Print the number of recordings that are not scored, if any, on standard error."""
    reasons = {"unusable": "unusable", "left_out": "without an alignment", "without_units": "without units"}
    if any(omitted.values()):
        note("left out: " + ", ".join(f"{omitted[key]} {text}" for key, text in reasons.items() if key in omitted))


def refuse_recordings(where: str, ids: Iterable[str], what: str, remedy: str = "") -> None:
    """Raise an InputError that says how many recordings are at fault, if any, and names the first.

    Args:
        where: beginning of the message: list or file, with its colon.
        ids: ids of the recordings.
        what: what is wrong with them.
        remedy: end of the message.
    """
    names = sorted(ids)
    if names:
        raise InputError(f"{where} {plural(len(names), 'recording')}{what}, such as {names[0]!r}{remedy}")


def check_levels(levels: Sequence[str]) -> tuple[Level, ...]:
    """Return the reference levels, each once; InputError for none, or an unknown one."""
    wanted = tuple(dict.fromkeys(levels))
    if not wanted or not set(wanted) <= set(get_args(Level)):
        raise InputError(f"reference {','.join(levels)!r}: choose some of {', '.join(get_args(Level))}")
    return cast("tuple[Level, ...]", wanted)


def check_disjoint(scored: Iterable[str], tuning: Iterable[str], name: str) -> None:
    """Refuse a tuning list that shares recordings with the scored list (InputError)."""
    remedy = ", would be scored too; tune on a list apart"
    refuse_recordings(f"{name}:", set(scored) & set(tuning), " of the tuning list", remedy)


def check_references(
    references: Mapping[str, AlignmentLike], ids: Iterable[str], levels: Sequence[str], name: str
) -> None:
    """Refuse scored recordings without a reference interval at some level (InputError)."""
    for level in levels:
        empty = [id for id in ids if not len(references[id].intervals(level))]
        refuse_recordings(f"{name}:", empty, f" without a single {level}", "; align them or leave them out")


def check_grids(segmentations: Units, name: str) -> None:
    """Refuse segmentations on several frame grids, that is, sample rates or hops (InputError)."""
    grids = Counter((value.sample_rate, value.hop) for value in segmentations.values())
    if len(grids) > 1:
        (most, _), *_, (rare, _) = grids.most_common()
        odd = [id for id, value in segmentations.items() if (value.sample_rate, value.hop) == rare]
        usual = f", among others at {most[0]} Hz with hop {most[1]}; score one sample rate and hop at a time"
        refuse_recordings(f"{name}:", odd, f" at {rare[0]} Hz with hop {rare[1]}", usual)


def check_lengths(segmentations: Units, references: Mapping[str, AlignmentLike], name: str) -> None:
    """Refuse recordings of another length than their alignments: a wrong sample rate, or other edits (InputError)."""
    wrong: list[str] = []
    for id, value in segmentations.items():
        spoken = max((interval.end for interval in references[id].intervals("word")), default=0.0)
        if value.duration < spoken - _SHORTER or value.duration > _LONGER * references[id].duration + 1:
            wrong.append(id)
    if wrong:
        value, reference = segmentations[min(wrong)], references[min(wrong)]
        lengths = (
            f" with {value.duration:.2f} s ({value.num_frames} frames of {value.hop} samples at "
            f"{value.sample_rate} Hz) for {reference.duration:.2f} s; check the sample rate"
        )
        refuse_recordings(f"{name}:", wrong, " of another length than the alignment", lengths)


def as_list(value: Any) -> list[Any]:
    """Return a list of what may also be given alone: a path, a recording or a tokenizer."""
    return [value] if isinstance(value, str | os.PathLike | Recording | Tokenizer) else list(value)


def open_recordings(source: Recordings) -> tuple[str, Manifest, list[SkippedFile]]:
    """Return name, usable recordings and unusable files of a list of recordings; InputError without a usable one."""
    items = as_list(source)
    recordings = [item for item in items if isinstance(item, Recording)]
    if recordings:
        return f"{len(recordings)} recordings", Manifest(recordings), []
    paths = [os.fspath(item) for item in items]
    manifest, skipped = read_recordings(paths)
    if not manifest:
        raise no_usable(skipped)
    return ", ".join(paths), manifest, skipped


def open_model(model: Model, *, rate: float | None = None, device: str = "auto") -> tuple[str, Tokenizer]:
    """Return the name (of a loaded tokenizer: the digest) and the tokenizer; InputError for a rate of a loaded one."""
    if not isinstance(model, Tokenizer):
        return str(model), Tokenizer.load(str(model), device=device, rate=rate)
    if rate is not None:
        raise InputError("a rate is for a tokenizer given by name; load the tokenizer with this rate instead")
    return model.digest or type(model).__name__, model


def open_references(source: Alignments, levels: Sequence[str] = ()) -> tuple[str | None, Mapping[str, Alignment]]:
    """Return the file of alignments, if it is one, and the alignments by recording id.

    Alignments with faults, or in a folder without any interval at some of the levels, are left out and named on
    standard error.

    Raises:
        InputError: a file without any alignment. FormatError: one without any that can be used.
    """
    if isinstance(source, Mapping):
        return None, source
    references = read_alignments(source)
    if not references:
        raise InputError(f"{source}: holds no alignment of any recording")
    references.leave_out(Path(source), check_levels(levels) if levels else ())
    return os.fspath(source), references


def read_units(file: Path) -> dict[str, Segmentation]:
    """Read the segmentations of a file by recording id; InputError for none, or for several frame grids."""
    segmentations = read_segmentations(file)
    check_grids(segmentations, str(file))
    if not segmentations:
        raise InputError(f"{file}: holds no recording")
    return segmentations


class Matched(NamedTuple):
    """Segmentations of recordings that have an alignment; ids of units without alignment, and the other way round."""

    shared: dict[str, Segmentation]
    unaligned: set[str]
    without_units: set[str]


def match_units(units: Units, references: Mapping[str, Alignment], name: str, *, partial: bool) -> Matched:
    """Find the recordings of a file of units among its references.

    Raises:
        InputError: no recording has both; or, unless ``partial``, some have only one.
    """
    shared = {id: value for id, value in units.items() if id in references}
    if not shared:
        raise InputError(f"{name}: none of its recordings is among those with an alignment; the ids must be the same")
    matched = Matched(shared, set(units) - set(shared), set(references) - set(shared))
    if not partial:
        remedy = f"; add --partial to score the {len(shared)} that have both"
        # Faulty alignments were named when they were read.
        named = references.unusable if isinstance(references, AlignmentTable) else {}
        refuse_recordings(f"{name}:", matched.unaligned - set(named), " without an alignment", remedy)
        refuse_recordings(f"{name}:", matched.without_units, " aligned but not in it", remedy)
    return matched


class AlignedUnits(NamedTuple):
    """Units and alignments of the same recordings, by id, and their description."""

    units: dict[str, Segmentation]
    references: dict[str, Alignment]
    data: ScoredData


@dataclass(frozen=True)
class UnitList:
    """Units of a list of recordings.

    Args:
        name: what the user gave.
        model: tokenizer that made them here; None for units made before.
        num_units: size of its codebook, where known.
        units, unusable: segmentations by recording id, and number of recordings that could not be read.
    """

    name: str
    model: str | None
    num_units: int | None
    units: Units
    unusable: int = 0

    def describe(self) -> ScoredData:
        """Describe all units, and note the number of unusable recordings."""
        omitted = {"left_out": 0, "unusable": self.unusable}
        note_omitted(omitted)
        return ScoredData.of(self.name, None, self.units, omitted)

    def align(
        self, references: tuple[str | None, Mapping[str, Alignment]], levels: Sequence[str] = (), *, partial: bool
    ) -> AlignedUnits:
        """Return the units of recordings that have an alignment, and note how many have none.

        Args:
            references: what `open_references` gave.
            levels: levels at which every alignment must have intervals.
            partial: see `syllablelm.evaluate`.

        Raises:
            InputError: units that do not fit their alignments.
        """
        path, alignments = references
        # Recordings may be any part of the aligned ones; a file of units may have been cut short by accident.
        made_here = self.model is not None
        matched = match_units(self.units, alignments, self.name, partial=partial or made_here)
        rest = {"unusable": self.unusable} if made_here else {"without_units": len(matched.without_units)}
        omitted = {"left_out": len(matched.unaligned), **rest}
        note_omitted(omitted)
        check_references(alignments, matched.shared, levels, path or "alignments")
        check_lengths(matched.shared, alignments, self.name)
        data = ScoredData.of(self.name, path, matched.shared, omitted)
        return AlignedUnits(matched.shared, {id: alignments[id] for id in matched.shared}, data)


def read_unit_list(
    source: Recordings | Units | None,
    model: Model = "small",
    *,
    units: PathLike | None = None,
    rate: float | None = None,
    device: str = "auto",
) -> UnitList:
    """Return units, made of recordings or read from a file.

    Args:
        source: recordings, one file of units (.jsonl, .parquet), or segmentations by recording id.
        model, rate, device: tokenizer of recordings, see `syllablelm.evaluate`.
        units: file or folder of units in any format, instead of `source`.

    Raises:
        InputError: nothing given, several files or a file beside recordings, several frame grids, or nothing usable.
    """
    if isinstance(source, Mapping):
        check_grids(source, "units")
        return UnitList("units", None, None, source)
    items = as_list(source or [])
    audio, files = split_units([os.fspath(item) for item in items if not isinstance(item, Recording)])
    files = [*files, *([Path(units)] if units else [])]
    if files:
        if len(items) + bool(units) > 1:
            raise InputError(f"{files[0]}: a file of units is scored alone; give no recordings and no second file")
        return UnitList(str(files[0]), None, None, read_units(files[0]))
    if not items:
        raise InputError("nothing to score: give recordings, or --units FILE")
    name, manifest, skipped = open_recordings(audio or items)
    model_name, tokenizer = open_model(model, rate=rate, device=device)
    found = {recording.id: segments for recording, segments in encode_recordings(tokenizer, manifest, skipped)}
    if not found:
        raise no_usable(skipped)
    return UnitList(name, model_name, tokenizer.num_units, found, len(skipped))
