"""Power laws, frontiers, IsoFLOP parabolas, scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.errors import InputError
from syllablelm.scaling import (
    LossLaw,
    compute_for_same_gain,
    fit_envelope,
    fit_isoflops,
    fit_power_law,
    fit_score_law,
    fit_score_line,
    frontier,
)

C = np.geomspace(1e17, 1e20, 12)
numbers = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20)


@given(numbers, st.sampled_from(["least", "most"]))
def test_frontier_by_its_definition(points: list[tuple[int, int]], best: str) -> None:
    x, y = np.array(points, dtype=float).T
    sign = -1 if best == "least" else 1
    found = frontier(x, y, best)
    values = {
        (a, b)
        for a, b in points
        if all(not (c <= a and sign * d > sign * b) and not (c < a and d == b) for c, d in points)
    }
    assert {(x[k], y[k]) for k in found} == values
    assert list(x[found]) == sorted(x[found])


def test_power_law_and_its_inverse() -> None:
    law = fit_power_law(C, 4.83 * C**-0.02, bootstrap=20)
    assert (law.scale, law.exponent, law.r_squared) == pytest.approx((4.83, -0.02, 1.0))
    assert law.solve(law.at(3e18)) == pytest.approx(3e18)
    assert law.exponent_interval == pytest.approx((-0.02, -0.02))
    low, high = law.band([1e18, 1e21])
    assert low == pytest.approx(high)
    assert (law.extrapolates(1e21), law.extrapolates(1e18), law.extrapolates(1e20)) == (True, False, False)
    assert fit_power_law(C, np.full(12, 3.0)).status.startswith("degenerate")


def test_envelope_takes_the_best_runs() -> None:
    flops = np.concatenate([C, C, C * 1.5])
    loss = np.concatenate([5 * C**-0.03, 5.2 * C**-0.03, 6 * C**-0.03])
    law = fit_envelope(flops, loss)
    assert (law.exponent, law.scale, law.points) == pytest.approx((-0.03, 5.0, 12))


@pytest.mark.parametrize(
    "bad", [([1, 2], [1, 2]), ([1, 2, 3], [1, -2, 3]), ([1, 2, 3], [1, 2]), ([1, 1, 1], [1, 2, 3])]
)
def test_power_law_refuses(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputError):
        fit_power_law(*bad)


def isoflop_runs(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Exact parabolas around N_opt = .1 C^.45, five budgets of nine sizes."""
    flops, offsets = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e17, 1e19, 5), np.linspace(-2, 2, 9)))
    params = 0.1 * flops**0.45 * np.exp(offsets)
    loss = 3 + 0.05 * offsets**2 - 0.1 * np.log(flops / 1e17)
    return params, loss + noise * np.random.default_rng(seed).standard_normal(len(loss)), flops, flops / 6 / params


def test_isoflops_come_back() -> None:
    params, loss, flops, tokens = isoflop_runs()
    fit = fit_isoflops(params, loss, flops)
    assert (fit.params.exponent, fit.params.scale) == pytest.approx((0.45, 0.1))
    assert fit.tokens.exponent == pytest.approx(0.55)
    assert len(fit.curves) == 5
    for curve in fit.curves:
        assert (curve.status, curve.curvature, curve.runs) == ("ok", pytest.approx(0.05), 9)
        assert 6 * curve.params * curve.tokens == pytest.approx(curve.flops)
    assert fit_isoflops(params, loss, flops, tokens=tokens).tokens.exponent == pytest.approx(0.55)


def test_isoflop_intervals_mostly_hold_the_truth() -> None:
    held = 0
    for seed in range(12):
        params, loss, flops, _ = isoflop_runs(0.005, seed)
        # Five sizes a budget, as plans have: runs drawn anew would often leave too few for a parabola.
        keep = np.abs(np.log(params / (0.1 * flops**0.45)) % 1 - 0.5) > 0.4
        assert keep.sum() == 25
        fit = fit_isoflops(params[keep], loss[keep], flops[keep], bootstrap=40)
        low, high = fit.params.exponent_interval
        held += low < 0.45 < high
        assert high - low < 0.1
        assert (fit.status, fit.resamples, fit.usable) == ("ok", 40, 40)
    # Fewer would happen once in five thousand times if the intervals were of 90 %.
    assert held >= 7


