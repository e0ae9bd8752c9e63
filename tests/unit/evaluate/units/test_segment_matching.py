"""Matched segments: against the best assignment, by hand, and by majority."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from syllablelm.core.errors import InputError
from syllablelm.evaluate.units.segment_matching import majority_labels, match_segments


@st.composite
def segments(draw: st.DrawFn) -> np.ndarray:
    """Sorted disjoint intervals in seconds, with and without gaps, some of no length."""
    steps = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=15))
    edges = np.cumsum(np.array(steps, dtype=int).reshape(-1)).reshape(-1, 2)
    return edges / 50


def dense_iou(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The definition, pair by pair."""
    iou = np.zeros((len(reference), len(predicted)))
    for i, (a, b) in enumerate(reference):
        for j, (c, d) in enumerate(predicted):
            shared = min(b, d) - max(a, c)
            if shared > 1e-9:
                iou[i, j] = shared / (max(b, d) - min(a, c))
    return iou


@given(segments(), segments())
@settings(max_examples=300)
def test_matching_is_the_best_assignment(reference, predicted):
    iou = dense_iou(reference, predicted)
    rows, columns = match_segments(reference, predicted)
    assert len(set(rows.tolist())) == len(rows) and len(set(columns.tolist())) == len(columns)
    assert np.all(iou[rows, columns] > 0)
    assert iou[rows, columns].sum() == pytest.approx(iou[linear_sum_assignment(iou, maximize=True)].sum())


def test_matching_picks_the_same_pairs_as_the_dense_one_where_the_best_is_unique():
    rng = np.random.default_rng(3)
    for _ in range(20):
        reference = np.cumsum(rng.uniform(0.01, 0.3, size=80)).reshape(-1, 2)
        edges = np.cumsum(rng.uniform(0.05, 0.3, size=60))
        predicted = np.stack([edges[:-1], edges[1:]], axis=1)
        iou = dense_iou(reference, predicted)
        rows, columns = linear_sum_assignment(iou, maximize=True)
        keep = iou[rows, columns] > 0
        ours = match_segments(reference, predicted)
        assert ours[0].tolist() == rows[keep].tolist()
        assert ours[1].tolist() == columns[keep].tolist()


def test_a_long_recording_is_matched_in_linear_time():
    # A dense matrix of 100,000 x 100,000 would need 80 GB.
    edges = np.arange(100_001) * 0.2
    pairs = np.stack([edges[:-1], edges[1:]], axis=1)
    rows, columns = match_segments(pairs, pairs + 0.04)
    assert np.array_equal(rows, np.arange(100_000))
    assert np.array_equal(columns, rows)


def test_matching_weighs_the_whole_not_the_best_pair():
    # The middle pair overlaps most (IoU .47), but the two outer pairs are worth more together (.23 + .42).
    rows, columns = match_segments([[0.0, 0.3], [0.3, 0.9]], [[0.15, 0.65], [0.65, 0.9]])
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (1, 1)]
    # Here it is worth more than what it displaces.
    rows, columns = match_segments([[0.0, 0.2], [0.2, 0.5]], [[0.1, 0.5], [0.5, 0.9]])
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(1, 0)]


def test_a_tie_goes_to_the_earlier_segment():
    rows, columns = match_segments([[0.0, 0.2], [0.2, 0.4]], [[0.0, 0.4]])
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def test_full_matching_pairs_as_many_as_the_shorter_side_has():
    reference, predicted = [[0.0, 0.2], [1.0, 1.2]], [[0.0, 0.2], [0.5, 0.6], [0.7, 0.8]]
    assert [side.tolist() for side in match_segments(reference, predicted)] == [[0], [0]]
    # 1.0-1.2 touches nothing; the nearer of the two (0.7-0.8) costs less than the farther.
    assert [side.tolist() for side in match_segments(reference, predicted, "full")] == [[0, 1], [0, 2]]


@given(segments(), segments())
def test_full_matching_pairs_everything_on_the_shorter_side(reference, predicted):
    rows, columns = match_segments(reference, predicted, "full")
    assert len(rows) == len(columns) == min(len(reference), len(predicted))


@pytest.mark.parametrize("bad", [[[0.2, 0.1]], [[0.0, 0.3], [0.2, 0.4]], [[0.5, 0.6], [0.0, 0.1]], [0.1, 0.2]])
def test_unusable_segments_are_refused(bad):
    with pytest.raises(InputError, match="reference"):
        match_segments(bad, [[0.0, 0.1]])
    with pytest.raises(InputError, match="predicted"):
        match_segments([[0.0, 0.1]], bad)


def test_unknown_matching_is_refused():
    with pytest.raises(InputError, match="overlap"):
        match_segments([], [], "best")  # type: ignore[arg-type]


@given(segments(), segments())
@settings(max_examples=300)
def test_majority_labels_are_the_longest_overlaps(reference, predicted):
    predicted = predicted[predicted[:, 1] > predicted[:, 0]]
    labels = [f"s{k}" for k in range(len(reference))]
    # Silences as intervals of their own, in steps of 20 ms.
    edges = np.rint(reference * 50).astype(int).ravel().tolist()
    spans = [(a, b, "") for a, b in zip([0, *edges[1::2]], [*edges[::2], 10**6], strict=True)]
    spans += [(a, b, label) for (a, b), label in zip(np.rint(reference * 50).astype(int), labels, strict=True)]
    expected = []
    for start, end in np.rint(predicted * 50).astype(int):
        overlaps = [(min(b, end) - max(a, start), -a, label) for a, b, label in spans]
        expected.append(max(overlaps)[2])
    assert majority_labels(reference, labels, predicted) == expected
