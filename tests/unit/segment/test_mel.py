from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.segment import log_mel, mfcc
from syllablelm.segment.mel import frame_count, mel_centres, mel_filters

NOISE = np.random.default_rng(0).standard_normal(8000) * 0.1


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (8000, 24), (16_000, 49)]
)
def test_frame_count_is_the_encoders(samples, frames):
    wave = np.random.default_rng(0).standard_normal(samples)
    assert frame_count(samples) == frames
    assert log_mel(wave).shape == (frames, 40)
    assert mfcc(wave).shape == (frames, 39)


def test_log_mel_equals_the_definition():
    found = log_mel(NOISE, num_mels=20)
    filters = mel_filters(20, 512, 50.0, 7600.0)
    for t in (0, 7, 23):
        frame = NOISE[320 * t : 320 * t + 400] * np.hanning(400)
        power = np.array([abs(np.sum(frame * np.exp(-2j * np.pi * k * np.arange(400) / 512))) ** 2 for k in range(257)])
        np.testing.assert_allclose(found[t], np.log(power @ filters), rtol=1e-5)
    assert found.dtype == np.float32


def test_a_tone_lights_its_band():
    time = np.arange(8000) / 16_000
    for hertz in (300.0, 1000.0, 4000.0):
        band = log_mel(np.sin(2 * np.pi * hertz * time)).mean(axis=0).argmax()
        assert mel_centres(40, 50.0, 7600.0)[band] == pytest.approx(hertz, rel=0.1)


def test_filters_cover_the_band_evenly():
    filters = mel_filters(23, 512, 20.0, 8000.0)
    assert filters.shape == (257, 23) and filters.max() <= 1.0
    total = filters.sum(axis=1)
    inside = (np.linspace(0, 8000, 257) > 150) & (np.linspace(0, 8000, 257) < 7000)
    np.testing.assert_allclose(total[inside], 1.0, atol=1e-9)


def test_mfcc_equals_a_plain_computation():
    found = mfcc(NOISE, hop=160)
    assert found.shape == (48, 39)
    filters = mel_filters(23, 512, 20.0, 8000.0)
    rows = []
    for t in range(48):
        frame = NOISE[160 * t : 160 * t + 400]
        frame = frame - frame.mean()
        frame = np.array([frame[0] * (1 - 0.97)] + [frame[i] - 0.97 * frame[i - 1] for i in range(1, 400)])
        frame = frame * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
        logs = np.log(np.abs(np.fft.rfft(frame, 512)) ** 2 @ filters)
        row = []
        for q in range(13):
            value = np.sqrt((1 if q == 0 else 2) / 23) * np.sum(logs * np.cos(np.pi * q * (np.arange(23) + 0.5) / 23))
            row.append(value * (1 + 11 * np.sin(np.pi * q / 22)))
        rows.append(row)
    cepstra = np.array(rows)
    np.testing.assert_allclose(found[:, :13], cepstra, rtol=1e-4, atol=1e-4)
    clip = np.clip(np.arange(48)[:, None] + np.arange(-2, 3), 0, 47)
    first = np.einsum("tnd,n->td", cepstra[clip], np.arange(-2, 3) / 10.0)
    np.testing.assert_allclose(found[:, 13:26], first, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[:, 26:], np.einsum("tnd,n->td", first[clip], np.arange(-2, 3) / 10.0), atol=1e-3)


def test_long_recordings_are_framed_in_blocks_without_seams():
    wave = np.random.default_rng(1).standard_normal(5000 * 16 + 400)
    whole = log_mel(wave, hop=16)
    assert len(whole) == 5001
    np.testing.assert_allclose(whole[4090:4100], log_mel(wave[4090 * 16 :], hop=16)[:10], rtol=1e-5)


def test_silence_is_finite():
    assert np.isfinite(log_mel(np.zeros(1000))).all() and np.isfinite(mfcc(np.zeros(1000))).all()


def test_bad_inputs():
    with pytest.raises(InputError, match="1 axes"):
        log_mel(np.zeros((2, 1000)))
    with pytest.raises(InputError, match="NaN"):
        mfcc(np.full(1000, np.inf))
    with pytest.raises(InputError, match="mel bands need"):
        log_mel(np.zeros(1000), high=9000.0)
    with pytest.raises(InputError, match="mel bands need"):
        mfcc(np.zeros(1000), hop=0)
