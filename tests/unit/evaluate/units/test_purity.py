from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Word
from syllablelm.data.alignment import Interval as AlignedInterval
from syllablelm.evaluate.units.purity import (
    PurityCounts,
    PurityResult,
    evaluate_purity,
    purity_counts,
    score_purity,
    strip_stress,
)


class Interval(NamedTuple):
    label: str
    start: float
    end: float


class Reference(NamedTuple):
    syllables: tuple[Interval, ...]

    def intervals(self, level: str) -> tuple[Interval, ...]:
        return self.syllables if level == "syllable" else ()


def segmentation(start: list[int], end: list[int], unit: list[int] | None, num_frames: int) -> Segmentation:
    units = None if unit is None else np.array(unit, dtype=np.int32)
    return Segmentation(np.array(start, dtype=np.int32), np.array(end, dtype=np.int32), units, num_frames)


TABLES = st.dictionaries(
    st.tuples(st.sampled_from(["DH AH", "L AO", "N IY"]), st.integers(0, 3)), st.integers(1, 9), max_size=10
)


def test_counts_by_hand():
    # Frames of 20 ms: units 7, 7, 3 at 0-0.2, 0.2-0.4, 0.6-0.8; the last syllable overlaps nothing.
    predicted = segmentation([0, 10, 30], [10, 20, 40], [7, 7, 3], 60)
    syllables = [
        Interval("DH AH0", 0.0, 0.19),
        Interval("DH AH1", 0.21, 0.4),
        Interval("L AO1", 0.6, 0.82),
        Interval("W IY1", 1.0, 1.2),
    ]
    counts = purity_counts(predicted, syllables)
    assert counts.table == {("DH AH", 7): 2, ("L AO", 3): 1}
    assert (counts.matched, counts.syllables, counts.segments) == (3, 4, 3)


def test_purities_by_hand():
    # Syllable a: units 0 x3, 1 x1; syllable b: unit 0 x2; syllable c: unit 2 x4.
    counts = PurityCounts({("a", 0): 3, ("a", 1): 1, ("b", 0): 2, ("c", 2): 4})
    assert counts.syllable_to_unit == pytest.approx((3 + 2 + 4) / 10)
    assert counts.unit_to_syllable == pytest.approx((3 + 1 + 4) / 10)
    # Published names follow the code.
    assert counts.cluster_purity == pytest.approx(0.9)
    assert counts.syllable_purity == pytest.approx(0.8)


def test_one_unit_for_everything():
    counts = PurityCounts({("a", 0): 3, ("b", 0): 1})
    assert (counts.cluster_purity, counts.syllable_purity, counts.mutual_information) == (1.0, 0.75, 0.0)
    assert counts.normalized_mutual_information == counts.syllable_normalized_mutual_information == 0.0


def test_a_perfect_code():
    counts = PurityCounts({("a", 5): 4, ("b", 6): 4, ("c", 1): 4, ("d", 0): 4})
    assert (counts.cluster_purity, counts.syllable_purity) == (1.0, 1.0)
    assert counts.mutual_information == pytest.approx(2.0)
    assert counts.normalized_mutual_information == pytest.approx(1.0)
    assert counts.syllable_normalized_mutual_information == pytest.approx(1.0)


@given(TABLES)
def test_mutual_information_agrees_with_its_definition(table):
    counts = PurityCounts(table)
    syllables, units = sorted({s for s, _ in table}), sorted({u for _, u in table})
    joint = np.array([[table.get((s, u), 0) for u in units] for s in syllables], dtype=float)
    expected = 0.0
    if joint.size:
        joint /= joint.sum()
        outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        expected = float((joint[joint > 0] * np.log2(joint[joint > 0] / outer[joint > 0])).sum())
    assert counts.mutual_information == pytest.approx(expected, abs=1e-9)


@given(TABLES)
def test_purities_are_bounded_and_mirror_each_other(table):
    counts, mirrored = PurityCounts(table), PurityCounts({(str(u), ord(s[0])): n for (s, u), n in table.items()})
    assert 0 <= counts.cluster_purity <= 1 and 0 <= counts.syllable_purity <= 1
    assert counts.cluster_purity == mirrored.syllable_purity
    assert 0 <= counts.normalized_mutual_information <= 1 + 1e-9


