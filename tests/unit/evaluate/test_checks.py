from __future__ import annotations

import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.evaluate.lists import check_disjoint, check_grids, check_lengths, check_references


def align(seconds: float, spoken: float | None = None) -> Alignment:
    words = () if spoken is None else (Word("a", 0.0, spoken, (Interval("AA1", 0.0, spoken),)),)
    return Alignment("a", seconds, words)


def units(seconds: float, hop: int = 320, sample_rate: int = 16_000) -> Segmentation:
    return Segmentation.from_boundaries([0, round(seconds * sample_rate / hop)], hop=hop, sample_rate=sample_rate)


def test_what_is_tuned_on_is_not_scored():
    check_disjoint(["a"], ["b"], "--tune")
    with pytest.raises(InputError, match=r"^--tune: 2 recordings of the tuning list, such as 'b'"):
        check_disjoint(["a", "c", "b"], ["b", "c", "d"], "--tune")


def test_empty_references_are_counted():
    references = {"a": align(1, 1), "b": align(1), "c": align(1)}
    check_references(references, ["a"], ["syllable", "phone", "word"], "x.jsonl")
    with pytest.raises(InputError, match=r"^x.jsonl: 2 recordings without a single phone, such as 'b'"):
        check_references(references, references, ["phone"], "x.jsonl")


def test_one_frame_grid():
    found = {"a": units(1), "b": units(2), "c": units(1, 160, 8000), "d": units(1)}
    with pytest.raises(InputError, match="1 recording at 8000 Hz with hop 160, such as 'c', among others at 16000 Hz"):
        check_grids(found, "x")
    del found["c"]
    check_grids(found, "x")
    check_grids({}, "x")


@pytest.mark.parametrize("seconds", [1.95, 2.0, 3.5])
def test_lengths_that_agree(seconds):
    # A reference without silences may end with its last phone.
    check_lengths({"a": units(seconds)}, {"a": align(2, 2)}, "x")


@pytest.mark.parametrize("sample_rate", [8000, 48_000])
def test_a_wrong_sample_rate_is_found(sample_rate):
    found = {"b": units(8.0), "a": units(8.0 * 16_000 / sample_rate)}
    with pytest.raises(InputError, match=r"^x: 1 recording of another length .* 'a' with .* for 8.00 s"):
        check_lengths(found, {"a": align(8, 7.8), "b": align(8, 7.8)}, "x")
