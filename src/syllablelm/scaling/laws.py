"""The laws themselves: loss of N parameters and D tokens, with and without repeated data, and what they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError

FloatArray = npt.NDArray[np.float64]
# Training FLOPs of a parameter and a token: two forward, four backward.
FLOPS_PER_PARAM_TOKEN = 6
# The optimum on repeated data is looked for so far from that on fresh data (natural logarithm of the tokens), and
# farther if it lies at an edge.
_SPAN = 8.0


class Optimum(NamedTuple):
    """The best split of a budget: ``params, tokens = law.optimal(flops)``; also as ``N`` and ``D``."""

    params: Any
    tokens: Any

    @property
    def N(self) -> Any:
        """Parameters."""
        return self.params

    @property
    def D(self) -> Any:
        """Tokens."""
        return self.tokens


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats (Hoffmann et al. 2022, Eq. 2).

    Args:
        E: loss that no model and no data remove.
        A, alpha: of the parameters; B, beta: of the tokens.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> Any:
        """Loss at ``params`` and ``tokens``; they broadcast."""
        params, tokens = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        # The optimum of a law without one of its terms is 0 or infinite.
        with np.errstate(divide="ignore", invalid="ignore"):
            return _plain(self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta)

    @property
    def has_optimum(self) -> bool:
        """Whether parameters and tokens both help; else no split of a budget is the best, and what follows is NaN."""
        # A resample's exponent may run so far that A or B is beyond all numbers.
        return self.alpha > 0 and self.beta > 0 and bool(np.isfinite([self.A, self.B]).all())

    @property
    def a(self) -> float:
        """Exponent of the optimal number of parameters in FLOPs."""
        return self.beta / (self.alpha + self.beta) if self.has_optimum else float("nan")

    @property
    def b(self) -> float:
        """Exponent of the optimal number of tokens in FLOPs."""
        return self.alpha / (self.alpha + self.beta) if self.has_optimum else float("nan")

    @property
    def G(self) -> float:
        """N_opt = G (C / 6)^a and D_opt = (C / 6)^b / G."""
        if not self.has_optimum:
            return float("nan")
        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.float64(self.alpha * self.A) / (self.beta * self.B)
            return float(ratio ** (1 / (self.alpha + self.beta)))

    def optimal(self, flops: npt.ArrayLike) -> Optimum:
        """Parameters and tokens of the least loss for a budget of ``flops`` = 6 N D; NaN if there is no optimum.

        Raises:
            InputError: a budget that is not above 0.
        """
        pairs = _positive(flops, "flops") / FLOPS_PER_PARAM_TOKEN
        # A term that is none makes one part infinite.
        with np.errstate(divide="ignore"):
            return Optimum(_plain(self.G * pairs**self.a), _plain(pairs**self.b / np.float64(self.G)))

    def flops_for_loss(self, loss: float) -> float:
        """Least budget that reaches a loss; infinite at or below E, else NaN if there is no optimum."""
        if not loss > self.E:
            return float("inf")
        if not self.has_optimum:
            return float("nan")
        # Along the optimum both terms fall with the same power of the FLOPs.
        power = self.alpha * self.beta / (self.alpha + self.beta)
        excess = self.loss(*self.optimal(FLOPS_PER_PARAM_TOKEN)) - self.E
        with np.errstate(over="ignore"):
            return float(FLOPS_PER_PARAM_TOKEN * np.float64(excess / (loss - self.E)) ** (1 / power))


@dataclass(frozen=True)
class RepetitionLaw:
    """A loss law when unique data run out: repeated tokens, and parameters in excess of them, count for less.

    D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)) with R_D = D / U_D - 1 repetitions, and N' likewise with U_N, the optimal
    number of parameters for U_D (Muennighoff et al. 2023, Eq. 5 and 6).

    Args:
        law: of unrepeated data.
        repeat_tokens: R_D*, repeat_params: R_N*; the larger, the slower the value decays.
    """

    law: LossLaw
    repeat_tokens: float
    repeat_params: float

    def unique_params(self, params: npt.ArrayLike, unique: npt.ArrayLike) -> Any:
        """U_N: as many parameters as are optimal for the unique tokens, at most those there are."""
        law, unique = self.law, _positive(unique, "unique tokens")
        if not law.has_optimum:
            return _plain(np.full(np.broadcast(params, unique).shape, np.nan))
        # A size beyond all numbers is above any there is.
        with np.errstate(over="ignore"):
            return _plain(np.minimum(params, (unique * law.G) ** (law.beta / law.alpha) * law.G))

    def effective(self, params: npt.ArrayLike, tokens: npt.ArrayLike, unique: npt.ArrayLike) -> Optimum:
        """N' and D': the parameters and unrepeated tokens that would give the same loss."""
        params, tokens = _positive(params, "params"), _positive(tokens, "tokens")
        fresh = np.minimum(tokens, _positive(unique, "unique tokens"))
        return Optimum(
            _plain(_decayed(params, self.unique_params(params, unique), self.repeat_params)),
            _plain(_decayed(tokens, fresh, self.repeat_tokens)),
        )

    def loss(self, params: npt.ArrayLike, tokens: npt.ArrayLike, unique: npt.ArrayLike) -> Any:
        """Loss after ``tokens`` of which only ``unique`` differ."""
        return self.law.loss(*self.effective(params, tokens, unique))

    def optimal(self, flops: float, unique: float) -> Optimum:
        """Parameters and tokens of the least loss when there are only ``unique`` tokens, to six digits."""
        plain = self.law.optimal(flops)
        if not (np.isfinite(plain.tokens) and plain.tokens > 0):
            return plain
        pairs = float(flops) / FLOPS_PER_PARAM_TOKEN
        low, high = np.log(plain.tokens) - _SPAN, np.log(plain.tokens) + _SPAN
        narrowed = 0
        while narrowed < 6:
            log_tokens = np.linspace(low, high, 201)
            tokens = np.exp(log_tokens)
            best = int(np.argmin(self.loss(pairs / tokens, tokens, unique)))
            # Few unique tokens pull the optimum far from the plain one; between one token and one parameter it ends.
            if not narrowed and best == 0 and low > 0:
                low -= _SPAN
            elif not narrowed and best == 200 and high < np.log(pairs):
                high += _SPAN
            else:
                low, high = log_tokens[max(best - 2, 0)], log_tokens[min(best + 2, 200)]
                narrowed += 1
        tokens = float(np.exp((low + high) / 2))
        return Optimum(pairs / tokens, tokens)


# Constants as printed or released, to compare with and to plan by.
PUBLISHED: dict[str, LossLaw] = {
    "hoffmann": LossLaw(1.69, 406.4, 410.7, 0.34, 0.28),
    "besiroglu": LossLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    "muennighoff": LossLaw(
        float(np.exp(0.6254804)), float(np.exp(6.255414)), float(np.exp(7.3049974)), 0.3526596, 0.3526596
    ),
    "text": LossLaw(1.87, 521.0, 1488.0, 0.35, 0.35),
    "speech": LossLaw(1.73, 13.9, 39.8, 0.25, 0.24),
    "speech-unigram": LossLaw(1.42, 3.85, 8.90, 0.15, 0.16),
}
# Least and most parameters and tokens of the runs behind them, where known: the runs of Hoffmann et al. as Besiroglu et
# al. read them off, the shapes, ratios and passes of Cuervo & Marxer.
TRAINED: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "hoffmann": ((5.73e7, 1.62e10), (2.45e8, 3.18e11)),
    "besiroglu": ((5.73e7, 1.62e10), (2.45e8, 3.18e11)),
    "speech": ((20_453_888, 822_151_168), (4.09e7, 1.0887e11)),
    "speech-unigram": ((20_453_888, 308_331_520), (7.4e8, 6.31e9)),
}
# Most passes over the data of those runs that repeat theirs.
PASSES = {"speech": 10.0}
REPEATED: dict[str, RepetitionLaw] = {
    "muennighoff": RepetitionLaw(PUBLISHED["muennighoff"], 15.387756, 5.309743),
    "text": RepetitionLaw(PUBLISHED["text"], 15.4, 5.31),
    "speech": RepetitionLaw(PUBLISHED["speech"], 25.0, 31.0),
}


def _decayed(amount: Any, unique: Any, half_life: float) -> FloatArray:
    with np.errstate(over="ignore"):
        repeats = np.maximum(np.asarray(amount) / unique - 1, 0.0)
    return np.asarray(unique + unique * half_life * -np.expm1(-repeats / half_life))


def _positive(value: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(value, dtype=np.float64)
    if not (np.isfinite(array) & (array > 0)).all():
        raise InputError(f"{name} must be above 0 and finite, not {value}")
    return array


def _plain(value: npt.ArrayLike) -> Any:
    """A number for a number, an array for an array."""
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array
