from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.errors import InputError
from syllablelm.segment.combined import combined_boundaries, novelty


def novelty_slow(matrix: np.ndarray, half_width: int) -> list[float]:
    """Mean over the pairs of frames on one side of t (halved, for either side) minus the mean over pairs across t."""

    def mean(rows: range, columns: range) -> float:
        values = [(matrix[i, j] + matrix[j, i]) / 2 for i in rows for j in columns]
        return sum(values) / len(values) if values else 0.0

    num_frames, result = len(matrix), []
    for t in range(num_frames):
        before, after = range(max(0, t - half_width), t), range(t, min(num_frames, t + half_width))
        result.append((mean(before, before) + mean(after, after)) / 2 - mean(before, after))
    return result


def blocks(lengths: list[int]) -> np.ndarray:
    group = np.repeat(np.arange(len(lengths)), lengths)
    return (group[:, None] == group[None, :]).astype(float)


class TestNovelty:
    @given(st.integers(0, 1000), st.integers(1, 14), st.integers(1, 9))
    @settings(max_examples=60, deadline=None)
    def test_equals_plain_loops(self, seed, num_frames, half_width):
        matrix = np.random.default_rng(seed).random((num_frames, num_frames))
        np.testing.assert_allclose(novelty(matrix, half_width), novelty_slow(matrix, half_width), atol=1e-10)

    def test_largest_where_blocks_meet(self):
        curve = novelty(blocks([12, 15, 11]), 6)
        assert sorted(np.argsort(-curve[1:-1])[:2] + 1) == [12, 27]
        assert curve[12] == pytest.approx(1.0) and curve[20] == pytest.approx(0.0)

    def test_single_precision_input_is_summed_in_double(self):
        matrix = np.random.default_rng(0).random((400, 400)).astype(np.float32)
        np.testing.assert_allclose(novelty(matrix), novelty(matrix.astype(np.float64)), atol=1e-12)

    def test_no_frames(self):
        assert novelty(np.zeros((0, 0))).shape == (0,)


class TestCombined:
    def test_both_views_count(self):
        matrix = blocks([20, 20])
        strength = np.zeros(40)
        strength[10] = 1.0
        assert combined_boundaries(matrix, strength, 3).tolist() == [0, 10, 20, 40]
        assert combined_boundaries(matrix, strength, 2, weight=0.3).tolist() == [0, 10, 40]
        assert combined_boundaries(matrix, strength, 2, weight=100.0).tolist() == [0, 20, 40]

    def test_scales_of_both_views_do_not_matter(self):
        rng = np.random.default_rng(0)
        matrix, strength = rng.random((60, 60)), rng.standard_normal(60)
        expected = combined_boundaries(matrix, strength, 9)
        assert len(expected) == 10 and expected.dtype == np.int32
        np.testing.assert_array_equal(combined_boundaries(7 * matrix, 0.01 * strength - 5, 9), expected)

    def test_flat_curves_give_one_group(self):
        assert combined_boundaries(np.ones((9, 9)), np.zeros(9), 1).tolist() == [0, 9]

    def test_no_frames(self):
        assert combined_boundaries(np.zeros((0, 0)), np.zeros(0), 0).tolist() == [0]

    def test_too_many_segments(self):
        with pytest.raises(InputError, match="9 frames cannot be cut into 10"):
            combined_boundaries(np.ones((9, 9)), np.zeros(9), 10)
