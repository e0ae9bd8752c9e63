"""Error rates by hand, their order, and the recognisers' seams."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from syllablelm.core.errors import FormatError, InputError, MissingDependencyError
from syllablelm.core.models import BUNDLED
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.speech.recognizers import CTCRecognizer, PocketsphinxRecognizer, load_recognizer
from syllablelm.evaluate.speech.resynthesis import (
    SPOKEN_TOGETHER,
    ErrorCounts,
    compare_speech,
    error_counts,
    normalize_text,
)


def slow_distance(a: list, b: list) -> int:
    """Levenshtein distance by its definition."""
    table = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(table[j] + 1, row[-1] + 1, table[j - 1] + (x != y)))
        table = row
    return table[-1]


@pytest.mark.parametrize(
    ("reference", "heard"),
    [
        ("the cat sat on the mat", "the cat sat on the mat"),
        ("the cat sat on the mat", "a cat sat the big mat"),
        ("one two three", ""),
        ("one", "one two three four"),
        ("Don't stop, NOW!", "don't stop now"),
    ],
)
def test_counts_are_edit_distances(reference, heard):
    counts = error_counts(reference, heard)
    plain, other = normalize_text(reference), normalize_text(heard)
    assert (counts.word_edits, counts.words) == (slow_distance(plain.split(), other.split()), len(plain.split()))
    assert (counts.char_edits, counts.chars) == (slow_distance(list(plain), list(other)), len(plain))


def test_random_texts_against_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (" ".join(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(2))
        assert error_counts(a, b).word_edits == slow_distance(a.split(), b.split())


def test_counts_add_and_rates_are_of_sums():
    total = ErrorCounts(1, 4, 2, 20) + ErrorCounts(3, 6, 8, 30)
    assert (total.wer, total.cer) == (0.4, 0.2)
    assert ErrorCounts().wer == 0.0


def test_normalisation():
    assert normalize_text("It\u2019s  MR. O'Brien's\u2014'quoted' word_s") == "it's mr o'brien's quoted word s"


def test_a_reference_without_words_is_refused():
    with pytest.raises(InputError, match="without a single word"):
        error_counts("--", "hello")


def echo(waves):
    """Hears the number of samples, after it has read everything."""
    waves = list(waves)
    return iter([{4: "four", 8: "eight"}.get(len(wave), "none") for wave in waves])


def test_every_voice_is_heard():
    voices = {"original": lambda waves: waves, "twice": lambda waves: [np.tile(wave, 2) for wave in waves]}
    rows = list(compare_speech([("a", np.zeros(4, np.float32), "Four")], voices, echo))
    assert rows[0]["original"] == {"heard": "four", "counts": ErrorCounts(0, 1, 0, 4)}
    assert rows[0]["twice"]["heard"] == "eight"
    assert rows[0]["twice"]["counts"].wer == 1.0


@pytest.mark.parametrize("count", [0, 1, 8, 19])
def test_recordings_keep_their_texts_whatever_the_batch(count):
    items = [(str(n), np.zeros(n + 1, np.float32), f"number {n}") for n in range(count)]
    batches = []

    def same(waves):
        batches.append(len(waves))
        return waves

    def hear(waves):
        return (f"number {len(wave) - 1}" for wave in waves)

    rows = list(compare_speech(iter(items), {"one": same, "other": lambda waves: [w[:1] for w in waves]}, hear))
    assert [row["id"] for row in rows] == [item[0] for item in items]
    assert all(row["one"]["counts"].wer == 0 for row in rows)
    assert [row["other"]["heard"] for row in rows] == ["number 0"] * count
    assert sum(batches) == count and max(batches, default=0) <= SPOKEN_TOGETHER


def test_pocketsphinx_hears_some_of_a_real_recording():
    pytest.importorskip("pocketsphinx")
    recognizer = load_recognizer("pocketsphinx")
    assert isinstance(recognizer, PocketsphinxRecognizer)
    record = json.loads((BUNDLED / "sample.alignments.jsonl").read_text(encoding="utf-8"))
    spoken = " ".join(word["word"] for word in record["words"])
    heard = recognizer.transcribe(load_audio(BUNDLED / "sample.flac"))
    assert error_counts(spoken, heard).wer < 0.9


def test_a_missing_recogniser_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        PocketsphinxRecognizer()


def test_no_such_ctc_model(tmp_path):
    with pytest.raises(FormatError, match="not a CTC recogniser"):
        CTCRecognizer(str(tmp_path))
