from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from syllablelm.core.errors import InputError
from syllablelm.evaluate.boundaries.matching import BoundaryCounts, boundary_counts

# Times in whole centiseconds collide and touch the tolerance exactly; duplicates are wanted too.
TIMES = st.lists(st.integers(0, 150).map(lambda n: n / 100), max_size=25)
TOLERANCES = st.sampled_from([0.0, 0.02, 0.05, 0.1])


def maximum_matching(predicted: list[float], reference: list[float], tolerance: float) -> int:
    """The definition: the most pairs within the tolerance that share no boundary."""
    if not predicted or not reference:
        return 0
    ours = np.rint(np.array(predicted) * 1000).astype(int)
    theirs = np.rint(np.array(reference) * 1000).astype(int)
    near = np.abs(np.subtract.outer(ours, theirs)) <= round(tolerance * 1000)
    return int(near[linear_sum_assignment(near, maximize=True)].sum())


@given(TIMES, TIMES, TOLERANCES)
def test_greedy_matching_is_a_maximum_matching(predicted, reference, tolerance):
    counts = boundary_counts(predicted, reference, tolerance)
    assert counts == BoundaryCounts(maximum_matching(predicted, reference, tolerance), len(predicted), len(reference))


@given(TIMES, TIMES, TOLERANCES)
def test_swapping_sides_swaps_precision_and_recall(predicted, reference, tolerance):
    there, back = boundary_counts(predicted, reference, tolerance), boundary_counts(reference, predicted, tolerance)
    assert (there.precision, there.recall, there.f1) == (back.recall, back.precision, back.f1)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30, unique=True), st.data())
def test_jitter_within_the_tolerance_costs_nothing(slots, data):
    # 110 ms apart, so that no jitter of 50 ms brings two boundaries to the same place.
    reference = np.array(slots) * 0.11
    jitter = data.draw(st.lists(st.integers(-50, 50), min_size=len(slots), max_size=len(slots)))
    counts = boundary_counts(reference + np.array(jitter) / 1000, reference)
    assert counts.f1 == 1.0
    assert counts.r_value == 1.0


@given(TIMES, TIMES)
def test_a_wider_tolerance_never_loses_hits(predicted, reference):
    hits = [boundary_counts(predicted, reference, t).hits for t in (0.0, 0.01, 0.02, 0.05, 0.2)]
    assert hits == sorted(hits)


def test_order_of_the_times_does_not_matter_and_inputs_stay_untouched():
    predicted = np.array([0.9, 0.1, 0.5])
    assert boundary_counts(predicted, [0.5, 0.1, 0.7]) == BoundaryCounts(2, 3, 3)
    assert predicted.tolist() == [0.9, 0.1, 0.5]


def test_a_distance_of_exactly_the_tolerance_is_a_hit():
    for reference in np.arange(200) / 100:
        assert boundary_counts([reference + 0.05], [reference]).hits == 1, reference
        assert boundary_counts([reference + 0.0501], [reference]).hits == 0, reference


def test_a_boundary_is_used_once():
    assert boundary_counts([0.10, 0.11, 0.12], [0.11]) == BoundaryCounts(1, 3, 1)
    assert boundary_counts([0.1, 0.1], [0.1]) == BoundaryCounts(1, 2, 1)


@pytest.mark.parametrize(
    ("hits", "predicted", "reference", "r_value"),
    [
        (1, 1, 1, 1.0),
        (1, 2, 2, 0.573223),
        (1, 2, 1, 0.146447),
        (1, 1, 2, 0.646447),
        (12, 15, 20, 0.711117),
        # Nothing predicted: recall 0, OS -1.
        (0, 0, 10, 1 - 1 / math.sqrt(2)),
        # Nothing right at the right count: recall 0, OS 0.
        (0, 10, 10, 1 - (1 + 1 / math.sqrt(2)) / 2),
        (0, 5, 0, 0.0),
        (0, 0, 0, 0.0),
    ],
)
def test_r_value(hits, predicted, reference, r_value):
    assert BoundaryCounts(hits, predicted, reference).r_value == pytest.approx(r_value, abs=1e-6)


