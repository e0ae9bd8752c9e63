"""sBLIMP: spoken grammatical sentences against ungrammatical ones, by phenomenon (FACTS A9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.lm.pairs import Item, Pair, PairCounts, accuracy_row, label_rows, make_pairs
from syllablelm.evaluate.lm.zerospeech import read_gold

COLUMNS = ("id", "filename", "voice", "type", "subtype", "correct")


@dataclass(frozen=True)
class MacroCounts:
    """Decisions on pairs by phenomenon; add those of several pairs.

    Args:
        points: sum of the pairs' scores, by phenomenon.
        pairs: number of pairs, by phenomenon.
    """

    points: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: MacroCounts) -> MacroCounts:
        names = {**self.pairs, **other.pairs}
        return MacroCounts(
            {name: self.points.get(name, 0.0) + other.points.get(name, 0.0) for name in names},
            {name: self.pairs.get(name, 0) + other.pairs.get(name, 0) for name in names},
        )

    @property
    def macro(self) -> float:
        """Mean over the phenomena of their accuracies; 0 without any."""
        shares = [self.points.get(name, 0.0) / count for name, count in sorted(self.pairs.items())]
        return sum(shares) / len(shares) if shares else 0.0


def read_syntactic(folder: Path) -> list[Pair]:
    """The pairs of a folder such as ``syntactic/dev``, by its ``gold.csv``.

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
        items.append(Item(row["filename"], name, row.correct, row["voice"], labels))
    return make_pairs(items, folder)


def syntactic_rows(
    pairs: Sequence[Pair], counts: Sequence[PairCounts], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Accuracies: mean over pairs, mean over phenomena (macro), each phenomenon and each subtype.

    Pair average and macro average differ by points (FACTS C4); a table must say which one it holds.
    """
    options = {"resamples": resamples, "seed": seed}
    phenomena = sorted({pair.labels["phenomenon"] for pair in pairs})
    subtypes = sorted({pair.labels["subtype"] for pair in pairs})
    return [
        accuracy_row("all", "pairs", counts, **options),
        _macro_row(pairs, counts, **options),
        *label_rows("phenomenon", pairs, counts, phenomena, **options),
        *label_rows("subtype", pairs, counts, subtypes, **options),
    ]


def _macro_row(pairs: Sequence[Pair], counts: Sequence[PairCounts], *, resamples: int, seed: int) -> dict[str, Any]:
    items = [
        MacroCounts({pair.labels["phenomenon"]: count.points}, {pair.labels["phenomenon"]: count.pairs})
        for pair, count in zip(pairs, counts, strict=True)
    ]
    low, high = bootstrap_interval(items, lambda c: c.macro, resamples=resamples, seed=seed)
    groups: dict[str, list[PairCounts]] = {}
    for pair, count in zip(pairs, counts, strict=True):
        groups.setdefault(pair.labels["phenomenon"], []).append(count)
    total = PairCounts.merge(counts)
    merged = {name: PairCounts.merge(group) for name, group in groups.items()}
    whole = MacroCounts({k: c.points for k, c in merged.items()}, {k: c.pairs for k, c in merged.items()})
    row = {"group": "macro", "name": "mean over phenomena", "accuracy": whole.macro, "low": low, "high": high}
    # Without points: a mean of ratios has none.
    return {**row, "pairs": total.pairs, "comparisons": total.comparisons, "ties": total.ties}
