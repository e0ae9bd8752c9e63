"""Long recordings in bounded memory: overlapping windows, and the seams at which their segments are joined.

A recording longer than a window is read in windows of equal length, a fixed stride apart. Their positions depend on the
sample count alone, so blocks of any size give the same windows, and a recording that fits in one window is that window.
Two neighbouring windows overlap; they are joined in the inner half of the overlap at a boundary of both, so every
segment comes from one window and lies at least a margin (a quarter of the overlap) away from any edge that is not one
of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

WINDOW_SECONDS = 60.0
# Context on both sides of a seam: HuBERT's positional convolution reaches 1.3 s, attention fades over a few seconds.
OVERLAP_SECONDS = 10.0


@dataclass(frozen=True)
class WindowGrid:
    """Positions of the windows of long recordings: frames per window and hop and receptive field in samples.

    Two neighbouring windows share ``overlap`` frames, from 4 to half a window (else an InputError).
    """

    num_frames: int
    overlap: int
    hop: int
    receptive_field: int

    def __post_init__(self) -> None:
        if not 4 <= self.overlap <= self.num_frames // 2:
            raise InputError(
                f"windows of {self.num_frames} frames cannot overlap by {self.overlap}: take longer windows"
            )

    @classmethod
    def of_seconds(cls, seconds: float, hop: int, receptive_field: int, sample_rate: int) -> WindowGrid:
        """Return windows of 1 second or more, overlapping by 10 s or a quarter of a window where that is less."""
        if not 1.0 <= seconds < float("inf"):
            raise InputError(f"window_seconds {seconds}: must be at least 1 and finite")
        num_frames = int(seconds * sample_rate / hop)
        overlap = min(int(OVERLAP_SECONDS * sample_rate / hop), num_frames // 4)
        return cls(num_frames, overlap, hop, receptive_field)

    @property
    def stride(self) -> int:
        """Frames from the start of one window to that of the next."""
        return self.num_frames - self.overlap

    @property
    def margin(self) -> int:
        """Frames that a seam keeps from the edges of both windows."""
        return self.overlap // 4

    @property
    def num_samples(self) -> int:
        """Samples of a window that has a successor."""
        return self.samples_of(self.num_frames)

    @property
    def lookahead(self) -> int:
        """Samples after which a window has a successor: one frame more than its own."""
        return self.samples_of(self.num_frames + 1)

    @property
    def latency(self) -> int:
        """Maximum number of samples from the end of a segment to the completion of its window."""
        # Segments left open by the previous window end no earlier than the first possible seam.
        return self.lookahead - self.margin * self.hop

    def around(self, start: float, end: float, sample_rate: int) -> tuple[int, int]:
        """Return (first frame, end in samples) of the windows that decide the segments from second start to end.

        Encoded alone, this excerpt of a recording has the same segments there as the whole recording.
        """
        first, last = int(start * sample_rate / self.hop), int(end * sample_rate / self.hop) + 1
        # The seam of two windows depends on both. One window earlier than the last whose seams all lie before `first`:
        begin = max(0, (first - self.overlap + self.margin) // self.stride - 1)
        # ... up to the first whose seam with the one before lies behind `last`.
        final = max(begin, -((self.margin - last) // self.stride))
        return begin * self.stride, final * self.stride * self.hop + self.lookahead

    def samples_of(self, num_frames: int) -> int:
        """Minimum number of samples that give a number of frames."""
        return (num_frames - 1) * self.hop + self.receptive_field


class WindowReader:
    """Splits a stream of blocks into windows; memory holds the samples of one window and one hop."""

    def __init__(self, grid: WindowGrid) -> None:
        self._grid = grid
        self._buffer = np.empty(grid.lookahead, dtype=np.float32)
        self._held = 0
        self.num_samples = 0

    def push(self, block: FloatArray) -> Iterator[FloatArray]:
        """Add a block (num_samples,); yield the windows that it completes, but for the last one of the recording."""
        self.num_samples += len(block)
        while len(block):
            taken = min(len(block), len(self._buffer) - self._held)
            self._buffer[self._held : self._held + taken] = block[:taken]
            self._held += taken
            block = block[taken:]
            if self._held == len(self._buffer):
                yield self._buffer[: self._grid.num_samples].copy()
                kept = self._buffer[self._grid.stride * self._grid.hop :].copy()
                self._buffer[: len(kept)] = kept
                self._held = len(kept)

    def close(self) -> FloatArray:
        """Return the last window: all remaining samples."""
        return self._buffer[: self._held].copy()


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive finished segments of one window.

    Args:
        first, features: first frame in the recording, and the frames (num_frames, dim).
        spans: int32 (num_segments, 2) start and end of each segment, counted from ``first``.
    """

    first: int
    features: FloatArray
    spans: IntArray


