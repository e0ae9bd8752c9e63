"""Names of planned runs: their own, readable, and the same as ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.scaling import PUBLISHED, opt_layers, plan_grid, plan_isoflops, plan_ratios, with_rates

SHAPES = [opt_layers(layers, dim, vocab=1024) for layers, dim in ((1, 64), (1, 128), (3, 128), (4, 192))]


def test_the_runs_of_the_small_study_keep_their_names() -> None:
    """docs/scaling.md: finished runs are found by them."""
    names = [run.name for run in plan_grid(SHAPES, [4.5e4, 9e4, 1.8e5, 3.4e5])]
    assert names == [f"{n}M-{d}M" for n in ("0.0501", "0.199", "0.595", "1.78") for d in ("0.045", "0.09", 0.18, 0.34)]
    names = [run.name for run in plan_grid(SHAPES[:1], [1.36e6, 3.4e5], [4])]
    assert names == ["0.0501M-1.36M-x4", "0.0501M-0.34M-x4"]


def test_runs_that_are_nearly_alike_have_names_of_their_own() -> None:
    names = [run.name for run in plan_grid(SHAPES[:1], [1e5, 1.001e5, 2e5], [1, 4])]
    near = ["0.05011M-0.1M", "0.05011M-0.1M-x4", "0.05011M-0.1001M", "0.05011M-0.1001M-x4"]
    assert names == [*near, "0.0501M-0.2M", "0.0501M-0.2M-x4"]
    runs = plan_grid(SHAPES[:1], [1_000_000, 1_000_001], [4, 4.00001])
    assert len({run.name for run in runs}) == len(runs) >= 3
    # What is set later belongs to the same run.
    assert [run.name for run in with_rates(runs, lr=[1e-3], batch_tokens=[512])] == [run.name for run in runs]


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 10**13), min_size=1, max_size=6),
    passes=st.lists(st.floats(1, 50), min_size=1, max_size=4),
)
def test_every_name_is_one_runs(tokens: list[int], passes: list[float]) -> None:
    runs = plan_grid(SHAPES[:2], tokens, passes)
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        (3.37e9, "0.0501M-3.37B"),
        (9.996e8, "0.0501M-1B"),
        (9.99e8, "0.0501M-999M"),
        (1.089e11, "0.0501M-109B"),
        (2.5e12, "0.0501M-2.5T"),
        (1e3, "0.0501M-0.001M"),
    ],
)
def test_large_numbers_are_short(tokens: float, name: str) -> None:
    assert [run.name for run in plan_grid(SHAPES[:1], [tokens])] == [name]


def test_plans_for_a_budget_have_names_of_their_own() -> None:
    for flops in (1e15, 1e19, 1e24):
        for runs in (plan_ratios(flops), plan_isoflops(flops, PUBLISHED["speech"])):
            names = [run.name for run in runs]
            assert len(set(names)) == len(names) and not any("e+" in name for name in names)
