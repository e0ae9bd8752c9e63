"""`prepare`: manifests of recordings, and speech made from text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers.command_line import Run
from helpers.random_models import small_corpus
from syllablelm.data.manifest import Manifest


@pytest.mark.parametrize("verb", [["prepare"], ["prepare", "corpus"]])
def test_prepare_writes_a_manifest(run: Run, bad_files: Path, tmp_path: Path, verb: list[str]) -> None:
    out = tmp_path / "m.jsonl"
    ended = run(*verb, bad_files, "--out", out, "--check")
    assert ended.status == 0
    assert ended.result == {
        "manifest": str(out),
        "recordings": 1,
        "hours": pytest.approx(2 / 3600),
        "speakers": 0,
        "skipped": 4,
        "errors": str(tmp_path / "m.jsonl.errors.jsonl"),
    }
    assert [recording.id for recording in Manifest.load(out)] == ["c_good"]
    assert len(Path(ended.result["errors"]).read_text(encoding="utf-8").splitlines()) == 4


def test_prepare_without_check_reads_headers_only(run: Run, bad_files: Path, tmp_path: Path) -> None:
    # Silence shows only when the samples are decoded.
    assert run("prepare", "--out", tmp_path / "m.jsonl", bad_files).result["recordings"] == 2


def test_prepare_without_a_usable_recording(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    ended = run("prepare", tmp_path, "--out", tmp_path / "m.jsonl")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert not (tmp_path / "m.jsonl").exists()


def test_prepare_subset_draws_hours(run: Run, tmp_path: Path) -> None:
    small_corpus(tmp_path / "audio", [16_000] * 40).save(tmp_path / "all.jsonl")
    draws = []
    for seed in ("0", "0", "1"):
        ended = run("prepare", "subset", tmp_path / "all.jsonl", "--hours", "0.005", "--out", tmp_path / "part.jsonl",
                    "--seed", seed)  # fmt: skip
        assert (ended.status, ended.result["recordings"], ended.result["hours"]) == (0, 18, pytest.approx(0.005))
        draws.append([recording.id for recording in Manifest.load(tmp_path / "part.jsonl")])
    assert draws[0] == draws[1] != draws[2]
    ended = run("prepare", "subset", tmp_path / "all.jsonl", "--hours", "100", "--out", tmp_path / "part.jsonl")
    assert (ended.status, len(ended.lines)) == (2, 1)


def test_prepare_corpus_cuts_by_voice_activity(run: Run, tmp_path: Path) -> None:
    small_corpus(tmp_path / "audio", [16_000 * 9, 16_000])
    ended = run("prepare", "corpus", tmp_path / "audio", "--segment", "vad", "--max-seconds", "4", "--out",
                tmp_path / "m.jsonl")  # fmt: skip
    assert ended.status == 0 and ended.result["cut"] == 1 and ended.result["no_speech_hours"] >= 0
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert all(row["num_samples"] <= 4 * 16_000 for row in rows) and len(rows) >= 4
    assert {row["path"] for row in rows} == {"audio/r0.wav", "audio/r1.wav"}
    ended = run("prepare", "corpus", tmp_path / "audio", "--max-seconds", "4", "--out", tmp_path / "m2.jsonl")
    assert (ended.status, len(ended.lines)) == (2, 1)


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_prepare_synthetic_speaks_a_text(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "story.txt"
    text.write_text("The boat sailed north again. We all got into it. Nobody was left behind that day.", "utf-8")
    out = tmp_path / "spoken"
    ended = run("prepare", "synthetic", text, "--out", out, "--voices", "slt", "--limit", "2", "--format", "wav",
                "--speed", "0.9", "1.1", "--pitch", "1", "1")  # fmt: skip
    assert ended.status == 0
    rows = [json.loads(line) for line in Path(ended.result["manifest"]).read_text().splitlines()]
    assert all(0.9 <= row["speed"] <= 1.1 and row["pitch"] == 1.0 for row in rows)
    assert (ended.result["utterances"], ended.result["skipped"]) == (2, 0)
    manifest = Manifest.load(ended.result["manifest"])
    assert [recording.speaker for recording in manifest] == ["flite-slt"] * 2
    scores = run("evaluate", "boundaries", ended.result["manifest"], "--alignments", ended.result["alignments"],
                 "--baselines", "even,envelope")  # fmt: skip
    assert [row["segmenter"] for row in scores.result["rows"]] == ["even", "envelope"]
    assert scores.result["rows"][0]["reference"] >= 12
