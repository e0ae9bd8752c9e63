"""Matching of predicted with reference times, and the counts and ratios that come of it (section 5.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.data.alignment import TOLERANCE
from syllablelm.evaluate.counts import Counts

MicrosecondArray = npt.NDArray[np.int64]
# Microseconds, or seconds where a protocol wants binary floats.
TimeArray = npt.NDArray[np.int64] | npt.NDArray[np.float64]
# Edges no farther apart than this (microseconds) are one edge, written twice with an aligner's rounding.
TOUCH = round(TOLERANCE * 1e6)


@dataclass(frozen=True)
class HitCounts(Counts):
    """Counts of a comparison of two lists; add those of utterances to get those of a corpus.

    Args:
        hits: pairs of a predicted and a reference thing that agree, each thing used once.
        predicted, reference: predicted things and reference things.

    A ratio whose denominator is zero is 0.0 (nothing was shown to be right), so every property is finite.

    Raises:
        InputError: a count is negative, or there are more hits than things on one side.
    """

    hits: int = 0
    predicted: int = 0
    reference: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= min(self.predicted, self.reference):
            raise InputError(
                f"{type(self).__name__} needs 0 <= hits <= predicted and reference, not hits={self.hits}, "
                f"predicted={self.predicted}, reference={self.reference}"
            )

    @property
    def precision(self) -> float:
        """Hits / predicted."""
        return self.hits / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Hits / reference."""
        return self.hits / self.reference if self.reference else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 hits / (predicted + reference)."""
        total = self.predicted + self.reference
        return 2 * self.hits / total if total else 0.0

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        return {name: getattr(self, name) for name in ("hits", "predicted", "reference", "precision", "recall", "f1")}


@dataclass(frozen=True)
class BoundaryCounts(HitCounts):
    """Counts of a boundary comparison: a hit is a pair of boundaries within the tolerance."""

    @property
    def over_segmentation(self) -> float:
        """OS = recall / precision - 1 = predicted / reference - 1; the second form also holds without a hit."""
        return self.predicted / self.reference - 1 if self.reference else 0.0

    @property
    def r_value(self) -> float:
        """R-value (Räsänen et al. 2009): 1 - (|r1| + |r2|) / 2; 0.0 where there is no reference boundary.

        r1 = sqrt((1 - recall)^2 + OS^2), r2 = (recall - 1 - OS) / sqrt(2). One is perfect; it has no lower bound,
        and predicting nothing at all gives 1 - 1/sqrt(2) = .293, not zero.
        """
        if not self.reference:
            return 0.0
        miss, over = 1 - self.recall, self.over_segmentation
        return 1 - (math.hypot(miss, over) + abs(miss + over) / math.sqrt(2)) / 2

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        return super().to_dict() | {"over_segmentation": self.over_segmentation, "r_value": self.r_value}


def to_microseconds(seconds: npt.ArrayLike, name: str = "times") -> MicrosecondArray:
    """Round times in seconds, of any shape, to int64 microseconds; InputError for what is no finite number."""
    try:
        values = np.asarray(seconds, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers in seconds: {error}") from error
    if not np.all(np.isfinite(values)):
        raise InputError(f"{name} must be finite times in seconds, not NaN or infinite")
    return np.rint(values * 1e6).astype(np.int64)


def to_intervals(seconds: npt.ArrayLike, name: str) -> MicrosecondArray:
    """Round (num_intervals, 2) starts and ends in seconds to int64 microseconds.

    An overlap of at most 1 ms is an aligner's rounding: the later interval then starts where the earlier one ends.

    Raises:
        InputError: another shape, not finite, not sorted by time, or overlapping.
    """
    times = to_microseconds(seconds, name)
    if times.size == 0:
        return times.reshape(0, 2)
    if times.ndim != 2 or times.shape[1] != 2:
        raise InputError(f"{name} must have shape (number, 2), not {times.shape}")
    overlap = times[:-1, 1] - times[1:, 0]
    rounding = (overlap > 0) & (overlap <= TOUCH) & (times[1:, 1] >= times[:-1, 1])
    times[1:, 0] += np.where(rounding, overlap, 0)
    if np.any(times[:, 1] < times[:, 0]) or np.any(times[1:, 0] < times[:-1, 1]):
        raise InputError(f"{name} must be sorted by time and must not overlap")
    return times


def boundary_counts(
    predicted_seconds: npt.ArrayLike, reference_seconds: npt.ArrayLike, tolerance: float = 0.05
) -> BoundaryCounts:
    """Match predicted with reference boundaries and count the hits (section 5.4).

    Args:
        predicted_seconds, reference_seconds: (num_predicted,) and (num_reference,) times in seconds, in any order; a
            time that is given twice counts twice, as each boundary is used once.
        tolerance: greatest distance of a hit in seconds, itself included.

    Times are compared as whole microseconds: with alignments in steps of 10 ms a distance of exactly 50 ms is common,
    and in floating point it would be a hit or a miss by chance.

    Raises:
        InputError: times that are not one-dimensional or not finite, or a negative tolerance.
    """
    predicted = to_microseconds(predicted_seconds, "predicted_seconds")
    reference = to_microseconds(reference_seconds, "reference_seconds")
    if predicted.ndim != 1 or reference.ndim != 1:
        raise InputError(f"Boundaries must be one-dimensional, not {predicted.shape} and {reference.shape}")
    return count_hits(np.sort(predicted), np.sort(reference), tolerance_in_microseconds(tolerance))


def tolerance_in_microseconds(seconds: float) -> int:
    """Round a tolerance in seconds; InputError for what is not one number, or negative."""
    width = to_microseconds(seconds, "tolerance")
    if width.ndim != 0 or width < 0:
        raise InputError(f"tolerance must be one number of seconds, zero or more, not {seconds}")
    return int(width)


def count_hits(predicted: TimeArray, reference: TimeArray, tolerance: float) -> BoundaryCounts:
    """Greedy two-pointer matching of sorted times; all windows are equally wide, so greedy is a maximum matching."""
    ours, theirs = predicted.tolist(), reference.tolist()
    i = j = hits = 0
    while i < len(ours) and j < len(theirs):
        distance = ours[i] - theirs[j]
        if -tolerance <= distance <= tolerance:
            hits, i, j = hits + 1, i + 1, j + 1
        elif distance < 0:
            i += 1
        else:
            j += 1
    return BoundaryCounts(hits, len(ours), len(theirs))


@dataclass(frozen=True)
class TokenCounts(HitCounts):
    """Counts of a comparison of segments: a hit is a pair of which both starts and both ends agree.

    Stricter than boundary scores, where every second boundary alone can still be a hit; ZeroSyl and the word
    segmentation literature print them.
    """


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
