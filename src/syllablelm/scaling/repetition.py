"""The fit of the law of repeated data (Muennighoff et al. 2023), with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.scaling.fit import FittedLaw, check_columns, huber
from syllablelm.scaling.laws import LossLaw, RepetitionLaw
from syllablelm.scaling.minimise import Objective, minimise
from syllablelm.scaling.resample import FloatArray, Interval, draw_weights, interval, student_level

NAMES = ("repeat_tokens", "repeat_params")
# Starts of both constants.
_STARTS = np.geomspace(0.5, 200.0, 6)
# Repeats that lose their value so slowly are as good as new.
MOST = 1e4
# Relative change of every loss below which a constant does not show.
_NOTHING = 1e-4


@dataclass(frozen=True)
class FittedRepetition(RepetitionLaw):
    """A law of repeated data with what is known about its fit.

    Args:
        runs: how many were fitted; repeated: how many of them repeat their data.
        status: "ok", or "degenerate: " and which constant the runs do not tell.
        intervals: 95 % of `NAMES` over resampled runs, each with the law of its own resample; empty without bootstrap.
            An end of 1e4 stands for none: repeats that cost nothing that shows.
        samples: (resamples, 2), constants of each resample; NaN where its law has no optimum.
    """

    runs: int
    repeated: int
    status: str
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
        InputError: fewer than three runs, none that repeats its data, or numbers that are not above 0.
    """
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
    fitted = RepetitionLaw(LossLaw(law.E, law.A, law.B, law.alpha, law.beta), *map(float, np.exp(best)))
    return FittedRepetition(
        **vars(fitted),
        runs=len(losses),
        repeated=int(repeated.sum()),
        status=_status(fitted, sizes, data, fresh),
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
    repeats = np.stack([data / unique_data - 1, sizes / unique_params - 1])
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
    # An exponent at or below 0 has no optimum, so no U_N.
    usable = np.array([k for k, each in enumerate(laws) if each.alpha > 0 and each.beta > 0], dtype=int)
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
    with np.errstate(over="ignore"):
        found[usable] = np.exp(minima.point.reshape(3, -1, 2)[winner, np.arange(len(usable))])
    return found


def _intervals(samples: FloatArray, level: float) -> dict[str, Interval]:
    # Beyond MOST nothing tells two values apart, and where a fit runs away to is chance.
    return {name: interval(np.minimum(samples[:, k], MOST), level) for k, name in enumerate(NAMES)}


def _status(law: RepetitionLaw, sizes: FloatArray, data: FloatArray, fresh: FloatArray) -> str:
    reasons = []
    for what, name in (("R_D*", "repeat_tokens"), ("R_N*", "repeat_params")):
        star = getattr(law, name)
        half, twice = (replace(law, **{name: factor * star}).loss(sizes, data, fresh) for factor in (0.5, 2.0))
        if np.abs(np.log(half / twice)).max() < _NOTHING:
            reasons.append(f"{what} could be {star / 2:.3g} or {2 * star:.3g} just as well")
    return "degenerate: " + "; ".join(reasons) if reasons else "ok"
