"""Unit rates and bits per second of units and of their lengths, as segmented and deduplicated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation


@dataclass(frozen=True)
class RateCounts:
    """Counts behind unit rates; add those of utterances to get those of a corpus.

    Args:
        units: units as they were segmented.
        runs: units after touching repeats are joined.
        microseconds: length of the audio; whole numbers, so that sums do not depend on their order.
        histogram: how often each unit occurs as segmented.
        run_histogram: how often each unit occurs after joining.
        length_histogram: how often each length of a segment in frames occurs, as segmented.
        run_length_histogram: how often each length in frames occurs after joining.

    A rate is 0.0 where there is no audio. Lengths are frames: add counts of one frame grid only.
    """

    units: int = 0
    runs: int = 0
    microseconds: int = 0
    histogram: Mapping[int, int] = field(default_factory=dict)
    run_histogram: Mapping[int, int] = field(default_factory=dict)
    length_histogram: Mapping[int, int] = field(default_factory=dict)
    run_length_histogram: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: RateCounts) -> RateCounts:
        if not isinstance(other, RateCounts):
            return NotImplemented
        return RateCounts(
            self.units + other.units,
            self.runs + other.runs,
            self.microseconds + other.microseconds,
            dict(Counter(self.histogram) + Counter(other.histogram)),
            dict(Counter(self.run_histogram) + Counter(other.run_histogram)),
            dict(Counter(self.length_histogram) + Counter(other.length_histogram)),
            dict(Counter(self.run_length_histogram) + Counter(other.run_length_histogram)),
        )

    def __radd__(self, other: object) -> RateCounts:
        # sum() starts from the integer 0.
        return self if type(other) is int and other == 0 else NotImplemented

    @classmethod
    def merge(cls, items: Iterable[RateCounts]) -> RateCounts:
        """Sum of many counts, in one pass; `sum()` gives the same but copies the histograms at every step."""
        tables: tuple[Counter[int], ...] = (Counter(), Counter(), Counter(), Counter())
        units = runs = microseconds = 0
        for item in items:
            counted = (item.histogram, item.run_histogram, item.length_histogram, item.run_length_histogram)
            for table, more in zip(tables, counted, strict=True):
                table.update(more)
            units, runs, microseconds = units + item.units, runs + item.runs, microseconds + item.microseconds
        return cls(units, runs, microseconds, *map(dict, tables))

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.microseconds / 1e6

    @property
    def unit_rate(self) -> float:
        """Units per second as segmented."""
        return self.units / self.seconds if self.microseconds else 0.0

    @property
    def merged_unit_rate(self) -> float:
        """Units per second after joining repeats: the rate the paper quotes."""
        return self.runs / self.seconds if self.microseconds else 0.0

    def rate(self, merged: bool = True) -> float:
        """Units per second, after joining repeats or as segmented."""
        return self.merged_unit_rate if merged else self.unit_rate

    def bits_per_second(self, num_units: int, *, merged: bool = True) -> float:
        """Bit rate as in the paper's tables: units per second times log2 of the codebook size.

        Args:
            num_units: size of the codebook.
            merged: count units after joining repeats, as the paper does.

        Raises:
            InputError: the codebook is smaller than the units that occur.
        """
        needed = max(self.histogram, default=0) + 1
        if num_units < needed:
            raise InputError(f"num_units={num_units}, but unit {needed - 1} occurs: give the size of the codebook")
        return self.rate(merged) * math.log2(num_units)

    def entropy(self, *, merged: bool = True) -> float:
        """Entropy in bits of one unit, each drawn alone by its frequency; 0.0 where there are no units.

        Raises:
            InputError: the segments carry no units.
        """
        table = self.run_histogram if merged else self.histogram
        if not table and self.units:
            raise InputError("Entropy needs units; these segmentations have none: apply a codebook first")
        return entropy_bits(table)

    def entropy_rate(self, *, merged: bool = True) -> float:
        """Units per second times the entropy of one unit: the bits a code that knows the frequencies would spend.

        ZeroSyl's bit rate (with `merged=False` where its units are not joined). Units are drawn alone, so what a unit
        tells about the next one is not taken off.
        """
        return self.rate(merged) * self.entropy(merged=merged)

    def length_entropy(self, *, merged: bool = True) -> float:
        """Entropy in bits of one segment's length in frames, each drawn alone by its frequency."""
        return entropy_bits(self.run_length_histogram if merged else self.length_histogram)

    def length_entropy_rate(self, *, merged: bool = True) -> float:
        """Units per second times the entropy of one length: the bits per second that the lengths cost.

        Units alone do not say how long each lasts; a sequence of units from which the timing can be restored costs
        these bits too. Stretches between segments are not counted.
        """
        return self.rate(merged) * self.length_entropy(merged=merged)

    def timed_entropy_rate(self, *, merged: bool = True) -> float:
        """Bits per second of units and lengths together, each coded by its own frequencies.

        Raises:
            InputError: the segments carry no units.
        """
        return self.entropy_rate(merged=merged) + self.length_entropy_rate(merged=merged)

    def rows(self, num_units: int | None = None) -> list[dict[str, Any]]:
        """Rates and bits per second after joining repeats and as segmented, a row each."""
        found = []
        for merged in (True, False):
            row: dict[str, Any] = {"units": "deduplicated" if merged else "as segmented", "rate": self.rate(merged)}
            if num_units is not None:
                row["bits"] = self.bits_per_second(num_units, merged=merged)
            if self.histogram:
                row["entropy_rate"] = self.entropy_rate(merged=merged)
            row["length_entropy_rate"] = self.length_entropy_rate(merged=merged)
            if self.histogram:
                row["timed_entropy_rate"] = self.timed_entropy_rate(merged=merged)
            found.append(row)
        return found

    def to_dict(self, num_units: int | None = None) -> dict[str, float]:
        """Counts and rates by name; bits per second too where the codebook size is given."""
        result: dict[str, float] = {
            "units": self.units,
            "runs": self.runs,
            "seconds": self.seconds,
            "unit_rate": self.unit_rate,
            "merged_unit_rate": self.merged_unit_rate,
        }
        if self.histogram:
            result |= {"distinct_units": len(self.histogram), "entropy": self.entropy()}
            result |= {"entropy_rate": self.entropy_rate(), "unmerged_entropy_rate": self.entropy_rate(merged=False)}
        if self.length_histogram:
            result["length_entropy"] = self.length_entropy()
            result["length_entropy_rate"] = self.length_entropy_rate()
            result["unmerged_length_entropy_rate"] = self.length_entropy_rate(merged=False)
        if self.histogram and self.length_histogram:
            result["timed_entropy_rate"] = self.timed_entropy_rate()
            result["unmerged_timed_entropy_rate"] = self.timed_entropy_rate(merged=False)
        if num_units is not None:
            result["bits_per_second"] = self.bits_per_second(num_units)
            result["unmerged_bits_per_second"] = self.bits_per_second(num_units, merged=False)
        return result


