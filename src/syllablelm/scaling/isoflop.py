"""IsoFLOP profiles: a parabola of loss over ln N for each budget, and power laws through their minima."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.scaling.laws import FLOPS_PER_PARAM_TOKEN
from syllablelm.scaling.power import PowerLaw, fit_power_law
from syllablelm.scaling.resample import FloatArray, draw_weights, interval

# Budgets belong together when they differ by less than this (natural logarithm).
_SAME_BUDGET = 0.05


@dataclass(frozen=True)
class IsoFlop:
    """One budget's parabola, loss = loss_least + curvature * (ln N - ln params)^2.

    Args:
        flops: the budget; runs: how many were fitted.
        params, tokens, loss: at the minimum.
        curvature: of the parabola.
        status: "ok", or "degenerate: " and why the minimum is none or lies outside of the runs.
    """

    flops: float
    runs: int
    params: float
    tokens: float
    loss: float
    curvature: float
    status: str


@dataclass(frozen=True)
class IsoFlopFit:
    """All budgets, and the laws N_opt and D_opt of the FLOPs through the sound ones.

    Args:
        curves: by budget; params, tokens: N_opt and D_opt.
    """

    curves: tuple[IsoFlop, ...]
    params: PowerLaw
    tokens: PowerLaw


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
        params, loss, flops: of each run; runs whose FLOPs differ by less than 5 % form a budget.
        tokens: of each run, if FLOPs are not 6 N D; then D_opt comes from a parabola over ln D.
        bootstrap: resamples of the runs within their budgets.

    Raises:
        InputError: fewer than three budgets whose parabola has a minimum among its runs.
    """
    given = FLOPS_PER_PARAM_TOKEN * np.asarray(params, dtype=np.float64)
    data = np.asarray(flops, dtype=np.float64) / given if tokens is None else tokens
    try:
        table = np.stack([np.asarray(column, dtype=np.float64) for column in (params, data, loss, flops)])
    except ValueError:
        raise InputError("IsoFLOP runs: params, loss and flops must be lists of the same length") from None
    if table.ndim != 2 or not (np.isfinite(table) & (table > 0)).all():
        raise InputError("IsoFLOP runs: params, tokens, loss and flops must all be above 0 and finite")
    groups = _group(table[3])
    curves = tuple(_fit_budget(table[:, rows]) for rows in groups)
    sound = [curve for curve in curves if curve.status == "ok"]
    if len(sound) < 3:
        reasons = "; ".join(f"{curve.flops:.2g} FLOP: {curve.status}" for curve in curves if curve.status != "ok")
        raise InputError(
            f"{len(sound)} IsoFLOP curves have a minimum; the laws need at least 3 ({reasons or 'add budgets'})"
        )
    laws = _laws(sound)
    if bootstrap:
        laws = _with_intervals(laws, table, groups, bootstrap, seed)
    return IsoFlopFit(curves, *laws)


def has_budgets(params: npt.ArrayLike, flops: npt.ArrayLike) -> bool:
    """Whether runs were planned as IsoFLOP curves: at least three budgets of at least four sizes each."""
    sizes = np.asarray(params, dtype=np.float64)
    return sum(len(np.unique(sizes[rows])) >= 4 for rows in _group(np.asarray(flops, dtype=np.float64))) >= 3


def _group(flops: FloatArray) -> list[npt.NDArray[np.intp]]:
    order = np.argsort(flops)
    breaks = np.flatnonzero(np.diff(np.log(flops[order])) > _SAME_BUDGET) + 1
    return np.split(order, breaks)


def _fit_budget(table: FloatArray) -> IsoFlop:
    params, tokens, loss, flops = table
    budget = float(np.exp(np.log(flops).mean()))
    count = len(np.unique(params))
    if count < 4:
        nan = float("nan")
        return IsoFlop(budget, len(loss), nan, nan, nan, nan, f"degenerate: {count} sizes, a parabola needs 4")
    best, least, curvature, inside = _minimum(np.log(params), loss)
    data, *_ = _minimum(np.log(tokens), loss)
    status = "ok"
    if not curvature > 0:
        status = "degenerate: the losses curve downwards"
    elif not inside:
        status = "degenerate: the minimum lies outside of the runs"
    return IsoFlop(budget, len(loss), float(np.exp(best)), float(np.exp(data)), least, curvature, status)


def _minimum(log_x: FloatArray, loss: FloatArray) -> tuple[float, float, float, bool]:
    """Where a parabola is least, its value there, its curvature, and whether that is within the points."""
    centre = log_x.mean()
    curvature, slope, offset = np.polyfit(log_x - centre, loss, 2)
    if not curvature > 0:
        return float("nan"), float("nan"), float(curvature), False
    best = -slope / (2 * curvature)
    inside = (log_x - centre).min() <= best <= (log_x - centre).max()
    return float(best + centre), float(offset - slope**2 / (4 * curvature)), float(curvature), bool(inside)


def _laws(curves: list[IsoFlop]) -> tuple[PowerLaw, PowerLaw]:
    flops = [curve.flops for curve in curves]
    return (
        fit_power_law(flops, [curve.params for curve in curves], what="N_opt of the IsoFLOP curves"),
        fit_power_law(flops, [curve.tokens for curve in curves], what="D_opt of the IsoFLOP curves"),
    )


def _with_intervals(
    laws: tuple[PowerLaw, PowerLaw], table: FloatArray, groups: list[npt.NDArray[np.intp]], resamples: int, seed: int
) -> tuple[PowerLaw, PowerLaw]:
    drawn = [draw_weights(len(rows), resamples, seed + number).astype(np.intp) for number, rows in enumerate(groups)]
    samples = np.full((resamples, 2, 2), np.nan)
    for number in range(resamples):
        curves = [
            _fit_budget(table[:, np.repeat(rows, counts[number])]) for rows, counts in zip(groups, drawn, strict=True)
        ]
        sound = [curve for curve in curves if curve.status == "ok"]
        if len(sound) >= 3:
            samples[number] = [(np.log(law.scale), law.exponent) for law in _laws(sound)]
    first, second = (
        PowerLaw(
            law.scale, law.exponent, law.points, law.r_squared, law.x_range, law.status,
            interval(samples[:, k, 1]), samples[:, k],
        )
        for k, law in enumerate(laws)
    )  # fmt: skip
    return first, second
