"""Pairs of recordings of which a language model should find one likelier: counts, ties, voices, intervals.

A pair may be spoken by several voices. Its score is the mean over its voices of 1 (the right one is likelier), the
rule for ties, or 0; a suite's accuracy is the mean over pairs (FACTS A9).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.results import Estimate, Record, Result, json_key
from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.counts import Counts


@dataclass(frozen=True)
class Item:
    """A recording of a suite.

    Args:
        stem: name of its file, without the suffix.
        pair, voice: the pair it belongs to, and the speaker; the two recordings of a pair are compared within a voice.
        correct: whether it is the one that should be likelier.
        labels: categories to report the pair under, by kind: {"length": "4"}.
    """

    stem: str
    pair: str
    correct: bool
    voice: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A pair in all its voices: unique name, (right, wrong) recording of each voice, labels of the right recordings."""

    name: str
    stems: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class PairCounts(Counts):
    """Decisions on pairs; add those of several pairs.

    Args:
        points: sum of the pairs' scores, each between 0 and 1.
        pairs, comparisons: number of pairs, and of comparisons, one per pair and voice.
        ties: comparisons of which both recordings have the same score.
    """

    points: float = 0.0
    pairs: int = 0
    comparisons: int = 0
    ties: int = 0

    @property
    def accuracy(self) -> float:
        """Mean score of the pairs; 0 without any."""
        return self.points / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, kw_only=True)
class AccuracyRow(Record):
    """Accuracy of some pairs, with its counts and its 95 % bootstrap interval over pairs.

    Args:
        group, name: selection: "all", "macro" or a kind of label, and the label.
        accuracy, low, high: share of comparisons won, and the ends of its interval.
        points, pairs, comparisons, ties: as in `PairCounts`; a mean of ratios has no points.
        summed, localised, normalised: accuracies of the same pairs by the other scores of a language model, see
            ``evaluate/lm/likelihoods.py``.
    """

    group: str
    name: str
    accuracy: float
    low: float
    high: float
    points: float | None = json_key(omit_none=True)
    pairs: int
    comparisons: int
    ties: int
    summed: Estimate | None = json_key(omit_none=True)
    localised: Estimate | None = json_key(omit_none=True)
    normalised: Estimate | None = json_key(omit_none=True)


@dataclass(frozen=True)
class PairsData(Record):
    """Scored recordings: their folder, the name of the open set that it belongs to if any, and their number."""

    name: str
    set: str | None
    recordings: int


@dataclass(frozen=True)
class LMSize(Record):
    """A language model's non-embedding parameters, vocabulary, and training units where they are known."""

    params: int
    num_units: int
    unique_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class PairsResult(Result):
    """How often a language model finds the right recording likelier.

    Args:
        model, units: tokenizer, or file of units; the other one is None.
        data: the recordings.
        lm, lm_info: language model and its size.
        split, submission: part of a ZeroSpeech benchmark, and the submission file.
        protocol: how pairs were scored, in words.
        shared_first_units: number of comparisons whose recordings begin with the same unit; the normalised score of
            others is a tie.
        rows: accuracies; None where the right answers are unknown.
    """

    model: str | None
    data: PairsData
    lm: str
    lm_info: LMSize
    units: str | None
    split: str | None = json_key(omit_none=True)
    submission: str | None = json_key(omit_none=True)
    protocol: Mapping[str, str]
    shared_first_units: int | None = json_key(omit_none=True)
    rows: tuple[AccuracyRow, ...] | None


