"""The loss law of N parameters and D tokens, what it implies, and the published laws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record
from syllablelm.scaling.flops import FLOPS_PER_PARAM_TOKEN
from syllablelm.scaling.resample import FloatArray, Interval


class Optimum(NamedTuple):
    """The best split of a budget: ``params, tokens = law.optimal(flops)``; also named ``N`` and ``D``."""

    params: Any
    tokens: Any
    N = property(lambda self: self.params)
    D = property(lambda self: self.tokens)


@dataclass(frozen=True)
class LossLaw(Record):
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats (Hoffmann et al. 2022, Eq. 2).

    Args:
        E: irreducible loss.
        A, alpha: scale and exponent of the parameters' term.
        B, beta: scale and exponent of the tokens' term.
        ranges: least and most "flops", "params" and "tokens" of the fitted runs; empty where not known.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    ranges: Mapping[str, Interval] = field(default_factory=dict, hash=False, kw_only=True)

    def loss(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> Any:
        """Return the loss at ``params`` and ``tokens``, which broadcast."""
        params, tokens = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        # The optimum of a law without one of its terms is 0 or infinite.
        with np.errstate(divide="ignore", invalid="ignore"):
            return plain(self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta)

    @property
    def has_optimum(self) -> bool:
        """Whether parameters and tokens both help; else no split of a budget is best, and what follows is NaN."""
        # A resample's exponent may diverge so far that A or B overflows.
        return self.alpha > 0 and self.beta > 0 and bool(np.isfinite([self.A, self.B]).all())

    @property
    def a(self) -> float:
        """Exponent of the optimal number of parameters in FLOPs."""
        return self.beta / (self.alpha + self.beta) if self.has_optimum else math.nan

    @property
    def b(self) -> float:
        """Exponent of the optimal number of tokens in FLOPs."""
        return self.alpha / (self.alpha + self.beta) if self.has_optimum else math.nan

    @property
    def G(self) -> float:
        """N_opt = G (C / 6)^a and D_opt = (C / 6)^b / G."""
        if not self.has_optimum:
            return math.nan
        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.float64(self.alpha * self.A) / (self.beta * self.B)
            return float(ratio ** (1 / (self.alpha + self.beta)))

    def optimal(self, flops: npt.ArrayLike) -> Optimum:
        """Return parameters and tokens of the least loss for a budget of ``flops`` = 6 N D; NaN without an optimum."""
        pairs = positive(flops, "flops") / FLOPS_PER_PARAM_TOKEN
        # A missing term makes one part infinite.
        with np.errstate(divide="ignore"):
            return Optimum(plain(self.G * pairs**self.a), plain(pairs**self.b / np.float64(self.G)))

    def flops_for_loss(self, loss: float) -> float:
        """Return the least budget that reaches a loss; infinite at or below E, else NaN without an optimum."""
        if not loss > self.E:
            return math.inf
        if not self.has_optimum:
            return math.nan
        # Along the optimum both terms fall with the same power of the FLOPs.
        power = self.alpha * self.beta / (self.alpha + self.beta)
        excess = self.loss(*self.optimal(FLOPS_PER_PARAM_TOKEN)) - self.E
        with np.errstate(over="ignore"):
            return float(FLOPS_PER_PARAM_TOKEN * np.float64(excess / (loss - self.E)) ** (1 / power))

    def sampled_laws(self) -> Sequence[LossLaw]:
        """Return the law of each resample; not all have an optimum."""
        return ()


def _ranges(least: float, most: float, few: float, many: float) -> dict[str, Interval]:
    """Return ranges of FLOPs, parameters (least, most) and tokens (few, many)."""
    flops = FLOPS_PER_PARAM_TOKEN * least * few, FLOPS_PER_PARAM_TOKEN * most * many
    return {"flops": flops, "params": (least, most), "tokens": (few, many)}


# Constants as printed or released; ranges of the runs of Hoffmann et al. as read off by Besiroglu et al., and from the
# shapes and ratios of Cuervo & Marxer.
_HOFFMANN = _ranges(5.73e7, 1.62e10, 2.45e8, 3.18e11)
PUBLISHED: dict[str, LossLaw] = {
    "hoffmann": LossLaw(1.69, 406.4, 410.7, 0.34, 0.28, ranges=_HOFFMANN),
    "besiroglu": LossLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658, ranges=_HOFFMANN),
    "muennighoff": LossLaw(math.exp(0.6254804), math.exp(6.255414), math.exp(7.3049974), 0.3526596, 0.3526596),
    "text": LossLaw(1.87, 521.0, 1488.0, 0.35, 0.35),
    "speech": LossLaw(1.73, 13.9, 39.8, 0.25, 0.24, ranges=_ranges(20_453_888, 822_151_168, 4.09e7, 1.0887e11)),
    "speech-unigram": LossLaw(1.42, 3.85, 8.90, 0.15, 0.16, ranges=_ranges(20_453_888, 308_331_520, 7.4e8, 6.31e9)),
}
"""Published loss laws by name."""


def positive(value: npt.ArrayLike, name: str) -> FloatArray:
    """Return a value as an array."""
    array = np.asarray(value, dtype=np.float64)
    if not (np.isfinite(array) & (array > 0)).all():
        raise InputError(f"{name} must be above 0 and finite, not {value}")
    return array


def plain(value: npt.ArrayLike) -> Any:
    """Return a number for an array without axes, else the array."""
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array
