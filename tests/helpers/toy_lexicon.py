"""A pronouncing dictionary of made-up words."""

from __future__ import annotations

import numpy as np

from syllablelm.itemsets.pronunciations import Lexicon, Phones

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
