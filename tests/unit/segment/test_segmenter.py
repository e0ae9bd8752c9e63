from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.random_models import SLOW_SHAPE, noise, small_predictor
from helpers.segment_oracles import losspred_with_pauses
from syllablelm.data.vad import speech_frames
from syllablelm.segment import (
    boundary_strength,
    envelope,
    envelope_valleys,
    greedy_cosine_merge,
    log_mel,
    losspred_matrix,
    mincut,
    minsum,
    minsum_dynamic,
    norm_peaks,
    norm_threshold_mincut,
    relative_threshold,
    similarity_matrix,
    similarity_merge,
)
from syllablelm.segment.combined import combined_boundaries, feature_step, novelty, peak_boundaries
from syllablelm.segment.registry import METHODS
from syllablelm.segment.segmenter import (
    HUBERT_GRID,
    FrameGrid,
    Segmenter,
    count_segments,
    make_segmenter,
)

PREDICTOR = small_predictor()
WITH_GAPS = ("sdhubert", "sdhubert-relative", "sylber", "sylber-relative")
NAMES = tuple(name for name in METHODS if name not in WITH_GAPS)
OWN_COUNT = ("frames", "penalty", "released", "similarity-merge", "zerosyl")
EXACT = ("even", "mel", "similarity", "minsum", "losspred")
WAVE = noise(24_000, 5)
count_frames = HUBERT_GRID.num_frames


def segmenter(name, **options):
    needed = {"span": 6, "gap": 10, "delta": 0.01}
    return make_segmenter(name, encoder=PREDICTOR.encoder, predictor=PREDICTOR, **needed, **options)


@pytest.fixture
def slow_predictor():
    """The same with a frame in 40 ms."""
    return small_predictor(shape=SLOW_SHAPE)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


class TestEverySegmenter:
    def test_spans_the_recording(self, name):
        found = segmenter(name).cut(WAVE, 9)
        assert found.dtype == np.int32 and found[0] == 0 and found[-1] == count_frames(len(WAVE)) == 74
        assert (np.diff(found) > 0).all() and (len(found) - 1 <= 9 or name in OWN_COUNT)
        if name in EXACT:
            assert len(found) - 1 == 9

    def test_counts_beyond_the_feasible_are_clipped(self, name):
        for count in (-1, 0, 1, 10_000):
            found = segmenter(name).cut(WAVE[:4000], count)
            assert found[0] == 0 and found[-1] == 12 and (np.diff(found) > 0).all()
            if name in EXACT:
                assert len(found) - 1 == (12 if count == 10_000 else 1)

    def test_shortest_clips(self, name):
        for num_samples in (1, 399):
            assert segmenter(name).cut(WAVE[:num_samples], 3).tolist() == [0]
            found = segmenter(name)(WAVE[:num_samples], 3)
            assert len(found) == found.num_frames == 0
        for num_samples in (400, 720):
            frames = count_frames(num_samples)
            found = segmenter(name).cut(WAVE[:num_samples], 1)
            assert found.tolist() == (list(range(frames + 1)) if name in ("frames", "penalty") else [0, frames])

    def test_silence(self, name):
        found = segmenter(name).cut(np.zeros(8000, dtype=np.float32), 4)
        assert found[0] == 0 and found[-1] == 24

    def test_leaves_the_waveform_alone(self, name):
        wave = WAVE.copy()
        segmenter(name)(wave, 9)
        np.testing.assert_array_equal(wave, WAVE)


class TestWithGaps:
    @pytest.mark.parametrize("name", WITH_GAPS)
    def test_pairs(self, name):
        for num_samples in (1, 399, 400, 720, 24_000):
            wave = WAVE[:num_samples]
            found = segmenter(name).cut(wave, 9)
            assert found.dtype == np.int32 and found.ndim == 2 and found.shape[1] == 2
            segments = segmenter(name)(wave, 9)  # checks order and bounds
            assert segments.num_frames == count_frames(num_samples)
            np.testing.assert_array_equal(np.stack([segments.start, segments.end], axis=1), found)

    def test_boundaries_as_a_segmentation(self):
        segments = Segmenter(FrameGrid(160, 160, 8000), lambda wave, count: np.array([0, 3, 7]))(WAVE[:1120], 2)
        assert segments.boundaries.tolist() == [0, 3, 7] and segments.num_frames == 7
        assert (segments.hop, segments.sample_rate, segments.duration) == (160, 8000, 0.14)

    def test_silence_may_be_all_there_is(self):
        found = Segmenter(HUBERT_GRID, lambda wave, count: np.zeros((0, 2), dtype=np.int32))(WAVE[:8000], 2)
        assert len(found) == 0 and found.num_frames == 24


