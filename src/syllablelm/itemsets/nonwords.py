"""Non-words matched to words: the same length and rhythm, bigrams of about the same probability.

A non-word keeps its word's number of phones, its consonants and vowels in order, its stress, its schwas and its
initial onset; about a third of the other phones change. Onsets and codas of all syllables occur in the dictionary.
Of the candidates one whose phone bigrams are about as probable as the word's is taken; the idea of matched candidates
is that of Wuggy (Keuleers & Brysbaert 2010, doi:10.3758/BRM.42.3.627), the procedure here is our own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from syllablelm.data.syllables import CONSONANTS, NUCLEI, syllabify
from syllablelm.itemsets.pronunciations import Lexicon, Phones, plain, to_ear

_EDGE = "#"
# Onsets and codas of fewer words are those of loans and names.
_MIN_WORDS = 10
_SMOOTHING = 0.5
# Maximum distance in nats between the bigram scores of a word and its non-word.
MAX_DIFFERENCE = 1.0


@dataclass(frozen=True)
class NonWord:
    """A non-word: phones with stress digits, the log-probability of its phone bigrams in nats, edges among them
    (`score`), and that minus its word's (`difference`).
    """

    phones: Phones
    score: float
    difference: float


class Phonotactics:
    """Phone bigrams, onsets and codas of a dictionary, each word counted once."""

    def __init__(self, lexicon: Lexicon) -> None:
        pairs: Counter[tuple[str, str]] = Counter()
        self._onsets: Counter[Phones] = Counter()
        self._codas: Counter[Phones] = Counter()
        for phones in lexicon.spellings:
            pairs.update(pairwise((_EDGE, *phones, _EDGE)))
            for onset, coda in _edges(phones):
                self._onsets[onset] += 1
                self._codas[coda] += 1
        left: Counter[str] = Counter()
        for (first, _), count in pairs.items():
            left[first] += count
        symbols = sorted({symbol for pair in pairs for symbol in pair})
        self.vowels = [symbol for symbol in symbols if symbol in NUCLEI]
        self.consonants = [symbol for symbol in symbols if symbol in CONSONANTS]
        size = _SMOOTHING * len(symbols)
        self._logs = {(a, b): math.log((pairs[a, b] + _SMOOTHING) / (left[a] + size)) for a in symbols for b in symbols}

    def score(self, phones: Sequence[str]) -> float:
        """Return the log-probability in nats of phones (without stress) under the bigrams, edges included."""
        return sum(self._logs[pair] for pair in pairwise((_EDGE, *phones, _EDGE)))

    def is_legal(self, phones: Sequence[str]) -> bool:
        """Return whether every onset and coda occurs in at least ten syllables of the dictionary."""
        return all(
            self._onsets[onset] >= _MIN_WORDS and self._codas[coda] >= _MIN_WORDS for onset, coda in _edges(phones)
        )


def _edges(phones: Sequence[str]) -> list[tuple[Phones, Phones]]:
    """Return onset and coda of each syllable; none for a word without vowels."""
    found = []
    for start, end in syllabify(phones):
        nucleus = next((i for i in range(start, end) if phones[i] in NUCLEI), None)
        if nucleus is not None:
            found.append((tuple(phones[start:nucleus]), tuple(phones[nucleus + 1 : end])))
    return found


def changeable(phones: Sequence[str]) -> list[int]:
    """Return the places of a word (phones with stress) that may change: all but the onset and the schwas."""
    symbols = plain(phones)
    first = next((i for i, symbol in enumerate(symbols) if symbol in NUCLEI), len(symbols))
    return [i for i in range(first, len(symbols)) if phones[i] != "AH0"]


def make_nonword(
    word: Phones,
    phonotactics: Phonotactics,
    lexicon: Lexicon,
    taken: frozenset[Phones] | set[Phones],
    rng: np.random.Generator,
    *,
    tries: int = 600,
) -> NonWord | None:
    """Return the best match for a word (phones with stress, AH0 for schwa) among random candidates, or None.

    Common words have more probable bigrams than most candidates. The match is therefore sought on a side, more or less
    probable than the word, that is drawn first: a scorer of bigrams then wins as often as it loses. It is the legal
    candidate of the nearest score on that side, within `MAX_DIFFERENCE`, that sounds like no word of the lexicon and
    like none of `taken` (see `to_ear`).
    """
    places = changeable(word)
    if not places:
        return None
    count = min(len(places), max(1, round(len(word) / 3)))
    target = phonotactics.score(plain(word))
    side = rng.choice((-1, 1))
    best: NonWord | None = None
    for _ in range(tries):
        changed = list(word)
        for place in rng.permutation(places)[:count]:
            changed[place] = _replace(word[place], phonotactics, rng)
        symbols = plain(changed)
        score = phonotactics.score(symbols)
        distance = side * (score - target)
        if not 0 <= distance <= (abs(best.difference) if best else MAX_DIFFERENCE):
            continue
        sound = to_ear(symbols)
        if sound not in lexicon.sounds and sound not in taken and phonotactics.is_legal(symbols):
            best = NonWord(tuple(changed), score, score - target)
    return best


def _replace(phone: str, phonotactics: Phonotactics, rng: np.random.Generator) -> str:
    """Another vowel with the same stress, or another consonant."""
    symbol = phone.rstrip("012")
    if symbol not in NUCLEI:
        others = [other for other in phonotactics.consonants if other != symbol]
        return others[rng.integers(len(others))]
    digit = phone[len(symbol) :]
    # Without stress AH is a schwa, which is far shorter than what it would stand for.
    others = [other for other in phonotactics.vowels if other != symbol and (other != "AH" or digit in ("1", "2"))]
    return others[rng.integers(len(others))] + digit
