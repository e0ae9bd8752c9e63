"""Segmentations: the value that the stages of the package exchange."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, import_optional, plural

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


@dataclass(frozen=True)
class Segment:
    """One segment of a recording.

    Args:
        start, end: first frame, and frame after the last one.
        unit: unit, or None where no codebook was applied.
        seconds: start and end in seconds.
    """

    start: int
    end: int
    unit: int | None
    seconds: tuple[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Segments of one recording, in frames.

    Args:
        start: (num_segments,) int32, first frame of each segment.
        end: (num_segments,) int32, frame after the last one of each segment (half-open).
        unit: (num_segments,) int32 unit of each segment, or None where no codebook was applied.
        num_frames: frames of the whole recording.
        hop: samples from one frame to the next (320 at 16 kHz: 50 frames per second).
        sample_rate: samples per second.

    Segments are sorted and do not overlap; gaps are allowed. Frames are exact; seconds are derived. An index gives a
    ``Segment``, a slice or a mask a Segmentation of the same recording; iteration yields every ``Segment``.

    Raises:
        InputError: the arrays disagree in length, are unsorted, overlap, or leave [0, num_frames].
    """

    start: IntArray
    end: IntArray
    unit: IntArray | None
    num_frames: int
    hop: int = 320
    sample_rate: int = 16_000

    _audio: ClassVar[Callable[[], npt.NDArray[np.floating[Any]] | None] | None] = None

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

    @overload
    def __getitem__(self, which: SupportsIndex) -> Segment: ...
    @overload
    def __getitem__(self, which: slice | npt.NDArray[np.bool_]) -> Segmentation: ...
    def __getitem__(self, which: SupportsIndex | slice | npt.NDArray[np.bool_]) -> Segment | Segmentation:
        if isinstance(which, slice | np.ndarray):
            return self.select(which)
        unit = None if self.unit is None else int(self.unit[which])
        start, end = self.seconds[which].tolist()
        return Segment(int(self.start[which]), int(self.end[which]), unit, (start, end))

    def __iter__(self) -> Iterator[Segment]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segmentation):
            return NotImplemented
        arrays = ((self.start, other.start), (self.end, other.end), (self.unit, other.unit))
        grids = {(one.num_frames, one.hop, one.sample_rate) for one in (self, other)}
        return len(grids) == 1 and all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in arrays)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Segmentation: {self.summary}, {self.sample_rate / self.hop:g} frames per second>"

    def __getstate__(self) -> dict[str, Any]:
        # What gives the waveform may hold a weak reference, which cannot be pickled.
        return {name: value for name, value in vars(self).items() if name != "_audio"}

    @property
    def summary(self) -> str:
        """Counts and rate in words: "27 units in 7.00 s (3.9 per second, 22 different)"."""
        noun, different = "segment", ""
        if self.unit is not None:
            noun, different = "unit", f", {len(np.unique(self.unit))} different"
        rate = len(self) / self.duration if self.duration else 0.0
        return f"{plural(len(self), noun)} in {self.duration:.2f} s ({rate:.1f} per second{different})"

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
        return self._replaced(self.start[which], self.end[which], None if self.unit is None else self.unit[which])

    def _replaced(self, start: IntArray, end: IntArray, unit: IntArray | None) -> Segmentation:
        """Return other segments of the same recording."""
        segments = Segmentation(start, end, unit, self.num_frames, self.hop, self.sample_rate)
        return segments if self._audio is None else segments.with_audio(self._audio)

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
        return self._replaced(self.start[first], self.end[last], self.unit[first])

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values, in frames: sample_rate, hop, num_frames, unit (None without units), start, end.

        ``Segmentation(**values)`` makes the same segmentation of them.
        """
        return {
            "sample_rate": self.sample_rate,
            "hop": self.hop,
            "num_frames": self.num_frames,
            "unit": None if self.unit is None else self.unit.tolist(),
            "start": self.start.tolist(),
            "end": self.end.tolist(),
        }

    def to_pandas(self) -> Any:
        """Return a data frame with a row per segment: unit, start and end in frames, and start and end in seconds.

        Without units the column is missing; without pandas, a MissingDependencyError is raised.
        """
        pandas = import_optional("pandas", "to_pandas needs pandas", "pandas")
        unit = {} if self.unit is None else {"unit": self.unit}
        times = {"start_seconds": self.seconds[:, 0], "end_seconds": self.seconds[:, 1]}
        return pandas.DataFrame({**unit, "start": self.start, "end": self.end, **times})

    def with_audio(
        self,
        audio: npt.NDArray[np.floating[Any]] | Callable[[], npt.NDArray[np.floating[Any]] | None] | None,
    ) -> Segmentation:
        """Return the same segments with their recording, which a notebook then plays; copies by pickle lose it.

        Args:
            audio: (num_samples,) floating point at ``sample_rate``, or a function without arguments that returns it,
                or None where it is gone; None for no recording.
        """
        result = copy.copy(self)
        object.__setattr__(result, "_audio", audio if audio is None or callable(audio) else lambda: audio)
        return result

    @property
    def audio(self) -> npt.NDArray[np.floating[Any]] | None:
        """The recording's waveform (num_samples,) at ``sample_rate``, where it is known and still in memory or a file.

        ``Tokenizer.encode`` of a single recording remembers it without keeping it in memory.
        """
        return None if self._audio is None else self._audio()

    def plot(self, *, start: float = 0.0, seconds: float | None = None) -> Any:
        """Draw the units as bars over time and return the matplotlib figure, which a notebook shows.

        Args:
            start, seconds: first second shown, and length of the stretch shown; by default, and at most, 60 s.

        Raises:
            InputError: a stretch that begins outside the recording.
            MissingDependencyError: matplotlib is not installed.
        """
        from syllablelm.core.unit_strip import draw_units

        return draw_units(self, start, seconds)

    def _repr_html_(self) -> str:
        from syllablelm.core.unit_strip import units_html

        return units_html(self)

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
