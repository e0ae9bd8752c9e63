"""Fits of the loss laws: Huber's loss of log residuals, from a grid of starts, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
from syllablelm.scaling.flops import FLOPS_PER_PARAM_TOKEN
from syllablelm.scaling.laws import LossLaw
from syllablelm.scaling.minimise import Objective, minimise
from syllablelm.scaling.resample import (
    USABLE,
    FloatArray,
    Interval,
    draw_weights,
    extent,
    interval,
    samples_of,
    student_level,
)
from syllablelm.scaling.runs import check_columns

NAMES = ("E", "A", "B", "alpha", "beta")
# Exponents of the starts; E, A and B follow from them by least squares.
_EXPONENTS = np.geomspace(0.05, 1.6, 12)
# Maximum number of residuals in a block of resamples fitted together (32 MB an array).
_BLOCK = 4_000_000
# Share of the loss below which a term or its change counts as none; exponents outside of any study's.
_NOTHING, _LEAST, _MOST = 1e-3, 0.01, 2.0
# Relative standard deviation of sizes and token counts across the ray on which they nearly lie.
_RAY = 1e-3


@dataclass(frozen=True)
class Diagnostics(Record):
    """Residuals ln(predicted) - ln(measured) of a fit.

    Args:
        rms, largest: root mean square and largest absolute residual.
        r_squared: share of the variance of ln(loss) that the law explains.
        outliers: runs whose residual is more than 5 robust standard deviations from the median.
        trend_params, trend_tokens: correlation of the residuals with ln N and ln D; near 0 where the law fits.
    """

    rms: float
    largest: float
    r_squared: float
    outliers: int
    trend_params: float
    trend_tokens: float


@dataclass(frozen=True, kw_only=True)
class FittedLaw(LossLaw):
    """A fitted loss law.

    Args:
        objective: sum of Huber's loss of the log residuals.
        huber_delta: threshold of Huber's loss.
        runs: number of fitted runs.
        status: "ok", or "degenerate: " and why the constants should not be trusted one by one.
        diagnostics: residuals.
        intervals: 95 % intervals of E, A, B, alpha, beta, a, b over resampled runs (`level`); empty without bootstrap.
            NaNs for a and b where too few resamples have an optimum (`usable`).
        samples: (resamples, 5), constants of each resample in the order of `NAMES`.
    """

    derived: ClassVar[tuple[str, ...]] = ("a", "b", "G", "resamples", "usable")

    objective: float
    huber_delta: float
    runs: int
    status: str
    diagnostics: Diagnostics
    intervals: dict[str, Interval] = field(default_factory=dict)
    samples: FloatArray = json_key(**samples_of(5))

    @property
    def level(self) -> float:
        """Level of the percentiles of `samples` that make 95 % intervals."""
        return student_level(self.runs - len(NAMES))

    @property
    def resamples(self) -> int:
        """Number of resamples."""
        return len(self.samples)

    @property
    def usable(self) -> int:
        """Number of resamples with an optimum: an exponent that the runs do not determine may be below 0."""
        return int(_with_optimum(self.samples).sum())

    @property
    def shortfall(self) -> str:
        """Why there are no intervals of what follows from an optimum; empty if there are, or without resamples."""
        if self.usable >= USABLE * len(self.samples):
            return ""
        return f"only {self.usable} of {len(self.samples)} resamples have an optimum"

    def sampled_laws(self) -> Sequence[LossLaw]:
        """Return the law of each resample; not all have an optimum."""
        return [LossLaw(*map(float, row)) for row in self.samples]


def log_residuals(theta_SP: FloatArray, log_params: FloatArray, log_tokens: FloatArray, log_loss: FloatArray):
    """Return residuals (S, runs) of ln E, ln A, ln B, alpha, beta (S, 5) and their five derivatives (S, runs)."""
    log_E, log_A, log_B, alpha, beta = (theta_SP[:, k, None] for k in range(5))
    size_term = np.exp(log_A - alpha * log_params)
    data_term = np.exp(log_B - beta * log_tokens)
    floor = np.exp(log_E)
    loss = floor + size_term + data_term
    size_share, data_share = size_term / loss, data_term / loss
    slopes = (floor / loss, size_share, data_share, -size_share * log_params, -data_share * log_tokens)
    return np.log(loss) - log_loss, slopes


def huber(residuals: FloatArray, delta: float) -> tuple[FloatArray, FloatArray]:
    """Return Huber's loss and its derivative: r^2 / 2 up to ``delta``, delta (|r| - delta / 2) beyond."""
    bent = np.clip(residuals, -delta, delta)
    return bent * (residuals - bent / 2), bent


