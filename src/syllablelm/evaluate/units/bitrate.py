"""Unit rates and bits per second of units and of their lengths, deduplicated and as segmented."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.lists import Model, PathLike, Recordings, Units, UnitsResult, read_unit_list


@dataclass(frozen=True)
class RateCounts(Counts):
    """Counts behind unit rates; add those of recordings on one frame grid to get those of a corpus.

    Args:
        units, runs: units as segmented, and after deduplication.
        microseconds: length of the audio; whole numbers, so that sums do not depend on their order.
        histogram, run_histogram: count of each unit as segmented, and after deduplication.
        length_histogram, run_length_histogram: likewise of each segment length in frames.

    A rate is 0.0 where there is no audio.
    """

    units: int = 0
    runs: int = 0
    microseconds: int = 0
    histogram: Mapping[int, int] = field(default_factory=dict)
    run_histogram: Mapping[int, int] = field(default_factory=dict)
    length_histogram: Mapping[int, int] = field(default_factory=dict)
    run_length_histogram: Mapping[int, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.microseconds / 1e6

    @property
    def unit_rate(self) -> float:
        """Units per second as segmented."""
        return self.rate(deduplicated=False)

    @property
    def merged_unit_rate(self) -> float:
        """Units per second after deduplication: the rate that the paper quotes."""
        return self.rate()

    def rate(self, *, deduplicated: bool = True) -> float:
        """Units per second, after deduplication or as segmented."""
        return (self.runs if deduplicated else self.units) / self.seconds if self.microseconds else 0.0

    def bits_per_second(self, num_units: int, *, deduplicated: bool = True) -> float:
        """Bit rate as in the paper's tables: units per second times log2 of the codebook size.

        Raises:
            InputError: the codebook is smaller than the units that occur.
        """
        needed = max(self.histogram, default=0) + 1
        if num_units < needed:
            raise InputError(f"num_units={num_units}, but unit {needed - 1} occurs: give the size of the codebook")
        return self.rate(deduplicated=deduplicated) * math.log2(num_units)

    def entropy(self, *, deduplicated: bool = True) -> float:
        """Entropy in bits of one unit, each drawn alone by its frequency; InputError for segments without units."""
        table = self.run_histogram if deduplicated else self.histogram
        if not table and self.units:
            raise InputError("Entropy needs units; these segmentations have none: apply a codebook first")
        return entropy_bits(table)

    def entropy_rate(self, *, deduplicated: bool = True) -> float:
        """Units per second times the entropy of one unit: the bits a code that knows the frequencies would spend.

        ZeroSyl's bit rate (with `deduplicated=False` where its units are not). Units are drawn alone, so what a unit
        tells about the next one is not subtracted.
        """
        return self.rate(deduplicated=deduplicated) * self.entropy(deduplicated=deduplicated)

    def length_entropy(self, *, deduplicated: bool = True) -> float:
        """Entropy in bits of one segment's length in frames, each drawn alone by its frequency."""
        return entropy_bits(self.run_length_histogram if deduplicated else self.length_histogram)

    def length_entropy_rate(self, *, deduplicated: bool = True) -> float:
        """Units per second times the entropy of one length: the bits per second that the timing costs.

        A sequence of units from which the timing can be restored costs these bits beside those of the units. Pauses
        between segments are not counted.
        """
        return self.rate(deduplicated=deduplicated) * self.length_entropy(deduplicated=deduplicated)

    def timed_entropy_rate(self, *, deduplicated: bool = True) -> float:
        """Bits per second of units and lengths, each coded by its own frequencies; InputError for bare segments."""
        parts = self.entropy_rate, self.length_entropy_rate
        return sum(part(deduplicated=deduplicated) for part in parts)

    def to_dict(self, num_units: int | None = None) -> dict[str, Any]:
        """Counts and rates by name; bits per second too where the codebook size is given."""
        result: dict[str, Any] = {
            name: getattr(self, name) for name in ("units", "runs", "seconds", "unit_rate", "merged_unit_rate")
        }
        rates: dict[str, Callable[..., float]] = {}
        if self.histogram:
            result |= {"distinct_units": len(self.histogram), "entropy": self.entropy()}
            rates["entropy_rate"] = self.entropy_rate
        if self.length_histogram:
            result["length_entropy"] = self.length_entropy()
            rates["length_entropy_rate"] = self.length_entropy_rate
        if self.histogram and self.length_histogram:
            rates["timed_entropy_rate"] = self.timed_entropy_rate
        if num_units is not None:
            rates["bits_per_second"] = lambda **which: self.bits_per_second(num_units, **which)
        for name, rate in rates.items():
            result |= {name: rate(), f"unmerged_{name}": rate(deduplicated=False)}
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
    """Count units and their lengths in one recording; without units, segments are counted and none deduplicated."""
    length = segmentation.num_frames * segmentation.hop * 1_000_000
    microseconds = round(length / segmentation.sample_rate)
    lengths = _lengths(segmentation)
    if segmentation.unit is None:
        return RateCounts(len(segmentation), len(segmentation), microseconds, {}, {}, lengths, lengths)
    merged = segmentation.deduplicate()
    runs = Counter([] if merged.unit is None else merged.unit.tolist())
    units = Counter(segmentation.unit.tolist())
    return RateCounts(len(segmentation), len(merged), microseconds, dict(units), dict(runs), lengths, _lengths(merged))


