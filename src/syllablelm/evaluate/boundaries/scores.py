"""Boundary detection: how well predicted boundaries agree with those of an alignment, by a named protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.boundaries.matching import (
    BoundaryCounts,
    TokenCounts,
    count_hits,
    count_token_hits,
    to_intervals,
    tolerance_in_microseconds,
)
from syllablelm.evaluate.boundaries.protocols import Protocol, get_protocol
from syllablelm.evaluate.boundaries.selection import (
    AlignmentLike,
    Compared,
    interval_times,
    select_times,
    shared_ids,
)


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary scores of a list of recordings, with the counts of each for bootstrap intervals.

    Args:
        protocol: how the boundaries were compared.
        level: what the reference intervals are, such as "syllable".
        ids: recordings, sorted.
        counts: for each tolerance in seconds, the counts of each recording in the order of `ids`.
        tokens: likewise of whole segments, of which both edges must be right.

    Tolerances of its methods are in seconds, by default the protocol's; InputError for one without scores.
    """

    protocol: Protocol
    level: str
    ids: tuple[str, ...]
    counts: Mapping[float, tuple[BoundaryCounts, ...]]
    tokens: Mapping[float, tuple[TokenCounts, ...]] = field(default_factory=dict)

    def items(self, tolerance: float | None = None) -> tuple[BoundaryCounts, ...]:
        """Counts of each recording."""
        return self.counts[self._key(tolerance)]

    def token_items(self, tolerance: float | None = None) -> tuple[TokenCounts, ...]:
        """Counts of whole segments of each recording."""
        return self.tokens[self._key(tolerance)]

    def _key(self, tolerance: float | None) -> float:
        key = self.protocol.tolerance if tolerance is None else tolerance
        if key not in self.counts:
            raise InputError(f"No boundary scores at tolerance {key} s; there are {', '.join(map(str, self.counts))}")
        return key

    def total(self, tolerance: float | None = None) -> BoundaryCounts:
        """Corpus counts."""
        return sum(self.items(tolerance), BoundaryCounts())

    def token_total(self, tolerance: float | None = None) -> TokenCounts:
        """Corpus counts of whole segments."""
        return sum(self.token_items(tolerance), TokenCounts())


def score_boundaries(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    protocol: Protocol | str = "paper",
    level: str = "syllable",
    tolerances: Sequence[float] = (0.02, 0.05),
) -> BoundaryScores:
    """Score the boundaries of a list of recordings by a named protocol (section 5.4).

    Args:
        predictions, references: segmentations and alignments by the same ids. A recording without reference boundaries
            still counts: what was predicted there is wrong.
        protocol: a Protocol or the name of one.
        level: which reference intervals count: "syllable", "word" or "phone" (Table 5).
        tolerances: seconds; the protocol's own is added if it is not among them.

    Raises:
        InputError: ids missing on either side, an unknown protocol, or one whose shift was not searched yet.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if protocol.shift is None:
        raise InputError(
            f"Protocol {protocol.name!r} needs a shift: find it on a development list with search_shift(...) "
            "and pass protocol.with_shift(shift)"
        )
    ids = shared_ids(predictions, references)
    selected = [select_times(predictions[i], references[i], protocol, level) for i in ids]
    counts, tokens = {}, {}
    for tolerance in sorted(dict.fromkeys([*tolerances, protocol.tolerance])):
        parts = [selection.at(protocol.shift, tolerance) for selection in selected]
        counts[tolerance] = tuple(_boundaries(one) for one in parts)
        tokens[tolerance] = tuple(_tokens(one) for one in parts)
    return BoundaryScores(protocol, level, ids, counts, tokens)


def _boundaries(parts: Iterable[Compared]) -> BoundaryCounts:
    return sum((count_hits(part.ours, part.theirs, part.tolerance) for part in parts), BoundaryCounts())


def _tokens(parts: Iterable[Compared]) -> TokenCounts:
    return sum((count_token_hits(part.our_tokens, part.their_tokens, part.tolerance) for part in parts), TokenCounts())


def search_shift(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    protocol: Protocol | str,
    level: str = "syllable",
    grid: Sequence[float] | None = None,
) -> float:
    """Return the constant shift in seconds with the best R-value on a development list; of equals the nearest to zero.

    Args:
        predictions, references, level: as for `score_boundaries`; never the list that is reported.
        protocol: gives the boundaries that count, the side that is shifted, the tolerance and the grid.
        grid: shifts in seconds to try instead of the protocol's.

    Raises:
        InputError: ids missing on either side, or no grid.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    shifts = protocol.shift_grid if grid is None else tuple(grid)
    if not shifts:
        raise InputError(f"Protocol {protocol.name!r} has no shifts to search: pass grid=[...] in seconds")
    ids = shared_ids(predictions, references)
    selected = [select_times(predictions[i], references[i], protocol, level) for i in ids]

    def r_value(shift: float) -> float:
        return _boundaries(part for one in selected for part in one.at(shift, protocol.tolerance)).r_value

    return float(max(sorted(shifts, key=abs), key=r_value))


def score_tokens(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    level: str = "syllable",
    tolerance: float = 0.05,
) -> dict[str, TokenCounts]:
    """Token counts of each recording, whole and without a shift, by sorted id; `sum` of the values gives the corpus."""
    width = tolerance_in_microseconds(tolerance)
    return {
        id: count_token_hits(
            to_intervals(predictions[id].seconds, "predicted segments"), interval_times(references[id], level), width
        )
        for id in shared_ids(predictions, references)
    }
