"""The suites of the ZeroSpeech benchmark: sWUGGY (``lexical``) and sBLIMP (``syntactic``), see FACTS A9."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from syllablelm.core.errors import InputError
from syllablelm.core.progress import note
from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.lm.pairs import (
    AccuracyRow,
    Item,
    Pair,
    PairCounts,
    PairsResult,
    accuracy_row,
    group_by_label,
    label_rows,
    list_pair_stems,
    make_pairs,
    refuse,
    rows_by_score,
)
from syllablelm.evaluate.lm.scorer import describe_protocol, score_recordings
from syllablelm.evaluate.lm.zerospeech import GOLD_FILE, check_stems, find_split, is_correct, list_stems, read_gold

# Encoders know words within speech; at the very edges of a short recording, what they make says little of the word.
WORD_SILENCE = 0.3
# First frequency of each band but the first, and the bands' names. The benchmark's own program uses the first names but
# cuts its bands one lower: a word that occurs 5 times is in its "6-20". Its bands are named by what is in them.
_KINDS = {
    "frequency": ((1, 6, 21, 101), ("oov", "1-5", "6-20", "21-100", ">100")),
    "frequency as cut by the benchmark's program": ((1, 5, 20, 100), ("oov", "1-4", "5-19", "20-99", ">=100")),
}


class LexicalResult(PairsResult):
    """Accuracy on words and non-words: all pairs, by vocabulary, by band of frequency and by length."""

    evaluation: ClassVar[str] = "lexical"


class SyntacticResult(PairsResult):
    """Accuracy on minimal pairs: mean over pairs, mean over phenomena, each phenomenon and each subtype."""

    evaluation: ClassVar[str] = "syntactic"


ResultT = TypeVar("ResultT", LexicalResult, SyntacticResult)


def evaluate_lexical(
    folder: str | Path,
    out: str | Path,
    *,
    split: str = "dev",
    silence: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    **models: Any,
) -> LexicalResult:
    """Measure how often a language model finds a word likelier than a non-word (sWUGGY).

    Args:
        folder: lexical folder of ZeroSpeech 2021 or of `prepare wordlist`, or the folder above it.
        out: folder of the submission file ``lexical/SPLIT.txt``, where a stopped run resumes.
        split: "dev", or "test", whose right answers are not published.
        silence: seconds of silence before and after every word while it is encoded (default: 0.3).
        resamples, seed: see `syllablelm.evaluate`.
        models: model, lm, units, trim and device, see `score_recordings`, whose errors are raised too.

    Raises:
        FormatError: a folder of another layout.
    """
    rows = partial(lexical_rows, resamples=resamples, seed=seed)
    silence = WORD_SILENCE if silence is None else silence
    return _evaluate_suite(LexicalResult, folder, out, read_lexical, rows, split, silence=silence, **models)


def evaluate_syntactic(
    folder: str | Path, out: str | Path, *, split: str = "dev", resamples: int = 1000, seed: int = 0, **models: Any
) -> SyntacticResult:
    """Measure how often a language model finds a grammatical sentence likelier than an ungrammatical one (sBLIMP).

    Arguments and errors are those of `evaluate_lexical`, with the folder ``syntactic``.
    """
    rows = partial(syntactic_rows, resamples=resamples, seed=seed)
    return _evaluate_suite(SyntacticResult, folder, out, read_syntactic, rows, split, **models)


def _evaluate_suite(
    result: type[ResultT],
    folder: str | Path,
    out: str | Path,
    read: Callable[[Path], list[Pair]],
    make_rows: Callable[[Sequence[Pair], Sequence[PairCounts]], list[AccuracyRow]],
    split: str,
    **models: Any,
) -> ResultT:
    """Score the suite that ``result`` names: pairs by ``read`` of the split's folder, accuracies by ``make_rows``."""
    suite = result.evaluation
    if not split or Path(split).name != split:
        raise InputError(f"--split {split!r}: the name of a folder is needed, such as dev")
    directory = find_split(Path(folder), suite, split)
    pairs = read(directory) if (directory / GOLD_FILE).is_file() else None
    # Units may have been made elsewhere: then the gold list says which recordings there are.
    stems = list_pair_stems(pairs) if models.get("units") and pairs else list(list_stems(directory))
    if pairs:
        check_stems(list_pair_stems(pairs), stems, directory)
    path = Path(out) / suite / f"{split}.txt"
    scores, facts = score_recordings(suite, directory, path, stems, pairs or (), **models)
    if pairs is None:
        note(f"{directory}: no {GOLD_FILE}; the submission file is written, its accuracy is not known here")
    return result(
        **facts,
        split=split,
        submission=str(path),
        protocol=describe_protocol(models, ties="half", voices="averaged within a pair", average="pairs"),
        rows=None if pairs is None else rows_by_score(pairs, scores, make_rows),
    )


