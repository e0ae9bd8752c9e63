"""Bootstrap intervals over utterances, for any mergeable counts.

Utterances are drawn with replacement, their counts summed, and the statistic computed of the sums. The sums of many
resamples are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate
from syllablelm.evaluate.counts import C

CountsT = TypeVar("CountsT")

# Entries of the largest dense matrix of a block of resamples (32 MB).
_BLOCK = 4_000_000


class _Stack(Generic[CountsT]):
    """Counts of many utterances as rows of one sparse matrix: a column per number and per entry of a table."""

    def __init__(self, items: Sequence[CountsT]) -> None:
        if not items:
            raise InputError("A bootstrap needs the counts of at least one utterance")
        self.kind: type[CountsT] = type(items[0])
        if not is_dataclass(self.kind):
            raise InputError(f"A bootstrap needs counts such as BoundaryCounts, not {self.kind.__name__}")
        self.names = [field.name for field in fields(self.kind)]
        self.tables = [name for name in self.names if isinstance(getattr(items[0], name), Mapping)]
        columns: dict[tuple[str, Any], int] = {(name, None): k for k, name in enumerate(self.names)}
        row, column, value = [], [], []
        for index, item in enumerate(items):
            if type(item) is not self.kind:
                raise InputError(
                    f"A bootstrap needs counts of one kind, not {self.kind.__name__} and {type(item).__name__}"
                )
            for name in self.names:
                entry = getattr(item, name)
                for key, count in entry.items() if name in self.tables else ((None, entry),):
                    row.append(index)
                    column.append(columns.setdefault((name, key), len(columns)))
                    value.append(count)
        self.columns = list(columns)
        self.matrix = sparse.csr_array((np.asarray(value), (row, column)), shape=(len(items), len(columns)))

    def sums(self, weights: npt.NDArray[np.int64]) -> Iterator[CountsT]:
        """Counts summed with each row of `weights` (resamples, utterances)."""
        for sums in (weights @ self.matrix).tolist():
            values: dict[str, Any] = {name: {} for name in self.tables}
            for (name, key), total in zip(self.columns, sums, strict=True):
                if name not in self.tables:
                    values[name] = total
                elif key is not None and total:
                    values[name][key] = total
            yield self.kind(**values)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, such as 0.95, not {level}")
    if resamples < 1:
        raise InputError(f"resamples must be 1 or more, not {resamples}")


def _draws(num_items: int, num_columns: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how often each utterance is drawn, (block, num_items); the size of a block does not change the numbers."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(num_items, num_columns))
    share = np.full(num_items, 1 / num_items)
    for first in range(0, resamples, block):
        yield rng.multinomial(num_items, share, size=min(block, resamples - first))


def _percentiles(values: Sequence[float], level: float, center: float | None) -> tuple[float, float]:
    array = np.asarray(values, dtype=np.float64)
    if center is not None:
        array = array - array.mean() + center
    low, high = np.quantile(array, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    items: Sequence[CountsT],
    statistic: Callable[[CountsT], float],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    centered: bool = False,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval (low, high) of a corpus score over utterances.

    Args:
        items: counts of each utterance.
        statistic: score of summed counts, such as `lambda counts: counts.f1`.
        level: coverage of the interval.
        resamples, seed: see `syllablelm.evaluate`.
        centered: shift the resampled scores so that their mean is the score of all items. Needed for purity and mutual
            information: an utterance that is drawn twice repeats its own pairs, so every resample scores too high and
            the plain interval can miss the score itself.

    Raises:
        InputError: no items, items of different kinds, or an impossible level or number of resamples.
    """
    _check(level, resamples)
    stack = _Stack(items)
    draws = _draws(len(items), len(stack.columns), resamples, seed)
    resampled = [statistic(total) for weights in draws for total in stack.sums(weights)]
    (score,) = (statistic(total) for total in stack.sums(np.ones((1, len(items)), dtype=np.int64)))
    return _percentiles(resampled, level, score if centered else None)


def bootstrap_estimate(items: Sequence[C], statistic: Callable[[C], float], **options: Any) -> Estimate:
    """Return the score of all items together with its interval; arguments as for `bootstrap_interval`."""
    low, high = bootstrap_interval(items, statistic, **options)
    return Estimate(statistic(type(items[0]).merge(items)), low, high)


def bootstrap_difference(
    a_items: Sequence[CountsT],
    b_items: Sequence[CountsT],
    statistic: Callable[[CountsT], float],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    centered: bool = False,
) -> tuple[float, float, float]:
    """Return the difference of two systems on the same utterances, with its paired bootstrap interval.

    Args:
        a_items, b_items: counts of each utterance under either system, in the same order.
        statistic, level, resamples, seed, centered: as for `bootstrap_interval`, with the same errors.

    Returns:
        (difference, low, high) of statistic(a) - statistic(b). System a is clearly above where low > 0.
    """
    _check(level, resamples)
    if len(a_items) != len(b_items):
        raise InputError(f"A paired bootstrap needs the same utterances: got {len(a_items)} and {len(b_items)}")
    ours, theirs = _Stack(a_items), _Stack(b_items)

    def differences(weights: npt.NDArray[np.int64]) -> list[float]:
        pairs = zip(ours.sums(weights), theirs.sums(weights), strict=True)
        return [statistic(a) - statistic(b) for a, b in pairs]

    draws = _draws(len(a_items), max(len(ours.columns), len(theirs.columns)), resamples, seed)
    resampled = [value for weights in draws for value in differences(weights)]
    (difference,) = differences(np.ones((1, len(a_items)), dtype=np.int64))
    return (difference, *_percentiles(resampled, level, difference if centered else None))
