"""Pairs: hand-computed scores, a slow oracle, and what swapping and shuffling must do."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.evaluate.lm.pairs import Item, Pair, PairCounts, accuracy_row, label_rows, make_pairs, score_pairs

# Few values, so that ties are common.
SCORES = st.integers(-3, 3).map(float)


@st.composite
def suites(draw: st.DrawFn) -> tuple[list[Item], dict[str, float]]:
    items, scores = [], {}
    for pair in range(draw(st.integers(1, 8))):
        for voice in draw(st.sets(st.sampled_from("abcd"), min_size=1)):
            for correct in (True, False):
                stem = f"{pair}{voice}{'+' if correct else '-'}"
                items.append(Item(stem, str(pair), correct, voice, {"kind": str(pair % 3)}))
                scores[stem] = draw(SCORES)
    return items, scores


def accuracy(items: list[Item], scores: dict[str, float], ties: float = 0.5) -> float:
    return PairCounts.merge(score_pairs(make_pairs(items, "here"), scores, ties=ties)).accuracy


def slow_accuracy(items: list[Item], scores: dict[str, float], ties: float) -> float:
    """Every recording against every other one, voice by voice and pair by pair."""
    means = []
    for pair in {item.pair for item in items}:
        points = []
        for voice in {item.voice for item in items if item.pair == pair}:
            for right in items:
                for wrong in items:
                    same = (right.pair, right.voice) == (wrong.pair, wrong.voice) == (pair, voice)
                    if same and right.correct and not wrong.correct:
                        difference = scores[right.stem] - scores[wrong.stem]
                        points.append(1.0 if difference > 0 else ties if difference == 0 else 0.0)
        means.append(sum(points) / len(points))
    return sum(means) / len(means)


@given(suites(), st.sampled_from([0.0, 0.5]))
def test_the_accuracy_is_that_of_the_slow_loops(suite, ties):
    items, scores = suite
    assert accuracy(items, scores, ties) == pytest.approx(slow_accuracy(items, scores, ties))


@given(suites())
def test_swapping_right_and_wrong_turns_the_accuracy_round(suite):
    items, scores = suite
    swapped = [Item(item.stem, item.pair, not item.correct, item.voice) for item in items]
    assert accuracy(swapped, scores) == pytest.approx(1 - accuracy(items, scores))


@given(suites(), st.randoms(use_true_random=False))
def test_the_order_of_the_items_says_nothing(suite, rng: random.Random):
    items, scores = suite
    shuffled = list(items)
    rng.shuffle(shuffled)
    pairs = make_pairs(items, "here")
    assert make_pairs(shuffled, "here") == pairs
    counts = score_pairs(pairs, scores)
    backwards = dict(reversed(scores.items()))
    assert accuracy_row("all", "all", score_pairs(make_pairs(shuffled, "here"), backwards), resamples=20) == (
        accuracy_row("all", "all", counts, resamples=20)
    )


@given(suites())
def test_all_ties_are_half(suite):
    items, scores = suite
    flat = dict.fromkeys(scores, -1.25)
    assert accuracy(items, flat) == 0.5
    assert accuracy(items, flat, ties=0.0) == 0.0
    total = PairCounts.merge(score_pairs(make_pairs(items, "here"), flat))
    assert total.ties == total.comparisons == len(items) / 2


@given(suites())
def test_only_the_order_of_scores_counts(suite):
    items, scores = suite
    stretched = {stem: 10 * score - 7 for stem, score in scores.items()}
    assert accuracy(items, stretched) == accuracy(items, scores)


def test_voices_are_averaged_before_pairs():
    # Pair p: three voices, won, lost, tied; pair q: one voice, won. Comparisons alone would give 2.5 / 4.
    items = [Item(f"p{v}{c}", "p", c == "+", v) for v in "abc" for c in "+-"]
    items += [Item("q+", "q", True, "a"), Item("q-", "q", False, "a")]
    scores = {"pa+": 2.0, "pa-": 1.0, "pb+": 0.0, "pb-": 1.0, "pc+": 1.0, "pc-": 1.0, "q+": 0.0, "q-": -1.0}
    counts = score_pairs(make_pairs(items, "here"), scores)
    assert counts == [PairCounts(0.5, 1, 3, 1), PairCounts(1.0, 1, 1, 0)]
    assert sum(counts, PairCounts()) == PairCounts(1.5, 2, 4, 1)
    assert PairCounts.merge(counts).accuracy == 0.75
    strict = score_pairs(make_pairs(items, "here"), scores, ties=0.0)
    assert strict[0].points == pytest.approx(1 / 3)


@given(st.lists(st.integers(0, 6).map(lambda n: PairCounts(n / 6, 1, 6, 0)), max_size=9), st.integers(0, 9))
def test_counts_are_additive_and_forget_order(items, cut):
    whole = PairCounts.merge(items)
    parts = PairCounts.merge(items[:cut]) + PairCounts.merge(items[cut:])
    assert parts.points == pytest.approx(whole.points)
    assert (parts.pairs, parts.comparisons, parts.ties) == (whole.pairs, whole.comparisons, whole.ties)
    assert PairCounts.merge(reversed(items)) == whole


def test_nothing_has_accuracy_0():
    assert PairCounts().accuracy == 0.0


def test_rows_of_labels_hold_their_pairs_only():
    pairs = [Pair(n, ((f"{n}+", f"{n}-"),), {"kind": k} if k else {}) for n, k in (("p", "x"), ("q", "y"), ("r", ""))]
    counts = [PairCounts(1.0, 1, 1, 0), PairCounts(0.0, 1, 1, 0), PairCounts(1.0, 1, 1, 0)]
    rows = label_rows("kind", pairs, counts, ("y", "z", "x"), resamples=10, seed=0)
    assert [(row.group, row.name, row.accuracy, row.pairs) for row in rows] == [
        ("kind", "y", 0.0, 1),
        ("kind", "x", 1.0, 1),
    ]
    assert all(row.low == row.high == row.accuracy for row in rows)


def test_the_interval_holds_the_accuracy_and_narrows():
    few, many = ([PairCounts(float(k % 2), 1, 1, 0) for k in range(n)] for n in (10, 1000))
    wide, narrow = (accuracy_row("all", "all", counts, resamples=200) for counts in (few, many))
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "lists no pairs at all"),
        ([Item("a", "p", True), Item("a", "p", False)], "named twice: a (1 in all)"),
        ([Item("b", "p", True), Item("c", "q", False)], "without its other recording: p (b) (2 in all)"),
        (
            [Item("a", "p", True, "v"), Item("b", "p", False, "w")],
            "without its other recording: p (a) in voice v (2 in all)",
        ),
        (
            [Item("a", "p", True), Item("b", "p", False), Item("c", "p", False)],
            "a pair with more than two recordings: p (a, b, c) (1 in all)",
        ),
    ],
)
def test_what_is_no_pair_is_refused(items, words):
    with pytest.raises(FormatError) as error:
        make_pairs(items, "here")
    assert str(error.value).startswith("here: ") and words in str(error.value)


def test_missing_and_infinite_scores_are_refused():
    pairs = make_pairs([Item("a", "p", True), Item("b", "p", False)], "here")
    with pytest.raises(InputError, match=r"without a score: a \(2 recordings\)"):
        score_pairs(pairs, {})
    for bad in (float("nan"), float("-inf")):
        with pytest.raises(InputError, match=r"not a finite number: b \(1 recordings\)"):
            score_pairs(pairs, {"a": 0.0, "b": bad})
