from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from syllablelm.errors import InputError
from syllablelm.evaluate.boundaries import (
    PROTOCOLS,
    BoundaryCounts,
    Protocol,
    boundary_counts,
    get_protocol,
    score_boundaries,
    search_shift,
)
from syllablelm.types import Segmentation

# Times in whole centiseconds collide and touch the tolerance exactly; duplicates are wanted too.
TIMES = st.lists(st.integers(0, 150).map(lambda n: n / 100), max_size=25)
TOLERANCES = st.sampled_from([0.0, 0.02, 0.05, 0.1])


@dataclass
class Reference:
    """A stand-in for an alignment: syllables as (start, end) in seconds."""

    syllables: list[tuple[float, float]]
    duration: float = 2.0
    levels: list[str] = field(default_factory=list)

    def boundaries(self, level: str) -> np.ndarray:
        self.levels.append(level)
        return np.array(self.syllables, dtype=float).ravel()

    def starts(self, level: str) -> np.ndarray:
        self.levels.append(level)
        return np.array(self.syllables, dtype=float).reshape(-1, 2)[:, 0]


def frames(*pairs: tuple[int, int], num_frames: int = 100) -> Segmentation:
    """Segments in frames of 20 ms."""
    start, end = (np.array([pair[side] for pair in pairs], dtype=np.int32) for side in (0, 1))
    return Segmentation(start, end, None, num_frames)


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


@pytest.mark.parametrize("reference", [k / 100 for k in range(200)])
def test_a_distance_of_exactly_the_tolerance_is_a_hit(reference):
    assert boundary_counts([reference + 0.05], [reference]).hits == 1
    assert boundary_counts([reference + 0.0501], [reference]).hits == 0


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


def test_the_paper_protocol_counts_unique_starts_and_ends():
    # 0.2-0.4-0.6 and 1.0-1.2 on both sides: five distinct boundaries, the shared one once.
    prediction = {"a": frames((10, 20), (20, 30), (50, 60))}
    reference = {"a": Reference([(0.2, 0.4), (0.4, 0.6), (1.0, 1.2)])}
    scores = score_boundaries(prediction, reference, "paper", level="word")
    assert scores.total() == BoundaryCounts(5, 5, 5)
    assert reference["a"].levels == ["word"]


def test_the_sdhubert_protocol_predicts_starts_only():
    prediction = {"a": frames((10, 20), (20, 30), (50, 60))}
    reference = {"a": Reference([(0.2, 0.4), (0.4, 0.6), (1.0, 1.2)])}
    protocol = PROTOCOLS["sdhubert"].with_shift(0.0)
    assert score_boundaries(prediction, reference, protocol).total() == BoundaryCounts(3, 3, 5)


def test_a_protocol_may_count_reference_starts_only():
    prediction = {"a": frames((10, 20), (50, 60))}
    reference = {"a": Reference([(0.2, 0.4), (1.0, 1.2)])}
    protocol = Protocol("starts", prediction="starts", reference="starts")
    assert score_boundaries(prediction, reference, protocol).total() == BoundaryCounts(2, 2, 2)


def test_the_strict_protocol_drops_the_edges_of_the_recording():
    prediction = {"a": frames((0, 30), (30, 100))}
    reference = {"a": Reference([(0.0, 0.6), (0.6, 2.0)], duration=2.0)}
    assert score_boundaries(prediction, reference, "paper").total() == BoundaryCounts(3, 3, 3)
    assert score_boundaries(prediction, reference, "strict").total() == BoundaryCounts(1, 1, 1)


@pytest.mark.parametrize(("name", "sign"), [("peng", 1), ("sdhubert", -1)])
def test_the_shift_is_added_to_the_side_the_protocol_names(name, sign):
    # Predictions come 40 ms late: they must move back, or the reference forward.
    prediction = {"a": frames((12, 22), (32, 42))}
    reference = {"a": Reference([(0.2, 0.4), (0.6, 0.8)])}
    plain, moved = PROTOCOLS[name].with_shift(0.0), PROTOCOLS[name].with_shift(-0.04 * sign)
    assert score_boundaries(prediction, reference, plain, tolerances=[0.02]).total(0.02).hits == 0
    assert score_boundaries(prediction, reference, moved, tolerances=[0.02]).total(0.02).hits == (4 if sign > 0 else 2)


@pytest.mark.parametrize(("name", "grid"), [("peng", (-0.06, 0.031)), ("sdhubert", (-0.05, 0.05))])
def test_shift_grids_are_the_published_ones(name, grid):
    assert PROTOCOLS[name].shift_grid == pytest.approx(np.arange(grid[0], grid[1], 0.005))


