"""MinCut: cut a recording where its self-similarity is smallest (Eq. 2), with what commonly goes before and after."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import (
    FloatArray,
    IntArray,
    check_boundaries,
    check_count,
    check_finite,
    to_finite,
    to_float64,
)


def mincut(
    similarity: Any,
    num_segments: int,
    *,
    min_length: int = 1,
    max_length: int | None = None,
    edges: npt.ArrayLike = (),
) -> IntArray:
    """Cut a self-similarity matrix into exactly `num_segments` blocks (exact optimum of Eq. 2).

    The term of a segment is cross / (within / 2 + cross), where `within` sums the similarities inside the segment and
    `cross` those between it and all other frames, both of the symmetrised matrix (C + C^T) / 2; that is Eq. 2 for any
    C. A segment with neither (all its rows and columns are 0) has the term 0: cutting it out cuts nothing.

    Args:
        similarity: (T, T) non-negative array or tensor, asymmetric allowed.
        num_segments, min_length, max_length: see `minsum`; no limit by default.
        edges: boundaries that the cut must have, increasing, in (0, T).

    Returns:
        int32 boundaries [0, ..., T], num_segments + 1 of them. Ties go to the shortest last segment.

    Raises:
        InputError: not square, negative or not finite, or a number of segments that cannot cover the recording, or the
            stretches between its edges.
    """
    matrix = to_float64(similarity, "similarity", 2)
    num_frames = len(matrix)
    if matrix.shape != (num_frames, num_frames):
        raise InputError(f"similarity must be square, not {matrix.shape}")
    check_finite(matrix, "similarities")
    if len(matrix) and matrix.min() < 0:
        raise InputError("similarities must not be negative; subtract the minimum, as similarity_matrix does")
    longest = max(num_frames, min_length) if max_length is None else max_length
    check_count(num_segments, num_frames, min_length, longest)
    inner = np.asarray(edges, dtype=np.int64)
    stretches = np.diff(inner, prepend=0, append=num_frames)
    fewest, most = -(-stretches // longest), stretches // min_length
    if len(inner) and not (
        stretches.min() > 0 and np.all(fewest <= most) and fewest.sum() <= num_segments <= most.sum()
    ):
        raise InputError(f"{num_segments} segments do not fit {len(stretches)} stretches of {num_frames} frames in all")
    if num_frames == 0:
        return np.zeros(1, dtype=np.int32)
    from syllablelm.segment.kernels import best_lengths, normalized_cut_costs, trace_back

    costs = normalized_cut_costs(matrix, min(longest, num_frames))
    for edge in inner:
        for end in range(edge + 1, min(edge + len(costs), num_frames + 1)):
            costs[end - edge + 1 :, end] = np.inf
    return trace_back(best_lengths(costs, num_segments, min(min_length, num_frames), False), num_segments)


def similarity_matrix(features: Any, kind: Literal["dot", "cosine", "neg_sq"] = "dot") -> FloatArray:
    """Self-similarity of all pairs of frames, moved up so that the smallest entry is 1e-7, as MinCut needs.

    Args:
        features: (T, D) array or tensor.
        kind: "dot" product (Peng et al. 2023), "cosine" (a frame of zeros is orthogonal to every frame), or "neg_sq",
            the negated squared distance; another one is an InputError.

    Returns:
        (T, T) float64, symmetric, positive.
    """
    frames = to_finite(features, "features", 2)
    if len(frames) == 0:
        return np.zeros((0, 0))
    if kind == "cosine":
        norms = np.linalg.norm(frames, axis=1, keepdims=True)
        frames = frames / np.where(norms > 0, norms, 1.0)
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
        features, boundaries: (T, D) array or tensor, and [0, ..., T].

    Returns:
        int32 boundaries [0, ..., T], a subset of the given ones.

    Raises:
        InputError: wrong shape, values that are not finite, or boundaries that do not fit the features.
    """
    frames = to_finite(features, "features", 2)
    edges = np.array(check_boundaries(boundaries, len(frames)), dtype=np.int32)
    pairs = merge_pairs(frames, np.stack([edges[:-1], edges[1:]], axis=1), threshold)
    return np.concatenate([[0], pairs[:, 1]]).astype(np.int32)


def merge_pairs(frames: FloatArray, pairs: IntArray, threshold: float) -> IntArray:
    """`merge_similar` of pairs (num_segments, 2) that may have gaps between them; a merged segment spans its gap."""
    spans = [(int(start), int(end)) for start, end in pairs]
    # Sums have the direction of the means.
    directions = [_unit(frames[start:end].sum(axis=0)) for start, end in spans]
    cosines = [float(left @ right) for left, right in itertools.pairwise(directions)]
    while len(spans) > 2:
        first = int(np.argmax(cosines))
        if cosines[first] < threshold:
            break
        span = (spans[first][0], spans[first + 1][1])
        spans[first : first + 2] = [span]
        directions[first : first + 2] = [_unit(frames[span[0] : span[1]].sum(axis=0))]
        del cosines[first]
        for pair in (first - 1, first):
            if 0 <= pair < len(cosines):
                cosines[pair] = float(directions[pair] @ directions[pair + 1])
    return np.array(spans, dtype=np.int32).reshape(-1, 2)


def _unit(vector: FloatArray) -> FloatArray:
    norm = np.linalg.norm(vector)
    return vector / norm if norm > 0 else vector
