"""`encode` as a user runs it: results, bad input, and real processes that are stopped, killed, and share the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.random_models import small_corpus
from syllablelm.data.audio import save_audio
from syllablelm.engine import encode_corpus, read_units

SOURCE = Path(__file__).resolve().parents[2] / "src"
# The command, but slower: a batch takes at least this many seconds.
SLOW = """
import faulthandler, signal, sys, time
# A shell that starts tests in the background has them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
faulthandler.dump_traceback_later(500)
from syllablelm.tokenizer.tokenizer import Tokenizer
features = Tokenizer.features
Tokenizer.features = lambda self, audio: (time.sleep({}), features(self, audio))[1]
from syllablelm.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
# The command, but it kills itself in the hard way when it is about to give a file its name for the Nth time.
SUICIDE = """
import faulthandler, os, signal, sys
faulthandler.dump_traceback_later(500)
left, replace = [int({})], os.replace
def deadly(*names):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
os.replace = deadly
from syllablelm.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve recordings of half a second to a second."""
    small_corpus(tmp_path / "audio", [8_000 + 700 * k for k in range(12)]).save(tmp_path / "m.jsonl")
    return tmp_path / "m.jsonl"


def command(manifest: Path, tokenizer_folder: Path, out: Path, *more: object) -> list[str]:
    options = {"--model": tokenizer_folder, "--device": "cpu", "--shard-seconds": 1.6, "--batch-seconds": 1.0}
    options |= dict(zip(more[::2], more[1::2], strict=True))
    return [str(item) for item in ("encode", manifest, "--out", out, *chain.from_iterable(options.items()))]


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((out / "shards").iterdir())}


def test_result(run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    save_audio(tmp_path / "audio" / "r5.wav", np.zeros(11_500, dtype=np.float32))
    with manifest.open("a") as file:
        file.write('{"path": "audio/none.wav"}\n')
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out"))
    assert ended.status == 0
    result = json.loads(ended.out)
    assert (result["recordings"], result["failed"], result["skipped"]) == (11, 1, 1)
    assert result["corpus"] == str(tmp_path / "out") and result["shards"] == 8
    assert "11 recordings, " in ended.err and "1 failed, 1 skipped" in ended.err
    units = list(read_units(tmp_path / "out"))
    assert [recording.id for recording, _ in units] == [f"r{k}" for k in range(12) if k != 5]
    assert result["segments"] == sum(len(segmentation) for _, segmentation in units)

    # The records are those of `tokenize`, and again is a look.
    tokenized = run("tokenize", manifest, "--model", tokenizer_folder, "--device", "cpu")
    records = {record["id"]: record for record in map(json.loads, tokenized.out.splitlines())}
    for recording, segmentation in units:
        assert records[recording.id]["unit"] == segmentation.unit.tolist()
        assert records[recording.id]["end"] == segmentation.end.tolist()
    again = run(*command(manifest, tokenizer_folder, tmp_path / "out"))
    assert (again.status, json.loads(again.out)) == (0, result)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--shard-seconds", "2.0"], "shard_seconds 1.6, not 2.0"),
        (["--rate", "4.0"], "rule.rate 5.0, not 4.0"),
        (["--precision", "bfloat16"], "precision float32, not bfloat16"),
        (["--model", "tiny"], "rule.method"),
    ],
)
def test_other_settings_are_refused(
    run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    encode_corpus(manifest, tmp_path / "out", tokenizer_folder, device="cpu", shard_seconds=1.6)
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out", *more))
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1 and words in ended.err and "choose another folder" in ended.err


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(lambda folder: (folder / "m.jsonl").unlink(), "m.jsonl: cannot be read", id="no manifest"),
        pytest.param(lambda folder: (folder / "m.jsonl").write_text(""), "the manifest is empty", id="empty"),
        pytest.param(lambda folder: (folder / "m.jsonl").write_text("{"), "m.jsonl:1: not valid JSON", id="damaged"),
        pytest.param(lambda folder: (folder / "m.jsonl").write_bytes(b"\xff\xfe{"), "UTF-8", id="not text"),
        pytest.param(lambda folder: (folder / "out").touch(), "is a file", id="file"),
        pytest.param(
            lambda folder: ((folder / "out").mkdir(), (folder / "out" / "x").touch()),
            "not empty and holds no corpus",
            id="foreign",
        ),
        pytest.param(
            lambda folder: [file.write_bytes(b"x") for file in (folder / "audio").iterdir()],
            "no usable recording",
            id="all unreadable",
        ),
    ],
)
def test_bad_input_is_one_line(
    run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path, prepare: Callable[[Path], Any], words: str
) -> None:
    prepare(tmp_path)
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out"))
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (2, "", 1), ended
    assert words in ended.err


