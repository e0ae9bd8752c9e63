"""Bootstrap over runs: how often each run is drawn, and intervals of what was fitted to the draws."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]
LEVEL = 0.95
# Share of the resamples that must have an answer for an interval of the others to be taken at its word.
USABLE = 0.9


def student_level(freedom: int, level: float = LEVEL) -> float:
    """The level of the percentiles of resamples that make an interval of ``level`` with so few degrees of freedom.

    Resamples scatter about as new runs would, but how much these do is itself uncertain, as Student's t knows
    (Hesterberg 2015). Measured in docs/scaling.md; his further factor for the runs that the constants use up made the
    intervals of 16 runs twice as wide as need be.

    Args:
        freedom: runs less fitted constants.
    """
    # Quantiles of Student's t by those of the normal distribution (Hill 1970), good to 0.3 % from 3 degrees.
    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    student = z + sum(term / max(1, freedom) ** (k + 1) for k, term in enumerate(terms))
    return 2 * NormalDist().cdf(student) - 1


def draw_weights(runs: int, resamples: int, seed: int) -> FloatArray:
    """(resamples, runs): how often each run is in a resample; a row sums to ``runs``."""
    return np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=resamples).astype(np.float64)


def interval(samples: npt.ArrayLike, level: float = LEVEL, least: float = 0.5) -> Interval:
    """Percentile interval; samples that are not finite are left out, NaNs if a share below ``least`` is left."""
    values = np.asarray(samples, dtype=np.float64)
    usable = values[np.isfinite(values)]
    if not len(values) or len(usable) < least * len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def open_interval(samples: npt.ArrayLike, level: float = LEVEL, least: float = 0.5) -> Interval:
    """As `interval`, but infinities count: a resample that never gets there is an answer, not a gap."""
    values = np.asarray(samples, dtype=np.float64)
    found = np.sort(values[~np.isnan(values)])
    if not len(found) or len(found) < least * len(values):
        return float("nan"), float("nan")
    share = (1 - level) / 2 * (len(found) - 1)
    return float(found[int(share)]), float(found[math.ceil(len(found) - 1 - share)])
