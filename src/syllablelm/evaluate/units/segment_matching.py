"""Matching of reference with predicted segments: one to one by overlap, or each with what it overlaps most."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from syllablelm.core.errors import InputError
from syllablelm.evaluate.boundaries.matching import to_intervals

IndexArray = npt.NDArray[np.int64]
# What a segment stands for that overlaps mostly with no reference interval.
SILENCE = ""


def match_segments(
    reference: npt.ArrayLike, predicted: npt.ArrayLike, matching: Literal["overlap", "full"] = "overlap"
) -> tuple[IndexArray, IndexArray]:
    """Match reference with predicted segments one to one so that the sum of their temporal IoU is maximal.

    Args:
        reference: (num_reference, 2) start and end in seconds, sorted, not overlapping.
        predicted: (num_predicted, 2) likewise.
        matching: "overlap" matches only segments that overlap, in linear time. "full" is what the released SD-HuBERT
            evaluation does: as many pairs as the shorter side has, even where they do not overlap (their IoU is then
            the negative distance over the hull), by the Hungarian algorithm on the dense matrix.

    Returns:
        Indices of the matched reference segments, ascending, and of their predicted partners.

    Raises:
        InputError: segments of another shape, unsorted or overlapping, or an unknown matching.
    """
    theirs, ours = to_intervals(reference, "reference segments"), to_intervals(predicted, "predicted segments")
    if matching == "full":
        return _match_full(theirs, ours)
    if matching == "overlap":
        return _match_overlap(theirs, ours)
    raise InputError(f"matching must be 'overlap', 'full', 'majority' or 'frames', not {matching!r}")


def _match_full(theirs: IndexArray, ours: IndexArray) -> tuple[IndexArray, IndexArray]:
    hull = np.maximum.outer(theirs[:, 1], ours[:, 1]) - np.minimum.outer(theirs[:, 0], ours[:, 0])
    shared = np.minimum.outer(theirs[:, 1], ours[:, 1]) - np.maximum.outer(theirs[:, 0], ours[:, 0])
    # The released code adds 1e-4 s, which is 100 microseconds, to every union.
    rows, columns = linear_sum_assignment(shared / (hull + 100), maximize=True)
    return rows.astype(np.int64), columns.astype(np.int64)


def _match_overlap(theirs: IndexArray, ours: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Exact assignment over overlapping pairs.

    Both sides are sorted and disjoint, so the overlapping pairs, taken in time order, form a staircase: of two pairs
    the later one has both indices equal or greater, and pairs that share a segment stand side by side. Choosing pairs
    without a shared segment is then the scheduling of weighted intervals, one pass over the pairs.
    """
    pairs: list[tuple[int, int, float]] = []
    first, r_list, p_list = 0, theirs.tolist(), ours.tolist()
    for r, (start, end) in enumerate(r_list):
        while first < len(p_list) and p_list[first][1] <= start:
            first += 1
        for p in range(first, len(p_list)):
            low, high = p_list[p]
            if low >= end:
                break
            shared = min(end, high) - max(start, low)
            if shared > 0:
                pairs.append((r, p, shared / (max(end, high) - min(start, low))))

    best = [0.0]  # best[k]: greatest sum over the first k pairs
    before: list[int] = []  # before[k]: number of pairs ahead of pair k that share no segment with it
    free = 0
    for k, (r, p, weight) in enumerate(pairs):
        while free < k and pairs[free][0] < r and pairs[free][1] < p:
            free += 1
        before.append(free)
        best.append(max(best[k], best[free] + weight))

    chosen: list[tuple[int, int]] = []
    k = len(pairs)
    while k > 0:
        if best[k] == best[k - 1]:
            k -= 1
        else:
            chosen.append(pairs[k - 1][:2])
            k = before[k - 1]
    matched = np.asarray(chosen[::-1], dtype=np.int64).reshape(-1, 2)
    return matched[:, 0], matched[:, 1]


def majority_labels(reference: npt.ArrayLike, labels: Sequence[str], predicted: npt.ArrayLike) -> list[str]:
    """Label each predicted segment with the reference interval that it overlaps most, as ZeroSyl does.

    Args:
        reference: (num_reference, 2) start and end in seconds, sorted, not overlapping.
        labels: labels of the reference intervals.
        predicted: (num_predicted, 2) likewise; segments that lie mostly in one gap of the reference are silence.

    Returns:
        One label for each predicted segment; of equally long overlaps the earliest.

    Raises:
        InputError: segments of another shape, unsorted or overlapping.
    """
    theirs, ours = to_intervals(reference, "reference segments"), to_intervals(predicted, "predicted segments")
    # Interval k of the timeline is silence where k is even; a gap of no length overlaps nothing.
    edges = theirs.ravel().tolist()
    found = []
    for start, end in ours.tolist():
        first = bisect_right(edges, start)
        last = max(first, bisect_left(edges, end))
        cuts = [start, *edges[first:last], end]
        lengths = [high - low for low, high in pairwise(cuts)]
        best = first + lengths.index(max(lengths))
        found.append(labels[best // 2] if best % 2 else SILENCE)
    return found
