"""Checks of a scored list for faults that would otherwise give a wrong number instead of an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from syllablelm.core.errors import InputError, plural
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.boundaries.selection import AlignmentLike

# Seconds by which a recording may be shorter than its alignment: encoders drop part of a frame, aligners round up.
_SHORTER = 0.1
# A reference without silences (ctm) ends with its last phone, so a recording may be longer; twice as long it is not.
_LONGER = 1.5


def check_disjoint(scored: Iterable[str], tuning: Iterable[str], name: str) -> None:
    """Check that the tuning list shares no recording with the scored list.

    Raises:
        InputError: recordings in both lists: how many, and the first.
    """
    both = sorted(set(scored) & set(tuning))
    if both:
        raise InputError(
            f"{name}: {plural(len(both), 'recording')} of the tuning list, such as {both[0]!r}, would be scored too; "
            "tune on a list apart"
        )


def check_references(
    references: Mapping[str, AlignmentLike], ids: Iterable[str], levels: Sequence[str], name: str
) -> None:
    """Check that every scored recording has reference intervals at every level.

    Raises:
        InputError: recordings without a reference interval: how many, and the first.
    """
    for level in levels:
        empty = sorted(id for id in ids if not len(references[id].intervals(level)))
        if empty:
            raise InputError(
                f"{name}: {plural(len(empty), 'recording')} without a single {level}, such as {empty[0]!r}; align them "
                "or leave them out"
            )


def check_grids(segmentations: Mapping[str, Segmentation], name: str) -> None:
    """Check that the segmentations of a list lie on one frame grid.

    Raises:
        InputError: several sample rates or hops: the rarest, how many recordings have it, and the first.
    """
    grids = Counter((value.sample_rate, value.hop) for value in segmentations.values())
    if len(grids) > 1:
        (most, _), *_, (rare, count) = grids.most_common()
        first = min(id for id, value in segmentations.items() if (value.sample_rate, value.hop) == rare)
        raise InputError(
            f"{name}: {plural(count, 'recording')} at {rare[0]} Hz with hop {rare[1]}, such as {first!r}, among others "
            f"at {most[0]} Hz with hop {most[1]}; score one sample rate and hop at a time"
        )


def check_lengths(
    segmentations: Mapping[str, Segmentation], references: Mapping[str, AlignmentLike], name: str
) -> None:
    """Check that recordings are as long as their alignments; a wrong sample rate or other edits break that.

    Raises:
        InputError: recordings of another length: how many, and the first with both lengths.
    """
    wrong = []
    for id in sorted(segmentations):
        ours, theirs = segmentations[id].duration, references[id]
        spoken = max((interval.end for interval in theirs.intervals("word")), default=0.0)
        if ours < spoken - _SHORTER or ours > _LONGER * theirs.duration + 1:
            wrong.append((id, ours, theirs.duration))
    if wrong:
        id, ours, theirs = wrong[0]
        value = segmentations[id]
        raise InputError(
            f"{name}: {plural(len(wrong), 'recording')} of another length than the alignment, such as {id!r} with "
            f"{ours:.2f} s ({value.num_frames} frames of {value.hop} samples at {value.sample_rate} Hz) for "
            f"{theirs:.2f} s; check the sample rate"
        )
