"""Renderings of recordings, and what recognisers make of them."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.evaluate.speech.error_rates import ErrorCounts, ErrorRates, normalize_text
from syllablelm.evaluate.speech.rendering import BATCH, PredictedDurations
from syllablelm.evaluate.speech.resynthesis import RecognizerScores, compare_speech


def transcribe(waves):
    """Names the number of samples, after it has read everything."""
    waves = list(waves)
    return iter([{4: "four", 8: "eight"}.get(len(wave), "none") for wave in waves])


def test_every_rendering_is_recognised():
    renderings = {
        "original": lambda ids, waves: waves,
        "twice": lambda ids, waves: [np.tile(wave, 2) for wave in waves],
    }
    items = [("a", np.zeros(4, np.float32), "Four")]
    (row,) = compare_speech(items, renderings, {"r": transcribe}, normalize_text)
    assert row.transcripts == {"r": {"original": "four", "twice": "eight"}}
    assert row.counts["r"]["original"] == ErrorCounts(0, 1, 0, 4)
    assert row.counts["r"]["twice"].wer == 1.0


@pytest.mark.parametrize("count", [0, 1, 8, 19])
def test_recordings_keep_their_texts_whatever_the_batch(count):
    items = [(str(n), np.zeros(n + 1, np.float32), f"number {n}") for n in range(count)]
    batches = []

    def same(ids, waves):
        assert ids == [str(len(wave) - 1) for wave in waves]
        batches.append(len(waves))
        return waves

    def numbers(waves):
        return (f"Number {len(wave) - 1}" for wave in waves)

    renderings = {"one": same, "other": lambda ids, waves: [w[:1] for w in waves]}
    # One recogniser hears a wave at a time, the other everything first.
    ears = {"eager": lambda waves: numbers(list(waves)), "lazy": numbers}
    rows = list(compare_speech(iter(items), renderings, ears, normalize_text))
    assert [row.id for row in rows] == [item[0] for item in items]
    for name in ears:
        assert all(row.counts[name]["one"].wer == 0 for row in rows)
        assert [row.transcripts[name]["other"] for row in rows] == ["number 0"] * count
    # Rendered once for both.
    assert sum(batches) == count and max(batches, default=0) <= BATCH


def test_lengths_and_scores_are_read_back():
    durations = PredictedDurations(10.0, 9.0)
    assert durations.ratio == 0.9 and PredictedDurations(0.0, 0.0).ratio == 0
    assert PredictedDurations.from_dict(durations.to_dict()) == durations
    rates = ErrorRates.of([ErrorCounts(1, 4, 2, 20)], resamples=5, seed=0)
    scores = RecognizerScores(recognizer="r", original=rates, predicted_durations=rates)
    assert [*scores.renderings] == ["original", "predicted_durations"]
