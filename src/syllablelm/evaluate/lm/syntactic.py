"""sBLIMP: spoken grammatical sentences against ungrammatical ones, by phenomenon (FACTS A9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

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
    make_pairs,
)
from syllablelm.evaluate.lm.scorer import evaluate_suite
from syllablelm.evaluate.lm.zerospeech import is_correct, read_gold

COLUMNS = ("id", "filename", "voice", "type", "subtype", "correct")


class SyntacticResult(PairsResult):
    """Accuracy on minimal pairs: mean over pairs, mean over phenomena, each phenomenon and each subtype."""

    evaluation: ClassVar[str] = "syntactic"


def evaluate_syntactic(
    folder: str | Path, out: str | Path, *, split: str = "dev", resamples: int = 1000, seed: int = 0, **models: Any
) -> SyntacticResult:
    """Measure how often a language model finds a grammatical sentence likelier than an ungrammatical one (sBLIMP).

    Args:
        folder: syntactic folder of ZeroSpeech 2021 or of `prepare minimal-pairs`, or the folder above it.
        out, split, resamples, seed, models: as for `evaluate_lexical`, with the same errors.
    """
    rows = partial(syntactic_rows, resamples=resamples, seed=seed)
    return evaluate_suite(SyntacticResult, folder, out, read_syntactic, rows, split, **models)


@dataclass(frozen=True)
class MacroCounts(Counts):
    """Decisions on pairs by phenomenon; add those of several pairs.

    Args:
        points: sum of the pairs' scores, by phenomenon.
        pairs: number of pairs, by phenomenon.
    """

    points: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[str, int] = field(default_factory=dict)

    @property
    def macro(self) -> float:
        """Mean over the phenomena of their accuracies; 0 without any."""
        shares = [self.points.get(name, 0.0) / count for name, count in sorted(self.pairs.items())]
        return sum(shares) / len(shares) if shares else 0.0


def read_syntactic(folder: Path) -> list[Pair]:
    """Return the pairs of a folder such as ``syntactic/dev``, by its ``gold.csv``.

    Returns:
        pairs with the labels "phenomenon" (the column ``type``) and "subtype".

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs.
    """
    items = []
    for row in read_gold(folder, COLUMNS):
        labels = {"phenomenon": row["type"], "subtype": row["subtype"]}
        # The benchmark's program tells pairs by all three: an id may return under another subtype.
        name = "/".join((row["type"], row["subtype"], row["id"]))
        items.append(Item(row["filename"], name, is_correct(row), row["voice"], labels))
    return make_pairs(items, folder)


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
