"""Token scores: a predicted segment is right when both of its edges are.

Stricter than boundary scores, where every second boundary alone can still be a hit; ZeroSyl and the word segmentation
literature print them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.boundaries.matching import HitCounts, TimeArray, to_intervals, tolerance_in_microseconds
from syllablelm.evaluate.boundaries.selection import AlignmentLike, interval_times, shared_ids


@dataclass(frozen=True)
class TokenCounts(HitCounts):
    """Counts of a token comparison: a hit is a pair of segments of which both starts and both ends agree."""


def count_token_hits(predicted: TimeArray, reference: TimeArray, tolerance: float) -> TokenCounts:
    """Match predicted with reference segments one to one and count the hits.

    Args:
        predicted, reference: (n, 2) starts and ends in microseconds, as `to_intervals` gives them.
        tolerance: greatest distance of two starts, and of two ends, of a hit in microseconds, itself included.

    Starts and ends both ascend on both sides, so what a segment may be matched with is a window that only moves
    forward, and taking the earliest free one is a maximum matching.
    """
    ours, theirs = predicted.tolist(), reference.tolist()
    i = j = hits = 0
    while i < len(ours) and j < len(theirs):
        (start, end), (true_start, true_end) = ours[i], theirs[j]
        if start > true_start + tolerance or end > true_end + tolerance:
            # The reference lies too early for this prediction, hence for all later ones.
            j += 1
        elif start < true_start - tolerance or end < true_end - tolerance:
            i += 1
        else:
            hits, i, j = hits + 1, i + 1, j + 1
    return TokenCounts(hits, len(ours), len(theirs))


def score_tokens(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    level: str = "syllable",
    tolerance: float = 0.05,
) -> dict[str, TokenCounts]:
    """Token counts of each recording, whole and without a shift, by sorted id; `sum` of the values gives the corpus.

    Raises:
        InputError: ids missing on either side.
    """
    width = tolerance_in_microseconds(tolerance)
    return {
        id: count_token_hits(
            to_intervals(predictions[id].seconds, "predicted segments"), interval_times(references[id], level), width
        )
        for id in shared_ids(predictions, references)
    }
