"""Bootstrap over runs: how often each run is drawn, and intervals of what was fitted to the draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]
LEVEL = 0.95


def draw_weights(runs: int, resamples: int, seed: int) -> FloatArray:
    """(resamples, runs): how often each run is in a resample; a row sums to ``runs``."""
    return np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=resamples).astype(np.float64)


def interval(samples: npt.ArrayLike, level: float = LEVEL) -> Interval:
    """Percentile interval; samples that are not finite are left out, NaNs if fewer than a half are left."""
    values = np.asarray(samples, dtype=np.float64)
    usable = values[np.isfinite(values)]
    if not len(values) or 2 * len(usable) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
