"""Segmentation: what it refuses, what it derives, and that it stays as it was built."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.core.segmentation import Segmentation


@st.composite
def segmentations(draw: st.DrawFn) -> Segmentation:
    """Segments with gaps, few different units so that repeats are common, and sometimes none at all."""
    edges = sorted(draw(st.sets(st.integers(0, 60), max_size=24)))
    edges = edges[: len(edges) // 2 * 2]
    pairs = list(zip(edges[::2], edges[1::2], strict=True))
    if draw(st.booleans()) and len(edges) > 1:
        pairs = list(itertools.pairwise(edges))
    units = draw(st.lists(st.integers(0, 2), min_size=len(pairs), max_size=len(pairs)))
    start, end = [a for a, _ in pairs], [b for _, b in pairs]
    return Segmentation(start, end, units, 60 + draw(st.integers(0, 5)))  # type: ignore[arg-type]


def test_seconds_and_boundaries() -> None:
    segments = Segmentation(np.array([0, 5]), np.array([5, 8]), np.array([3, 1]), num_frames=10)
    assert segments.start.dtype == segments.end.dtype == np.int32
    np.testing.assert_array_equal(segments.boundaries, [0, 5, 8])
    np.testing.assert_allclose(segments.seconds, [[0.0, 0.1], [0.1, 0.16]])
    assert segments.duration == pytest.approx(0.2)
    assert len(segments) == 2


def test_frozen_against_assignment_and_against_the_callers_array() -> None:
    start = np.array([0, 5], dtype=np.int32)
    segments = Segmentation(start, np.array([5, 8]), None, num_frames=10)
    start[0] = 4
    assert segments.start[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        segments.start[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        segments.num_frames = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("start", "end", "unit", "message"),
    [
        pytest.param([0, 4], [5, 8], None, "overlap", id="overlap"),
        pytest.param([5, 0], [8, 5], None, "sorted", id="unsorted"),
        pytest.param([2], [2], None, "non-empty", id="empty segment"),
        pytest.param([-1], [2], None, "outside", id="before the start"),
        pytest.param([0], [11], None, "outside", id="after the end"),
        pytest.param([0, 2], [2], None, "same length", id="lengths"),
        pytest.param([0], [2], [1, 2], "same length", id="unit length"),
        pytest.param([0], [2], [-1], "negative", id="negative unit"),
        pytest.param([0.5], [2], None, "integer", id="fraction"),
        pytest.param([[0]], [[2]], None, "one-dimensional", id="two-dimensional"),
    ],
)
def test_refuses(start: list[int], end: list[int], unit: list[int] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmentation(np.array(start), np.array(end), None if unit is None else np.array(unit), num_frames=10)


@pytest.mark.parametrize(("hop", "rate", "frames"), [(0, 16_000, 1), (320, 0, 1), (320, 16_000, -1)])
def test_refuses_impossible_grids(hop: int, rate: int, frames: int) -> None:
    with pytest.raises(InputError, match="hop >= 1"):
        Segmentation(np.zeros(0), np.zeros(0), None, frames, hop, rate)


def test_equality_is_by_value() -> None:
    first = Segmentation.from_boundaries([0, 3, 7], unit=[1, 2])
    assert first == Segmentation.from_boundaries([0, 3, 7], unit=[1, 2])
    assert first != Segmentation.from_boundaries([0, 3, 7], unit=[1, 1])
    assert first != Segmentation.from_boundaries([0, 3, 7])
    assert first != Segmentation.from_boundaries([0, 3, 7], unit=[1, 2], hop=160)
    assert first != "units"


def test_deduplicate_joins_only_touching_equal_units() -> None:
    segments = Segmentation(np.array([0, 2, 5, 8]), np.array([2, 4, 8, 9]), np.array([7, 7, 7, 1]), num_frames=9)
    merged = segments.deduplicate()
    assert merged.start.tolist() == [0, 5, 8]
    assert merged.end.tolist() == [4, 8, 9]
    assert merged.unit is not None and merged.unit.tolist() == [7, 7, 1]
    with pytest.raises(InputError, match="needs units"):
        Segmentation.from_boundaries([0, 3]).deduplicate()


@given(segmentations())
def test_deduplicate_keeps_the_unit_of_every_frame(segments: Segmentation) -> None:
    def frames(value: Segmentation) -> list[int | None]:
        labels: list[int | None] = [None] * value.num_frames
        for start, end, unit in zip(value.start, value.end, value.unit, strict=True):  # type: ignore[arg-type]
            labels[start:end] = [int(unit)] * (end - start)
        return labels

    merged = segments.deduplicate()
    assert frames(merged) == frames(segments)
    assert merged.deduplicate() == merged
    for i in range(len(merged) - 1):
        assert merged.end[i] < merged.start[i + 1] or merged.unit[i] != merged.unit[i + 1]  # type: ignore[index]


@given(st.sets(st.integers(1, 100), max_size=20))
def test_from_boundaries_is_undone_by_boundaries(inner: set[int]) -> None:
    edges = sorted({0, *inner})
    segments = Segmentation.from_boundaries(edges)
    if len(edges) > 1:
        assert segments.boundaries.tolist() == edges
    assert segments.num_frames == edges[-1]
    assert len(segments) == len(edges) - 1


def test_from_no_boundaries_is_empty() -> None:
    assert Segmentation.from_boundaries([]).num_frames == 0


@given(segmentations(), st.data())
def test_join_undoes_cutting_into_pieces(segments: Segmentation, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(segments)), max_size=4)) | {0, len(segments)})
    pieces = []
    for first, last in itertools.pairwise(cuts):
        finished = segments.num_frames if last == len(segments) else int(segments.end[last - 1])
        unit = None if segments.unit is None else segments.unit[first:last]
        pieces.append(Segmentation(segments.start[first:last], segments.end[first:last], unit, finished))
    assert Segmentation.join(iter(pieces or [segments])) == segments


def test_join_refuses_what_is_not_one_recording() -> None:
    first, second = Segmentation.from_boundaries([0, 3, 5]), Segmentation(np.array([5]), np.array([9]), None, 9)
    assert Segmentation.join([first, second]).boundaries.tolist() == [0, 3, 5, 9]
    with pytest.raises(InputError, match="at least one piece"):
        Segmentation.join([])
    with pytest.raises(InputError, match="must not overlap"):
        Segmentation.join([second, first])
    with pytest.raises(InputError, match="one frame grid, all with units or all without"):
        Segmentation.join([first, Segmentation(np.array([5]), np.array([9]), np.array([1]), 9)])
    with pytest.raises(InputError, match="one frame grid"):
        Segmentation.join([first, Segmentation(np.array([5]), np.array([9]), None, 9, hop=640)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start", np.array([2**32])),
        ("end", np.array([2**31 + 5])),
        ("unit", np.array([2**33 + 1])),
        ("unit", np.array([2**63], dtype=np.uint64)),
        ("num_frames", 2**31),
        ("hop", float("nan")),
        ("sample_rate", 10**30),
    ],
)
def test_numbers_beyond_32_bits_are_refused_and_do_not_wrap(name: str, value: object) -> None:
    fields: dict = {"start": np.array([0]), "end": np.array([5]), "unit": np.array([1]), "num_frames": 10}
    with pytest.raises(InputError, match=f"Segmentation.{name} .*32 bits"):
        Segmentation(**{**fields, name: value})


@given(segmentations())
def test_indices_and_iteration(segments: Segmentation) -> None:
    rows = list(zip(segments.start, segments.end, segments.unit, segments.seconds.tolist(), strict=True))  # type: ignore[arg-type]
    assert [(s.start, s.end, s.unit, list(s.seconds)) for s in segments] == rows
    assert [segments[i] for i in range(-len(segments), 0)] == list(segments)
    for which in (slice(1, 3), slice(None, None, 2), np.arange(len(segments)) % 2 == 0):
        assert segments[which] == segments.select(which)
    with pytest.raises(IndexError):
        segments[len(segments)]


@given(segmentations())
def test_dictionaries_and_data_frames(segments: Segmentation) -> None:
    values = segments.to_dict()
    assert Segmentation(**values) == segments
    assert json.loads(json.dumps(values)) == values
    frame = pytest.importorskip("pandas").DataFrame(segments.to_pandas())
    assert list(frame.columns) == ["unit", "start", "end", "start_seconds", "end_seconds"]
    np.testing.assert_array_equal(
        frame[["unit", "start", "end"]].to_numpy().T, [segments.unit, segments.start, segments.end]
    )
    np.testing.assert_array_equal(frame[["start_seconds", "end_seconds"]].to_numpy(), segments.seconds)


def test_without_units() -> None:
    segments = Segmentation(np.array([0, 5]), np.array([5, 8]), None, num_frames=10)
    assert segments[1].unit is None and segments.to_dict()["unit"] is None
    assert repr(segments) == "<Segmentation: 2 segments in 0.20 s (10.0 per second), 50 frames per second>"
    pytest.importorskip("pandas")
    assert "unit" not in segments.to_pandas()


def test_repr_has_counts_and_rate() -> None:
    segments = Segmentation(np.array([0, 5, 8]), np.array([5, 8, 90]), np.array([3, 1, 3]), num_frames=100)
    assert repr(segments) == ("<Segmentation: 3 units in 2.00 s (1.5 per second, 2 different), 50 frames per second>")
    empty = Segmentation(np.zeros(0), np.zeros(0), np.zeros(0), num_frames=0)
    assert repr(empty) == "<Segmentation: 0 units in 0.00 s (0.0 per second, 0 different), 50 frames per second>"


def test_missing_pandas_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        Segmentation(np.array([0]), np.array([5]), None, num_frames=10).to_pandas()
