"""ZeroSyl's rule against a slow restatement of it; the other rules are tested with the boundaries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_segmentations import segmentations
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.evaluate.boundaries.matching import BoundaryCounts, TokenCounts
from syllablelm.evaluate.boundaries.protocols import PROTOCOLS, Protocol
from syllablelm.evaluate.boundaries.scores import score_boundaries, search_shift
from syllablelm.evaluate.boundaries.selection import interval_times

ZEROSYL = PROTOCOLS["zerosyl"]


def align(*words: tuple[int, int], centiseconds: int = 120) -> Alignment:
    """Words of one syllable, in centiseconds."""
    found = (Word("a", a / 100, b / 100, (Interval("AA1", a / 100, b / 100),)) for a, b in words)
    return Alignment("a", centiseconds / 100, tuple(found))


@st.composite
def alignments(draw: st.DrawFn) -> Alignment:
    steps = draw(st.lists(st.tuples(st.sampled_from([0, 0, 3, 9]), st.integers(2, 25)), max_size=8))
    edges = np.cumsum(np.array(steps, dtype=int).reshape(-1)).reshape(-1, 2).tolist()
    return align(*map(tuple, edges), centiseconds=300)


def slow(prediction: Segmentation, reference: Alignment, shift: int, tolerance: float) -> tuple[list[int], list[int]]:
    """Counts of boundaries and of tokens by the definition, in centiseconds, where nothing is rounded."""
    times = [2 * frame + shift for frame in [*prediction.start.tolist(), *prediction.end.tolist()[-1:]]]
    stretches: list[list[tuple[int, int]]] = []
    for word in reference.words:
        start, end = round(100 * word.start), round(100 * word.end)
        if stretches and stretches[-1][-1][1] == start:
            stretches[-1].append((start, end))
        else:
            stretches.append([(start, end)])
    totals = [0, 0, 0], [0, 0, 0]
    for stretch in stretches:
        first, last = stretch[0][0], stretch[-1][1]
        inside = [time for time in times if first + tolerance < time < last - tolerance]
        true = [end for _, end in stretch[:-1]]
        free = list(inside)
        for time in true:
            near = [one for one in free if abs(one - time) <= tolerance]
            if near:
                free.remove(near[0])
                totals[0][0] += 1
        totals[0][1] += len(inside)
        totals[0][2] += len(true)
        free_tokens = list(stretch)
        for token in pairwise([first, *inside, last]):
            near_tokens = [
                one
                for one in free_tokens
                if abs(one[0] - token[0]) <= tolerance and abs(one[1] - token[1]) <= tolerance
            ]
            if near_tokens:
                free_tokens.remove(near_tokens[0])
                totals[1][0] += 1
            totals[1][1] += 1
        totals[1][2] += len(stretch)
    return totals


@given(segmentations(min_frames=20), alignments(), st.sampled_from([-3, 0, 2]), st.sampled_from([2.5, 4.5]))
@settings(max_examples=300)
def test_zerosyls_rule_is_its_definition(prediction, reference, shift, tolerance):
    scores = score_boundaries(
        {"a": prediction}, {"a": reference}, ZEROSYL.with_shift(shift / 100), "word", [tolerance / 100]
    )
    boundaries, tokens = slow(prediction, reference, shift, tolerance)
    assert scores.total(tolerance / 100) == BoundaryCounts(*boundaries)
    assert scores.token_total(tolerance / 100) == TokenCounts(*tokens)


def test_edges_are_given_and_silence_is_passed_over():
    # Two stretches, 0.20-0.60 with a boundary at 0.40 and 0.80-1.00; cuts at their edges and in the silence.
    reference = {"a": align((20, 40), (40, 60), (80, 100))}
    prediction = {"a": Segmentation.from_boundaries([0, 10, 21, 30, 35, 41, 50, 60])}
    scores = score_boundaries(prediction, reference, ZEROSYL.with_shift(0.0))
    assert scores.total() == BoundaryCounts(1, 1, 1)
    assert scores.token_total() == TokenCounts(3, 3, 3)
    # The same cuts by the paper's rule: 0.0, 0.7 and 1.2 are wrong.
    assert score_boundaries(prediction, reference, "paper").total() == BoundaryCounts(5, 8, 5)


def test_one_cut_in_the_wrong_place_is_wrong_twice():
    reference = {"a": align((20, 40), (40, 60))}
    prediction = {"a": Segmentation.from_boundaries([10, 25, 30])}
    scores = score_boundaries(prediction, reference, ZEROSYL.with_shift(0.0))
    assert scores.total() == BoundaryCounts(0, 1, 1)
    assert scores.token_total() == TokenCounts(0, 2, 2)


@pytest.mark.parametrize(
    "prediction", [Segmentation(np.array([]), np.array([]), None, 60), Segmentation.from_boundaries([0, 60])]
)
def test_no_cut_and_one_segment_leave_each_stretch_whole(prediction):
    scores = score_boundaries({"a": prediction}, {"a": align((20, 40), (40, 60), (80, 100))}, ZEROSYL.with_shift(0.0))
    assert scores.total() == BoundaryCounts(0, 0, 1)
    # Only the stretch of one syllable is found, for nothing.
    assert scores.token_total() == TokenCounts(1, 2, 3)


def test_a_recording_without_speech_is_not_scored():
    scores = score_boundaries({"a": Segmentation.from_boundaries([0, 30, 60])}, {"a": align()}, ZEROSYL.with_shift(0.0))
    assert scores.total() == BoundaryCounts()


def test_times_are_rounded_as_the_published_evaluator_does():
    # 0.20 and 0.18 less 5 ms: in binary .195 lies above the tie and .175 below it.
    reference = {"a": align((0, 13), (13, 60))}
    late = score_boundaries({"a": Segmentation.from_boundaries([0, 10, 30])}, reference, ZEROSYL.with_shift(-0.005))
    assert late.total(0.05) == BoundaryCounts(0, 1, 1), "0.20 is 70 ms late"
    late = score_boundaries({"a": Segmentation.from_boundaries([0, 9, 30])}, reference, ZEROSYL.with_shift(-0.005))
    assert late.total(0.05) == BoundaryCounts(1, 1, 1), "0.17 is 40 ms late"


def test_a_distance_of_the_tolerance_is_up_to_the_binary_fractions_as_published():
    for cut, hits in ((25, 1), (105, 0)):
        # In binary .25 - .2 lies below .05, and 1.05 - 1.0 above it.
        reference = {"a": align((0, cut - 5), (cut - 5, 200), centiseconds=200)}
        prediction = {"a": Segmentation.from_boundaries([0, cut, 200], hop=160)}
        assert score_boundaries(prediction, reference, ZEROSYL.with_shift(0.0)).total().hits == hits
        assert score_boundaries(prediction, reference, "strict").total().hits == 1


def test_the_shift_is_searched_by_the_same_rule():
    words = [(start, start + 15) for start in range(10, 100, 15)]
    reference = {"a": align(*words)}
    prediction = {"a": Segmentation.from_boundaries([(start + 3) for start in range(10, 110, 15)], hop=160)}
    protocol = Protocol(**{**vars(ZEROSYL), "tolerance": 0.001})
    assert search_shift(prediction, reference, protocol, "word") == pytest.approx(-0.03)


def test_stretches_know_no_other_boundaries():
    with pytest.raises(InputError, match="stretches"):
        Protocol("mine", stretches=True)


def test_intervals_that_overlap_by_rounding_touch():
    words = (Word("a", 0.1, 0.2006), Word("b", 0.2, 0.3))
    assert interval_times(Alignment("a", 1.0, words), "word").tolist() == [[100_000, 200_600], [200_600, 300_000]]
