"""The law of repeated data (Muennighoff et al. 2023), and its fit with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
from syllablelm.scaling.fit import huber
from syllablelm.scaling.flops import FLOPS_PER_PARAM_TOKEN
from syllablelm.scaling.laws import PUBLISHED, LossLaw, Optimum, plain, positive
from syllablelm.scaling.minimise import Objective, minimise
from syllablelm.scaling.resample import (
    UNKNOWN,
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

NAMES = ("repeat_tokens", "repeat_params")
# Values that start the fit of either constant.
_STARTS = np.geomspace(0.5, 200.0, 6)
# Upper end of the constants: repeats whose value decays more slowly are as good as new.
MOST = 1e4
# Maximum logarithm of a constant during the fit.
_HUGE = 300.0
# Relative change of every loss below which a constant has no visible effect.
_NOTHING = 1e-4
# Search range around the optimum on fresh data (natural logarithm of the tokens), extended where it ends at an edge.
_SPAN = 8.0


@dataclass(frozen=True)
class RepetitionLaw(Record):
    """Loss law when unique data run out: repeated tokens, and parameters in excess of them, count for less.

    D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)) with R_D = D / U_D - 1 repetitions, and N' likewise with U_N, the optimal
    number of parameters for U_D (Muennighoff et al. 2023, Eq. 5 and 6).

    Args:
        law: loss law of unrepeated data.
        repeat_tokens: R_D*; the larger, the slower the value of repeated tokens decays.
        repeat_params: R_N*, likewise for excess parameters.
        ranges: least and most "params", "tokens" and "epochs" of the fitted runs; empty where not known.
    """

    law: LossLaw
    repeat_tokens: float
    repeat_params: float
    ranges: Mapping[str, Interval] = field(default_factory=dict, hash=False, kw_only=True)

    def unique_params(self, params: npt.ArrayLike, unique: npt.ArrayLike) -> Any:
        """Return U_N, the optimal number of parameters for the unique tokens, at most ``params``."""
        law, unique = self.law, positive(unique, "unique tokens")
        if not law.has_optimum:
            return plain(np.full(np.broadcast(params, unique).shape, np.nan))
        # An overflow is above any size.
        with np.errstate(over="ignore"):
            return plain(np.minimum(params, (unique * law.G) ** (law.beta / law.alpha) * law.G))

    def effective(self, params: npt.ArrayLike, tokens: npt.ArrayLike, unique: npt.ArrayLike) -> Optimum:
        """Return N' and D', the parameters and unrepeated tokens that would give the same loss."""
        params, tokens = positive(params, "params"), positive(tokens, "tokens")
        fresh = np.minimum(tokens, positive(unique, "unique tokens"))
        return Optimum(
            plain(_decayed(params, self.unique_params(params, unique), self.repeat_params)),
            plain(_decayed(tokens, fresh, self.repeat_tokens)),
        )

    def loss(self, params: npt.ArrayLike, tokens: npt.ArrayLike, unique: npt.ArrayLike) -> Any:
        """Return the loss after ``tokens`` of which only ``unique`` differ."""
        return self.law.loss(*self.effective(params, tokens, unique))

    def optimal(self, flops: float, unique: float) -> Optimum:
        """Return parameters and tokens of the least loss when there are only ``unique`` tokens, to six digits."""
        once = self.law.optimal(flops)
        if not (np.isfinite(once.tokens) and once.tokens > 0):
            return once
        pairs = float(flops) / FLOPS_PER_PARAM_TOKEN
        low, high = np.log(once.tokens) - _SPAN, np.log(once.tokens) + _SPAN
        narrowed = 0
        while narrowed < 6:
            log_tokens = np.linspace(low, high, 201)
            tokens = np.exp(log_tokens)
            best = int(np.argmin(self.loss(pairs / tokens, tokens, unique)))
            # Few unique tokens pull the optimum far from that of fresh data, at most to one token or one parameter.
            if not narrowed and best == 0 and low > 0:
                low -= _SPAN
            elif not narrowed and best == 200 and high < np.log(pairs):
                high += _SPAN
            else:
                low, high = log_tokens[max(best - 2, 0)], log_tokens[min(best + 2, 200)]
                narrowed += 1
        tokens = float(np.exp((low + high) / 2))
        return Optimum(pairs / tokens, tokens)


PUBLISHED_REPETITION: dict[str, RepetitionLaw] = {
    "muennighoff": RepetitionLaw(PUBLISHED["muennighoff"], 15.387756, 5.309743),
    "text": RepetitionLaw(PUBLISHED["text"], 15.4, 5.31),
    "speech": RepetitionLaw(
        PUBLISHED["speech"], 25.0, 31.0, ranges={**PUBLISHED["speech"].ranges, "epochs": (1.0, 10.0)}
    ),
}
"""Published laws of repeated data by name."""


def _decayed(amount: Any, unique: Any, half_life: float) -> FloatArray:
    with np.errstate(over="ignore"):
        repeats = np.maximum(np.asarray(amount) / unique - 1, 0.0)
    return np.asarray(unique + unique * half_life * -np.expm1(-repeats / half_life))


@dataclass(frozen=True, kw_only=True)
class FittedRepetition(RepetitionLaw):
    """A fitted law of repeated data.

    Args:
        runs: number of fitted runs.
        repeated: number of runs that repeat their data.
        status: "ok", or "degenerate: " and which constant the runs do not determine, or why intervals are too narrow.
        intervals: 95 % intervals of `NAMES` over resampled runs, each with the law of its own resample; empty without
            bootstrap. An end of 1e4 stands for no end; NaNs where the runs do not determine the constant.
        samples: (resamples, 2), constants of each resample; NaN where undetermined or its law has no optimum.
    """

    runs: int
    repeated: int
    status: str
    intervals: dict[str, Interval] = field(default_factory=dict)
    samples: FloatArray = json_key(**samples_of(2))


def fit_repetition(
    law: LossLaw,
    params: npt.ArrayLike,
    tokens: npt.ArrayLike,
    unique: npt.ArrayLike,
    loss: npt.ArrayLike,
    huber_delta: float = 1e-3,
    bootstrap: int = 0,
    seed: int = 0,
) -> FittedRepetition:
    """Fit R_D* and R_N* to runs on repeated data, with the constants of ``law`` frozen (Muennighoff et al. 2023).

    Args:
        law: law of unrepeated data. A ``FittedLaw`` with resamples carries its uncertainty into the intervals; any
            other law is taken as exact.
        params, tokens, loss: N, D and loss of each run, (runs,).
        unique: U_D, unique tokens of each run or of all.
        huber_delta, bootstrap, seed: see `fit_loss_law`.

    Raises:
        InputError: fewer than three runs, none that repeats its data, numbers that are not above 0, or a law without an
            optimum.
    """
    if not law.has_optimum:
        raise InputError(
            f"the law of unrepeated data has no optimum (alpha is {law.alpha:.3g}, beta {law.beta:.3g}), so the "
            "optimal number of parameters for the unique tokens is unknown"
        )
    sizes, data, losses, fresh = check_columns(params=params, tokens=tokens, loss=loss, unique=unique)
    repeated = data > fresh * (1 + 1e-9)
    if len(losses) < 3 or repeated.sum() < 2:
        raise InputError(
            f"{repeated.sum()} of {len(losses)} runs repeat their data; the fit of R_D* and R_N* needs at least "
            "three runs, two of which have more tokens than unique tokens"
        )
    columns = sizes, data, fresh, losses
    grid = np.log(np.stack(np.meshgrid(_STARTS, _STARTS), axis=-1).reshape(-1, 2))
    minima = minimise(_objective([law] * len(grid), columns, huber_delta), grid)
    best = minima.point[np.argmin(minima.value)]
    samples = _resample(law, columns, huber_delta, best, bootstrap, seed)
    base = LossLaw(law.E, law.A, law.B, law.alpha, law.beta)
    ranges = {"params": extent(sizes), "tokens": extent(data), "epochs": (1.0, float((data / fresh).max()))}
    fitted = RepetitionLaw(base, *map(float, np.exp(np.clip(best, -_HUGE, _HUGE))), ranges=ranges)
    return FittedRepetition(
        **vars(fitted),
        runs=len(losses),
        repeated=int(repeated.sum()),
        status=_status(fitted, samples, columns[:3]),
        intervals=_intervals(samples, student_level(len(losses) - len(NAMES))) if bootstrap else {},
        samples=samples,
    )


def _objective(
    laws: list[LossLaw], columns: tuple[FloatArray, ...], delta: float, weights: FloatArray | None = None
) -> Objective:
    """Return the summed Huber loss of ln R_D* and ln R_N* with gradients; row s has its own law and weights."""
    sizes, data, fresh, losses = columns
    log_losses = np.log(losses)
    unique_params = np.stack([RepetitionLaw(law, 1.0, 1.0).unique_params(sizes, fresh) for law in laws])
    unique_data = np.broadcast_to(np.minimum(data, fresh), unique_params.shape)
    bases = np.stack([unique_data, unique_params])
    # A law may count nearly every parameter as excess; beyond this bound their value has decayed entirely.
    with np.errstate(over="ignore"):
        repeats = np.minimum(np.stack([data / unique_data - 1, sizes / unique_params - 1]), 1e12)
    floors = np.array([law.E for law in laws])
    scales = np.array([[law.B for law in laws], [law.A for law in laws]])
    powers = np.array([[law.beta for law in laws], [law.alpha for law in laws]])

    def evaluate(theta_SP: FloatArray, rows: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        predicted, slopes = np.repeat(floors[rows, None], len(losses), axis=1), []
        for k in range(2):
            star, power = np.exp(theta_SP[:, k, None]), powers[k, rows, None]
            ratio = repeats[k, rows] / star
            grown = 1 - star * np.expm1(-ratio)
            term = scales[k, rows, None] * (bases[k, rows] * grown) ** -power
            predicted = predicted + term
            slopes.append(-power * term / grown * star * (-np.expm1(-ratio) - ratio * np.exp(-ratio)))
        cost, bent = huber(np.log(predicted) - log_losses, delta)
        weighed = np.ones(1) if weights is None else weights[rows]
        gradients = [(weighed * bent * slope / predicted).sum(axis=1) for slope in slopes]
        return (weighed * cost).sum(axis=1), np.stack(gradients, axis=1)

    return evaluate


def _resample(
    law: LossLaw, columns: tuple[FloatArray, ...], delta: float, best: FloatArray, resamples: int, seed: int
) -> FloatArray:
    """Return the constants (resamples, 2) of fits to resampled runs, from the whole fit and from two far starts."""
    found = np.full((resamples, 2), np.nan)
    if not resamples:
        return found
    sampled = law.sampled_laws() or [law]
    laws = [sampled[k % len(sampled)] for k in range(resamples)]
    # An exponent at or below 0 has no optimum, so no U_N; one near 0 may put it at 0 or infinity.
    unique_params = np.stack([RepetitionLaw(each, 1.0, 1.0).unique_params(columns[0], columns[2]) for each in laws])
    usable = np.flatnonzero((np.isfinite(unique_params) & (unique_params > 0)).all(axis=1))
    if not len(usable):
        return found
    # Another seed than the law's, whose draws are of other runs.
    weights = draw_weights(len(columns[0]), resamples, seed + 1)[usable]
    starts = np.concatenate(
        [np.tile(start, (len(usable), 1)) for start in (best, np.log([5.0, 5.0]), np.log([50.0, 50.0]))]
    )
    objective = _objective([laws[k] for k in usable] * 3, columns, delta, np.tile(weights, (3, 1)))
    minima = minimise(objective, starts, tolerance=1e-6)
    winner = np.argmin(minima.value.reshape(3, -1), axis=0)
    points = minima.point.reshape(3, -1, 2)[winner, np.arange(len(usable))]
    found[usable] = np.exp(np.clip(points, -_HUGE, _HUGE))
    for k, weight in zip(usable, weights, strict=True):
        own = RepetitionLaw(laws[k], *map(float, found[k]))
        rows = [column[weight > 0] for column in columns[:3]]
        found[k, [not _shows(own, name, _STARTS[0], MOST, rows) for name in NAMES]] = np.nan
    return found


def _shows(law: RepetitionLaw, name: str, low: float, high: float, runs: Sequence[FloatArray]) -> bool:
    """Return whether the loss of any run (params, tokens, unique) differs between two values of a constant."""
    losses = [replace(law, **{name: value}).loss(*runs) for value in (low, high)]
    return bool(np.abs(np.log(losses[0] / losses[1])).max() >= _NOTHING)


def _intervals(samples: FloatArray, level: float) -> dict[str, Interval]:
    found = {}
    # Samples whose law has no optimum determine neither constant; of the others almost all must determine this one.
    usable = np.isfinite(samples).any(axis=1)
    for k, name in enumerate(NAMES):
        known = np.isfinite(samples[:, k])
        enough = 2 * known.sum() >= len(samples) and known.sum() >= USABLE * usable.sum()
        # Beyond MOST two values cannot be told apart, and where a fit diverges to is chance.
        found[name] = interval(np.minimum(samples[known, k], MOST), level) if enough else UNKNOWN
    return found


def _status(law: RepetitionLaw, samples: FloatArray, runs: Sequence[FloatArray]) -> str:
    reasons = []
    usable = int(np.isfinite(samples).any(axis=1).sum())
    if usable < USABLE * len(samples):
        reasons.append(f"only {usable} of {len(samples)} resamples have an optimum, so intervals are too narrow")
    for k, (what, name) in enumerate((("R_D*", "repeat_tokens"), ("R_N*", "repeat_params"))):
        known = int(np.isfinite(samples[:, k]).sum())
        if known < USABLE * usable:
            reasons.append(f"{what} shows in only {known} of {usable} resamples")
        star = getattr(law, name)
        if not _shows(law, name, star / 2, 2 * star, runs):
            reasons.append(f"{what} could be {star / 2:.3g} or {2 * star:.3g} just as well")
    return "degenerate: " + "; ".join(reasons) if reasons else "ok"
