"""The fit of the law of repeated data (Muennighoff et al. 2023), with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.scaling.fit import FittedLaw, check_columns, huber
from syllablelm.scaling.laws import LossLaw, RepetitionLaw
from syllablelm.scaling.minimise import Objective, minimise
from syllablelm.scaling.resample import USABLE, FloatArray, Interval, draw_weights, interval, student_level

NAMES = ("repeat_tokens", "repeat_params")
# Starts of both constants.
_STARTS = np.geomspace(0.5, 200.0, 6)
# Repeats that lose their value so slowly are as good as new.
MOST = 1e4
# Logarithm of what counts as without end while it is fitted.
_HUGE = 300.0
# Relative change of every loss below which a constant does not show.
_NOTHING = 1e-4


@dataclass(frozen=True)
class FittedRepetition(RepetitionLaw):
    """A law of repeated data with what is known about its fit.

    Args:
        runs: how many were fitted; repeated: how many of them repeat their data.
        status: "ok", or "degenerate: " and which constant the runs do not tell, or why intervals are too narrow.
        params_range, tokens_range, passes_range: least and most of the runs, passes over the unique tokens; NaNs where
            not known.
        intervals: 95 % of `NAMES` over resampled runs, each with the law of its own resample; empty without bootstrap.
            An end of 1e4 stands for none: repeats that cost nothing that shows. NaNs where the runs do not tell.
        samples: (resamples, 2), constants of each resample; NaN where its law has no optimum, or its runs do not tell.
    """

    runs: int
    repeated: int
    status: str
    params_range: Interval = (float("nan"), float("nan"))
    tokens_range: Interval = (float("nan"), float("nan"))
    passes_range: Interval = (float("nan"), float("nan"))
    intervals: dict[str, Interval] = field(default_factory=dict)
    samples: FloatArray = field(default_factory=lambda: np.empty((0, 2)), repr=False, compare=False)


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
        law: of unrepeated data. A ``FittedLaw`` with resamples carries its uncertainty into the intervals; any other
            law is taken as exact.
        unique: U_D, unique tokens of each run or of all.
        bootstrap: resamples for the intervals; 0 for none.
        seed: of the resamples.

    Raises:
        InputError: fewer than three runs, none that repeats its data, numbers that are not above 0, or a law without an
            optimum.
    """
    if not law.has_optimum:
        raise InputError(
            f"the law of unrepeated data has no optimum (alpha is {law.alpha:.3g}, beta {law.beta:.3g}), so nothing "
            "says how many parameters the unique tokens are worth"
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
    samples = _resample(law, columns, huber_delta, best, bootstrap, seed) if bootstrap else np.empty((0, 2))
    fitted = RepetitionLaw(
        LossLaw(law.E, law.A, law.B, law.alpha, law.beta), *map(float, np.exp(np.clip(best, -_HUGE, _HUGE)))
    )
    return FittedRepetition(
        **vars(fitted),
        runs=len(losses),
        repeated=int(repeated.sum()),
        status=_status(fitted, samples, sizes, data, fresh),
        params_range=(float(sizes.min()), float(sizes.max())),
        tokens_range=(float(data.min()), float(data.max())),
        passes_range=(1.0, float((data / fresh).max())),
        intervals=_intervals(samples, student_level(len(losses) - len(NAMES))) if bootstrap else {},
        samples=samples,
    )


def _objective(
    laws: list[LossLaw], columns: tuple[FloatArray, ...], delta: float, weights: FloatArray | None = None
) -> Objective:
    """Summed Huber loss of ln R_D* and ln R_N*, with gradients; row s has the law and the weights of its own."""
    sizes, data, fresh, losses = columns
    log_losses = np.log(losses)
    unique_params = np.stack([RepetitionLaw(law, 1.0, 1.0).unique_params(sizes, fresh) for law in laws])
    unique_data = np.broadcast_to(np.minimum(data, fresh), unique_params.shape)
    bases = np.stack([unique_data, unique_params])
    # A law may hold that nearly every parameter is one too many; beyond this nothing is left of them to decay.
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
    """Constants (resamples, 2) of fits to resampled runs, from the whole fit and from two far starts."""
    laws = [law] * resamples
    if isinstance(law, FittedLaw) and len(law.samples):
        laws = [LossLaw(*map(float, law.samples[k % len(law.samples)])) for k in range(resamples)]
    found = np.full((resamples, 2), np.nan)
    # An exponent at or below 0 has no optimum, so no U_N; one near 0 may put it at 0 or beyond all numbers.
    unique_params = np.stack([RepetitionLaw(each, 1.0, 1.0).unique_params(columns[0], columns[2]) for each in laws])
    usable = np.flatnonzero((np.isfinite(unique_params) & (unique_params > 0)).all(axis=1))
    if not len(usable):
        return found
    # Another stream than the law's: its draws are of other runs.
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
        found[k, [not _tells(own, name, *rows) for name in NAMES]] = np.nan
    return found


def _tells(law: RepetitionLaw, name: str, sizes: FloatArray, data: FloatArray, fresh: FloatArray) -> bool:
    """Whether it shows in any run if one of `NAMES` is next to nothing or without end."""
    least, most = (replace(law, **{name: star}).loss(sizes, data, fresh) for star in (_STARTS[0], MOST))
    return bool(np.abs(np.log(least / most)).max() >= _NOTHING)


def _intervals(samples: FloatArray, level: float) -> dict[str, Interval]:
    found = {}
    for k, name in enumerate(NAMES):
        told = np.isfinite(samples[:, k])
        # Samples whose law has no optimum tell neither; of the others almost all must tell this one.
        usable = np.isfinite(samples).any(axis=1)
        enough = 2 * told.sum() >= len(samples) and told.sum() >= USABLE * usable.sum()
        # Beyond MOST nothing tells two values apart, and where a fit runs away to is chance.
        values = np.minimum(samples[told, k], MOST)
        found[name] = interval(values, level) if enough else (float("nan"), float("nan"))
    return found


def _status(law: RepetitionLaw, samples: FloatArray, sizes: FloatArray, data: FloatArray, fresh: FloatArray) -> str:
    reasons = []
    usable = int(np.isfinite(samples).any(axis=1).sum())
    if usable < USABLE * len(samples):
        reasons.append(f"only {usable} of {len(samples)} resamples have an optimum, so intervals are too narrow")
    for k, (what, name) in enumerate((("R_D*", "repeat_tokens"), ("R_N*", "repeat_params"))):
        told = int(np.isfinite(samples[:, k]).sum())
        if told < USABLE * usable:
            reasons.append(f"{what} shows in only {told} of {usable} resamples")
        star = getattr(law, name)
        half, twice = (replace(law, **{name: factor * star}).loss(sizes, data, fresh) for factor in (0.5, 2.0))
        if np.abs(np.log(half / twice)).max() < _NOTHING:
            reasons.append(f"{what} could be {star / 2:.3g} or {2 * star:.3g} just as well")
    return "degenerate: " + "; ".join(reasons) if reasons else "ok"
