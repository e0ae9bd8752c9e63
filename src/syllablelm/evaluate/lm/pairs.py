"""Pairs of recordings of which a language model should find one likelier: counts, ties, voices, intervals.

A pair may be spoken by several voices. Its score is the mean over its voices of 1 (the right one is likelier), the
rule for ties, or 0; a suite's accuracy is the mean over pairs (FACTS A9).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from syllablelm.core.errors import FormatError, InputError
from syllablelm.evaluate.bootstrap import bootstrap_interval


@dataclass(frozen=True)
class Item:
    """A recording of a suite.

    Args:
        stem: name of its file, without the suffix.
        pair: the pair it belongs to.
        correct: whether it is the one that should be likelier.
        voice: who speaks; the two of a pair are compared within a voice.
        labels: groups to report the pair under, by kind: {"length": "4"}.
    """

    stem: str
    pair: str
    correct: bool
    voice: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A pair in all its voices.

    Args:
        name: unique in its suite.
        stems: (right, wrong) recording of each voice.
        labels: as those of its right recordings.
    """

    name: str
    stems: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class PairCounts:
    """Decisions on pairs; add those of several pairs.

    Args:
        points: sum of the pairs' scores, each between 0 and 1.
        pairs: number of pairs.
        comparisons: number of comparisons, one per pair and voice.
        ties: comparisons of which both recordings have the same score.
    """

    points: float = 0.0
    pairs: int = 0
    comparisons: int = 0
    ties: int = 0

    def __add__(self, other: PairCounts) -> PairCounts:
        return PairCounts.merge((self, other))

    @classmethod
    def merge(cls, items: Iterable[PairCounts]) -> PairCounts:
        """Sum of many, in any order: the points are added without rounding in between."""
        found = list(items)
        return cls(
            math.fsum(item.points for item in found),
            sum(item.pairs for item in found),
            sum(item.comparisons for item in found),
            sum(item.ties for item in found),
        )

    @property
    def accuracy(self) -> float:
        """Mean score of the pairs; 0 without any."""
        return self.points / self.pairs if self.pairs else 0.0


def make_pairs(items: Iterable[Item], place: object) -> list[Pair]:
    """Join recordings by pair and voice; the order of the items says nothing.

    Args:
        items: recordings; each (pair, voice) needs a right one and a wrong one.
        place: file or folder that they come from, for messages.

    Returns:
        pairs sorted by name.

    Raises:
        FormatError: none, a file named twice, or pairs that are not one right and one wrong recording per voice; the
            message names the first and counts them.
    """
    found = list(items)
    if not found:
        raise FormatError(f"{place}: lists no pairs at all")
    refuse(place, "named twice", [stem for stem, count in Counter(item.stem for item in found).items() if count > 1])
    sides: dict[tuple[str, str], list[Item]] = {}
    for item in found:
        sides.setdefault((item.pair, item.voice), []).append(item)
    pairs: dict[str, list[tuple[Item, Item]]] = {}
    faults: dict[str, list[str]] = {}
    for (name, voice), members in sorted(sides.items()):
        right = [item for item in members if item.correct]
        wrong = [item for item in members if not item.correct]
        said = f"{name} ({', '.join(sorted(item.stem for item in members))})" + (f" in voice {voice}" if voice else "")
        if len(right) == len(wrong) == 1:
            pairs.setdefault(name, []).append((right[0], wrong[0]))
        elif not right or not wrong:
            faults.setdefault("without its other recording", []).append(said)
        else:
            faults.setdefault("a pair with more than two recordings", []).append(said)
    for what, offenders in sorted(faults.items(), reverse=True):
        refuse(place, what, offenders)
    return [
        Pair(name, tuple((right.stem, wrong.stem) for right, wrong in voices), dict(voices[0][0].labels))
        for name, voices in pairs.items()
    ]


def refuse(place: object, what: str, offenders: Iterable[str]) -> None:
    """Raise a FormatError that names the first offender and their number, if there are any."""
    found = sorted(offenders)
    if found:
        raise FormatError(f"{place}: {what}: {found[0]} ({len(found):,} in all); nothing was scored")


def score_pairs(pairs: Sequence[Pair], scores: Mapping[str, float], *, ties: float = 0.5) -> list[PairCounts]:
    """Decide every pair.

    Args:
        pairs: what to compare.
        scores: score of every recording by stem; higher is likelier.
        ties: what a comparison of equal scores counts: .5 as the ZeroSpeech benchmark has it, 0 as wrong.

    Returns:
        counts of each pair, in order.

    Raises:
        InputError: a recording without a score, or with one that is not a finite number.
    """
    stems = [stem for pair in pairs for couple in pair.stems for stem in couple]
    for what, offenders in (
        ("without a score", [stem for stem in stems if stem not in scores]),
        ("a score that is not a finite number", [s for s in stems if not math.isfinite(scores.get(s, 0.0))]),
    ):
        if offenders:
            raise InputError(f"{what}: {min(offenders)} ({len(offenders):,} recordings); nothing was scored")
    result = []
    for pair in pairs:
        wins = sum(scores[right] > scores[wrong] for right, wrong in pair.stems)
        equal = sum(scores[right] == scores[wrong] for right, wrong in pair.stems)
        voices = len(pair.stems)
        result.append(PairCounts((wins + ties * equal) / voices, 1, voices, equal))
    return result


def accuracy_row(
    group: str, name: str, counts: Sequence[PairCounts], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Accuracy of some pairs as a row of a table, with its counts and its 95 % bootstrap interval over pairs."""
    total = PairCounts.merge(counts)
    low, high = bootstrap_interval(counts, lambda c: c.accuracy, resamples=resamples, seed=seed)
    return {
        "group": group,
        "name": name,
        "accuracy": total.accuracy,
        "low": low,
        "high": high,
        "points": total.points,
        "pairs": total.pairs,
        "comparisons": total.comparisons,
        "ties": total.ties,
    }


def label_rows(
    kind: str, pairs: Sequence[Pair], counts: Sequence[PairCounts], names: Sequence[str], **options: int
) -> list[dict[str, Any]]:
    """A row for each label of a kind that some pair has, in the order of ``names``."""
    groups: dict[str, list[PairCounts]] = {}
    for pair, count in zip(pairs, counts, strict=True):
        if kind in pair.labels:
            groups.setdefault(pair.labels[kind], []).append(count)
    return [accuracy_row(kind, name, groups[name], **options) for name in names if name in groups]
