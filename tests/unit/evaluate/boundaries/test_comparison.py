from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.evaluate.boundaries.comparison import BoundaryRow, Tuning, compare_segmentations
from syllablelm.evaluate.boundaries.protocols import PROTOCOLS


def recording(name: str, late: int, seed: int) -> tuple[Alignment, Segmentation]:
    """Syllables of random length, and the same cut late by some frames of 10 ms."""
    edges = np.cumsum(np.random.default_rng(seed).integers(15, 40, size=20))
    words = [
        Word("a", a / 100, b / 100, (Interval("AA1", a / 100, b / 100),))
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    return Alignment(name, 10.0, tuple(words)), Segmentation(edges[:-1] + late, edges[1:] + late, None, 1000, hop=160)


def corpus(names: str, late: int) -> tuple[dict[str, Alignment], dict[str, Segmentation]]:
    both = {name: recording(name, late, ord(name)) for name in names}
    return {k: v[0] for k, v in both.items()}, {k: v[1] for k, v in both.items()}


def test_each_segmenter_has_the_shift_of_the_list_it_was_tuned_on():
    references, early = corpus("ab", 0)
    late = corpus("ab", 6)[1]
    tuning_references, tuning_early = corpus("xyz", 0)
    tuning = Tuning({"early": tuning_early, "late": corpus("xyz", 6)[1]}, tuning_references)
    for protocol, sign in (("peng", 1), ("sdhubert", -1), ("zerosyl", 1)):
        rows = compare_segmentations(
            {"early": early, "late": late}, references, protocol=protocol, tuning=tuning
        ).rows()
        assert [row.tuned for row in rows] == [True, True]
        assert [row.protocol for row in rows] == [protocol] * 2
        # Any shift that brings every cut within 50 ms is as good; of those the nearest to zero (10 ms, or
        # 20 where a distance of 50 ms is up to binary fractions).
        assert [row.shift for row in rows] == [0.0, pytest.approx(-0.015 * sign, abs=0.0051)]
        plain = compare_segmentations({"late": late}, references, protocol=protocol).rows()
        assert (plain[0].shift, plain[0].tuned) == (0.0, False)
        assert plain[0].f1_50 < rows[1].f1_50 == rows[0].f1_50


def test_a_protocol_without_a_shift_is_not_tuned():
    references, early = corpus("ab", 0)
    tuning = Tuning({"early": corpus("xy", 0)[1]}, corpus("xy", 0)[0])
    for protocol in ("paper", "strict", PROTOCOLS["peng"].with_shift(0.01)):
        (row,) = compare_segmentations({"early": early}, references, protocol=protocol, tuning=tuning).rows()
        assert not row.tuned
    assert row.shift == 0.01


def test_a_tuning_list_that_is_scored_is_refused():
    references, found = corpus("abc", 0)
    with pytest.raises(InputError, match="2 recordings of it, such as 'b'"):
        compare_segmentations(
            {"m": found}, references, protocol="peng", tuning=Tuning({"m": corpus("bcd", 0)[1]}, corpus("bcd", 0)[0])
        )
    with pytest.raises(InputError, match="no segmentations of 'm'"):
        compare_segmentations(
            {"m": found}, references, protocol="peng", tuning=Tuning({"n": corpus("xy", 0)[1]}, corpus("xy", 0)[0])
        )


def test_rows_carry_token_scores_and_differences():
    references, early = corpus("ab", 0)
    late = corpus("ab", 6)[1]
    comparison = compare_segmentations({"late": late, "early": early}, references, level="word")
    bad, good = comparison.rows(baseline="late", resamples=20)
    assert (good.token_f1.value, good.token_hits, good.level) == (1.0, 38, "word")
    assert bad.token_f1.value == bad.token_precision == 0.0
    low, high = good.token_f1.low, good.token_f1.high
    assert low is not None and high is not None and low <= good.token_f1.value <= high
    assert bad.gain is None and good.gain is not None
    (back, _) = compare_segmentations({"late": late, "early": early}, references).rows(baseline="early", resamples=20)
    assert back.gain is not None and back.gain.value == -good.gain.value
    assert (back.gain.low, back.gain.high) == pytest.approx((-(good.gain.high or 0), -(good.gain.low or 0)))
    with pytest.raises(InputError, match="no segmenter 'odd' among late, early"):
        comparison.rows(baseline="odd")


def test_a_row_is_read_back_from_what_it_prints():
    references, early = corpus("ab", 0)
    first, second = compare_segmentations({"a": early, "b": corpus("ab", 3)[1]}, references).rows(
        baseline="a", resamples=5
    )
    for row in (first, replace(second, method="minsum", model="some/encoder", layer=9, count="reference")):
        table = json.loads(json.dumps(row.to_dict()))
        assert BoundaryRow.from_dict(table) == row
        assert {"f1@20", "f1@50", "f1_low", "token_f1", "token_f1_low", "count"} <= set(table)
        assert ("gain" in table, "gain_low" in table, "layer" in table) == (row is not first,) * 3
