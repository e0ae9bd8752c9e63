"""Boundary detection: how well predicted boundaries agree with those of an alignment, by a named protocol."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.evaluate.matching import (
    BoundaryCounts,
    MicrosecondArray,
    boundary_counts,
    count_hits,
    to_microseconds,
    tolerance_in_microseconds,
)
from syllablelm.evaluate.protocols import PROTOCOLS, Protocol, get_protocol
from syllablelm.types import Segmentation

__all__ = [
    "PROTOCOLS",
    "AlignmentLike",
    "BoundaryCounts",
    "BoundaryScores",
    "Protocol",
    "boundary_counts",
    "get_protocol",
    "score_boundaries",
    "search_shift",
    "shared_ids",
    "to_microseconds",
]


class AlignmentLike(typing.Protocol):
    """What a reference must offer: its length, and its boundaries and starts at a level such as "syllable"."""

    @property
    def duration(self) -> float:
        """Length of the recording in seconds."""
        ...

    def boundaries(self, level: Any, /) -> npt.ArrayLike:
        """Starts and ends of the intervals of `level`, in seconds."""
        ...

    def starts(self, level: Any, /) -> npt.ArrayLike:
        """Starts of the intervals of `level`, in seconds."""
        ...


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary scores of a list of recordings, with the counts of each for bootstrap intervals.

    Args:
        protocol: how the boundaries were compared.
        level: what the reference intervals are, such as "syllable".
        ids: recordings, sorted.
        counts: for each tolerance in seconds, the counts of each recording in the order of `ids`.
    """

    protocol: Protocol
    level: str
    ids: tuple[str, ...]
    counts: Mapping[float, tuple[BoundaryCounts, ...]]

    def items(self, tolerance: float | None = None) -> tuple[BoundaryCounts, ...]:
        """Counts of each recording at a tolerance in seconds, by default the protocol's.

        Raises:
            InputError: the scores were not made at this tolerance.
        """
        key = self.protocol.tolerance if tolerance is None else tolerance
        if key not in self.counts:
            raise InputError(f"No boundary scores at tolerance {key} s; there are {', '.join(map(str, self.counts))}")
        return self.counts[key]

    def total(self, tolerance: float | None = None) -> BoundaryCounts:
        """Corpus counts at a tolerance in seconds, by default the protocol's."""
        return sum(self.items(tolerance), BoundaryCounts())

    @cached_property
    def totals(self) -> dict[float, BoundaryCounts]:
        """Corpus counts for each tolerance in seconds."""
        return {tolerance: self.total(tolerance) for tolerance in self.counts}

    def to_dict(self) -> dict[str, object]:
        """Protocol, level, number of recordings, and counts and ratios by tolerance in seconds (as text)."""
        return {
            "protocol": self.protocol.to_dict(),
            "level": self.level,
            "recordings": len(self.ids),
            "tolerances": {str(tolerance): counts.to_dict() for tolerance, counts in self.totals.items()},
        }


def shared_ids(predictions: Mapping[str, object], references: Mapping[str, object]) -> tuple[str, ...]:
    """Sorted ids of two mappings that must have the same ones.

    Raises:
        InputError: ids missing on either side, named, or no ids at all.
    """
    for has, lacks, side in ((references, predictions, "predictions"), (predictions, references, "references")):
        missing = sorted(set(has) - set(lacks))
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise InputError(f"The {side} lack {', '.join(missing[:5])}{more}: score the same recordings on both sides")
    if not predictions:
        raise InputError("Nothing to score: predictions and references are empty")
    return tuple(sorted(predictions))


_Pair = tuple[MicrosecondArray, MicrosecondArray]


def _pair(prediction: Segmentation, reference: AlignmentLike, protocol: Protocol, level: str) -> _Pair:
    """Sorted unique times of both sides in microseconds, edges dropped where the protocol says so, not shifted."""
    edges = prediction.seconds if protocol.prediction == "starts+ends" else prediction.seconds[:, 0]
    times = reference.boundaries(level) if protocol.reference == "starts+ends" else reference.starts(level)
    ours = np.unique(to_microseconds(edges, "predicted boundaries"))
    theirs = np.unique(to_microseconds(times, "reference boundaries"))
    if protocol.drop_edges:
        ends = to_microseconds([prediction.duration, reference.duration], "durations")
        ours, theirs = (
            side[(side > 0) & (side < end)] for side, end in zip((ours, theirs), ends.tolist(), strict=True)
        )
    return ours, theirs


def _shifted(pair: _Pair, protocol: Protocol, shift: float) -> _Pair:
    step = int(to_microseconds(shift, "shift"))
    ours, theirs = pair
    return (ours + step, theirs) if protocol.shift_side == "predictions" else (ours, theirs + step)


def score_boundaries(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    protocol: Protocol | str = "paper",
    level: str = "syllable",
    tolerances: Sequence[float] = (0.02, 0.05),
) -> BoundaryScores:
    """Score the boundaries of a list of recordings by a named protocol (section 5.4).

    Args:
        predictions: segmentation of each recording, by id.
        references: alignment of each recording, by the same ids. A recording without reference boundaries still
            counts: what was predicted there is wrong.
        protocol: a Protocol or the name of one.
        level: which reference intervals count: "syllable", "word" or "phone".
        tolerances: seconds; the protocol's own is added if it is not among them.

    Returns:
        BoundaryScores with the counts of each recording.

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
    pairs = [_shifted(_pair(predictions[i], references[i], protocol, level), protocol, protocol.shift) for i in ids]
    widths = dict.fromkeys([*tolerances, protocol.tolerance])
    counts = {
        width: tuple(count_hits(*pair, tolerance_in_microseconds(width)) for pair in pairs) for width in sorted(widths)
    }
    return BoundaryScores(protocol, level, ids, counts)


def search_shift(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    protocol: Protocol | str,
    level: str = "syllable",
    grid: Sequence[float] | None = None,
) -> float:
    """Find the constant shift with the best R-value on a development list.

    Args:
        predictions, references: as for `score_boundaries`; never the list that is reported.
        protocol: gives the boundaries that count, the side that is shifted, the tolerance and the grid.
        level: which reference intervals count.
        grid: shifts in seconds to try instead of the protocol's.

    Returns:
        The shift in seconds; of equally good ones the nearest to zero.

    Raises:
        InputError: ids missing on either side, or no grid.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    shifts = protocol.shift_grid if grid is None else tuple(grid)
    if not shifts:
        raise InputError(f"Protocol {protocol.name!r} has no shifts to search: pass grid=[...] in seconds")
    ids = shared_ids(predictions, references)
    pairs = [_pair(predictions[i], references[i], protocol, level) for i in ids]
    width = tolerance_in_microseconds(protocol.tolerance)

    def r_value(shift: float) -> float:
        return sum((count_hits(*_shifted(pair, protocol, shift), width) for pair in pairs), BoundaryCounts()).r_value

    return float(max(sorted(shifts, key=abs), key=r_value))
