"""The segmenters of other systems, from their papers and published code, as functions of features alone.

Where a system leaves frames out (silence, by the norm of its features), the result is pairs: (num_segments, 2) int32,
start and end of every segment in frames, sorted, not overlapping; where it covers the recording, boundaries
[0, ..., T]. The norm thresholds belong to the scale of one checkpoint each; `relative_threshold` gives one for any
other encoder.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import FloatArray, IntArray, to_finite
from syllablelm.segment.graph_cut import merge_pairs, merge_similar, mincut, similarity_matrix

# Of the norms of these systems' own features.
SDHUBERT_THRESHOLD, SYLBER_THRESHOLD = 2.0, 2.6
_TINY = 1e-8  # Sylber's guard against zero norms, added to squared norms


def similarity_merge(features: Any, *, frames_per_segment: float = 10.0, merge_threshold: float = 0.3) -> IntArray:
    """MinCut on feature similarity, then a merge of similar neighbours (Peng et al. 2023, "minCutMerge").

    Args:
        features: (T, D); returned are int32 boundaries [0, ..., T].
        frames_per_segment: the cut makes ceil(T / this) segments; 10 is the published 0.2 s at 50 frames per second.
        merge_threshold: minimum cosine similarity of two neighbours' means to merge them.
    """
    frames = to_finite(features, "features", 2)
    cut = mincut(similarity_matrix(frames), _count(len(frames), frames_per_segment))
    return merge_similar(frames, cut, merge_threshold)


def norm_threshold_mincut(
    features: Any,
    *,
    norms: Any = None,
    threshold: float = SDHUBERT_THRESHOLD,
    frames_per_segment: float = 10.0,
    shortest_cut: int = 5,
    shortest_kept: int = 3,
    merge_threshold: float = 0.3,
) -> IntArray:
    """SD-HuBERT's segmenter as at its paper's time: frames of large norm are speech, and every run of them is cut.

    Each run is cut by MinCut on its dot products into ceil(frames / frames_per_segment) segments; the short ones among
    them are left out; then, while at least three are left, the two most similar neighbours merge, over a gap too. Runs
    shorter than `shortest_cut` are one segment. Unlike the released code, the cut reaches the last frame of its run.

    Args:
        features, norms: (T, D), the published ones of layer 9; and (T,) norms that the threshold is applied to, the
            published ones of layer 11 (None: those of `features`).
        threshold: frames of a larger norm are speech; the default belongs to the SD-HuBERT checkpoint.
        frames_per_segment, merge_threshold: see `similarity_merge`.
        shortest_cut: minimum length of a run that is divided, in frames.
        shortest_kept: minimum length of a segment of a divided run, in frames, unless the run has no longer one.

    Returns:
        (num_segments, 2) int32 pairs.
    """
    frames = to_finite(features, "features", 2)
    loudness = _norms(frames) if norms is None else to_finite(norms, "norms", 1)
    if len(loudness) != len(frames):
        raise InputError(f"norms must hold one value per frame: {len(frames)}, not {len(loudness)}")
    found = [np.zeros((0, 2), dtype=np.int32)]
    for first, last in _runs(loudness > threshold):
        run = frames[first:last]
        pairs = np.array([[0, len(run)]], dtype=np.int32)
        if len(run) >= shortest_cut:
            edges = mincut(similarity_matrix(run), _count(len(run), frames_per_segment))
            pairs = np.stack([edges[:-1], edges[1:]], axis=1)
            long = pairs[pairs[:, 1] - pairs[:, 0] >= shortest_kept]
            pairs = merge_pairs(run, long if len(long) else pairs, merge_threshold)
        found.append(pairs + first)
    return np.concatenate(found).astype(np.int32)


def greedy_cosine_merge(
    features: Any, *, threshold: float = SYLBER_THRESHOLD, merge_threshold: float = 0.8
) -> IntArray:
    """Sylber's segmenter: frames of large norm are speech; in every run of them, frames join while they are alike.

    First pass: a frame joins the segment before it if its cosine with the segment's running mean reaches the threshold,
    else it starts the next one. Second pass, over the boundaries inside runs from left to right: two segments merge if
    their means are that similar, else their boundary moves, within half of either, to where the frames on each side are
    most similar to the means of their own.

    As in the released code, the running mean counts frames from the start of the run, so the first frame of a later
    segment weighs as much as all frames before it. Segments that the second pass empties are left out here.

    Args:
        features: (T, D); the published ones are those of the ninth and last layer.
        threshold: frames of at least this norm are speech; the default belongs to the Sylber checkpoint.
        merge_threshold: cosine similarity from which frames and segments join.

    Returns:
        (num_segments, 2) int32 pairs.
    """
    frames = to_finite(features, "features", 2)
    speech = np.sqrt(np.sum(frames * frames, axis=1) + _TINY) >= threshold
    found = [np.zeros((0, 2), dtype=np.int32)]
    for first, last in _runs(speech):
        run = frames[first:last]
        pairs = _settle(run, _join(run, merge_threshold), merge_threshold)
        found.append(np.array(pairs, dtype=np.int32).reshape(-1, 2) + first)
    return np.concatenate(found).astype(np.int32)


def _join(run: FloatArray, threshold: float) -> list[int]:
    """Sylber's first pass over one run: boundaries [0, ..., T]."""
    edges, mean = [0], run[0]
    for index in range(1, len(run)):
        if _cosine(mean, run[index]) >= threshold:
            mean = (mean * index + run[index]) / (index + 1)
        else:
            edges.append(index)
            mean = run[index]
    return [*edges, len(run)]


