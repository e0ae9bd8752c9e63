"""The command line as a whole: it loads fast, and bad input ends it with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import Run

SOURCE = Path(__file__).resolve().parents[2] / "src"


# Lightness


def test_import_and_help_load_nothing_heavy() -> None:
    script = """
import sys
import syllablelm
assert not {"torch", "numpy"} & set(sys.modules), "import syllablelm"
from syllablelm.cli.app import main
groups = {"prepare": ["corpus", "synthetic"], "evaluate": ["boundaries", "purity", "bitrate"],
          "train": ["all", "encoder", "losspred", "sylboost", "codebook"]}
commands = [[], ["tokenize"], ["plot"], *([group] for group in groups)]
commands += [[group, verb] for group, verbs in groups.items() for verb in verbs]
for command in commands:
    assert main([*command, "--help"]) == 0, command
    print("==", *command)
assert main(["--version"]) == 0
loaded = {"torch", "transformers", "numpy", "scipy", "numba", "pyarrow", "rich"} & set(sys.modules)
assert not loaded, loaded
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for verb in ("tokenize", "plot", "prepare", "train", "evaluate"):
        assert f"\n  {verb} " in done.stdout
    # Every option of the contract is on the page of the verb it belongs to.
    assert done.stdout.count("--device auto|cpu|cuda") >= 9
    assert done.stdout.count("--set KEY=VALUE") == 5


def test_one_short_recording_needs_no_compiler() -> None:
    script = """
import sys
from syllablelm import Tokenizer
from syllablelm.core.models import BUNDLED
tokenizer, sample = Tokenizer.load("small", device="cpu"), BUNDLED / "sample.flac"
units = tokenizer.encode(sample)
assert not {"numba", "transformers", "pyarrow"} & set(sys.modules)
import syllablelm.segment.kernels
assert units == tokenizer.encode(sample)
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_module_is_the_command() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "syllablelm", "tokenize", "nowhere.wav"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: nowhere.wav: no such file or folder; check the name\n"


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "Missing command", id="nothing"),
        pytest.param(["tokenise"], "Did you mean 'tokenize'", id="verb"),
        pytest.param(["train", "everything"], "syllablelm train --help", id="stage"),
        pytest.param(["tokenize"], "Missing argument", id="no audio"),
        pytest.param(["tokenize", "a.wav", "--fromat", "jsonl"], "--format", id="option"),
        pytest.param(["tokenize", "a.wav", "--format", "xml"], "one of jsonl, parquet", id="format"),
        pytest.param(["tokenize", "a.wav", "--rate", "fast"], "'--rate'", id="number"),
        pytest.param(["tokenize", "a.wav", "--format", "parquet"], "give --out", id="binary to the terminal"),
        pytest.param(["tokenize", "none.csv"], "none.csv", id="no manifest"),
        pytest.param(["tokenize", "a.csv", "b.csv"], "must be the only argument", id="two manifests"),
        pytest.param(["plot", "none.wav"], "none.wav: no such file", id="plot"),
        pytest.param(["prepare", "none", "--out", "m.jsonl"], "none: no such file or folder", id="prepare"),
        pytest.param(["prepare", "none", "--out", "m.txt"], "ends in .jsonl", id="manifest name"),
        pytest.param(["prepare", "none"], "'--out'", id="prepare without out"),
        pytest.param(["prepare", "synthetic", "none.txt", "--out", "x"], "none.txt", id="no text"),
        pytest.param(["train", "all", "none.toml"], "none.toml: no such recipe", id="no recipe"),
        pytest.param(["evaluate", "boundaries", "a.wav"], "'--alignments'", id="no reference"),
        pytest.param(["evaluate", "boundaries", "a.wav", "--alignments", "none.jsonl"], "none.jsonl", id="reference"),
        pytest.param(["evaluate", "bitrate"], "give recordings, or --units", id="nothing to count"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1), ended
    assert ended.err.startswith("error: ")
    assert words in ended.err
    assert list(tmp_path.iterdir()) == []


def test_unknown_model_and_device_are_one_line(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    ended = run("tokenize", recordings, "--model", "giant")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "giant: no such model" in ended.err
    ended = run("tokenize", recordings, "--model", tokenizer_folder, "--device", "abacus")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "choose auto, cpu or cuda" in ended.err


def test_output_that_cannot_be_written_is_one_line(
    run: Run, recordings: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = run("tokenize", recordings, "--model", tokenizer_folder, "--out", tmp_path / "file" / "units.jsonl")
    assert (ended.status, len(ended.lines)) == (2, 1), ended
    assert str(tmp_path / "file") in ended.err
