"""Acoustic units: what they are made of, and the file that says so."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.base import FrameEncoder
from syllablelm.segment.mel import mfcc
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, NUM_CEPSTRA, MfccEncoder, load_acoustic


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def test_is_an_encoder():
    encoder = MfccEncoder()
    assert isinstance(encoder, FrameEncoder)
    assert [encoder.num_frames(n) for n in (399, 400, 719, 720)] == [0, 1, 1, 2]


def test_features_are_the_cepstra_standardised_over_the_clip():
    wave = noise(16_000)
    feats = MfccEncoder().encode([wave])[0]
    cepstra = mfcc(wave)[:, :NUM_CEPSTRA]
    assert feats.shape == (49, NUM_CEPSTRA) and feats.dtype == np.float32
    np.testing.assert_allclose(feats, (cepstra - cepstra.mean(0)) / cepstra.std(0), rtol=1e-4, atol=1e-4)


def test_batched_is_alone_and_loudness_does_not_matter():
    short, long = noise(8_000, 1), noise(24_000, 2)
    encoder = MfccEncoder()
    both = encoder.encode([short, long])
    np.testing.assert_array_equal(both[0], encoder.encode([short])[0])
    np.testing.assert_allclose(encoder.encode([long * 0.25])[0], both[1], atol=1e-2)


def test_silence_stays_silent():
    assert np.abs(MfccEncoder().encode([np.zeros(16_000, dtype=np.float32)])[0]).max() < 1e-2


def test_there_are_no_layers():
    with pytest.raises(InputError, match="no layers"):
        MfccEncoder().encode([noise(8_000)], layers=[1])


def test_opens_centres_of_mfccs(tmp_path):
    centres = np.random.default_rng(0).standard_normal((7, NUM_CEPSTRA)).astype(np.float32)
    save_file({"centres": centres}, tmp_path / ACOUSTIC_FILE, metadata={"source": "mfcc", "layer": "1"})
    wave = noise(16_000)
    seg = load_acoustic(tmp_path).encode(wave)
    feats = MfccEncoder().encode([wave])[0]
    nearest = ((feats[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert seg.unit is not None
    np.testing.assert_array_equal(np.repeat(seg.unit, seg.end - seg.start), nearest)


def test_centres_of_something_else(tmp_path):
    save_file(
        {"centres": np.zeros((2, 3), dtype=np.float32)},
        tmp_path / ACOUSTIC_FILE,
        metadata={"source": "x", "layer": "1"},
    )
    with pytest.raises(FormatError, match="'x'"):
        load_acoustic(tmp_path)
