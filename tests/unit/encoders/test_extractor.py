"""The convolutional extractor: a clip's own statistics, and tiles that equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from helpers.random_encoders import make_model
from helpers.random_models import noise
from syllablelm.encoders import extractor
from syllablelm.encoders.extractor import clip_affine
from syllablelm.encoders.hub import HubEncoder

OTHER = noise(12_345, 3)


class TestExtractor:
    @given(st.lists(st.integers(10, 400), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
    def test_group_norm_by_the_waveform_equals_that_of_the_clip_alone(self, lengths, seed, bias):
        torch.manual_seed(seed)
        conv, norm = nn.Conv1d(1, 6, 10, stride=5, bias=bias), nn.GroupNorm(6, 6)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        clips = [torch.randn(1, 1, length) * 0.1 + 0.05 for length in lengths]
        wave_BN = torch.full((len(clips), max(lengths) + 7), 9.0)
        for row, clip in zip(wave_BN, clips, strict=True):
            row[: clip.shape[2]] = clip[0, 0]
        with torch.no_grad():
            scale_BC1, shift_BC1 = clip_affine(conv, norm, wave_BN, lengths)
            for row, clip in enumerate(clips):
                plain = F.conv1d(clip, conv.weight, stride=5)[0]
                expected = norm(conv(clip))[0] if clip.shape[2] >= 15 else norm.bias[:, None]
                torch.testing.assert_close(plain * scale_BC1[row] + shift_BC1[row], expected, atol=2e-4, rtol=1e-4)

    @pytest.mark.parametrize("family", ["hubert-group", "hubert-layer", "mhubert-25hz"])
    @pytest.mark.parametrize("tile", [1, 7, 1000])
    def test_tiles_equal_the_whole(self, family, tile, monkeypatch):
        model = make_model(family)
        with torch.no_grad():
            expected = model.feature_extractor(torch.from_numpy(OTHER)[None]).transpose(1, 2)
            encoder = HubEncoder(model)
            monkeypatch.setattr(extractor, "TILE_CPU", tile)
            found = encoder.convolve(torch.from_numpy(OTHER)[None], torch.tensor([len(OTHER)]))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    @given(st.lists(st.integers(0, 300), min_size=1, max_size=6).filter(any), st.sampled_from(["cpu", "cuda"]))
    def test_tiles_cover_every_frame_once(self, frames, device):
        seen = [np.zeros(count, dtype=int) for count in frames]
        for rows, start, stop in extractor._tiles(frames, device):
            assert start < stop
            for row in rows:
                seen[row][start:stop] += 1
        assert all((counts == 1).all() for counts in seen)
