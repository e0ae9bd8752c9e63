"""Compiled loops shared by MinSum and MinCut: costs of all short segments, and the dynamic program over them.

Both cuts fill one table, `costs[length, end]` = cost of the segment of `length` frames that ends before frame `end`,
and leave the choice of segments to `best_lengths`, which runs along the ends: one vector instruction serves eight of
them. MinSum's entries depend, bit by bit, on the frames of their own segment only, so padding, batching and windowing
cannot change them. The kernels release the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Compile a function by numba with options; kept on disk where the package or the user's cache can be written."""

    def decorate(function: _Function) -> _Function:
        try:
            kernel = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # neither the package folder nor the user's cache folder can be written
            kernel = numba.njit(nogil=True, **options)(function)
        return cast("_Function", kernel)

    return decorate


_ROWS = 4  # frames whose distances are computed together: two loads then serve eight of them
_BLOCK = 64  # frames between two moves of the window, a multiple of _ROWS


# "reassoc" and "contract" let the sums over dimensions use vector instructions; infinities and NaN keep their meaning.
@compiled(fastmath={"reassoc", "contract"})
def _distances(window: np.ndarray, reach: int, distances: np.ndarray) -> None:
    """Squared distances of the window's last `_BLOCK` frames to the `reach` frames before each.

    distances[row, column] is that of frame reach + row to frame row // _ROWS * _ROWS + column of the window. Every
    pair goes through the same instructions, wherever it lies in the window, so that its distance is the same.
    """
    num_dims = window.shape[1]
    for row in range(0, _BLOCK, _ROWS):
        a, b, c, d = window[reach + row], window[reach + row + 1], window[reach + row + 2], window[reach + row + 3]
        for column in range(0, reach + _ROWS - 1, 2):
            u, v = window[row + column], window[row + column + 1]
            au, av, bu, bv, cu, cv, du, dv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for dim in range(num_dims):
                x, y = u[dim], v[dim]
                au += (a[dim] - x) * (a[dim] - x)
                av += (a[dim] - y) * (a[dim] - y)
                bu += (b[dim] - x) * (b[dim] - x)
                bv += (b[dim] - y) * (b[dim] - y)
                cu += (c[dim] - x) * (c[dim] - x)
                cv += (c[dim] - y) * (c[dim] - y)
                du += (d[dim] - x) * (d[dim] - x)
                dv += (d[dim] - y) * (d[dim] - y)
            distances[row, column], distances[row, column + 1] = au, av
            distances[row + 1, column], distances[row + 1, column + 1] = bu, bv
            distances[row + 2, column], distances[row + 2, column + 1] = cu, cv
            distances[row + 3, column], distances[row + 3, column + 1] = du, dv


@compiled()
def _fill_costs(distances: np.ndarray, first: int, count: int, pairs: np.ndarray, costs: np.ndarray) -> None:
    """Costs of the segments that end with one of `count` frames from `first` on, from the `_distances` of their block.

    `pairs` holds, for the last two ends in turn, the sum of the distances between all frames of the segment, by its
    length; a segment's sum is that of the same segment without its last frame, and the distances to that frame.
    """
    max_length = costs.shape[0] - 1
    for row in range(count):
        end = first + row + 1
        before, now = pairs[(end - 1) % 2], pairs[end % 2]
        to_last = 0.0
        costs[1, end] = 0.0
        for length in range(2, min(max_length, end) + 1):
            to_last += distances[row, max_length + row % _ROWS - length]
            now[length] = before[length - 1] + to_last
            costs[length, end] = now[length] / length


def squared_error_costs(frames: np.ndarray, max_length: int) -> np.ndarray:
    """Sum of squared distances to the mean of every segment: (T, D) float32 or float64 -> (max_length + 1, T + 1).

    That sum is the sum of the squared distances between any two frames, over the length, so a table of distances
    between neighbours is all that is needed: O(T * max_length * D) once, then sums of non-negative terms. No
    differences of large sums: an offset common to all frames costs no precision, no cost is negative, and constant
    frames cost exactly 0. Everything is float64; the frames are converted a block at a time.
    """
    num_frames, num_dims = frames.shape
    reach = max_length - 1
    costs = np.full((max_length + 1, num_frames + 1), np.inf)
    window = np.zeros((reach + _BLOCK, num_dims))
    distances = np.empty((_BLOCK, reach + _ROWS))
    pairs = np.zeros((2, max_length + 1))
    for first in range(0, num_frames, _BLOCK):
        block = frames[first : first + _BLOCK]
        window[:reach] = window[_BLOCK:]
        window[reach : reach + len(block)] = block
        _distances(window, reach, distances)
        _fill_costs(distances, first, len(block), pairs, costs)
    return costs


@compiled()
def normalized_cut_costs(similarity: np.ndarray, max_length: int) -> np.ndarray:
    """Term of Eq. 2 of every segment: (T, T) float64 -> (max_length + 1, T + 1) float64.

    `within` grows along the diagonal by one frame's row and column at a time, so that short segments keep full
    precision in a large matrix (a two-dimensional prefix sum would not).
    """
    num_frames = similarity.shape[0]
    costs = np.full((max_length + 1, num_frames + 1), np.inf)
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
            costs[length, end] = cross / weight if weight > 0.0 else 0.0
        before, within = within, before
    return costs


