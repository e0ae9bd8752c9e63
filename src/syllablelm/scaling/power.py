"""Power laws y = scale * x^exponent of all points or of the frontier of the best, and what scores make of them.

Envelopes of losses, laws of scores on the running best, lines of scores on losses, compute for the same gain: Figures
1, 2 and 4 and section 4.2 of Cuervo & Marxer (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
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
from syllablelm.scaling.runs import check_columns

Best = Literal["least", "most"]
# A frontier whose upper half rises by less than this share of its lower half's exponent is bending.
_BENDING = 0.6
# Minimum number of points of half a frontier to fit its exponent.
_HALF = 4
# Minimum number of runs on a frontier, number of shuffles, and p-value from which a rise may be chance.
_FRONTIER, _SHUFFLES, _CHANCE = 5, 1999, 0.05


@dataclass(frozen=True)
class PowerLaw(Record):
    """y = scale * x^exponent.

    Args:
        points: number of fitted points.
        r_squared: share of the variance of ln y that is explained.
        x_range: least and most x of the points; outside is extrapolation.
        status: "ok", or "degenerate: " or "bending: " and why.
        exponent_interval: 95 % interval over resampled runs; NaNs without bootstrap.
        level: level of the percentiles of `samples` that make 95 % intervals (`student_level`).
        samples: (resamples, 2), ln scale and exponent of each resample.
    """

    scale: float
    exponent: float
    points: int
    r_squared: float
    x_range: Interval
    status: str = "ok"
    exponent_interval: Interval = UNKNOWN
    level: float = LEVEL
    samples: FloatArray = json_key(**samples_of(2))

    def at(self, x: npt.ArrayLike) -> Any:
        """Return y at x."""
        return self.scale * np.asarray(x, dtype=np.float64) ** self.exponent

    def solve(self, y: float) -> float:
        """Return the x at which the law reaches y."""
        if not y > 0:
            raise InputError(f"a power law does not reach {y}; ask for a value above 0")
        with np.errstate(over="ignore"):
            return float(np.exp(np.log(y / self.scale) / np.float64(self.exponent))) if self.exponent else math.nan

    def band(self, x: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the 95 % interval of y at each x, (points,)."""
        log_x = np.log(np.atleast_1d(np.asarray(x, dtype=np.float64)))
        return band(np.exp(self.samples[:, :1] + self.samples[:, 1:] * log_x), self.level)

    def solve_interval(self, y: float) -> Interval:
        """Return the 95 % interval of `solve`; an end is infinite where too many resamples never reach y."""
        log_scale, exponent = self.samples[:, 0], self.samples[:, 1]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            found = np.exp((np.log(y) - log_scale) / exponent)
        turned = exponent * self.exponent <= 0
        return open_interval(np.where(turned, np.inf, found), self.level)

    def extrapolates(self, x: float) -> bool:
        """Return whether x lies outside of the fitted points."""
        return not self.x_range[0] * (1 - 1e-9) <= x <= self.x_range[1] * (1 + 1e-9)


def frontier(x: npt.ArrayLike, y: npt.ArrayLike, best: Best) -> npt.NDArray[np.intp]:
    """Return the indices, by increasing x, of the points that are better than every point of no more x."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    merit = -y if best == "least" else y
    order = np.lexsort((-merit, x))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], merit[order]]))[:-1]
    return order[merit[order] > before]


def fit_power_law(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    best: Best | None = None,
    groups: npt.ArrayLike | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    what: str = "power law",
) -> PowerLaw:
    """Fit a power law to all points, or to the frontier of the best ones.

    Args:
        x, y: points above 0, (points,).
        best: which y are better, to fit the frontier only; None for all points.
        groups: (points,), labels of points that are resampled together, such as those of one run's curve; by default
            each point is drawn by itself.
        bootstrap: number of resamples of the groups, each with its own frontier; 0 for none.
        seed: random seed of the resamples.
        what: name of the points in error messages.

    Raises:
        InputError: fewer than three points, all at one x, or a number that is not above 0.
    """
    xs, ys = check_columns(what, x=x, y=y)
    chosen = _choose(xs, ys, best)
    if len(np.unique(xs[chosen])) < 3:
        raise InputError(f"{what}: {len(np.unique(xs[chosen]))} points are left to fit; it needs at least 3")
    log_scale, exponent, r_squared = _line(xs[chosen], ys[chosen])
    labels = np.arange(len(xs)) if groups is None else np.asarray(groups)
    if labels.shape != xs.shape:
        raise InputError(f"{what}: {len(xs)} points need as many groups")
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def fit_again(drawn: npt.NDArray[np.intp]) -> tuple[float, float]:
        rows = np.concatenate([members[k] for k in drawn])
        rows = rows[_choose(xs[rows], ys[rows], best)]
        return _line(xs[rows], ys[rows])[:2] if len(np.unique(xs[rows])) > 1 else UNKNOWN

    samples = resample_rows(len(members), bootstrap, seed, fit_again)
    level = student_level(len(chosen) - 2)
    return PowerLaw(
        scale=float(np.exp(log_scale)),
        exponent=exponent,
        points=len(chosen),
        r_squared=r_squared,
        x_range=extent(xs[chosen]),
        status="ok" if abs(exponent) > 1e-4 else "degenerate: y does not change with x",
        exponent_interval=interval(samples[:, 1], level),
        level=level,
        samples=samples,
    )


def fit_envelope(
    flops: npt.ArrayLike, loss: npt.ArrayLike, runs: npt.ArrayLike | None = None, *, bootstrap: int = 0, seed: int = 0
) -> PowerLaw:
    """Fit L = scale * C^exponent to the runs that no cheaper run beats (Figure 1 of Cuervo & Marxer 2024).

    Args:
        flops, loss: FLOPs and loss of each run, or of each checkpoint of the runs, (points,).
        runs: index of the run of each point; by default each point is a run of its own.
        bootstrap, seed: see `fit_power_law`; its errors are raised here too.
    """
    what = "envelope of least loss"
    return fit_power_law(flops, loss, best="least", groups=runs, bootstrap=bootstrap, seed=seed, what=what)


def _choose(x: FloatArray, y: FloatArray, best: Best | None) -> npt.NDArray[np.intp]:
    return np.arange(len(x)) if best is None else frontier(x, y, best)


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Return intercept, slope and R^2 of ln y on ln x."""
    log_x, log_y = np.log(x), np.log(y)
    across, up = log_x - log_x.mean(), log_y - log_y.mean()
    slope = float(across @ up / (across @ across))
    total = float(up @ up)
    left = float(((up - slope * across) ** 2).sum())
    return float(log_y.mean() - slope * log_x.mean()), slope, 1 - left / total if total > 1e-24 else 1.0


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
        bootstrap, seed: see `fit_power_law`; the seed is also that of the shuffles.

    Raises:
        InputError: fewer than three runs on the frontier.
    """
    flops, score = np.asarray(flops, dtype=np.float64), np.asarray(score, dtype=np.float64)
    below = np.ones(len(score), dtype=bool) if saturation is None else score < saturation
    reached = 0 if below.all() else int((~below[frontier(flops, score, "most")]).sum())
    if len(score) < 3:
        raise InputError(f"{len(score)} runs have the score; its law needs at least 3")
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
        bootstrap, seed: see `fit_power_law`.

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