def test_a_published_corpus_count():
    counts = BoundaryCounts(105_266, 161_292, 163_763)
    assert counts.f1 == pytest.approx(0.64768, abs=5e-6)
    assert counts.r_value == pytest.approx(0.70028, abs=5e-6)


@pytest.mark.parametrize(
    ("precision", "recall", "f1", "r_value"),
    [(46.6, 48.0, 47.3, 54.5), (64.9, 67.4, 66.1, 70.7), (72.1, 74.4, 73.2, 76.9)],
)
def test_rows_of_the_papers_table_1(precision, recall, f1, r_value):
    # Counts that give the printed precision and recall; both results are then right to the printed rounding.
    hits = 1_000_000
    counts = BoundaryCounts(hits, round(hits / precision * 100), round(hits / recall * 100))
    assert 100 * counts.f1 == pytest.approx(f1, abs=0.1)
    assert 100 * counts.r_value == pytest.approx(r_value, abs=0.1)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 500))
def test_r_value_follows_its_formula_in_precision_and_recall(hits, misses, inserted):
    counts = BoundaryCounts(hits, hits + inserted, hits + misses)
    os = counts.recall / counts.precision - 1
    r1, r2 = math.sqrt((1 - counts.recall) ** 2 + os**2), (-os + counts.recall - 1) / math.sqrt(2)
    assert counts.over_segmentation == pytest.approx(os, abs=1e-12)
    assert counts.r_value == pytest.approx(1 - (abs(r1) + abs(r2)) / 2, abs=1e-12)
    assert counts.f1 == pytest.approx(2 / (1 / counts.precision + 1 / counts.recall))


def test_counts_of_nothing_are_finite():
    for counts in (BoundaryCounts(), BoundaryCounts(0, 3, 0), BoundaryCounts(0, 0, 3)):
        assert all(math.isfinite(value) for value in counts.to_dict().values())
        assert counts.f1 == 0.0
    assert boundary_counts([], []) == BoundaryCounts()


def test_counts_add_and_sum():
    items = [BoundaryCounts(1, 2, 3), BoundaryCounts(4, 5, 6), BoundaryCounts(0, 7, 0)]
    assert sum(items) == BoundaryCounts(5, 14, 9)
    assert items[0] + items[1] == BoundaryCounts(5, 7, 9)
    with pytest.raises(TypeError):
        items[0] + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        3 + items[0]  # type: ignore[operator]


@pytest.mark.parametrize("counts", [(2, 1, 5), (2, 5, 1), (-1, 1, 1)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(InputError, match="hits"):
        BoundaryCounts(*counts)


@pytest.mark.parametrize(
    ("predicted", "reference", "tolerance"),
    [
        ([math.nan], [0.1], 0.05),
        ([0.1], [math.inf], 0.05),
        ([[0.1, 0.2]], [0.1], 0.05),
        (["a"], [0.1], 0.05),
        ([0.1], [0.1], -0.01),
        ([0.1], [0.1], math.nan),
    ],
)
def test_unusable_times_are_refused(predicted, reference, tolerance):
    with pytest.raises(InputError):
        boundary_counts(predicted, reference, tolerance)


@given(TIMES, TIMES, TOLERANCES)
@settings(max_examples=50)
def test_hits_are_those_of_mir_eval(predicted, reference, tolerance):
    match_events = pytest.importorskip("mir_eval.util").match_events
    # In whole milliseconds, where floating point is exact; it matches what lies within the window, itself included.
    ours, theirs = (np.rint(1000 * np.sort(np.array(side))) for side in (predicted, reference))
    expected = len(match_events(theirs, ours, round(1000 * tolerance))) if predicted and reference else 0
    assert boundary_counts(predicted, reference, tolerance).hits == expected
