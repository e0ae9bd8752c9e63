"""The GPU program, run on the CPU, against the compiled kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.segment import kernels, minsum, minsum_dynamic

torch = pytest.importorskip("torch")
from syllablelm.segment import minsum_torch  # noqa: E402


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Take every tensor for one on a GPU."""
    for module in ("least_squares", "arrays"):
        monkeypatch.setattr(f"syllablelm.segment.{module}.is_on_gpu", lambda features: True)


def steps(seed, num_frames, num_dims=6, noise=0.4):
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.standard_normal((num_frames, num_dims)), rng.integers(1, 12, num_frames), axis=0)
    return means[:num_frames] + noise * rng.standard_normal((num_frames, num_dims))


class TestCosts:
    @given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 60), st.booleans())
    @settings(max_examples=30)
    def test_equal_the_kernel(self, seed, num_frames, max_length, single):
        features = steps(seed, num_frames).astype(np.float32 if single else np.float64)
        batch = torch.from_numpy(np.stack([features, features + 100.0]))
        found = minsum_torch.squared_error_costs(batch, max_length).numpy()
        for item, costs in zip(batch.numpy(), found, strict=True):
            expected = kernels.squared_error_costs(item, max_length)
            np.testing.assert_array_equal(np.isinf(costs), np.isinf(expected))
            np.testing.assert_allclose(costs, expected, rtol=1e-9, atol=1e-10)

    def test_constant_frames_cost_exactly_nothing(self):
        costs = minsum_torch.squared_error_costs(torch.full((1, 200, 5), 0.1), 30).numpy()
        assert np.all(costs[np.isfinite(costs)] == 0.0)

    def test_distances(self):
        features = torch.from_numpy(steps(0, 300))
        found = minsum_torch.neighbour_distances(features[None], 9)[0]
        for frame in range(300):
            for lag in range(min(9, frame) + 1):
                expected = float((features[frame] - features[frame - lag]).square().sum())
                assert float(found[frame, lag]) == pytest.approx(expected, abs=1e-10)


class TestProgram:
    @given(
        seed=st.integers(0, 1000),
        num_frames=st.integers(4, 60),
        num_segments=st.integers(1, 20),
        min_length=st.integers(1, 3),
        max_length=st.integers(3, 20),
        at_most=st.booleans(),
        tied=st.booleans(),
    )
    @settings(max_examples=60)
    def test_equals_the_kernel(self, seed, num_frames, num_segments, min_length, max_length, at_most, tied):
        rng = np.random.default_rng(seed)
        shape = (max_length + 1, num_frames + 1)
        costs = rng.integers(0, 3, shape) if tied else rng.random(shape)
        costs = np.where(np.arange(max_length + 1)[:, None] > np.arange(num_frames + 1), np.inf, costs)
        found = minsum_torch.best_lengths(torch.from_numpy(costs)[None], num_segments, min_length, at_most)
        lengths = found[:, 0].numpy()
        if at_most:
            expected = kernels.best_lengths(costs, num_segments, min_length, True)
            reached = expected > 0
            np.testing.assert_array_equal(lengths[reached], expected[reached])
        elif min_length * num_segments <= num_frames <= max_length * num_segments:
            expected = kernels.best_lengths(costs, num_segments, min_length, False)
            np.testing.assert_array_equal(
                kernels.trace_back(lengths, num_segments), kernels.trace_back(expected, num_segments)
            )


class TestWholeFunctions:
    SIZES = (130, 1, 0, 57, 300, 2, 16)

    def items(self, dtype=np.float32):
        return [steps(seed, size).astype(dtype) for seed, size in enumerate(self.SIZES)]

    @pytest.mark.parametrize("min_length", [1, 3])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_minsum(self, as_on_gpu, monkeypatch, min_length, dtype):
        items = self.items(dtype)
        counts = [min(len(item), max(-(-len(item) // 20), len(item) // 6)) for item in items]
        found = minsum([torch.from_numpy(item) for item in items], counts, min_length=min_length, max_length=20)
        monkeypatch.undo()
        for boundaries, expected in zip(
            found, minsum(items, counts, min_length=min_length, max_length=20), strict=True
        ):
            assert boundaries.dtype == np.int32
            np.testing.assert_array_equal(boundaries, expected)

    def test_padded_batch_of_half_precision(self, as_on_gpu, monkeypatch):
        items = [torch.from_numpy(item).bfloat16() for item in self.items() if len(item) > 40]
        lengths = [len(item) for item in items]
        padded = torch.full((len(items), 310, 6), torch.nan, dtype=torch.bfloat16)
        for row, item in zip(padded, items, strict=True):
            row[: len(item)] = item
        exact = minsum(padded, 9, lengths=torch.tensor(lengths))
        dynamic = minsum_dynamic(padded, 0.1, lengths=lengths, max_length=50)
        monkeypatch.undo()
        for index, item in enumerate(items):
            np.testing.assert_array_equal(exact[index], minsum(item, 9))
            np.testing.assert_array_equal(dynamic[index], minsum_dynamic(item, 0.1, max_length=50))

    @pytest.mark.parametrize("delta", [0.01, 0.1, 0.5])
    def test_minsum_dynamic(self, as_on_gpu, monkeypatch, delta):
        items = self.items()
        found = minsum_dynamic([torch.from_numpy(item) for item in items], delta)
        monkeypatch.undo()
        for boundaries, expected in zip(found, minsum_dynamic(items, delta), strict=True):
            np.testing.assert_array_equal(boundaries, expected)

    def test_a_single_recording(self, as_on_gpu):
        assert minsum(torch.zeros(10, 2), 3).tolist() == [0, 8, 9, 10]
        assert len(minsum_dynamic(torch.zeros(149, 4), 0.0033)) - 1 == 29 // 3

    def test_long_segments(self, as_on_gpu):
        features = torch.from_numpy(np.repeat(np.random.default_rng(0).standard_normal((3, 4)), [300, 5, 280], axis=0))
        assert minsum(features, 3, max_length=400).tolist() == [0, 300, 305, 585]

    def test_bad_inputs(self, as_on_gpu):
        with pytest.raises(InputError, match="NaN or infinity"):
            minsum(torch.tensor([[1.0], [torch.nan]]), 1)
        with pytest.raises(InputError, match="2 axes"):
            minsum(torch.zeros(5), 1)
