from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.errors import InputError
from syllablelm.evaluate.bitrate import RateCounts, rate_counts
from syllablelm.types import Segmentation


def contiguous(units: list[int], width: int = 10) -> Segmentation:
    return Segmentation.from_boundaries(np.arange(len(units) + 1) * width, unit=units)


def segmentation(start: list[int], end: list[int], unit: list[int] | None, num_frames: int) -> Segmentation:
    units = None if unit is None else np.array(unit, dtype=np.int32)
    return Segmentation(np.array(start, dtype=np.int32), np.array(end, dtype=np.int32), units, num_frames)


def test_counts_by_hand():
    # Six segments of 0.2 s: 1.2 s of audio; runs 4, 5, 4.
    counts = rate_counts(contiguous([4, 4, 5, 5, 5, 4]))
    assert (counts.units, counts.runs, counts.seconds) == (6, 3, 1.2)
    assert counts.histogram == {4: 3, 5: 3}
    assert counts.run_histogram == {4: 2, 5: 1}
    assert counts.unit_rate == pytest.approx(5.0)
    assert counts.merged_unit_rate == pytest.approx(2.5)
    assert counts.bits_per_second(4096) == pytest.approx(2.5 * 12)
    assert counts.bits_per_second(4096, merged=False) == pytest.approx(5.0 * 12)
    assert counts.entropy(merged=False) == pytest.approx(1.0)
    third = -(math.log2(1 / 3) / 3 + math.log2(2 / 3) * 2 / 3)
    assert counts.entropy_rate() == pytest.approx(2.5 * third)


def test_repeats_across_a_gap_stay_apart():
    counts = rate_counts(segmentation([0, 20], [10, 30], [1, 1], 30))
    assert (counts.units, counts.runs) == (2, 2)


@pytest.mark.parametrize(
    ("hertz", "num_units", "printed"),
    [(5.0, 4096, 60), (5.0, 16384, 70), (25 / 3, 2048, 91), (6.25, 8192, 81), (19.5, 500, 175)],
)
def test_bit_rates_of_the_papers_table_2(hertz, num_units, printed):
    units = round(hertz * 3600)
    counts = RateCounts(units, units, 3_600_000_000)
    assert counts.bits_per_second(num_units) == pytest.approx(printed, abs=1)


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=6))
def test_merging_is_the_corpus_total(recordings):
    items = [rate_counts(contiguous(units)) for units in recordings]
    total = sum(items, RateCounts())
    assert total == sum(reversed(items), RateCounts())
    assert total == RateCounts.merge(items) == RateCounts.merge(reversed(items))
    assert total.units == sum(map(len, recordings)) == sum(total.histogram.values())
    assert total.runs == sum(total.run_histogram.values()) <= total.units
    assert total.seconds == pytest.approx(0.2 * total.units)
    # The entropy code never costs more than the flat one.
    assert total.entropy_rate() <= total.bits_per_second(4) + 1e-9


def test_sum_starts_from_zero():
    item = rate_counts(contiguous([1, 2]))
    assert sum([item, item]) == item + item


def test_one_unit_carries_nothing():
    counts = rate_counts(contiguous([2, 2, 2]))
    assert counts.entropy_rate() == 0.0
    assert math.copysign(1, counts.entropy()) == 1
    assert counts.merged_unit_rate == pytest.approx(1 / 0.6)


def test_no_segments_and_no_audio():
    silent = rate_counts(segmentation([], [], [], 50))
    assert (silent.unit_rate, silent.entropy_rate(), silent.bits_per_second(16)) == (0.0, 0.0, 0.0)
    assert RateCounts().unit_rate == RateCounts().merged_unit_rate == 0.0


def test_segments_without_units_have_a_rate_but_no_entropy():
    counts = rate_counts(segmentation([0, 10], [10, 20], None, 50))
    assert counts.unit_rate == counts.merged_unit_rate == pytest.approx(2.0)
    assert "entropy_rate" not in counts.to_dict()
    with pytest.raises(InputError, match="codebook"):
        counts.entropy_rate()


def test_too_small_a_codebook_is_refused():
    with pytest.raises(InputError, match="unit 5 occurs"):
        rate_counts(contiguous([5])).bits_per_second(5)
    assert rate_counts(contiguous([5])).to_dict(8)["bits_per_second"] == pytest.approx(15.0)


def test_the_result_names_every_rate():
    result = rate_counts(contiguous([4, 4, 5, 5, 5, 4])).to_dict(16)
    assert (result["bits_per_second"], result["unmerged_bits_per_second"]) == (pytest.approx(10), pytest.approx(20))
    assert result["entropy_rate"] == pytest.approx(2.5 * result["entropy"])
    assert result["unmerged_entropy_rate"] == pytest.approx(5.0)
