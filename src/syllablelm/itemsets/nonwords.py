"""Non-words that sound as if they were words: as long, of the same rhythm, of equally usual neighbours.

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
# An onset or coda of fewer words is an oddity of loans and names.
_MIN_WORDS = 10
_SMOOTHING = 0.5
# Nats between the bigram scores of a word and its non-word; a word that has none so near is not used.
MAX_DIFFERENCE = 1.0


@dataclass(frozen=True)
class NonWord:
    """A non-word and how far it is from its word.

    Args:
        phones: with stress digits.
        score: log-probability of its phone bigrams in nats, edges among them.
        difference: its score minus the word's.
    """

    phones: Phones
    score: float
    difference: float


class Phonotactics:
    """What words of a dictionary sound like: phone bigrams, onsets and codas, each word counted once."""

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
        """Log-probability of phones (without stress) as a chain of bigrams from edge to edge, in nats."""
        return sum(self._logs[pair] for pair in pairwise((_EDGE, *phones, _EDGE)))

    def is_legal(self, phones: Sequence[str]) -> bool:
        """Whether every syllable's onset and coda are those of at least ten syllables in the dictionary."""
        return all(
            self._onsets[onset] >= _MIN_WORDS and self._codas[coda] >= _MIN_WORDS for onset, coda in _edges(phones)
        )


def _edges(phones: Sequence[str]) -> list[tuple[Phones, Phones]]:
    """Onset and coda of each syllable; a word without vowels has none."""
    found = []
    for start, end in syllabify(phones):
        nucleus = next((i for i in range(start, end) if phones[i] in NUCLEI), None)
        if nucleus is not None:
            found.append((tuple(phones[start:nucleus]), tuple(phones[nucleus + 1 : end])))
    return found


def changeable(phones: Sequence[str]) -> list[int]:
    """Places of a word (phones with stress) that its non-word may change: all but the onset and the schwas."""
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
    """The best match for a word among random candidates.

    Common words are made of commoner bigrams than most candidates. So a coin is thrown first for the side, more or
    less probable than the word, on which the match is looked for: a scorer of bigrams then wins as often as it loses.

    Args:
        word: its phones with stress digits, AH0 for schwa.
        phonotactics: of the dictionary.
        lexicon: whose words, and what sounds like them, are no non-words.
        taken: sounds (`to_ear`) of non-words made before.
        rng: draws the candidates.
        tries: number of candidates.

    Returns:
        the candidate of the nearest score on the side drawn; None if none within `MAX_DIFFERENCE` is legal, new and
        no word.
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
