"""Segmenters side by side on the same recordings: the paper's Tables 1, 4 and 5, extended by baselines and layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import Manifest
from syllablelm.evaluate.bootstrap import bootstrap_difference, bootstrap_interval
from syllablelm.evaluate.boundaries.scores import (
    AlignmentLike,
    BoundaryScores,
    Protocol,
    get_protocol,
    score_boundaries,
    search_shift,
    shared_ids,
)
from syllablelm.segment.registry import Segmenter

Waveform = npt.NDArray[np.float32]
# How many groups a segmenter is asked for: as the reference has boundaries, or a fixed number per second.
Count = Callable[[str, Waveform, Segmenter], int]


@dataclass(frozen=True)
class Tuning:
    """A development list on which shifts are searched, apart from what is reported.

    Args:
        predictions: segmentations of its recordings by each segmenter: {segmenter: {recording id: Segmentation}}.
        references: alignments by recording id.
    """

    predictions: Mapping[str, Mapping[str, Segmentation]]
    references: Mapping[str, AlignmentLike]

    def find(self, segmenter: str, protocol: Protocol, level: str) -> float:
        """The shift in seconds with which one segmenter scores best on the list.

        Raises:
            InputError: the list was not segmented by this segmenter.
        """
        if segmenter not in self.predictions:
            raise InputError(
                f"the tuning list has no segmentations of {segmenter!r}; it has {', '.join(self.predictions)}"
            )
        predictions = self.predictions[segmenter]
        return search_shift(predictions, {id: self.references[id] for id in predictions}, protocol, level)


@dataclass(frozen=True)
class Comparison:
    """Scores of several segmenters on the same utterances under one protocol, against one kind of reference.

    Args:
        protocol: as it was asked for; where its shift was searched, each segmenter has its own, in its scores.
        scores: by segmenter.
        tuned: whether shifts were searched on a development list.
        level: what the reference intervals are, such as "syllable".
    """

    protocol: Protocol
    scores: Mapping[str, BoundaryScores]
    tuned: bool = False
    level: str = "syllable"

    def rows(self, *, baseline: str | None = None, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
        """One row per segmenter: scores at each tolerance with bootstrap 95 % intervals over utterances.

        Args:
            baseline: also give each row's F1 difference from this segmenter, paired over utterances.
        """
        if baseline is not None and baseline not in self.scores:
            raise InputError(f"no segmenter {baseline!r} among {', '.join(self.scores)}")
        rows = []
        for name, score in self.scores.items():
            row: dict[str, Any] = {"segmenter": name, "level": self.level, "protocol": self.protocol.name}
            row |= {"shift": score.protocol.shift, "tuned": self.tuned}
            row |= _scores(score, resamples, seed)
            if baseline is not None and name != baseline:
                items, other = score.items(), self.scores[baseline].items()
                gain, low, high = bootstrap_difference(items, other, _f1, resamples=resamples, seed=seed)
                row |= {"gain": gain, "gain_low": low, "gain_high": high}
            rows.append(row)
        return rows


def _scores(score: BoundaryScores, resamples: int, seed: int) -> dict[str, Any]:
    """Boundary and token scores of one segmenter."""
    main, tokens = score.total(), score.token_total()
    row: dict[str, Any] = {f"f1@{round(1000 * tolerance)}": total.f1 for tolerance, total in score.totals.items()}
    row |= {"precision": main.precision, "recall": main.recall, "r_value": main.r_value}
    low, high = bootstrap_interval(score.items(), _f1, resamples=resamples, seed=seed)
    row |= {"f1_low": low, "f1_high": high}
    row |= {"hits": main.hits, "predicted": main.predicted, "reference": main.reference}
    row |= {f"token_{key}": value for key, value in tokens.to_dict().items()}
    low, high = bootstrap_interval(score.token_items(), _f1, resamples=resamples, seed=seed)
    return row | {"token_f1_low": low, "token_f1_high": high}


def _f1(counts: Any) -> float:
    return counts.f1


def reference_count(references: Mapping[str, AlignmentLike]) -> Count:
    """As many groups as give the number of boundaries that the reference has: starts and ends, so pauses count too."""

    def count(name: str, waveform: Waveform, segmenter: Segmenter) -> int:
        return max(1, len(np.asarray(references[name].boundaries("syllable"))) - 1)

    return count


def rate_count(rate: float) -> Count:
    """round(rate x seconds) groups."""
    return lambda name, waveform, segmenter: segmenter.count_groups(waveform, rate)


def segment_corpus(
    manifest: Manifest, segmenters: Mapping[str, Segmenter], count: Count
) -> dict[str, dict[str, Segmentation]]:
    """Segment every recording with every segmenter: {segmenter: {recording id: Segmentation}}."""
    found: dict[str, dict[str, Segmentation]] = {name: {} for name in segmenters}
    with ProgressBar("segment", len(manifest) * len(segmenters)) as bar:
        for recording in manifest:
            waveform = recording.load()
            for name, segmenter in segmenters.items():
                found[name][recording.id] = segmenter(waveform, count(recording.id, waveform, segmenter))
                bar.advance(note=name)
    return found


def compare_segmentations(
    predictions: Mapping[str, Mapping[str, Segmentation]],
    references: Mapping[str, AlignmentLike],
    *,
    protocol: str | Protocol = "paper",
    level: str = "syllable",
    tuning: Tuning | None = None,
    tolerances: Sequence[float] = (0.02, 0.05),
) -> Comparison:
    """Score several sets of predictions against the references of the recordings that they hold.

    Args:
        predictions: {segmenter: {recording id: Segmentation}}.
        references: alignments by recording id; more than these are passed over.
        protocol: which boundaries count. Where it needs a shift and has none, each segmenter's is searched on
            `tuning`; without `tuning` it is 0 and the rows say that it was not tuned.
        level: which reference intervals count: "syllable", "word" or "phone".
        tuning: development list for the shift.
        tolerances: seconds.

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
            both = sorted(segmentations.keys() & {id for found in tuning.predictions.values() for id in found})
            if both:
                raise InputError(
                    f"the tuning list must not be scored: {len(both)} of its recordings are, such as {both[0]!r}"
                )
            shift = tuning.find(name, chosen, level)
        scores[name] = score_boundaries(segmentations, wanted, chosen.with_shift(shift), level, tuple(tolerances))
    return Comparison(chosen, scores, tuned, level)
