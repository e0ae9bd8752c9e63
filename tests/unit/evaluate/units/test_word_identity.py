"""Word identity: distances against slow oracles, decisions by hand, a toy set on disk."""

from __future__ import annotations

import csv
import json
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm import Tokenizer
from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.audio import save_audio
from syllablelm.evaluate.lm.pairs import PairCounts
from syllablelm.evaluate.units.word_identity import (
    IdentityResult,
    SpokenWord,
    dtw_distance,
    evaluate_identity,
    read_words,
    score_words,
    unit_distance,
)


def slow_dtw(a: np.ndarray, b: np.ndarray) -> float:
    def cost(i: int, j: int) -> float:
        return 1 - a[i] @ b[j] / (np.linalg.norm(a[i]) * np.linalg.norm(b[j]))

    @cache
    def of(i: int, j: int) -> float:
        if i < 0 or j < 0:
            return 0.0 if i == j == -1 else np.inf
        return cost(i, j) + min(of(i - 1, j), of(i, j - 1), of(i - 1, j - 1))

    return of(len(a) - 1, len(b) - 1) / (len(a) + len(b))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_dtw_as_the_recursion(n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    assert dtw_distance(a, b) == pytest.approx(slow_dtw(a, b))
    assert dtw_distance(a, b) == pytest.approx(dtw_distance(b, a))
    assert dtw_distance(a, a) == pytest.approx(0, abs=1e-12)
    # Neither loudness nor tempo counts.
    assert dtw_distance(3 * np.repeat(a, 2, axis=0), a) == pytest.approx(0, abs=1e-12)


def test_dtw_takes_zero_vectors_and_refuses_other_shapes():
    assert dtw_distance(np.zeros((2, 3)), np.ones((1, 3))) == pytest.approx(2 / 3)
    with pytest.raises(InputError, match=r"\(0, 3\)"):
        dtw_distance(np.zeros((0, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="3 and 4 dims"):
        dtw_distance(np.ones((2, 3)), np.ones((1, 4)))


def test_unit_distance():
    assert unit_distance([1, 2, 3], [1, 3]) == 1 / 5
    assert unit_distance([1], [2]) == 1 / 2
    assert unit_distance([], []) == 0.0


def test_decisions_by_hand():
    word = SpokenWord("1", {"A": ("wA", "nA"), "B": ("wB", "nB")})
    tied = SpokenWord("2", {"A": ("vA", "mA"), "B": ("vB", "mB")})
    distances = {("wA", "wB"): 1.0, ("wA", "nB"): 2.0, ("wB", "wA"): 1.0, ("wB", "nA"): 0.5}
    counts = score_words([word, tied], lambda a, b: distances.get((a, b), 3.0))
    assert counts["all"] == (PairCounts(0.5, 1, 2, 0), PairCounts(0.5, 1, 2, 2))
    assert counts["A to B"] == (PairCounts(1.0, 1, 1, 0), PairCounts(0.5, 1, 1, 1))
    assert counts["B to A"] == (PairCounts(0.0, 1, 1, 0), PairCounts(0.5, 1, 1, 1))
    assert PairCounts.merge(counts["all"]) == PairCounts(1.0, 2, 4, 2)
    assert PairCounts.merge(counts["all"]).accuracy == 0.5


def test_every_ordered_pair_of_voices_is_compared():
    stems = {voice: (f"w{voice}", f"n{voice}") for voice in "CAB"}
    found = dict(SpokenWord("1", stems).comparisons())
    assert len(found) == 6
    assert found["B", "C"] == ("wB", "wC", "nC")


HEADER = ("id", "filename", "voice", "correct", "frequency", "word", "phones", "length")


def write_set(folder: Path, words: int, voices: str = "AB", *, seconds: float = 0.5) -> Path:
    """Words of noise: a word is one noise in all voices but for its level, a non-word another."""
    place = folder / "lexical" / "dev"
    place.mkdir(parents=True)
    rows = []
    for number, voice, correct in product(range(words), voices, (1, 0)):
        stem = f"{number}-{voice}-{correct}"
        wave = np.random.default_rng(2 * number + correct).standard_normal(int(seconds * 16_000))
        save_audio(place / f"{stem}.wav", (0.05 * (1 + voices.index(voice)) * wave).astype(np.float32), 16_000)
        rows.append((number, stem, voice, correct, "", "w", "W ER D" if correct else "W AO T", 3))
    with (place / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder


def test_a_set_on_disk(tmp_path, tokenizer_folder, monkeypatch):
    folder = write_set(tmp_path / "set", 3, "ABC")
    tokenizer = Tokenizer.load(tokenizer_folder)
    searches: list[int] = []
    plain = Tokenizer.spans
    monkeypatch.setattr(Tokenizer, "spans", lambda self, features: searches.append(1) or plain(self, features))
    result = evaluate_identity(folder, tokenizer, resamples=20)
    assert len(searches) == result.recordings == 18, "segments are searched once for each recording"
    assert (result.words, result.voices, result.changed_phones) == (3, ("A", "B", "C"), 2.0)
    rows = {(row.group, row.name): row for row in result.rows}
    assert rows["vectors", "all"].comparisons == rows["units", "all"].comparisons == 18
    assert rows["vectors", "all"].accuracy == result.vector_accuracy
    assert rows["units", "all"].accuracy == result.unit_accuracy
    assert [name for group, name in rows if group == "vectors"][:2] == ["all", "A to B"]
    assert len(rows) == 14
    assert IdentityResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    without = evaluate_identity(folder, Tokenizer(tokenizer.encoder, None, tokenizer.rule), resamples=20)
    assert without.unit_accuracy is None
    assert without.rows == result.rows[:7]


def test_words_of_one_voice_are_passed_over(tmp_path):
    place = write_set(tmp_path / "set", 2) / "lexical" / "dev"
    lines = (place / "gold.csv").read_text().splitlines()
    (place / "gold.csv").write_text("\n".join(line for line in lines if not line.startswith("0,0-B")) + "\n")
    assert [word.name for word in read_words(place)] == ["1"]


def test_faulty_sets(tmp_path, tokenizer_folder):
    tokenizer = Tokenizer.load(tokenizer_folder)
    with pytest.raises(FormatError, match=r"no lexical/dev/gold\.csv"):
        evaluate_identity(tmp_path, tokenizer)
    with pytest.raises(InputError, match="no word in two voices; make the set with --voices A,B"):
        evaluate_identity(write_set(tmp_path / "one", 2, "A"), tokenizer)
    with pytest.raises(InputError, match="4 recordings without a segment, such as '0-A-0'"):
        evaluate_identity(write_set(tmp_path / "short", 1, seconds=0.01), tokenizer)
    folder = write_set(tmp_path / "gone", 2)
    (folder / "lexical" / "dev" / "0-A-1.wav").unlink()
    with pytest.raises(FormatError, match="in the gold list without a recording: 0-A-1"):
        evaluate_identity(folder, tokenizer)
