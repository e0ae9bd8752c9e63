"""N-gram models of units, the baselines of a speech language model, and their smoothing."""

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
    def of(cls, keys: IntArray, counts: IntArray, base: int) -> SmoothedNgrams:
        """Build from ascending keys and their counts."""
        contexts, first = np.unique(keys // base, return_index=True)
        kinds = np.diff(np.append(first, len(keys)))
        totals = np.add.reduceat(counts, first)
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


class KneserNey:
    """Interpolated Kneser-Ney model of symbols below ``base`` (Kneser & Ney 1995), one discount per order.

    The lowest order is interpolated with ``uniform``, the same probability for every symbol.

    Args:
        keys: (num_symbols,) the n-gram that ends in each symbol of a corpus, see ``ngram_keys``.
        order, base: length of the n-grams, and number of symbols, padding among them.
        uniform: probability of a symbol before anything is known.
    """

    def __init__(self, keys: IntArray, order: int, base: int, uniform: float) -> None:
        self.order, self.base, self.uniform = order, base, uniform
        keys, counts = np.unique(keys, return_counts=True)
        levels = [SmoothedNgrams.of(keys, counts, base)]
        for lower in range(order - 1, 0, -1):
            # Below the highest order, what counts is how many different symbols stand before.
            keys, counts = np.unique(levels[-1].keys % base**lower, return_counts=True)
            levels.append(SmoothedNgrams.of(keys, counts, base))
        self._levels = levels[::-1]

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Return the probability of the last symbol of each n-gram: (num_ngrams,)."""
        probs = np.full(len(keys), self.uniform)
        for order, level in enumerate(self._levels, start=1):
            probs = level.smooth(keys % self.base**order, probs)
        return probs


def ngram_keys(symbols: npt.NDArray[np.integer], start: int, order: int, base: int) -> IntArray:
    """Return the n-gram that ends in each symbol of a sequence, which begins after ``start``: (num_symbols,)."""
    row = np.concatenate([np.full(order - 1, start, dtype=np.int64), symbols.astype(np.int64)])
    keys = np.zeros(len(symbols), dtype=np.int64)
    for at in range(order):
        keys = keys * base + row[at : at + len(symbols)]
    return keys


class NgramModel:
    """Kneser-Ney model of units, a baseline of speech language models.

    Args:
        store: units to count; each recording begins with BOS.
        order: length of the n-grams; 1 for unigrams.
    """

    def __init__(self, store: TokenStore, order: int = 2) -> None:
        self.order, base = order, store.info.num_tokens
        rows = [ngram_keys(store[index][0], store.info.bos, order, base) for index in range(len(store))]
        keys = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
        self._model = KneserNey(keys, order, base, 1.0 / base)

    def log_probs(self, tokens: npt.NDArray[np.integer], bos: int) -> FloatArray:
        """Return the natural log-probability of each token of one recording: (num_tokens,)."""
        return np.log(self._model.probabilities(ngram_keys(tokens, bos, self.order, self._model.base)))

    def evaluate(self, store: TokenStore) -> Likelihood:
        """Return the likelihood of another store of the same units."""
        total = Likelihood(0.0, 0, 0.0)
        for index in range(len(store)):
            tokens, frames = store[index]
            nats = -float(self.log_probs(tokens, store.info.bos).sum())
            total += Likelihood(nats, len(tokens), float(frames.sum()) * store.info.frame_seconds)
        return total
