"""Purity: how consistently units stand for syllables (or phones, or words), after segments are matched.

Matching comes in four ways (`Matching`): one syllable for one segment by overlap, the released SD-HuBERT code's, which
pairs as many as it can, ZeroSyl's, which labels every segment with what it overlaps most, and HuBERT's, which takes
every 10 ms for itself: with phones, `syllable_normalized_mutual_information` is then the PNMI of HuBERT and DiscoPhon.

Two readings of the names are in use. The code that made the published numbers (SD-HuBERT's, which the paper follows)
calls the best unit of each syllable "cluster purity" and the best syllable of each unit "syllable purity". The paper's
sentences define the two words the other way round, but its numbers follow the code, and so do the properties
`cluster_purity` and `syllable_purity` here. `syllable_to_unit` and `unit_to_syllable` say which is meant without
either word.
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate, Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Interval
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.boundaries.matching import TokenCounts, to_intervals
from syllablelm.evaluate.boundaries.scores import score_tokens
from syllablelm.evaluate.boundaries.selection import AlignmentLike, shared_ids
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.lists import (
    AlignedUnits,
    Alignments,
    Model,
    PathLike,
    Recordings,
    ScoredData,
    Units,
    UnitsResult,
    as_list,
    check_levels,
    open_references,
    read_unit_list,
)
from syllablelm.evaluate.units.bitrate import entropy_bits
from syllablelm.evaluate.units.segment_matching import SILENCE, majority_labels, match_segments

Matching = typing.Literal["overlap", "full", "majority", "frames"]
# Microseconds from one label of matching "frames" to the next, as in DiscoPhon's alignments.
_STEP = 10_000

_NORMALIZATION = {
    "normalized_mutual_information": "mean of the entropies of reference and units",
    "syllable_normalized_mutual_information": "entropy of the reference",
}
_NO_STRESS = str.maketrans("", "", "0123")


@dataclass(frozen=True)
class PurityCounts(Counts):
    """How often each syllable was matched with each unit; add those of recordings to get those of a corpus.

    Args:
        table: (syllable label without stress, unit) -> matched pairs; pairs that never occur are absent.
        syllables: reference syllables (or other intervals of the reference), matched or not.
        segments: predicted segments, matched or not.

    Only matched pairs enter the purities, so read them with `matched / syllables` in view: a segmentation with gaps
    leaves the hard ones out. Purities are 0.0 where nothing was matched. They depend on the number of units and, being
    maxima, come out higher on short lists; compare codebooks of one size on one list, and bootstrap with
    `centered=True`.
    """

    table: Mapping[tuple[str, int], int] = field(default_factory=dict)
    syllables: int = 0
    segments: int = 0

    @property
    def matched(self) -> int:
        """Matched pairs of a syllable and a segment."""
        return sum(self.table.values())

    def _purity(self, axis: int) -> float:
        best: dict[str | int, int] = {}
        for key, count in self.table.items():
            best[key[axis]] = max(best.get(key[axis], 0), count)
        return sum(best.values()) / self.matched if self.matched else 0.0

    @property
    def syllable_to_unit(self) -> float:
        """Share of pairs whose unit is the most frequent one of their syllable: sum_s max_u n(s, u) / N."""
        return self._purity(0)

    @property
    def unit_to_syllable(self) -> float:
        """Share of pairs whose syllable is the most frequent one of their unit: sum_u max_s n(s, u) / N."""
        return self._purity(1)

    @property
    def cluster_purity(self) -> float:
        """CPur of the published tables: `syllable_to_unit`."""
        return self.syllable_to_unit

    @property
    def syllable_purity(self) -> float:
        """SPur of the published tables: `unit_to_syllable`."""
        return self.unit_to_syllable

    def _entropies(self) -> tuple[float, float, float]:
        """Entropies in bits of syllables, units and pairs."""
        sides: tuple[Counter[str | int], Counter[str | int]] = (Counter(), Counter())
        for key, count in self.table.items():
            for side, name in zip(sides, key, strict=True):
                side[name] += count
        return entropy_bits(sides[0]), entropy_bits(sides[1]), entropy_bits(self.table)

    @property
    def mutual_information(self) -> float:
        """Mutual information of syllable and unit over the matched pairs, in bits."""
        syllable, unit, pair = self._entropies()
        return max(0.0, syllable + unit - pair)

    @property
    def normalized_mutual_information(self) -> float:
        """Mutual information / arithmetic mean of both entropies (V-measure); 0.0 where both are zero."""
        syllable, unit, _ = self._entropies()
        return 2 * self.mutual_information / (syllable + unit) if syllable + unit else 0.0

    @property
    def syllable_normalized_mutual_information(self) -> float:
        """Mutual information / entropy of the syllables: the share of it that units tell; 0.0 where it is zero.

        SNMI of ZeroSyl where the matching is "majority". Its code adds 1e-10 to every cell of the dense table, which
        can move the third decimal of a large one; here the table is taken as it is. PNMI (phone-normalised mutual
        information; Hsu et al. 2021, arXiv 2106.07447, section IV-C) of phones where it is "frames".
        """
        syllable, _, _ = self._entropies()
        return self.mutual_information / syllable if syllable else 0.0


def strip_stress(label: str) -> str:
    """Remove the stress digits of ARPAbet vowels: "AH0 B AW1 T" -> "AH B AW T"."""
    return label.translate(_NO_STRESS)


def purity_counts(
    segmentation: Segmentation, syllables: Sequence[Interval], *, matching: Matching = "overlap"
) -> PurityCounts:
    """Match the segments of one recording with its reference syllables and count (syllable, unit) pairs.

    Args:
        segmentation: segments with units.
        syllables: reference intervals in seconds, sorted, not overlapping; stress digits are stripped from labels.
        matching: "overlap" or "full" as for `match_segments`; "majority" as `majority_labels`: every segment
            counts, and silence is a label; "frames": every 10 ms of the segmentation's frames counts, silence is a
            label, and what lies outside of segments is unit -1.

    Raises:
        InputError: the segmentation has no units, the syllables overlap, or an unknown matching.
    """
    if segmentation.unit is None:
        raise InputError("purity needs units; this Segmentation has none: apply a codebook first")
    times = np.asarray([(syllable.start, syllable.end) for syllable in syllables], dtype=np.float64).reshape(-1, 2)
    if matching == "majority":
        names = [strip_stress(syllable.label) for syllable in syllables]
        pairs = zip(majority_labels(times, names, segmentation.seconds), segmentation.unit.tolist(), strict=True)
        return PurityCounts(dict(Counter(pairs)), len(syllables), len(segmentation))
    if matching == "frames":
        table = _frame_table(segmentation, times, [strip_stress(syllable.label) for syllable in syllables])
        return PurityCounts(table, len(syllables), len(segmentation))
    rows, columns = match_segments(times, segmentation.seconds, matching)
    labels = [strip_stress(syllables[row].label) for row in rows.tolist()]
    table = Counter(zip(labels, segmentation.unit[columns].tolist(), strict=True))
    return PurityCounts(dict(table), len(syllables), len(segmentation))


def _frame_table(
    segmentation: Segmentation, times: npt.NDArray[np.float64], labels: Sequence[str]
) -> dict[tuple[str, int], int]:
    """Count (label, unit) in the middle of every step of a segmentation."""
    middles = np.arange(round(1e6 * segmentation.duration) // _STEP) * _STEP + _STEP // 2
    rows = _interval_at(to_intervals(times, "reference segments"), middles)
    columns = _interval_at(to_intervals(segmentation.seconds, "predicted segments"), middles)
    units = np.append(np.asarray(segmentation.unit), -1)[columns].tolist()
    names = [*labels, SILENCE]
    return dict(Counter(zip((names[row] for row in rows.tolist()), units, strict=True)))


def _interval_at(intervals: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the index of the interval that holds each time, or their number where none does; both in microseconds."""
    index = np.searchsorted(intervals[:, 0], times, side="right") - 1
    return np.where(times < np.append(intervals[:, 1], -1)[index], index, len(intervals))


