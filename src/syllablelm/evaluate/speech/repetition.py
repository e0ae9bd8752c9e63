"""How much sequences of units repeat themselves: distinct-n, runs and loops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.speech.bleu import ngrams

# A loop is a stretch that repeats a pattern of at most so many units.
LONGEST_PATTERN = 8


@dataclass(frozen=True)
class RepetitionCounts:
    """Counts of one sequence of units; add those of many.

    Args:
        sequences: how many; units: of all of them.
        ngrams_1, ngrams_2, ngrams_3: n-grams of units; n-grams do not reach across sequences.
        distinct_1, distinct_2, distinct_3: how many of them differ, counted within each sequence.
        runaway: sequences of which a loop takes up half or more.
        longest_run: most units in a row that are the same; of many sequences the highest.
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
        if not isinstance(other, RepetitionCounts):
            return NotImplemented
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

    def to_dict(self) -> dict[str, Any]:
        """Ratios and counts by name."""
        ratios = {f"distinct_{order}": self.distinct(order) for order in (1, 2, 3)}
        return {"distinct": ratios, "runaway_share": self.runaway_share, "counts": asdict(self)}


def repetition_counts(units: npt.ArrayLike) -> RepetitionCounts:
    """Count the repetitions of one sequence of units, (num_units,) integers."""
    row = np.asarray(units, dtype=np.int64).tolist()
    grams = {order: ngrams(row, order) for order in (1, 2, 3)}
    loop = max((_loop(row, period) for period in range(1, LONGEST_PATTERN + 1)), default=0)
    return RepetitionCounts(
        1,
        len(row),
        *(len(grams[order]) for order in (1, 2, 3)),
        *(len(set(grams[order])) for order in (1, 2, 3)),
        runaway=int(bool(row) and 2 * loop >= len(row)),
        longest_run=max(_loop(row, 1), int(bool(row))),
        longest_loop=loop,
    )


def repetition_row(rows: Iterable[Sequence[int]], *, resamples: int, seed: int) -> dict[str, Any]:
    """Ratios and counts of sequences of units, with 95 % bootstrap intervals over sequences.

    Raises:
        InputError: no sequence.
    """
    items = [repetition_counts(row) for row in rows]
    intervals = {
        f"distinct_{order}": list(
            bootstrap_interval(items, lambda counts, n=order: counts.distinct(n), resamples=resamples, seed=seed)
        )
        for order in (1, 2, 3)
    }
    return {**sum(items, RepetitionCounts()).to_dict(), "distinct_interval": intervals}


def _loop(row: Sequence[int], period: int) -> int:
    """Units of the longest stretch in which each unit is the one ``period`` before, over at least two patterns."""
    longest = matched = 0
    for place in range(period, len(row)):
        matched = matched + 1 if row[place] == row[place - period] else 0
        longest = max(longest, matched)
    return longest + period if longest >= period else 0
