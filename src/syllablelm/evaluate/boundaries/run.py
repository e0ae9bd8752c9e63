"""Boundary evaluation: recordings or files of units in, one table of scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from syllablelm.core.errors import InputError
from syllablelm.core.results import Result, json_key
from syllablelm.data.alignment import Alignment
from syllablelm.data.manifest import Manifest
from syllablelm.data.vad import Method as VadMethod
from syllablelm.evaluate import lists
from syllablelm.evaluate.boundaries.comparison import BoundaryRow, Tuning, compare_segmentations, segment_corpus
from syllablelm.evaluate.boundaries.protocols import ProtocolSummary, choose_protocols
from syllablelm.evaluate.boundaries.systems import Systems, make_systems
from syllablelm.evaluate.lists import ScoredData, Units
from syllablelm.formats import split_units


@dataclass(frozen=True, kw_only=True)
class BoundaryResult(Result):
    """Boundary scores of several systems on the same recordings.

    Args:
        model: names of the tokenizers, joined by commas; None without one.
        data: what was scored.
        count: requested number of segments: "reference", "own", or a rate per second.
        levels: kinds of reference intervals.
        protocols, protocol: how boundaries were compared, and the same where there is one only.
        tuning: development list that shifts were searched on.
        rows: scores, by system, then level and protocol.
    """

    evaluation: ClassVar[str] = "boundaries"

    model: str | None
    data: ScoredData
    count: str
    levels: tuple[str, ...]
    protocols: tuple[ProtocolSummary, ...]
    protocol: ProtocolSummary | None = json_key(omit_none=True)
    tuning: ScoredData | None = json_key(omit_none=True)
    rows: tuple[BoundaryRow, ...]


def evaluate_boundaries(
    recordings: Sequence[str],
    alignments: str | Path,
    *,
    units: Sequence[str | Path] = (),
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
    encoders: Sequence[str] = (),
    layers: Sequence[int] = (),
    predictors: Sequence[str] = (),
    vad: VadMethod = "energy",
    gap: int = 150,
    count: str | float = "reference",
    levels: Sequence[str] = ("syllable",),
    protocols: Sequence[str] = ("paper",),
    shift: float | None = None,
    tuning: Sequence[str] = (),
    tuning_alignments: str | Path | None = None,
    against: str | None = None,
    partial: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> BoundaryResult:
    """Score the boundaries of tokenizers, segmentation methods and files of units in one table (section 5.4).

    Args:
        recordings, alignments, partial, resamples, seed, device: see `syllablelm.evaluate`.
        units: more files of units; each is a system of its own, named after the file.
        models: tokenizers; "small" where no other system is named.
        methods, encoders, layers, predictors, vad, gap: segmentation methods and what they read, see `make_systems`.
        count: number of segments of a recording: "reference" (as many boundaries as its reference has, pauses
            included), "own" (that of the first tokenizer) or a rate per second.
        levels: kinds of reference intervals: "syllable", "phone", "word".
        protocols: names of protocols, see `PROTOCOLS`; "all" stands for every one.
        shift: seconds, of the protocols that take a shift, as found earlier; None is 0, or searched on `tuning`.
        tuning: development list to search each system's shift on: recordings, and a file of units for each scored one.
        tuning_alignments: its references.
        against: system whose F1 every other's paired difference is taken from.

    Raises:
        InputError: nothing to score, an unknown name, or lists that do not fit each other.
        FormatError: a file that cannot be read.
    """
    chosen, wanted = choose_protocols(protocols, shift, tuned=bool(tuning)), lists.check_levels(levels)
    scored = read_scored_list(recordings, units, alignments, wanted, partial=partial)
    if not (models or methods or encoders or predictors or scored.units):
        models = ("small",)
    development = _read_tuning_list(tuning, tuning_alignments, scored, wanted) if tuning else None
    systems = Systems({}, lambda name, waveform, segmenter: 0)
    if scored.manifest is not None:
        known = {**(development.references if development else {}), **scored.references}
        systems = make_systems(
            models,
            methods,
            encoders,
            layers,
            count=count,
            references=known,
            predictors=predictors,
            vad=vad,
            gap=gap,
            device=device,
        )
    predictions = _segment(scored, systems)
    tuned = development and Tuning(_segment(development, systems), development.references)
    rows: dict[str, list[BoundaryRow]] = {name: [] for name in predictions}
    for level in wanted:
        for protocol in chosen:
            compared = compare_segmentations(
                predictions, scored.references, protocol=protocol, level=level, tuning=tuned
            )
            for row in compared.rows(baseline=against, resamples=resamples, seed=seed):
                # A file of units, which no system here made, has as many segments as its tokenizer chose.
                if system := systems.systems.get(row.segmenter):
                    facts = {name: getattr(system, name) for name in ("method", "model", "layer", "count")}
                    row = replace(row, **facts)
                rows[row.segmenter].append(row)
    summaries = tuple(protocol.summary for protocol in chosen)
    return BoundaryResult(
        model=(", ".join(models) or None) if systems.systems else None,
        data=scored.describe(next(iter(predictions.values()))),
        count=str(count) if systems.systems else "own",
        levels=wanted,
        protocols=summaries,
        protocol=summaries[0] if len(summaries) == 1 else None,
        tuning=development.describe(next(iter(tuned.predictions.values()))) if development and tuned else None,
        rows=tuple(row for own in rows.values() for row in own),
    )


def _segment(listed: ScoredList, systems: Systems) -> dict[str, Units]:
    """Return segmentations by system and recording id: of the recordings by every system, then of files of units."""
    made: Mapping[str, Units] = {}
    if listed.manifest is not None and systems.systems:
        segmenters = {name: system.segmenter for name, system in systems.systems.items()}
        made = segment_corpus(listed.manifest, segmenters, systems.count)
        for segmentations in made.values():
            lists.check_lengths(segmentations, listed.references, listed.name)
    return {**made, **listed.units}


def _read_tuning_list(
    arguments: Sequence[str], alignments: str | Path | None, scored: ScoredList, levels: Sequence[str]
) -> ScoredList:
    """Read the development list: recordings for systems on recordings, a file of units for each that is scored."""
    if alignments is None:
        raise InputError("--tune needs the reference of its recordings: give --tune-alignments FILE")
    # A shift may be searched on any part of a list.
    listed = read_scored_list(arguments, [], alignments, levels, partial=True)
    lists.check_disjoint(scored.ids, listed.ids, "--tune")
    if len(scored.units) == len(listed.units) == 1:
        listed = replace(listed, units=dict(zip(scored.units, listed.units.values(), strict=True)))
    lacking = sorted(set(scored.units) - set(listed.units))
    if lacking:
        raise InputError(f"--tune: no file of units named like the scored {lacking[0]!r}; give one for each")
    return listed


@dataclass(frozen=True)
class ScoredList:
    """Recordings, or files of units, that are compared with reference alignments.

    Args:
        name: arguments that named them, joined by commas.
        alignments, references: file of the references, and the references by recording id.
        manifest: recordings that have a reference; None where only files of units were given.
        units: segmentations by file stem and recording id, of the files of units.
        omitted: numbers of recordings that are not scored, see `ScoredData`.
    """

    name: str
    alignments: str
    references: Mapping[str, Alignment]
    manifest: Manifest | None
    units: Mapping[str, Units]
    omitted: Mapping[str, int]

    @property
    def ids(self) -> set[str]:
        """Ids of the recordings."""
        return {recording.id for recording in self.manifest or ()}.union(*self.units.values())

    def describe(self, segmentations: Units) -> ScoredData:
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
        levels: levels at which every reference must have intervals.
        partial: see `syllablelm.evaluate`.

    Raises:
        InputError: nothing given, nothing aligned, an empty reference, two files of one name, files of different
            recordings, or units that do not fit their alignments.
    """
    recordings, more = split_units(audio)
    files = [*more, *map(Path, units)]
    if not (recordings or files):
        raise InputError("nothing to score: give recordings, or --units FILE")
    _, references = lists.open_references(alignments, levels)
    manifest, omitted = _read_aligned(recordings, references) if recordings else (None, {})
    ids = None if manifest is None else {recording.id for recording in manifest}
    unaligned: set[str] = set()
    by_file: dict[str, Units] = {}
    for file in files:
        if file.stem in by_file:
            raise InputError(f"{file}: a second file of units named {file.stem!r}; rows are named after files")
        found = lists.read_units(file)
        matched = lists.match_units(found, references, str(file), partial=partial or manifest is not None)
        if ids is None:
            ids = set(matched.shared)
        by_file[file.stem] = _select(matched.shared, ids, file, exact=manifest is None)
        lists.check_lengths(by_file[file.stem], references, str(file))
        if manifest is None:
            # Files without recordings hold the same aligned recordings, so the last count of missing units is all's.
            unaligned |= matched.unaligned
            omitted = {"left_out": len(unaligned), "without_units": len(matched.without_units)}
    if manifest is None:
        lists.note_omitted(omitted)
    name = ", ".join([*recordings, *map(str, files)])
    scored = ScoredList(name, str(alignments), references, manifest, by_file, omitted)
    lists.check_references(references, scored.ids, levels, str(alignments))
    return scored


def _read_aligned(audio: Sequence[str], references: Mapping[str, Alignment]) -> tuple[Manifest, dict[str, int]]:
    """Return the recordings that have a reference, and how many are left out."""
    _, manifest, skipped = lists.open_recordings(audio)
    kept = manifest.filter(lambda recording: recording.id in references)
    if not kept:
        raise InputError(
            f"no recording has an alignment: ids are {manifest[0].id!r} among the recordings and "
            f"{next(iter(references))!r} among the alignments"
        )
    omitted = {"left_out": len(manifest) - len(kept), "unusable": len(skipped)}
    lists.note_omitted(omitted)
    return kept, omitted


def _select(units: Units, ids: set[str], file: Path, *, exact: bool) -> Units:
    """Return a file's segmentations of the recordings that every row is scored on; ``exact``: it must hold no more."""
    remedy = "; rows are compared on the same recordings"
    lists.refuse_recordings(f"{file}: lacks", ids - set(units), "", f", that other rows have{remedy}")
    if exact:
        lists.refuse_recordings(f"{file}: has", set(units) - ids, "", f", that other rows lack{remedy}")
    return {id: value for id, value in units.items() if id in ids}
