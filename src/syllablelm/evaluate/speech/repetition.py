"""Repetition within sequences of units: distinct-n, runs and loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from syllablelm.core.results import Record
from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.speech.bleu import ngrams

LONGEST_PATTERN = 8
"""Longest pattern of a loop, in units."""
_ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class RepetitionCounts(Record):
    """Counts of one sequence of units; add those of several.

    Args:
        sequences, units: number of sequences, and of their units.
        ngrams_1, ngrams_2, ngrams_3: n-grams of units; n-grams do not reach across sequences.
        distinct_1, distinct_2, distinct_3: number of different n-grams, counted within each sequence.
        runaway: sequences of which a loop takes up half or more.
        longest_run: longest run of one unit; of several sequences the highest.
        longest_loop: units of the longest stretch that repeats a pattern of up to 8 units at least once, whole.
    """

    sequences: int = 0
    units: int = 0
    ngrams_1: int = 0
    ngrams_2: int = 0
    ngrams_3: int = 0
    distinct_1: int = 0
    distinct_2: int = 0
    distinct_3: int = 0
    runaway: int = 0
    longest_run: int = 0
    longest_loop: int = 0

    def __add__(self, other: RepetitionCounts) -> RepetitionCounts:
        both = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return RepetitionCounts(
            **{name: max(pair) if name.startswith("longest") else sum(pair) for name, pair in both.items()}
        )

    def distinct(self, order: int) -> float:
        """Distinct-n: share of n-grams that differ from the others of their sequence; falls with length."""
        total = getattr(self, f"ngrams_{order}")
        return getattr(self, f"distinct_{order}") / total if total else 0.0

    @property
    def runaway_share(self) -> float:
        """Share of sequences of which a loop takes up half or more."""
        return self.runaway / self.sequences if self.sequences else 0.0


@dataclass(frozen=True)
class RepetitionScores(Record):
    """Repetition of sequences of units; ratios as in `RepetitionCounts`, 95 % bootstrap intervals over sequences."""

    distinct: Mapping[str, float]
    runaway_share: float
    counts: RepetitionCounts
    distinct_interval: Mapping[str, tuple[float, float]]


def repetition_counts(units: npt.ArrayLike) -> RepetitionCounts:
    """Count the repetitions of one sequence of units, (num_units,) integers."""
    row = np.asarray(units, dtype=np.int64).tolist()
    grams = [ngrams(row, order) for order in _ORDERS]
    loop = max((_loop(row, period) for period in range(1, LONGEST_PATTERN + 1)), default=0)
    return RepetitionCounts(
        1,
        len(row),
        *(len(some) for some in grams),
        *(len(set(some)) for some in grams),
        runaway=int(bool(row) and 2 * loop >= len(row)),
        longest_run=max(_loop(row, 1), int(bool(row))),
        longest_loop=loop,
    )


def score_repetition(rows: Iterable[Sequence[int]], *, resamples: int, seed: int) -> RepetitionScores:
    """Return ratios and counts of sequences of units, with 95 % bootstrap intervals over sequences.

    Raises:
        InputError: no sequence.
    """
    items = [repetition_counts(row) for row in rows]
    total = sum(items, RepetitionCounts())
    intervals = {
        f"distinct_{order}": bootstrap_interval(
            items, lambda counts, n=order: counts.distinct(n), resamples=resamples, seed=seed
        )
        for order in _ORDERS
    }
    distinct = {f"distinct_{order}": total.distinct(order) for order in _ORDERS}
    return RepetitionScores(distinct, total.runaway_share, total, intervals)


def _loop(row: Sequence[int], period: int) -> int:
    """Units of the longest stretch in which each unit is the one ``period`` before, over at least two patterns."""
    longest = matched = 0
    for index in range(period, len(row)):
        matched = matched + 1 if row[index] == row[index - period] else 0
        longest = max(longest, matched)
    return longest + period if longest >= period else 0
