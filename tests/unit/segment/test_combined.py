from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.segment.combined import combined_boundaries, feature_step, novelty, peak_boundaries


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


def feature_step_slow(features: np.ndarray, half_width: int) -> list[float]:
    result = [0.0]
    for t in range(1, len(features)):
        before = features[max(0, t - half_width) : t].mean(0)
        after = features[t : t + half_width].mean(0)
        result.append(float(np.sqrt(((after - before) ** 2).sum())))
    return result


class TestFeatureStep:
    @given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 7))
    @settings(max_examples=60, deadline=None)
    def test_equals_plain_loops(self, seed, num_frames, half_width):
        features = np.random.default_rng(seed).standard_normal((num_frames, 3)).astype(np.float32)
        np.testing.assert_allclose(
            feature_step(features, half_width), feature_step_slow(features, half_width), atol=1e-6
        )

    def test_shift_and_rotation_do_not_matter(self):
        rng = np.random.default_rng(0)
        features = rng.standard_normal((50, 4))
        turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))
        np.testing.assert_allclose(feature_step(features @ turn + 3.0), feature_step(features), atol=1e-9)

    def test_no_frames(self):
        assert feature_step(np.zeros((0, 3))).shape == (0,)
        assert peak_boundaries(np.zeros((0, 3)), 0).tolist() == [0]


class TestPeaks:
    def test_finds_the_steps_of_constant_stretches(self):
        features = np.repeat(np.random.default_rng(0).standard_normal((4, 5)), [11, 8, 14, 9], axis=0)
        assert peak_boundaries(features, 4).tolist() == [0, 11, 19, 33, 42]

    @given(st.integers(0, 1000), st.integers(7, 40))
    @settings(max_examples=40, deadline=None)
    def test_ends_of_a_recording_are_left_alone(self, seed, num_frames):
        found = peak_boundaries(np.random.default_rng(seed).standard_normal((num_frames, 3)), num_frames)
        assert found[0] == 0 and found[-1] == num_frames
        assert ((found[1:-1] > 3) & (found[1:-1] < num_frames - 4)).all()

    def test_one_slow_transition_is_one_cut(self):
        ramp = np.concatenate([np.zeros(15), np.linspace(0, 1, 9), np.ones(15)])[:, None]
        assert len(peak_boundaries(ramp, 4)) == 3

    def test_constant_features_are_one_segment(self):
        assert peak_boundaries(np.ones((20, 3)), 5).tolist() == [0, 20]


class TestCombined:
    def test_both_views_count(self):
        matrix = blocks([20, 20])
        strength = np.zeros(40)
        strength[10] = 1.0
        assert combined_boundaries(novelty(matrix), strength, 3).tolist() == [0, 10, 20, 40]
        assert combined_boundaries(novelty(matrix), strength, 2, weight=0.3).tolist() == [0, 10, 40]
        assert combined_boundaries(novelty(matrix), strength, 2, weight=100.0).tolist() == [0, 20, 40]

    def test_scales_of_both_views_do_not_matter(self):
        rng = np.random.default_rng(0)
        matrix, strength = rng.random((60, 60)), rng.standard_normal(60)
        expected = combined_boundaries(novelty(matrix), strength, 9)
        assert len(expected) == 10 and expected.dtype == np.int32
        np.testing.assert_array_equal(combined_boundaries(novelty(7 * matrix), 0.01 * strength - 5, 9), expected)

    def test_flat_curves_give_one_group(self):
        assert combined_boundaries(novelty(np.ones((9, 9))), np.zeros(9), 1).tolist() == [0, 9]

    def test_no_frames(self):
        assert combined_boundaries(novelty(np.zeros((0, 0))), np.zeros(0), 0).tolist() == [0]

    def test_too_many_segments(self):
        with pytest.raises(InputError, match="9 frames cannot be cut into 10"):
            combined_boundaries(novelty(np.ones((9, 9))), np.zeros(9), 10)
