from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.segment import boundary_strength, envelope, envelope_valleys, even_boundaries

RATE = 16_000


def bursts(spans, seconds, seed=0, noise=1e-3):
    """Buzzes of a 120 Hz voice with a vowel-like band, smoothly gated, over faint noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * h * time) / (1 + abs(120 * h - 700) / 300) for h in range(1, 30))
    gate = np.zeros_like(time)
    for start, end in spans:
        inside = (time >= start) & (time < end)
        gate[inside] += np.sin(np.pi * (time[inside] - start) / (end - start)) ** 0.5
    return 0.1 * voice * gate + noise * np.random.default_rng(seed).standard_normal(len(time))


class TestEvenBoundaries:
    @given(st.integers(1, 400), st.data())
    def test_even(self, num_frames, data):
        count = data.draw(st.integers(1, num_frames))
        edges = even_boundaries(num_frames, count)
        lengths = np.diff(edges)
        assert edges.dtype == np.int32 and edges[0] == 0 and edges[-1] == num_frames and len(lengths) == count
        assert lengths.min() >= 1 and lengths.max() - lengths.min() <= 1

    def test_edges(self):
        assert even_boundaries(0, 0).tolist() == [0]
        for num_frames, count in [(0, 1), (3, 0), (3, 4)]:
            with pytest.raises(InputError, match="cannot be cut"):
                even_boundaries(num_frames, count)


class TestEnvelope:
    @pytest.mark.parametrize("curve", [envelope, boundary_strength])
    @pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (16_000, 49)])
    def test_one_value_per_encoder_frame(self, curve, samples, frames):
        noise = np.random.default_rng(0).standard_normal(samples)
        found = curve(noise)
        assert found.shape == (frames,) and np.isfinite(found).all()
        np.testing.assert_array_equal(curve(np.zeros(samples)), np.full(frames, curve(np.zeros(400))[0]))

    @pytest.mark.parametrize("curve", [envelope, boundary_strength])
    def test_loudness_does_not_matter(self, curve):
        wave = bursts([(0.1, 0.3), (0.3, 0.6)], 0.8)
        np.testing.assert_allclose(curve(7.0 * wave), curve(wave), atol=1e-6)

    def test_valleys_lie_between_bursts(self):
        joints = [0.30, 0.52, 0.80, 1.00]
        wave = bursts([(0.1, 0.3), (0.3, 0.52), (0.52, 0.8), (0.8, 1.0), (1.0, 1.3)], 1.4)
        for curve in (envelope(wave), -boundary_strength(wave)):
            edges = envelope_valleys(curve, 7)
            nearest = [np.abs(edges * 0.02 - joint).min() for joint in joints]
            assert max(nearest) <= 0.03

    def test_strength_marks_both_ends_of_a_pause(self):
        wave = bursts([(0.2, 0.5), (1.1, 1.4)], 1.6)
        pause = boundary_strength(wave)[22:60]  # 0.44 to 1.2 s
        assert pause[:8].max() > pause[10:24].max() < pause[-12:].max()  # the middle is lower than both ends
        edges = envelope_valleys(-boundary_strength(wave), 9) * 0.02
        assert np.abs(edges - 0.5).min() <= 0.03 and np.abs(edges - 1.1).min() <= 0.07

    def test_other_bands_are_removed(self):
        time = np.arange(RATE) / RATE
        wave = bursts([(0.1, 0.4), (0.5, 0.9)], 1.0)
        hum = wave + np.sin(2 * np.pi * 50 * time)
        assert np.corrcoef(envelope(hum), envelope(wave))[0, 1] > 0.95
        assert np.corrcoef(envelope(hum, low=20.0), envelope(wave))[0, 1] < 0.8

    def test_bad_inputs(self):
        for settings in ({"low": 4000.0}, {"high": 9000.0}, {"hop": 0}, {"smoothing": 0.0}, {"floor": 0.0}):
            with pytest.raises(InputError, match="envelope needs"):
                envelope(np.zeros(1000), **settings)
        with pytest.raises(InputError, match="1 axes"):
            envelope(np.zeros((2, 1000)))
        with pytest.raises(InputError, match="NaN"):
            envelope(np.full(1000, np.nan))
        with pytest.raises(InputError, match="even hop"):
            boundary_strength(np.zeros(1000), hop=161)


class TestEnvelopeValleys:
    def test_most_prominent_first(self):
        curve = np.array([5, 1, 5, 4, 5, 2, 5, 3, 5, 5.0])
        assert envelope_valleys(curve, 1).tolist() == [0, 10]
        assert envelope_valleys(curve, 2).tolist() == [0, 1, 10]
        assert envelope_valleys(curve, 3).tolist() == [0, 1, 5, 10]
        assert envelope_valleys(curve, 4).tolist() == [0, 1, 5, 7, 10]

    def test_fewer_valleys_than_wanted(self):
        assert envelope_valleys(np.array([3.0, 1.0, 3.0, 4.0, 4.0]), 5).tolist() == [0, 1, 5]
        assert envelope_valleys(np.zeros(6), 3).tolist() == [0, 6]

    def test_edges(self):
        assert envelope_valleys(np.zeros(0), 0).tolist() == [0]
        assert envelope_valleys(np.zeros(1), 1).dtype == np.int32
        for curve, count in [(np.zeros(0), 1), (np.zeros(3), 0), (np.zeros(3), 4)]:
            with pytest.raises(InputError, match="cannot be cut"):
                envelope_valleys(curve, count)
