"""Downstream scores: power laws of compute on the running best, lines on the loss, and compute for the same gain.

Figures 2 and 4 and section 4.2 of Cuervo & Marxer (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
from syllablelm.scaling.power import PowerLaw, fit_power_law, frontier
from syllablelm.scaling.resample import (
    LEVEL,
    UNKNOWN,
    FloatArray,
    Interval,
    band,
    extent,
    interval,
    open_interval,
    resample_rows,
    samples_of,
    student_level,
)

# A frontier whose upper half rises by less than this share of its lower half's exponent is bending.
_BENDING = 0.6
# Minimum number of points of half a frontier to fit its exponent.
_HALF = 4
# Minimum number of runs on a frontier, number of shuffles, and p-value from which a rise may be chance.
_FRONTIER, _SHUFFLES, _CHANCE = 5, 1999, 0.05


@dataclass(frozen=True)
class ScoreLaw(Record):
    """Q = scale * C^gamma on the running best.

    Args:
        power: power law. Its status is "degenerate: ..." when the scores rise no more than noise does or few runs are
            on the frontier, and "bending: ..." when the frontier's upper half rises much less than its lower half.
        saturation: score from which points were left out; None for none.
        saturated: number of points of the frontier left out.
        early, late: exponents of the lower and upper half of the fitted frontier; NaN for short ones.
        p_value: share of shuffles of the scores over the runs that rise as much with compute. A running best always
            rises, so its exponent is no evidence.
    """

    power: PowerLaw
    saturation: float | None
    saturated: int
    early: float
    late: float
    p_value: float = math.nan

    @property
    def gamma(self) -> float:
        """The exponent."""
        return self.power.exponent


@dataclass(frozen=True)
class ScoreLine(Record):
    """score = intercept + slope * loss.

    Args:
        correlation, rank_correlation: Pearson's and Spearman's correlation of loss and score.
        runs: number of fitted runs.
        loss_range: least and most loss of the runs.
        status: "ok", or "degenerate: " and why.
        correlation_interval, slope_interval: 95 % intervals over resampled runs; NaNs without bootstrap.
        level: level of the percentiles of `samples` that make 95 % intervals (`student_level`).
        samples: (resamples, 3), intercept, slope and correlation.
    """

    intercept: float
    slope: float
    correlation: float
    rank_correlation: float
    runs: int
    loss_range: Interval
    status: str = "ok"
    correlation_interval: Interval = UNKNOWN
    slope_interval: Interval = UNKNOWN
    level: float = LEVEL
    samples: FloatArray = json_key(**samples_of(3))

    def at(self, loss: npt.ArrayLike) -> Any:
        """Return the score at a loss."""
        return self.intercept + self.slope * np.asarray(loss, dtype=np.float64)

    def band(self, loss: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the 95 % interval of the line at each loss, (points,)."""
        return band(self.samples[:, :1] + self.samples[:, 1:2] * np.atleast_1d(np.asarray(loss)), self.level)


