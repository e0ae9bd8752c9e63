"""What units are scored on: recordings, files and segmentations give one list of units."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import read_alignments
from syllablelm.data.corpus import scan
from syllablelm.evaluate.lists import open_model, open_recordings, open_references, read_unit_list
from syllablelm.evaluate.units.bitrate import evaluate_bitrate
from syllablelm.evaluate.units.purity import evaluate_purity
from syllablelm.formats import open_writer
from syllablelm.tokenizer.tokenizer import Tokenizer


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


def test_lists_that_are_no_list(recordings: Path, tmp_path: Path) -> None:
    units = Segmentation.from_boundaries([0, 5], unit=[1])
    with pytest.raises(InputError, match="nothing to score"):
        read_unit_list([])
    with pytest.raises(InputError, match="hop"):
        read_unit_list({"a": units, "b": Segmentation.from_boundaries([0, 5], unit=[1], hop=640)})
    with pytest.raises(InputError, match="a file of units is scored alone"):
        read_unit_list([recordings], units=tmp_path / "units.jsonl")