class Stitcher:
    """Joins the windows of one recording in order: features and segments in, finished stretches out.

    Memory holds the frames of one window whose segments are not final.
    """

    def __init__(self, grid: WindowGrid) -> None:
        self._grid = grid
        self._start = 0  # first frame of the window to come
        self._held: Stretch | None = None

    def push(self, features: FloatArray, spans: IntArray, *, last: bool) -> Iterator[Stretch]:
        """Add the next window.

        Args:
            features: (num_frames, dim) features of the window.
            spans: int32 (num_segments, 2) start and end of each segment, counted from the window's start.
            last: whether it is the last window of the recording.
        """
        grid, start = self._grid, self._start
        cuts = _edges(start, features, spans)
        begin = start
        if self._held is not None:
            held = self._held
            held_cuts = _edges(held.first, held.features, held.spans)
            begin = choose_seam(held_cuts, cuts, start + grid.margin, start + grid.overlap - grid.margin)
            if begin > held.first:
                yield _stretch(held.features, held.first, held.spans, held.first, begin)
        end = start + len(features)
        # The next seam lies no earlier than this frame, so segments before it are final.
        inner = cuts[(cuts > begin) & (cuts <= start + grid.stride + grid.margin)]
        final = end if last else int(inner[-1]) if len(inner) else begin
        if final > begin:
            yield _stretch(features, start, spans, begin, final)
        self._held = None if last else _stretch(features, start, spans, final, end)
        self._start = start + grid.stride


def _edges(first: int, features: FloatArray, spans: IntArray) -> npt.NDArray[np.int64]:
    """Boundaries of a window or stretch in frames of the recording; both its ends are boundaries, and gaps have two."""
    return np.unique(np.concatenate([[0, len(features)], spans.ravel()]).astype(np.int64)) + first


def _stretch(features: FloatArray, offset: int, spans: IntArray, first: int, end: int) -> Stretch:
    """Frames [first, end) of features that begin at frame ``offset``, with the parts of segments that lie there."""
    low, high = first - offset, end - offset
    inside = np.clip(spans, low, high)
    inside = inside[inside[:, 0] < inside[:, 1]] - low
    # A copy, so that a kept stretch does not keep its whole window alive.
    return Stretch(first, features[low:high].copy(), inside.astype(np.int32))


def choose_seam(before: npt.NDArray[np.integer], after: npt.NDArray[np.integer], low: int, high: int) -> int:
    """Return the frame, from ``low`` to ``high``, at which one window is joined to the next.

    Args:
        before, after: boundaries of the earlier and the later window, ascending, in frames of the recording.

    Returns:
        Of the common boundaries the one nearest the middle; without any, the boundary of ``before`` with the nearest
        one in ``after``; if only one window has boundaries, its boundary nearest the middle; else the middle. Ties go
        to the boundary nearest the middle, then to the earlier one.
    """
    ours = before[(before >= low) & (before <= high)]
    theirs = after[(after >= low) & (after <= high)]
    candidates = ours if len(ours) else theirs
    if len(candidates) == 0:
        return (low + high) // 2
    distance = np.zeros(len(candidates), dtype=np.int64)
    if len(ours) and len(theirs):
        distance = np.abs(ours[:, None] - theirs[None, :]).min(axis=1)
    off_middle = np.abs(2 * candidates - (low + high))
    return int(candidates[np.lexsort((candidates, off_middle, distance))[0]])


def deduplicate_parts(parts: Iterator[Segmentation]) -> Iterator[Segmentation]:
    """Deduplicate units within and across the parts of a recording.

    The last segment is held until the next unit is known, so memory stays that of a part.
    """
    held: Segmentation | None = None
    for part in parts:
        merged = (part if held is None else Segmentation.join([held, part])).deduplicate()
        done = len(merged) - 1
        if done > 0:
            yield replace(merged.select(slice(done)), num_frames=int(merged.end[done - 1]))
        held = merged.select(slice(max(done, 0), None))
    if held is not None:
        yield held