def make_pairs(items: Iterable[Item], source: object) -> list[Pair]:
    """Join recordings by pair and voice, whatever their order; the pairs are sorted by name.

    Args:
        items: recordings; each (pair, voice) needs a right one and a wrong one.
        source: file or folder that they come from, for messages.

    Raises:
        FormatError: none, a file named twice, or pairs that are not one right and one wrong recording per voice.
    """
    listed = list(items)
    if not listed:
        raise FormatError(f"{source}: lists no pairs at all")
    refuse(source, "named twice", [stem for stem, count in Counter(item.stem for item in listed).items() if count > 1])
    sides: dict[tuple[str, str], list[Item]] = {}
    for item in listed:
        sides.setdefault((item.pair, item.voice), []).append(item)
    pairs: dict[str, list[tuple[Item, Item]]] = {}
    faults: dict[str, list[str]] = {}
    for (name, voice), members in sorted(sides.items()):
        right = [item for item in members if item.correct]
        wrong = [item for item in members if not item.correct]
        shown = f"{name} ({', '.join(sorted(item.stem for item in members))})" + (f" in voice {voice}" if voice else "")
        if len(right) == len(wrong) == 1:
            pairs.setdefault(name, []).append((right[0], wrong[0]))
        elif not right or not wrong:
            faults.setdefault("without its other recording", []).append(shown)
        else:
            faults.setdefault("a pair with more than two recordings", []).append(shown)
    for what, offenders in sorted(faults.items(), reverse=True):
        refuse(source, what, offenders)
    return [
        Pair(name, tuple((right.stem, wrong.stem) for right, wrong in voices), dict(voices[0][0].labels))
        for name, voices in pairs.items()
    ]


def list_pair_stems(pairs: Iterable[Pair]) -> list[str]:
    """Return the recordings of pairs, sorted."""
    return sorted(stem for pair in pairs for couple in pair.stems for stem in couple)


def refuse(source: object, what: str, offenders: Iterable[str]) -> None:
    """Raise a FormatError that names the first offender and their number, if there are any."""
    names = sorted(offenders)
    if names:
        raise FormatError(f"{source}: {what}: {names[0]} ({len(names):,} in all); nothing was scored")


def score_pairs(pairs: Sequence[Pair], scores: Mapping[str, float], *, ties: float = 0.5) -> list[PairCounts]:
    """Return the counts of each pair, in order.

    Args:
        pairs: what to compare.
        scores: score of every recording by stem; higher is likelier.
        ties: score of a comparison of equal values: .5 as the ZeroSpeech benchmark has it, 0 as wrong.

    Raises:
        InputError: a recording without a score, or with one that is not a finite number.
    """
    stems = list_pair_stems(pairs)
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
) -> AccuracyRow:
    """Return the accuracy of some pairs with its 95 % bootstrap interval over pairs."""
    total = PairCounts.merge(counts)
    low, high = bootstrap_interval(counts, lambda c: c.accuracy, resamples=resamples, seed=seed)
    return AccuracyRow(group=group, name=name, accuracy=total.accuracy, low=low, high=high, **vars(total))


def group_by_label(kind: str, pairs: Sequence[Pair], counts: Sequence[PairCounts]) -> dict[str, list[PairCounts]]:
    """Return the counts of pairs by their label of one kind; pairs without such a label are left out."""
    groups: dict[str, list[PairCounts]] = {}
    for pair, count in zip(pairs, counts, strict=True):
        if kind in pair.labels:
            groups.setdefault(pair.labels[kind], []).append(count)
    return groups


def label_rows(
    kind: str, pairs: Sequence[Pair], counts: Sequence[PairCounts], names: Sequence[str], **options: int
) -> list[AccuracyRow]:
    """Return a row for each label of a kind that some pair has, in the order of ``names``."""
    groups = group_by_label(kind, pairs, counts)
    return [accuracy_row(kind, name, groups[name], **options) for name in names if name in groups]


def rows_by_score(
    pairs: Sequence[Pair],
    scores: Mapping[str, Mapping[str, float]],
    make_rows: Callable[[Sequence[Pair], Sequence[PairCounts]], list[AccuracyRow]],
    *,
    ties: float = 0.5,
) -> tuple[AccuracyRow, ...]:
    """Return the accuracies of pairs by the score "mean", and in the same rows those by the other scores.

    Args:
        pairs, ties: as for `score_pairs`.
        scores: scores of every recording, by the score's name and stem.
        make_rows: rows of pairs and their counts.
    """
    rows = {name: make_rows(pairs, score_pairs(pairs, values, ties=ties)) for name, values in scores.items()}
    mean = rows.pop("mean")
    return tuple(
        replace(row, **{name: Estimate(each[k].accuracy, each[k].low, each[k].high) for name, each in rows.items()})
        for k, row in enumerate(mean)
    )
