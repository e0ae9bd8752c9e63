from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.evaluate.boundaries.matching import (
    BoundaryCounts,
    TokenCounts,
    boundary_counts,
    count_token_hits,
    to_intervals,
    tolerance_in_microseconds,
)
from syllablelm.evaluate.boundaries.scores import score_tokens

TOLERANCES = st.sampled_from([0.0, 0.02, 0.05, 0.1])


@st.composite
def segments(draw: st.DrawFn) -> np.ndarray:
    """Sorted disjoint intervals in seconds, with and without gaps, in steps of 10 ms that collide often."""
    steps = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 15)), max_size=15))
    edges = np.cumsum(np.array(steps, dtype=int).reshape(-1)).reshape(-1, 2)
    return edges / 100


def token_counts(predicted, reference, tolerance: float = 0.05) -> TokenCounts:
    """Counts for segments in seconds."""
    ours, theirs = to_intervals(predicted, "predicted"), to_intervals(reference, "reference")
    return count_token_hits(ours, theirs, tolerance_in_microseconds(tolerance))


def oracle(predicted: np.ndarray, reference: np.ndarray, tolerance: float) -> int:
    """The definition: the most pairs with both edges within the tolerance that share no segment."""
    near = np.zeros((len(predicted), len(reference)), dtype=bool)
    for i, ours in enumerate(predicted):
        for j, theirs in enumerate(reference):
            near[i, j] = all(
                round(1000 * abs(a - b)) <= round(1000 * tolerance) for a, b in zip(ours, theirs, strict=True)
            )
    return int(near[linear_sum_assignment(near, maximize=True)].sum())


@given(segments(), segments(), TOLERANCES)
@settings(max_examples=300)
def test_matching_is_a_maximum_matching(predicted, reference, tolerance):
    expected = TokenCounts(oracle(predicted, reference, tolerance), len(predicted), len(reference))
    assert token_counts(predicted, reference, tolerance) == expected


@given(segments(), segments(), TOLERANCES)
def test_swapping_sides_swaps_precision_and_recall(predicted, reference, tolerance):
    there, back = token_counts(predicted, reference, tolerance), token_counts(reference, predicted, tolerance)
    assert (there.precision, there.recall, there.f1) == (back.recall, back.precision, back.f1)


@given(segments(), segments(), TOLERANCES)
def test_every_token_hit_is_two_boundary_hits(predicted, reference, tolerance):
    tokens = token_counts(predicted, reference, tolerance)
    starts = boundary_counts(predicted[:, 0], reference[:, 0], tolerance)
    ends = boundary_counts(predicted[:, 1], reference[:, 1], tolerance)
    assert tokens.hits <= min(starts.hits, ends.hits)


@given(segments(), TOLERANCES)
def test_a_list_agrees_with_itself(reference, tolerance):
    assert token_counts(reference, reference, tolerance) == TokenCounts(*[len(reference)] * 3)


def test_counts_by_hand():
    reference = [[0.0, 0.2], [0.2, 0.4], [0.5, 0.9]]
    # The first is right, the second ends 60 ms late, the third starts and ends 50 ms off: at the tolerance.
    predicted = [[0.0, 0.21], [0.21, 0.46], [0.55, 0.95]]
    counts = token_counts(predicted, reference)
    assert counts == TokenCounts(2, 3, 3)
    assert counts.f1 == pytest.approx(2 / 3)
    assert token_counts(predicted, reference, 0.02) == TokenCounts(1, 3, 3)
    # Every boundary but one is right, every second token wrong.
    edges = [0.0, 0.2, 0.4, 0.6, 0.8]
    moved = [0.0, 0.2, 0.5, 0.6, 0.8]
    assert token_counts(list(pairwise(moved)), list(pairwise(edges))) == TokenCounts(2, 4, 4)


def test_a_token_is_used_once():
    assert token_counts([[0.1, 0.3]], [[0.1, 0.12], [0.12, 0.3]]) == TokenCounts(1, 1, 2)
    assert token_counts([[0.0, 0.02], [0.02, 0.04]], [[0.0, 0.04]]) == TokenCounts(1, 2, 1)


@pytest.mark.parametrize(("predicted", "reference"), [([], []), ([], [[0.0, 1.0]]), ([[0.0, 1.0]], [])])
def test_nothing_on_one_side(predicted, reference):
    counts = token_counts(predicted, reference)
    assert counts == TokenCounts(0, len(predicted), len(reference))
    assert counts.to_dict() == {**counts.to_dict(), "precision": 0.0, "recall": 0.0, "f1": 0.0}


@pytest.mark.parametrize("bad", [[[0.2, 0.1]], [[0.0, 0.3], [0.2, 0.4]], [0.1, 0.2], [[np.nan, 1.0]]])
def test_unusable_segments_are_refused(bad):
    with pytest.raises(InputError, match="predicted"):
        token_counts(bad, [[0.0, 0.1]])
    with pytest.raises(InputError, match="reference"):
        token_counts([[0.0, 0.1]], bad)


def test_an_aligners_rounding_is_no_overlap():
    assert token_counts([[0.0, 0.2], [0.2, 0.4]], [[0.0, 0.2005], [0.2, 0.4]]) == TokenCounts(2, 2, 2)


def test_counts_add_but_not_to_boundaries():
    assert sum([TokenCounts(1, 2, 3), TokenCounts(0, 1, 0)]) == TokenCounts(1, 3, 3)
    assert isinstance(sum([TokenCounts(1, 2, 3)], TokenCounts()), TokenCounts)
    with pytest.raises(TypeError):
        TokenCounts(1, 2, 3) + BoundaryCounts(1, 2, 3)  # type: ignore[operator]


def test_a_corpus_is_scored_by_recording_and_level():
    phones = (Interval("B", 0.0, 0.1), Interval("AA1", 0.1, 0.3))
    alignment = Alignment("a", 0.6, (Word("ba", 0.0, 0.3, phones), Word("ba", 0.3, 0.6, (Interval("AA1", 0.3, 0.6),))))
    segments = Segmentation.from_boundaries([0, 15, 30])
    assert score_tokens({"a": segments}, {"a": alignment}) == {"a": TokenCounts(2, 2, 2)}
    assert score_tokens({"a": segments}, {"a": alignment}, "phone") == {"a": TokenCounts(1, 2, 3)}
    with pytest.raises(InputError, match="predictions lack b"):
        score_tokens({"a": segments}, {"a": alignment, "b": alignment})
