"""Pitch of sounds whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from syllablelm.core.errors import InputError
from syllablelm.vocoder.pitch import track_pitch

RATE, FRAMES = 16_000, 100


def voice(hertz: float) -> np.ndarray:
    """A second of pulses through two resonances: what a vowel is."""
    turns = np.cumsum(np.full(RATE, hertz / RATE))
    pulses = (np.diff(np.floor(turns), prepend=0.0) > 0).astype(float)
    for centre, width in ((500.0, 80.0), (1500.0, 120.0)):
        radius = np.exp(-np.pi * width / RATE)
        pulses = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], pulses)
    return pulses * 0.1


@pytest.mark.parametrize("hertz", [90.0, 125.0, 180.0, 210.5, 260.0, 350.0])
def test_finds_the_pitch_of_a_vowel(hertz):
    found = track_pitch(voice(hertz), FRAMES)[5:-5]
    assert (found > 0).mean() > 0.95
    assert np.median(found[found > 0]) == pytest.approx(hertz, rel=0.01)
    assert np.abs(found[found > 0] / hertz - 1).max() < 0.05


def test_follows_a_glide():
    hertz = np.linspace(120, 240, RATE)
    wave = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE) + 0.1 * np.sin(4 * np.pi * np.cumsum(hertz) / RATE)
    found = track_pitch(wave, FRAMES)[5:-5]
    np.testing.assert_allclose(found, hertz[:: RATE // FRAMES][5:-5], rtol=0.03)


def test_noise_and_silence_have_none():
    noise = np.random.default_rng(0).standard_normal(RATE) * 0.1
    assert (track_pitch(noise, FRAMES) > 0).mean() < 0.05
    assert not track_pitch(np.zeros(RATE), FRAMES).any()


def test_quiet_hum_beside_loud_speech_is_no_voice():
    wave = np.concatenate([voice(150.0), voice(150.0) * 1e-3])
    found = track_pitch(wave, 200)
    assert (found[5:95] > 0).mean() > 0.9
    assert not found[106:].any()


def test_frames_asked_for_beyond_the_end_are_unvoiced():
    found = track_pitch(voice(150.0), 150)
    assert found.shape == (150,)
    assert not found[106:].any()


def test_no_frames():
    assert track_pitch(np.zeros(0), 0).shape == (0,)


@pytest.mark.parametrize("limits", [(0.0, 400.0), (400.0, 75.0), (75.0, 5000.0)])
def test_unusable_range(limits):
    with pytest.raises(InputError, match="cannot be tracked"):
        track_pitch(voice(150.0), FRAMES, low=limits[0], high=limits[1])
