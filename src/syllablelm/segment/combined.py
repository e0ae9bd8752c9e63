"""LossPred and the acoustic boundary score together: two views of a boundary that share no computation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from syllablelm.segment.baselines import envelope_valleys


def novelty(matrix: npt.NDArray[np.floating], half_width: int = 8) -> npt.NDArray[np.float64]:
    """How little a matrix ties the frames before t to those from t on.

    Args:
        matrix: (T, T) similarity or loss-prediction matrix.
        half_width: frames on either side.

    Returns:
        (T,) mean of the matrix within the two sides minus its mean across them, as in a checkerboard kernel.
    """
    sym = 0.5 * (np.asarray(matrix, dtype=np.float64) + np.asarray(matrix, dtype=np.float64).T)
    num_frames = len(sym)
    sums = np.zeros((num_frames + 1, num_frames + 1))
    sums[1:, 1:] = sym.cumsum(0).cumsum(1)
    t = np.arange(num_frames)
    low, high = np.maximum(t - half_width, 0), np.minimum(t + half_width, num_frames)

    def block(a: npt.NDArray, b: npt.NDArray, c: npt.NDArray, d: npt.NDArray) -> npt.NDArray[np.float64]:
        area = np.maximum((b - a) * (d - c), 1)
        return (sums[b, d] - sums[a, d] - sums[b, c] + sums[a, c]) / area

    return 0.5 * (block(low, t, low, t) + block(t, high, t, high)) - block(low, t, t, high)


def combined_boundaries(
    matrix: npt.NDArray[np.floating],
    strength: npt.NDArray[np.floating],
    num_segments: int,
    *,
    weight: float = 0.3,
    half_width: int = 8,
) -> npt.NDArray[np.int32]:
    """Boundaries at the most prominent peaks of the acoustic score plus LossPred's novelty.

    Args:
        matrix: (T, T) loss-prediction matrix.
        strength: (T,) acoustic score, high at boundaries (``boundary_strength``).
        num_segments: wanted number of groups; fewer are returned where there are fewer peaks.
        weight: of the novelty, both curves scaled to unit variance.
        half_width: of the novelty, in frames.

    Returns:
        int32 [0, ..., T].
    """
    curve = _unit(np.asarray(strength, dtype=np.float64)) + weight * _unit(novelty(matrix, half_width))
    return envelope_valleys(-curve, num_segments)


def _unit(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (curve - curve.mean()) / max(float(curve.std()), 1e-9) if len(curve) else curve
