"""Power laws y = scale * x^exponent by least squares of logarithms, of all points or of the frontier of the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    members = _members(groups, len(xs), what)

    def fit_again(drawn: npt.NDArray[np.intp]) -> tuple[float, float]:
        rows = np.concatenate([members[k] for k in drawn])
        return _sample(xs[rows], ys[rows], best)

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
        bootstrap: number of resamples of the runs, each with all its points, for the intervals; 0 for none.
        seed: random seed of the resamples.

    Raises:
        InputError: fewer than three points on the envelope, or a number that is not above 0.
    """
    what = "envelope of least loss"
    return fit_power_law(flops, loss, best="least", groups=runs, bootstrap=bootstrap, seed=seed, what=what)


def _members(groups: npt.ArrayLike | None, points: int, what: str) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each group."""
    if groups is None:
        return list(np.arange(points)[:, None])
    labels = np.asarray(groups)
    if labels.shape != (points,):
        raise InputError(f"{what}: {points} points need as many groups")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _choose(x: FloatArray, y: FloatArray, best: Best | None) -> npt.NDArray[np.intp]:
    return np.arange(len(x)) if best is None else frontier(x, y, best)


def _sample(x: FloatArray, y: FloatArray, best: Best | None) -> tuple[float, float]:
    chosen = _choose(x, y, best)
    if len(np.unique(x[chosen])) < 2:
        return UNKNOWN
    return _line(x[chosen], y[chosen])[:2]


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Return intercept, slope and R^2 of ln y on ln x."""
    log_x, log_y = np.log(x), np.log(y)
    across, up = log_x - log_x.mean(), log_y - log_y.mean()
    slope = float(across @ up / (across @ across))
    total = float(up @ up)
    left = float(((up - slope * across) ** 2).sum())
    return float(log_y.mean() - slope * log_x.mean()), slope, 1 - left / total if total > 1e-24 else 1.0
