from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.random_models import small_corpus
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word, read_alignments, write_alignments
from syllablelm.data.corpus import scan
from syllablelm.evaluate.boundaries.run import read_scored_list
from syllablelm.evaluate.lists import (
    ScoredData,
    UnitList,
    check_disjoint,
    check_grids,
    check_lengths,
    check_levels,
    check_references,
    open_model,
    open_recordings,
    open_references,
    read_unit_list,
)
from syllablelm.evaluate.units.bitrate import evaluate_bitrate
from syllablelm.evaluate.units.purity import evaluate_purity
from syllablelm.formats import open_writer
from syllablelm.tokenizer.tokenizer import Tokenizer


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


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder, device="cpu")


def test_recordings_by_path_manifest_or_list(recordings: Path, tmp_path: Path) -> None:
    manifest, _ = scan(recordings)
    for source in (recordings, [str(recordings)], manifest, list(manifest)):
        assert open_recordings(source)[1] == manifest
    name, one, _ = open_recordings([recordings / "r1.wav", str(recordings / "r0.wav")])
    assert (name, [recording.id for recording in one]) == (f"{recordings}/r1.wav, {recordings}/r0.wav", ["r1", "r0"])
    (tmp_path / "broken.wav").touch()
    with pytest.raises(InputError, match=r"no usable recording: .*broken\.wav"):
        open_recordings(tmp_path / "broken.wav")


def test_a_tokenizer_by_name_or_itself(tokenizer: Tokenizer, tokenizer_folder: Path) -> None:
    assert open_model(tokenizer) == (tokenizer.digest, tokenizer)
    name, loaded = open_model(tokenizer_folder, rate=2.5, device="cpu")
    assert (name, loaded.rule.rate) == (str(tokenizer_folder), 2.5)
    with pytest.raises(InputError, match="load the tokenizer with this rate"):
        open_model(tokenizer, rate=2.5)


def test_units_of_recordings_files_and_memory_are_one(
    tokenizer: Tokenizer, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    manifest, _ = scan(recordings)
    made = read_unit_list(manifest, tokenizer)
    assert made.units == {one.id: tokenizer.encode(one.load()) for one in manifest}
    assert (made.model, made.num_units) == (tokenizer.digest, tokenizer.num_units)
    file = tmp_path / "units.jsonl"
    with open_writer(file, "jsonl") as writer:
        for one in manifest:
            writer.write(one.id, one.path, made.units[one.id])
    for kept in (read_unit_list(file), read_unit_list(None, units=file), read_unit_list(made.units)):
        assert (kept.units, kept.model) == (made.units, None)
    rates = [evaluate_bitrate(source, tokenizer, num_units=12, resamples=5) for source in (recordings, file)]
    assert rates[0].bits_per_second == rates[1].bits_per_second
    purities = [
        evaluate_purity(source, reference, tokenizer, resamples=5).rows[0].cluster_purity
        for source in (recordings, made.units)
        for reference in (alignments, read_alignments(alignments))
    ]
    assert len(set(purities)) == 1
    assert open_references(alignments)[0] == str(alignments)


def test_a_faulty_alignment_leaves_its_recording_out(
    recordings: Path, alignments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *rest = alignments.read_text(encoding="utf-8").splitlines()
    foreign = {"word": "a", "start": 0, "end": 0.5, "phones": [["%7", 0, 0.5]]}
    lines = [{**json.loads(first), "duration": -1}, {**json.loads(second), "words": [foreign]}, *map(json.loads, rest)]
    found = {one["id"]: units(one["duration"]) for one in map(json.loads, [first, second, *rest])}
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    references = open_references(file, ["syllable"])
    err = capsys.readouterr().err
    assert (
        "a.jsonl:1: " in err and "phone '%7' is not one phone of IPA" in err and err.count(f"{file}: skipped 1 of") == 2
    )
    aligned = UnitList("units", None, None, found).align(references, ["syllable"], partial=False)
    assert set(aligned.units) == {one["id"] for one in lines[2:]} and aligned.data.left_out == 2
    file.write_text("\n".join(map(json.dumps, lines[1:])), encoding="utf-8")
    with pytest.raises(InputError, match="1 recording without an alignment"):
        UnitList("units", None, None, found).align(open_references(file, ["syllable"]), partial=False)


def test_lists_that_are_no_list(recordings: Path, tmp_path: Path) -> None:
    units = Segmentation.from_boundaries([0, 5], unit=[1])
    with pytest.raises(InputError, match="nothing to score"):
        read_unit_list([])
    with pytest.raises(InputError, match="hop"):
        read_unit_list({"a": units, "b": Segmentation.from_boundaries([0, 5], unit=[1], hop=640)})
    with pytest.raises(InputError, match="a file of units is scored alone"):
        read_unit_list([recordings], units=tmp_path / "units.jsonl")
