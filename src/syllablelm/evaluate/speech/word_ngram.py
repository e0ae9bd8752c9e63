"""An n-gram model of words for work without a network: interpolated Kneser-Ney with a spelling of unknown words.

It shares the counting and smoothing of one order with `syllablelm.lm.ngram`, the baseline of units. The models around
it differ on purpose: units are all known and their unigrams are add-one smoothed, words are an open vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.lm.ngram import FloatArray, IntArray, KneserNey, ngram_keys

UNKNOWN, START = 0, 1
# A character that no training word has is one of all that Unicode can number.
_OTHER_CHARACTERS = 0x110000


class WordNgram:
    """Interpolated Kneser-Ney model of words, one discount per order (Kneser & Ney 1995; Chen & Goodman 1998).

    Sentences begin with padding; their end is not predicted, because a continuation is cut wherever its time is up.

    Unknown words: training words seen fewer than ``min_count`` times become one word, <unk>, which takes part in the
    n-grams like any other. An unknown word's probability is that of <unk> times that of its spelling, by a bigram model
    of the letters of those rare words. The probabilities of all words that can be written thus sum to one, and a
    recogniser's nonsense costs what it should; with <unk> alone, nonsense would be likelier than rare words.

    Args:
        texts: sentences as words.
        order: length of the n-grams.
        min_count: lowest training count of a known word.

    Raises:
        InputError: no word in the texts, or an order that is not 1 or above, or too high for the vocabulary.
    """

    def __init__(self, texts: Iterable[Sequence[str]], order: int = 3, min_count: int = 2) -> None:
        sentences = [list(text) for text in texts if text]
        frequency = Counter(word for text in sentences for word in text)
        if not frequency:
            raise InputError("a language model of words needs at least one sentence to learn from")
        self.words = sorted(word for word, count in frequency.items() if count >= min_count)
        self._index = {word: number for number, word in enumerate(self.words, START + 1)}
        self.order, self.trained_on, self._base = order, frequency.total(), len(self.words) + 2
        if order < 1 or order * math.log2(self._base) >= 63:
            raise InputError(f"order {order}: must be 1 or above, and {len(self.words)} words allow no such n-grams")
        self._spelling = _Spelling([word for word in frequency if word not in self._index])
        keys = np.concatenate([self._keys(text) for text in sentences])
        # START begins a sentence and is never predicted.
        self._model = KneserNey(keys, order, self._base, 1.0 / (self._base - 1))

    def log_probs(self, text: Sequence[str]) -> FloatArray:
        """Return the natural log-probability of each word after those before it, spelling included: (num_words,)."""
        if not text:
            return np.zeros(0)
        result = np.log(self.probabilities(self._keys(text)))
        for index, word in enumerate(text):
            if word not in self._index:
                result[index] += self._spelling.log_prob(word)
        return result

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Return the probability of the last word of each n-gram of word numbers, unknown words as one."""
        return self._model.probabilities(keys)

    def is_unknown(self, word: str) -> bool:
        """Return whether a word is outside the vocabulary."""
        return word not in self._index

    def _keys(self, text: Sequence[str]) -> IntArray:
        """Return the n-gram that ends in each word: (num_words,)."""
        numbers = np.array([self._index.get(word, UNKNOWN) for word in text], dtype=np.int64)
        return ngram_keys(numbers, START, self.order, self._base)


class _Spelling:
    """Bigram model of letters, add-one smoothed: the probabilities of all non-empty spellings sum to one."""

    def __init__(self, words: Sequence[str]) -> None:
        letters = sorted({letter for word in words for letter in word})
        self._letters = {letter: number for number, letter in enumerate(letters)}
        # One more for a letter never seen, one for the end of the word; the row of the end is that of the beginning.
        self._other, self._end = len(letters), len(letters) + 1
        counts: Any = np.ones((len(letters) + 2, len(letters) + 2))
        counts[self._end, self._end] = 0.0
        for word in words:
            row = [self._end, *(self._letters[letter] for letter in word), self._end]
            np.add.at(counts, (row[:-1], row[1:]), 1.0)
        with np.errstate(divide="ignore"):
            self.table: FloatArray = np.log(counts / counts.sum(1, keepdims=True))

    def log_prob(self, word: str) -> float:
        """Return the natural log-probability of a spelling."""
        row = [self._end, *(self._letters.get(letter, self._other) for letter in word), self._end]
        unseen = row.count(self._other)
        return float(self.table[row[:-1], row[1:]].sum()) - unseen * math.log(_OTHER_CHARACTERS)
