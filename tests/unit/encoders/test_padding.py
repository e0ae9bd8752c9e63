"""Batches of clips of different lengths: grouping, masks and statistics of their own samples."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers.random_models import noise
from syllablelm.encoders.padding import (
    GROUP_RATIO,
    GROUP_SAMPLES,
    fold_scaling,
    frame_mask,
    longest_first,
    pad_waveforms,
    similar_lengths,
    standardize,
)

CPU = torch.device("cpu")


class TestGroups:
    @given(st.lists(st.integers(1, 500_000), max_size=30))
    def test_every_clip_is_in_one_short_group_of_its_like(self, lengths):
        groups = similar_lengths(lengths)
        assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
        for group in groups:
            members = [lengths[index] for index in group]
            assert len(group) == 1 or max(members) * len(members) <= GROUP_SAMPLES
            assert max(members) <= GROUP_RATIO * min(members)

    def test_short_clips_come_together(self):
        assert similar_lengths([16_000] * 40) == [list(range(16)), list(range(16, 32)), list(range(32, 40))]


def test_mask():
    assert frame_mask(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_longest_first_puts_long_clips_in_a_leading_slice():
    assert longest_first([3, 9, 9, 1]) == [1, 2, 0, 3]
    assert longest_first([]) == []


def test_padding_is_zero_and_the_input_stays_untouched():
    clips = [noise(300, 1), noise(700, 2).astype(np.float64)[::-1], noise(1, 3)]
    before = [clip.copy() for clip in clips]
    wave_BN, lengths_B = pad_waveforms(clips, CPU)
    assert (wave_BN.shape, wave_BN.dtype, lengths_B.tolist()) == ((3, 700), torch.float32, [300, 700, 1])
    for row, clip, old in zip(wave_BN.numpy(), clips, before, strict=True):
        np.testing.assert_array_equal(row[: len(clip)], clip.astype(np.float32))
        assert not row[len(clip) :].any()
        np.testing.assert_array_equal(clip, old)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 99))
def test_clips_are_standardised_by_their_own_samples(lengths, seed):
    clips = [3 + 5 * np.random.default_rng((seed, place)).standard_normal(n) for place, n in enumerate(lengths)]
    wave_BN, lengths_B = pad_waveforms(clips, CPU)
    for row, clip in zip(standardize(wave_BN, lengths_B).numpy(), clips, strict=True):
        expected = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
        np.testing.assert_allclose(row[: len(clip)], expected, atol=2e-3)
        assert not row[len(clip) :].any()


def test_scaling_folds_into_a_layer_norm():
    torch.manual_seed(0)
    norm, feats_TD, mean, scale = nn.LayerNorm(6), torch.randn(9, 6), torch.randn(6), torch.rand(6) + 0.5
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    expected = (norm(feats_TD) - mean) / scale
    fold_scaling(norm, mean.double(), scale.double())
    torch.testing.assert_close(norm(feats_TD), expected, atol=1e-5, rtol=1e-5)
