"""The lists of recordings that an evaluation scores, and their reference alignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast, get_args

from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note
from syllablelm.core.results import Record, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Level, read_alignments
from syllablelm.data.corpus import no_usable, read_recordings
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.checks import check_grids, check_lengths, check_references
from syllablelm.formats import read_segmentations, split_units


@dataclass(frozen=True, kw_only=True)
class ScoredData(Record):
    """What a result says of the data behind it.

    Args:
        name: recordings or file of units, as given.
        alignments: file of the references.
        recordings: number of recordings scored.
        seconds: their total length.
        left_out: number of recordings without an alignment.
        unusable: number of recordings that could not be read.
        without_units: number of alignments without units.
    """

    name: str
    alignments: str | None = json_key(omit_none=True)
    recordings: int
    seconds: float
    left_out: int | None = json_key(omit_none=True)
    unusable: int | None = json_key(omit_none=True)
    without_units: int | None = json_key(omit_none=True)

    @classmethod
    def of(
        cls,
        name: str,
        alignments: str | Path | None,
        segmentations: Mapping[str, Segmentation],
        omitted: Mapping[str, int],
    ) -> ScoredData:
        """Describe scored segmentations by recording id; ``omitted`` holds the last three fields that apply."""
        return cls(
            name=name,
            alignments=None if alignments is None else str(alignments),
            recordings=len(segmentations),
            seconds=round(sum(one.duration for one in segmentations.values()), 3),
            **omitted,
        )


def note_omitted(omitted: Mapping[str, int]) -> None:
    """Print the number of recordings that are not scored, if any, on standard error."""
    reasons = {"unusable": "unusable", "left_out": "without an alignment", "without_units": "without units"}
    if any(omitted.values()):
        note("left out: " + ", ".join(f"{omitted[key]} {text}" for key, text in reasons.items() if key in omitted))


def check_levels(levels: Sequence[str]) -> tuple[Level, ...]:
    """Return the reference levels, each once.

    Raises:
        InputError: none, or an unknown one.
    """
    wanted = tuple(dict.fromkeys(levels))
    if not wanted or not set(wanted) <= set(get_args(Level)):
        raise InputError(f"reference {','.join(levels)!r}: choose some of {', '.join(get_args(Level))}")
    return cast("tuple[Level, ...]", wanted)


def read_references(alignments: str | Path) -> dict[str, Alignment]:
    """Read alignments by recording id.

    Raises:
        InputError: there are none.
        FormatError: the file cannot be understood.
    """
    references = read_alignments(alignments)
    if not references:
        raise InputError(f"{alignments}: holds no alignment of any recording")
    return references


def read_units(file: str | Path) -> dict[str, Segmentation]:
    """Read the segmentations of a file by recording id, all on one frame grid.

    Raises:
        InputError: none, or several grids.
    """
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

    @property
    def omitted(self) -> dict[str, int]:
        return {"left_out": len(self.unaligned), "without_units": len(self.without_units)}


def match_units(
    segmentations: Mapping[str, Segmentation], references: Mapping[str, Alignment], name: str, *, partial: bool
) -> Matched:
    """Find the recordings of a file of units among its references.

    Raises:
        InputError: no recording has both; or, unless ``partial``, some have only one. Names the first.
    """
    shared = {id: value for id, value in segmentations.items() if id in references}
    if not shared:
        raise InputError(f"{name}: none of its recordings is among those with an alignment; the ids must be the same")
    matched = Matched(shared, set(segmentations) - set(shared), set(references) - set(shared))
    for what, ids in (("without an alignment", matched.unaligned), ("aligned but not in it", matched.without_units)):
        if ids and not partial:
            raise InputError(
                f"{name}: {plural(len(ids), 'recording')} {what}, such as {min(ids)!r}; add --partial to score the "
                f"{len(shared)} that have both"
            )
    return matched


@dataclass(frozen=True)
class ScoredList:
    """Recordings, or files of units, that are compared with reference alignments.

    Args:
        name: arguments that named them, joined by commas.
        alignments: file of the references.
        references: alignments by recording id.
        manifest: recordings that have a reference; None where only files of units were given.
        units: segmentations by file stem and recording id, of the files of units.
        omitted: numbers of recordings that are not scored, see `ScoredData`.
    """

    name: str
    alignments: str
    references: Mapping[str, Alignment]
    manifest: Manifest | None
    units: Mapping[str, Mapping[str, Segmentation]]
    omitted: Mapping[str, int]

    @property
    def ids(self) -> set[str]:
        """Ids of the recordings."""
        recordings = set() if self.manifest is None else {recording.id for recording in self.manifest}
        return recordings.union(*self.units.values())

    def describe(self, segmentations: Mapping[str, Segmentation]) -> ScoredData:
        """Describe the list for a result, given the segmentations of one system."""
        return ScoredData.of(self.name, self.alignments, segmentations, self.omitted)


def read_scored_list(
    audio: Sequence[str],
    units: Sequence[str | Path],
    alignments: str | Path,
    levels: Sequence[str],
    *,
    partial: bool = False,
) -> ScoredList:
    """Read recordings and files of units, and the references that they are compared with.

    Args:
        audio: recordings, a manifest or files of units.
        units: more files of units.
        alignments: file or folder of the references.
        levels: reference levels that every reference must hold.
        partial: allow files of units and references to hold different recordings, and score those they share.

    Raises:
        InputError: nothing given, nothing aligned, an empty reference, two files of one name, files of different
            recordings, or units that do not fit their alignments; the message names the first and says how many.
    """
    recordings, more = split_units(audio)
    files = [*more, *map(Path, units)]
    if not (recordings or files):
        raise InputError("nothing to score: give recordings, or --units FILE")
    references = read_references(alignments)
    manifest, omitted = _read_aligned(recordings, references) if recordings else (None, {})
    ids = None if manifest is None else {recording.id for recording in manifest}
    unaligned: set[str] = set()
    by_file: dict[str, Mapping[str, Segmentation]] = {}
    for file in files:
        if file.stem in by_file:
            raise InputError(f"{file}: a second file of units named {file.stem!r}; rows are named after files")
        matched = match_units(read_units(file), references, str(file), partial=partial or manifest is not None)
        if ids is None:
            ids = set(matched.shared)
        by_file[file.stem] = _select(matched.shared, ids, file, exact=manifest is None)
        check_lengths(by_file[file.stem], references, str(file))
        if manifest is None:
            # Files without recordings hold the same aligned recordings, so the last count of missing units is all's.
            unaligned |= matched.unaligned
            omitted = matched._replace(unaligned=unaligned).omitted
    if manifest is None:
        note_omitted(omitted)
    name = ", ".join([*recordings, *map(str, files)])
    scored = ScoredList(name, str(alignments), references, manifest, by_file, omitted)
    check_references(references, scored.ids, levels, str(alignments))
    return scored


def _read_aligned(audio: Sequence[str], references: Mapping[str, Alignment]) -> tuple[Manifest, dict[str, int]]:
    """Return the recordings that have a reference, and how many are left out."""
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    kept = manifest.filter(lambda recording: recording.id in references)
    if not kept:
        raise InputError(
            f"no recording has an alignment: ids are {manifest[0].id!r} among the recordings and "
            f"{next(iter(references))!r} among the alignments"
        )
    omitted = {"left_out": len(manifest) - len(kept), "unusable": len(skipped)}
    note_omitted(omitted)
    return kept, omitted


def _select(
    segmentations: Mapping[str, Segmentation], ids: set[str], file: Path, *, exact: bool
) -> dict[str, Segmentation]:
    """Return a file's segmentations of the recordings that every row is scored on; ``exact``: it must hold no more."""
    lacking, more = ids - set(segmentations), set(segmentations) - ids if exact else set()
    for verb, others, rows in (("lacks", lacking, "have"), ("has", more, "lack")):
        if others:
            raise InputError(
                f"{file}: {verb} {plural(len(others), 'recording')}, such as {min(others)!r}, that other rows {rows}; "
                "rows are compared on the same recordings"
            )
    return {id: value for id, value in segmentations.items() if id in ids}