def read_lexical(folder: Path) -> list[Pair]:
    """Return the pairs of a folder such as ``lexical/dev``, by its ``gold.csv``.

    Their labels are "vocabulary" (in, oov), "frequency", "frequency as cut by the benchmark's program" and "length"
    (phones of the word). A word whose frequency is left empty has none of the first three.

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs.
    """
    rows = read_gold(folder, ("id", "filename", "voice", "frequency", "length", "correct"))
    for column in ("frequency", "length"):
        words = [row for row in rows if is_correct(row) and (row[column] or column == "length")]
        refuse(folder, f"{column} is not a count", [row["line"] for row in words if _count(row[column]) is None])
    items = [Item(row["filename"], row["id"], is_correct(row), row["voice"], _labels(row)) for row in rows]
    return make_pairs(items, folder)


def _labels(row: Mapping[str, str]) -> Mapping[str, str]:
    # Frequency and length are the word's; those of a non-word are often empty and mean nothing.
    if not is_correct(row):
        return {}
    labels = {"length": str(_count(row["length"]))}
    frequency = _count(row["frequency"])
    if frequency is not None:
        labels["vocabulary"] = "in" if frequency > 0 else "oov"
        for kind, (edges, names) in _KINDS.items():
            labels[kind] = names[bisect_right(edges, frequency)]
    return labels


def _count(text: str) -> int | None:
    """Return a number that is written as a count, such as 12, or 12.0 by programs with missing values."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value >= 0 and value.is_integer() else None


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


def read_syntactic(folder: Path) -> list[Pair]:
    """Return the pairs of a folder such as ``syntactic/dev``, by its ``gold.csv``.

    Their labels are "phenomenon" (the column ``type``) and "subtype".

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs.
    """
    items: list[Item] = []
    for row in read_gold(folder, ("id", "filename", "voice", "type", "subtype", "correct")):
        labels = {"phenomenon": row["type"], "subtype": row["subtype"]}
        # The benchmark's program tells pairs by all three: an id may return under another subtype.
        name = "/".join((row["type"], row["subtype"], row["id"]))
        items.append(Item(row["filename"], name, is_correct(row), row["voice"], labels))
    return make_pairs(items, folder)


@dataclass(frozen=True)
class MacroCounts(Counts):
    """Sum of the pairs' scores, and number of pairs, by phenomenon; add those of several pairs."""

    points: Mapping[str, float] = field(default_factory=dict[str, float])
    pairs: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def macro(self) -> float:
        """Mean over the phenomena of their accuracies; 0 without any."""
        shares = [self.points.get(name, 0.0) / count for name, count in sorted(self.pairs.items())]
        return sum(shares) / len(shares) if shares else 0.0


def syntactic_rows(
    pairs: Sequence[Pair], counts: Sequence[PairCounts], *, resamples: int = 1000, seed: int = 0
) -> list[AccuracyRow]:
    """Return accuracies: mean over pairs, mean over phenomena (macro), each phenomenon and each subtype.

    Pair average and macro average differ by points (FACTS C4); a table must say which one it holds.
    """
    options = {"resamples": resamples, "seed": seed}
    rows = [accuracy_row("all", "pairs", counts, **options), _macro_row(pairs, counts, **options)]
    for kind in ("phenomenon", "subtype"):
        rows += label_rows(kind, pairs, counts, sorted({pair.labels[kind] for pair in pairs}), **options)
    return rows


def _macro_row(pairs: Sequence[Pair], counts: Sequence[PairCounts], *, resamples: int, seed: int) -> AccuracyRow:
    items = [
        MacroCounts({pair.labels["phenomenon"]: count.points}, {pair.labels["phenomenon"]: count.pairs})
        for pair, count in zip(pairs, counts, strict=True)
    ]
    low, high = bootstrap_interval(items, lambda c: c.macro, resamples=resamples, seed=seed)
    groups = {name: PairCounts.merge(group) for name, group in group_by_label("phenomenon", pairs, counts).items()}
    whole = MacroCounts({name: c.points for name, c in groups.items()}, {name: c.pairs for name, c in groups.items()})
    facts: dict[str, Any] = vars(PairCounts.merge(counts)) | {"points": None}
    return AccuracyRow(group="macro", name="mean over phenomena", accuracy=whole.macro, low=low, high=high, **facts)