def fit_score_law(
    flops: npt.ArrayLike,
    score: npt.ArrayLike,
    *,
    saturation: float | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> ScoreLaw:
    """Fit a score's power law of compute on the compute-efficient frontier (Cuervo & Marxer 2024, section 4.2).

    Args:
        flops, score: training FLOPs and score of each run, (runs,).
        saturation: score from which runs are left out, since power laws end where a score nears its ceiling.
        bootstrap: number of resamples for the intervals; 0 for none.
        seed: random seed of the resamples and shuffles.

    Raises:
        InputError: fewer than three runs on the frontier.
    """
    flops, score = np.asarray(flops, dtype=np.float64), np.asarray(score, dtype=np.float64)
    below = np.ones(len(score), dtype=bool) if saturation is None else score < saturation
    reached = 0 if below.all() else int((~below[frontier(flops, score, "most")]).sum())
    if below.sum() < 3:
        raise InputError(
            f"{below.sum()} of {len(score)} runs score below the saturation {saturation}; give a higher one"
        )
    x, y = flops[below], score[below]
    power = fit_power_law(x, y, best="most", bootstrap=bootstrap, seed=seed, what="frontier of scores")
    best = frontier(x, y, "most")
    early, late = (_exponent(x[half], y[half]) for half in (best[: len(best) // 2], best[len(best) // 2 :]))
    chance = _chance_of_rise(np.log(x), np.log(y), seed)
    reasons = []
    if chance > _CHANCE:
        reasons.append(f"no more than noise (p = {chance:.2g})")
    if power.points < _FRONTIER:
        reasons.append(f"a frontier of only {power.points} runs")
    if reasons:
        power = replace(power, status=f"degenerate: {'; '.join(reasons)}")
    elif power.status == "ok" and late < _BENDING * early:
        reason = f"bending: exponent {late:.3g} in the upper half of the frontier, {early:.3g} in the lower"
        power = replace(power, status=reason)
    return ScoreLaw(power, saturation, reached, early, late, chance)


def _chance_of_rise(x: FloatArray, y: FloatArray, seed: int) -> float:
    """Return the one-sided p-value of the slope of y on x through all points, by shuffling y over them.

    The exponent of the frontier would be a poor statistic: a shuffled frontier reaches its top steeply within few runs.
    """
    across = x - x.mean()
    shuffled = np.random.default_rng(seed).permuted(np.tile(y, (_SHUFFLES, 1)), axis=1)
    as_steep = shuffled @ across >= y @ across - 1e-12 * np.abs(across).sum()
    return float(1 + as_steep.sum()) / (1 + _SHUFFLES)


def fit_score_line(loss: npt.ArrayLike, score: npt.ArrayLike, *, bootstrap: int = 0, seed: int = 0) -> ScoreLine:
    """Fit a line of scores on losses, with correlations.

    Args:
        loss, score: held-out loss and score of each run, (runs,).
        bootstrap: number of resamples for the intervals; 0 for none.
        seed: random seed of the resamples.

    Raises:
        InputError: fewer than three runs, or losses that are all the same.
    """
    # It takes a second to load.
    from scipy.stats import rankdata

    losses, scores = np.asarray(loss, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if losses.shape != scores.shape or losses.ndim != 1 or len(np.unique(losses)) < 3:
        raise InputError("a line of scores on losses needs at least 3 runs of different losses")
    if not (np.isfinite(losses) & np.isfinite(scores)).all():
        raise InputError("losses and scores must be finite")

    intercept, slope, correlation = _regress(losses, scores)
    samples = resample_rows(len(losses), bootstrap, seed, lambda rows: _regress(losses[rows], scores[rows]), 3)
    level = student_level(len(losses) - 2)
    return ScoreLine(
        intercept,
        slope,
        correlation,
        _regress(rankdata(losses), rankdata(scores))[2],
        len(losses),
        extent(losses),
        "ok" if slope < 0 else "degenerate: the score does not rise as the loss falls",
        interval(samples[:, 2], level),
        interval(samples[:, 1], level),
        level,
        samples,
    )


def compute_for_same_gain(slow: PowerLaw, fast: PowerLaw, factor: float = 10.0) -> tuple[float, Interval]:
    """Return how much more compute ``slow`` needs for the gain that ``factor`` times the compute gives ``fast``.

    With speech as ``slow`` and text as ``fast``: 10^(gamma_text / gamma_speech) for a factor of 10. For losses the gain
    is the factor by which they fall.

    Returns:
        The multiple, infinite where one law rises and the other falls; and its 95 % interval (NaNs unless both laws
        have resamples).
    """
    count = min(len(slow.samples), len(fast.samples))
    # Both may be resampled with one seed; in another order their draws are independent.
    other = np.random.default_rng(0).permutation(fast.samples[:count, 1])
    between = open_interval(_multiple(slow.samples[:count, 1], other, factor), max(slow.level, fast.level))
    return float(_multiple(np.array(slow.exponent), np.array(fast.exponent), factor)), between


def _multiple(slow: FloatArray, fast: FloatArray, factor: float) -> FloatArray:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = np.where(slow * fast > 0, np.float64(factor) ** (fast / slow), np.inf)
        return np.where(np.isnan(slow * fast), np.nan, found)


def _exponent(x: FloatArray, y: FloatArray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) >= _HALF else math.nan


def _regress(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Return intercept, slope and Pearson's correlation; NaNs where x is constant, no correlation where y is."""
    across, up = x - x.mean(), y - y.mean()
    if not across @ across > 0:
        return math.nan, math.nan, math.nan
    slope = float(across @ up / (across @ across))
    correlation = float(across @ up / np.sqrt((across @ across) * (up @ up))) if up @ up > 0 else math.nan
    return float(y.mean() - slope * x.mean()), slope, correlation
