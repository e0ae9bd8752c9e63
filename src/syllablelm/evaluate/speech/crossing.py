"""Where a noisy curve over temperature reaches a target, and what another curve is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FOUND, ABOVE, BELOW = "found", "oracle above the reachable range", "oracle below the reachable range"
GAP, NOTHING = "oracle beside temperatures without a value", "no value at any temperature, or none of the oracle"
FLAT, NO_OTHER = "oracle met over a whole interval of temperatures", "no value of the other score at the oracle"
# A resample that does not reach its target says nothing; too many of them would make the rest look certain.
_REACHED = 0.95


@dataclass(frozen=True)
class Crossing:
    """Result of a search.

    Args:
        status: "found", on which side of the measured values the target lies, that values are missing, or that the
            target is met all along an interval, which is no place.
        place: where the curve is the target; None where it was not found: nothing is extrapolated.
        low, high: the measured places between which it lies, or both of which have it.
        crossings: how often the first measurements cross the target; above 1, the lowest place was taken.
        reached: least and greatest measured value.
    """

    status: str
    place: float | None = None
    low: float | None = None
    high: float | None = None
    crossings: int = 0
    reached: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For reports."""
        bracket = None if self.low is None else [self.low, self.high]
        reached = None if self.reached is None else list(self.reached)
        return {
            "status": self.status,
            "temperature": self.place,
            "between": bracket,
            "crossings": self.crossings,
            "reached": reached,
        }


def find_crossing(measure: Callable[[float], float], grid: list[float], target: float, steps: int) -> Crossing:
    """Search for the place where a curve is ``target``: on a grid, then by halving the first interval that has it.

    Args:
        measure: the curve; nan where it has no value.
        grid: places to begin with, rising.
        steps: halvings; then the place is interpolated linearly in what is left of the interval.
    """
    values = [measure(place) for place in grid]
    finite = [value for value in values if np.isfinite(value)]
    if not finite or not np.isfinite(target):
        return Crossing(NOTHING)
    reached = (min(finite), max(finite))
    flat = _flat_intervals(np.array(values), target)
    if flat:
        return Crossing(FLAT, low=grid[flat[0]], high=grid[flat[0] + 1], reached=reached)
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
            low, high = (low, middle) if first == target else (middle, high)
            return Crossing(FLAT, low=low, high=high, reached=reached)
        if (first - target) * (value - target) <= 0:
            high, last = middle, value
        else:
            low, first = middle, value
    return Crossing(FOUND, low + (high - low) * _share(first, last, target), low, high, len(brackets), reached)


def value_at(points: Mapping[float, float], place: float) -> float:
    """A curve between its measured points, linearly."""
    places = sorted(points)
    return float(np.interp(place, places, [points[at] for at in places]))


def crossing_spread(
    places: FloatArray, curves_RT: FloatArray, targets_R: FloatArray, others_RT: FloatArray, place: float
) -> tuple[float | None, float]:
    """Standard deviation over resamples of the value of other curves where each curve reaches its target.

    Args:
        places: (T,) rising.
        curves_RT, others_RT: both curves of each resample.
        targets_R: its target.
        place: of the crossing of all data; a resample with several crossings takes the nearest to it. One that meets
            its target all along an interval does not reach it.

    Returns:
        the standard deviation, None where under 95 % of the resamples reach their target; the share of those that do.
    """
    values = []
    for curve, target, other in zip(curves_RT, targets_R, others_RT, strict=True):
        if _flat_intervals(curve, target):
            continue
        found = [
            places[at] + (places[at + 1] - places[at]) * _share(curve[at], curve[at + 1], target)
            for at in _brackets(curve, target)
        ]
        if found:
            values.append(np.interp(min(found, key=lambda at: abs(at - place)), places, other))
    share = len(values) / len(targets_R)
    return (float(np.std(values, ddof=1)) if len(values) > 1 and share >= _REACHED else None), share


def _flat_intervals(values: FloatArray, target: float) -> list[int]:
    """Indices of the intervals of neighbouring values that both are the target."""
    return np.flatnonzero((values[:-1] == target) & (values[1:] == target)).tolist()


def _brackets(values: FloatArray, target: float) -> list[int]:
    """Indices of the intervals of neighbouring values that have the target between them, none of them flat.

    Where it is met at a value, the interval before has it.
    """
    side = np.sign(values - target)
    with np.errstate(invalid="ignore"):
        inside = side[:-1] * side[1:] <= 0
    inside &= np.isfinite(values[:-1]) & np.isfinite(values[1:])
    found = np.flatnonzero(inside).tolist()
    return [at for number, at in enumerate(found) if side[at] != 0 or number == 0 or found[number - 1] != at - 1]


def _share(first: float, last: float, target: float) -> float:
    return float((target - first) / (last - first))