def law_objective(
    params: FloatArray, tokens: FloatArray, loss: FloatArray, delta: float, weights: FloatArray | None = None
) -> Objective:
    """Return the summed Huber loss of ln E, ln A, ln B, alpha, beta with gradients; row s has ``weights[s]``."""
    log_params, log_tokens, log_loss = np.log(params), np.log(tokens), np.log(loss)

    def evaluate(theta_SP: FloatArray, rows: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        residuals, slopes = log_residuals(theta_SP, log_params, log_tokens, log_loss)
        cost, bent = huber(residuals, delta)
        if weights is not None:
            cost, bent = cost * weights[rows], bent * weights[rows]
        return cost.sum(axis=1), np.stack([np.einsum("sn,sn->s", bent, slope) for slope in slopes], axis=1)

    return evaluate


def fit_loss_law(
    params: npt.ArrayLike,
    tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    huber_delta: float = 1e-3,
    bootstrap: int = 0,
    seed: int = 0,
) -> FittedLaw:
    """Fit L(N, D) = E + A / N^alpha + B / D^beta to training runs (Hoffmann et al. 2022, section 3.3).

    Args:
        params, tokens: N and D of each run, (runs,).
        loss: held-out loss of each run in nats, of one tokenisation, (runs,).
        huber_delta: threshold of Huber's loss: 1e-3 in Hoffmann et al., 0.03 in Cuervo & Marxer.
        bootstrap, seed: number of resamples for the intervals (0 for none), and their random seed.

    Raises:
        InputError: runs that cannot tell the five constants apart, or numbers that are not above 0.
    """
    sizes, data, losses = check_runs(params, tokens, loss)
    if not (np.isfinite(huber_delta) and huber_delta > 0):
        raise InputError(f"huber_delta {huber_delta} must be above 0")
    if bootstrap < 0:
        raise InputError(f"bootstrap {bootstrap} must not be below 0")
    fitter = _Fitter(sizes, data, losses, huber_delta)
    best, objective = fitter.fit()
    values = _constants(fitter.original(best[None]))[0]
    columns = {"flops": FLOPS_PER_PARAM_TOKEN * sizes * data, "params": sizes, "tokens": data}
    law = LossLaw(*map(float, values), ranges={name: extent(column) for name, column in columns.items()})
    samples = fitter.resample(best, bootstrap, seed) if bootstrap else np.empty((0, 5))
    return FittedLaw(
        **vars(law),
        objective=objective,
        huber_delta=float(huber_delta),
        runs=len(losses),
        status=_status(law, sizes, data, losses),
        diagnostics=_diagnose(law, sizes, data, losses),
        intervals=_intervals(samples, student_level(len(losses) - len(NAMES))) if bootstrap else {},
        samples=samples,
    )


def check_runs(params: npt.ArrayLike, tokens: npt.ArrayLike, loss: npt.ArrayLike) -> tuple[FloatArray, ...]:
    """Return the columns as arrays, if they determine the five constants of a loss law."""
    sizes, data, losses = check_columns(params=params, tokens=tokens, loss=loss)
    if len(losses) < 6:
        raise InputError(f"{len(losses)} runs cannot fix the five constants of a loss law; give at least 6")
    for name, column in (("model sizes", sizes), ("token counts", data)):
        different = len(np.unique(np.round(np.log(column), 6)))
        if different < 3:
            raise InputError(f"{different} different {name} cannot fix a power law and E; give at least 3")
    logs = np.log(np.stack([sizes, data]))
    spread = np.linalg.svd(logs - logs.mean(axis=1, keepdims=True), compute_uv=False)
    if spread[1] < _RAY * spread[0]:
        raise InputError(
            "all runs lie on one ray (tokens are a fixed power of the parameters), so A and B cannot be told apart; "
            "add runs with another ratio of tokens to parameters"
        )
    return sizes, data, losses


class _Fitter:
    """The fit in centred logarithms, in which the constants hardly depend on one another."""

    def __init__(self, sizes: FloatArray, data: FloatArray, losses: FloatArray, delta: float) -> None:
        self.centre = np.log(sizes).mean(), np.log(data).mean()
        self.sizes, self.data = sizes / np.exp(self.centre[0]), data / np.exp(self.centre[1])
        self.losses, self.delta = losses, delta

    def fit(self) -> tuple[FloatArray, float]:
        grid = np.stack(np.meshgrid(_EXPONENTS, _EXPONENTS), axis=-1).reshape(-1, 2)
        objective = law_objective(self.sizes, self.data, self.losses, self.delta)
        minima = minimise(objective, self._starts(grid, np.ones(len(self.losses))), tolerance=1e-6)
        # A second round from the best of the first: BFGS may stop early where Huber's loss bends.
        leaders = minima.point[np.argsort(minima.value)[:12]]
        again = minimise(objective, leaders, tolerance=1e-12)
        best = int(np.argmin(again.value))
        return again.point[best], float(again.value[best])

    def resample(self, best: FloatArray, resamples: int, seed: int) -> FloatArray:
        """Return constants (resamples, 5) of fits to resampled runs, from the whole fit and from two far starts."""
        weights = draw_weights(len(self.losses), resamples, seed)
        far = best[None, 3:] * np.array([[0.7, 0.7], [1.4, 1.4]])
        found = np.empty((resamples, 5))
        block = max(1, _BLOCK // (3 * len(self.losses)))
        for first in range(0, resamples, block):
            drawn = weights[first : first + block]
            count = len(drawn)
            starts = np.concatenate([np.tile(best, (count, 1)), *(self._starts(row, drawn) for row in far)])
            objective = law_objective(self.sizes, self.data, self.losses, self.delta, np.tile(drawn, (3, 1)))
            minima = minimise(objective, starts, tolerance=1e-6)
            winner = np.argmin(minima.value.reshape(3, count), axis=0)
            found[first : first + count] = minima.point.reshape(3, count, 5)[winner, np.arange(count)]
        return _constants(self.original(found))

    def original(self, theta_SP: FloatArray) -> FloatArray:
        """Return ln E, ln A, ln B, alpha, beta of the uncentred law."""
        shift = np.zeros_like(theta_SP)
        shift[:, 1:3] = theta_SP[:, 3:] * np.array(self.centre)
        return theta_SP + shift

    def _starts(self, exponents: FloatArray, weights: FloatArray) -> FloatArray:
        """Return points (S, 5) with exponents (S, 2) or (2,) and least-squares E, A, B under weights (S, runs)."""
        count = max(np.atleast_2d(exponents).shape[0], np.atleast_2d(weights).shape[0])
        powers = np.broadcast_to(np.atleast_2d(exponents), (count, 2))
        weights = np.broadcast_to(np.atleast_2d(weights), (count, len(self.losses)))
        terms = np.stack(
            [np.ones((count, len(self.losses))), self.sizes ** -powers[:, :1], self.data ** -powers[:, 1:]], axis=-1
        )
        # Relative errors are log errors to first order.
        terms = terms / self.losses[:, None]
        normal = np.einsum("sn,sni,snj->sij", weights, terms, terms) + 1e-9 * len(self.losses) * np.eye(3)
        right = np.einsum("sn,sni->si", weights, terms)
        solved = np.linalg.solve(normal, right[..., None])[..., 0]
        constants = np.maximum(solved, 0.02 * self.losses.min())
        return np.concatenate([np.log(constants), powers], axis=1)


def _constants(theta_SP: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.concatenate([np.exp(theta_SP[:, :3]), theta_SP[:, 3:]], axis=1)


def _intervals(samples: FloatArray, level: float) -> dict[str, Interval]:
    found = {name: interval(samples[:, k], level) for k, name in enumerate(NAMES)}
    # Without an optimum there are no shares, and the interval of the rest alone would be too narrow.
    usable = _with_optimum(samples)
    share = np.full(len(samples), np.nan)
    share[usable] = samples[usable, 4] / samples[usable, 3:].sum(axis=1)
    return found | {"a": interval(share, level, USABLE), "b": interval(1 - share, level, USABLE)}


def _with_optimum(samples: FloatArray) -> npt.NDArray[np.bool_]:
    """Return `LossLaw.has_optimum` of each resample."""
    return np.asarray((samples[:, 3:] > 0).all(axis=1) & np.isfinite(samples).all(axis=1))


def _status(law: LossLaw, sizes: FloatArray, data: FloatArray, losses: FloatArray) -> str:
    """Return "ok", or why the constants should not be trusted one by one."""
    least = float(losses.min())
    terms = {"A / N^alpha": law.A * sizes**-law.alpha, "B / D^beta": law.B * data**-law.beta}
    reasons = [f"{name} hardly changes" for name, term in terms.items() if np.ptp(term) < _NOTHING * least]
    if law.E / least < _NOTHING:
        reasons.append("E is 0: the runs do not come near a floor")
    for name in ("alpha", "beta"):
        if not _LEAST < getattr(law, name) < _MOST:
            reasons.append(f"{name} is {getattr(law, name):.3g}")
    return "degenerate: " + "; ".join(reasons) if reasons else "ok"


def _diagnose(law: LossLaw, sizes: FloatArray, data: FloatArray, losses: FloatArray) -> Diagnostics:
    residuals = np.log(law.loss(sizes, data)) - np.log(losses)
    apart = np.abs(residuals - np.median(residuals))
    spread = 1.4826 * float(np.median(apart))
    total = float(((np.log(losses) - np.log(losses).mean()) ** 2).sum())
    return Diagnostics(
        rms=float(np.sqrt((residuals**2).mean())),
        largest=float(np.abs(residuals).max()),
        r_squared=1 - float((residuals**2).sum()) / total if total else math.nan,
        outliers=int((apart > max(5 * spread, 1e-12)).sum()),
        trend_params=_correlation(residuals, np.log(sizes)),
        trend_tokens=_correlation(residuals, np.log(data)),
    )


def _correlation(left: FloatArray, right: FloatArray) -> float:
    if left.std() < 1e-12 or right.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