def _lengths(segmentation: Segmentation) -> dict[int, int]:
    """Count of each segment length in frames."""
    return dict(Counter((segmentation.end - segmentation.start).tolist()))


@dataclass(frozen=True)
class BitrateResult(UnitsResult):
    """Unit rates and bit rates of a list of recordings; names as in `RateCounts`, ``unmerged_`` for "as segmented".

    Rates by unit are None for segments without units, ``bits_per_second`` where the codebook size is unknown.
    """

    evaluation: ClassVar[str] = "bitrate"

    num_units: int | None
    units: int
    runs: int
    seconds: float
    unit_rate: float
    merged_unit_rate: Estimate
    distinct_units: int | None = json_key(omit_none=True)
    entropy: float | None = json_key(omit_none=True)
    entropy_rate: Estimate | None = json_key(omit_none=True)
    unmerged_entropy_rate: float | None = json_key(omit_none=True)
    length_entropy: float | None = json_key(omit_none=True)
    length_entropy_rate: Estimate | None = json_key(omit_none=True)
    unmerged_length_entropy_rate: float | None = json_key(omit_none=True)
    timed_entropy_rate: Estimate | None = json_key(omit_none=True)
    unmerged_timed_entropy_rate: float | None = json_key(omit_none=True)
    bits_per_second: float | None = json_key(omit_none=True)
    unmerged_bits_per_second: float | None = json_key(omit_none=True)

    def table(self) -> list[dict[str, Any]]:
        """Rows of a table: rates and bits per second after deduplication, and as segmented."""
        found = self.to_dict() | {"unmerged_merged_unit_rate": self.unit_rate}
        names = ("merged_unit_rate", "bits_per_second", "entropy_rate", "length_entropy_rate", "timed_entropy_rate")
        return [
            {"units": what} | {name: found[f"{prefix}{name}"] for name in names if name in found}
            for what, prefix in (("deduplicated", ""), ("as segmented", "unmerged_"))
        ]


_INTERVALS: dict[str, Callable[[RateCounts], float]] = {
    "merged_unit_rate": RateCounts.rate,
    "entropy_rate": RateCounts.entropy_rate,
    "length_entropy_rate": RateCounts.length_entropy_rate,
    "timed_entropy_rate": RateCounts.timed_entropy_rate,
}


def evaluate_bitrate(
    source: Recordings | Units | None,
    model: Model = "small",
    *,
    units: PathLike | None = None,
    num_units: int | None = None,
    rate: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> BitrateResult:
    """Count units and bits per second of recordings or of a file of units (section 5.4).

    Args:
        source, model, units, rate, resamples, seed, device: see `syllablelm.evaluate`.
        num_units: size of the codebook that made a file of units.

    Raises:
        InputError: nothing usable, or a codebook smaller than the units that occur.
    """
    found = read_unit_list(source, model, units=units, rate=rate, device=device)
    items = [rate_counts(segments) for segments in found.units.values()]
    size = num_units or found.num_units
    values = RateCounts.merge(items).to_dict(size)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "centered": True}
    values |= {
        name: bootstrap_estimate(items, statistic, **options)
        for name, statistic in _INTERVALS.items()
        if name in values
    }
    return BitrateResult(model=found.model, data=found.describe(), num_units=size, **values)
