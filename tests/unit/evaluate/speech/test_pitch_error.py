"""Pitch errors: known shifts, counts that add, and a slow reckoning of the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.speech.pitch_error import PitchCounts, contour, pitch_counts


def tone(hertz: np.ndarray | float, seconds: float = 1.0) -> np.ndarray:
    """A voice-like sound of ten harmonics, whose pitch may glide."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, round(16_000 * seconds))) / 16_000
    return sum(np.sin(k * phase) / k for k in range(1, 11)).astype(np.float32) / 4


def test_a_recording_against_itself():
    pitch = contour(load_audio(BUNDLED / "sample.flac"))
    counts = pitch_counts(pitch, pitch)
    assert counts.voiced == (pitch > 0).sum() > 100
    assert (counts.rmse, counts.offset, counts.gross_error, counts.voicing_error) == (0, 0, 0, 0)
    assert counts.correlation == pytest.approx(1)


@pytest.mark.parametrize(("semitones", "gross"), [(2.0, 0.0), (-3.0, 0.0), (5.0, 1.0)])
def test_a_shifted_tone(semitones: float, gross: float):
    glide = np.linspace(120, 200, 16_000)
    counts = pitch_counts(contour(tone(glide)), contour(tone(glide * 2 ** (semitones / 12))))
    assert counts.voiced > 90
    assert counts.rmse == pytest.approx(abs(semitones), abs=0.05)
    assert counts.offset == pytest.approx(semitones, abs=0.05)
    assert counts.gross_error == gross
    assert counts.correlation > 0.99


def test_level_changes_nothing():
    wave = load_audio(BUNDLED / "sample.flac")
    assert np.array_equal(contour(wave), contour(wave * 0.25))


def test_silence_against_a_tone():
    pitch = contour(tone(150.0))
    counts = pitch_counts(pitch, contour(np.zeros(16_000, np.float32)))
    assert counts.voicing_error == (pitch > 0).mean() > 0.9 and counts.voiced == 0
    assert all(math.isnan(value) for value in (counts.rmse, counts.offset, counts.gross_error, counts.correlation))
    assert math.isnan(PitchCounts().voicing_error)


def test_counts_of_recordings_by_a_slow_loop():
    rng = np.random.default_rng(0)
    pairs = []
    for size in (40, 7, 23):
        reference, other = (np.where(rng.random(size) < 0.7, rng.uniform(80, 350, size), 0) for _ in range(2))
        pairs.append((reference.astype(np.float32), other.astype(np.float32)))
    errors, gross, unequal, frames, products, squares = [], 0, 0, 0, 0.0, [0.0, 0.0]
    for reference, other in pairs:
        logs = []
        for a, b in zip(reference.tolist(), other.tolist(), strict=True):
            frames += 1
            unequal += (a > 0) != (b > 0)
            if a > 0 and b > 0:
                logs.append((12 * math.log2(a), 12 * math.log2(b)))
                gross += abs(b - a) > 0.2 * a
        errors += [y - x for x, y in logs]
        means = [sum(column) / len(logs) for column in zip(*logs, strict=True)]
        for x, y in logs:
            products += (x - means[0]) * (y - means[1])
            squares = [squares[0] + (x - means[0]) ** 2, squares[1] + (y - means[1]) ** 2]
    counts = sum(pitch_counts(*pair) for pair in pairs)
    assert isinstance(counts, PitchCounts)
    assert counts.voiced == len(errors) and counts.frames == frames
    assert counts.rmse == pytest.approx(math.sqrt(sum(error**2 for error in errors) / len(errors)))
    assert counts.offset == pytest.approx(sum(errors) / len(errors))
    assert counts.gross_error == gross / len(errors) and counts.voicing_error == unequal / frames
    assert counts.correlation == pytest.approx(products / math.sqrt(squares[0] * squares[1]))
