from __future__ import annotations

import numpy as np
import pytest

from helpers.model_oracles import losspred_matrix_slow, probabilities_under_mask
from helpers.random_models import noise, small_predictor
from syllablelm.core.errors import InputError
from syllablelm.segment import losspred_matrix
from syllablelm.segment.losspred import span_starts

MODEL = small_predictor()


def clip(num_frames: int, seed: int = 0) -> np.ndarray:
    """A clip of so many frames and some samples more."""
    return noise(400 + 320 * (num_frames - 1) + 17 * seed, seed)


class TestAgainstOneSpanAtATime:
    @pytest.mark.parametrize(("num_frames", "span"), [(23, 6), (40, 10), (31, 2), (12, 10), (9, 20)])
    def test_equal_with_a_gap_as_long_as_the_recording(self, num_frames, span):
        fast = losspred_matrix(MODEL, clip(num_frames), span=span, gap=num_frames)
        assert fast.shape == (num_frames, num_frames) and fast.dtype == np.float32
        np.testing.assert_allclose(fast, losspred_matrix_slow(MODEL, clip(num_frames), span=span), atol=1e-5)

    def test_the_gap_matters(self):
        wave = clip(40)
        alone = losspred_matrix_slow(MODEL, wave, span=6)
        assert np.abs(losspred_matrix(MODEL, wave, span=6, gap=4) - alone).max() > 0.01

    @pytest.mark.parametrize(
        ("num_frames", "span", "gap"),
        [(40, 6, 10), (37, 6, 5), (33, 10, 3), (24, 4, 4), (25, 4, 0), (16, 10, 30), (8, 10, 2), (30, 2, 1)],
    )
    def test_equal_with_any_gap(self, num_frames, span, gap):
        wave = clip(num_frames, seed=gap)
        fast = losspred_matrix(MODEL, wave, span=span, gap=gap)
        np.testing.assert_allclose(fast, losspred_matrix_slow(MODEL, wave, span=span, gap=gap), atol=1e-5)

    @pytest.mark.parametrize("num_frames", [1, 2, 3])
    @pytest.mark.parametrize("gap", [0, 5])
    def test_shortest_recordings(self, num_frames, gap):
        fast = losspred_matrix(MODEL, clip(num_frames), span=4, gap=gap)
        np.testing.assert_allclose(fast, losspred_matrix_slow(MODEL, clip(num_frames), span=4, gap=gap), atol=1e-5)
        assert num_frames == 1 or fast.max() > 0

    def test_the_oracle_sees_what_is_hidden(self):
        wave = clip(20)
        assert (
            np.abs(probabilities_under_mask(MODEL, wave, {9}) - probabilities_under_mask(MODEL, wave, set())).max()
            > 0.1
        )


class TestMatrix:
    def test_zero_on_the_diagonal_and_outside_the_band_only(self):
        matrix = losspred_matrix(MODEL, clip(45), span=8, gap=12)
        row, column = np.indices(matrix.shape)
        within = (np.abs(row - column) <= 4) & (row != column)
        assert (matrix[~within] == 0).all() and (matrix[within] > 0).all() and matrix.max() <= 1

    def test_batches_change_nothing(self):
        wave = clip(41)
        expected = losspred_matrix(MODEL, wave, span=6, gap=9)
        for batch_frames in (1, 41, 100, 10**9):
            found = losspred_matrix(MODEL, wave, span=6, gap=9, batch_frames=batch_frames)
            np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_forward_passes_do_not_grow_with_length(self):
        for num_frames in (60, 600):
            passes = [span_starts(num_frames, 10, shift, 30) for shift in range(40)]
            anchors = np.concatenate(passes)
            # Every span that touches the recording is in exactly one pass.
            assert sorted(anchors.tolist()) == list(range(-10, num_frames - 1))
            assert all((np.diff(a) == 40).all() for a in passes)

    def test_given_labels(self):
        wave = clip(26)
        labels = np.random.default_rng(0).integers(0, 7, 26)
        found = losspred_matrix(MODEL, wave, span=6, gap=8, labels=labels)
        np.testing.assert_allclose(found, losspred_matrix_slow(MODEL, wave, span=6, gap=8, labels=labels), atol=1e-5)
        own = probabilities_under_mask(MODEL, wave, set()).argmax(axis=1)
        np.testing.assert_array_equal(
            losspred_matrix(MODEL, wave, span=6, gap=8, labels=own.tolist()),
            losspred_matrix(MODEL, wave, span=6, gap=8),
        )
        assert np.abs(found - losspred_matrix(MODEL, wave, span=6, gap=8)).max() > 0.1

    def test_over_all_labels_probabilities_sum_to_one(self):
        wave = clip(14)
        total = sum(losspred_matrix(MODEL, wave, span=4, gap=6, labels=[label] * 14) for label in range(7))
        row, column = np.indices((14, 14))
        np.testing.assert_allclose(total, ((abs(row - column) <= 2) & (row != column)).astype(float), atol=1e-5)

    def test_a_waveform_below_one_frame(self):
        assert losspred_matrix(MODEL, clip(1)[:399]).shape == (0, 0)


class TestErrors:
    @pytest.mark.parametrize(("span", "gap"), [(0, 5), (1, 5), (7, 5), (-2, 5), (6, -1), (10**9, 5), (6, 10**9)])
    def test_span_and_gap(self, span, gap):
        with pytest.raises(InputError, match="span must be even and from 2 to 10000, gap from 0 to 10000"):
            losspred_matrix(MODEL, clip(9), span=span, gap=gap)

    @pytest.mark.parametrize("labels", [[0] * 8, [0] * 10, [[0] * 9], 3])
    def test_labels_of_another_length(self, labels):
        with pytest.raises(InputError, match="labels for 9 frames"):
            losspred_matrix(MODEL, clip(9), span=4, labels=labels)

    @pytest.mark.parametrize("label", [-1, 7])
    def test_labels_that_the_head_does_not_know(self, label):
        with pytest.raises(InputError, match="labels must lie in 0 to 6"):
            losspred_matrix(MODEL, clip(9), span=4, labels=[label] * 9)
