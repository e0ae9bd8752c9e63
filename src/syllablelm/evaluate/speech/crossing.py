"""Where a noisy curve over temperature reaches a target, and what another curve is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.core.results import Record

FloatArray = npt.NDArray[np.float64]

FOUND, ABOVE, BELOW = "found", "oracle above the reachable range", "oracle below the reachable range"
GAP, NOTHING = "oracle beside temperatures without a value", "no value at any temperature, or none of the oracle"
FLAT, NO_OTHER = "oracle met over a whole interval of temperatures", "no value of the other score at the oracle"
# A resample that does not reach its target says nothing; too many of them would make the rest look certain.
_REACHED = 0.95


@dataclass(frozen=True)
class Crossing(Record):
    """Result of a search.

    Args:
        status: "found", on which side of the measured values the target lies, that values are missing, or that the
            target is met all along an interval, which is no single temperature.
        temperature: where the curve is the target; None where it was not found: nothing is extrapolated.
        between: the measured temperatures between which it lies, or both of which have it.
        crossings: number of times that the first measurements cross the target; above 1, the lowest was taken.
        reached: lowest and highest measured value.
    """

    status: str
    temperature: float | None = None
    between: tuple[float, float] | None = None
    crossings: int = 0
    reached: tuple[float, float] | None = None


def find_crossing(measure: Callable[[float], float], grid: list[float], target: float, steps: int) -> Crossing:
    """Search for the temperature at which a curve is ``target``: on a grid, then by halving the first interval.

    Args:
        measure: the curve; NaN where it has no value.
        grid: temperatures to measure first, ascending.
        target: value of the curve to find.
        steps: number of halvings; then the temperature is interpolated linearly in the interval that is left.
    """
    values = [measure(at) for at in grid]
    finite = [value for value in values if np.isfinite(value)]
    if not finite or not np.isfinite(target):
        return Crossing(NOTHING)
    reached = (min(finite), max(finite))
    flat = _flat_intervals(np.array(values), target)
    if flat:
        return Crossing(FLAT, between=(grid[flat[0]], grid[flat[0] + 1]), reached=reached)
    brackets = _brackets(np.array(values), target)
    if not brackets:
        status = ABOVE if target > reached[1] else BELOW if target < reached[0] else GAP
        return Crossing(status, reached=reached)
    at = brackets[0]
    (low, high), (first, last) = (grid[at], grid[at + 1]), (values[at], values[at + 1])
    for _ in range(steps):
        middle = (low + high) / 2
        value = measure(middle)
        if not np.isfinite(value):
            break
        if value == target and target in (first, last):
            between = (low, middle) if first == target else (middle, high)
            return Crossing(FLAT, between=between, reached=reached)
        if (first - target) * (value - target) <= 0:
            high, last = middle, value
        else:
            low, first = middle, value
    return Crossing(FOUND, low + (high - low) * _share(first, last, target), (low, high), len(brackets), reached)


def crossing_spread(
    grid: FloatArray, curves_RT: FloatArray, targets_R: FloatArray, others_RT: FloatArray, temperature: float
) -> tuple[float | None, float]:
    """Return the standard deviation over resamples of other curves where each curve reaches its target.

    Args:
        grid: (T,) temperatures, ascending.
        curves_RT, others_RT: both curves of each resample.
        targets_R: target of each resample.
        temperature: crossing of all data; a resample with several crossings takes the nearest to it. One that meets
            its target all along an interval does not reach it.

    Returns:
        the standard deviation, None where under 95 % of the resamples reach their target; the share of those that do.
    """
    values = []
    for curve, target, other in zip(curves_RT, targets_R, others_RT, strict=True):
        if _flat_intervals(curve, target):
            continue
        crossings = [
            grid[k] + (grid[k + 1] - grid[k]) * _share(curve[k], curve[k + 1], target) for k in _brackets(curve, target)
        ]
        if crossings:
            values.append(np.interp(min(crossings, key=lambda at: abs(at - temperature)), grid, other))
    share = len(values) / len(targets_R)
    return (float(np.std(values, ddof=1)) if len(values) > 1 and share >= _REACHED else None), share


def _flat_intervals(values: FloatArray, target: float) -> list[int]:
    """Return the indices of the intervals of neighbouring values that both are the target."""
    return np.flatnonzero((values[:-1] == target) & (values[1:] == target)).tolist()


def _brackets(values: FloatArray, target: float) -> list[int]:
    """Return the indices of the intervals whose ends have the target between them, none of them flat.

    Where it is met at a value, the interval before has it.
    """
    side = np.sign(values - target)
    with np.errstate(invalid="ignore"):
        inside = side[:-1] * side[1:] <= 0
    inside &= np.isfinite(values[:-1]) & np.isfinite(values[1:])
    indices = np.flatnonzero(inside).tolist()
    return [k for n, k in enumerate(indices) if side[k] != 0 or n == 0 or indices[n - 1] != k - 1]


def _share(first: float, last: float, target: float) -> float:
    return float((target - first) / (last - first))
