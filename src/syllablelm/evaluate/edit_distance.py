"""Edit distance of two sequences of symbols."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the smallest number of substitutions, insertions and deletions that turn one sequence into the other.

    Args:
        a, b: sequences of symbols (strings, integers) of any lengths.
    """
    ids: dict[Hashable, int] = {}
    ours, theirs = (np.array([ids.setdefault(symbol, len(ids)) for symbol in side], dtype=np.int64) for side in (a, b))
    steps = np.arange(len(theirs) + 1)
    row = steps
    for count, symbol in enumerate(ours, start=1):
        # Deletions and substitutions first, then runs of insertions: min over k <= j of best[k] + (j - k).
        best = np.concatenate([[count], np.minimum(row[1:] + 1, row[:-1] + (theirs != symbol))])
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])