def _settle(run: FloatArray, edges: list[int], threshold: float) -> list[tuple[int, int]]:
    """Sylber's second pass over one run: pairs."""
    settled = []
    start = edges[0]
    for boundary, end in itertools.pairwise(edges[1:]):
        left, right = run[start:boundary].mean(axis=0), run[boundary:end].mean(axis=0)
        if _cosine(left, right) >= threshold:
            continue
        low = max(start, boundary - max(1, (boundary - start) // 2))
        high = min(end, boundary + max(1, (end - boundary) // 2))
        # Entry i: the similarity gained by leaving frames low to low + i - 1 on the left.
        gain = np.cumsum(_cosine(run[low:high], left) - _cosine(run[low:high], right))
        moved = low + int(np.argmax(np.concatenate([[0.0], gain[:-1]])))
        if moved > start:
            settled.append((start, moved))
        start = moved
    return [*settled, (start, edges[-1])]


def norm_peaks(features: Any, *, prominence: float = 0.45, window: int = 3) -> IntArray:
    """ZeroSyl's segmenter: boundaries at the prominent peaks of the features' norms.

    The norms are standardised over the recording, which makes them free of scale, and smoothed by a moving average
    whose ends repeat the first and last value.

    Args:
        features: (T, D); the published ones are of layer 13 of WavLM-Large.
        prominence, window: minimum prominence of a peak, in standard deviations; odd length of the average, in frames.

    Returns:
        int32 boundaries [0, ..., T].
    """
    if window < 1 or window % 2 == 0 or not prominence >= 0:
        raise InputError("norm_peaks needs an odd window of at least 1 frame and a prominence of at least 0")
    frames = to_finite(features, "features", 2)
    norms = _norms(frames)
    spread = norms.std() if len(norms) else 0.0
    if not spread > 0:
        return np.unique([0, len(frames)]).astype(np.int32)
    from scipy import signal

    padded = np.pad((norms - norms.mean()) / spread, window // 2, mode="edge")
    smooth = np.convolve(padded, np.ones(window) / window, mode="valid")
    peaks, _ = signal.find_peaks(smooth, prominence=prominence)
    return np.concatenate([[0], peaks, [len(frames)]]).astype(np.int32)


def relative_threshold(features: Any, level: float = 0.1, *, low: float = 0.01, high: float = 0.99) -> float:
    """Return a norm threshold for encoders of any scale: a fraction of the range of the recording's norms.

    Args:
        features: (T, D); without frames the threshold is 0.
        level: the fraction: 0 is the `low` quantile of the norms, 1 the `high` one; SD-HuBERT's later code uses 0.1
            with these quantiles.
    """
    if not 0.0 <= low <= high <= 1.0:
        raise InputError("relative_threshold needs 0 <= low <= high <= 1")
    frames = to_finite(features, "features", 2)
    if len(frames) == 0:
        return 0.0
    softest, loudest = np.quantile(_norms(frames), [low, high])
    return float(softest + level * (loudest - softest))


def _norms(frames: FloatArray) -> FloatArray:
    return np.linalg.norm(frames, axis=1)


def _count(num_frames: int, frames_per_segment: float) -> int:
    if not frames_per_segment >= 1:
        raise InputError(f"frames_per_segment must be at least 1, not {frames_per_segment}")
    return int(np.ceil(num_frames / frames_per_segment))


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cosine of vectors along the last axis, guarded against zero norms as in Sylber's code."""
    return np.sum(a * b, axis=-1) / np.sqrt((np.sum(a * a, axis=-1) + _TINY) * (np.sum(b * b, axis=-1) + _TINY))
