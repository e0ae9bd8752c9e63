"""`tokenize`: what goes to which stream and file, and what happens to recordings that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from helpers.command_line import Run
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.formats import read_segmentations
from syllablelm.formats.record import from_record
from syllablelm.tokenizer import recordings as grouping
from syllablelm.tokenizer.tokenizer import Tokenizer

KEYS = {"id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end"}


def test_tokenize_prints_records_that_equal_the_tokenizers(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    ended = run("tokenize", recordings, "--model", tokenizer_folder)
    assert ended.status == 0
    assert [record["id"] for record in ended.records] == ["r0", "r1", "r2"]
    tokenizer = Tokenizer.load(tokenizer_folder)
    for record in ended.records:
        assert set(record) == KEYS
        assert from_record(record) == tokenizer.encode(load_audio(recordings / f"{record['id']}.wav"))
    units = sum(len(record["unit"]) for record in ended.records)
    assert len(ended.lines) == 1
    assert ended.err.startswith(f"3 recordings, 0.00 h, {units} units, ")
    assert ended.err.endswith(" s of audio per second, 0 skipped\n")


def test_tokenize_keeps_the_order_of_its_arguments(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    files = [recordings / f"{name}.wav" for name in ("r2", "none", "r0", "r2")]
    ended = run("tokenize", *files, "--model", tokenizer_folder)
    assert ended.status == 0
    assert [record["id"] for record in ended.records] == ["r2", "r0"]
    assert ended.lines[0] == f"skipped {recordings / 'none.wav'}: no such file or folder; check the name"
    assert ended.lines[1].endswith("1 skipped")


def test_tokenize_takes_patterns_and_rates(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    ended = run("tokenize", recordings / "r[02].wav", "--model", tokenizer_folder, "--rate", "10")
    assert [len(record["unit"]) for record in ended.records] == [20, 30]


def test_tokenize_in_small_groups_changes_nothing(
    run: Run, recordings: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("tokenize", recordings, "--model", tokenizer_folder)
    held: list[float] = []
    encode = Tokenizer.encode

    def spy(self: Tokenizer, audio: Any) -> Any:
        held.append(sum(len(wave) for wave in audio) / 16_000)
        return encode(self, audio)

    monkeypatch.setattr(grouping, "GROUP_SECONDS", 3.5)
    monkeypatch.setattr(Tokenizer, "encode", spy)
    pieces = run("tokenize", recordings, "--model", tokenizer_folder)
    assert held == [3.5, 3.0]
    assert pieces.out == whole.out


@pytest.mark.parametrize(("form", "name"), [("jsonl", "u.jsonl"), ("parquet", "u.parquet"), ("textgrid", "u")])
def test_tokenize_writes_every_exact_format(
    run: Run, recordings: Path, tokenizer_folder: Path, tmp_path: Path, form: str, name: str
) -> None:
    out = tmp_path / "new" / name
    ended = run("tokenize", recordings, "--model", tokenizer_folder, "--format", form, "--out", out)
    assert (ended.status, ended.out) == (0, "")
    tokenizer = Tokenizer.load(tokenizer_folder)
    found = read_segmentations(out)
    assert list(found) == ["r0", "r1", "r2"]
    assert all(value == tokenizer.encode(load_audio(recordings / f"{key}.wav")) for key, value in found.items())
    assert out.with_name(name + ".errors.jsonl").read_text(encoding="utf-8") == ""


def test_tokenize_writes_slamkit(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    exact = run("tokenize", recordings, "--model", tokenizer_folder).records
    found = run("tokenize", recordings, "--model", tokenizer_folder, "--format", "slamkit").records
    assert [record["units"] for record in found] == [record["unit"] for record in exact]
    assert [sum(record["duration"]) for record in found] == [record["num_frames"] for record in exact]


def test_tokenize_lists_bad_files_and_encodes_the_rest(
    run: Run, bad_files: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    ended = run("tokenize", bad_files, "--model", tokenizer_folder)
    assert ended.status == 0
    assert [record["id"] for record in ended.records] == ["c_good"]
    *skipped, summary = ended.lines
    assert summary.startswith("1 recording, ")
    assert summary.endswith(", 4 skipped")
    reasons = {"a_empty.wav": "is empty", "b_text.flac": "not readable", "d_silent.wav": "silent", "e_cut.wav": "trunc"}
    for name, reason in reasons.items():
        assert sum(f"{name}: " in line and reason in line for line in skipped) == 1, skipped

    out = tmp_path / "units.jsonl"
    ended = run("tokenize", bad_files, "--model", tokenizer_folder, "--out", out)
    listing = tmp_path / "units.jsonl.errors.jsonl"
    assert len(ended.lines) == 1
    assert f"4 skipped (see {listing})" in ended.err
    found = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    assert {Path(row["path"]).name for row in found} == set(reasons)

    chosen = tmp_path / "chosen.jsonl"
    run("tokenize", bad_files, "--model", tokenizer_folder, "--errors", chosen)
    assert chosen.read_text(encoding="utf-8") == listing.read_text(encoding="utf-8")


def test_tokenize_without_a_usable_recording(run: Run, bad_files: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    (bad_files / "c_good.wav").unlink()
    out = tmp_path / "units.jsonl"
    ended = run("tokenize", bad_files, "--model", tokenizer_folder, "--out", out)
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
    assert "no usable recording: " in ended.err
    assert "a_empty.wav: is empty" in ended.err
    assert "and 1 more" in ended.err
    assert not out.exists()
    assert len((tmp_path / "units.jsonl.errors.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_tokenize_a_manifest_with_excerpts(run: Run, recordings: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    rows = ["id,path,start,duration"]
    rows += [f"late,{recordings / 'r2.wav'},16000,1.0", f"whole,{recordings / 'r0.wav'},,"]
    table = tmp_path / "corpus.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    records = run("tokenize", table, "--model", tokenizer_folder).records
    assert [record["id"] for record in records] == ["late", "whole"]
    excerpt = load_audio(recordings / "r2.wav", start=16_000, stop=32_000)
    assert from_record(records[0]) == Tokenizer.load(tokenizer_folder).encode(excerpt)


def test_tokenize_a_recording_shorter_than_a_frame(
    run: Run, recordings: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    save_audio(tmp_path / "click.wav", np.full(100, 0.5, dtype=np.float32))
    files = [recordings / "r0.wav", tmp_path / "click.wav"]
    records = run("tokenize", *files, "--model", tokenizer_folder).records
    assert [record["num_frames"] for record in records] == [99, 0]
    ended = run("tokenize", *files, "--model", tokenizer_folder, "--format", "textgrid", "--out", tmp_path / "grids")
    assert ended.status == 0
    assert "1 recording, " in ended.err
    assert "1 skipped" in ended.err


def test_recordings_of_other_rates_and_channels(run: Run, tokenizer_folder: Path, tmp_path: Path) -> None:
    stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (44_100, 2))
    soundfile.write(tmp_path / "stereo.ogg", stereo, 44_100)
    (record,) = run("tokenize", tmp_path / "stereo.ogg", "--model", tokenizer_folder).records
    assert (record["sample_rate"], record["num_frames"]) == (16_000, 49)
