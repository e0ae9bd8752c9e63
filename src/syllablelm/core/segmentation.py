"""Segmentations: the value that the stages of the package exchange."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError

IntArray = npt.NDArray[np.int32]


def _int_array(values: npt.ArrayLike, name: str) -> IntArray:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int32)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"Segmentation.{name} must be a one-dimensional integer array, not {array.dtype}{array.shape}")
    if array.dtype != np.int32 and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise InputError(f"Segmentation.{name} holds a number that does not fit 32 bits")
    # A private read-only copy: a frozen value must not change when the caller's array does.
    array = array.astype(np.int32, copy=True)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments of one recording, in frames.

    Args:
        start: (num_segments,) int32, first frame of each segment.
        end: (num_segments,) int32, frame after the last one of each segment (half-open).
        unit: (num_segments,) int32 unit of each segment, or None where no codebook was applied.
        num_frames: frames of the whole recording.
        hop: samples from one frame to the next (320 at 16 kHz: 50 frames per second).
        sample_rate: samples per second.

    Segments are sorted and do not overlap; gaps are allowed. Frames are exact; seconds are derived.

    Raises:
        InputError: the arrays disagree in length, are unsorted, overlap, or leave [0, num_frames].
    """

    start: IntArray
    end: IntArray
    unit: IntArray | None
    num_frames: int
    hop: int = 320
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        start, end = _int_array(self.start, "start"), _int_array(self.end, "end")
        unit = None if self.unit is None else _int_array(self.unit, "unit")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        object.__setattr__(self, "unit", unit)
        for name in ("num_frames", "hop", "sample_rate"):
            value = getattr(self, name)
            # NaN fails the comparison.
            if not -(2**31) <= value < 2**31:
                raise InputError(f"Segmentation.{name} {value} does not fit 32 bits")
            object.__setattr__(self, name, int(value))
        if self.hop < 1 or self.sample_rate < 1 or self.num_frames < 0:
            raise InputError("Segmentation needs hop >= 1, sample_rate >= 1 and num_frames >= 0")
        if len(start) != len(end) or (unit is not None and len(unit) != len(start)):
            raise InputError("Segmentation.start, .end and .unit must have the same length")
        if len(start) == 0:
            return
        if start[0] < 0 or end[-1] > self.num_frames:
            raise InputError(f"Segmentation reaches outside its {self.num_frames} frames")
        if np.any(end <= start) or np.any(start[1:] < end[:-1]):
            raise InputError("Segmentation segments must be non-empty, sorted and must not overlap")
        if unit is not None and np.any(unit < 0):
            raise InputError("Segmentation.unit must not be negative")

    def __len__(self) -> int:
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segmentation):
            return NotImplemented
        arrays = ((self.start, other.start), (self.end, other.end), (self.unit, other.unit))
        grids = {(one.num_frames, one.hop, one.sample_rate) for one in (self, other)}
        return len(grids) == 1 and all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in arrays)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def boundaries(self) -> IntArray:
        """Sorted unique starts and ends, in frames."""
        return np.unique(np.concatenate([self.start, self.end]))

    @cached_property
    def seconds(self) -> npt.NDArray[np.float64]:
        """(num_segments, 2) start and end of each segment in seconds."""
        return np.stack([self.start, self.end], axis=1).astype(np.float64) * (self.hop / self.sample_rate)

    @property
    def duration(self) -> float:
        """Length of the recording in seconds, by its frames."""
        return self.num_frames * self.hop / self.sample_rate

    def select(self, which: slice | npt.NDArray[np.bool_]) -> Segmentation:
        """Return some of the segments, of the same recording: a slice of them, or those where a mask is True."""
        unit = None if self.unit is None else self.unit[which]
        return Segmentation(self.start[which], self.end[which], unit, self.num_frames, self.hop, self.sample_rate)

    def frame_units(self) -> npt.NDArray[np.int64]:
        """Return the unit of each frame, or the number of its segment where there are no units; -1 in gaps.

        Returns:
            (num_frames,).
        """
        frames = np.full(self.num_frames, -1, dtype=np.int64)
        values = np.arange(len(self)) if self.unit is None else self.unit
        for start, end, value in zip(self.start, self.end, values, strict=True):
            frames[start:end] = value
        return frames

    def deduplicate(self) -> Segmentation:
        """Join touching segments of equal units; InputError if there are no units."""
        if self.unit is None:
            raise InputError("deduplicate needs units; this Segmentation has none")
        if len(self) == 0:
            return self
        new = np.ones(len(self), dtype=bool)
        new[1:] = (self.unit[1:] != self.unit[:-1]) | (self.start[1:] != self.end[:-1])
        first = np.flatnonzero(new)
        last = np.append(first[1:], len(self)) - 1
        return Segmentation(
            self.start[first], self.end[last], self.unit[first], self.num_frames, self.hop, self.sample_rate
        )

    @classmethod
    def from_boundaries(
        cls, boundaries: npt.ArrayLike, *, unit: npt.ArrayLike | None = None, hop: int = 320, sample_rate: int = 16_000
    ) -> Segmentation:
        """Return the segmentation without gaps of boundaries [0, ..., num_frames]."""
        edges = _int_array(boundaries, "boundaries")
        num_frames = int(edges[-1]) if len(edges) else 0
        units = None if unit is None else _int_array(unit, "unit")
        return cls(edges[:-1], edges[1:], units, num_frames, hop, sample_rate)

    @classmethod
    def join(cls, pieces: Iterable[Segmentation]) -> Segmentation:
        """Join the pieces of one recording that a tokenizer's ``stream`` yields, in order.

        Pieces that overlap, are out of order, of different grids, or of which some have no units are an InputError.
        """
        parts = list(pieces)
        if not parts:
            raise InputError("Segmentation.join needs at least one piece")
        if len({(part.hop, part.sample_rate, part.unit is None) for part in parts}) > 1:
            raise InputError("Segmentation.join needs pieces of one frame grid, all with units or all without")
        units = [part.unit for part in parts if part.unit is not None]
        return cls(
            np.concatenate([part.start for part in parts]),
            np.concatenate([part.end for part in parts]),
            np.concatenate(units) if units else None,
            parts[-1].num_frames,
            parts[0].hop,
            parts[0].sample_rate,
        )
