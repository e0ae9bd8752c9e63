from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_segmentations import SOME, segmentations
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions
from syllablelm.formats.times import from_durations, parse_ints, to_durations, whole_frames


def frame_by_frame(segmentation: Segmentation, gap_unit: int) -> list[int]:
    """Oracle: the unit of every frame."""
    frames = [gap_unit] * segmentation.num_frames
    assert segmentation.unit is not None
    for start, end, unit in zip(segmentation.start, segmentation.end, segmentation.unit, strict=True):
        for frame in range(start, end):
            frames[frame] = int(unit)
    return frames


@settings(deadline=None)
@given(segmentation=segmentations(with_units=True), gap_unit=st.integers(4, 9))
def test_durations_cover_every_frame_and_lead_back(segmentation: Segmentation, gap_unit: int) -> None:
    if gap_unit in segmentation.unit:
        return
    units, durations = to_durations("a", segmentation, gap_unit)
    assert np.repeat(units, durations).tolist() == frame_by_frame(segmentation, gap_unit)
    options = FormatOptions(gap_unit=gap_unit)
    assert from_durations(units.tolist(), durations.tolist(), 320, options) == segmentation


@settings(deadline=None)
@given(segmentation=segmentations(with_units=True, gaps=False))
def test_without_gaps_no_unit_is_added(segmentation: Segmentation) -> None:
    units, durations = to_durations("a", segmentation, None)
    assert units.tolist() == segmentation.unit.tolist()
    assert from_durations(units.tolist(), durations.tolist(), 320, FormatOptions()) == segmentation


@pytest.mark.parametrize(("start", "end", "place"), [(1, 5, "0 to 1"), (0, 4, "4 to 5")])
def test_gaps_are_not_lost_in_silence(start: int, end: int, place: str) -> None:
    segmentation = Segmentation(np.array([start]), np.array([end]), np.array([3]), 5)
    with pytest.raises(InputError, match=f"a: frames {place} belong to no segment, .* give --gap-unit N"):
        to_durations("a", segmentation, None)
    with pytest.raises(InputError, match="a: unit 3 occurs, so it cannot stand for gaps"):
        to_durations("a", segmentation, 3)


def test_a_gap_unit_that_would_be_read_as_a_gap_is_refused_without_gaps_too() -> None:
    with pytest.raises(InputError, match="unit 7 occurs"):
        to_durations("a", SOME["one"], 7)


@pytest.mark.parametrize(
    ("units", "durations", "message"),
    [
        ([1, 2], [3], "2 units but 1 durations"),
        ([5, 100], [1, 0], "unit 100 lasts 0 frames; remove"),
        ([1, 2], [2**31 - 1, 1], "does not fit"),
        ([2**31], [1], "does not fit"),
    ],
)
def test_bad_durations_are_named(units: list[int], durations: list[int], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        from_durations(units, durations, 320, FormatOptions())


@pytest.mark.parametrize("word", ["x", "-1", "1.5", "1_0", "٣", "²", "1" * 11])
def test_only_plain_numbers_are_numbers(word: str) -> None:
    assert parse_ints(" 3  40\t5 ") == [3, 40, 5]
    with pytest.raises(FormatError, match="is not a unit or a count"):
        parse_ints(f"3 {word}")


def test_seconds_are_whole_frames() -> None:
    assert whole_frames([[0.0, 0.04], [0.06, 12.34]], 320, 16_000).tolist() == [[0, 2], [3, 617]]
    assert whole_frames([], 320, 16_000).tolist() == []
    for bad in (0.03, float("nan"), float("inf"), 1e9):
        with pytest.raises(FormatError):
            whole_frames([0.02, bad], 320, 16_000)


@pytest.mark.parametrize(("name", "value"), [("hop", 0), ("sample_rate", 0), ("gap_unit", -1), ("unit_frames", 2**31)])
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}: must be from"):
        FormatOptions(**{name: value})
