"""Power laws, frontiers, IsoFLOP parabolas, scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, spearmanr

from syllablelm.core.errors import InputError
from syllablelm.scaling import compute_for_same_gain, fit_envelope, fit_power_law, fit_score_law, fit_score_line
from syllablelm.scaling.power import frontier
from syllablelm.scaling.resample import interval, student_level

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


def test_few_points_make_wide_intervals() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 12, 24):
        x = np.geomspace(1e17, 1e20, count)
        law = fit_power_law(x, 5 * x**-0.03 * np.exp(0.01 * rng.standard_normal(count)), bootstrap=100)
        assert law.level == student_level(count - 2) > 0.95
        assert law.exponent_interval == pytest.approx(interval(law.samples[:, 1], law.level))
        low, high = law.band([1e21])
        values = np.exp(law.samples @ [1.0, np.log(1e21)])
        assert (low[0], high[0]) == pytest.approx(interval(values, law.level))


def test_budgets_that_resamples_never_reach_are_infinite() -> None:
    law = replace(fit_power_law(C, 20 * C**0.02), samples=np.stack([np.zeros(40), np.repeat([0.1, -0.1], 20)], axis=1))
    low, high = law.solve_interval(60.0)
    assert (low, high) == (pytest.approx(60.0**10), np.inf)
    law.samples[:, 1] = np.nan
    assert np.isnan(law.solve_interval(60.0)).all()


def test_envelope_takes_the_best_runs() -> None:
    flops = np.concatenate([C, C, C * 1.5])
    loss = np.concatenate([5 * C**-0.03, 5.2 * C**-0.03, 6 * C**-0.03])
    law = fit_envelope(flops, loss)
    assert (law.exponent, law.scale, law.points) == pytest.approx((-0.03, 5.0, 12))


def test_points_of_one_run_stand_or_fall_together() -> None:
    """Many copies of each point, as of one run's way, do not make the interval narrower."""
    rng = np.random.default_rng(0)
    x = np.geomspace(1e15, 1e18, 12)
    y = 20 * x**-0.05 * np.exp(rng.normal(0, 0.01, 12))
    alone = fit_power_law(x, y, bootstrap=200, seed=1)
    many, runs = (np.repeat(x, 9), np.repeat(y, 9)), np.repeat(np.arange(12), 9)
    together = fit_power_law(*many, groups=runs, bootstrap=200, seed=1)
    assert together.samples == pytest.approx(alone.samples)
    apart = fit_power_law(*many, bootstrap=200, seed=1)
    assert apart.samples.std(axis=0)[1] < 0.5 * together.samples.std(axis=0)[1]
    assert fit_envelope(*many, runs, bootstrap=20).samples == pytest.approx(fit_envelope(x, y, bootstrap=20).samples)
    with pytest.raises(InputError, match="12 points need as many groups"):
        fit_power_law(x, y, groups=runs)


@pytest.mark.parametrize(
    "bad", [([1, 2], [1, 2]), ([1, 2, 3], [1, -2, 3]), ([1, 2, 3], [1, 2]), ([1, 1, 1], [1, 2, 3])]
)
def test_power_law_refuses(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputError):
        fit_power_law(*bad)


def test_score_law_is_of_the_frontier() -> None:
    score = 20 * C**0.021
    law = fit_score_law(np.tile(C, 2), np.concatenate([score, 0.95 * score]), bootstrap=20)
    assert (law.gamma, law.power.points, law.power.status) == (pytest.approx(0.021), 12, "ok")


def test_noise_is_no_law() -> None:
    """A running best always rises: without a test every study of noise would show growth."""
    sound, small = 0, 0
    for seed in range(60):
        try:
            law = fit_score_law(C, 50 + 2.5 * np.random.default_rng(seed).standard_normal(12), seed=seed)
        except InputError as error:
            assert "points are left to fit" in str(error)
            continue
        assert law.gamma > 0
        sound += not law.power.status.startswith("degenerate: ")
        small += law.p_value <= 0.05
        assert (law.p_value > 0.05) == ("no more than noise (p = " in law.power.status)
    assert sound <= small <= 8


def test_p_value_against_scipy() -> None:
    score = 50 * C**0.002 * np.exp(0.01 * np.random.default_rng(1).standard_normal(12))
    found = fit_score_law(C, score).p_value
    expected = permutation_test(
        (np.log(score),), lambda y: float(y @ np.log(C)), permutation_type="pairings", n_resamples=4000,
        alternative="greater", rng=0,
    ).pvalue  # fmt: skip
    assert 0.01 < expected < 0.5
    assert found == pytest.approx(expected, abs=0.04)


def test_few_runs_on_the_frontier_say_so() -> None:
    score = np.concatenate([[40, 45, 50, 55], 55 - np.arange(1, 9)])
    status = fit_score_law(C, score).power.status
    assert status.startswith("degenerate: ") and status.endswith("a frontier of only 4 runs")


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


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=3, max_size=15))
def test_rank_correlation_with_ties(points: list[tuple[int, int]]) -> None:
    loss, score = np.array(points, dtype=float).T
    if len(set(loss)) < 3:
        return
    found = fit_score_line(loss, score)
    if len(set(score)) == 1:
        assert np.isnan([found.rank_correlation, found.correlation]).all()
    else:
        assert found.rank_correlation == pytest.approx(spearmanr(loss, score).statistic, abs=1e-12)


def test_resamples_of_one_seed_are_not_paired() -> None:
    """The same noise in both, so with one seed the draws of both are alike, and their quotient would not scatter."""
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(12))
    one, other = (fit_power_law(C, C**0.02 * noise, bootstrap=200, seed=seed) for seed in (0, 1))
    low, high = compute_for_same_gain(one, one)[1]
    apart_low, apart_high = compute_for_same_gain(one, other)[1]
    assert low < 10 < high
    assert np.log(high / low) == pytest.approx(np.log(apart_high / apart_low), rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 8, 12, 24])
def test_intervals_of_power_laws_and_lines_hold_the_truth(count: int) -> None:
    x, loss = np.geomspace(1e17, 1e20, count), np.linspace(2, 3, count)
    held, trials = np.zeros(3), 400
    for seed in range(trials):
        noise = np.random.default_rng(seed).standard_normal(count)
        law = fit_power_law(x, 5 * x**-0.03 * np.exp(0.01 * noise), bootstrap=200, seed=seed)
        line = fit_score_line(loss, 90 - 10 * loss + noise, bootstrap=200, seed=seed)
        ends = (*law.exponent_interval, -0.03), (*line.slope_interval, -10.0), (*np.ravel(line.band([2.0])), 70.0)
        held += [low <= truth <= high for low, high, truth in ends]
    # 95 % with a standard deviation of 1.1 %; the end of a line, the last value, is the hardest.
    assert (held / trials >= [0.905, 0.905, 0.88]).all(), held / trials


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