def score_purity(
    predictions: Mapping[str, Segmentation],
    references: Mapping[str, AlignmentLike],
    *,
    matching: Matching = "overlap",
    level: str = "syllable",
) -> dict[str, PurityCounts]:
    """Purity counts of each recording, by sorted id; `PurityCounts.merge` of the values gives the corpus.

    Args:
        predictions, references: segmentations with units, and alignments, by the same ids.
        matching: as for `purity_counts`.
        level: what units should stand for: "syllable", "phone" or "word".

    Raises:
        InputError: ids missing on either side, or as for `purity_counts`; the message names the recording.
    """
    counts = {}
    for recording in shared_ids(predictions, references):
        try:
            counts[recording] = purity_counts(
                predictions[recording], references[recording].intervals(level), matching=matching
            )
        except InputError as error:
            raise InputError(f"{recording}: {error}") from error
    return counts


@dataclass(frozen=True)
class PurityRow(Record):
    """Purity of one model's units against one kind of reference interval; names as in `PurityCounts`.

    Args:
        model: tokenizer; None for units made before.
        level: reference intervals: "syllable", "phone" or "word".
        token_hits: segments of which both edges are within 50 ms of those of a reference interval.
    """

    derived: ClassVar[tuple[str, ...]] = ("readings",)

    model: str | None
    level: str
    matched: int
    syllables: int
    segments: int
    syllable_to_unit: float
    unit_to_syllable: float
    cluster_purity: Estimate
    syllable_purity: Estimate
    mutual_information: float
    normalized_mutual_information: Estimate
    syllable_normalized_mutual_information: Estimate
    token_hits: int
    token_predicted: int
    token_reference: int
    token_precision: float
    token_recall: float
    token_f1: Estimate

    @property
    def readings(self) -> dict[str, dict[str, float]]:
        """Both readings of the two names: that of the released code, and that of the paper's sentences."""
        code, sentence = self.syllable_to_unit, self.unit_to_syllable
        return {
            "released": {"cluster_purity": code, "syllable_purity": sentence},
            "worded": {"cluster_purity": sentence, "syllable_purity": code},
        }


