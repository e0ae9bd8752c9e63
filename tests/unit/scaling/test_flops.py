"""Shapes of decoders, their parameters and FLOPs, and budgets in GPU hours."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.scaling.flops import Shape, compute_budget, nearest_shape, shape_of, short_number


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


# The speech scaling study's models: layers, width, feed-forward width, parameters without embeddings.
LLAMAS = [
    (6, 512, 1536, 20_453_888),
    (12, 768, 2048, 84_953_856),
    (12, 1024, 2816, 154_166_272),
    (24, 1024, 2816, 308_331_520),
    (16, 2048, 5632, 822_151_168),
]


@pytest.mark.parametrize(("layers", "dim", "feed_forward", "params"), LLAMAS)
def test_llamas_of_the_speech_scaling_study(layers: int, dim: int, feed_forward: int, params: int) -> None:
    shape = shape_of(layers, dim, vocab=501, context=2050, family="llama")
    assert (shape.heads, shape.feed_forward, shape.params) == (dim // 64, feed_forward, params)
    assert shape.params_total == params + 501 * dim
    assert abs(math.log(nearest_shape(params, family="llama").params / params)) < 0.25


def test_exact_flops() -> None:
    shape = Shape(2, 128, 2, vocab=31, context=64)
    weights = 2 * (4 * 128**2 + 2 * 128 * 512) + 31 * 128
    # Forward: two FLOPs a weight, and for every token 64 products of 128 for scores and as many for values.
    forward = 2 * weights + 2 * (2 * 64 * 128 * 2)
    assert shape.train_flops(10) == 3 * forward * 10


@given(st.floats(5, 10).map(lambda power: 10**power))
def test_shapes_for_a_size(params: float) -> None:
    shape = nearest_shape(params)
    assert 0.6 < shape.params / params < 1.6
    assert shape.dim == 64 * shape.heads


def test_hours_of_a_gpu() -> None:
    assert compute_budget(gpu_hours=2, gpu="A100", mfu=0.5) == 2 * 3600 * 312e12 * 0.5
    assert compute_budget(gpu_hours=1, tflops=1, mfu=1.0) == 3.6e15
    assert compute_budget(1e18) == 1e18 and compute_budget() is None
    for bad in ({}, {"gpu": "A100", "tflops": 3.0}, {"gpu": "abacus"}, {"tflops": -1.0}, {"gpu": "A100", "mfu": 2.0}):
        with pytest.raises(InputError):
            compute_budget(gpu_hours=1, **bad)


def test_shapes_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="no decoder has about 1e\\+03 parameters"):
        nearest_shape(1e3)
    assert [shape_of(3, dim).heads for dim in (32, 64, 768)] == [1, 1, 12]
    for layers, dim in ((0, 64), (2, 100), (2, 0)):
        with pytest.raises(InputError, match=f"{layers}x{dim}"):
            shape_of(layers, dim)


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (999.9, "1k"), (50112, "50.1k"), (999_999, "1M"), (9.996e8, "1B"), (math.nan, ""), (0.5, "0.5")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text
    assert short_number(5e5, smallest=1e6) == "0.5M"
