"""sBLIMP: pair average against macro average, by hand and by a slow loop."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError
from syllablelm.evaluate.lm.pairs import AccuracyRow, score_pairs
from syllablelm.evaluate.lm.suites import MacroCounts, read_syntactic, syntactic_rows

HEADER = ["id", "filename", "voice", "type", "subtype", "transcription", "correct"]
# Ids begin anew in every subtype.
PAIRS = [("agreement", "gender", 3), ("agreement", "number", 2), ("island", "adjunct", 1)]


def lines() -> list[list[object]]:
    result: list[list[object]] = []
    for kind, subtype, count in PAIRS:
        for id in range(count):
            for voice in ("A", "B"):
                for correct in (1, 0):
                    stem = f"{subtype}{id}{voice}{correct}"
                    result.append([id, stem, voice, kind, subtype, "she, said", correct])
    return result


def write_gold(folder: Path, rows: list[list[object]]) -> Path:
    with (folder / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder


def rows_of(folder: Path, scores: dict[str, float]) -> dict[tuple[str, str], AccuracyRow]:
    pairs = read_syntactic(folder)
    found = syntactic_rows(pairs, score_pairs(pairs, scores), resamples=50)
    return {(row.group, row.name): row for row in found}


def test_the_two_averages_by_hand(tmp_path):
    scores = {str(line[1]): 0.0 for line in lines()}
    # All of gender is won, nothing of number, and half of the one island.
    scores |= {f"gender{id}{voice}1": 1.0 for id in range(3) for voice in "AB"}
    scores |= {f"number{id}{voice}1": -1.0 for id in range(2) for voice in "AB"}
    scores["adjunct0A1"], scores["adjunct0B1"] = 1.0, -1.0
    rows = rows_of(write_gold(tmp_path, lines()), scores)
    assert {key: row.accuracy for key, row in rows.items()} == {
        ("all", "pairs"): pytest.approx(3.5 / 6),
        ("macro", "mean over phenomena"): pytest.approx((3 / 5 + 1 / 2) / 2),
        ("phenomenon", "agreement"): pytest.approx(3 / 5),
        ("phenomenon", "island"): 0.5,
        ("subtype", "adjunct"): 0.5,
        ("subtype", "gender"): 1.0,
        ("subtype", "number"): 0.0,
    }
    assert rows["all", "pairs"].pairs == rows["macro", "mean over phenomena"].pairs == 6
    assert rows["macro", "mean over phenomena"].points is None
    assert all(row.low <= row.accuracy <= row.high for row in rows.values())


def test_shuffled_and_swapped_lists(tmp_path):
    rng = random.Random(2)
    scores = {str(line[1]): float(rng.randrange(3)) for line in lines()}
    before = rows_of(write_gold(tmp_path, lines()), scores)
    shuffled = lines()
    rng.shuffle(shuffled)
    assert rows_of(write_gold(tmp_path, shuffled), scores) == before
    swapped = rows_of(write_gold(tmp_path, [[*line[:6], 1 - int(str(line[6]))] for line in lines()]), scores)
    assert {key: 1 - row.accuracy for key, row in before.items()} == pytest.approx(
        {key: row.accuracy for key, row in swapped.items()}
    )
    flat = rows_of(tmp_path, dict.fromkeys(scores, 0.0))
    assert {row.accuracy for row in flat.values()} == {0.5}


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=12))
def test_the_macro_average_is_a_mean_of_means(items):
    total = sum((MacroCounts({name: points}, {name: 1}) for name, points in items), MacroCounts())
    means = []
    for name in {name for name, _ in items}:
        points = [value for other, value in items if other == name]
        means.append(sum(points) / len(points))
    assert total.macro == pytest.approx(sum(means) / len(means))


def test_nothing_has_macro_0():
    assert MacroCounts().macro == 0.0


def test_an_id_twice_in_a_subtype_is_refused(tmp_path):
    extra = [[0, "more1", "A", "agreement", "gender", "", 1], [0, "more0", "A", "agreement", "gender", "", 0]]
    with pytest.raises(FormatError, match=r"more than two recordings: agreement/gender/0 .* in voice A \(1 in all\)"):
        read_syntactic(write_gold(tmp_path, lines() + extra))