@given(TABLES, TABLES, TABLES)
def test_merging_is_the_corpus_total(a, b, c):
    items = [PurityCounts(t, syllables=k, segments=2 * k) for k, t in enumerate((a, b, c), 5)]
    total = PurityCounts.merge(items)
    assert total == sum(items) == items[0] + (items[1] + items[2])
    assert total.matched == sum(sum(t.values()) for t in (a, b, c))
    assert (total.syllables, total.segments) == (18, 36)


def test_nothing_matched():
    empty = segmentation([], [], [], 50)
    counts = purity_counts(empty, [Interval("L AO1", 0.1, 0.4)])
    assert counts == PurityCounts({}, 1, 0)
    assert counts.matched == counts.cluster_purity == counts.syllable_purity == counts.mutual_information == 0
    assert counts.normalized_mutual_information == counts.syllable_normalized_mutual_information == 0
    assert purity_counts(empty, []).cluster_purity == 0.0
    one = segmentation([0], [50], [9], 50)
    assert purity_counts(one, [Interval("L AO1", 0.1, 0.4)]).table == {("L AO", 9): 1}


def test_every_10_ms_by_a_slow_loop():
    one = segmentation([0, 10, 16], [8, 16, 24], [7, 8, 7], 25)
    phones = [Interval("AH0", 0.06, 0.2), Interval("B", 0.2, 0.31), Interval("AH1", 0.33, 0.5)]
    expected: dict[tuple[str, int], int] = {}
    for step in range(50):
        middle = 0.01 * step + 0.005
        labels = [phone.label.rstrip("01") for phone in phones if phone.start <= middle < phone.end]
        units = [u for (a, b), u in zip(one.seconds.tolist(), (7, 8, 7), strict=True) if a <= middle < b]
        key = (labels[0] if labels else "", units[0] if units else -1)
        expected[key] = expected.get(key, 0) + 1
    counts = purity_counts(one, phones, matching="frames")
    assert counts == PurityCounts(expected, 3, 3) and counts.matched == 50
    assert expected.keys() == {("", 7), ("AH", 7), ("AH", -1), ("B", 8), ("", 8)}
    assert purity_counts(segmentation([], [], [], 2), [], matching="frames").table == {("", -1): 4}


def test_pnmi_is_discophons():
    """Random units against phones: PNMI as `pnmi(cooccurrence_matrix(...))` of discophon 0.2.0 gave it for these."""
    rng = np.random.default_rng(7)
    items = []
    for _ in range(4):
        num_frames = 60
        cuts = np.unique(np.concatenate([[0], rng.integers(1, num_frames, 20), [num_frames]]))
        units = rng.integers(0, 6, len(cuts) - 1)
        edges = np.unique(np.concatenate([[0], rng.integers(1, 120, 14), [120]])) / 100
        names = rng.choice(["AA", "B", "S", ""], len(edges) - 1)
        phones = [
            Interval(str(name), float(start), float(end))
            for name, start, end in zip(names, edges[:-1], edges[1:], strict=True)
            if name
        ]
        items.append(purity_counts(segmentation(cuts[:-1], cuts[1:], units, num_frames), phones, matching="frames"))
    assert PurityCounts.merge(items).syllable_normalized_mutual_information == pytest.approx(
        0.08853795299405741, abs=1e-12
    )


def test_stress_is_stripped():
    assert strip_stress("AH0 B AW1 T AH2") == "AH B AW T AH"


def test_units_are_required():
    with pytest.raises(InputError, match="codebook"):
        purity_counts(segmentation([0], [5], None, 5), [])


def test_a_corpus_is_scored_by_recording():
    one = segmentation([0], [50], [9], 50)
    reference = Reference((Interval("L AO1", 0.1, 0.4),))
    assert list(score_purity({"b": one, "a": one}, {"a": reference, "b": reference})) == ["a", "b"]
    with pytest.raises(InputError, match="predictions lack b"):
        score_purity({"a": one}, {"a": reference, "b": reference})
    overlapping = Reference((Interval("A", 0.1, 0.4), Interval("B", 0.3, 0.5)))
    with pytest.raises(InputError, match=r"^rec-7: reference"):
        score_purity({"rec-7": one}, {"rec-7": overlapping})


