"""IsoFLOP profiles: a parabola of loss over ln N for each budget, and power laws through their minima."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
from syllablelm.scaling.flops import FLOPS_PER_PARAM_TOKEN
from syllablelm.scaling.laws import LossLaw
from syllablelm.scaling.power import PowerLaw, fit_power_law
from syllablelm.scaling.resample import USABLE, FloatArray, interval, student_level
from syllablelm.scaling.runs import check_columns

# Maximum difference of the FLOPs of runs of one budget (natural logarithm).
_SAME_BUDGET = 0.05
# Minimum number of sizes of a budget; a parabola passes through any three points.
_SIZES = 4


@dataclass(frozen=True)
class IsoFlop(Record):
    """One budget's parabola, loss = loss_least + curvature * (ln N - ln params)^2.

    Args:
        flops: budget in FLOP.
        runs: number of fitted runs.
        params, tokens, loss: values at the minimum.
        curvature: curvature of the parabola.
        status: "ok", or "degenerate: " and why there is no minimum within the runs.
        law_params, law_tokens: optimum of the loss law that was fitted to the same runs; None without one.
    """

    flops: float
    runs: int
    params: float
    tokens: float
    loss: float
    curvature: float
    status: str
    law_params: float | None = json_key(omit_none=True)
    law_tokens: float | None = json_key(omit_none=True)


@dataclass(frozen=True)
class IsoFlopFit(Record):
    """Parabolas of all budgets, and power laws of N_opt and D_opt through their minima.

    Args:
        curves: parabola of each budget.
        params, tokens: power laws of N_opt and D_opt in FLOPs.
        resamples: number of resamples.
        usable: number of resamples in which at least three budgets have a minimum.
        status: "ok", or "degenerate: " and why the intervals are missing or too narrow.
        law_a: exponent of N_opt of the loss law that was fitted to the same runs; None without one.
    """

    derived: ClassVar[tuple[str, ...]] = ("warning",)

    curves: tuple[IsoFlop, ...]
    params: PowerLaw
    tokens: PowerLaw
    resamples: int = 0
    usable: int = 0
    status: str = "ok"
    law_a: float | None = json_key(omit_none=True)

    @property
    def warning(self) -> str:
        """Why the minima are to be read beside the optimum of the loss law."""
        law = "" if self.law_a is None else f", {self.law_a:.3g} by the loss law of the same runs"
        return (
            "minima of IsoFLOP parabolas are biased, the more the wider or the less centred the sizes are (arXiv "
            f"2603.22339): exponent of N {self.params.exponent:.3g} by the parabolas{law}"
        )

    def beside(self, law: LossLaw) -> IsoFlopFit:
        """Return the same parabolas with the optimum of a loss law beside each."""
        best = [law.optimal(curve.flops) for curve in self.curves]
        pairs = zip(self.curves, best, strict=True)
        curves = tuple(replace(curve, law_params=float(n), law_tokens=float(d)) for curve, (n, d) in pairs)
        return replace(self, curves=curves, law_a=law.a)


def fit_isoflops(
    params: npt.ArrayLike,
    loss: npt.ArrayLike,
    flops: npt.ArrayLike,
    *,
    tokens: npt.ArrayLike | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> IsoFlopFit:
    """Fit a parabola to each budget and power laws to their minima (Hoffmann et al. 2022, section 3.2).

    Args:
        params, loss, flops: parameters, loss and FLOPs of each run, (runs,); runs whose FLOPs differ by less than 5 %
            form a budget.
        tokens: tokens of each run, if FLOPs are not 6 N D; then D_opt comes from a parabola over ln D.
        bootstrap: number of resamples of the parabolas' residuals; 0 for none. The sizes stay as they are: resampled
            runs would often leave a budget of five without the three sizes that a parabola needs.
        seed: random seed of the resamples.

    Raises:
        InputError: fewer than three budgets whose parabola has a minimum among its runs.
    """
    what = "IsoFLOP runs"
    sizes, losses, budgets = check_columns(what, params=params, loss=loss, flops=flops)
    data = budgets / (FLOPS_PER_PARAM_TOKEN * sizes) if tokens is None else check_columns(what, tokens=tokens)[0]
    table = np.stack([sizes, data, losses, budgets])
    groups = _group(table[3])
    curves = tuple(_fit_budget(table[:, rows]) for rows in groups)
    sound = [curve for curve in curves if curve.status == "ok"]
    if len(sound) < 3:
        reasons = "; ".join(f"{curve.flops:.2g} FLOP: {curve.status}" for curve in curves if curve.status != "ok")
        raise InputError(
            f"{len(sound)} IsoFLOP curves have a minimum; the laws need at least 3 ({reasons or 'add budgets'})"
        )
    laws = _laws(sound)
    if not bootstrap:
        return IsoFlopFit(curves, laws[0], laws[1])
    groups = [rows for rows in groups if len(np.unique(table[0, rows])) >= _SIZES]
    fitted, left = table[2].copy(), []
    for rows in groups:
        centred = np.log(table[0, rows]) - np.log(table[0, rows]).mean()
        fitted[rows] = np.polyval(np.polyfit(centred, table[2, rows], 2), centred)
        # The parabola took its share of the noise.
        left.append((table[2, rows] - fitted[rows]) * np.sqrt(len(rows) / (len(rows) - 3)))
    pool = np.concatenate(left)
    samples = np.full((bootstrap, 2, 2), np.nan)
    rng = np.random.default_rng(seed)
    for number in range(bootstrap):
        drawn = table.copy()
        drawn[2] = fitted + rng.choice(pool, len(fitted))
        again = [curve for curve in (_fit_budget(drawn[:, rows]) for rows in groups) if curve.status == "ok"]
        if len(again) >= 3:
            samples[number] = [(np.log(law.scale), law.exponent) for law in _laws(again)]
    usable = int(np.isfinite(samples[:, 0, 0]).sum())
    status = "ok"
    if usable < USABLE * bootstrap:
        status = f"degenerate: only {usable} of {bootstrap} resamples have three minima, so intervals are too narrow"
    level = student_level(len(pool) - 3 * len(groups))
    by_size, by_tokens = (
        replace(law, exponent_interval=interval(samples[:, k, 1], level), level=level, samples=samples[:, k])
        for k, law in enumerate(laws)
    )
    return IsoFlopFit(curves, by_size, by_tokens, bootstrap, usable, status)


def has_budgets(params: npt.ArrayLike, flops: npt.ArrayLike) -> bool:
    """Return whether runs form IsoFLOP curves: at least three budgets of at least four sizes each."""
    sizes = np.asarray(params, dtype=np.float64)
    return sum(len(np.unique(sizes[rows])) >= _SIZES for rows in _group(np.asarray(flops, dtype=np.float64))) >= 3


def _group(flops: FloatArray) -> list[npt.NDArray[np.intp]]:
    order = np.argsort(flops)
    breaks = np.flatnonzero(np.diff(np.log(flops[order])) > _SAME_BUDGET) + 1
    return np.split(order, breaks)


def _fit_budget(table: FloatArray) -> IsoFlop:
    params, tokens, loss, flops = table
    budget = float(np.exp(np.log(flops).mean()))
    count = len(np.unique(params))
    if count < _SIZES:
        status = f"degenerate: {count} sizes, a parabola needs {_SIZES}"
        return IsoFlop(budget, len(loss), math.nan, math.nan, math.nan, math.nan, status)
    best, least, curvature, inside = _minimum(np.log(params), loss)
    data, *_ = _minimum(np.log(tokens), loss)
    status = "ok" if inside else "degenerate: the minimum lies outside of the runs"
    if not curvature > 0:
        status = "degenerate: the losses curve downwards"
    return IsoFlop(budget, len(loss), float(np.exp(best)), float(np.exp(data)), least, curvature, status)


def _minimum(log_x: FloatArray, loss: FloatArray) -> tuple[float, float, float, bool]:
    """Return the minimum of a parabola, its value, its curvature, and whether the minimum is within the points."""
    centre = log_x.mean()
    curvature, slope, offset = np.polyfit(log_x - centre, loss, 2)
    if not curvature > 0:
        return math.nan, math.nan, float(curvature), False
    best = -slope / (2 * curvature)
    inside = (log_x - centre).min() <= best <= (log_x - centre).max()
    return float(best + centre), float(offset - slope**2 / (4 * curvature)), float(curvature), bool(inside)


def _laws(curves: list[IsoFlop]) -> list[PowerLaw]:
    flops = [curve.flops for curve in curves]
    columns = {"N": [curve.params for curve in curves], "D": [curve.tokens for curve in curves]}
    return [fit_power_law(flops, y, what=f"{name}_opt of the IsoFLOP curves") for name, y in columns.items()]
