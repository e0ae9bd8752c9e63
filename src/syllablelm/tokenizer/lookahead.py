"""Streams with a short lookahead: a window of bounded context is encoded every hop, and segments become final.

After every hop the window that ends there is encoded and the frames held are segmented. Boundaries that lie the
lookahead less the hop before the end become final, and so does the absence of others up to there: a segment appears
within the lookahead of its end and is never revised. Positions depend on the sample count alone, so blocks of any size
give the same segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, check_positive
from syllablelm.tokenizer.windows import FloatArray, IntArray, Stretch, WindowGrid

# A boundary that comes no further than this from the last final one, in its place, is that one moved.
_SAME_BOUNDARY = 3


@dataclass(frozen=True)
class Lookahead:
    """Sizes of a stream with a lookahead, in frames.

    Args:
        context: length of a window, the lookahead included.
        hop: frames from the end of one window to that of the next.
        right: frames that follow a boundary before it becomes final.
        memory: frames that are segmented together, past windows included; counts ("rate" x seconds) are theirs.
        reach: frames after its own that a feature depends on; None where it depends on all.
    """

    context: int
    hop: int
    right: int
    memory: int
    reach: int | None = None

    @classmethod
    def of_seconds(
        cls,
        lookahead: float,
        context_seconds: float,
        hop_seconds: float,
        grid: WindowGrid,
        sample_rate: int,
        reach: int | None = None,
    ) -> Lookahead:
        """Return the sizes for a latency of at most ``lookahead`` seconds, context within the encoder's window.

        Raises:
            InputError: a lookahead of less than two frames or more than half of the context, or seconds not above 0.
        """
        for name, value in (
            ("lookahead", lookahead),
            ("context_seconds", context_seconds),
            ("hop_seconds", hop_seconds),
        ):
            check_positive(name, value)
        frame = grid.hop / sample_rate
        context = min(int(context_seconds / frame + 1e-6), grid.num_frames)
        # A frame ends later than its hop: the samples that it needs beyond it count, too.
        beyond = grid.receptive_field - grid.hop
        total = int((lookahead * sample_rate - beyond) / grid.hop + 1e-6)
        if not 2 <= total <= context // 2:
            raise InputError(
                f"lookahead {lookahead:g} s with a context of {context * frame:g} s: it must be at least "
                f"{2 * frame + beyond / sample_rate:g} s and at most half of the context"
            )
        hop = min(max(1, round(hop_seconds / frame)), total // 2)
        return cls(context, hop, total - hop, grid.num_frames, reach)

    def windows(self, blocks: Iterable[FloatArray], grid: WindowGrid) -> Iterator[tuple[int, FloatArray, bool]]:
        """Split a stream into (first frame, samples, whether it is the last window); the last one may be too short."""
        held, offset, now = np.empty(0, dtype=np.float32), 0, self.hop
        new: list[FloatArray] = []
        num_samples = 0
        for block in blocks:
            new.append(block)
            num_samples += len(block)
            if num_samples < grid.samples_of(now):
                continue
            held, new = np.concatenate([held, *new]), []
            while num_samples >= grid.samples_of(now):
                first = max(0, now - self.context)
                yield first, held[first * grid.hop - offset : grid.samples_of(now) - offset], False
                now += self.hop
                # The last window may end one frame before the next one would.
                begin = max(0, now - self.hop - self.context) * grid.hop
                held, offset = held[begin - offset :].copy(), begin
        held = np.concatenate([held, *new])
        num_frames = max(0, (num_samples - grid.receptive_field) // grid.hop + 1)
        first = max(0, num_frames - self.context)
        yield first, held[first * grid.hop - offset :], True


class LiveSegmenter:
    """Turns the features of windows into segments that are final; memory holds the frames segmented together.

    Args:
        plan: sizes in frames.
        segment: (num_frames, dim) features -> int32 (num_segments, 2) starts and ends.
    """

    def __init__(self, plan: Lookahead, segment: Callable[[FloatArray], IntArray]) -> None:
        self._plan, self._segment = plan, segment
        self._features = np.zeros((0, 0), dtype=np.float32)
        self._offset = 0  # recording's frame of the first one held
        self._start = 0  # last final boundary
        self._settled = 0  # frame up to which boundaries are final

    def push(self, features: FloatArray, first: int, *, last: bool) -> Stretch | None:
        """Add the features (num_frames, dim) of the next window, from frame ``first`` on; return what became final."""
        now = first + len(features)
        self._hold(features, first)
        held, offset = self._features, self._offset
        limit = now if last else now - self._plan.right
        if limit <= self._settled and not last:
            return None
        spans = self._segment(held) + offset
        cuts = self._final_cuts(np.unique(spans), limit, last)
        covered = np.zeros(len(held), dtype=bool)
        for start, end in spans - offset:
            covered[start:end] = True
        begin, final = self._start, []
        for cut in cuts:
            if 2 * covered[self._start - offset : cut - offset].sum() >= cut - self._start:
                final.append((self._start - begin, cut - begin))
            self._start = cut
        self._settled = limit
        if not final and not last:
            return None
        inside = np.array(final, dtype=np.int32).reshape(-1, 2)
        return Stretch(begin, held[begin - offset : self._start - offset].copy(), inside)

    def _hold(self, features: FloatArray, first: int) -> None:
        """Replace the frames held by those of the window, except where these know less: in its left half, or all that
        had seen as far as they can.
        """
        if first == 0:
            self._features, self._offset = features, first
            return
        now = first + len(features)
        end = self._offset + len(self._features)
        known = now - self._plan.context // 2 if self._plan.reach is None else end - self._plan.reach
        fresh = max(first, min(known, end))
        begin = max(self._offset, now - self._plan.memory)
        kept = self._features[begin - self._offset : fresh - self._offset]
        self._features, self._offset = np.concatenate([kept, features[fresh - first :]]), begin

    def _final_cuts(self, edges: npt.NDArray[np.integer], limit: int, last: bool) -> list[int]:
        """Boundaries that become final, by those of the newest segmentation."""
        start, settled = self._start, self._settled
        new = [int(edge) for edge in edges if settled < edge <= limit]
        moved = start not in edges
        if moved and new and new[0] - start <= _SAME_BOUNDARY and not (last and new[0] == limit):
            new = new[1:]
        # A boundary that moved to where none was expected before is placed at the first frame still open.
        late = edges[(edges > max(start + _SAME_BOUNDARY, settled - _SAME_BOUNDARY)) & (edges <= settled)]
        if len(late):
            new = [settled, *new]
        if last and limit > start and (not new or new[-1] != limit):
            new.append(limit)
        # Memory is bounded, and with it the longest segment.
        if not new and limit - start > self._plan.memory // 2:
            new = [limit]
        return new
