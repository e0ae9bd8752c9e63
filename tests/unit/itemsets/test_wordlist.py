"""Pairs of words and non-words: bands of frequency, balance, stress."""

from __future__ import annotations

from collections import Counter

import numpy as np

from helpers.toy_lexicon import make_lexicon
from syllablelm.itemsets.pronunciations import Lexicon, Phones, plain, to_ear
from syllablelm.itemsets.wordlist import _by_band, draw_pairs, make_wordlist

LEXICON = make_lexicon()


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