def best_lengths(costs: np.ndarray, num_segments: int, min_length: int, at_most: bool) -> np.ndarray:
    """Length of the last segment of the best cut of frames [0, e) into j segments, for every j and e.

    With `at_most` no segment at all is a free way to cover no frames, whatever j, so that the best cut into j
    segments may hold fewer. Ties go to the shortest last segment.

    Returns (num_segments + 1, T + 1) integers; 0 where there is no such cut. Without `at_most` only the entries that
    lie on the way to (num_segments, T) are filled.
    """
    # One byte per entry where that holds the longest length: this table is most of what a cut keeps.
    kind = np.uint8 if costs.shape[0] <= 256 else np.int32
    lengths = np.zeros((num_segments + 1, costs.shape[1]), dtype=kind)
    _fill_lengths(costs, lengths, min_length, at_most)
    return lengths


_ENDS = 256  # ends that are solved together: their sums stay in the fastest cache while the lengths go by


@compiled()
def _fill_lengths(costs: np.ndarray, lengths: np.ndarray, min_length: int, at_most: bool) -> None:
    num_segments, max_length, num_frames = lengths.shape[0] - 1, costs.shape[0] - 1, costs.shape[1] - 1
    # The best totals by end, with max_length entries in front that stand for ends before the recording.
    before = np.full(max_length + num_frames + 1, np.inf)
    now = np.empty_like(before)
    best, chosen = np.empty(_ENDS), np.empty(_ENDS, dtype=np.int64)
    before[max_length] = 0.0
    for count in range(1, num_segments + 1):
        now[:] = np.inf
        if at_most:
            now[max_length] = 0.0
            first_end, last_end = min_length, min(num_frames, count * max_length)
        else:
            left = num_segments - count
            first_end = max(count * min_length, num_frames - left * max_length)
            last_end = min(count * max_length, num_frames - left * min_length)
        for first in range(first_end, last_end + 1, _ENDS):
            size = min(_ENDS, last_end + 1 - first)
            best[:] = np.inf
            chosen[:] = 0
            for length in range(min_length, min(max_length, first + size - 1) + 1):
                start = max_length + first - length
                totals, added = before[start : start + size], costs[length, first : first + size]
                for index in range(size):
                    total = totals[index] + added[index]
                    if total < best[index]:
                        best[index], chosen[index] = total, length
            now[max_length + first : max_length + first + size] = best[:size]
            for index in range(size):
                lengths[count, first + index] = chosen[index]
        before, now = now, before


@compiled()
def trace_back(lengths: np.ndarray, num_segments: int) -> np.ndarray:
    """Follow the last-segment lengths of `best_lengths` back from the end: int32 boundaries [0, ..., T]."""
    boundaries = np.empty(num_segments + 1, dtype=np.int32)
    end, first = lengths.shape[1] - 1, num_segments
    boundaries[first] = end
    for count in range(num_segments, 0, -1):
        if end == 0:
            break
        end -= int(lengths[count, end])
        first -= 1
        boundaries[first] = end
    return boundaries[first:]


@compiled()
def cut_at_penalty(costs: np.ndarray, penalty: float, min_length: int) -> np.ndarray:
    """The cut with the least sum of costs plus a penalty a segment: int32 boundaries [0, ..., T].

    Ties go to the shortest last segment. Every T from `min_length` on has a cut, if max_length >= 2 min_length - 1.
    """
    max_length, num_frames = costs.shape[0] - 1, costs.shape[1] - 1
    best = np.full(num_frames + 1, np.inf)
    lengths = np.zeros(num_frames + 1, dtype=np.int64)
    best[0] = 0.0
    for end in range(min_length, num_frames + 1):
        for length in range(min_length, min(max_length, end) + 1):
            total = best[end - length] + costs[length, end] + penalty
            if total < best[end]:
                best[end], lengths[end] = total, length
    count, end = 0, num_frames
    while end > 0:
        count, end = count + 1, end - lengths[end]
    boundaries = np.empty(count + 1, dtype=np.int32)
    end = num_frames
    for place in range(count, -1, -1):
        boundaries[place] = end
        end -= lengths[end]
    return boundaries


@compiled()
def search_count(costs: np.ndarray, lengths: np.ndarray, low: int, high: int, delta: float, quantile: float) -> int:
    """The last count that a binary search from low to high finds too coarse, else low (the released rule).

    Too coarse: the quantile over the segments of their cost per frame exceeds delta. As `numpy.quantile` with linear
    interpolation, rounding included; that function itself would take longer than all the rest of the search.
    """
    best = low
    while low <= high:
        middle = (low + high) // 2
        ends = trace_back(lengths, middle)
        means = np.empty(len(ends) - 1)
        for index in range(len(means)):
            size = ends[index + 1] - ends[index]
            means[index] = costs[size, ends[index + 1]] / size
        means.sort()
        place = quantile * (len(means) - 1)
        below = int(place)
        share = place - below
        lower, upper = means[below], means[min(below + 1, len(means) - 1)]
        value = lower + (upper - lower) * share if share < 0.5 else upper - (upper - lower) * (1.0 - share)
        if value > delta:
            low, best = middle + 1, middle
        else:
            high = middle - 1
    return best
