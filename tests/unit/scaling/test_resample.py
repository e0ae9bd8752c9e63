"""Draws of runs, and intervals of what was fitted to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from syllablelm.scaling.resample import (
    UNKNOWN,
    band,
    draw_weights,
    interval,
    open_interval,
    resample_rows,
    student_level,
)


@pytest.mark.parametrize("freedom", [0, 1, 5, 43])
def test_level_of_few_runs(freedom: int) -> None:
    """Percentiles at this level are as wide as Student's t makes a normal interval."""
    expected = 2 * norm.cdf(student.ppf(0.975, max(1, freedom))) - 1
    assert student_level(freedom) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.one_of(st.floats(-9, 9), st.just(np.inf), st.just(np.nan)), min_size=1, max_size=30))
def test_open_interval_by_its_definition(values: list[float]) -> None:
    found = sorted(value for value in values if not np.isnan(value))
    low, high = open_interval(values, 0.9, 0.5)
    if len(found) < 0.5 * len(values) or not found:
        assert np.isnan([low, high]).all()
    else:
        assert sum(value < low for value in found) <= 0.05 * len(found)
        assert sum(value > high for value in found) <= 0.05 * len(found)
        assert low in found and high in found


def test_every_resample_draws_as_many_runs_as_there_are() -> None:
    weights = draw_weights(7, 2000, seed=0)
    assert weights.shape == (2000, 7) and (weights.sum(axis=1) == 7).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    assert (weights == draw_weights(7, 2000, seed=0)).all() and (weights != draw_weights(7, 2000, seed=1)).any()


def test_resampled_means_scatter_as_theory_says() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    means = resample_rows(50, 4000, 0, lambda rows: (float(values[rows].mean()), float(len(rows))))
    assert (means[:, 1] == 50).all()
    assert means[:, 0].std() == pytest.approx(values.std() / np.sqrt(50), rel=0.05)
    assert interval(means[:, 0]) == pytest.approx(tuple(np.quantile(means[:, 0], [0.025, 0.975])))


def test_samples_that_are_not_finite_are_left_out_up_to_a_share() -> None:
    samples = np.array([0.0, 1.0, 2.0, np.inf, np.nan])
    assert interval(samples) == interval(samples[:3])
    assert np.isnan(interval(samples, least=0.7)).all() and np.isnan(interval([])).all() and np.isnan(UNKNOWN).all()
    low, high = band(np.array([[0.0, 10.0], [1.0, 11.0], [2.0, np.nan]]), 0.5)
    assert (low.tolist(), high.tolist()) == ([0.25, 10.25], [0.75, 10.75])
    assert np.isnan(band(np.full((3, 2), np.nan), 0.95)).all()
