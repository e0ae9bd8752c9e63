"""`evaluate phones` and `evaluate identity`: their results, and one clear line for bad input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syllablelm.cli.app import main
from syllablelm.data.alignment import read_alignments, write_alignments
from syllablelm.data.audio import save_audio


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status = main(["evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.startswith(("tokenize", "probe")))
    return line


@pytest.fixture
def lists(recordings: Path, alignments: Path, tmp_path: Path) -> dict[str, Path]:
    """Training recordings r0, r1, r2, and test recordings that are copies of two of them by other names."""
    test = tmp_path / "test"
    test.mkdir()
    found = []
    references = read_alignments(alignments)
    for name in ("r0", "r2"):
        shutil.copy(recordings / f"{name}.wav", test / f"t{name}.wav")
        reference = references[name]
        found.append(type(reference)(f"t{name}", reference.duration, reference.words))
    write_alignments(found, tmp_path / "test.jsonl")
    return {"train": recordings, "train_alignments": alignments, "test": test, "alignments": tmp_path / "test.jsonl"}


def test_phones_of_recordings_and_of_units(capsys, lists, tokenizer_folder, tmp_path):
    options = ["--alignments", lists["alignments"], "--train-alignments", lists["train_alignments"], "--device", "cpu"]
    options += ["--steps", 4, "--resamples", 20]
    heard = run(capsys, "phones", lists["test"], "--train", lists["train"], "--model", tokenizer_folder, *options)
    assert heard["evaluation"] == "phones"
    assert heard["model"] == str(tokenizer_folder)
    assert (heard["recordings"], heard["train"]["recordings"]) == (2, 3)
    assert heard["phone_error_rate"] == heard["edits"] / heard["reference"]
    assert heard["probe"]["steps"] == 4
    for name in ("train", "test"):
        out = tmp_path / f"{name}-units.jsonl"
        assert main(["tokenize", str(lists[name]), "--model", str(tokenizer_folder), "--out", str(out)]) == 0
    capsys.readouterr()
    units = run(capsys, "phones", tmp_path / "test-units.jsonl", "--train", tmp_path / "train-units.jsonl", *options)
    assert units["model"] is None
    assert {**units, "model": 0, "data": 0, "train": 0} == {**heard, "model": 0, "data": 0, "train": 0}

    mixed = fails(capsys, "phones", tmp_path / "test-units.jsonl", "--train", lists["train"],
                  "--model", tokenizer_folder, *options)  # fmt: skip
    assert "one tokenizer must make all units" in mixed


def test_phones_refuses_test_recordings_in_training(capsys, lists, tokenizer_folder):
    line = fails(
        capsys, "phones", lists["train"], "--alignments", lists["train_alignments"], "--train", lists["train"],
        "--train-alignments", lists["train_alignments"], "--model", tokenizer_folder, "--device", "cpu",
    )  # fmt: skip
    assert "train: 3 recordings also in the test list, such as 'r0'" in line


def test_identity(capsys, tokenizer_folder, tmp_path):
    place = tmp_path / "set" / "lexical" / "dev"
    place.mkdir(parents=True)
    rows = []
    for number, voice, correct in [(n, v, c) for n in (0, 1) for v in "AB" for c in (1, 0)]:
        stem = f"{number}{voice}{correct}"
        wave = 0.1 * np.random.default_rng(2 * number + correct).standard_normal(8_000)
        save_audio(place / f"{stem}.wav", wave.astype(np.float32), 16_000)
        rows.append((number, stem, voice, correct, "W ER D"))
    with (place / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "filename", "voice", "correct", "phones"), *rows])
    options = ["--model", tokenizer_folder, "--device", "cpu", "--resamples", 20]
    found = run(capsys, "identity", tmp_path / "set", *options)
    # Both voices are the same sound.
    assert (found["evaluation"], found["vector_accuracy"], found["words"]) == ("identity", 1.0, 2)
    assert found["data"] == {"name": str(tmp_path / "set"), "set": None, "recordings": 8}
    assert main(["evaluate", "identity", str(tmp_path / "set"), *map(str, options), "--format", "text"]) == 0
    assert "vectors  A to B" in capsys.readouterr().out
    assert "no lexical/dev/gold.csv" in fails(capsys, "identity", tmp_path, *options)
