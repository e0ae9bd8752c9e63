"""Bootstrap over runs: draws of the runs, and intervals of what was fitted to each draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]
UNKNOWN: Interval = (math.nan, math.nan)
LEVEL = 0.95
# Minimum share of resamples with an answer for an interval of the others to be trusted.
USABLE = 0.9


def student_level(freedom: int, level: float = LEVEL) -> float:
    """Return the level of the percentiles of resamples that make an interval of ``level``.

    Resamples scatter about as new runs would, but how much these do is itself uncertain, which Student's t accounts for
    (Hesterberg 2015). Measured in docs/scaling.md; his further factor for the fitted constants made the intervals of 16
    runs twice as wide as needed.

    Args:
        freedom: runs less fitted constants.
    """
    return float(2 * ndtr(stdtrit(max(1, freedom), (1 + level) / 2)) - 1)


def samples_of(width: int) -> dict[str, Any]:
    """Return the options (`json_key`) of a field of resampled values, (resamples, width): empty by default."""
    return {
        "read": lambda rows: np.array(rows, dtype=np.float64).reshape(-1, width),
        "default_factory": lambda: np.empty((0, width)),
        "repr": False,
        "compare": False,
    }


def extent(values: FloatArray) -> Interval:
    """Return the least and the most of values."""
    return float(values.min()), float(values.max())


def draw_weights(runs: int, resamples: int, seed: int) -> FloatArray:
    """Return how often each run is in each resample, (resamples, runs); a row sums to ``runs``."""
    return np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=resamples).astype(np.float64)


def resample_rows(
    count: int, resamples: int, seed: int, fit: Callable[[npt.NDArray[np.intp]], tuple[float, ...]], width: int = 2
) -> FloatArray:
    """Return what ``fit`` gives for the rows of each resample, (resamples, width)."""
    counts = draw_weights(count, resamples, seed).astype(np.intp)
    return np.array([fit(np.repeat(np.arange(count), row)) for row in counts]).reshape(-1, width)


def interval(samples: npt.ArrayLike, level: float = LEVEL, least: float = 0.5) -> Interval:
    """Return the percentile interval of the finite samples; NaNs if their share is below ``least``."""
    values = np.asarray(samples, dtype=np.float64)
    usable = values[np.isfinite(values)]
    if not len(values) or len(usable) < least * len(values):
        return UNKNOWN
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def open_interval(samples: npt.ArrayLike, level: float = LEVEL, least: float = 0.5) -> Interval:
    """Return the interval as `interval` does, but count infinities: never to get there is an answer, not a gap."""
    values = np.asarray(samples, dtype=np.float64)
    known = np.sort(values[~np.isnan(values)])
    if not len(known) or len(known) < least * len(values):
        return UNKNOWN
    share = (1 - level) / 2 * (len(known) - 1)
    return float(known[int(share)]), float(known[math.ceil(len(known) - 1 - share)])


def band(curves: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the percentile interval of curves (resamples, points) at each point; NaNs without finite curves."""
    usable = curves[np.isfinite(curves).all(axis=1)]
    if not len(usable):
        return np.full(curves.shape[1], np.nan), np.full(curves.shape[1], np.nan)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
