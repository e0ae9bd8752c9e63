"""Segmenters side by side on the same recordings: the paper's Table 4, extended by baselines and layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.corpus import Manifest
from syllablelm.errors import InputError
from syllablelm.evaluate.bootstrap import bootstrap_difference, bootstrap_interval
from syllablelm.evaluate.boundaries import (
    AlignmentLike,
    BoundaryScores,
    Protocol,
    get_protocol,
    score_boundaries,
    shared_ids,
)
from syllablelm.progress import ProgressBar
from syllablelm.segmenters import Segmenter, as_segmentation, count_frames, count_groups
from syllablelm.types import Segmentation

Waveform = npt.NDArray[np.float32]
# How many groups a segmenter is asked for: as many as the reference has, or a fixed number per second.
Count = Callable[[str, Waveform], int]


@dataclass(frozen=True)
class Comparison:
    """Scores of several segmenters on the same utterances under one protocol."""

    protocol: Protocol
    scores: Mapping[str, BoundaryScores]

    def rows(self, *, baseline: str | None = None, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
        """One row per segmenter: scores at each tolerance with bootstrap 95 % intervals over utterances.

        Args:
            baseline: also give each row's F1 difference from this segmenter, paired over utterances.
        """
        if baseline is not None and baseline not in self.scores:
            raise InputError(f"no segmenter {baseline!r} among {', '.join(self.scores)}")
        rows = []
        for name, score in self.scores.items():
            main = score.total(self.protocol.tolerance)
            items = score.items(self.protocol.tolerance)
            low, high = bootstrap_interval(items, _f1, resamples=resamples, seed=seed)
            row: dict[str, Any] = {"segmenter": name}
            for tolerance, total in score.totals.items():
                row[f"f1@{round(1000 * tolerance)}"] = total.f1
            row |= {"precision": main.precision, "recall": main.recall, "r_value": main.r_value}
            row |= {"f1_low": low, "f1_high": high, "predicted": main.predicted, "reference": main.reference}
            if baseline is not None and name != baseline:
                other = self.scores[baseline].items(self.protocol.tolerance)
                gain, low, high = bootstrap_difference(items, other, _f1, resamples=resamples, seed=seed)
                row |= {"gain": gain, "gain_low": low, "gain_high": high}
            rows.append(row)
        return rows


def _f1(counts: Any) -> float:
    return counts.f1


def reference_count(references: Mapping[str, AlignmentLike]) -> Count:
    """As many groups as give the number of boundaries that the reference has (its own edges included)."""

    def count(name: str, waveform: Waveform) -> int:
        return max(1, len(np.asarray(references[name].boundaries("syllable"))) - 1)

    return count


def rate_count(rate: float) -> Count:
    """round(rate x seconds) groups."""
    return lambda name, waveform: count_groups(count_frames(len(waveform)), rate)


def segment_corpus(
    manifest: Manifest, segmenters: Mapping[str, Segmenter], count: Count
) -> dict[str, dict[str, Segmentation]]:
    """Segment every recording with every segmenter: {segmenter: {recording id: Segmentation}}."""
    found: dict[str, dict[str, Segmentation]] = {name: {} for name in segmenters}
    with ProgressBar("segment", len(manifest) * len(segmenters)) as bar:
        for recording in manifest:
            waveform = recording.load()
            groups = min(count(recording.id, waveform), max(1, count_frames(len(waveform))))
            for name, segmenter in segmenters.items():
                found[name][recording.id] = as_segmentation(segmenter(waveform, groups), count_frames(len(waveform)))
                bar.advance(note=name)
    return found


def compare_segmentations(
    predictions: Mapping[str, Mapping[str, Segmentation]],
    references: Mapping[str, AlignmentLike],
    *,
    protocol: str | Protocol = "paper",
    tolerances: Sequence[float] = (0.02, 0.05),
) -> Comparison:
    """Score several sets of predictions against the references of the recordings that they hold."""
    chosen = get_protocol(protocol) if isinstance(protocol, str) else protocol
    scores = {}
    for name, segmentations in predictions.items():
        wanted = {key: references[key] for key in segmentations if key in references}
        shared_ids(segmentations, wanted)
        scores[name] = score_boundaries(segmentations, wanted, chosen, tolerances=tuple(tolerances))
    return Comparison(chosen, scores)
