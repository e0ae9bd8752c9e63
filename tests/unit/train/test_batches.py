from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_models import SHAPE, noise, small_corpus
from syllablelm.core.errors import InputError
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import Manifest
from syllablelm.data.manifest import Recording
from syllablelm.encoders.hub import HubEncoder
from syllablelm.train.batches import AugmentConfig, CropPlan, WaveformStore, augment

SECONDS = [1.0, 2.5, 7.3, 4.0, 0.7, 12.0, 3.3, 2.2, 9.9]


def plan(seconds=SECONDS, crop_seconds=3.0, batch_seconds=8.0, seed=0) -> CropPlan:
    return CropPlan(seconds, crop_seconds=crop_seconds, batch_seconds=batch_seconds, hop=320, seed=seed)


def epoch_batches(made: CropPlan, epoch: int) -> list[int]:
    number = 0
    while made.epoch_of(number)[0] < epoch:
        number += 1
    numbers = []
    while made.epoch_of(number)[0] == epoch:
        numbers.append(number)
        number += 1
    return numbers


class TestCropPlan:
    def test_a_batch_depends_on_its_number_only(self):
        forwards, backwards = plan(), plan()
        expected = [forwards.batch(n) for n in range(40)]
        assert [backwards.batch(n) for n in reversed(range(40))] == expected[::-1]
        assert [plan().batch(n) for n in (39, 3)] == [expected[39], expected[3]]
        assert [plan(seed=1).batch(n) for n in range(40)] != expected

    @given(st.lists(st.floats(0.1, 20.0), min_size=1, max_size=12), st.integers(0, 50))
    @settings(max_examples=30)
    def test_every_epoch_holds_every_recording_once(self, seconds, seed):
        made = plan(seconds, seed=seed)
        for epoch in range(3):
            numbers = epoch_batches(made, epoch)
            crops = [crop for number in numbers for crop in made.batch(number)]
            assert sorted(crop.index for crop in crops) == list(range(len(seconds)))
            assert [made.epoch_of(number)[1] for number in numbers] == list(range(len(numbers)))

    def test_epochs_differ(self):
        made = plan()
        first, second = ([made.batch(n) for n in epoch_batches(made, epoch)] for epoch in (0, 1))
        assert [[c.index for c in crops] for crops in first] != [[c.index for c in crops] for crops in second]
        starts = [{c.index: c.start for crops in epoch for c in crops} for epoch in (first, second)]
        assert starts[0] != starts[1]

    def test_batches_hold_what_was_asked(self):
        made = plan()
        for number in range(30):
            lengths = [min(SECONDS[crop.index], 3.0) for crop in made.batch(number)]
            assert len(lengths) == 1 or len(lengths) * max(lengths) <= 8.0

    def test_seeds_of_items_are_their_own(self):
        made = plan()
        seeds = [crop.seed for number in range(40) for crop in made.batch(number)]
        assert len(set(seeds)) == len(seeds)

    def test_crops_begin_at_frames_and_lie_inside(self):
        made = plan()
        starts = set()
        for number in range(200):
            for crop in made.batch(number):
                num_samples = int(SECONDS[crop.index] * 16_000)
                wave = np.arange(num_samples, dtype=np.float32)
                cut = made.cut(wave, crop)
                assert len(cut) == min(num_samples, 48_000)
                assert cut[0] == 320 * crop.start
                if crop.index == 5:
                    starts.add(crop.start)
        # Twelve seconds leave 451 places for three.
        assert len(starts) > 20 and max(starts) > 380 and min(starts) < 70

    def test_frames_of_a_crop_are_frames_of_the_recording(self):
        made, encoder = plan(), HubEncoder(SHAPE.build())
        for number in range(100):
            for crop in made.batch(number):
                num_samples = int(SECONDS[crop.index] * 16_000)
                count = encoder.num_frames(len(made.cut(np.zeros(num_samples, dtype=np.float32), crop)))
                assert crop.start + count <= encoder.num_frames(num_samples)

    def test_convolutions_hear_the_same_in_a_crop(self):
        encoder = HubEncoder(SHAPE.build(), 0)
        wave = noise(int(SECONDS[5] * 16_000))
        made = plan()
        crop = next(c for n in range(20) for c in made.batch(n) if c.index == 5)
        import torch

        def convolve(samples):
            with torch.no_grad():
                return encoder.convolve(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))[0].numpy()

        cut = convolve(made.cut(wave, crop))
        np.testing.assert_allclose(cut, convolve(wave)[crop.start : crop.start + len(cut)], atol=1e-4)


class TestWaveformStore:
    def test_samples_are_those_of_the_files(self, tmp_path):
        manifest = small_corpus(tmp_path, [5_000, 7_000])
        store = WaveformStore(manifest)
        assert len(store) == 2
        for index in (1, 0, 1):
            wave = store[index]
            assert wave.dtype == np.float32
            np.testing.assert_array_equal(wave, manifest[index].load())

    def test_decoded_once_within_the_budget(self, tmp_path):
        store = WaveformStore(small_corpus(tmp_path, [5_000, 7_000]), budget_bytes=12_000)
        first, second = store[0], store[1]
        for recording in store.manifest:
            recording.path.unlink()
        np.testing.assert_array_equal(store[0], first)
        with pytest.raises(Exception, match=r"r1\.wav"):
            store[1]
        assert len(second) == 7_000

    def test_samples_do_not_depend_on_what_was_kept(self, tmp_path):
        # Resampled to 16 kHz, so not whole 16-bit values, and beyond full scale at places.
        manifest = small_corpus(tmp_path, [9_000], sample_rate=22_050)
        loud = 0.99 * np.sign(np.sin(np.arange(9_000) * 0.3)).astype(np.float32)
        save_audio(tmp_path / "loud.wav", loud, sample_rate=22_050)
        manifest = Manifest([*manifest, Recording("loud", tmp_path / "loud.wav", 9_000, 22_050)])
        kept, decoded = WaveformStore(manifest), WaveformStore(manifest, budget_bytes=0)
        for index in (0, 1, 0, 1):
            np.testing.assert_array_equal(kept[index], decoded[index])
            np.testing.assert_allclose(kept[index], np.clip(manifest[index].load(), -1, 1), atol=4e-5)

    def test_a_caller_may_change_its_copy(self, tmp_path):
        store = WaveformStore(small_corpus(tmp_path, [5_000]))
        expected = store[0].copy()
        store[0][:] = 0.0
        np.testing.assert_array_equal(store[0], expected)


# Augmentation


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
