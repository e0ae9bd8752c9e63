"""Source and filter: the sound has the envelope, the pitch and the level that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.vocoder.pitch import track_pitch
from syllablelm.vocoder.source import excite, synthesize_voice
from syllablelm.vocoder.spectrum import SpectrumSpec

SPEC = SpectrumSpec()
FRAMES = 120


def constant(value: float) -> np.ndarray:
    return np.full(FRAMES, value, dtype=np.float32)


@pytest.mark.parametrize("voicing", [0.0, 0.5, 1.0])
def test_the_source_has_unit_power(voicing):
    source = excite(constant(160.0), constant(voicing), SPEC)
    assert source.shape == (FRAMES * SPEC.hop,)
    assert float((source**2).mean()) == pytest.approx(1.0, rel=0.1)


def test_as_many_pulses_as_the_pitch_says():
    source = excite(constant(200.0), constant(1.0), SPEC)
    seconds = len(source) / SPEC.sample_rate
    assert (source > 4.0).sum() == pytest.approx(200 * seconds, abs=2)


def test_the_pitch_comes_back():
    cepstra = np.zeros((FRAMES, SPEC.order), dtype=np.float32)
    cepstra[:, 1] = 0.5
    found = track_pitch(synthesize_voice(cepstra, constant(140.0), constant(1.0), SPEC), FRAMES)[6:-6]
    assert np.median(found) == pytest.approx(140.0, rel=0.02)


@pytest.mark.parametrize("voicing", [0.0, 1.0])
def test_the_envelope_comes_back_with_its_level(voicing):
    rng = np.random.default_rng(0)
    row = rng.standard_normal(SPEC.order) / (1 + np.arange(SPEC.order)) ** 1.5
    cepstra = np.tile(row, (FRAMES, 1)).astype(np.float32)
    cepstra[:, 0] -= 3.0
    wave = synthesize_voice(cepstra, constant(180.0), constant(voicing), SPEC)
    again = SPEC.cepstrum(SPEC.transform(torch.from_numpy(wave)[None]))[0, 6:-6].numpy()
    # The first coefficient is the level in nepers: within 1 dB; the others show the shape.
    np.testing.assert_allclose(again.mean(0)[0], cepstra[0, 0], atol=0.115)
    assert np.abs(again.mean(0)[1:] - cepstra[0, 1:]).max() < 0.06


def test_repeats_by_seed():
    cepstra = np.zeros((FRAMES, SPEC.order), dtype=np.float32)
    first, again, other = (
        synthesize_voice(cepstra, constant(140.0), constant(0.2), SPEC, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_frames_no_sound():
    empty = np.zeros(0, dtype=np.float32)
    assert len(synthesize_voice(np.zeros((0, SPEC.order), dtype=np.float32), empty, empty, SPEC)) == 0
