"""Boundary evaluation: recordings or files of units in, one table of scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from syllablelm.core.errors import InputError
from syllablelm.core.results import Result, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.boundaries.comparison import (
    BoundaryRow,
    Count,
    Tuning,
    compare_segmentations,
    segment_corpus,
)
from syllablelm.evaluate.boundaries.protocols import ProtocolSummary, choose_protocols
from syllablelm.evaluate.boundaries.systems import System, Systems, make_systems
from syllablelm.evaluate.checks import check_disjoint, check_lengths
from syllablelm.evaluate.lists import ScoredData, ScoredList, check_levels, read_scored_list


@dataclass(frozen=True, kw_only=True)
class BoundaryResult(Result):
    """Boundary scores of several systems on the same recordings.

    Args:
        model: names of the tokenizers, joined by commas; None without one.
        data: what was scored.
        count: requested number of segments: "reference", "own", or a rate per second.
        levels: kinds of reference intervals.
        protocols: how boundaries were compared.
        protocol: the same, where there is one only.
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
        recordings: files, folders and patterns, one manifest, or files of units.
        alignments: references by recording id: a file, or a folder of them.
        units: more files of units; each is a system of its own, named after the file.
        models: tokenizers; "small" where no other system is named.
        methods, encoders, layers: segmentation methods and what they read, see ``make_systems``.
        count: number of segments of a recording: "reference" (as many boundaries as its reference has, pauses
            included), "own" (that of the first tokenizer) or a rate per second.
        levels: kinds of reference intervals: "syllable", "phone", "word".
        protocols: names of protocols, see ``PROTOCOLS``; "all" stands for every one.
        shift: seconds, of the protocols that take a shift, as found earlier; None is 0, or searched on ``tuning``.
        tuning: development list to search each system's shift on: recordings, and a file of units for each scored one.
        tuning_alignments: its references.
        against: system whose F1 every other's paired difference is taken from.
        partial: allow a file of units and the references to hold different recordings, and score those they share.
        resamples: bootstrap resamples of the 95 % intervals.
        seed: random seed of the resamples.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: nothing to score, an unknown name, or lists that do not fit each other; the message says which.
        FormatError: a file that cannot be read.
    """
    chosen = choose_protocols(protocols, shift, tuned=bool(tuning))
    wanted = check_levels(levels)
    scored = read_scored_list(recordings, units, alignments, wanted, partial=partial)
    if not (models or methods or encoders or scored.units):
        models = ("small",)
    development = _read_tuning_list(tuning, tuning_alignments, scored, wanted) if tuning else None
    systems, requested = Systems({}, lambda name, waveform, segmenter: 0)
    if scored.manifest is not None:
        known = {**(development.references if development else {}), **scored.references}
        systems, requested = make_systems(
            models, methods, encoders, layers, count=count, references=known, device=device
        )
    predictions = _segment(scored, systems, requested)
    tuned = development and Tuning(_segment(development, systems, requested), development.references)
    rows: dict[str, list[BoundaryRow]] = {name: [] for name in predictions}
    for level in wanted:
        for protocol in chosen:
            compared = compare_segmentations(
                predictions, scored.references, protocol=protocol, level=level, tuning=tuned
            )
            for row in compared.rows(baseline=against, resamples=resamples, seed=seed):
                rows[row.segmenter].append(_describe(row, systems.get(row.segmenter)))
    summaries = tuple(protocol.summary for protocol in chosen)
    return BoundaryResult(
        model=(", ".join(models) or None) if systems else None,
        data=scored.describe(next(iter(predictions.values()))),
        count=str(count) if systems else "own",
        levels=wanted,
        protocols=summaries,
        protocol=summaries[0] if len(summaries) == 1 else None,
        tuning=development.describe(next(iter(tuned.predictions.values()))) if development and tuned else None,
        rows=tuple(row for own in rows.values() for row in own),
    )


def _describe(row: BoundaryRow, system: System | None) -> BoundaryRow:
    # A file of units, which no system here made, has as many segments as its tokenizer chose.
    if system is None:
        return row
    return replace(row, method=system.method, model=system.model, layer=system.layer, count=system.count)


def _segment(listed: ScoredList, systems: Mapping[str, System], count: Count) -> dict[str, Mapping[str, Segmentation]]:
    """Return segmentations by system and recording id: of the recordings by every system, then of files of units."""
    made: dict[str, Mapping[str, Segmentation]] = {}
    if listed.manifest is not None and systems:
        segmenters = {name: system.segmenter for name, system in systems.items()}
        made.update(segment_corpus(listed.manifest, segmenters, count))
        for segmentations in made.values():
            check_lengths(segmentations, listed.references, listed.name)
    return {**made, **listed.units}


def _read_tuning_list(
    arguments: Sequence[str], alignments: str | Path | None, scored: ScoredList, levels: Sequence[str]
) -> ScoredList:
    """Read the development list: recordings for systems on recordings, a file of units for each that is scored."""
    if alignments is None:
        raise InputError("--tune needs the reference of its recordings: give --tune-alignments FILE")
    # A shift may be searched on any part of a list.
    listed = read_scored_list(arguments, [], alignments, levels, partial=True)
    check_disjoint(scored.ids, listed.ids, "--tune")
    if len(scored.units) == len(listed.units) == 1:
        listed = replace(listed, units=dict(zip(scored.units, listed.units.values(), strict=True)))
    lacking = sorted(set(scored.units) - set(listed.units))
    if lacking:
        raise InputError(f"--tune: no file of units named like the scored {lacking[0]!r}; give one for each")
    return listed
