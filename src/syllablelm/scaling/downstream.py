"""Scores: power laws of compute on the running best (Figure 2), lines of loss (Figure 4), and speech against text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.scaling.power import PowerLaw, fit_power_law, frontier, resample_rows
from syllablelm.scaling.resample import LEVEL, FloatArray, Interval, interval

# A frontier whose upper half rises by less than this share of its lower half's exponent is bending.
_BENDING = 0.6
# Points of a half of the frontier below which its exponent says nothing.
_HALF = 4


@dataclass(frozen=True)
class ScoreLaw:
    """Q = scale * C^gamma on the running best.

    Args:
        power: the law; its status is "bending: ..." when the upper half of the frontier rises much less than the lower.
        saturation: the score from which points were left out, if any.
        saturated: how many points of the frontier that left out.
        early, late: exponents of the lower and upper half of the fitted frontier; NaN for short ones.
    """

    power: PowerLaw
    saturation: float | None
    saturated: int
    early: float
    late: float

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
        low, high = np.quantile(values, [0.025, 0.975], axis=0)
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
    if late < _BENDING * early:
        reason = f"bending: exponent {late:.3g} in the upper half of the frontier, {early:.3g} in the lower"
        power = replace(power, status=reason if power.status == "ok" else power.status)
    return ScoreLaw(power, saturation, reached, early, late)


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
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (losses, scores)]
    samples = resample_rows(len(losses), bootstrap, seed, lambda rows: _regress(losses[rows], scores[rows]))
    samples = samples if bootstrap else np.empty((0, 3))
    return ScoreLine(
        intercept,
        slope,
        correlation,
        _regress(*ranks)[2],
        len(losses),
        (float(losses.min()), float(losses.max())),
        "ok" if slope < 0 else "degenerate: the score does not rise as the loss falls",
        interval(samples[:, 2]),
        interval(samples[:, 1]),
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
    sampled = _multiple(slow.samples[:count, 1], fast.samples[:count, 1], factor)
    # A resample that never gets there counts, as an infinity, which percentiles would leave out.
    found = np.sort(sampled[~np.isnan(sampled)])
    between = (float("nan"), float("nan"))
    if len(found) and 2 * len(found) >= count:
        places = int((1 - LEVEL) / 2 * (len(found) - 1)), int(np.ceil((1 + LEVEL) / 2 * (len(found) - 1)))
        between = float(found[places[0]]), float(found[places[1]])
    return float(_multiple(np.array(slow.exponent), np.array(fast.exponent), factor)), between


def _multiple(slow: FloatArray, fast: FloatArray, factor: float) -> FloatArray:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = np.where(slow * fast > 0, np.float64(factor) ** (fast / slow), np.inf)
        return np.where(np.isnan(slow * fast), np.nan, found)


def _exponent(x: FloatArray, y: FloatArray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) >= _HALF else float("nan")


def _regress(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Intercept, slope, Pearson's correlation; NaNs where x does not vary."""
    across, up = x - x.mean(), y - y.mean()
    if not across @ across > 0:
        return float("nan"), float("nan"), float("nan")
    slope = float(across @ up / (across @ across))
    correlation = float(across @ up / np.sqrt((across @ across) * (up @ up))) if up @ up > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope, correlation
