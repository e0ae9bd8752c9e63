"""MinSum: cut a recording into segments so that the frames of each lie closest to their mean (Eq. 4).

Costs are sums of squared errors in float64, whatever the precision of the features, which are not copied (see
`kernels.squared_error_costs`). Time is O(T * max_length * D) for the costs and O(k * T * max_length) for the cut,
which solves every smaller count as well; it keeps 8 * T * max_length + k * T bytes per recording, so recordings of
many minutes are better cut in windows. Recordings of a batch are cut on all cores; features on a GPU are cut there
(see `minsum_torch`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import (
    FloatArray,
    IntArray,
    check_count,
    feasible_range,
    is_batch,
    is_on_gpu,
    map_clips,
    split_batch,
    to_frames,
)


def feasible_count(num_frames: int, wanted: int, min_length: int = 1, max_length: int = 50) -> int:
    """Clip a wanted number of segments, maybe zero or negative, to a count that `minsum` accepts.

    It is at least 1 for a recording with frames, 0 for one without.

    Raises:
        InputError: the limits are not usable, or no count fits (only if max_length < 2 * min_length - 1).
    """
    fewest, most = feasible_range(num_frames, min_length, max_length)
    return min(max(wanted, fewest), most)


def segment_costs(features: Any, max_length: int) -> FloatArray:
    """Sum of squared errors of every segment of (T, D) features of up to `max_length` frames (D[t, g] of the paper).

    Returns:
        (T + 1, max_length + 1) float64: entry [e, g] is the cost of frames [e - g, e), infinity where g < 1 or g > e.
    """
    if max_length < 1:
        raise InputError(f"max_length must be at least 1 frame, not {max_length}")
    from syllablelm.segment.kernels import squared_error_costs

    return squared_error_costs(to_frames(features, "features"), max_length).T


def minsum(
    features: Any,
    num_segments: int | Sequence[int],
    *,
    lengths: Any = None,
    min_length: int = 1,
    max_length: int = 50,
) -> Any:
    """Cut features into exactly `num_segments` segments with the least sum of squared errors (exact optimum of Eq. 4).

    Args:
        features: (T, D) array or tensor; or a batch, (B, T, D) padded at the end or a list of (T_b, D).
        num_segments: number of segments; for a batch one number for all or one per recording.
        lengths: true frame counts of a padded batch, B integers (one integer for (T, D)); None means no padding.
        min_length: shortest segment, in frames; a recording shorter than that is one segment.
        max_length: longest segment, in frames.

    Returns:
        int32 boundaries [0, ..., T], num_segments + 1 of them; for a batch a list of such arrays.
        Ties go to the shortest last segment. A recording without frames gives [0], for num_segments = 0 only.

    Raises:
        InputError: wrong shapes, values that are not finite, or a number of segments that cannot cover the recording.
    """
    clips = split_batch(features, lengths)
    given: Any = num_segments
    wanted = np.asarray(given.tolist() if hasattr(given, "tolist") else given)
    if wanted.size and not np.issubdtype(wanted.dtype, np.integer):
        raise InputError(f"num_segments must be integers, not {wanted.dtype}")
    counts = wanted.tolist() if wanted.ndim else [wanted.item()] * len(clips)
    if len(counts) != len(clips):
        raise InputError(f"num_segments must be one number or one per recording: {len(clips)}, not {len(counts)}")
    for clip, count in zip(clips, counts, strict=True):
        check_count(count, len(clip), min_length, max_length)

    def choose(program: Any, index: int, costs: FloatArray, table: _Table) -> IntArray:
        return program.trace_back(table, counts[index])

    cut = _cut(clips, counts, min_length, max_length, False, choose)
    return cut if is_batch(features) else cut[0]


def minsum_penalty(features: Any, penalty: float, *, min_length: int = 1, max_length: int = 50) -> IntArray:
    """Cut the features of one recording where the sum of squared errors plus a penalty a segment is least.

    It is MinSum with the number of segments that the penalty makes worth their cost. Unlike a given number, a penalty
    decides locally: what comes a few segments later has no influence on a boundary.

    Args:
        features: (T, D) array or tensor, of which a copy is cut on the CPU.
        penalty: cost that every segment adds, in squared error per dimension; it belongs to one encoder's scale.
        min_length, max_length: limits in frames; a recording shorter than the least is one segment.

    Returns:
        int32 boundaries [0, ..., T]; [0] without frames.

    Raises:
        InputError: wrong shapes, values that are not finite, a penalty below 0, or limits that fit no recording.
    """
    if not (math.isfinite(penalty) and penalty >= 0.0):
        raise InputError(f"penalty {penalty}: must be a finite number of at least 0")
    frames = to_frames(features, "features")
    feasible_count(len(frames), 1, min_length, max_length)
    if len(frames) <= min_length:
        return np.unique([0, len(frames)]).astype(np.int32)
    from syllablelm.segment.kernels import cut_at_penalty, squared_error_costs

    costs = squared_error_costs(frames, min(max_length, len(frames)))
    return cut_at_penalty(costs, penalty * frames.shape[1], min_length)


_Table = npt.NDArray[np.integer]
# Products of one process that NumPy computes before the kernels are loaded: they take about as long as loading does.
_PLAIN_PRODUCTS = 200_000_000
_plain_products = 0


def _load_program(clips: list[Any], max_length: int) -> Any:
    """Return the module of the kernels, or, for a short recording while they are not loaded, that of plain NumPy."""
    global _plain_products
    if len(clips) == 1 and not is_on_gpu(clips) and "syllablelm.segment.kernels" not in sys.modules:
        _plain_products += clips[0].size * max_length
        if _plain_products <= _PLAIN_PRODUCTS:
            from syllablelm.segment import minsum_numpy

            return minsum_numpy
    from syllablelm.segment import kernels

    return kernels


def _cut(
    clips: list[Any],
    counts: list[int],
    min_length: int,
    max_length: int,
    at_most: bool,
    choose: Callable[[Any, int, FloatArray, _Table], IntArray],
) -> list[IntArray]:
    """Solve every clip for all counts up to its own; `choose(program, index, costs, table)` names the boundaries."""
    found = [np.unique([0, len(clip)]).astype(np.int32) for clip in clips]  # right for clips of one segment, or none
    longer = [index for index, clip in enumerate(clips) if len(clip) > min_length]
    program = _load_program(clips, max_length)
    if is_on_gpu(clips):
        from syllablelm.segment.minsum_torch import solve as solve_together

        solved = solve_together(
            [clips[index] for index in longer], [counts[index] for index in longer], min_length, max_length, at_most
        )
        cut = [choose(program, index, costs, table) for index, (costs, table) in zip(longer, solved, strict=True)]
    else:

        def solve(index: int) -> IntArray:
            costs = program.squared_error_costs(clips[index], min(max_length, len(clips[index])))
            return choose(program, index, costs, program.best_lengths(costs, counts[index], min_length, at_most))

        cut = map_clips(solve, longer)
    for index, boundaries in zip(longer, cut, strict=True):
        found[index] = boundaries
    return found


def minsum_dynamic(
    features: Any,
    delta: float,
    *,
    lengths: Any = None,
    quantile: float = 0.75,
    max_rate: float = 0.2,
    min_length: int = 3,
    max_length: int = 35,
) -> Any:
    """Cut features into as many segments as their spread asks for: the rule of the released SyllableLM code.

    With m = int(max_rate * T), a binary search over counts from m // 3 to m keeps the last probed count whose
    segments are still too wide: whose `quantile` of the segments' mean squared error, per frame and dimension, exceeds
    `delta`. That is usually one segment fewer than the first count that would pass; the released units depend on it.
    A probe for j segments allows fewer than j. Ties go to the shortest last segment.

    The released rule is undefined below 15 frames (m // 3 = 0); there the search starts from one segment, so the
    shortest recordings are one segment, and one without frames gives [0]. The released code also caps costs at 16384,
    which features of its encoder never reach; this function does not.

    Args:
        features, lengths: see `minsum`.
        delta: threshold on the mean squared error per frame and dimension; it belongs to one encoder's scale
            (released: .0033, .0028, .0019 for 8.33, 6.25, 5.0 Hz).
        quantile: which of the segments, ordered by mean squared error, is compared with delta.
        max_rate: most segments per frame (0.2 at 50 frames per second: 10 Hz).
        min_length, max_length: limits in frames (the released code uses at most 50 for LibriSpeech, 35 for LibriLight).

    Returns:
        int32 boundaries [0, ..., T]; for a batch a list of such arrays.

    Raises:
        InputError: wrong shapes, values that are not finite, or settings that are not usable.
    """
    if not (math.isfinite(delta) and 0.0 <= quantile <= 1.0 and 0.0 < max_rate <= 1.0):
        raise InputError("minsum_dynamic needs a finite delta, a quantile in [0, 1] and a max_rate in (0, 1]")
    clips = split_batch(features, lengths)
    most = [int(max_rate * len(clip)) for clip in clips]
    lowest = [
        max(feasible_range(len(clip), min_length, max_length)[0], count // 3)
        for clip, count in zip(clips, most, strict=True)
    ]
    highest = [max(pair) for pair in zip(most, lowest, strict=True)]

    def choose(program: Any, index: int, costs: FloatArray, table: _Table) -> IntArray:
        # Costs are sums over the dimensions, delta is a mean over them.
        limit = delta * clips[index].shape[1]
        count = program.search_count(costs, table, lowest[index], highest[index], limit, quantile)
        return program.trace_back(table, count)

    cut = _cut(clips, highest, min_length, max_length, True, choose)
    return cut if is_batch(features) else cut[0]
