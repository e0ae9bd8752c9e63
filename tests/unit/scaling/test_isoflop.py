"""IsoFLOP parabolas: known optima, intervals of resamples, budgets without a minimum."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.scaling import LossLaw, fit_isoflops


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


def test_law_of_an_isoflop_grid_agrees_with_its_parabolas() -> None:
    truth = LossLaw(1.8, 400.0, 1200.0, 0.35, 0.36)
    flops, spread = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e18, 1e21, 5), np.linspace(-0.7, 0.7, 7)))
    params = truth.optimal(flops).N * np.exp(spread)
    fit = fit_isoflops(params, truth.loss(params, flops / 6 / params), flops)
    assert fit.params.exponent == pytest.approx(truth.a, abs=0.005)
