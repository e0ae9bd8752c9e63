from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Interval
from syllablelm.evaluate.boundaries.matching import BoundaryCounts
from syllablelm.evaluate.boundaries.protocols import PROTOCOLS, Protocol
from syllablelm.evaluate.boundaries.scores import score_boundaries, search_shift


@dataclass
class Reference:
    """A stand-in for an alignment: syllables as (start, end) in seconds."""

    syllables: list[tuple[float, float]]
    duration: float = 2.0
    levels: list[str] = field(default_factory=list)

    def intervals(self, level: str) -> list[Interval]:
        return [Interval("a", start, end) for start, end in self.syllables]

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


def test_the_paper_protocol_counts_unique_starts_and_ends():
    # 0.2-0.4-0.6 and 1.0-1.2 on both sides: five distinct boundaries, the shared one once.
    prediction = {"a": frames((10, 20), (20, 30), (50, 60))}
    reference = {"a": Reference([(0.2, 0.4), (0.4, 0.6), (1.0, 1.2)])}
    scores = score_boundaries(prediction, reference, "paper", level="word")
    assert scores.total() == BoundaryCounts(5, 5, 5)
    assert set(reference["a"].levels) == {"word"}


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
    assert scores.total(0.05) == BoundaryCounts(4, 6, 6)
    assert scores.total(0.02) == sum(scores.items(0.02), BoundaryCounts())


def test_a_recording_without_reference_boundaries_still_counts():
    scores = score_boundaries({"a": frames((10, 20))}, {"a": Reference([])})
    assert scores.total() == BoundaryCounts(0, 2, 0)


def test_the_protocols_tolerance_is_always_scored():
    scores = score_boundaries({"a": frames((10, 20))}, {"a": Reference([(0.2, 0.4)])}, tolerances=[0.01])
    assert set(scores.counts) == set(scores.tokens) == {0.01, 0.05}
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
