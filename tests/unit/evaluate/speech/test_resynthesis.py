"""Renderings of recordings, and what a recogniser makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.evaluate.speech.error_rates import ErrorCounts
from syllablelm.evaluate.speech.resynthesis import BATCH, compare_speech


def transcribe(waves):
    """Names the number of samples, after it has read everything."""
    waves = list(waves)
    return iter([{4: "four", 8: "eight"}.get(len(wave), "none") for wave in waves])


def test_every_rendering_is_recognised():
    renderings = {"original": lambda waves: waves, "twice": lambda waves: [np.tile(wave, 2) for wave in waves]}
    rows = list(compare_speech([("a", np.zeros(4, np.float32), "Four")], renderings, transcribe))
    assert (rows[0].transcripts["original"], rows[0].counts["original"]) == ("four", ErrorCounts(0, 1, 0, 4))
    assert rows[0].transcripts["twice"] == "eight"
    assert rows[0].counts["twice"].wer == 1.0


@pytest.mark.parametrize("count", [0, 1, 8, 19])
def test_recordings_keep_their_texts_whatever_the_batch(count):
    items = [(str(n), np.zeros(n + 1, np.float32), f"number {n}") for n in range(count)]
    batches = []

    def same(waves):
        batches.append(len(waves))
        return waves

    def numbers(waves):
        return (f"number {len(wave) - 1}" for wave in waves)

    rows = list(compare_speech(iter(items), {"one": same, "other": lambda waves: [w[:1] for w in waves]}, numbers))
    assert [row.id for row in rows] == [item[0] for item in items]
    assert all(row.counts["one"].wer == 0 for row in rows)
    assert [row.transcripts["other"] for row in rows] == ["number 0"] * count
    assert sum(batches) == count and max(batches, default=0) <= BATCH
