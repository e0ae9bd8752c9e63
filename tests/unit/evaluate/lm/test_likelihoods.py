"""Summed, localised and normalised scores of pairs, against a slow loop with a bigram as the language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.lm.likelihoods import SCORINGS, WINDOW_SECONDS, ScoredUnits, score_continuations, shared_units
from syllablelm.evaluate.lm.pairs import Pair, PairCounts, rows_by_score, score_pairs
from syllablelm.evaluate.lm.scorer import score_stems
from syllablelm.evaluate.lm.suites import lexical_rows
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenInfo

BOS = 4


def log_prob(before: int, unit: int) -> float:
    weights = [1.0 + (3 * before + 5 * other) % 7 for other in range(BOS)]
    return math.log(weights[unit] / sum(weights))


class Bigram:
    """A language model whose probabilities depend on the unit before."""

    def __init__(self, has_bos: bool = True) -> None:
        self.first = 0 if has_bos else 1

    def log_probs(self, segmentations: Sequence[Segmentation]) -> list[np.ndarray]:
        rows = [np.asarray(one.unit).tolist() for one in segmentations]
        return [
            np.array([log_prob(a, b) for a, b in zip([BOS, *row], row, strict=False)][self.first :]) for row in rows
        ]


LM, WITHOUT_BOS = cast("SpeechLM", Bigram()), cast("SpeechLM", Bigram(has_bos=False))


def scored(units: list[int], frames: list[int], lm: SpeechLM = LM) -> ScoredUnits:
    segmentation = Segmentation.from_boundaries(np.cumsum([0, *frames[: len(units)]]), unit=units)
    return ScoredUnits(segmentation, lm.log_probs([segmentation])[0])


RECORDINGS = st.lists(st.integers(0, BOS - 1), min_size=1, max_size=7).flatmap(
    lambda units: st.tuples(st.just(units), st.lists(st.integers(1, 14), min_size=len(units), max_size=len(units)))
)


@given(RECORDINGS, RECORDINGS)
def test_scores_by_a_slow_loop(right: Any, wrong: Any) -> None:
    recordings = {"r": scored(*right), "w": scored(*wrong)}
    (pair,) = [Pair("p", (("r", "w"),), {})]
    scores, shared = score_continuations([pair], recordings, LM)
    first = 0
    while first < min(len(right[0]), len(wrong[0])) and right[0][first] == wrong[0][first]:
        first += 1
    assert shared_units(recordings["r"].units, recordings["w"].units) == first
    assert shared == (first > 0)
    for stem, (units, frames) in (("r", right), ("w", wrong)):
        nats = [log_prob(a, b) for a, b in zip([BOS, *units], units, strict=False)]
        assert scores["summed"][stem] == pytest.approx(sum(nats))
        if first in (len(right[0]), len(wrong[0])):
            assert scores["localised"][stem] == scores["normalised"][stem] == 0
            continue
        starts = [0.02 * sum(frames[:k]) for k in range(len(units))]
        window = [nats[k] for k in range(first, len(units)) if starts[k] < starts[first] + WINDOW_SECONDS - 1e-9]
        assert scores["localised"][stem] == pytest.approx(sum(window) / len(window))
        alone = [log_prob(a, b) for a, b in zip([BOS, *units[first:]], units[first:], strict=False)]
        assert scores["normalised"][stem] == pytest.approx(sum(nats[first:]) - sum(alone), abs=1e-9)


@given(RECORDINGS, RECORDINGS)
def test_a_model_without_bos_by_a_slow_loop(right: Any, wrong: Any) -> None:
    recordings = {"r": scored(*right, WITHOUT_BOS), "w": scored(*wrong, WITHOUT_BOS)}
    scores, _ = score_continuations([Pair("p", (("r", "w"),), {})], recordings, WITHOUT_BOS)
    first = shared_units(recordings["r"].units, recordings["w"].units)
    for stem, (units, frames) in (("r", right), ("w", wrong)):
        nats: list[float] = [log_prob(a, b) for a, b in pairwise(units)]
        localised = normalised = 0.0
        if first not in (len(right[0]), len(wrong[0])):
            starts = [0.02 * sum(frames[:k]) for k in range(len(units))]
            window = [k for k in range(max(1, first), len(units)) if starts[k] < starts[first] + WINDOW_SECONDS - 1e-9]
            localised = sum(nats[k - 1] for k in window) / max(1, len(window))
            # The unit after the shared ones has no probability alone; a bigram's others are the same as given these.
            normalised = sum(nats[first:]) - sum(
                log_prob(a, b) for a, b in zip(units[first:], units[first + 1 :], strict=False)
            )
        assert scores["localised"][stem] == pytest.approx(localised)
        assert scores["normalised"][stem] == pytest.approx(normalised if first else 0.0, abs=1e-9)


@given(RECORDINGS, RECORDINGS)
def test_the_shared_units_do_not_change_who_wins_by_the_sum(right: Any, wrong: Any) -> None:
    recordings = {"r": scored(*right), "w": scored(*wrong)}
    first = shared_units(recordings["r"].units, recordings["w"].units)
    scores, _ = score_continuations([Pair("p", (("r", "w"),), {})], recordings, LM)
    rest = {stem: float(one.log_probs[first:].sum()) for stem, one in recordings.items()}
    assert scores["summed"]["r"] - scores["summed"]["w"] == pytest.approx(rest["r"] - rest["w"], abs=1e-9)


def test_rows_hold_the_accuracy_of_every_score() -> None:
    pairs = [Pair(n, ((f"{n}+", f"{n}-"),), {"length": "3"}) for n in "abc"]
    right = {"mean": "abc", "summed": "ab", "localised": "a", "normalised": ""}
    scores = {
        name: {f"{n}{side}": float((side == "+") == (n in won)) for n in "abc" for side in "+-"}
        for name, won in right.items()
    }
    rows = rows_by_score(pairs, scores, lambda p, c: lexical_rows(p, c, resamples=20))
    assert {(row.group, row.name) for row in rows} == {("all", "pairs"), ("length", "3")}
    for row in rows:
        assert row.accuracy == 1
        for name in SCORINGS:
            assert getattr(row, name).value == pytest.approx(len(right[name]) / 3)
            assert getattr(row, name).low <= getattr(row, name).value <= getattr(row, name).high
    only = rows_by_score(pairs, {"mean": scores["localised"]}, lambda p, c: lexical_rows(p, c, resamples=20))
    assert only[0].accuracy == pytest.approx(1 / 3) and only[0].summed is None
    assert PairCounts.merge(score_pairs(pairs, scores["localised"])).accuracy == only[0].accuracy


def test_a_recording_of_one_unit_has_no_score_without_bos(tmp_path: Path) -> None:
    units = {"a": scored([1, 2], [3, 3]).units, "b": scored([1], [3]).units}
    lm = cast("SpeechLM", SimpleNamespace(info=TokenInfo(BOS, has_bos=False), log_probs=WITHOUT_BOS.log_probs))
    with pytest.raises(InputError, match=r"b: one unit; a model without BOS .* \(1 of 2 recordings"):
        score_stems(["a", "b"], lambda stems: {stem: units[stem] for stem in stems}, lm, tmp_path / "s.txt", "key")
    assert not (tmp_path / "s.txt").exists()