@pytest.mark.parametrize("option", ["--batch-seconds", "--claim-timeout", "--shard-seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_numbers_out_of_range(
    run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path, option: str, value: str
) -> None:
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out", option, value))
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (2, "", 1), ended
    assert not (tmp_path / "out").exists()


def test_full_disk(
    run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out"))
    assert ended.status == 2 and ended.err.count("\n") == 1
    assert "000000.parquet: No space left on device" in ended.err


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
from syllablelm.cli.app import main
assert main(["encode", "--help"]) == 0 and main(["evaluate", "speed", "--help"]) == 0
assert not {"torch", "numpy", "pyarrow", "ray"} & set(sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--shard-seconds", "--batch-seconds", "--workers", "--precision", "--engine", "--clips"):
        assert option in done.stdout


def test_without_ray(
    run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out", "--engine", "ray"))
    assert (ended.status, len(ended.err.splitlines())) == (2, 1)
    assert "pip install 'syllablelm[ray]'" in ended.err


@pytest.mark.slow
def test_on_ray(run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert run(*command(manifest, tokenizer_folder, tmp_path / "whole")).status == 0
    ended = run(*command(manifest, tokenizer_folder, tmp_path / "out", "--engine", "ray"))
    assert ended.status == 0 and shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "whole")
    other = run(*command(manifest, tokenizer_folder, tmp_path / "out", "--engine", "ray", "--rate", "4.0"))
    assert other.status == 2 and "rule.rate 5.0, not 4.0" in other.err


# Real processes


def start(script: str, arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])}
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
        )


def wait_until(condition: Callable[[], bool], processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline and any(process.poll() is None for process in processes)
        time.sleep(0.02)


def wait_for(process: subprocess.Popen[bytes], log: Path) -> int:
    """Exit status; a process that hangs is ended, and shows where it was."""
    try:
        return process.wait(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(log.read_text())


def claims_of(out: Path, pid: int) -> list[str]:
    claims = []
    for file in (out / "claims").glob("*.claim"):
        try:
            claims += [file.stem] if json.loads(file.read_text())["pid"] == pid else []
        except (FileNotFoundError, ValueError):
            continue
    return claims


@pytest.mark.slow
def test_three_processes_of_which_one_is_killed(
    run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    assert run(*command(manifest, tokenizer_folder, tmp_path / "whole")).status == 0
    out = tmp_path / "out"
    processes = [
        start(SLOW.format(0.5), command(manifest, tokenizer_folder, out), tmp_path / f"{number}.log")
        for number in range(3)
    ]
    victim = processes[0]
    # In the middle: it has claims, and the corpus is begun.
    wait_until(lambda: bool(claims_of(out, victim.pid)) and any((out / "shards").glob("0*")), processes)
    victim.kill()
    victim.wait()
    lost = [name for name in claims_of(out, victim.pid) if not (out / "shards" / f"{name}.parquet").exists()]
    assert [wait_for(processes[number], tmp_path / f"{number}.log") for number in (1, 2)] == [0, 0]
    assert victim.returncode == -signal.SIGKILL
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole") and lost
    assert (out / "artifact.json").read_bytes() == (tmp_path / "whole" / "artifact.json").read_bytes()
    assert sorted(item.name for item in out.iterdir()) == ["artifact.json", "ledger", "plan", "shards"]


# What tasks wait for, so that none has done all before the others have started.
TOGETHER = """
import os, pathlib, time
here = pathlib.Path(os.environ["TOGETHER"])
import syllablelm.engine
(here / os.environ["SLURM_ARRAY_TASK_ID"]).touch()
while len(list(here.iterdir())) < int(os.environ["SLURM_ARRAY_TASK_COUNT"]):
    time.sleep(0.05)
"""


@pytest.mark.slow
def test_a_slurm_array_shares_one_folder(
    run: Run, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "m.jsonl"
    small_corpus(tmp_path / "audio", [14_000] * 30).save(manifest)
    (tmp_path / "together").mkdir()
    monkeypatch.setenv("TOGETHER", str(tmp_path / "together"))
    assert run(*command(manifest, tokenizer_folder, tmp_path / "whole")).status == 0
    out, processes = tmp_path / "out", []
    for number in range(3):
        # What Slurm sets for a task of `sbatch --array=0-2`; no job knows another's address.
        variables = {"JOB_ID": 70 + number, "ARRAY_JOB_ID": 70, "ARRAY_TASK_ID": number, "ARRAY_TASK_COUNT": 3}
        variables |= {"PROCID": 0, "LOCALID": 0, "NODEID": 0, "NTASKS": 1, "JOB_NODELIST": "n[1-3]", "CPUS_PER_TASK": 1}
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))
        script = TOGETHER + SLOW.format(0.5)
        processes.append(start(script, command(manifest, tokenizer_folder, out), tmp_path / f"{number}.log"))
    shares = [set[str]() for _ in processes]

    def have_worked() -> bool:
        for share, process in zip(shares, processes, strict=True):
            share.update(claims_of(out, process.pid))
        return all(shares)

    wait_until(have_worked, processes)
    ends = [wait_for(process, tmp_path / f"{number}.log") for number, process in enumerate(processes)]
    assert ends == [0, 0, 0], (tmp_path / "0.log").read_text()
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
    assert (out / "artifact.json").read_bytes() == (tmp_path / "whole" / "artifact.json").read_bytes()


@pytest.mark.slow
def test_the_submitit_example(run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    assert run(*command(manifest, tokenizer_folder, tmp_path / "whole")).status == 0
    example = SOURCE.parent / "examples" / "encode_with_submitit.py"
    options = ["--model", tokenizer_folder, "--device", "cpu", "--shard-seconds", "1.6", "--jobs", "2", "--gpus", "0"]
    done = subprocess.run(
        [sys.executable, example, manifest, "--out", tmp_path / "out", *options, "--cluster", "local"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"2 jobs, {len(shard_bytes(tmp_path / 'whole'))} shards, 12 recordings, ")
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_killed_again_and_again(run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    assert run(*command(manifest, tokenizer_folder, tmp_path / "whole")).status == 0
    out, statuses = tmp_path / "out", []
    # It dies while it gives a name to the manifest, to the plan, to a shard, to a ledger, ...
    for count in (1, 3, 4, 5, 6, 8):
        process = start(SUICIDE.format(count), command(manifest, tokenizer_folder, out), tmp_path / "log")
        statuses.append(wait_for(process, tmp_path / "log"))
    process = start(SUICIDE.format(0), command(manifest, tokenizer_folder, out), tmp_path / "log")
    assert wait_for(process, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert statuses[:4] == [-signal.SIGKILL] * 4
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
    assert sorted(item.name for item in out.iterdir()) == ["artifact.json", "ledger", "plan", "shards"]


@pytest.mark.slow
def test_interrupted_and_resumed(run: Run, manifest: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    assert run(*command(manifest, tokenizer_folder, tmp_path / "whole")).status == 0
    out, arguments = tmp_path / "out", command(manifest, tokenizer_folder, tmp_path / "out")
    process = start(SLOW.format(0.5), arguments, tmp_path / "log")
    wait_until(lambda: any((out / "shards").glob("0*")), [process])
    process.send_signal(signal.SIGINT)
    assert wait_for(process, tmp_path / "log") == 130
    assert (tmp_path / "log").read_text().splitlines()[-1] == "stopped; the same command resumes"
    assert list((out / "claims").iterdir()) == [] and not (out / "artifact.json").exists()
    assert run(*arguments).status == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
