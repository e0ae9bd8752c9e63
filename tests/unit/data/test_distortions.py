"""Distortions: lengths, times of events, levels, and what each is for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.data.distortions import (
    Waveform,
    _aligned,
    add_noise,
    delay,
    equalize,
    gain,
    mp3,
    pitch,
    reverberate,
    telephone,
    white_noise,
)

RATE = 16_000
ONSETS = np.arange(0.3, 3.6, 0.37)
BURST = 0.1


def bursts(hertz: float) -> Waveform:
    """Tones of a tenth of a second with harmonics, at known times, in silence."""
    wave = np.zeros(4 * RATE)
    times = np.arange(round(BURST * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * k * times) / k for k in (1, 2, 3, 4))
    for onset in ONSETS:
        first = round(onset * RATE)
        wave[first : first + len(times)] += 0.2 * tone
    return wave.astype(np.float32)


def event_times(wave: Waveform, level: float = 0.05) -> np.ndarray:
    """(num_events, 2) first and last moment at which each burst is loud, in seconds."""
    found = []
    for onset in ONSETS:
        first = round((onset - 0.05) * RATE)
        loud = first + np.flatnonzero(np.abs(wave[first : first + round((BURST + 0.1) * RATE)]) > level)
        found.append((loud[0] / RATE, loud[-1] / RATE))
    return np.array(found)


TIMED: dict[str, tuple[Callable[[Waveform], Waveform], float]] = {
    "gain": (lambda wave: gain(wave, 3.0), 0.001),
    "mp3": (mp3, 0.001),
    "telephone": (telephone, 0.001),
    "pitch up": (lambda wave: pitch(wave, 2.0), 0.005),
    "pitch down": (lambda wave: pitch(wave, -2.0), 0.005),
}


@pytest.mark.parametrize("hertz", [110.0, 160.0, 230.0, 440.0])
@pytest.mark.parametrize("name", TIMED)
def test_events_keep_their_times(name: str, hertz: float) -> None:
    distort, tolerance = TIMED[name]
    wave = bursts(hertz)
    distorted = distort(wave)
    assert (distorted.shape, distorted.dtype) == (wave.shape, np.float32)
    if name == "telephone" and hertz < 300:
        # Most of the tone is outside the band; what is left rings at the filter's edge.
        return
    # A period at most passes before a tone is loud.
    np.testing.assert_allclose(event_times(distorted), event_times(wave), atol=tolerance, rtol=0)


@pytest.mark.parametrize("shift", [0, 7, 529, 1105, -40])
def test_the_codecs_delay_is_removed_to_the_sample(shift: int) -> None:
    wave = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    moved = np.concatenate([np.zeros(shift, dtype=np.float32), wave]) if shift >= 0 else wave[-shift:]
    back = _aligned(moved, wave, 3_000)
    assert len(back) == len(wave)
    first = max(0, -shift)
    np.testing.assert_array_equal(back[first:], wave[first:])


@pytest.mark.parametrize("semitones", [2.0, -2.0])
def test_pitch_moves_the_frequency_and_not_the_duration(semitones: float) -> None:
    times = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 200.0 * times).astype(np.float32)
    shifted = pitch(tone, semitones)
    assert len(shifted) == len(tone)
    inner = shifted[4_000:28_000] * np.hanning(24_000)
    peak = np.abs(np.fft.rfft(inner, 8 * RATE)).argmax() / 8
    assert peak == pytest.approx(200.0 * 2 ** (semitones / 12), rel=0.01)
    # Overlapping stretches that did not fit would cancel each other.
    assert np.sqrt(np.mean(shifted[4_000:28_000] ** 2)) == pytest.approx(np.sqrt(0.5), rel=0.05)


@given(st.floats(-20, 20), st.integers(0, 99))
def test_noise_has_the_ratio_that_was_asked_for(snr: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wave = (0.1 * rng.standard_normal(4_000)).astype(np.float32)
    noise = white_noise(wave, snr, rng).astype(np.float64) - wave
    assert 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) / np.mean(noise**2)) == pytest.approx(snr, abs=0.05)


def test_noise_on_silence_is_silence() -> None:
    silence = np.zeros(100, dtype=np.float32)
    assert not add_noise(silence, np.ones(100, dtype=np.float32), 10.0).any()


def test_telephone_keeps_the_band_and_nothing_else() -> None:
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    power = np.abs(np.fft.rfft(telephone(wave))) ** 2
    inside = power[400:3_300].mean()
    assert power[4_100:].mean() < 1e-6 * inside
    assert power[:250].mean() < 0.02 * inside


def test_reverberation_keeps_the_direct_sound_and_decays() -> None:
    wave = np.zeros(RATE, dtype=np.float32)
    wave[100] = 1.0
    wet = reverberate(wave, 0.4, np.random.default_rng(0))
    assert np.abs(wet).argmax() == 100 and wet[100] == pytest.approx(np.sqrt(0.5), abs=1e-4)
    energy = [np.sum(wet[101 + first : 101 + first + 640] ** 2) for first in (0, 1_600, 3_200)]
    # 60 dB in 0.4 s are 15 dB in each tenth of a second.
    assert 10 * np.log10(energy[0] / energy[1]) == pytest.approx(15, abs=2)
    assert 10 * np.log10(energy[1] / energy[2]) == pytest.approx(15, abs=2)


def test_delay_and_gain_and_a_flat_equalizer() -> None:
    wave = np.random.default_rng(0).standard_normal(1_000).astype(np.float32)
    late = delay(wave, 0.01)
    assert not late[:160].any()
    np.testing.assert_array_equal(late[160:], wave)
    np.testing.assert_allclose(gain(wave, 20.0), 10 * wave, rtol=1e-6)
    np.testing.assert_allclose(equalize(wave, np.zeros(5)), wave, atol=1e-5)


@pytest.mark.parametrize("distort", [telephone, mp3, lambda wave: pitch(wave, 2.0)], ids=["telephone", "mp3", "pitch"])
@pytest.mark.parametrize("length", [0, 1, 100, 700])
def test_short_recordings_keep_their_length(distort: Callable[[Waveform], Waveform], length: int) -> None:
    wave = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    distorted = distort(wave)
    assert len(distorted) == length and np.isfinite(distorted).all()
