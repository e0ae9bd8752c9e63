from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_models import SHAPE, noise, small_corpus
from syllablelm.data.audio import save_audio
from syllablelm.data.corpus import Manifest
from syllablelm.data.manifest import Recording
from syllablelm.encoders.hub import HubEncoder
from syllablelm.train.batches import CropPlan, WaveformStore

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
