"""Stories are paired by name, never by order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError
from syllablelm.evaluate.lm import TieRule
from syllablelm.evaluate.lm.cloze import TIES, pair_stories, read_cloze
from syllablelm.evaluate.lm.pairs import PairCounts, score_pairs


def accuracy(stems: list[str], scores: dict[str, float], ties: float = 0.5) -> float:
    return PairCounts.merge(score_pairs(pair_stories(stems, "here"), scores, ties=ties)).accuracy


@given(st.integers(1, 40), st.booleans(), st.randoms(use_true_random=False))
def test_stories_are_found_whatever_the_numbers_before_them(count, numbered, rng: random.Random):
    # Numbers are given at random: sorted names put the wrong ending first about as often as not.
    numbers = rng.sample(range(1000), 2 * count)
    stems = []
    for story in range(count):
        for mark in ("correct", "incorrect"):
            stems.append(f"{numbers.pop()}_s{story}_{mark}" if numbered else f"s{story}_{mark}")
    rng.shuffle(stems)
    pairs = pair_stories(stems, "here")
    assert len(pairs) == count
    for pair in pairs:
        ((right, wrong),) = pair.stems
        story = right.split("_")[-2]
        assert right.endswith("_correct") and wrong.endswith("_incorrect") and wrong.split("_")[-2] == story
    scores = {stem: 0.0 if stem.endswith("_incorrect") else 1.0 for stem in stems}
    assert accuracy(stems, scores) == 1.0
    assert accuracy(stems, {stem: -score for stem, score in scores.items()}) == 0.0


def test_a_shared_prefix_is_the_whole_name():
    # The last field alone would mix the two sets.
    stems = [f"{part}_{n}_{mark}" for part in ("a", "b") for n in "12" for mark in ("correct", "incorrect")]
    assert [pair.name for pair in pair_stories(stems, "here")] == ["a_1", "a_2", "b_1", "b_2"]


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=1, max_size=12))
def test_accuracy_by_a_slow_loop(values):
    stems = [f"{k}_{mark}" for k in range(len(values)) for mark in ("correct", "incorrect")]
    scores = {f"{k}_correct": float(right) for k, (right, _) in enumerate(values)}
    scores |= {f"{k}_incorrect": float(wrong) for k, (_, wrong) in enumerate(values)}
    assert set(TIES) == set(get_args(TieRule))
    won, tied = sum(r > w for r, w in values), sum(r == w for r, w in values)
    assert accuracy(stems, scores, TIES["wrong"]) == pytest.approx(won / len(values))
    assert accuracy(stems, scores, TIES["half"]) == pytest.approx((won + tied / 2) / len(values))


@pytest.mark.parametrize(
    ("stems", "words"),
    [
        (["1_correct", "1_incorrect", "2_correct"], "without its other recording: 2 (2_correct) (1 in all)"),
        (["1_correct", "2_incorrect"], "without its other recording: 1 (1_correct) (2 in all)"),
        (["7_1_correct", "8_1_incorrect", "9_2_correct"], "without its other recording: 2 (9_2_correct) (1 in all)"),
        (["1_correct", "1_wrong"], "ends in neither _correct nor _incorrect: 1_wrong (1 in all)"),
        (["_correct", "_incorrect"], "without a story: _correct (2 in all)"),
        (
            ["1_5_correct", "2_5_incorrect", "3_5_incorrect", "4_6_correct", "5_6_incorrect"],
            "a pair with more than two recordings: 5 (1_5_correct, 2_5_incorrect, 3_5_incorrect) (1 in all)",
        ),
    ],
)
def test_unpaired_stories_are_refused(stems, words):
    with pytest.raises(FormatError) as error:
        pair_stories(stems, "here")
    assert words in str(error.value)


def test_folders(tmp_path: Path):
    for stem in ("3_12_correct", "4_12_incorrect"):
        (tmp_path / f"{stem}.wav").touch()
    (tmp_path / "README.txt").touch()
    assert [pair.stems for pair in read_cloze(tmp_path)] == [(("3_12_correct", "4_12_incorrect"),)]
    (tmp_path / "3_12_correct.flac").touch()
    with pytest.raises(FormatError, match="two recordings are called 3_12_correct"):
        read_cloze(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"no \.wav or \.flac recordings"):
        read_cloze(tmp_path / "empty")
    with pytest.raises(FormatError, match="no such folder"):
        read_cloze(tmp_path / "nowhere")