class TestWhatTheyAre:
    def check(self, name, expected):
        np.testing.assert_array_equal(segmenter(name, max_length=20).cut(WAVE, 9), expected)

    def test_even(self):
        assert segmenter("even").cut(WAVE[:4000], 4).tolist() == [0, 3, 6, 9, 12]

    def test_acoustic(self):
        self.check("envelope", envelope_valleys(envelope(WAVE), 9))
        self.check("strength", envelope_valleys(-boundary_strength(WAVE), 9))
        self.check("mel", minsum(log_mel(WAVE), 9, max_length=20))

    def test_features(self):
        feats = PREDICTOR.encoder.encode([WAVE])[0]
        self.check("minsum", minsum(feats, 9, max_length=20))
        self.check("similarity", mincut(similarity_matrix(feats), 9, max_length=20))
        self.check("peaks", peak_boundaries(feats, 9))
        self.check("refined", combined_boundaries(feature_step(feats), boundary_strength(WAVE), 9))
        self.check("released", minsum_dynamic(feats, 0.01, max_length=20))
        self.check("frames", np.arange(len(feats) + 1))

    def test_rivals(self):
        feats = PREDICTOR.encoder.encode([WAVE])[0]
        level = relative_threshold(feats)
        self.check("similarity-merge", similarity_merge(feats))
        self.check("zerosyl", norm_peaks(feats))
        self.check("sdhubert", norm_threshold_mincut(feats))
        self.check("sdhubert-relative", norm_threshold_mincut(feats, threshold=level))
        self.check("sylber", greedy_cosine_merge(feats))
        self.check("sylber-relative", greedy_cosine_merge(feats, threshold=level))

    def test_features_and_norms_of_two_layers(self):
        clip = PREDICTOR.encoder.encode([WAVE], [1, 2])[0]
        norms = np.linalg.norm(clip[2].astype(np.float64), axis=1)
        found = segmenter("sdhubert-relative", feature_layer=1).cut(WAVE, 9)
        expected = norm_threshold_mincut(clip[1], norms=norms, threshold=relative_threshold(clip[2]))
        np.testing.assert_array_equal(found, expected)

    def test_loss_prediction(self):
        matrix = losspred_matrix(PREDICTOR, WAVE, span=6, gap=10)
        self.check("losspred", mincut(matrix, 9, max_length=20))
        self.check("combined", combined_boundaries(novelty(matrix), boundary_strength(WAVE), 9))

    def test_longest_group(self):
        for name in EXACT:
            found = segmenter(name, max_length=10).cut(WAVE, 2)
            assert len(found) - 1 == 8
            if name != "even":
                assert np.diff(found).max() <= 10


class TestAnotherFrameRate:
    """A 25 Hz encoder: every time in seconds, whatever the frames are."""

    TONES = np.concatenate(
        [np.sin(2 * np.pi * pitch * np.arange(8000) / 16_000) for pitch in (300, 900, 500, 1500, 250, 700)]
    ).astype(np.float32)

    @pytest.mark.parametrize("name", METHODS)
    def test_frames_are_those_of_the_encoder(self, slow_predictor, name):
        needed = {"encoder": slow_predictor.encoder, "predictor": slow_predictor}
        alone = name in ("even", "frames", "envelope", "strength", "mel")
        sizes = (0, 639, 640, 720, 1500, 16_000, 16_079, 16_080, 24_000)
        for pad, num_samples in [(0, size) for size in sizes] + [(40, size) for size in sizes]:
            slow_predictor.encoder.set_pad(pad)
            made = make_segmenter(name, **needed, span=6, gap=10, delta=0.01)
            found = made(WAVE[:num_samples], 3)
            assert found.hop == made.grid.hop == (320 if alone else 640)
            frames = count_frames(num_samples) if alone else slow_predictor.encoder.num_frames(num_samples)
            assert found.num_frames == made.grid.num_frames(num_samples) == frames
            if frames and name not in WITH_GAPS:
                assert found.boundaries[0] == 0 and found.boundaries[-1] == frames

    @pytest.mark.parametrize("name", ["similarity", "minsum", "peaks", "refined"])
    def test_changes_are_found_when_they_happen(self, slow_predictor, name):
        found = make_segmenter(name, encoder=slow_predictor.encoder)(self.TONES, 6)
        assert len(found) == 6
        # Random weights see some changes twice and others not at all, but see none where there is none.
        assert np.abs(found.seconds[1:, :1] - 0.5 * np.arange(1, 6)).min(axis=1).max() <= 0.121
        assert found.seconds[-1, 0] > 2.3

    def test_segments_per_second(self, slow_predictor):
        slow = make_segmenter("minsum", encoder=slow_predictor.encoder)
        for num_samples in (800, 16_000, 160_000):
            wave = np.zeros(num_samples, dtype=np.float32)
            frames = slow_predictor.encoder.num_frames(num_samples)
            assert slow.count_segments(wave, 6.25) == max(1, round(6.25 * frames / 25))
        assert slow.count_segments(wave, 6.25) == make_segmenter("even").count_segments(wave, 6.25) == 62

    def test_other_systems_cut_a_segment_in_a_fifth_of_a_second(self, slow_predictor):
        feats = slow_predictor.encoder.encode([WAVE])[0]
        found = make_segmenter("similarity-merge", encoder=slow_predictor.encoder)(WAVE, 1)
        assert found.boundaries.tolist() == similarity_merge(feats, frames_per_segment=5.0).tolist()
        level = relative_threshold(feats)
        pairs = make_segmenter("sdhubert-relative", encoder=slow_predictor.encoder).cut(WAVE, 1)
        expected = norm_threshold_mincut(feats, threshold=level, frames_per_segment=5.0)
        np.testing.assert_array_equal(pairs, expected)


