"""Power laws y = scale * x^exponent by least squares of logarithms, and the frontier of the best runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.scaling.resample import (
    LEVEL,
    FloatArray,
    Interval,
    draw_weights,
    interval,
    open_interval,
    student_level,
)

Best = Literal["least", "most"]


@dataclass(frozen=True)
class PowerLaw:
    """y = scale * x^exponent.

    Args:
        points: how many were fitted.
        r_squared: share of the variance of ln y that is explained.
        x_range: least and most x of the points; outside is extrapolation.
        status: "ok", or "degenerate: " or "bending: " and why.
        exponent_interval: 95 % over resampled runs; NaNs without bootstrap.
        level: of the percentiles of `samples` that make 95 % intervals: fewer points, wider (`student_level`).
        samples: (resamples, 2), ln scale and exponent of each resample.
    """

    scale: float
    exponent: float
    points: int
    r_squared: float
    x_range: Interval
    status: str = "ok"
    exponent_interval: Interval = (float("nan"), float("nan"))
    level: float = LEVEL
    samples: FloatArray = field(default_factory=lambda: np.empty((0, 2)), repr=False, compare=False)

    def at(self, x: npt.ArrayLike) -> Any:
        """y at x."""
        return self.scale * np.asarray(x, dtype=np.float64) ** self.exponent

    def solve(self, y: float) -> float:
        """The x at which the law reaches y."""
        if not y > 0:
            raise InputError(f"a power law does not reach {y}; ask for a value above 0")
        with np.errstate(over="ignore"):
            return float(np.exp(np.log(y / self.scale) / np.float64(self.exponent))) if self.exponent else float("nan")

    def band(self, x: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """95 % interval of y at each x (points,)."""
        log_x = np.log(np.atleast_1d(np.asarray(x, dtype=np.float64)))
        usable = self.samples[np.isfinite(self.samples).all(axis=1)]
        if not len(usable):
            nothing = np.full(len(log_x), np.nan)
            return nothing, nothing
        values = np.exp(usable[:, :1] + usable[:, 1:] * log_x)
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high

    def solve_interval(self, y: float) -> Interval:
        """95 % interval of `solve`; an end is infinite where too many resamples go the other way and never reach y."""
        log_scale, exponent = self.samples[:, 0], self.samples[:, 1]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            found = np.exp((np.log(y) - log_scale) / exponent)
        turned = exponent * self.exponent <= 0
        return open_interval(np.where(turned, np.inf, found), self.level)

    def extrapolates(self, x: float) -> bool:
        """Whether x lies outside of the fitted points."""
        return not self.x_range[0] * (1 - 1e-9) <= x <= self.x_range[1] * (1 + 1e-9)


def frontier(x: npt.ArrayLike, y: npt.ArrayLike, best: Best) -> npt.NDArray[np.intp]:
    """Indices, by increasing x, of the points that are better than every point of no more x."""
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
        x, y: (points,), above 0.
        best: which y are better, if only the frontier counts; None for all points.
        groups: (points,), what stands or falls together in a resample, such as the points of one run's way; by default
            each point is drawn by itself.
        bootstrap: resamples of the groups; the frontier is found anew in each.
        what: what the points are, for the errors.

    Raises:
        InputError: fewer than three points, all at one x, or a number that is not above 0.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise InputError(f"{what}: x and y must be lists of the same length")
    for name, values in (("x", xs), ("y", ys)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"{what}: every {name} must be above 0 and finite")
    chosen = _choose(xs, ys, best)
    if len(np.unique(xs[chosen])) < 3:
        raise InputError(f"{what}: {len(np.unique(xs[chosen]))} points are left to fit; it needs at least 3")
    log_scale, exponent, r_squared = _line(xs[chosen], ys[chosen])
    members = _members(groups, len(xs), what)
    samples = resample_rows(
        len(members), bootstrap, seed, lambda drawn: _sample(*_rows(xs, ys, [members[k] for k in drawn]), best)
    )
    level = student_level(len(chosen) - 2)
    return PowerLaw(
        scale=float(np.exp(log_scale)),
        exponent=exponent,
        points=len(chosen),
        r_squared=r_squared,
        x_range=(float(xs[chosen].min()), float(xs[chosen].max())),
        status="ok" if abs(exponent) > 1e-4 else "degenerate: y does not change with x",
        exponent_interval=interval(samples[:, 1], level),
        level=level,
        samples=samples,
    )


def _members(groups: npt.ArrayLike | None, points: int, what: str) -> list[npt.NDArray[np.intp]]:
    """Rows of each group."""
    if groups is None:
        return list(np.arange(points)[:, None])
    labels = np.asarray(groups)
    if labels.shape != (points,):
        raise InputError(f"{what}: {points} points need as many groups")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _rows(x: FloatArray, y: FloatArray, drawn: list[npt.NDArray[np.intp]]) -> tuple[FloatArray, FloatArray]:
    rows = np.concatenate(drawn)
    return x[rows], y[rows]


def resample_rows(
    count: int, resamples: int, seed: int, fit: Callable[[npt.NDArray[np.intp]], tuple[float, ...]]
) -> FloatArray:
    """What ``fit`` gives for each resample's rows (resamples, values); an empty (0, 2) without resamples."""
    if not resamples:
        return np.empty((0, 2))
    counts = draw_weights(count, resamples, seed).astype(np.intp)
    return np.array([fit(np.repeat(np.arange(count), row)) for row in counts])


def _choose(x: FloatArray, y: FloatArray, best: Best | None) -> npt.NDArray[np.intp]:
    return np.arange(len(x)) if best is None else frontier(x, y, best)


def _sample(x: FloatArray, y: FloatArray, best: Best | None) -> tuple[float, float]:
    chosen = _choose(x, y, best)
    if len(np.unique(x[chosen])) < 2:
        return float("nan"), float("nan")
    return _line(x[chosen], y[chosen])[:2]


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Intercept, slope and R^2 of ln y on ln x."""
    log_x, log_y = np.log(x), np.log(y)
    across, up = log_x - log_x.mean(), log_y - log_y.mean()
    slope = float(across @ up / (across @ across))
    total = float(up @ up)
    left = float(((up - slope * across) ** 2).sum())
    return float(log_y.mean() - slope * log_x.mean()), slope, 1 - left / total if total > 1e-24 else 1.0
