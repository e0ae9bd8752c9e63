"""Which times of a recording are compared under a protocol."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.boundaries.matching import (
    TOUCH,
    MicrosecondArray,
    TimeArray,
    to_intervals,
    to_microseconds,
    tolerance_in_microseconds,
)
from syllablelm.evaluate.boundaries.protocols import Protocol

SecondArray = npt.NDArray[np.float64]


class AlignmentLike(typing.Protocol):
    """What a reference must offer: its length, and its intervals and their edges at a level such as "syllable"."""

    @property
    def duration(self) -> float:
        """Length of the recording in seconds."""
        ...

    def intervals(self, level: Any, /) -> Any:
        """The labelled intervals of `level` (label, start, end in seconds), sorted."""
        ...

    def boundaries(self, level: Any, /) -> npt.ArrayLike:
        """Starts and ends of the intervals of `level`, in seconds."""
        ...

    def starts(self, level: Any, /) -> npt.ArrayLike:
        """Starts of the intervals of `level`, in seconds."""
        ...


class Compared(NamedTuple):
    """Sorted times of one recording, or of one stretch of it: what is matched with what, and within which tolerance.

    All in microseconds, or all in seconds where the protocol wants binary floats. Tokens are (number, 2).
    """

    ours: TimeArray
    theirs: TimeArray
    our_tokens: TimeArray
    their_tokens: TimeArray
    tolerance: float


def shared_ids(predictions: Mapping[str, object], references: Mapping[str, object]) -> tuple[str, ...]:
    """Sorted ids of two mappings that must have the same ones; InputError names what is missing on either side."""
    for has, lacks, side in ((references, predictions, "predictions"), (predictions, references, "references")):
        missing = sorted(set(has) - set(lacks))
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise InputError(f"The {side} lack {', '.join(missing[:5])}{more}: score the same recordings on both sides")
    if not predictions:
        raise InputError("Nothing to score: predictions and references are empty")
    return tuple(sorted(predictions))


def interval_times(reference: AlignmentLike, level: str) -> MicrosecondArray:
    """(num_intervals, 2) starts and ends of a level in microseconds."""
    found = [(interval.start, interval.end) for interval in reference.intervals(level)]
    return to_intervals(found, "reference segments")


@dataclass(frozen=True)
class Whole:
    """All boundaries of a recording on both sides, not shifted."""

    ours: MicrosecondArray
    theirs: MicrosecondArray
    our_tokens: MicrosecondArray
    their_tokens: MicrosecondArray
    shift_side: str

    def at(self, shift: float, tolerance: float) -> list[Compared]:
        """What is compared after a shift, within a tolerance, both in seconds: one part."""
        step, width = int(to_microseconds(shift, "shift")), tolerance_in_microseconds(tolerance)
        if self.shift_side == "predictions":
            return [Compared(self.ours + step, self.theirs, self.our_tokens + step, self.their_tokens, width)]
        return [Compared(self.ours, self.theirs + step, self.our_tokens, self.their_tokens + step, width)]


@dataclass(frozen=True)
class Stretches:
    """ZeroSyl's rule: only what lies inside a stretch of speech, with the stretch's own edges given to both sides.

    Seconds in binary floats on purpose, compared by the expressions of the published evaluator. Cuts lie on 20 ms
    and references on 10 ms, so a distance of exactly 50 ms is common, and whether it is a hit is up to the binary
    fractions: on 35 recordings of LibriSpeech exact arithmetic gave an F1 .03 higher.

    Args:
        seconds: starts of the predicted segments and the end of the last.
        stretches: edges of each stretch: its start, then the end of every interval.
    """

    seconds: tuple[float, ...]
    stretches: tuple[SecondArray, ...]

    def at(self, shift: float, tolerance: float) -> list[Compared]:
        """What is compared, by stretch; predictions within the tolerance of a stretch's edge do not count."""
        # Rounded to 10 ms as published; half of its shifts, such as -5 ms, make every time a tie of this rounding.
        times = np.array([round(time + shift, 2) for time in self.seconds], dtype=np.float64)
        parts = []
        for edges in self.stretches:
            inside = times[(times > edges[0] + tolerance) & (times < edges[-1] - tolerance)]
            ours = np.concatenate([edges[:1], inside, edges[-1:]])
            parts.append(Compared(inside, edges[1:-1], _spans(ours), _spans(edges), tolerance))
        return parts


def _spans(edges: SecondArray) -> SecondArray:
    """(n + 1,) edges of segments without gaps -> (n, 2) starts and ends."""
    return np.stack([edges[:-1], edges[1:]], axis=1)


def select_times(
    prediction: Segmentation, reference: AlignmentLike, protocol: Protocol, level: str
) -> Whole | Stretches:
    """Choose the times of one recording that a protocol compares at a level; `at` of the result shifts them."""
    tokens = interval_times(reference, level)
    if protocol.stretches:
        frames = [*prediction.start.tolist(), *prediction.end[-1:].tolist()]
        seconds = tuple(frame * prediction.hop / prediction.sample_rate for frame in frames)
        return Stretches(seconds, tuple(_stretches(tokens)))
    edges = prediction.seconds if protocol.prediction == "starts+ends" else prediction.seconds[:, 0]
    times = reference.boundaries(level) if protocol.reference == "starts+ends" else reference.starts(level)
    ours = np.unique(to_microseconds(edges, "predicted boundaries"))
    theirs = np.unique(to_microseconds(times, "reference boundaries"))
    if protocol.drop_edges:
        ends = to_microseconds([prediction.duration, reference.duration], "durations")
        ours, theirs = (
            side[(side > 0) & (side < end)] for side, end in zip((ours, theirs), ends.tolist(), strict=True)
        )
    our_tokens = to_microseconds(prediction.seconds, "predicted segments")
    return Whole(ours, theirs, our_tokens, tokens, protocol.shift_side)


def _stretches(tokens: MicrosecondArray) -> list[SecondArray]:
    """Runs of touching intervals, in seconds: of each its start and the ends of its intervals."""
    if not len(tokens):
        return []
    gaps = np.flatnonzero(tokens[1:, 0] - tokens[:-1, 1] > TOUCH) + 1
    runs = [tokens[first:last] for first, last in pairwise([0, *gaps.tolist(), len(tokens)])]
    # A whole number over 1e6 is the float nearest to the decimal fraction, as if it had been read from a file.
    return [np.concatenate([run[:1, 0], run[:, 1]]) / 1e6 for run in runs]
