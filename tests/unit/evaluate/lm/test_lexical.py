"""sWUGGY: the gold list, the bands, and hand-computed accuracies."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.evaluate.lm.pairs import AccuracyRow, score_pairs
from syllablelm.evaluate.lm.suites import lexical_rows, read_lexical

HEADER = ["id", "filename", "voice", "frequency", "word", "phones", "length", "correct"]
PROGRAM = "frequency as cut by the benchmark's program"
# (id, frequency, length): one word in every band and at every edge.
WORDS = [("1", "0", 3), ("2", "1", 4), ("3", "5", 4), ("4", "6", 5), ("5", "20.0", 5), ("6", "21", 5), ("7", "100", 6),
         ("8", "101", 6), ("9", "", 10)]  # fmt: skip


def lines() -> list[list[object]]:
    result: list[list[object]] = []
    for id, frequency, length in WORDS:
        for voice in ("A", "B"):
            result.append([id, f"w{id}{voice}", voice, frequency, "word", "w er d", length, 1])
            result.append([id, f"n{id}{voice}", voice, "", "", "n o", "", 0])
    return result


def write_gold(folder: Path, rows: list[list[object]], header: list[str] = HEADER) -> Path:
    with (folder / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def rows_of(folder: Path, scores: dict[str, float]) -> dict[tuple[str, str], AccuracyRow]:
    pairs = read_lexical(folder)
    found = lexical_rows(pairs, score_pairs(pairs, scores), resamples=20)
    return {(row.group, row.name): row for row in found}


def test_bands_lengths_and_vocabulary(tmp_path):
    # The words of ids 1 to 4 win in both voices, those of 5 in one; the others lose.
    scores = {f"n{id}{voice}": 0.0 for id, _, _ in WORDS for voice in "AB"}
    scores |= {f"w{id}{voice}": 1.0 if id < "5" else -1.0 for id, _, _ in WORDS for voice in "AB"}
    scores["w5A"] = 1.0
    rows = rows_of(write_gold(tmp_path, lines()), scores)
    accuracies = {key: row.accuracy for key, row in rows.items()}
    assert accuracies == {
        ("all", "pairs"): pytest.approx(4.5 / 9),
        ("vocabulary", "in"): pytest.approx(3.5 / 7),
        ("vocabulary", "oov"): 1.0,
        ("frequency", "oov"): 1.0,
        ("frequency", "1-5"): 1.0,
        ("frequency", "6-20"): 0.75,
        ("frequency", "21-100"): 0.0,
        ("frequency", ">100"): 0.0,
        (PROGRAM, "oov"): 1.0,
        (PROGRAM, "1-4"): 1.0,
        (PROGRAM, "5-19"): 1.0,
        (PROGRAM, "20-99"): 0.25,
        (PROGRAM, ">=100"): 0.0,
        ("length", "3"): 1.0,
        ("length", "4"): 1.0,
        ("length", "5"): 0.5,
        ("length", "6"): 0.0,
        ("length", "10"): 0.0,
    }
    pairs = {group: sum(row.pairs for (g, _), row in rows.items() if g == group) for group, _ in rows}
    # The ninth word's frequency is not said.
    assert pairs == {"all": 9, "vocabulary": 8, "frequency": 8, PROGRAM: 8, "length": 9}
    assert rows["all", "pairs"].comparisons == 18


def test_shuffled_lists_give_the_same_rows(tmp_path):
    rng = random.Random(0)
    scores = {str(line[1]): float(rng.randrange(3)) for line in lines()}
    before = rows_of(write_gold(tmp_path, lines()), scores)
    shuffled = lines()
    rng.shuffle(shuffled)
    assert rows_of(write_gold(tmp_path, shuffled), scores) == before


def test_swapped_answers_turn_every_row_round(tmp_path):
    rng = random.Random(1)
    full = [[*line[:3], WORDS[int(str(line[0])) - 1][1], *line[4:6], 4, line[7]] for line in lines()]
    scores = {str(line[1]): float(rng.randrange(3)) for line in full}
    before = rows_of(write_gold(tmp_path, full), scores)
    after = rows_of(write_gold(tmp_path, [[*line[:7], 1 - int(str(line[7]))] for line in full]), scores)
    assert {key: 1 - row.accuracy for key, row in before.items()} == pytest.approx(
        {key: row.accuracy for key, row in after.items()}
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.clear(), "lists no pairs"),
        (lambda rows: rows[0].__setitem__(7, "yes"), "gold.csv:2: correct is neither 0 nor 1 (1 lines in all)"),
        (lambda rows: rows[3].__setitem__(1, ""), "gold.csv:5: without a filename (1 lines in all)"),
        (lambda rows: rows[0].__setitem__(3, "often"), "frequency is not a count"),
        (lambda rows: rows[0].__setitem__(3, "-2"), "frequency is not a count"),
        (lambda rows: rows[0].__setitem__(6, ""), "length is not a count"),
        (lambda rows: rows.append(rows[0]), "named twice: w1A (1 in all)"),
        (lambda rows: rows.pop(1), "without its other recording: 1 (w1A) in voice A (1 in all)"),
        (lambda rows: rows.append(["1", "x", "A", "", "", "", "", 0]), "more than two recordings: 1 (n1A, w1A, x)"),
    ],
)
def test_gold_lists_with_faults_are_refused(tmp_path, change, words):
    rows = lines()
    change(rows)
    with pytest.raises(FormatError) as error:
        read_lexical(write_gold(tmp_path, rows))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_another_table_is_refused(tmp_path):
    with pytest.raises(FormatError, match="no column 'frequency'"):
        read_lexical(write_gold(tmp_path, [], [column for column in HEADER if column != "frequency"]))
    with pytest.raises(FormatError, match="not a readable table"):
        read_lexical(tmp_path / "nowhere")
    (tmp_path / "gold.csv").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(FormatError, match="not a readable table"):
        read_lexical(tmp_path)
