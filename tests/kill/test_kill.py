"""Every long command, killed at random moments and run again, gives what an unbroken run gives and leaves nothing."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.kills import _CONTEXT, Victim
from helpers.micro_recipe import RECIPE
from helpers.micro_speech_recipes import LM, LM_TABLE, SHAPE, VOCODER
from helpers.random_models import noise, small_corpus
from syllablelm.cli.app import main
from syllablelm.data.audio import save_audio

Commands = Callable[[Path], list[list[str]]]
pytestmark = [pytest.mark.kill, pytest.mark.slow]
# Seconds that the audio is older than the runs: younger times of modification are not trusted, so ledgers would differ.
AGE = 1e6


@pytest.fixture(scope="session")
def inputs(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, units, recipes, a language model and a benchmark, all of noise."""
    root = tmp_path_factory.mktemp("inputs")
    manifest = small_corpus(root / "audio", [12_000 + 700 * k for k in range(12)])
    manifest.save(root / "manifest.jsonl")
    for number, stem in enumerate(("x0a", "x0b", "x1a", "x1b", "x2a", "x2b")):
        save_audio(root / "lexical" / "dev" / f"{stem}.wav", noise(12_000 + 800 * number, number))
    rows = [
        {"id": stem[1], "filename": stem, "voice": "A", "frequency": 3 if stem[2] == "a" else "", "word": "w",
         "phones": "w", "length": 3, "correct": int(stem[2] == "a")}
        for stem in ("x0a", "x0b", "x1a", "x1b", "x2a", "x2b")
    ]  # fmt: skip
    with (root / "lexical" / "dev" / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for file in root.rglob("*.wav"):
        os.utime(file, (file.stat().st_mtime - AGE,) * 2)
    units = root / "units.jsonl"
    assert main(["tokenize", str(root / "audio"), "--model", str(tokenizer_folder), "--out", str(units)]) == 0
    shutil.copy(units, root / "valid.jsonl")
    names = {"TOKENIZER": tokenizer_folder, "UNITS": units, "AUDIO": root / "audio", "SOURCE": root / "audio"}
    names |= {"SHAPE": SHAPE, "LM_TABLE": LM_TABLE}
    for name, text in (("all", RECIPE), ("lm", LM), ("vocoder", VOCODER)):
        for word, value in names.items():
            text = text.replace(word, str(value))
        for steps in ("steps = 2", "steps = 3"):
            text = text.replace(steps, "steps = 40\ncheckpoint_every = 5\nlog_every = 4")
        (root / f"{name}.toml").write_text(text, encoding="utf-8")
    half = units.read_text(encoding="utf-8").splitlines(keepends=True)
    (root / "valid.jsonl").write_text("".join(half[:4]), encoding="utf-8")
    study = (root / "lm.toml").read_text(encoding="utf-8").replace("[lm]", f'valid = ["{root}/valid.jsonl"]\n[lm]', 1)
    (root / "study.toml").write_text(study, encoding="utf-8")
    plan = [
        f'{{"name": "r{k}", "layers": 1, "dim": {dim}, "heads": 2, "feed_forward": 32, "tokens": 2000}}'
        for k, dim in enumerate((16, 32))
    ]
    (root / "plan.jsonl").write_text("\n".join(plan) + "\n", encoding="utf-8")
    (root / "text.txt").write_text("The cat sat.\nA dog ran home.\nBirds sing at dawn.\nIt rains.\n", encoding="utf-8")
    recipe = str(root / "lm.toml")
    assert main(["train", "lm", recipe, "--out", str(root / "lm"), "--device", "cpu"]) == 0
    return root


@pytest.fixture
def commands(request: pytest.FixtureRequest, inputs: Path, tokenizer_folder: Path) -> Commands:
    """The arguments of a long command by name."""
    model, cpu = ["--model", str(tokenizer_folder)], ["--device", "cpu"]
    encode = ["encode", str(inputs / "manifest.jsonl"), *model, *cpu, "--shard-seconds", "1.6", "--batch-seconds", "1"]

    def of(out: Path) -> list[list[str]]:
        to = ["--out", str(out)]
        match request.param:
            case "encode":
                return [[*encode, *to, "--workers", "1"]]
            case "encode, two processes":
                return [[*encode, *to, "--workers", "2"]] * 2
            case "tokenize to Parquet":
                file = ["--out", f"{out}.parquet", "--format", "parquet"]
                return [["tokenize", str(inputs / "audio"), *model, *cpu, *file]]
            case "tokenize to jsonl":
                return [["tokenize", str(inputs / "audio"), *model, *cpu, "--out", f"{out}.jsonl"]]
            case "resynthesize":
                return [["resynthesize", str(inputs / "audio"), "--model", "tiny", *cpu, *to, "--overwrite"]]
            case "scale run":
                return [["scale", "run", str(inputs / "plan.jsonl"), str(inputs / "study.toml"), *to, *cpu]]
            case "evaluate lexical":
                models = [*model, "--lm", str(inputs / "lm" / "lm"), "--resamples", "20"]
                return [["evaluate", "lexical", str(inputs / "lexical"), *models, *cpu, *to]]
            case "prepare synthetic":
                return [["prepare", "synthetic", str(inputs / "text.txt"), *to, "--voices", "slt"]]
            case kind:
                train = kind.split()
                return [[*train, str(inputs / f"{train[1]}.toml"), *to, *cpu]]

    return of


COMMANDS = (
    "encode",
    "encode, two processes",
    "tokenize to Parquet",
    "tokenize to jsonl",
    "train all",
    "train lm",
    "train vocoder",
    "scale run",
    "evaluate lexical",
    "prepare synthetic",
)


@pytest.mark.parametrize("commands", COMMANDS, indirect=True)
def test_killed_and_run_again(commands: Commands, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = request.node.callspec.params["commands"]
    if name == "prepare synthetic" and shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    count = -(-request.config.getoption("--kills", 18) // len(COMMANDS))
    seed = request.config.getoption("--kill-seed", 0) + zlib.crc32(name.encode())
    victim = Victim(commands, tmp_path, seed)
    victim.kill(count)
    print(f"{name}: {victim.kills} kills, {victim.ends} whole outputs, {victim.seconds:.1f} s a run", file=sys.stderr)
    assert victim.faults == []


@pytest.mark.parametrize("commands", COMMANDS, indirect=True)
def test_a_full_disk(commands: Commands, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """One line, exit 2, nothing half written; with room again, the work goes on to the same end."""
    name = request.node.callspec.params["commands"]
    if name == "prepare synthetic" and shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    victim = Victim(commands, tmp_path, request.config.getoption("--kill-seed", 0) + zlib.crc32(name.encode()))
    victim.fill(3)
    print(f"{name}: {victim.kills} of 3 runs failed for want of room", file=sys.stderr)
    assert victim.faults == []


def test_the_harness_kills(tmp_path: Path) -> None:
    """What it reports as killed was killed: the process group, while it worked."""
    process = _CONTEXT.Process(target=signal.pause)
    process.start()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
