"""Diversity of texts: self-BLEU-2 and auto-BLEU-2, as generative spoken language models are measured.

A BLEU-2 here is the geometric mean of the precisions of words and of pairs of words, without brevity penalty.

Neither sacrebleu nor nltk serves at run time: their scores always have the brevity penalty (the published GSLM program
carries a changed copy of nltk's function for that reason), neither has auto-BLEU, and both count all references again
for every text, which is quadratic in the number of texts where one pass is enough. sacrebleu's clipped precisions are
the oracle of a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Words = Sequence[Hashable]
ORDERS = (1, 2)


def ngrams(words: Words, order: int) -> list[tuple[Any, ...]]:
    """Return the n-grams of ``order`` neighbouring words, in their order."""
    return list(zip(*(words[at:] for at in range(order)), strict=False))


def self_bleu(texts: Sequence[Words]) -> FloatArray:
    """Return the BLEU-2 of each text with all others as its references: (num_texts,), 0 to 1.

    High where the texts repeat each other. An n-gram counts as often as in the other text that has it most often. A
    text of fewer than two words gets 0, and so does a text without others.
    """
    return _geometric([_self_precision(texts, order) for order in ORDERS])


def auto_bleu(texts: Sequence[Words]) -> FloatArray:
    """Return the BLEU-2 of each text with itself: (num_texts,), 0 to 1.

    High where a text repeats itself. An n-gram counts where it occurs a second time before or after it, without
    overlap. A text of fewer than two words gets 0.
    """
    return _geometric([np.array([_auto_precision(text, order) for text in texts]) for order in ORDERS])


def _geometric(precisions: Sequence[FloatArray]) -> FloatArray:
    return np.sqrt(precisions[0] * precisions[1])


def _self_precision(texts: Sequence[Words], order: int) -> FloatArray:
    """Share of each text's n-grams that other texts have, clipped to their highest count: (num_texts,)."""
    counts = [Counter(ngrams(text, order)) for text in texts]
    # The two highest counts of an n-gram over all texts give the highest among the others of any one text.
    most: dict[tuple[Any, ...], tuple[int, int]] = {}
    for count in counts:
        for gram, times in count.items():
            first, second = most.get(gram, (0, 0))
            most[gram] = (times, first) if times > first else (first, max(second, times))
    result = np.zeros(len(texts))
    for index, count in enumerate(counts):
        clipped = 0
        for gram, times in count.items():
            first, second = most[gram]
            clipped += min(times, second if times == first else first)
        result[index] = clipped / max(count.total(), 1)
    return result


def _auto_precision(text: Words, order: int) -> float:
    grams = ngrams(text, order)
    first: dict[tuple[Any, ...], int] = {}
    last: dict[tuple[Any, ...], int] = {}
    for index, gram in enumerate(grams):
        first.setdefault(gram, index)
        last[gram] = index
    repeated = sum(index - first[gram] >= order or last[gram] - index >= order for index, gram in enumerate(grams))
    return repeated / max(len(grams), 1)
