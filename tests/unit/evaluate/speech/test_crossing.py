"""The search for a crossing on curves whose crossing is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.evaluate.speech.crossing import ABOVE, BELOW, FLAT, FOUND, GAP, NOTHING, crossing_spread, find_crossing

GRID = [0.0, 0.5, 1.0, 1.5, 2.0]


@given(st.floats(0.0, 2.0), st.sampled_from([1.0, -1.0]))
def test_a_curve_that_rises_or_falls(place, sign):
    found = find_crossing(lambda x: sign * (x**3 + x), GRID, sign * (place**3 + place), 12)
    assert found.status == FOUND
    assert found.temperature == pytest.approx(place, abs=0.5 / 2**12)
    assert found.between[0] <= found.temperature <= found.between[1]


def test_out_of_reach_is_said_and_not_extrapolated():
    above, below = (find_crossing(lambda x: x, GRID, target, 3) for target in (2.5, -0.1))
    assert (above.status, above.temperature, above.reached) == (ABOVE, None, (0.0, 2.0))
    assert (below.status, below.temperature) == (BELOW, None)


def test_no_values_at_all():
    assert find_crossing(lambda x: math.nan, GRID, 1.0, 3).status == NOTHING
    assert find_crossing(lambda x: x, GRID, math.nan, 3).status == NOTHING


def test_several_crossings_are_counted_and_the_lowest_taken():
    found = find_crossing(lambda x: math.cos(math.pi * x), GRID, 0.25, 20)
    assert found.crossings == 2
    assert found.temperature == pytest.approx(math.acos(0.25) / math.pi, abs=1e-5)
    # A target that is met at a place of the grid is one crossing, not two.
    assert find_crossing(lambda x: x, GRID, 1.0, 4).crossings == 1


def test_only_what_is_needed_is_measured():
    asked = []
    find_crossing(lambda x: asked.append(x) or x, GRID, 0.6, 2)
    assert asked == [*GRID, 0.75, 0.625]


def test_a_gap_is_not_bridged():
    for hole in (math.nan, math.inf):
        found = find_crossing(lambda x, hole=hole: hole if x == 1.0 else x, GRID, 1.1, 3)
        assert (found.status, found.temperature) == (GAP, None)


@pytest.mark.parametrize(
    ("curve", "interval"),
    [
        (lambda x: 0.0, (0.0, 0.5)),
        (lambda x: max(0.0, 1 - x), (1.0, 1.5)),
        (lambda x: max(0.0, x - 1.2), (0.0, 0.5)),
        # Only one place of the grid has it: halving finds it.
        (lambda x: min(x - 0.7, 0.0) + max(x - 1.0, 0.0), (0.75, 1.0)),
    ],
)
def test_a_target_met_all_along_an_interval_is_no_place(curve, interval):
    found = find_crossing(curve, GRID, 0.0, 3)
    assert (found.status, found.temperature, found.between) == (FLAT, None, interval)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, math.nan]), min_size=2, max_size=6), st.integers(0, 3))
def test_what_is_found_changes_sides_or_is_a_single_point(values, steps):
    grid = [float(i) for i in range(len(values))]

    def curve(x):
        """A line between whole places."""
        return values[int(x)] if x == int(x) else float(np.interp(x, grid, values))

    found = find_crossing(curve, grid, 0.0, steps)
    flat = any(a == b == 0 for a, b in pairwise(values))
    proper = any(a * b <= 0 for a, b in pairwise(values))
    assert (found.status == FLAT) == flat
    assert (found.status == FOUND) == (proper and not flat)
    if found.status == FOUND:
        assert curve(found.temperature) == 0


def test_spread_of_lines_is_that_of_their_targets():
    rng = np.random.default_rng(0)
    places = np.linspace(0, 2, 9)
    targets = rng.normal(1.0, 0.1, 400)
    curves = np.tile(places, (400, 1))
    spread, share = crossing_spread(places, curves, targets, 3 * curves, 1.0)
    assert share == 1.0
    assert spread == pytest.approx(3 * np.std(targets, ddof=1))


def test_resamples_out_of_reach_leave_no_bar():
    places = np.linspace(0, 1, 3)
    curves = np.tile(places, (10, 1))
    spread, share = crossing_spread(places, curves, np.array([0.5] * 8 + [2.0] * 2), curves, 0.5)
    assert (spread, share) == (None, 0.8)
    # One that is the target all along says as little.
    curves = np.vstack([curves, np.full(3, 0.5)])
    spread, share = crossing_spread(places, curves, np.full(11, 0.5), curves, 0.5)
    assert share == 10 / 11
