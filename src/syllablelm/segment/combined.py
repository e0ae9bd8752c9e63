"""Boundaries at peaks: of how much the features change, and of that or LossPred together with the acoustic score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from syllablelm.segment.baselines import envelope_valleys

_Frames = npt.NDArray[np.int64]
EDGE = 3  # frames at either end of a recording without a peak


def novelty(matrix: npt.NDArray[np.floating], half_width: int = 8) -> npt.NDArray[np.float64]:
    """Return how much less the frames before t resemble those from t on than either side itself.

    Args:
        matrix: (T, T) similarity or loss-prediction matrix.
        half_width: number of frames on either side.

    Returns:
        (T,) mean of the matrix within the two sides minus its mean across them, as in a checkerboard kernel.
    """
    sym = 0.5 * (np.asarray(matrix, dtype=np.float64) + np.asarray(matrix, dtype=np.float64).T)
    num_frames = len(sym)
    sums = np.zeros((num_frames + 1, num_frames + 1))
    sums[1:, 1:] = sym.cumsum(0).cumsum(1)
    t = np.arange(num_frames)
    low, high = np.maximum(t - half_width, 0), np.minimum(t + half_width, num_frames)

    def block(a: _Frames, b: _Frames, c: _Frames, d: _Frames) -> npt.NDArray[np.float64]:
        area = np.maximum((b - a) * (d - c), 1)
        return (sums[b, d] - sums[a, d] - sums[b, c] + sums[a, c]) / area

    return 0.5 * (block(low, t, low, t) + block(t, high, t, high)) - block(low, t, t, high)


def feature_step(features: npt.NDArray[np.floating], half_width: int = 5) -> npt.NDArray[np.float64]:
    """Return the distance between the mean of the frames from t on and the mean of those before t.

    Args:
        features, half_width: (T, D), and number of frames averaged on either side, fewer at the edges.

    Returns:
        (T,) Euclidean distances; 0 at t = 0.
    """
    feats = np.asarray(features, dtype=np.float64)
    num_frames = len(feats)
    sums = np.concatenate([np.zeros((1, feats.shape[1])), np.cumsum(feats, axis=0)])
    t = np.arange(num_frames)
    low, high = np.maximum(t - half_width, 0), np.minimum(t + half_width, num_frames)
    before = (sums[t] - sums[low]) / np.maximum(t - low, 1)[:, None]
    after = (sums[high] - sums[t]) / np.maximum(high - t, 1)[:, None]
    step = np.linalg.norm(after - before, axis=1)
    step[:1] = 0.0
    return step


def peak_boundaries(
    features: npt.NDArray[np.floating], num_segments: int, *, half_width: int = 5
) -> npt.NDArray[np.int32]:
    """Return boundaries [0, ..., T] at the most prominent peaks of ``feature_step``.

    Unlike MinSum it never places two boundaries in one slow transition; it needs no search and no length limit.

    Args:
        features, half_width: (T, D), see ``feature_step``.
        num_segments: requested number of segments; fewer where there are fewer peaks, none of which lies
            within 3 frames of an end.
    """
    step = feature_step(features, half_width)
    if len(step) > 2 * EDGE:
        # A mean over one or two frames at the very edge is too rough to show a boundary.
        step[:EDGE], step[-EDGE:] = step[EDGE], step[-EDGE - 1]
    return envelope_valleys(-step, num_segments)


def combined_boundaries(
    change: npt.NDArray[np.floating], strength: npt.NDArray[np.floating], num_segments: int, *, weight: float = 0.3
) -> npt.NDArray[np.int32]:
    """Return boundaries [0, ..., T] at the most prominent peaks of the acoustic score plus another measure of change.

    Args:
        change: (T,) ``novelty`` of a loss-prediction matrix, or ``feature_step`` of features.
        strength: (T,) acoustic score, high at boundaries (``boundary_strength``).
        num_segments: requested number of segments; fewer where there are fewer peaks.
        weight: weight of the change, both curves scaled to unit variance.
    """
    curve = _unit(np.asarray(strength, dtype=np.float64)) + weight * _unit(np.asarray(change, dtype=np.float64))
    return envelope_valleys(-curve, num_segments)


def _unit(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (curve - curve.mean()) / max(float(curve.std()), 1e-9) if len(curve) else curve
