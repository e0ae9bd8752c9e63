"""MinSum in plain NumPy: the program of `kernels` for the first recordings of a process.

To load the compiler of the kernels takes longer than to cut a short recording without them. Each function does what the
kernel of its name does, additions in the same order; only the sums over dimensions are rounded otherwise, so that the
boundaries are the same except where two cuts cost the same to about 15 digits.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from syllablelm.segment.arrays import FloatArray, Frames, IntArray


def squared_error_costs(frames: Frames, max_length: int) -> FloatArray:
    """(T, D) -> (max_length + 1, T + 1) float64, see `kernels.squared_error_costs`; max_length is at most T."""
    num_frames = len(frames)
    x_TD = frames.astype(np.float64)
    costs = np.full((max_length + 1, num_frames + 1), np.inf)
    costs[1, 1:] = 0.0
    # Of each frame the sum of its distances to those before it in the segment; of each segment the sum over all pairs.
    to_last_T, pairs = np.zeros(num_frames), np.zeros(num_frames)
    for lag in range(1, max_length):
        gaps = x_TD[lag:] - x_TD[:-lag]
        to_last_T[lag:] += np.einsum("td,td->t", gaps, gaps)
        pairs = pairs[:-1] + to_last_T[lag:]
        costs[lag + 1, lag + 1 :] = pairs / (lag + 1)
    return costs


def best_lengths(costs: FloatArray, num_segments: int, min_length: int, at_most: bool) -> IntArray:
    """(num_segments + 1, T + 1), see `kernels.best_lengths`; any length where there is no cut."""
    max_length, num_ends = costs.shape[0] - 1, costs.shape[1]
    lengths = np.zeros((num_segments + 1, num_ends), dtype=np.int32)
    # In front of the recording's beginning lie max_length entries for the ends before it.
    totals = np.full(max_length + num_ends, np.inf)
    totals[max_length] = 0.0
    before = sliding_window_view(totals, num_ends)[max_length - min_length :: -1]
    for count in range(1, num_segments + 1):
        candidates = before + costs[min_length:]
        lengths[count] = candidates.argmin(axis=0) + min_length
        totals[max_length:] = candidates.min(axis=0)
        if at_most:
            totals[max_length] = 0.0
    return lengths


def trace_back(lengths: IntArray, num_segments: int) -> IntArray:
    """Boundaries [0, ..., T], see `kernels.trace_back`."""
    ends = [lengths.shape[1] - 1]
    for count in range(num_segments, 0, -1):
        if ends[-1] > 0:
            ends.append(ends[-1] - int(lengths[count, ends[-1]]))
    return np.array(ends[::-1], dtype=np.int32)


def search_count(costs: FloatArray, lengths: IntArray, low: int, high: int, delta: float, quantile: float) -> int:
    """The last count that a binary search finds too coarse, see `kernels.search_count`."""
    best = low
    while low <= high:
        middle = (low + high) // 2
        ends = trace_back(lengths, middle)
        sizes = np.diff(ends)
        if np.quantile(costs[sizes, ends[1:]] / sizes, quantile) > delta:
            low, best = middle + 1, middle
        else:
            high = middle - 1
    return best
