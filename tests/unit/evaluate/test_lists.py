from __future__ import annotations

import json

import pytest

from helpers.random_models import small_corpus
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word, write_alignments
from syllablelm.evaluate.boundaries.run import read_scored_list
from syllablelm.evaluate.lists import ScoredData, check_levels


def test_levels():
    assert check_levels(["phone", "syllable", "phone"]) == ("phone", "syllable")
    for wrong in ([], ["mora"]):
        with pytest.raises(InputError, match="choose some of syllable, phone, word"):
            check_levels(wrong)


def test_the_data_of_a_result_is_read_back():
    segments = {"a": Segmentation.from_boundaries([0, 50]), "b": Segmentation.from_boundaries([0, 25, 75])}
    data = ScoredData.of("list", "file.jsonl", segments, {"left_out": 1, "without_units": 0})
    table = data.to_dict()
    assert table == {
        "name": "list", "alignments": "file.jsonl", "recordings": 2, "seconds": 2.5, "left_out": 1, "without_units": 0,
    }  # fmt: skip
    assert ScoredData.from_dict(json.loads(json.dumps(table))) == data
    assert "alignments" not in ScoredData.of("list", None, segments, {}).to_dict()


def test_recordings_without_an_alignment_are_left_out(tmp_path, capsys):
    small_corpus(tmp_path / "audio", [16_000, 16_000, 16_000])
    words = (Word("a", 0.0, 1.0, (Interval("AA1", 0.0, 1.0),)),)
    write_alignments([Alignment(name, 1.0, words) for name in ("r0", "r2")], tmp_path / "reference.jsonl")
    listed = read_scored_list([str(tmp_path / "audio")], [], tmp_path / "reference.jsonl", ["syllable"])
    assert listed.ids == {"r0", "r2"} and listed.omitted == {"left_out": 1, "unusable": 0}
    assert capsys.readouterr().err == "left out: 0 unusable, 1 without an alignment\n"
    with pytest.raises(InputError, match="nothing to score"):
        read_scored_list([], [], tmp_path / "reference.jsonl", ["syllable"])
