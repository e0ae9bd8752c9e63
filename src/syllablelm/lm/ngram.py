"""Unigram and bigram models of units: what a language model must beat to be worth its name."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.lm.store import TokenStore

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Likelihood:
    """Sums over a corpus, so that two of them can be added.

    Args:
        nats: negative log-probability of all scored tokens.
        tokens: how many there are; seconds: how long they last.
    """

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
        """Counts and ratios, for reports."""
        ratios = {name: getattr(self, name) for name in ("nats_per_token", "nats_per_second", "bits_per_second")}
        return {"nats": self.nats, "tokens": self.tokens, "seconds": self.seconds} | ratios


class NgramModel:
    """Interpolated Kneser-Ney model of order 1 or 2 (Kneser & Ney 1995), one discount.

    Args:
        order: 1 is unigrams (add-one smoothed), 2 is bigrams; each recording begins with BOS.
    """

    def __init__(self, store: TokenStore, order: int = 2, discount: float = 0.75) -> None:
        vocabulary = store.info.num_tokens
        tokens = store.tokens[:].astype(np.int64)
        counts = np.bincount(tokens, minlength=vocabulary)
        self.order, self.discount = order, discount
        self.unigram: FloatArray = (counts + 1.0) / (counts.sum() + vocabulary)
        if order == 1:
            return
        previous = np.concatenate([[0], tokens[:-1]])
        begins = store.offsets[:-1][np.diff(store.offsets) > 0]
        previous[begins] = store.info.bos
        # A sorted list of the pairs that occur: the full matrix would not fit for large vocabularies.
        self._vocabulary = vocabulary
        self._pairs, self._pair_counts = np.unique(previous * vocabulary + tokens, return_counts=True)
        context, follower = self._pairs // vocabulary, self._pairs % vocabulary
        self._context_counts = np.bincount(context, weights=self._pair_counts, minlength=vocabulary + 1)
        self._context_kinds = np.bincount(context, minlength=vocabulary + 1)
        continuation = np.bincount(follower, minlength=vocabulary).astype(np.float64)
        self._lower: FloatArray = (continuation + 1.0) / (continuation.sum() + vocabulary)

    def log_probs(self, tokens: npt.NDArray[np.integer], bos: int) -> FloatArray:
        """Natural log-probability of each token of one recording: (num_tokens,)."""
        tokens = tokens.astype(np.int64)
        if self.order == 1 or len(tokens) == 0:
            return np.log(self.unigram[tokens])
        previous = np.concatenate([[bos], tokens[:-1]])
        keys = previous * self._vocabulary + tokens
        place = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        counts = np.where(self._pairs[place] == keys, self._pair_counts[place], 0)
        total, kinds = self._context_counts[previous], self._context_kinds[previous]
        seen = np.maximum(total, 1.0)
        bigram = np.maximum(counts - self.discount, 0.0) / seen
        backoff = np.where(total > 0, self.discount * kinds / seen, 1.0)
        return np.log(bigram + backoff * self._lower[tokens])

    def evaluate(self, store: TokenStore) -> Likelihood:
        """Likelihood of another store of the same units."""
        total = Likelihood(0.0, 0, 0.0)
        for index in range(len(store)):
            tokens, frames = store[index]
            nats = -float(self.log_probs(tokens, store.info.bos).sum())
            total += Likelihood(nats, len(tokens), float(frames.sum()) * store.info.frame_seconds)
        return total