class TestCounts:
    @given(st.integers(0, 100_000))
    def test_frames_are_those_of_the_encoder(self, num_samples):
        assert FrameGrid.of(PREDICTOR.encoder) == HUBERT_GRID
        assert count_frames(num_samples) == PREDICTOR.encoder.num_frames(num_samples)

    def test_segments(self):
        assert count_segments(500, 6.25, frame_rate=50.0) == 62  # 10 s
        assert count_segments(250, 6.25, frame_rate=25.0) == 62
        assert count_segments(500, 5.0, frame_rate=50.0) == 50
        assert count_segments(500, 0.1, frame_rate=50.0) == 10  # segments of at most 50 frames
        assert count_segments(500, 0.1, frame_rate=50.0, max_length=500) == 1
        assert count_segments(3, 1000.0, frame_rate=50.0) == 3
        assert count_segments(0, 6.25, frame_rate=50.0) == 0
        assert count_segments(1, 6.25, frame_rate=50.0) == 1


class TestPauses:
    """LossPred of recordings with pauses, which noise and digital silence make certain."""

    @staticmethod
    def recording(*seconds: float) -> np.ndarray:
        """Silence and noise in turns."""
        pieces = [noise(round(16_000 * length), 5) * (index % 2) for index, length in enumerate(seconds)]
        return np.concatenate(pieces).astype(np.float32)

    @pytest.mark.parametrize("vad", ["energy", "none"])
    @pytest.mark.parametrize("shape", [None, SLOW_SHAPE])
    @pytest.mark.parametrize(
        ("seconds", "rate"),
        [
            ((0.6, 1.5, 2.3, 1.0, 0.5), 6.25),
            ((1.4, 0.5, 0.2), 6.25),
            ((0.0, 1.5, 0.4, 0.9), 4.3),
            ((0.5, 0.6, 4.0), 9.0),
        ],
    )
    def test_rate_and_longest_segment_are_kept(self, seconds, rate, shape, vad):
        predictor = small_predictor() if shape is None else small_predictor(shape=shape)
        wave = self.recording(*seconds)
        method = make_segmenter("losspred", predictor=predictor, span=6, gap=10, max_length=20, vad=vad)
        count = method.count_segments(wave, rate, 20)
        found = method(wave, count).boundaries
        hop, longest = predictor.encoder.hop, np.diff(found).max()
        assert len(found) == count + 1 and found[0] == 0 and found[-1] == predictor.encoder.num_frames(len(wave))
        assert longest <= 20
        is_speech = speech_frames(wave, found[-1], hop, method=vad)
        assert found.tolist() == losspred_with_pauses(predictor, wave, is_speech, count, 20, span=6, gap=10)

    def test_pauses_are_segments(self, slow_predictor):
        wave = self.recording(1.0, 1.5, 1.5, 1.5, 0.5)
        found = make_segmenter("losspred", predictor=slow_predictor, span=6, gap=10)(wave, 30)
        assert len(found) == 30 and found.hop == 640
        for edge in (1.0, 2.5, 4.0, 5.5):
            assert np.abs(found.boundaries * 0.04 - edge).min() <= 0.121
        for begin, end in ((0.1, 0.9), (2.65, 3.85), (5.65, 5.9)):
            assert not ((found.boundaries * 0.04 > begin) & (found.boundaries * 0.04 < end)).any()

    def test_silence_and_recordings_without_frames(self):
        for num_samples, frames in ((0, 0), (300, 0), (400, 1), (16_000, 49)):
            found = segmenter("losspred")(np.zeros(num_samples, dtype=np.float32), 4)
            assert len(found) == min(frames, 4) and found.num_frames == frames
