"""MinCut: cut a recording where its self-similarity is smallest (Eq. 2), with what commonly goes before and after."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.segment.arrays import (
    FloatArray,
    IntArray,
    backtrace,
    check_boundaries,
    check_count,
    check_finite,
    to_float64,
)


def mincut(similarity: Any, num_segments: int, *, min_length: int = 1, max_length: int | None = None) -> IntArray:
    """Cut a self-similarity matrix into exactly `num_segments` blocks (exact optimum of Eq. 2).

    The term of a segment is cross / (within / 2 + cross), where `within` sums the similarities inside the segment and
    `cross` those between it and all other frames, both of the symmetrised matrix (C + C^T) / 2; that is Eq. 2 for any
    C. A segment with neither (all its rows and columns are 0) has the term 0: cutting it out cuts nothing.

    Args:
        similarity: (T, T) non-negative array or tensor, asymmetric allowed.
        num_segments: number of segments.
        min_length: shortest segment, in frames; a recording shorter than that is one segment.
        max_length: longest segment, in frames; None means no limit.

    Returns:
        int32 boundaries [0, ..., T], num_segments + 1 of them. Ties go to the shortest last segment.

    Raises:
        InputError: not square, negative or not finite, or a number of segments that cannot cover the recording.
    """
    matrix = to_float64(similarity, "similarity", 2)
    num_frames = len(matrix)
    if matrix.shape != (num_frames, num_frames):
        raise InputError(f"similarity must be square, not {matrix.shape}")
    check_finite(matrix, "similarities")
    if np.any(matrix < 0):
        raise InputError("similarities must not be negative; subtract the minimum, as similarity_matrix does")
    longest = max(num_frames, min_length) if max_length is None else max_length
    check_count(num_segments, num_frames, min_length, longest)
    if num_frames == 0:
        return np.zeros(1, dtype=np.int32)
    from syllablelm.segment.kernels import best_lengths, normalized_cut_costs

    costs = normalized_cut_costs(matrix, min(longest, num_frames))
    return backtrace(best_lengths(costs, num_segments, min(min_length, num_frames), False), num_segments, num_frames)


def similarity_matrix(features: Any, kind: Literal["dot", "cosine", "neg_sq"] = "dot") -> FloatArray:
    """Self-similarity of all pairs of frames, moved up so that the smallest entry is 1e-7, as MinCut needs.

    Args:
        features: (T, D) array or tensor.
        kind: "dot" product (Peng et al. 2023), "cosine", or "neg_sq", the negated squared distance.

    Returns:
        (T, T) float64, symmetric, positive. Under "cosine" a frame of zeros is orthogonal to every frame.

    Raises:
        InputError: wrong shape, values that are not finite, or an unknown kind.
    """
    frames = to_float64(features, "features", 2)
    check_finite(frames, "features")
    if len(frames) == 0:
        return np.zeros((0, 0))
    if kind == "cosine":
        frames = _unit_rows(frames)
    elif kind == "neg_sq":
        frames = frames - frames.mean(axis=0)
    elif kind != "dot":
        raise InputError(f"unknown similarity {kind!r}; use 'dot', 'cosine' or 'neg_sq'")
    matrix = frames @ frames.T
    if kind == "neg_sq":
        squares = np.diagonal(matrix)
        matrix = 2.0 * matrix - (squares[:, None] + squares[None, :])
    return matrix - matrix.min() + 1e-7


def merge_similar(features: Any, boundaries: npt.ArrayLike, threshold: float = 0.3) -> IntArray:
    """Merge neighbouring segments of similar content: the "minCutMerge" step of Peng et al. 2023.

    While at least three segments are left, the two neighbours whose mean vectors have the highest cosine similarity
    are merged, if that is at least `threshold`. Ties go to the earliest pair.

    Args:
        features: (T, D) array or tensor.
        boundaries: [0, ..., T].
        threshold: least cosine similarity to merge.

    Returns:
        int32 boundaries [0, ..., T], a subset of the given ones.

    Raises:
        InputError: wrong shape, values that are not finite, or boundaries that do not fit the features.
    """
    frames = to_float64(features, "features", 2)
    check_finite(frames, "features")
    edges = list(check_boundaries(boundaries, len(frames)))
    while len(edges) > 3:
        # Sums have the direction of the means.
        directions = _unit_rows(np.add.reduceat(frames, edges[:-1], axis=0))
        cosines = np.sum(directions[1:] * directions[:-1], axis=1)
        pair = int(np.argmax(cosines))
        if cosines[pair] < threshold:
            break
        del edges[pair + 1]
    return np.array(edges, dtype=np.int32)


def _unit_rows(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)
