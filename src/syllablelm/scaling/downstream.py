"""Scores: power laws of compute on the running best (Figure 2), lines of loss (Figure 4), and speech against text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.scaling.power import PowerLaw, fit_power_law, frontier, resample_rows
from syllablelm.scaling.resample import LEVEL, FloatArray, Interval, interval, open_interval, student_level

# A frontier whose upper half rises by less than this share of its lower half's exponent is bending.
_BENDING = 0.6
# Points of a half of the frontier below which its exponent says nothing.
_HALF = 4
# Frontiers of fewer runs say nothing; nor do scores that rise with compute no more than shuffled ones do: so many
# shuffles, and the share of them from which a rise may be chance.
_FRONTIER, _SHUFFLES, _CHANCE = 5, 1999, 0.05


@dataclass(frozen=True)
class ScoreLaw:
    """Q = scale * C^gamma on the running best.

    Args:
        power: the law. Its status is "degenerate: ..." when the scores rise no more than noise does or few runs are on
            the frontier, and "bending: ..." when the frontier's upper half rises much less than its lower half.
        saturation: the score from which points were left out, if any.
        saturated: how many points of the frontier that left out.
        early, late: exponents of the lower and upper half of the fitted frontier; NaN for short ones.
        p_value: how often scores shuffled over the runs rise as much with compute. A running best always rises, so its
            exponent cannot tell.
    """

    power: PowerLaw
    saturation: float | None
    saturated: int
    early: float
    late: float
    p_value: float = float("nan")

    @property
    def gamma(self) -> float:
        """The exponent."""
        return self.power.exponent


@dataclass(frozen=True)
class ScoreLine:
    """score = intercept + slope * loss.

    Args:
        correlation: Pearson's, of loss and score; rank_correlation: Spearman's.
        loss_range: least and most loss of the runs.
        correlation_interval, slope_interval: 95 % over resampled runs.
        level: of the percentiles of `samples` that make 95 % intervals (`student_level`).
        samples: (resamples, 3), intercept, slope and correlation.
    """

    intercept: float
    slope: float
    correlation: float
    rank_correlation: float
    runs: int
    loss_range: Interval
    status: str = "ok"
    correlation_interval: Interval = (float("nan"), float("nan"))
    slope_interval: Interval = (float("nan"), float("nan"))
    level: float = LEVEL
    samples: FloatArray = field(default_factory=lambda: np.empty((0, 3)), repr=False, compare=False)

    def at(self, loss: npt.ArrayLike) -> Any:
        """Score at a loss."""
        return self.intercept + self.slope * np.asarray(loss, dtype=np.float64)

    def band(self, loss: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """95 % interval of the line at each loss (points,)."""
        values = self.samples[:, :1] + self.samples[:, 1:2] * np.atleast_1d(np.asarray(loss, dtype=np.float64))
        values = values[np.isfinite(values).all(axis=1)]
        if not len(values):
            nothing = np.full(values.shape[1], np.nan)
            return nothing, nothing
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high


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
        flops, score: of each run.
        saturation: power laws hold before a score nears its ceiling: runs that reach this score are left out.

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
    """One-sided p-value of the slope of y on x through all points, by shuffling y over them.

    The exponent of the frontier would be a poor judge: a shuffled frontier reaches its top within few runs, steeply.
    """
    across = x - x.mean()
    shuffled = np.random.default_rng(seed).permuted(np.tile(y, (_SHUFFLES, 1)), axis=1)
    as_steep = shuffled @ across >= y @ across - 1e-12 * np.abs(across).sum()
    return float(1 + as_steep.sum()) / (1 + _SHUFFLES)


def fit_score_line(loss: npt.ArrayLike, score: npt.ArrayLike, *, bootstrap: int = 0, seed: int = 0) -> ScoreLine:
    """Fit a line of scores on losses, with correlations.

    Raises:
        InputError: fewer than three runs, or losses that are all the same.
    """
    losses, scores = np.asarray(loss, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if losses.shape != scores.shape or losses.ndim != 1 or len(np.unique(losses)) < 3:
        raise InputError("a line of scores on losses needs at least 3 runs of different losses")
    if not (np.isfinite(losses) & np.isfinite(scores)).all():
        raise InputError("losses and scores must be finite")

    intercept, slope, correlation = _regress(losses, scores)
    samples = resample_rows(len(losses), bootstrap, seed, lambda rows: _regress(losses[rows], scores[rows]))
    samples = samples if bootstrap else np.empty((0, 3))
    level = student_level(len(losses) - 2)
    return ScoreLine(
        intercept,
        slope,
        correlation,
        _regress(_ranks(losses), _ranks(scores))[2],
        len(losses),
        (float(losses.min()), float(losses.max())),
        "ok" if slope < 0 else "degenerate: the score does not rise as the loss falls",
        interval(samples[:, 2], level),
        interval(samples[:, 1], level),
        level,
        samples,
    )


def compute_for_same_gain(slow: PowerLaw, fast: PowerLaw, factor: float = 10.0) -> tuple[float, Interval]:
    """By how much ``slow`` must multiply its compute for the gain that ``factor`` times the compute gives ``fast``.

    With slow the speech model and fast the text model: 10^(gamma_text / gamma_speech) for a factor of 10. Of losses the
    gain is the factor by which they fall.

    Returns:
        the multiple, infinite where one law rises and the other falls; and its 95 % interval (NaNs unless both laws
        have resamples).
    """
    count = min(len(slow.samples), len(fast.samples))
    # Both may be resampled with one seed; in another order their draws have nothing to do with one another.
    other = np.random.default_rng(0).permutation(fast.samples[:count, 1])
    between = open_interval(_multiple(slow.samples[:count, 1], other, factor), max(slow.level, fast.level))
    return float(_multiple(np.array(slow.exponent), np.array(fast.exponent), factor)), between


def _multiple(slow: FloatArray, fast: FloatArray, factor: float) -> FloatArray:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = np.where(slow * fast > 0, np.float64(factor) ** (fast / slow), np.inf)
        return np.where(np.isnan(slow * fast), np.nan, found)


def _exponent(x: FloatArray, y: FloatArray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) >= _HALF else float("nan")


def _regress(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Intercept, slope, Pearson's correlation; NaNs where x does not vary, and no correlation where y does not."""
    across, up = x - x.mean(), y - y.mean()
    if not across @ across > 0:
        return float("nan"), float("nan"), float("nan")
    slope = float(across @ up / (across @ across))
    correlation = float(across @ up / np.sqrt((across @ across) * (up @ up))) if up @ up > 0 else float("nan")
    return float(y.mean() - slope * x.mean()), slope, correlation


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
