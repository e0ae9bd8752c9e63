"""Conversions between segments and the times of other formats: durations, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import IntArray, Segmentation
from syllablelm.formats.format import FormatOptions

# Largest rounding error of times in frames: other programs round seconds to a few digits.
ROUNDING = 0.1


def to_durations(id: str, segmentation: Segmentation, gap_unit: int | None) -> tuple[IntArray, IntArray]:
    """Return the units and durations in frames, both (N,), that cover the whole recording, for formats without gaps.

    `gap_unit` is the unit of a gap, which must not occur in the recording; None refuses gaps. `id` is for messages.
    """
    start, end, unit = segmentation.start, segmentation.end, segmentation.unit
    if unit is None:
        raise InputError(f"{id}: durations need units; this segmentation has none")
    if gap_unit is not None and np.any(unit == gap_unit):
        raise InputError(f"{id}: unit {gap_unit} occurs, so it cannot stand for gaps: choose another --gap-unit")
    before = np.concatenate([[0], end])
    after = np.concatenate([start, [segmentation.num_frames]])
    gaps = np.flatnonzero(before < after)
    if len(gaps) and gap_unit is None:
        raise InputError(
            f"{id}: frames {before[gaps[0]]} to {after[gaps[0]]} belong to no segment, and this format has no gaps: "
            "give --gap-unit N, the unit that stands for them"
        )
    # A gap lies before the segment of its index.
    units = np.insert(unit, gaps, 0 if gap_unit is None else gap_unit)
    lengths = np.insert(end - start, gaps, (after - before)[gaps])
    return units.astype(np.int32), lengths.astype(np.int32)


def to_frames(id: str, segmentation: Segmentation, gap_unit: int | None, format: str) -> list[int]:
    """Return the unit of every frame; InputError for a boundary between equal units, and for gaps as `to_durations`.

    `id` and `format` are for messages.
    """
    units, durations = to_durations(id, segmentation, gap_unit)
    same = np.flatnonzero(units[1:] == units[:-1])
    if len(same):
        raise InputError(
            f"{id}: the boundary at frame {np.cumsum(durations)[same[0]]} is between two segments of one unit, "
            f"which {format} files cannot hold: join them by --deduplicate"
        )
    return np.repeat(units, durations).tolist()


def from_frames(frames: Sequence[int], hop: int, options: FormatOptions) -> Segmentation:
    """Return the segments of a unit for every frame; neighbours of one unit are one segment."""
    return from_durations(frames, [1] * len(frames), hop, options).deduplicate()


def from_durations(units: Sequence[int], durations: Sequence[int], hop: int, options: FormatOptions) -> Segmentation:
    """Return adjacent segments of these units and durations, from frame 0; those of the gap unit become gaps."""
    if len(units) != len(durations):
        raise FormatError(f"{len(units)} units but {len(durations)} durations")
    length = np.array(durations, dtype=np.int64)
    if len(length) and length.min() < 1:
        place = int(np.argmin(length))
        raise FormatError(
            f"unit {units[place]} lasts {durations[place]} frames; remove tokens without duration, such as start and "
            "end marks"
        )
    end = np.cumsum(length)
    total = int(end[-1]) if len(end) else 0
    if total >= 2**31 or (len(units) and not 0 <= min(units) <= max(units) < 2**31):
        raise FormatError("a number does not fit 31 bits")
    unit = np.array(units, dtype=np.int32)
    kept = np.ones(len(unit), dtype=bool) if options.gap_unit is None else unit != options.gap_unit
    return Segmentation(
        (end - length)[kept].astype(np.int32), end[kept].astype(np.int32), unit[kept], total, hop, options.sample_rate
    )


def int_list(record: Any, key: str) -> list[int]:
    """Return the list of integers of a JSON record under a key; FormatError if there is none."""
    if not isinstance(record, dict) or not isinstance(record.get(key), list):
        raise FormatError(f"a record must be an object in which {key!r} is a list of integers")
    return int_array(record[key], repr(key)).tolist()


def int_array(values: Any, name: str, *, or_null: bool = False) -> IntArray:
    """Return a list of integers of 32 bits of a JSON file as an array; FormatError, with `name`, if it is none.

    `or_null` says in messages that null is allowed too.
    """
    if not isinstance(values, list) or not all(isinstance(x, int) and not isinstance(x, bool) for x in values):
        raise FormatError(f"{name} must be a list of integers{' or null' if or_null else ''}")
    if values and not -(2**31) <= min(values) <= max(values) < 2**31:
        raise FormatError(f"{name} holds a number that does not fit 32 bits")
    return np.array(values, dtype=np.int32)


def parse_ints(text: str) -> list[int]:
    """Return the numbers of a line, separated by blanks; FormatError for a word that is no number."""
    words = text.split()
    for word in words:
        # int() also takes signs, underscores and other scripts' digits.
        if not (word.isascii() and word.isdigit() and len(word) <= 10):
            raise FormatError(f"{word[:20]!r} is not a unit or a count of frames")
    return [int(word) for word in words]


def whole_frames(seconds: npt.ArrayLike, hop: int, sample_rate: int) -> IntArray:
    """Convert times to frames, of which they must be multiples but for the rounding of printed digits.

    `seconds` may have any shape; FormatError for a time between two frames.
    """
    exact = np.asarray(seconds, dtype=np.float64) * (sample_rate / hop)
    if not np.isfinite(exact).all() or np.abs(exact).max(initial=0.0) >= 2**31 - 1:
        raise FormatError("a time that is not finite or does not fit")
    frames = np.rint(exact)
    off = np.abs(exact - frames)
    if off.max(initial=0.0) > ROUNDING:
        worst = float(np.asarray(seconds, dtype=np.float64).ravel()[int(np.argmax(off))])
        raise FormatError(
            f"{worst:g} s is between two frames of {hop} samples at {sample_rate} Hz: give the --hop that it was "
            "written with (1 keeps every sample)"
        )
    return frames.astype(np.int32)
