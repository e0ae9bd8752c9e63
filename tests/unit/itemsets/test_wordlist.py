"""Words and non-words: reading dictionaries, matched candidates, and what a scorer without a language could use."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.data.syllables import NUCLEI, syllabify
from syllablelm.itemsets.nonwords import MAX_DIFFERENCE, Phonotactics, changeable, make_nonword
from syllablelm.itemsets.pronunciations import (
    Lexicon,
    Phones,
    plain,
    to_ear,
)
from syllablelm.itemsets.wordlist import _by_band, draw_pairs, make_wordlist

ONSETS = [*"BDFGKLMNPRSTVZ"]
VOWELS = ["AA", "AE", "EH", "IY", "OW", "UW"]
CODAS = [*"DKLMNSTZ"]


def make_lexicon(size: int = 400, seed: int = 0) -> Lexicon:
    """Words of one or two CVC syllables, with stress on the first."""
    rng = np.random.default_rng(seed)
    entries: dict[str, tuple[Phones, ...]] = {}
    for number in range(size):
        phones: list[str] = []
        for syllable in range(1 + number % 2):
            vowel = VOWELS[rng.integers(len(VOWELS))] + ("1" if syllable == 0 else "0")
            phones += [ONSETS[rng.integers(len(ONSETS))], vowel, CODAS[rng.integers(len(CODAS))]]
        letters = "".join(chr(97 + int(digit)) for digit in f"{number:05d}")
        entries[letters] = (tuple(phones),)
    return Lexicon(entries)


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


def test_lengths_and_bigram_scores_are_balanced() -> None:
    counts = Counter({word: number for number, word in enumerate(LEXICON.entries)})
    pairs = draw_pairs(LEXICON, counts, lambda word, phones: None, pairs=120, seed=3)
    assert len(pairs) == 120
    differences = [pair.nonword.difference for pair in pairs]
    assert 0.38 < np.mean([difference < 0 for difference in differences]) < 0.62
    assert abs(np.mean(differences)) < 0.15
    assert len({to_ear(pair.nonword.phones) for pair in pairs}) == len({pair.word for pair in pairs}) == 120


def test_bands_are_drawn_in_turn_and_seeded() -> None:
    counts = {word: (0, 3, 10, 50, 500)[i % 5] for i, word in enumerate(LEXICON.entries)}
    made = [
        make_wordlist(LEXICON, counts, lambda w, p: None, (), voices=("a", "b"), pairs=20, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]
    assert sum(made[0].measures["bands"].values()) == 20
    assert {min(made[0].measures["bands"].values()), max(made[0].measures["bands"].values())} <= {3, 4, 5}
    clips = made[0].clips
    assert len(clips) == 80 and len({clip.stem for clip in clips}) == 80
    assert {(clip.pair, clip.voice) for clip in clips if clip.correct} == {(c.pair, c.voice) for c in clips}


def test_homophones_share_their_frequency() -> None:
    lexicon = Lexicon({"meat": (("M", "IY1", "T"),), "meet": (("M", "IY1", "T"),), "mat": (("M", "AE1", "T"),)})
    bands = _by_band(lexicon, {"meet": 4, "meat": 3})
    assert bands == {"0": [("mat", 0)], "6-20": [("meat", 7), ("meet", 7)]}


def test_stress_is_asked_for_only_where_the_dictionary_has_none() -> None:
    bare = Lexicon({word: (plain(variants[0]),) for word, variants in LEXICON.entries.items()})
    asked: list[str] = []

    def stress(word: str, phones: Phones) -> Phones | None:
        asked.append(word)
        return None if word.endswith("b") else LEXICON.entries[word][0]

    pairs = draw_pairs(bare, None, stress, pairs=10, seed=0)
    assert {pair.word for pair in pairs} <= set(asked) and not any(pair.word.endswith("b") for pair in pairs)
    assert all(pair.frequency is None for pair in pairs)
