"""The laws: optima against brute force, inversions, repetition's limits, counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.scaling import PUBLISHED, PUBLISHED_REPETITION, LossLaw, RepetitionLaw
from syllablelm.scaling.flops import Shape, compute_budget, opt_shape

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


def test_params_against_a_count_of_tensors() -> None:
    d, h = 192, 4 * 192
    block = [d * d, d] * 4 + [d * h, h, h * d, d] + [d, d] * 2
    shape = Shape(5, d, 3, vocab=31, context=64)
    assert shape.params == 5 * sum(block) + 2 * d
    assert shape.params_total == shape.params + (31 + 64 + 2) * d


@pytest.mark.slow
def test_opt_params_are_those_of_the_trained_model() -> None:
    from syllablelm.lm.speech_lm import count_parameters
    from syllablelm.train.lm_stage import LMShape

    shape = Shape(2, 128, 2, vocab=31, context=64)
    model = LMShape(layers=2, dim=128, heads=2, feed_forward=512, positions=64).build(30)
    assert (shape.params, shape.params_total) == count_parameters(model)


def test_exact_flops() -> None:
    shape = Shape(2, 128, 2, vocab=31, context=64)
    weights = 2 * (4 * 128**2 + 2 * 128 * 512) + 31 * 128
    # Forward: two FLOPs a weight, and for every token 64 products of 128 for scores and as many for values.
    forward = 2 * weights + 2 * (2 * 64 * 128 * 2)
    assert shape.train_flops(10) == 3 * forward * 10


@given(st.floats(5, 10).map(lambda power: 10**power))
def test_shapes_for_a_size(params: float) -> None:
    shape = opt_shape(params)
    assert 0.6 < shape.params / params < 1.6
    assert shape.dim == 64 * shape.heads


def test_hours_of_a_gpu() -> None:
    assert compute_budget(gpu_hours=2, gpu="A100", mfu=0.5) == 2 * 3600 * 312e12 * 0.5
    assert compute_budget(gpu_hours=1, tflops=1, mfu=1.0) == 3.6e15
    assert compute_budget(1e18) == 1e18 and compute_budget() is None
    for bad in ({}, {"gpu": "A100", "tflops": 3.0}, {"gpu": "abacus"}, {"tflops": -1.0}, {"gpu": "A100", "mfu": 2.0}):
        with pytest.raises(InputError):
            compute_budget(gpu_hours=1, **bad)
