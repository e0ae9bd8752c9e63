"""Boundary detection: how well predicted boundaries agree with those of an alignment.

Published scores differ in which boundaries count and in whether a constant shift is tuned first; each way has a name
here (`PROTOCOLS`), and a score carries the protocol it was made by.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError
from syllablelm.types import Segmentation

MicrosecondArray = npt.NDArray[np.int64]


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
class BoundaryCounts:
    """Counts of a boundary comparison; add those of utterances to get those of a corpus.

    Args:
        hits: pairs of a predicted and a reference boundary within the tolerance, each boundary used once.
        predicted: predicted boundaries.
        reference: reference boundaries.

    A ratio whose denominator is zero is 0.0 (nothing was shown to be right), so every property is finite.

    Raises:
        InputError: a count is negative, or there are more hits than boundaries on one side.
    """

    hits: int = 0
    predicted: int = 0
    reference: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= min(self.predicted, self.reference):
            raise InputError(
                f"BoundaryCounts needs 0 <= hits <= predicted and reference, not hits={self.hits}, "
                f"predicted={self.predicted}, reference={self.reference}"
            )

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        if not isinstance(other, BoundaryCounts):
            return NotImplemented
        return BoundaryCounts(
            self.hits + other.hits, self.predicted + other.predicted, self.reference + other.reference
        )

    def __radd__(self, other: object) -> BoundaryCounts:
        # sum() starts from the integer 0.
        return self if type(other) is int and other == 0 else NotImplemented

    @property
    def precision(self) -> float:
        """Hits / predicted boundaries."""
        return self.hits / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Hits / reference boundaries."""
        return self.hits / self.reference if self.reference else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 hits / (predicted + reference)."""
        total = self.predicted + self.reference
        return 2 * self.hits / total if total else 0.0

    @property
    def over_segmentation(self) -> float:
        """OS = recall / precision - 1 = predicted / reference - 1; the second form also holds without a hit."""
        return self.predicted / self.reference - 1 if self.reference else 0.0

    @property
    def r_value(self) -> float:
        """R-value (Räsänen et al. 2009): 1 - (|r1| + |r2|) / 2; 0.0 where there is no reference boundary.

        r1 = sqrt((1 - recall)^2 + OS^2), r2 = (recall - 1 - OS) / sqrt(2). One is perfect; it has no lower bound,
        and predicting nothing at all gives 1 - 1/sqrt(2) = .293, not zero.
        """
        if not self.reference:
            return 0.0
        miss, over = 1 - self.recall, self.over_segmentation
        return 1 - (math.hypot(miss, over) + abs(miss + over) / math.sqrt(2)) / 2

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        names = ("hits", "predicted", "reference", "precision", "recall", "f1", "over_segmentation", "r_value")
        return {name: getattr(self, name) for name in names}


def to_microseconds(seconds: npt.ArrayLike, name: str = "times") -> MicrosecondArray:
    """Round times in seconds, of any shape, to int64 microseconds.

    Raises:
        InputError: not numbers, or not finite.
    """
    try:
        values = np.asarray(seconds, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers in seconds: {error}") from error
    if not np.all(np.isfinite(values)):
        raise InputError(f"{name} must be finite times in seconds, not NaN or infinite")
    return np.rint(values * 1e6).astype(np.int64)


def boundary_counts(
    predicted_seconds: npt.ArrayLike, reference_seconds: npt.ArrayLike, tolerance: float = 0.05
) -> BoundaryCounts:
    """Match predicted with reference boundaries and count the hits (section 5.4).

    Args:
        predicted_seconds: (num_predicted,) times in seconds, in any order.
        reference_seconds: (num_reference,) times in seconds, in any order.
        tolerance: greatest distance of a hit in seconds, itself included.

    Returns:
        BoundaryCounts. A time that is given twice counts twice, as each boundary is used once.

    Times are compared as whole microseconds: with alignments in steps of 10 ms a distance of exactly 50 ms is common,
    and in floating point it would be a hit or a miss by chance.

    Raises:
        InputError: times that are not one-dimensional or not finite, or a negative tolerance.
    """
    predicted = to_microseconds(predicted_seconds, "predicted_seconds")
    reference = to_microseconds(reference_seconds, "reference_seconds")
    if predicted.ndim != 1 or reference.ndim != 1:
        raise InputError(f"Boundaries must be one-dimensional, not {predicted.shape} and {reference.shape}")
    return _count(np.sort(predicted), np.sort(reference), _tolerance(tolerance))


def _tolerance(seconds: float) -> int:
    width = to_microseconds(seconds, "tolerance")
    if width.ndim != 0 or width < 0:
        raise InputError(f"tolerance must be one number of seconds, zero or more, not {seconds}")
    return int(width)


def _count(predicted: MicrosecondArray, reference: MicrosecondArray, tolerance: int) -> BoundaryCounts:
    """Greedy two-pointer matching of sorted times; all windows are equally wide, so greedy is a maximum matching."""
    ours, theirs = predicted.tolist(), reference.tolist()
    i = j = hits = 0
    while i < len(ours) and j < len(theirs):
        distance = ours[i] - theirs[j]
        if -tolerance <= distance <= tolerance:
            hits, i, j = hits + 1, i + 1, j + 1
        elif distance < 0:
            i += 1
        else:
            j += 1
    return BoundaryCounts(hits, len(ours), len(theirs))


Which = typing.Literal["starts", "starts+ends"]
Side = typing.Literal["predictions", "references"]


@dataclass(frozen=True)
class Protocol:
    """A named way to score boundaries.

    Args:
        name: the name printed beside the score.
        prediction: which boundaries of predicted segments count; equal times count once.
        reference: which boundaries of reference intervals count; equal times count once.
        shift: seconds added to one side before matching; None where it must be searched on a development list first
            (`search_shift`, then `with_shift`).
        shift_side: the side that the shift is added to.
        shift_grid: shifts in seconds that `search_shift` tries.
        tolerance: the main tolerance in seconds, used by the search.
        drop_edges: leave out, on both sides, boundaries at the very start and end of the recording, which every
            gap-free segmentation has for nothing.

    Raises:
        InputError: an unknown choice, a negative tolerance or a shift that is not finite.
    """

    name: str
    prediction: Which = "starts+ends"
    reference: Which = "starts+ends"
    shift: float | None = 0.0
    shift_side: Side = "predictions"
    shift_grid: tuple[float, ...] = ()
    tolerance: float = 0.05
    drop_edges: bool = False

    def __post_init__(self) -> None:
        for field, choices in (("prediction", Which), ("reference", Which), ("shift_side", Side)):
            value = getattr(self, field)
            if value not in typing.get_args(choices):
                raise InputError(f"Protocol.{field} must be one of {typing.get_args(choices)}, not {value!r}")
        _tolerance(self.tolerance)
        to_microseconds([*self.shift_grid, self.shift or 0.0], "Protocol.shift")

    def with_shift(self, shift: float) -> Protocol:
        """The same protocol with the shift (seconds) that was found on a development list."""
        return replace(self, shift=float(shift))

    def to_dict(self) -> dict[str, object]:
        """What a reader of a score must know: name, sides, shift (seconds) and edges."""
        names = ("name", "prediction", "reference", "shift", "shift_side", "drop_edges")
        return {name: getattr(self, name) for name in names}


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # The paper says that it follows Peng et al. and does not say that it shifts: both sides whole, no shift.
        Protocol("paper"),
        # Peng et al. 2023: arange(-.06, .031, .005) added to the predictions.
        Protocol("peng", shift=None, shift_grid=tuple(ms / 1000 for ms in range(-60, 31, 5))),
        # SD-HuBERT: predicted starts only; arange(-.05, .05, .005) added to the reference.
        Protocol(
            "sdhubert",
            prediction="starts",
            shift=None,
            shift_side="references",
            shift_grid=tuple(ms / 1000 for ms in range(-50, 50, 5)),
        ),
        Protocol("strict", drop_edges=True),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of this name: "paper", "peng", "sdhubert" or "strict".

    Raises:
        InputError: no such protocol; the message names the nearest one.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(PROTOCOLS)}"
        raise InputError(f"Unknown boundary protocol {name!r}: {hint}")
    return PROTOCOLS[name]


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
    counts = {width: tuple(_count(*pair, _tolerance(width)) for pair in pairs) for width in sorted(widths)}
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
    width = _tolerance(protocol.tolerance)

    def r_value(shift: float) -> float:
        return sum((_count(*_shifted(pair, protocol, shift), width) for pair in pairs), BoundaryCounts()).r_value

    return float(max(sorted(shifts, key=abs), key=r_value))
