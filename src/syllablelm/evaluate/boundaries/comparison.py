"""Boundary scores of several systems on the same recordings: the paper's Tables 1, 4 and 5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Estimate, Record, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.bootstrap import bootstrap_difference, bootstrap_estimate, bootstrap_interval
from syllablelm.evaluate.boundaries.matching import HitCounts
from syllablelm.evaluate.boundaries.protocols import Protocol, get_protocol
from syllablelm.evaluate.boundaries.scores import BoundaryScores, score_boundaries, search_shift
from syllablelm.evaluate.boundaries.selection import AlignmentLike, shared_ids
from syllablelm.evaluate.lists import refuse_recordings
from syllablelm.segment.segmenter import Segmenter

Waveform = npt.NDArray[np.float32]
# (recording id, waveform, segmenter) -> number of segments that the segmenter is asked for.
Count = Callable[[str, Waveform, Segmenter], int]
TOLERANCES = (0.02, 0.05)
_COUNTS = ("hits", "predicted", "reference", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class BoundaryRow(Record):
    """Scores of one system under one protocol, against one kind of reference.

    Args:
        segmenter: name of the system.
        method, model, layer: segmentation method, tokenizer or encoder behind it, and the 1-based layer, if any.
        level: kind of reference intervals, such as "syllable".
        protocol: name of the protocol.
        shift, tuned: seconds by which one side was shifted; whether they were searched on a development list.
        f1_20, f1_50: F1 at tolerances of 20 and 50 ms.
        precision, recall, r_value, hits, predicted, reference: at the protocol's own tolerance, which is 50 ms.
        f1_low, f1_high: ends of the 95 % bootstrap interval of the F1 at that tolerance.
        token_hits, token_predicted, token_reference, token_precision, token_recall, token_f1: the same of whole
            segments, of which both ends must be right.
        gain: paired difference of F1 from the baseline, where one was chosen.
        count: source of the number of segments: "own", "own of MODEL", "reference", or a rate per second.
    """

    segmenter: str
    method: str | None = json_key(omit_none=True)
    model: str | None = json_key(omit_none=True)
    layer: int | None = json_key(omit_none=True)
    level: str
    protocol: str
    shift: float
    tuned: bool
    f1_20: float = json_key("f1@20")
    f1_50: float = json_key("f1@50")
    precision: float
    recall: float
    r_value: float
    f1_low: float
    f1_high: float
    hits: int
    predicted: int
    reference: int
    token_hits: int
    token_predicted: int
    token_reference: int
    token_precision: float
    token_recall: float
    token_f1: Estimate
    gain: Estimate | None = json_key(omit_none=True)
    count: str = "own"


@dataclass(frozen=True)
class Tuning:
    """Development list of shifts: segmentations by system and recording id, alignments by recording id."""

    predictions: Mapping[str, Mapping[str, Segmentation]]
    references: Mapping[str, AlignmentLike]

    def find(self, system: str, protocol: Protocol, level: str) -> float:
        """Return the shift in seconds with which a system scores best on the list.

        Raises:
            InputError: the list was not segmented by this system.
        """
        if system not in self.predictions:
            known = ", ".join(self.predictions)
            raise InputError(f"the tuning list has no segmentations of {system!r}; it has {known}")
        predictions = self.predictions[system]
        return search_shift(predictions, {id: self.references[id] for id in predictions}, protocol, level)


@dataclass(frozen=True)
class Comparison:
    """Scores of several systems on the same recordings under one protocol, against one kind of reference.

    Args:
        protocol: as requested; where its shift was searched, the scores of each system hold its own.
        scores: by system.
        tuned: whether shifts were searched on a development list.
        level: kind of reference intervals, such as "syllable".
    """

    protocol: Protocol
    scores: Mapping[str, BoundaryScores]
    tuned: bool = False
    level: str = "syllable"

    def rows(self, *, baseline: str | None = None, resamples: int = 1000, seed: int = 0) -> list[BoundaryRow]:
        """Return one row per system, with 95 % bootstrap intervals over recordings.

        Args:
            baseline: system whose F1 the others' paired differences are taken from; InputError for an unknown one.
            resamples, seed: see `syllablelm.evaluate`.
        """
        if baseline is not None and baseline not in self.scores:
            raise InputError(f"no segmenter {baseline!r} among {', '.join(self.scores)}")
        options: Any = {"resamples": resamples, "seed": seed}
        rows = []
        for name, score in self.scores.items():
            main, tokens = score.total(), score.token_total()
            low, high = bootstrap_interval(score.items(), _f1, **options)
            gain = None
            if baseline is not None and name != baseline:
                gain = Estimate(*bootstrap_difference(score.items(), self.scores[baseline].items(), _f1, **options))
            rows.append(
                BoundaryRow(
                    segmenter=name,
                    level=self.level,
                    protocol=self.protocol.name,
                    shift=score.protocol.shift or 0.0,
                    tuned=self.tuned,
                    f1_20=score.total(0.02).f1,
                    f1_50=score.total(0.05).f1,
                    f1_low=low,
                    f1_high=high,
                    r_value=main.r_value,
                    **{key: getattr(main, key) for key in _COUNTS},
                    **{f"token_{key}": getattr(tokens, key) for key in _COUNTS},
                    token_f1=bootstrap_estimate(score.token_items(), _f1, **options),
                    gain=gain,
                )
            )
        return rows


def _f1(counts: HitCounts) -> float:
    return counts.f1


def reference_count(references: Mapping[str, AlignmentLike]) -> Count:
    """Ask for as many boundaries as the syllables of the reference have, starts and ends, so pauses count too."""

    def count(name: str, waveform: Waveform, segmenter: Segmenter) -> int:
        return max(1, len(np.asarray(references[name].boundaries("syllable"))) - 1)

    return count


def rate_count(rate: float) -> Count:
    """Ask for round(rate x seconds) segments."""
    return lambda name, waveform, segmenter: segmenter.count_segments(waveform, rate)


def segment_corpus(
    manifest: Manifest, segmenters: Mapping[str, Segmenter], count: Count
) -> dict[str, dict[str, Segmentation]]:
    """Segment every recording by every segmenter: {segmenter: {recording id: Segmentation}}."""
    segmentations: dict[str, dict[str, Segmentation]] = {name: {} for name in segmenters}
    with ProgressBar("segment", len(manifest) * len(segmenters)) as bar:
        for recording in manifest:
            waveform = recording.load()
            for name, segmenter in segmenters.items():
                segmentations[name][recording.id] = segmenter(waveform, count(recording.id, waveform, segmenter))
                bar.advance(note=name)
    return segmentations


def compare_segmentations(
    predictions: Mapping[str, Mapping[str, Segmentation]],
    references: Mapping[str, AlignmentLike],
    *,
    protocol: str | Protocol = "paper",
    level: str = "syllable",
    tuning: Tuning | None = None,
) -> Comparison:
    """Score the segmentations of several systems against the references of the recordings that they hold.

    Args:
        predictions: {system: {recording id: Segmentation}}.
        references: alignments by recording id; others than of these recordings are ignored.
        protocol: which boundaries count. Where its shift is to be searched, each system's is searched on `tuning`;
            without `tuning` it is 0.
        level: kind of reference intervals: "syllable", "word" or "phone".
        tuning: development list for the shift.

    Raises:
        InputError: a recording is in the tuning list too, or has no reference.
    """
    chosen = get_protocol(protocol) if isinstance(protocol, str) else protocol
    tuned = chosen.shift is None and tuning is not None
    scores = {}
    for name, segmentations in predictions.items():
        wanted = {key: references[key] for key in segmentations if key in references}
        shared_ids(segmentations, wanted)
        shift = chosen.shift or 0.0
        if tuned and tuning is not None:
            both = segmentations.keys() & {id for values in tuning.predictions.values() for id in values}
            refuse_recordings("the tuning list must not be scored:", both, " of it")
            shift = tuning.find(name, chosen, level)
        scores[name] = score_boundaries(segmentations, wanted, chosen.with_shift(shift), level, TOLERANCES)
    return Comparison(chosen, scores, tuned, level)
