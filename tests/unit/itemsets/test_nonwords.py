"""Non-words that match their words, and the bigrams that judge them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.toy_lexicon import make_lexicon
from syllablelm.data.syllables import NUCLEI, syllabify
from syllablelm.itemsets.nonwords import MAX_DIFFERENCE, Phonotactics, changeable, make_nonword
from syllablelm.itemsets.pronunciations import Lexicon, Phones, plain, to_ear

LEXICON = make_lexicon()
PHONOTACTICS = Phonotactics(LEXICON)


def slow_score(lexicon: Lexicon, phones: Phones) -> float:
    """Bigram score by counting through the whole dictionary for every pair."""
    words = [["#", *word, "#"] for word in lexicon.spellings]
    symbols = {symbol for word in words for symbol in word}
    total = 0.0
    chain = ["#", *phones, "#"]
    for k in range(len(chain) - 1):
        both = sum(word[i : i + 2] == chain[k : k + 2] for word in words for i in range(len(word) - 1))
        first = sum(symbol == chain[k] for word in words for symbol in word[:-1])
        total += math.log((both + 0.5) / (first + 0.5 * len(symbols)))
    return total


def test_bigram_score_agrees_with_counting() -> None:
    for phones in list(LEXICON.spellings)[:5]:
        assert PHONOTACTICS.score(phones) == pytest.approx(slow_score(LEXICON, phones))


def test_bigram_probabilities_sum_to_one() -> None:
    for first in ("K", "AA", "#"):
        total = sum(
            math.exp(PHONOTACTICS._logs[first, second]) for second in {b for a, b in PHONOTACTICS._logs if a == first}
        )
        assert total == pytest.approx(1)


@given(st.sampled_from(sorted(LEXICON.entries)), st.integers(0, 50))
def test_nonword_matches_its_word(word: str, seed: int) -> None:
    phones = LEXICON.entries[word][0]
    found = make_nonword(phones, PHONOTACTICS, LEXICON, set(), np.random.default_rng(seed), tries=100)
    if found is None:
        return
    before, after = plain(phones), plain(found.phones)
    assert len(before) == len(after) and before != after
    assert [p in NUCLEI for p in before] == [p in NUCLEI for p in after]
    assert len(syllabify(before)) == len(syllabify(after))
    assert before[0] == after[0]  # the onset
    assert [p[-1] for p in phones if p[-1].isdigit()] == [p[-1] for p in found.phones if p[-1].isdigit()]
    assert after not in LEXICON.spellings and to_ear(after) not in LEXICON.sounds
    assert found.difference == pytest.approx(PHONOTACTICS.score(after) - PHONOTACTICS.score(before))
    assert abs(found.difference) <= MAX_DIFFERENCE


def test_nonword_avoids_taken_sounds() -> None:
    phones = LEXICON.entries["aaaab"][0]
    first = make_nonword(phones, PHONOTACTICS, LEXICON, set(), np.random.default_rng(1))
    assert first is not None
    second = make_nonword(phones, PHONOTACTICS, LEXICON, {to_ear(first.phones)}, np.random.default_rng(1))
    assert second is None or to_ear(second.phones) != to_ear(first.phones)


def test_schwas_and_onset_stay() -> None:
    assert changeable(("S", "T", "AH0", "R", "IY1")) == [3, 4]
    assert changeable(("AH0", "B")) == [1]