@dataclass(frozen=True)
class PurityResult(UnitsResult):
    """Purity of units.

    Args:
        matching: how segments were matched with the reference.
        rows: a row for each model and kind of reference. JSON repeats the first row at the top level.
    """

    evaluation: ClassVar[str] = "purity"
    derived: ClassVar[tuple[str, ...]] = ("recordings", "normalization")

    matching: str
    rows: tuple[PurityRow, ...]

    @property
    def normalization(self) -> Mapping[str, str]:
        """What mutual information is divided by."""
        return _NORMALIZATION

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the values of the first row at the top level too."""
        table = super().to_dict()
        return table | {key: value for key, value in table["rows"][0].items() if key not in table}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "result") -> PurityResult:
        """Build a result from what `to_dict` gave; raises FormatError as `Result.from_dict`."""
        own = {"evaluation", *cls.__dataclass_fields__}
        copied = {key for row in table.get("rows", ())[:1] for key in row} - own
        return super().from_dict({key: value for key, value in table.items() if key not in copied}, where)


def evaluate_purity(
    source: Recordings | Units | None,
    alignments: Alignments,
    models: Model | Sequence[Model] = "small",
    *,
    units: PathLike | None = None,
    levels: Sequence[str] = ("syllable",),
    matching: Matching = "overlap",
    partial: bool = False,
    rate: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> PurityResult:
    """Score how consistently units stand for syllables, phones or words (section 5.4).

    Args:
        source, alignments, units, partial, rate, resamples, seed, device: see `syllablelm.evaluate`.
        models: tokenizers of recordings; each gets rows of its own.
        levels: reference intervals: "syllable", "phone", "word".
        matching: as for `purity_counts`.

    Raises:
        InputError: units that do not fit their alignments, an unknown level, or nothing usable.
    """
    chosen = check_levels(levels)
    references = open_references(alignments, chosen)
    rows: list[PurityRow] = []
    data: ScoredData | None = None
    for model in dict.fromkeys(as_list(models)):
        found = read_unit_list(source, model, units=units, rate=rate, device=device)
        aligned = found.align(references, chosen, partial=partial)
        rows += [_purity_row(found.model, aligned, level, matching, resamples=resamples, seed=seed) for level in chosen]
        if data not in (None, aligned.data):
            raise InputError(f"{found.name}: recordings became unusable between two models; score them again")
        data = aligned.data
        if found.model is None:
            break
    if data is None:
        raise InputError("no model given to score")
    names = dict.fromkeys(row.model for row in rows if row.model)
    return PurityResult(", ".join(names) or None, data, matching, tuple(rows))


def _purity_row(model: str | None, aligned: AlignedUnits, level: str, matching: Matching, **options: int) -> PurityRow:
    items = list(score_purity(aligned.units, aligned.references, matching=matching, level=level).values())
    tokens = list(score_tokens(aligned.units, aligned.references, level).values())
    total, token_total = PurityCounts.merge(items), sum(tokens, TokenCounts())
    plain = ("matched", "syllables", "segments", "syllable_to_unit", "unit_to_syllable", "mutual_information")
    names = ("cluster_purity", "syllable_purity", *_NORMALIZATION)
    return PurityRow(
        model=model,
        level=level,
        **{name: getattr(total, name) for name in plain},
        **{name: bootstrap_estimate(items, attrgetter(name), centered=True, **options) for name in names},
        **{f"token_{name}": count for name, count in asdict(token_total).items()},
        token_precision=token_total.precision,
        token_recall=token_total.recall,
        token_f1=bootstrap_estimate(tokens, attrgetter("f1"), **options),
    )
