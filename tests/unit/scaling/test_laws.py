"""The laws: optima against brute force, inversions, repetition's limits, counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.scaling import PUBLISHED, PUBLISHED_REPETITION, LossLaw, RepetitionLaw

laws = st.builds(
    LossLaw,
    E=st.floats(0.5, 3),
    A=st.floats(2, 1000),
    B=st.floats(2, 5000),
    alpha=st.floats(0.1, 0.8),
    beta=st.floats(0.1, 0.8),
)
budgets = st.floats(15, 25).map(lambda power: 10**power)


@given(laws, budgets)
def test_no_other_split_is_better(law: LossLaw, flops: float) -> None:
    best = law.optimal(flops)
    assert pytest.approx(flops) == 6 * best.N * best.D
    params = best.N * np.geomspace(0.01, 100, 401)
    assert law.loss(*best) <= law.loss(params, flops / 6 / params).min() * (1 + 1e-12)


@given(laws, budgets)
def test_budget_of_a_loss_is_its_inverse(law: LossLaw, flops: float) -> None:
    loss = law.loss(*law.optimal(flops))
    if loss > law.E * (1 + 1e-6):
        assert law.flops_for_loss(loss) == pytest.approx(flops, rel=1e-3)
    assert law.flops_for_loss(law.E) == np.inf


@pytest.mark.parametrize(("alpha", "beta"), [(-1.44, 1.25), (0.3, -0.1), (0.0, 0.3), (-0.3, 0.3)])
def test_no_optimum_is_nan(alpha: float, beta: float) -> None:
    law = LossLaw(2.0, 3.0, 40.0, alpha, beta)
    assert not law.has_optimum
    best = law.optimal([1e18, 1e20])
    assert np.isnan([law.G, law.a, law.b, *best.N, *best.D, law.flops_for_loss(2.5)]).all()
    assert law.flops_for_loss(1.9) == np.inf
    assert np.isnan(RepetitionLaw(law, 10.0, 10.0).optimal(1e18, 1e6)).all()


def test_a_term_that_is_none_makes_one_part_infinite() -> None:
    assert LossLaw(2.0, 3.0, 0.0, 0.3, 0.3).optimal(1e18) == (np.inf, 0.0)
    assert LossLaw(2.0, 0.0, 3.0, 0.3, 0.3).optimal(1e18) == (0.0, np.inf)


@pytest.mark.parametrize(("flops", "unique"), [(1e24, 1e5), (1e24, 1e9), (1e20, 1e4), (1e18, 1e12), (1e10, 1e3)])
def test_repeated_optimum_by_brute_force(flops: float, unique: float) -> None:
    law = PUBLISHED_REPETITION["speech"]
    tokens = np.geomspace(1, flops / 6, 400_001)
    losses = law.loss(flops / 6 / tokens, tokens, unique)
    best = law.optimal(flops, unique)
    assert tokens[np.argmin(losses)] == pytest.approx(best.tokens, rel=1e-3)
    assert law.loss(*best, unique) <= losses.min() * (1 + 1e-12)


def test_shapes_in_shapes_out() -> None:
    law = PUBLISHED["speech"]
    params, tokens = law.optimal(1e20)
    assert isinstance(params, float)
    assert law.loss([1e8, 1e9], 1e10).shape == (2,)
    assert law.optimal([1e18, 1e20]).D[1] == tokens
    with pytest.raises(InputError, match="above 0"):
        law.optimal(0)


@given(st.floats(6, 10).map(lambda p: 10**p), st.floats(7, 12).map(lambda p: 10**p), st.floats(0.01, 100))
def test_repeated_data_is_worth_less_but_something(params: float, unique: float, epochs: float) -> None:
    law = PUBLISHED_REPETITION["speech"]
    tokens = unique * epochs
    effective = law.effective(params, tokens, unique)
    assert tokens * (1 + 1e-9) >= effective.D
    assert params * (1 + 1e-9) >= effective.N
    if epochs <= 1:
        assert pytest.approx(tokens) == effective.D
    else:
        assert unique <= effective.D <= unique * (1 + law.repeat_tokens)


def test_enough_unique_data_is_the_plain_law() -> None:
    law = PUBLISHED_REPETITION["text"]
    best = law.law.optimal(1e20)
    assert law.optimal(1e20, 10 * best.D) == pytest.approx(best, rel=1e-4)
    assert law.loss(*best, 10 * best.D) == pytest.approx(law.law.loss(*best))