def test_isoflop_intervals_that_lack_resamples_say_so() -> None:
    """The minima lie at the edge of what was trained, and each of three budgets is needed."""
    params, loss, flops, _ = isoflop_runs(0.004)
    keep = (np.log(params / (0.1 * flops**0.45)) > -0.1) & (flops < 2e18)
    params, flops = params[keep], flops[keep]
    edge = np.log(params / (0.1 * flops**0.45)) - 0.1
    loss = 3 + 0.05 * edge**2 + 0.003 * (-1) ** np.arange(len(edge))
    fit = fit_isoflops(params, loss, flops, bootstrap=40)
    assert 0 < fit.usable < 36
    assert fit.status == f"degenerate: only {fit.usable} of 40 resamples have three minima, so intervals are too narrow"


def test_budgets_without_a_minimum_say_so() -> None:
    params, loss, flops, _ = isoflop_runs()
    lowest, highest = flops < 1.5e17, flops > 0.9e19
    keep = ~lowest | (params < 0.3 * np.median(params[lowest]))
    bent = np.where(highest, 6 - loss, loss)
    fit = fit_isoflops(params[keep], bent[keep], flops[keep])
    assert [curve.status == "ok" for curve in fit.curves] == [False, True, True, True, False]
    assert "curve downwards" in fit.curves[-1].status
    with pytest.raises(InputError, match="2 IsoFLOP curves have a minimum"):
        fit_isoflops(params[flops < 4e17], loss[flops < 4e17], flops[flops < 4e17])


def test_score_law_is_of_the_frontier() -> None:
    score = 20 * C**0.021
    law = fit_score_law(np.tile(C, 2), np.concatenate([score, 0.95 * score]), bootstrap=20)
    assert (law.gamma, law.power.points, law.power.status) == (pytest.approx(0.021), 12, "ok")


def test_saturation() -> None:
    score = np.minimum(20 * C**0.03, 76.0) + 1e-6 * np.arange(12)
    bent = fit_score_law(C, score)
    assert bent.power.status.startswith("bending: ")
    assert bent.gamma < 0.029
    law = fit_score_law(C, score, saturation=76.0)
    assert law.gamma == pytest.approx(0.03, abs=1e-4)
    assert law.saturated == int((score >= 76).sum()) > 0
    with pytest.raises(InputError, match="below the saturation"):
        fit_score_law(C, score, saturation=1.0)


def test_score_line() -> None:
    loss = np.linspace(2, 3, 20)
    noise = np.random.default_rng(0).standard_normal(20)
    line = fit_score_line(loss, 90 - 10 * loss + 0.2 * noise, bootstrap=50)
    assert line.slope == pytest.approx(np.polyfit(loss, 90 - 10 * loss + 0.2 * noise, 1)[0])
    assert line.correlation == pytest.approx(np.corrcoef(loss, 90 - 10 * loss + 0.2 * noise)[0, 1])
    low, high = line.band([2.5])
    assert low[0] < line.at(2.5) < high[0]
    assert line.status == "ok"
    assert fit_score_line(loss, loss).status.startswith("degenerate")
    with pytest.raises(InputError):
        fit_score_line([1, 1, 1], [1, 2, 3])


def test_compute_for_the_same_gain() -> None:
    speech, text = (fit_power_law(C, C**gamma, bootstrap=10) for gamma in (0.02, 0.06))
    multiple, (low, high) = compute_for_same_gain(speech, text, 10)
    assert multiple == pytest.approx(1000)
    assert low == pytest.approx(high) == pytest.approx(1000)
    # The definition: the same factor of score.
    assert speech.at(1e18 * multiple) / speech.at(1e18) == pytest.approx(text.at(1e19) / text.at(1e18))


def test_gain_that_never_comes() -> None:
    rising, falling = (fit_power_law(C, C**gamma, bootstrap=10) for gamma in (0.02, -0.02))
    assert compute_for_same_gain(falling, rising) == (np.inf, (np.inf, np.inf))
    # Losses fall, both of them.
    assert compute_for_same_gain(falling, fit_power_law(C, C**-0.04))[0] == pytest.approx(100)


def test_law_of_an_isoflop_grid_agrees_with_its_parabolas() -> None:
    truth = LossLaw(1.8, 400.0, 1200.0, 0.35, 0.36)
    flops, spread = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e18, 1e21, 5), np.linspace(-0.7, 0.7, 7)))
    params = truth.optimal(flops).N * np.exp(spread)
    fit = fit_isoflops(params, truth.loss(params, flops / 6 / params), flops)
    assert fit.params.exponent == pytest.approx(truth.a, abs=0.005)
