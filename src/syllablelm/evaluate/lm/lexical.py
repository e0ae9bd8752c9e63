"""sWUGGY: spoken words against non-words, by frequency and by length (FACTS A9)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from syllablelm.evaluate.lm.pairs import (
    AccuracyRow,
    Item,
    Pair,
    PairCounts,
    PairsResult,
    accuracy_row,
    label_rows,
    make_pairs,
    refuse,
)
from syllablelm.evaluate.lm.scorer import evaluate_suite
from syllablelm.evaluate.lm.zerospeech import is_correct, read_gold

COLUMNS = ("id", "filename", "voice", "frequency", "length", "correct")
# First frequency of each band but the first, and the bands' names. The benchmark's own program uses the first names but
# cuts its bands one lower: a word that occurs 5 times is in its "6-20". Its bands are named by what is in them.
_KINDS = {
    "frequency": ((1, 6, 21, 101), ("oov", "1-5", "6-20", "21-100", ">100")),
    "frequency as cut by the benchmark's program": ((1, 5, 20, 100), ("oov", "1-4", "5-19", "20-99", ">=100")),
}


class LexicalResult(PairsResult):
    """Accuracy on words and non-words: all pairs, by vocabulary, by band of frequency and by length."""

    evaluation: ClassVar[str] = "lexical"


def evaluate_lexical(
    folder: str | Path, out: str | Path, *, split: str = "dev", resamples: int = 1000, seed: int = 0, **models: Any
) -> LexicalResult:
    """Measure how often a language model finds a word likelier than a non-word (sWUGGY).

    Args:
        folder: lexical folder of ZeroSpeech 2021 or of `prepare wordlist`, or the folder above it.
        out: folder of the submission file ``lexical/SPLIT.txt``, where a stopped run resumes.
        split: "dev", or "test", whose right answers are not published.
        resamples, seed: number and random seed of the bootstrap resamples.
        models: model, lm, units and device, see `score_recordings`, whose errors are raised too.

    Raises:
        FormatError: a folder of another layout.
    """
    rows = partial(lexical_rows, resamples=resamples, seed=seed)
    return evaluate_suite(LexicalResult, folder, out, read_lexical, rows, split, **models)


def read_lexical(folder: Path) -> list[Pair]:
    """Return the pairs of a folder such as ``lexical/dev``, by its ``gold.csv``.

    Returns:
        pairs with the labels "vocabulary" (in, oov), "frequency", "frequency as cut by the benchmark's program" and
        "length" (phones of the word). A word whose frequency is left empty has none of the first three.

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs.
    """
    rows = read_gold(folder, COLUMNS)
    for column in ("frequency", "length"):
        words = [row for row in rows if is_correct(row) and (row[column] or column == "length")]
        refuse(folder, f"{column} is not a count", [row["line"] for row in words if not _is_count(row[column])])
    items = [Item(row["filename"], row["id"], is_correct(row), row["voice"], _labels(row)) for row in rows]
    return make_pairs(items, folder)


def lexical_rows(
    pairs: Sequence[Pair], counts: Sequence[PairCounts], *, resamples: int = 1000, seed: int = 0
) -> list[AccuracyRow]:
    """Return accuracies of all pairs, in and out of vocabulary, by band of frequency and by length."""
    lengths = sorted({pair.labels["length"] for pair in pairs}, key=int)
    kinds = {"vocabulary": ("in", "oov"), **{kind: names for kind, (_, names) in _KINDS.items()}, "length": lengths}
    rows = [accuracy_row("all", "pairs", counts, resamples=resamples, seed=seed)]
    for kind, names in kinds.items():
        rows += label_rows(kind, pairs, counts, names, resamples=resamples, seed=seed)
    return rows


def _labels(row: Mapping[str, str]) -> Mapping[str, str]:
    # Frequency and length are the word's; those of a non-word are often empty and mean nothing.
    if not is_correct(row):
        return {}
    labels = {"length": str(_count(row["length"]))}
    if row["frequency"]:
        frequency = _count(row["frequency"])
        labels["vocabulary"] = "in" if frequency > 0 else "oov"
        for kind, (edges, names) in _KINDS.items():
            labels[kind] = names[bisect_right(edges, frequency)]
    return labels


def _is_count(text: str) -> bool:
    try:
        return float(text) >= 0 and float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _count(text: str) -> int:
    # Tables that pass through programs with missing values hold 12.0 instead of 12.
    return int(float(text))
