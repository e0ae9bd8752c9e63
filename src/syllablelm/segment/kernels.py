"""Compiled loops shared by MinSum and MinCut: costs of all short segments, and the dynamic program over them.

Both cuts fill one table, `costs[end, length]` = cost of the segment of `length` frames that ends before frame `end`,
and leave the choice of segments to `best_lengths`. Every entry depends on the frames of its own segment only, so
padding, batching and windowing cannot change it. The kernels release the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(**options: Any) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        try:
            kernel = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # neither the package folder nor the user's cache folder can be written
            kernel = numba.njit(nogil=True, **options)(function)
        return cast("_Function", kernel)

    return decorate


# "reassoc" and "contract" let the sum over dimensions use vector instructions; infinities and NaN keep their meaning.
@_compiled(fastmath={"reassoc", "contract"})
def squared_error_costs(frames: np.ndarray, max_length: int) -> np.ndarray:
    """Sum of squared distances to the mean of every segment: (T, D) float64 -> (T + 1, max_length + 1) float64.

    Welford's update, from the last frame of the segment backwards: no differences of large sums, so an offset common
    to all frames costs no precision, no cost is negative, and constant frames cost exactly 0.
    """
    num_frames, num_dims = frames.shape
    costs = np.full((num_frames + 1, max_length + 1), np.inf)
    mean = np.empty(num_dims)
    for end in range(1, num_frames + 1):
        mean[:] = frames[end - 1]
        cost = 0.0
        costs[end, 1] = 0.0
        for length in range(2, min(max_length, end) + 1):
            frame = frames[end - length]
            share = 1.0 / length
            square = 0.0
            for dim in range(num_dims):
                delta = frame[dim] - mean[dim]
                mean[dim] += delta * share
                square += delta * delta
            cost += square * (1.0 - share)
            costs[end, length] = cost
    return costs


@_compiled()
def normalized_cut_costs(similarity: np.ndarray, max_length: int) -> np.ndarray:
    """Term of Eq. 2 of every segment: (T, T) float64 -> (T + 1, max_length + 1) float64.

    `within` grows along the diagonal by one frame's row and column at a time, so that short segments keep full
    precision in a large matrix (a two-dimensional prefix sum would not).
    """
    num_frames = similarity.shape[0]
    costs = np.full((num_frames + 1, max_length + 1), np.inf)
    degree = np.zeros(num_frames)
    for row in range(num_frames):
        for column in range(num_frames):
            degree[row] += 0.5 * similarity[row, column]
            degree[column] += 0.5 * similarity[row, column]
    before = np.zeros(max_length + 1)
    within = np.zeros(max_length + 1)
    for end in range(1, num_frames + 1):
        last = end - 1
        added = -similarity[last, last]
        total = 0.0
        for length in range(1, min(max_length, end) + 1):
            first = end - length
            added += similarity[last, first] + similarity[first, last]
            within[length] = before[length - 1] + added
            total += degree[first]
            cross = max(0.0, total - within[length])
            weight = 0.5 * within[length] + cross
            costs[end, length] = cross / weight if weight > 0.0 else 0.0
        before, within = within, before
    return costs


@_compiled()
def best_lengths(costs: np.ndarray, num_segments: int, min_length: int, at_most: bool) -> np.ndarray:
    """Length of the last segment of the best cut of frames [0, e) into j segments, for every j and e.

    With `at_most` no segment at all is a free way to cover no frames, whatever j, so that the best cut into j
    segments may hold fewer. Ties go to the shortest last segment.

    Returns (num_segments + 1, T + 1) int32; 0 where there is no such cut. Without `at_most` only the entries that
    lie on the way to (num_segments, T) are filled.
    """
    num_frames, max_length = costs.shape[0] - 1, costs.shape[1] - 1
    lengths = np.zeros((num_segments + 1, num_frames + 1), dtype=np.int32)
    before = np.full(num_frames + 1, np.inf)
    before[0] = 0.0
    for count in range(1, num_segments + 1):
        now = np.full(num_frames + 1, np.inf)
        if at_most:
            now[0] = 0.0
            first_end, last_end = min_length, min(num_frames, count * max_length)
        else:
            left = num_segments - count
            first_end = max(count * min_length, num_frames - left * max_length)
            last_end = min(count * max_length, num_frames - left * min_length)
        for end in range(first_end, last_end + 1):
            best, best_length = np.inf, 0
            for length in range(min_length, min(max_length, end) + 1):
                cost = before[end - length] + costs[end, length]
                if cost < best:
                    best, best_length = cost, length
            now[end] = best
            lengths[count, end] = best_length
        before = now
    return lengths
