from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.tokenizer.windows import Stitcher, WindowGrid, WindowReader, choose_seam

# 3 samples give a frame, every 2 samples; windows of 12 frames (25 samples), 9 frames apart, at most.
GRID = WindowGrid(num_frames=12, overlap=4, hop=2, receptive_field=3)
GRIDS = st.builds(
    lambda overlap, more, hop, extra: WindowGrid(2 * overlap + more, overlap, hop, hop + extra),
    st.integers(4, 9),
    st.integers(0, 9),
    st.integers(1, 3),
    st.integers(0, 4),
)


def count_frames(grid: WindowGrid, num_samples: int) -> int:
    return max(0, (num_samples - grid.receptive_field) // grid.hop + 1)


def split(samples: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(samples, sorted(cut for cut in cuts if cut <= len(samples)))


class TestGrid:
    def test_default(self):
        grid = WindowGrid.of_seconds(60.0, 320, 400, 16_000)
        assert (grid.num_frames, grid.overlap, grid.stride, grid.margin) == (3000, 500, 2500, 125)
        assert grid.num_samples == 2999 * 320 + 400 and grid.lookahead == 3000 * 320 + 400
        assert grid.latency / 16_000 == pytest.approx(57.525)

    def test_short_windows_overlap_by_a_quarter(self):
        grid = WindowGrid.of_seconds(10.0, 640, 800, 16_000)
        assert (grid.num_frames, grid.overlap, grid.margin) == (250, 62, 15)

    @pytest.mark.parametrize("seconds", [0.0, 0.9, -1.0, float("nan"), float("inf")])
    def test_unusable_lengths(self, seconds):
        with pytest.raises(InputError, match="must be at least 1 and finite"):
            WindowGrid.of_seconds(seconds, 320, 400, 16_000)

    @pytest.mark.parametrize(("frames", "overlap"), [(12, 7), (12, 3), (6, 4)])
    def test_unusable_overlaps(self, frames, overlap):
        with pytest.raises(InputError, match="take longer windows"):
            WindowGrid(frames, overlap, 2, 3)


class TestReader:
    def windows(self, grid: WindowGrid, blocks: list[np.ndarray]) -> list[np.ndarray]:
        reader = WindowReader(grid)
        found = [window for block in blocks for window in reader.push(block)]
        assert reader.num_samples == sum(map(len, blocks))
        return [*found, reader.close()]

    def expected(self, grid: WindowGrid, samples: np.ndarray) -> list[np.ndarray]:
        """From the definition: windows a stride apart, as long as frames remain behind the current one."""
        found, first = [], 0
        while count_frames(grid, len(samples) - first) > grid.num_frames:
            found.append(samples[first : first + grid.num_samples])
            first += grid.stride * grid.hop
        return [*found, samples[first:]]

    @given(GRIDS, st.integers(0, 300), st.lists(st.integers(0, 300), max_size=8))
    def test_blocks_of_any_size_give_the_defined_windows(self, grid, num_samples, cuts):
        samples = np.arange(num_samples, dtype=np.float32)
        expected = self.expected(grid, samples)
        for blocks in (split(samples, cuts), split(samples, list(range(num_samples))), [samples]):
            found = self.windows(grid, blocks)
            assert [window.tolist() for window in found] == [window.tolist() for window in expected]
        for window in expected[:-1]:
            assert count_frames(grid, len(window)) == grid.num_frames
        if len(expected) > 1:
            assert count_frames(grid, len(expected[-1])) > grid.overlap

    def test_a_recording_of_one_window_is_whole(self):
        # 26 samples have the 12 frames of a window and one sample more; 27 have 13 frames.
        assert [len(window) for window in self.windows(GRID, [np.zeros(26, np.float32)])] == [26]
        assert [len(window) for window in self.windows(GRID, [np.zeros(27, np.float32)])] == [25, 11]

    def test_windows_are_not_overwritten(self):
        samples = np.arange(200, dtype=np.float32)
        found = self.windows(GRID, [samples])
        assert [window[0] for window in found] == [16.0 * number for number in range(len(found))]


class TestSeam:
    @pytest.mark.parametrize(
        ("before", "after", "seam"),
        [
            ([3, 12, 18], [4, 12, 19], 12),  # shared
            ([12, 14, 16], [12, 16], 16),  # shared and nearest the middle, which is 15
            ([12, 18], [12, 18], 12),  # the earlier of two as near
            ([12, 17], [13, 20], 12),  # none shared: the nearest pair
            ([12, 16], [13, 17], 16),  # of two pairs as near the one in the middle
            ([9, 12, 17], [8, 21], 17),  # of one window only
            ([9], [11, 14], 14),
            ([9], [21], 15),  # none at all
            ([10, 20], [10, 20], 10),  # the limits belong to it
        ],
    )
    def test_cases(self, before, after, seam):
        assert choose_seam(np.array(before), np.array(after), 10, 20) == seam

    @given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.integers(0, 15), st.integers(0, 15))
    def test_equals_a_search_of_all_frames(self, before, after, low, width):
        high = low + width

        def cost(frame: int) -> tuple[float, ...]:
            ours = frame in before
            theirs = {other for other in after if low <= other <= high}
            inner = {other for other in before if low <= other <= high}
            if inner:
                gap = min((abs(frame - other) for other in theirs), default=0) if ours else 99
            elif theirs:
                gap = 0 if frame in theirs else 99
            else:
                gap = 0
            return gap, abs(2 * frame - low - high), frame

        best = min(range(low, high + 1), key=cost)
        found = choose_seam(np.array(sorted(before), int), np.array(sorted(after), int), low, high)
        assert found == best


def spans_of(cuts: list[int]) -> np.ndarray:
    return np.stack([cuts[:-1], cuts[1:]], axis=1).astype(np.int32)


class TestStitcher:
    def stitch(self, grid: WindowGrid, windows: list[tuple[int, list[int]]]) -> list:
        """Windows given as (number of frames, boundaries); a frame's feature is its window and its place."""
        stitcher, found = Stitcher(grid), []
        for number, (frames, cuts) in enumerate(windows):
            feats = np.stack([np.full(frames, number), number * grid.stride + np.arange(frames)], axis=1)
            last = number == len(windows) - 1
            found.append(list(stitcher.push(feats.astype(np.float32), spans_of(cuts), last=last)))
        return found

    @given(GRIDS, st.data())
    def test_every_frame_once_from_a_window_that_knows_its_surroundings(self, grid, data):
        count = data.draw(st.integers(1, 4))
        windows = []
        for number in range(count):
            last = number == count - 1
            lowest = grid.overlap + 1 if count > 1 else 1
            frames = data.draw(st.integers(lowest, grid.num_frames)) if last else grid.num_frames
            inner = data.draw(st.sets(st.integers(1, frames), max_size=12)) - {frames}
            windows.append((frames, [0, *sorted(inner), frames]))
        total = (count - 1) * grid.stride + windows[-1][0]
        pushed = self.stitch(grid, windows)
        stretches = [stretch for group in pushed for stretch in group]

        # Seams by the definition, from all boundaries at once.
        absolute = [np.array(cuts) + number * grid.stride for number, (_, cuts) in enumerate(windows)]
        seams = [0]
        for number in range(1, count):
            first = number * grid.stride
            low, high = first + grid.margin, first + grid.overlap - grid.margin
            seams.append(choose_seam(absolute[number - 1], absolute[number], low, high))
        seams.append(total)
        expected = set(seams)
        for number, cuts in enumerate(absolute):
            expected |= {int(cut) for cut in cuts if seams[number] < cut < seams[number + 1]}

        found = sorted({int(edge) + stretch.first for stretch in stretches for edge in stretch.spans.ravel()})
        assert found == sorted(expected)
        place = 0
        for stretch in stretches:
            assert stretch.first == place and stretch.spans[0, 0] == 0
            assert stretch.spans[-1, 1] == len(stretch.features) > 0
            assert (stretch.spans[1:, 0] == stretch.spans[:-1, 1]).all()
            owner = int(stretch.features[0, 0])
            assert (stretch.features[:, 0] == owner).all()
            assert stretch.features[:, 1].tolist() == list(range(place, place + len(stretch.features)))
            place += len(stretch.features)
            first_window, last_window = owner == 0, owner == count - 1
            assert first_window or stretch.first >= owner * grid.stride + grid.margin
            assert last_window or place <= owner * grid.stride + grid.num_frames - grid.margin
        assert place == total

        # What ends before the next window may take over is not held back.
        done = 0
        for number, group in enumerate(pushed[:-1]):
            done += sum(len(stretch.features) for stretch in group)
            limit = (number + 1) * grid.stride + grid.margin
            assert done == max([seams[number], *(int(cut) for cut in absolute[number] if cut <= limit)])

    def test_kept_stretches_do_not_keep_windows(self):
        feats = np.zeros((12, 2), dtype=np.float32)
        first, *_ = Stitcher(GRID).push(feats, spans_of([0, 3, 12]), last=False)
        assert first.features.base is None and len(first.features) == 3