@pytest.mark.parametrize(("name", "sign"), [("peng", 1), ("sdhubert", -1)])
def test_search_finds_a_known_shift(name, sign):
    # Random syllables; the predictions are the reference delayed by 30 ms, at 10 ms per frame.
    rng = np.random.default_rng(0)
    predictions, references = {}, {}
    for recording in "abc":
        edges = np.cumsum(rng.integers(12, 40, size=30)).astype(np.int32)
        segments = [(e / 100, f / 100) for e, f in pairwise(edges)]
        references[recording] = Reference(segments, duration=20.0)
        predictions[recording] = Segmentation(edges[:-1] + 3, edges[1:] + 3, None, 2000, hop=160)
    protocol = Protocol(**{**vars(PROTOCOLS[name]), "tolerance": 0.001})
    shift = search_shift(predictions, references, protocol)
    assert shift == pytest.approx(-0.03 * sign)
    best = score_boundaries(predictions, references, protocol.with_shift(shift)).total().r_value
    others = [
        score_boundaries(predictions, references, protocol.with_shift(s)).total().r_value for s in protocol.shift_grid
    ]
    assert best == max(others)


def test_equally_good_shifts_give_the_one_nearest_to_zero():
    assert search_shift({"a": frames((10, 20))}, {"a": Reference([(0.2, 0.4)])}, "peng") == 0.0
    assert search_shift({"a": frames((10, 20))}, {"a": Reference([(0.2, 0.4)])}, "paper", grid=[0.04, -0.02]) == -0.02


def test_a_shift_that_was_not_searched_is_an_error():
    with pytest.raises(InputError, match="search_shift"):
        score_boundaries({"a": frames((1, 2))}, {"a": Reference([(0.2, 0.4)])}, "peng")
    with pytest.raises(InputError, match="grid"):
        search_shift({"a": frames((1, 2))}, {"a": Reference([(0.2, 0.4)])}, "paper")


def test_corpus_total_is_the_sum_of_the_recordings():
    predictions = {"b": frames((10, 20), (50, 60)), "a": frames((10, 20)), "c": frames()}
    references = {"a": Reference([(0.23, 0.4)]), "b": Reference([(0.2, 0.4)]), "c": Reference([(0.5, 0.6)])}
    scores = score_boundaries(predictions, references)
    assert scores.ids == ("a", "b", "c")
    assert scores.items(0.05) == (BoundaryCounts(2, 2, 2), BoundaryCounts(2, 4, 2), BoundaryCounts(0, 0, 2))
    assert scores.items(0.02)[0] == BoundaryCounts(1, 2, 2)
    assert scores.total(0.05) == BoundaryCounts(4, 6, 6) == scores.totals[0.05]
    result = scores.to_dict()
    assert result["recordings"] == 3
    assert result["tolerances"]["0.05"]["hits"] == 4  # type: ignore[index]
    assert result["protocol"]["name"] == "paper"  # type: ignore[index]


def test_a_recording_without_reference_boundaries_still_counts():
    scores = score_boundaries({"a": frames((10, 20))}, {"a": Reference([])})
    assert scores.total() == BoundaryCounts(0, 2, 0)


def test_the_protocols_tolerance_is_always_scored():
    scores = score_boundaries({"a": frames((10, 20))}, {"a": Reference([(0.2, 0.4)])}, tolerances=[0.01])
    assert set(scores.totals) == {0.01, 0.05}
    with pytest.raises(InputError, match=r"0\.03"):
        scores.total(0.03)


def test_missing_ids_are_named():
    segments, reference = frames((10, 20)), Reference([(0.2, 0.4)])
    with pytest.raises(InputError, match="predictions lack b"):
        score_boundaries({"a": segments}, {"a": reference, "b": reference})
    with pytest.raises(InputError, match="references lack c"):
        score_boundaries({"a": segments, "c": segments}, {"a": reference})
    with pytest.raises(InputError, match="and 3 more"):
        score_boundaries({}, {f"r{k}": reference for k in range(8)})
    with pytest.raises(InputError, match="empty"):
        score_boundaries({}, {})


def test_unknown_protocols_name_the_nearest():
    with pytest.raises(InputError, match="'sdhubert'"):
        get_protocol("sd-hubert")
    with pytest.raises(InputError, match="paper, peng"):
        get_protocol("xyz")
    with pytest.raises(InputError, match="prediction"):
        Protocol("mine", prediction="ends")  # type: ignore[arg-type]
