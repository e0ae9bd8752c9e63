"""Error rates by hand, by the definition and by jiwer."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.evaluate.speech.error_rates import ErrorCounts, ErrorRates, error_counts, normalize_text


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


def test_counts_agree_with_jiwer():
    jiwer = pytest.importorskip("jiwer")
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = (" ".join(rng.choice(["a", "bc", "cab"], rng.integers(1, 9))) for _ in range(2))
        counts = error_counts(a, b)
        assert (counts.wer, counts.cer) == pytest.approx((jiwer.wer(a, b), jiwer.cer(a, b)))


def test_rates_of_a_corpus():
    items = [ErrorCounts(1, 4, 2, 20), ErrorCounts(3, 6, 8, 30)]
    rates = ErrorRates.of(items, resamples=50, seed=0)
    assert (rates.wer.value, rates.cer.value, rates.words) == (0.4, 0.2, 10)
    assert 0.25 <= rates.wer.low <= 0.4 <= rates.wer.high <= 0.5
    assert ErrorRates.from_dict(rates.to_dict()) == rates
