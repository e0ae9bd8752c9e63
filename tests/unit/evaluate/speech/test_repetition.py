"""Distinct-n, runs and loops by hand and by their definitions."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from syllablelm.evaluate.speech.repetition import LONGEST_PATTERN, RepetitionCounts, repetition_counts, score_repetition

ROWS = st.lists(st.integers(0, 2), max_size=14)


def slow_loop(row: list[int]) -> int:
    """Every stretch against every pattern."""
    best = 0
    for first in range(len(row)):
        for last in range(first + 1, len(row) + 1):
            part = row[first:last]
            for period in range(1, LONGEST_PATTERN + 1):
                pattern = part[:period] * len(part)
                if len(part) >= 2 * period and part == pattern[: len(part)]:
                    best = max(best, len(part))
    return best


@given(ROWS)
def test_loops_are_their_definition(row):
    assert repetition_counts(row).longest_loop == slow_loop(row)


@given(ROWS, ROWS)
def test_counts_add(a, b):
    one, other = repetition_counts(a), repetition_counts(b)
    total = one + other
    assert total == other + one
    assert (total.units, total.longest_run) == (len(a) + len(b), max(one.longest_run, other.longest_run))
    assert total.distinct_2 == len(set(pairwise(a))) + len(set(pairwise(b)))


def test_by_hand():
    counts = repetition_counts([5, 5, 5, 1, 2, 1, 2])
    assert [counts.distinct(order) for order in (1, 2, 3)] == [3 / 7, 4 / 6, 5 / 5]
    assert (counts.longest_run, counts.longest_loop, counts.runaway) == (3, 4, 1)
    assert (repetition_counts([1, 2, 3]).longest_run, repetition_counts([1, 2, 3]).longest_loop) == (1, 0)


def test_nothing():
    assert repetition_counts([]) == RepetitionCounts(sequences=1)
    assert RepetitionCounts().distinct(1) == RepetitionCounts().runaway_share == 0.0


def test_rows_are_counted_together():
    scores = score_repetition([[3, 3], [1, 2]], resamples=10, seed=0)
    assert scores.distinct["distinct_1"] == scores.counts.distinct_1 / scores.counts.ngrams_1 == 0.75
    low, high = scores.distinct_interval["distinct_1"]
    assert 0.5 <= low <= 0.75 <= high <= 1.0