@given(TABLES.filter(bool))
@settings(max_examples=50, deadline=None)
def test_mutual_information_agrees_with_scikit_learn(table):
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = [key for key, count in table.items() for _ in range(count)]
    syllables, units = [syllable for syllable, _ in pairs], [unit for _, unit in pairs]
    counts = PurityCounts(table)
    information = metrics.mutual_info_score(syllables, units) / np.log(2)
    assert counts.mutual_information == pytest.approx(information, abs=1e-9)
    if len(set(syllables)) > 1 or len(set(units)) > 1:
        expected = metrics.normalized_mutual_info_score(syllables, units, average_method="arithmetic")
        assert counts.normalized_mutual_information == pytest.approx(expected, abs=1e-9)
    if len(set(syllables)) > 1:
        # The share of the labels' entropy that clusters tell.
        expected = metrics.homogeneity_score(syllables, units)
        assert counts.syllable_normalized_mutual_information == pytest.approx(expected, abs=1e-9)


@given(TABLES)
def test_mutual_information_is_symmetric(table):
    mirrored = PurityCounts({(str(u), ord(s[0])): n for (s, u), n in table.items()})
    counts = PurityCounts(table)
    assert counts.mutual_information == pytest.approx(mirrored.mutual_information, abs=1e-9)
    assert counts.normalized_mutual_information == pytest.approx(mirrored.normalized_mutual_information, abs=1e-9)


def test_majority_counts_every_segment_and_silence():
    predicted = segmentation([0, 10, 30, 50], [10, 30, 50, 60], [7, 7, 3, 3], 60)
    syllables = [Interval("DH AH0", 0.0, 0.3), Interval("L AO1", 0.3, 0.5)]
    counts = purity_counts(predicted, syllables, matching="majority")
    # 0.2-0.6 overlaps the second by 0.2, the first and the silence by 0.1.
    assert counts.table == {("DH AH", 7): 1, ("L AO", 7): 1, ("", 3): 2}
    assert (counts.matched, counts.syllables, counts.segments) == (4, 2, 4)
    assert purity_counts(predicted, [], matching="majority").table == {("", 7): 2, ("", 3): 2}


def test_other_levels_are_other_labels():
    class Words(NamedTuple):
        def intervals(self, level: str) -> list[Interval]:
            return {"word": [Interval("the", 0.0, 1.0)], "phone": [Interval("DH", 0.0, 0.1)]}[level]

    one = segmentation([0], [50], [9], 50)
    assert score_purity({"a": one}, {"a": Words()}, level="word")["a"].table == {("the", 9): 1}
    assert score_purity({"a": one}, {"a": Words()}, level="phone")["a"].table == {("DH", 9): 1}


def aligned_lists() -> tuple[dict[str, Segmentation], dict[str, Alignment]]:
    """Two recordings of three syllables of 0.2 s, of which the last two share a unit."""
    units, alignments = {}, {}
    for id in ("a", "b"):
        phones = tuple(AlignedInterval(label, k * 0.2, k * 0.2 + 0.2) for k, label in enumerate(("AA1", "IY0", "UW1")))
        alignments[id] = Alignment(id, 0.6, (Word("w", 0.0, 0.6, phones),))
        units[id] = Segmentation.from_boundaries([0, 10, 20, 30], unit=[3, 5, 5])
    return units, alignments


def test_a_result_holds_a_row_per_level_and_is_read_back():
    units, alignments = aligned_lists()
    result = evaluate_purity(units, alignments, levels=("phone", "word"), resamples=20)
    assert (result.model, result.recordings, result.data.seconds) == (None, 2, 1.2)
    phone, word = result.rows
    assert (phone.level, phone.matched, phone.segments, word.matched) == ("phone", 6, 6, 2)
    assert (phone.cluster_purity.value, phone.syllable_purity.value) == (1.0, pytest.approx(4 / 6))
    # The paper's sentences name the two purities the other way round.
    assert phone.readings["worded"] == {
        "cluster_purity": phone.readings["released"]["syllable_purity"],
        "syllable_purity": phone.readings["released"]["cluster_purity"],
    }
    assert phone.token_f1.value == 1.0
    written = json.loads(json.dumps(result.to_dict()))
    assert written["cluster_purity_low"] <= written["cluster_purity"] == written["rows"][0]["cluster_purity"]
    assert PurityResult.from_dict(written) == result


def test_lists_that_cannot_be_scored():
    units, alignments = aligned_lists()
    with pytest.raises(InputError, match="'mora'"):
        evaluate_purity(units, alignments, levels=["mora"])
    with pytest.raises(InputError, match="units: 1 recording without an alignment, such as 'b'"):
        evaluate_purity(units, {"a": alignments["a"]}, levels=["phone"])
    with pytest.raises(InputError, match="no model"):
        evaluate_purity(units, alignments, [])
