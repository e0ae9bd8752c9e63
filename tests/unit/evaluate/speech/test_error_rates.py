"""Error rates by hand, by the definition and by jiwer."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.evaluate.speech.error_rates import (
    NORMALIZATIONS,
    ErrorCounts,
    ErrorRates,
    TextNormalization,
    check_rule,
    error_counts,
    normalize_text,
    text_normalizer,
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
    counts = error_counts(normalize_text(reference), normalize_text(heard))
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


SMALL, TENS = (
    words.split()
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
    )
)


def spell(number: int) -> str:
    """Write a number below 10,000 in words."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f" {SMALL[number % 10]}" if number % 10 else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    rest = f" {spell(number % size)}" if number % size else ""
    return f"{spell(number // size)} {name}{rest}"


@pytest.mark.parametrize("number", [2, 10, 11, 19, 20, 21, 99, 100, 101, 215, 999, 1000, 1001, 2019, 9999])
def test_the_english_rule_takes_words_and_digits_for_the_same_number(number):
    english = text_normalizer("english")
    spelled, digits = f"There were {spell(number)} of them.", f"there were {number} of them"
    assert english(spelled) == english(digits) == digits
    assert error_counts(english(spelled), english(digits)).wer == 0
    plain = text_normalizer("plain")
    assert error_counts(plain(spelled), plain(digits)).word_edits >= 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("IN NINETEEN NINETY", "in 1990"),
        ("It\u2019s MR. Brown\u2019s, isn't it?", "it is mister brown is, is not it"),
        ("uh he, hmm, won't (laughs) go [noise]", "he will not go"),
        ("TWENTY FIRST OF MAY", "21st of may"),
        ("caf\u00e9", "cafe"),
    ],
)
def test_the_english_rule(text, same):
    english = text_normalizer("english")
    assert english(text) == english(same) == english(english(text))


def test_rules_have_names():
    assert text_normalizer("plain") is normalize_text
    assert [TextNormalization.from_dict(rule.to_dict()) for rule in NORMALIZATIONS.values()] == [
        *NORMALIZATIONS.values()
    ]
    with pytest.raises(InputError, match="choose plain or english"):
        text_normalizer("german")


def test_a_reference_without_words_is_refused():
    with pytest.raises(InputError, match="without a single word"):
        error_counts(normalize_text("--"), "hello")


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


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("\u00bfC\u00d3MO est\u00e1s?", "c\u00f3mo est\u00e1s"),
        ("co\u0301mo", "c\u00f3mo"),  # in two parts
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940\u0964",
            "\u0939\u093f\u0928\u094d\u0926\u0940",
        ),  # vowel signs and virama
        (
            "\u0645\u064e\u0631\u062d\u064e\u0628\u064b\u0627\u060c \u200f\u064a\u0627!",
            "\u0645\u064e\u0631\u062d\u064e\u0628\u064b\u0627 \u064a\u0627",
        ),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),  # joiner
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u4f60\u597d \u4e16\u754c"),
        ("\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd", "\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd"),
        ("snake_case it's 'quoted'", "snake case it's quoted"),
    ],
)
def test_letters_of_any_language_survive(text: str, normal: str) -> None:
    assert normalize_text(text) == unicodedata.normalize("NFKC", normal)


def test_the_english_rule_is_refused_for_other_languages() -> None:
    check_rule("plain", ["base:es", "pocketsphinx"])
    check_rule("english", ["base", "openai/whisper-base"])
    with pytest.raises(InputError, match="base:es hears another language; give --normalization plain"):
        check_rule("english", ["base", "base:es"])
