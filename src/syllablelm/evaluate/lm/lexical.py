"""sWUGGY: spoken words against non-words, by frequency and by length (FACTS A9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from syllablelm.evaluate.lm.pairs import Item, Pair, PairCounts, accuracy_row, label_rows, make_pairs, refuse
from syllablelm.evaluate.lm.zerospeech import GoldRow, read_gold

COLUMNS = ("id", "filename", "voice", "frequency", "length", "correct")
# First frequency of each band but the first, and the bands' names.
_BANDS = ((1, 6, 21, 101), ("oov", "1-5", "6-20", "21-100", ">100"))
# The benchmark's own program gives its bands the names above but cuts them one lower: a word that occurs 5 times is in
# its "6-20". Its bands are reported under names that say what is in them.
_PROGRAM_BANDS = ((1, 5, 20, 100), ("oov", "1-4", "5-19", "20-99", ">=100"))


def read_lexical(folder: Path) -> list[Pair]:
    """The pairs of a folder such as ``lexical/dev``, by its ``gold.csv``.

    Returns:
        pairs with the labels "vocabulary" (in, oov), "frequency", "frequency as cut by the benchmark's program" and
        "length" (phones of the word). A word whose frequency is left empty has none of the first three.

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs.
    """
    rows = read_gold(folder, COLUMNS)
    numbers = {"frequency": True, "length": False}
    for column, may_lack in numbers.items():
        words = [row for row in rows if row.correct]
        bad = [row.place for row in words if not _is_count(row[column]) and not (may_lack and not row[column])]
        refuse(folder, f"{column} is not a count", bad)
    items = [Item(row["filename"], row["id"], row.correct, row["voice"], _labels(row)) for row in rows]
    return make_pairs(items, folder)


def lexical_rows(
    pairs: Sequence[Pair], counts: Sequence[PairCounts], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Accuracies of all pairs, in and out of vocabulary, by band of frequency and by length."""
    options = {"resamples": resamples, "seed": seed}
    lengths = sorted({pair.labels["length"] for pair in pairs}, key=int)
    return [
        accuracy_row("all", "pairs", counts, **options),
        *label_rows("vocabulary", pairs, counts, ("in", "oov"), **options),
        *label_rows("frequency", pairs, counts, _BANDS[1], **options),
        *label_rows(_PROGRAM, pairs, counts, _PROGRAM_BANDS[1], **options),
        *label_rows("length", pairs, counts, lengths, **options),
    ]


_PROGRAM = "frequency as cut by the benchmark's program"


def _labels(row: GoldRow) -> Mapping[str, str]:
    # Frequency and length are the word's; those of a non-word are often empty and mean nothing.
    if not row.correct:
        return {}
    labels = {"length": str(_count(row["length"]))}
    if row["frequency"]:
        frequency = _count(row["frequency"])
        labels["vocabulary"] = "in" if frequency > 0 else "oov"
        labels["frequency"] = _band(frequency, *_BANDS)
        labels[_PROGRAM] = _band(frequency, *_PROGRAM_BANDS)
    return labels


def _band(frequency: int, edges: Sequence[int], names: Sequence[str]) -> str:
    for (low, high), name in zip(pairwise((0, *edges)), names, strict=False):
        if low <= frequency < high:
            return name
    return names[-1]


def _is_count(text: str) -> bool:
    try:
        return float(text) >= 0 and float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _count(text: str) -> int:
    # Tables that pass through programs with missing values hold 12.0 instead of 12.
    return int(float(text))
