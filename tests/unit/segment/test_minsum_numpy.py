"""Plain NumPy, which cuts the first recordings of a process, against the compiled kernels."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.segment import kernels, least_squares, minsum, minsum_dynamic, minsum_numpy

LIMITS = [(1, 50), (1, 7), (3, 20)]


@pytest.fixture
def unloaded(monkeypatch):
    """A process that has not loaded the kernels; what ran afterwards is a list of modules."""
    monkeypatch.delitem(sys.modules, "syllablelm.segment.kernels")
    monkeypatch.setattr("syllablelm.segment.kernels", kernels)
    monkeypatch.setattr(least_squares, "_plain_products", 0)
    ran = []
    for module in (minsum_numpy, kernels):
        real = module.squared_error_costs
        monkeypatch.setattr(
            module, "squared_error_costs", lambda *given, module=module, real=real: ran.append(module) or real(*given)
        )
    return ran


def steps(seed, num_frames, num_dims=6, noise=0.4):
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.standard_normal((num_frames, num_dims)), rng.integers(1, 12, num_frames), axis=0)
    return (means[:num_frames] + noise * rng.standard_normal((num_frames, num_dims))).astype(np.float32)


class TestCosts:
    @given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 60))
    @settings(max_examples=30)
    def test_equal_the_kernel(self, seed, num_frames, max_length):
        features = steps(seed, num_frames)
        longest = min(max_length, num_frames)
        found, expected = (module.squared_error_costs(features, longest) for module in (minsum_numpy, kernels))
        np.testing.assert_allclose(found, expected, rtol=1e-13)

    def test_repeated_frames_cost_exactly_nothing(self):
        features = np.repeat(steps(0, 5), 20, axis=0)
        for module in (minsum_numpy, kernels):
            costs = module.squared_error_costs(features, 20)
            assert [costs[20, end] for end in range(20, 101, 20)] == [0.0] * 5


class TestProgram:
    @given(
        seed=st.integers(0, 1000),
        num_frames=st.integers(4, 60),
        num_segments=st.integers(1, 20),
        limits=st.sampled_from(LIMITS),
        at_most=st.booleans(),
        tied=st.booleans(),
        quantile=st.floats(0, 1),
    )
    @settings(max_examples=60)
    def test_equals_the_kernels(self, seed, num_frames, num_segments, limits, at_most, tied, quantile):
        min_length, max_length = limits
        rng = np.random.default_rng(seed)
        shape = (max_length + 1, num_frames + 1)
        costs = rng.integers(0, 3, shape).astype(float) if tied else rng.random(shape)
        costs = np.where(np.arange(max_length + 1)[:, None] > np.arange(num_frames + 1), np.inf, costs)
        fewest, most = -(-num_frames // max_length), num_frames // min_length
        count = min(max(num_segments, fewest), most)
        tables = [m.best_lengths(costs, count, min_length, at_most) for m in (minsum_numpy, kernels)]
        cuts = [m.trace_back(t, count) for m, t in zip((minsum_numpy, kernels), tables, strict=True)]
        assert cuts[0].dtype == cuts[1].dtype == np.int32
        np.testing.assert_array_equal(*cuts)
        if at_most:
            delta = float(rng.random())
            searched = [
                m.search_count(costs, t, fewest, count, delta, quantile)
                for m, t in zip((minsum_numpy, kernels), tables, strict=True)
            ]
            assert searched[0] == searched[1]


class TestWholeFunctions:
    @pytest.mark.parametrize("num_frames", [2, 16, 57, 300])
    def test_the_same_boundaries(self, unloaded, num_frames):
        features, count = steps(num_frames, num_frames), max(1, num_frames // 6)
        plain = [minsum(features, count), minsum_dynamic(features, 0.1)]
        # Of a batch the kernels are worth their loading.
        compiled = [minsum([features, features], count)[1], minsum_dynamic([features, features], 0.1)[1]]
        for found, expected in zip(plain, compiled, strict=True):
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, expected)
        assert minsum_numpy in unloaded and set(unloaded[-2:]) == {kernels}

    def test_long_repeats(self, unloaded):
        features = np.repeat(steps(1, 4), [130, 3, 200, 9], axis=0)
        plain = minsum(features, 12)
        np.testing.assert_array_equal(plain, minsum([features, features], 12)[0])

    def test_many_recordings_load_the_kernels(self, unloaded, monkeypatch):
        features = steps(2, 40)
        monkeypatch.setattr(least_squares, "_PLAIN_PRODUCTS", 3 * features.size * 50)
        cuts = [minsum(features, 7) for _ in range(5)]
        assert unloaded == [minsum_numpy] * 3 + [kernels] * 2
        assert all(np.array_equal(cut, cuts[0]) for cut in cuts)
