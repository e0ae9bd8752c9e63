from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.random_models import noise
from syllablelm.core.errors import InputError
from syllablelm.train.batches import AugmentConfig, augment

ALWAYS = AugmentConfig(prob=1.0)


@given(st.integers(1, 3000), st.integers(0, 100))
def test_length_and_type_stay(num_samples, seed):
    wave = noise(num_samples)
    found = augment(wave, ALWAYS, np.random.default_rng(seed))
    assert found.shape == wave.shape and found.dtype == np.float32 and np.isfinite(found).all()


def test_probability_zero_is_identity():
    wave = noise(4000)
    np.testing.assert_array_equal(augment(wave, AugmentConfig(), np.random.default_rng(0)), wave)


def test_seeded_and_leaves_the_input_alone():
    wave = noise(4000)
    before = wave.copy()
    first, again, other = (augment(wave, ALWAYS, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3 and np.abs(first - wave).max() > 1e-3
    np.testing.assert_array_equal(wave, before)


def test_probability_is_a_share_of_crops():
    wave = noise(100)
    config = AugmentConfig(prob=0.5)
    same = [np.array_equal(augment(wave, config, np.random.default_rng(seed)), wave) for seed in range(3000)]
    assert np.mean(same) == pytest.approx(0.125, abs=0.02)  # none of three distortions


def test_time_stays():
    wave = np.zeros(8000, dtype=np.float32)
    wave[2000] = wave[6000] = 1.0
    for seed in range(20):
        found = np.abs(augment(wave, AugmentConfig(prob=1.0, snr_db=40.0), np.random.default_rng(seed)))
        assert sorted(np.argsort(found)[-2:]) == [2000, 6000]


def test_loudness_stays_within_bounds():
    wave = noise(8000)
    config = AugmentConfig(prob=1.0, gain_db=6.0, tilt_db=0.0, snr_db=80.0)
    gains = [
        20 * np.log10(np.std(augment(wave, config, np.random.default_rng(seed))) / np.std(wave)) for seed in range(50)
    ]
    assert -6.01 < min(gains) < -3 and 3 < max(gains) < 6.01


def test_noise_stays_below_the_speech():
    wave = noise(16_000)
    config = AugmentConfig(prob=1.0, gain_db=0.0, tilt_db=0.0, snr_db=5.0)
    ratios = []
    for seed in range(50):
        added = augment(wave, config, np.random.default_rng(seed)) - wave
        ratios.append(10 * np.log10(np.mean(wave**2) / np.mean(added**2)))
    assert 4.9 < min(ratios) < 10 and 25 < max(ratios) < 30.1


@pytest.mark.parametrize("num_samples", [0, 1, 2])
def test_silence_and_shortest(num_samples):
    wave = np.zeros(num_samples, dtype=np.float32)
    np.testing.assert_array_equal(augment(wave, ALWAYS, np.random.default_rng(0)), wave)


@pytest.mark.parametrize("options", [{"prob": 2.0}, {"telephone_prob": -0.1}, {"reverb_seconds": -1.0}])
def test_settings_out_of_range(options):
    with pytest.raises(InputError, match=next(iter(options))):
        AugmentConfig(**options)


@pytest.mark.parametrize("options", [{"reverb_seconds": 0.4}, {"telephone_prob": 1.0}])
def test_reverberation_and_telephone(options):
    wave = noise(8_000)
    found = augment(wave, AugmentConfig(prob=1.0, **options), np.random.default_rng(0))
    plain = augment(wave, AugmentConfig(prob=1.0), np.random.default_rng(0))
    assert found.shape == wave.shape and np.abs(found - plain).max() > 1e-3
