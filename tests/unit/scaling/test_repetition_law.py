"""The law of repeated data: recovery, gradients, intervals, degenerate fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from syllablelm.core.errors import InputError
from syllablelm.scaling import LossLaw, RepetitionLaw, Run, Study, fit_loss_law, fit_repetition, fit_study
from syllablelm.scaling.repetition_law import MOST, _objective
from syllablelm.scaling.resample import draw_weights

TRUTH = LossLaw(1.7, 480.0, 2000.0, 0.35, 0.36)
REPEATED = RepetitionLaw(TRUTH, 25.0, 31.0)


def make_runs(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Params, tokens, unique tokens, loss: five sizes, one to forty epochs over three amounts of data."""
    grid = np.meshgrid(np.geomspace(1e7, 1e10, 5), [1, 2, 4, 10, 40], [2e8, 2e9, 2e10])
    params, epochs, unique = (axis.ravel() for axis in grid)
    loss = REPEATED.loss(params, unique * epochs, unique)
    return params, unique * epochs, unique, loss * np.exp(np.random.default_rng(seed).normal(0, noise, len(loss)))


def test_comes_back() -> None:
    found = fit_repetition(TRUTH, *make_runs())
    assert (found.repeat_tokens, found.repeat_params) == pytest.approx((25.0, 31.0), rel=0.01)
    assert (found.runs, found.repeated, found.status, found.intervals) == (75, 60, "ok", {})


def test_one_amount_of_data_for_all() -> None:
    params, tokens, unique, loss = (column[::3] for column in make_runs())
    assert set(unique) == {2e8}
    assert fit_repetition(TRUTH, params, tokens, 2e8, loss) == fit_repetition(TRUTH, params, tokens, unique, loss)
    with pytest.raises(InputError, match="0 of 25 runs repeat"):
        fit_repetition(TRUTH, params, tokens, 1e12, loss)


def test_gradients_with_laws_and_weights_of_their_own() -> None:
    params, tokens, unique, loss = make_runs(0.05)
    laws = [TRUTH, LossLaw(1.6, 300.0, 900.0, 0.3, 0.33), LossLaw(1.75, 700.0, 5000.0, 0.4, 0.41)]
    weights = draw_weights(len(loss), 3, 0)
    objective = _objective(laws, (params, tokens, unique, loss), 0.03, weights)
    points, rows = np.log([[4.0, 9.0], [30.0, 2.0], [11.0, 60.0], [1.0, 1.0]]), np.array([2, 0, 1, 0])
    values, gradients = objective(points, rows)
    for point, row, value, gradient in zip(points, rows, values, gradients, strict=True):

        def alone(theta: np.ndarray, row: int = row) -> float:
            """The law as it is printed, run by run."""
            law = RepetitionLaw(laws[row], *np.exp(theta))
            residuals = [np.log(law.loss(*run[:3])) - np.log(run[3]) for run in zip(*make_runs(0.05), strict=True)]
            bent = np.where(np.abs(residuals) <= 0.03, np.square(residuals) / 2, 0.03 * (np.abs(residuals) - 0.015))
            return float(weights[row] @ bent)

        assert value == pytest.approx(alone(point), rel=1e-10)
        assert gradient == pytest.approx(approx_fprime(point, alone, 1e-7), rel=1e-4, abs=1e-6)


def test_resamples_are_fits_of_their_own() -> None:
    """Each resample against scipy on the same draw and the law of the same resample."""
    params, tokens, unique, loss = make_runs(0.02)
    once = tokens == unique
    law = fit_loss_law(params[once], tokens[once], loss[once], bootstrap=6)
    found = fit_repetition(law, params, tokens, unique, loss, 0.03, bootstrap=6, seed=3)
    weights = draw_weights(len(loss), 6, 4)
    for k, sample in enumerate(found.samples):
        own = LossLaw(*map(float, law.samples[k]))
        objective = _objective([own], (params, tokens, unique, loss), 0.03, weights[k : k + 1])
        starts = np.log([[2.0, 2.0], [20.0, 20.0], [100.0, 5.0], [5.0, 100.0], [30.0, 30.0]])
        least = min(
            float(
                minimize(lambda t, o=objective: float(o(t[None], np.zeros(1, int))[0][0]), s, method="Nelder-Mead").fun
            )
            for s in starts
        )
        assert objective(np.log(sample)[None], np.zeros(1, int))[0][0] == pytest.approx(least, rel=1e-3)


def test_intervals_are_repeatable_and_narrow_with_the_noise() -> None:
    widths = []
    for noise in (0.002, 0.02):
        fits = [fit_repetition(TRUTH, *make_runs(noise), bootstrap=100, seed=1) for _ in range(2)]
        assert fits[0].intervals == fits[1].intervals and (fits[0].samples == fits[1].samples).all()
        low, high = fits[0].intervals["repeat_tokens"]
        assert low < fits[0].repeat_tokens < high
        widths.append(np.log(high / low))
    assert widths[0] < widths[1] / 3


