from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.units.bitrate import BitrateResult, RateCounts, evaluate_bitrate, rate_counts


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
    assert counts.bits_per_second(4096, deduplicated=False) == pytest.approx(5.0 * 12)
    assert counts.entropy(deduplicated=False) == pytest.approx(1.0)
    third = -(math.log2(1 / 3) / 3 + math.log2(2 / 3) * 2 / 3)
    assert counts.entropy_rate() == pytest.approx(2.5 * third)


def entropy_by_hand(values: list[int]) -> float:
    shares = [values.count(value) / len(values) for value in set(values)]
    return -sum(share * math.log2(share) for share in shares)


def test_lengths_by_hand():
    # 4 and 4 join to 30 frames; 100 frames are 2 s.
    counts = rate_counts(segmentation([0, 10, 30, 60], [10, 30, 60, 100], [4, 4, 5, 4], 100))
    assert counts.length_histogram == {10: 1, 20: 1, 30: 1, 40: 1}
    assert counts.run_length_histogram == {30: 2, 40: 1}
    assert counts.length_entropy(deduplicated=False) == pytest.approx(2.0)
    assert counts.length_entropy_rate(deduplicated=False) == pytest.approx(4 / 2 * 2.0)
    third = entropy_by_hand([30, 30, 40])
    assert counts.length_entropy_rate() == pytest.approx(3 / 2 * third)
    assert counts.timed_entropy_rate() == pytest.approx(3 / 2 * (entropy_by_hand([4, 5, 4]) + third))


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=10), max_size=5))
def test_lengths_add_up(recordings):
    items = []
    for pairs in recordings:
        edges = np.cumsum([0, *(length for _, length in pairs)])
        items.append(rate_counts(Segmentation.from_boundaries(edges, unit=[unit for unit, _ in pairs])))
    total = RateCounts.merge(items)
    assert total == sum(items, RateCounts())
    lengths = [length for pairs in recordings for _, length in pairs]
    # Joining changes the number of segments, not the frames that they cover.
    for table, segments in ((total.length_histogram, total.units), (total.run_length_histogram, total.runs)):
        assert sum(table.values()) == segments
        assert sum(length * count for length, count in table.items()) == sum(lengths)
    assert total.length_entropy(deduplicated=False) == pytest.approx(entropy_by_hand(lengths) if lengths else 0.0)
    assert 0 <= total.length_entropy() <= math.log2(max(1, len(total.run_length_histogram))) + 1e-9


def test_segments_of_one_length_cost_no_bits_of_timing():
    counts = rate_counts(contiguous([1, 2, 3]))
    assert counts.length_entropy_rate() == 0.0
    assert counts.timed_entropy_rate() == counts.entropy_rate()


def test_a_table_holds_both_ways_of_counting():
    result = evaluate_bitrate({"a": contiguous([4, 4, 5, 5, 5, 4])}, num_units=16, resamples=5)
    merged, alone = result.table()
    assert (merged["units"], alone["units"]) == ("deduplicated", "as segmented")
    assert (merged["bits_per_second"], alone["bits_per_second"]) == (pytest.approx(10), pytest.approx(20))
    assert (merged["merged_unit_rate"], alone["merged_unit_rate"]) == (pytest.approx(2.5), pytest.approx(5.0))
    assert alone["length_entropy_rate"] == 0.0
    assert merged["timed_entropy_rate"] == merged["entropy_rate"] + merged["length_entropy_rate"]
    (no_units, _) = evaluate_bitrate({"a": segmentation([0, 10], [10, 30], None, 50)}, resamples=5).table()
    assert set(no_units) == {"units", "merged_unit_rate", "length_entropy_rate"}


@pytest.mark.parametrize("units", [[4, 4, 5], None])
def test_a_result_is_the_corpus_total_and_is_read_back(units):
    lists = {"a": segmentation([0, 10, 20], [10, 20, 30], units, 40), "b": segmentation([0], [50], units and [7], 50)}
    result = evaluate_bitrate(lists, num_units=16, resamples=20)
    assert (result.model, result.recordings, result.data.seconds, result.num_units) == (None, 2, 1.8, 16)
    total = RateCounts.merge(map(rate_counts, lists.values())).to_dict(16)
    written = result.to_dict()
    assert total.items() <= written.items()
    assert written["merged_unit_rate_low"] <= written["merged_unit_rate"] <= written["merged_unit_rate_high"]
    assert ("entropy_rate" in written) == (units is not None)
    assert BitrateResult.from_dict(json.loads(json.dumps(written))) == result


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
    assert "entropy_rate" not in counts.to_dict() and "timed_entropy_rate" not in counts.to_dict()
    assert counts.to_dict()["length_entropy_rate"] == 0.0
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
    # Runs of 20, 30 and 10 frames.
    assert result["length_entropy"] == pytest.approx(math.log2(3))
    assert result["length_entropy_rate"] == pytest.approx(2.5 * math.log2(3))
    assert result["timed_entropy_rate"] == pytest.approx(result["entropy_rate"] + result["length_entropy_rate"])
    assert result["unmerged_timed_entropy_rate"] == result["unmerged_entropy_rate"]