def entropy_bits(table: Mapping[Any, int]) -> float:
    """Entropy in bits of the distribution that a table of counts gives; 0.0 for an empty table."""
    counts = np.fromiter(table.values(), dtype=np.float64, count=len(table))
    counts = counts[counts > 0]
    if not len(counts):
        return 0.0
    share = counts / counts.sum()
    # abs: a single unit would give -0.0.
    return abs(float(share @ np.log2(share)))


def rate_counts(segmentation: Segmentation) -> RateCounts:
    """Count units and their runs in one recording; without units, segments are counted and no runs are joined."""
    length = segmentation.num_frames * segmentation.hop * 1_000_000
    microseconds = round(length / segmentation.sample_rate)
    lengths = _lengths(segmentation)
    if segmentation.unit is None:
        return RateCounts(len(segmentation), len(segmentation), microseconds, {}, {}, lengths, lengths)
    merged = segmentation.merge_repeats()
    runs = Counter([] if merged.unit is None else merged.unit.tolist())
    units = Counter(segmentation.unit.tolist())
    return RateCounts(len(segmentation), len(merged), microseconds, dict(units), dict(runs), lengths, _lengths(merged))


def _lengths(segmentation: Segmentation) -> dict[int, int]:
    """How often each length in frames occurs."""
    return dict(Counter((segmentation.end - segmentation.start).tolist()))