@pytest.mark.slow
def test_intervals_hold_the_truth() -> None:
    """Over studies whose law is fitted too; 95 % with a standard deviation of 2.2 %."""
    held, trials = np.zeros(2), 100
    for seed in range(trials):
        params, tokens, unique, loss = make_runs(0.004, seed)
        more = np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(3e8, 3e11, 6))
        extra = [axis.ravel() for axis in more]
        other = TRUTH.loss(*extra) * np.exp(np.random.default_rng(1000 + seed).normal(0, 0.004, len(extra[0])))
        law = fit_loss_law(*extra, other, huber_delta=0.03, bootstrap=200, seed=seed)
        found = fit_repetition(law, params, tokens, unique, loss, 0.03, bootstrap=200, seed=seed)
        for k, (name, truth) in enumerate((("repeat_tokens", 25.0), ("repeat_params", 31.0))):
            low, high = found.intervals[name]
            held[k] += low <= truth <= high
    assert (held / trials >= 0.88).all(), held / trials


def test_repeats_that_cost_nothing() -> None:
    params, tokens, unique, _ = make_runs()
    found = fit_repetition(TRUTH, params, tokens, unique, TRUTH.loss(params, tokens), bootstrap=50)
    assert found.status.startswith("degenerate: R_D* could be ") and "R_N*" in found.status
    assert found.intervals["repeat_tokens"][1] == MOST


def test_a_constant_that_shows_nowhere_has_no_interval() -> None:
    """Models far below the optimum of their data have no parameters in excess."""
    params, epochs = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e5, 1e6, 4), [1, 4, 20]))
    columns = params, 1e10 * epochs, np.full(len(params), 1e10)
    noise = np.exp(np.random.default_rng(0).normal(0, 1e-3, len(params)))
    found = fit_repetition(TRUTH, *columns, REPEATED.loss(*columns) * noise, bootstrap=20)
    assert np.isnan(found.intervals["repeat_params"]).all() and np.isnan(found.samples[:, 1]).all()
    assert "R_N* shows in only 0 of 20 resamples" in found.status
    assert np.isfinite(found.intervals["repeat_tokens"]).all()
    assert found.ranges["epochs"] == (1.0, 20.0)


@pytest.mark.filterwarnings("error")
def test_exponents_beside_zero() -> None:
    """U_N of such a law is 0 or beyond all numbers; without any optimum there is none."""
    params, tokens, unique, loss = make_runs(0.01)
    once = tokens == unique
    law = fit_loss_law(params[once], tokens[once], loss[once], bootstrap=8)
    law.samples[:4] = [[1.7, 1.0, 2000.0, 1e-4, 0.36], [1.7, np.inf, 2000.0, 40.0, 0.36], [1.7, 1.0, 2000.0, -1.0, 0.3],
                       [1.7, 1e-9, 2000.0, 1e-3, 0.36]]  # fmt: skip
    found = fit_repetition(law, params, tokens, unique, loss, bootstrap=8)
    assert np.isfinite(found.samples[4:]).all() and np.isnan(found.samples[1:3]).all()
    assert "of 8 resamples have an optimum, so intervals are too narrow" in found.status
    with pytest.raises(InputError, match="no optimum"):
        fit_repetition(LossLaw(1.7, 1.0, 2000.0, -1.0, 0.36), params, tokens, unique, loss)


def test_laws_without_an_optimum_are_left_out() -> None:
    params, tokens, unique, loss = make_runs(0.01)
    once = tokens == unique
    law = fit_loss_law(params[once], tokens[once], loss[once], bootstrap=8)
    law.samples[::4, 3] = -0.1
    found = fit_repetition(law, params, tokens, unique, loss, bootstrap=8)
    assert np.isnan(found.samples[::4]).all() and np.isfinite(np.delete(found.samples, [0, 4], axis=0)).all()
    assert np.isfinite(found.intervals["repeat_tokens"]).all()


def test_through_a_file(tmp_path: Path) -> None:
    columns = zip(*make_runs(0.005), strict=True)
    runs = [Run(n, d, loss, 6 * n * d, unique_tokens=u) for n, d, u, loss in columns]
    study = fit_study(runs, bootstrap=20)
    study.save(tmp_path / "study.json")
    again = Study.load(tmp_path / "study.json")
    assert again == study and again.repetition is not None and study.repetition is not None
    assert again.repetition.intervals and (again.repetition.samples == study.repetition.samples).all()
    assert (again.law.samples == study.law.samples).all()
