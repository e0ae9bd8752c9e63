"""Unigram and bigram models of units, the baselines of a speech language model, and n-gram smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.lm.store import TokenStore

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of a corpus as sums that add up: negative nats, scored tokens, and their seconds."""

    nats: float
    tokens: int
    seconds: float

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(self.nats + other.nats, self.tokens + other.tokens, self.seconds + other.seconds)

    @property
    def nats_per_token(self) -> float:
        """Comparable only between models of the same units."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def nats_per_second(self) -> float:
        """Comparable across tokenisations of the same audio."""
        return self.nats / self.seconds if self.seconds else math.nan

    @property
    def bits_per_second(self) -> float:
        """``nats_per_second`` in bits."""
        return self.nats_per_second / math.log(2)

    def as_dict(self) -> dict[str, float | int]:
        """Return counts and ratios by name."""
        ratios = {name: getattr(self, name) for name in ("nats_per_token", "nats_per_second", "bits_per_second")}
        return {"nats": self.nats, "tokens": self.tokens, "seconds": self.seconds} | ratios


@dataclass(frozen=True)
class SmoothedNgrams:
    """Counts of the n-grams of one order, interpolated with a lower order (Kneser & Ney 1995).

    Args:
        base: base of the keys: an n-gram is a number whose digits are its symbols, the last symbol lowest.
        keys, counts: (num_ngrams,) n-grams that occur, ascending, and their counts; below the highest order the
            number of different symbols before them.
        contexts, totals, kinds: (num_contexts,) keys without the last symbol, and of each the sum of its counts and
            the number of different symbols after it.
        discount: subtracted from every count.
    """

    base: int
    keys: IntArray
    counts: FloatArray
    contexts: IntArray
    totals: FloatArray
    kinds: FloatArray
    discount: float

    @classmethod
    def of(cls, keys: IntArray, counts: IntArray, base: int, discount: float | None = None) -> SmoothedNgrams:
        """Build from ascending keys and their counts; the discount is estimated by default."""
        contexts, first = np.unique(keys // base, return_index=True)
        kinds = np.diff(np.append(first, len(keys)))
        totals = np.add.reduceat(counts, first)
        if discount is None:
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            # The usual estimate (Ney, Essen & Kneser 1994); small corpora may have none of either.
            discount = once / (once + 2 * twice) if once and twice else 0.75
        return cls(base, keys, counts.astype(float), contexts, totals.astype(float), kinds.astype(float), discount)

    def smooth(self, keys: IntArray, lower: FloatArray) -> FloatArray:
        """Return the probabilities of n-grams, given those of the next lower order."""
        counts = _look_up(self.keys, self.counts, keys)
        totals, kinds = (_look_up(self.contexts, values, keys // self.base) for values in (self.totals, self.kinds))
        mixed = np.maximum(counts - self.discount, 0.0) + self.discount * kinds * lower
        return np.where(totals > 0, mixed / np.maximum(totals, 1.0), lower)


def _look_up(keys: IntArray, values: FloatArray, wanted: IntArray) -> FloatArray:
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], 0.0)


class NgramModel:
    """Kneser-Ney model of units of order 1 or 2, with one fixed discount and add-one smoothing of the lower order.

    Args:
        store: units to count; each recording begins with BOS.
        order: 1 for unigrams (add-one smoothed), 2 for bigrams.
        discount: subtracted from the bigram counts.
    """

    def __init__(self, store: TokenStore, order: int = 2, discount: float = 0.75) -> None:
        vocabulary = store.info.num_tokens
        tokens = store.tokens[:].astype(np.int64)
        self.order = order
        if order > 1:
            previous = np.concatenate([[0], tokens[:-1]])
            begins = store.offsets[:-1][np.diff(store.offsets) > 0]
            previous[begins] = store.info.bos
            # A sorted list of the pairs that occur: the full matrix would not fit for large vocabularies.
            pairs, counts = np.unique(previous * vocabulary + tokens, return_counts=True)
            self._bigrams = SmoothedNgrams.of(pairs, counts, vocabulary, discount)
            tokens = pairs % vocabulary
        counts = np.bincount(tokens, minlength=vocabulary)
        self._lower: FloatArray = (counts + 1.0) / (counts.sum() + vocabulary)

    def log_probs(self, tokens: npt.NDArray[np.integer], bos: int) -> FloatArray:
        """Return the natural log-probability of each token of one recording: (num_tokens,)."""
        tokens = tokens.astype(np.int64)
        if self.order == 1 or len(tokens) == 0:
            return np.log(self._lower[tokens])
        pairs = np.concatenate([[bos], tokens[:-1]]) * self._bigrams.base + tokens
        return np.log(self._bigrams.smooth(pairs, self._lower[tokens]))

    def evaluate(self, store: TokenStore) -> Likelihood:
        """Return the likelihood of another store of the same units."""
        total = Likelihood(0.0, 0, 0.0)
        for index in range(len(store)):
            tokens, frames = store[index]
            nats = -float(self.log_probs(tokens, store.info.bos).sum())
            total += Likelihood(nats, len(tokens), float(frames.sum()) * store.info.frame_seconds)
        return total
