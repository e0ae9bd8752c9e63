"""The command line as a user meets it: what goes to which stream, how it ends, and that the verbs fit together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from syllablelm.audio import load_audio, save_audio
from syllablelm.cli import common
from syllablelm.cli.app import main
from syllablelm.formats import from_record, read_segmentations
from syllablelm.manifest import Manifest
from syllablelm.tokenizer import Tokenizer

SOURCE = Path(__file__).resolve().parents[2] / "src"
KEYS = {"id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end"}


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


Run = Callable[..., Ended]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ended(status, *capfd.readouterr())

    return call


@pytest.fixture
def bad_files(tmp_path: Path, recordings: Path) -> Path:
    """A folder with one good recording between four that cannot be used."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a_empty.wav").touch()
    (folder / "b_text.flac").write_text("not audio at all", encoding="utf-8")
    shutil.copy(recordings / "r0.wav", folder / "c_good.wav")
    save_audio(folder / "d_silent.wav", np.zeros(8000, dtype=np.float32))
    whole = (recordings / "r2.wav").read_bytes()
    (folder / "e_cut.wav").write_bytes(whole[: len(whole) // 2])
    return folder


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
loaded = {"torch", "transformers", "numpy", "scipy", "numba", "pyarrow"} & set(sys.modules)
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
        pytest.param(["tokenize", "a.wav", "--format", "xml"], "'parquet'", id="format"),
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
    assert "giant: no such tokenizer" in ended.err
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


# tokenize


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

    monkeypatch.setattr(common, "GROUP_SECONDS", 3.5)
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


# plot


def test_plot_writes_a_picture(
    run: Run,
    recordings: Path,
    alignments: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    ended = run("plot", recordings / "r0.wav", "--model", tokenizer_folder)
    assert ended.result == {"picture": "r0.png", "segments": 10, "seconds": pytest.approx(1.98)}
    assert (tmp_path / "r0.png").read_bytes().startswith(b"\x89PNG")
    ended = run("plot", recordings / "r0.wav", "--model", tokenizer_folder, "--alignment", alignments, "--out", "p.svg")
    assert ended.status == 0
    assert "reference" in (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_plot_refuses_another_recordings_reference(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(recordings / "r0.wav", tmp_path / "other.wav")
    ended = run("plot", tmp_path / "other.wav", "--model", tokenizer_folder, "--alignment", alignments)
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "none of its 3 alignments has the id 'other'" in ended.err


# prepare


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


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_prepare_synthetic_speaks_a_text(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "story.txt"
    text.write_text("The boat sailed north again. We all got into it. Nobody was left behind that day.", "utf-8")
    out = tmp_path / "spoken"
    ended = run("prepare", "synthetic", text, "--out", out, "--voices", "slt", "--limit", "2", "--format", "wav")
    assert ended.status == 0
    assert (ended.result["utterances"], ended.result["skipped"]) == (2, 0)
    manifest = Manifest.load(ended.result["manifest"])
    assert [recording.speaker for recording in manifest] == ["flite-slt"] * 2
    scores = run("evaluate", "boundaries", ended.result["manifest"], "--alignments", ended.result["alignments"],
                 "--baselines", "even,envelope")  # fmt: skip
    assert [row["segmenter"] for row in scores.result["rows"]] == ["even", "envelope"]
    assert scores.result["rows"][0]["reference"] >= 12


# train

RECIPE = """
name = "micro"
[data]
sources = ["SOURCE"]
[[iteration]]
[iteration.labels]
num_labels = 5
[iteration.encoder]
crop_seconds = 2.0
[iteration.encoder.shape]
layers = 2
dim = 32
heads = 2
feed_forward = 64
conv_dim = [16, 16, 16, 16]
conv_kernel = [40, 9, 4, 2]
conv_stride = [10, 4, 4, 2]
position_kernel = 15
position_groups = 4
final_dim = 16
[iteration.encoder.loop]
steps = 3
batch_seconds = 4.0
[[round]]
[round.boundaries]
source = "losspred"
rate = 5.0
span = 10
gap = 30
[round.sylboost]
layer = 2
crop_seconds = 2.0
[round.sylboost.loop]
steps = 2
batch_seconds = 4.0
[codebook]
units = 6
centres = 12
[codebook.rule]
rate = 5.0
"""


@pytest.fixture(scope="session")
def recipe(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "micro.toml"
    path.write_text(RECIPE.replace("SOURCE", recordings.as_posix()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "micro"
    assert main(["train", "all", str(recipe), "--out", str(out), "--device", "cpu"]) == 0
    return out


def test_train_all_makes_a_tokenizer_and_is_not_done_twice(
    run: Run, recipe: Path, trained: Path, recordings: Path
) -> None:
    ended = run("train", "all", recipe, "--out", trained, "--device", "cpu")
    assert ended.status == 0
    assert ended.result["kind"] == "tokenizer"
    assert ended.result["path"] == str(trained / "tokenizer")
    assert ended.result["metrics"]["units_used"] == 6
    for stage in ("iteration1/labels", "iteration1/encoder", "round1/boundaries", "round1/encoder", "tokenizer"):
        assert f"{trained / stage} is finished, skipped" in ended.err
    records = run("tokenize", recordings, "--model", trained / "tokenizer").records
    assert [len(record["unit"]) for record in records] == [10, 7, 15]


@pytest.mark.parametrize(
    ("stage", "kind", "place"),
    [
        ("encoder", "encoder", "iteration1/encoder"),
        ("losspred", "boundaries", "round1/boundaries"),
        ("sylboost", "encoder", "round1/encoder"),
        ("codebook", "tokenizer", "tokenizer"),
    ],
)
def test_train_stops_at_the_stage_it_is_asked_for(
    run: Run, recipe: Path, trained: Path, tmp_path: Path, stage: str, kind: str, place: str
) -> None:
    order = ["iteration1/encoder", "round1/boundaries", "round1/encoder", "tokenizer"]
    out = tmp_path / "run"
    # What comes before the stage is there already, so that only this one is made here.
    shutil.copytree(trained, out)
    for later in order[order.index(place) :]:
        shutil.rmtree(out / later)
    ended = run("train", stage, recipe, "--out", out, "--device", "cpu")
    assert ended.status == 0
    assert (ended.result["kind"], ended.result["path"]) == (kind, str(out / place))
    assert [there for there in order if (out / there).exists()] == order[: order.index(place) + 1]
    record = json.loads((trained / place / "artifact.json").read_text(encoding="utf-8"))
    assert ended.result["digest"] == record["digest"], "the same inputs, config and seed give the same artifact"


def test_train_resumes_where_it_was_stopped(
    run: Run, recipe: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syllablelm.train.encoder import MaskedPredictionTask

    batch = MaskedPredictionTask.batch

    def interrupt(self: MaskedPredictionTask, number: int) -> Any:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(self, number)

    # Ctrl-C while the encoder is trained: it comes as the second batch is made.
    monkeypatch.setattr(MaskedPredictionTask, "batch", interrupt)
    out = tmp_path / "run"
    ended = run("train", "encoder", recipe, "--out", out, "--device", "cpu")
    assert (ended.status, ended.out) == (130, "")
    assert ended.lines[-1] == "stopped; run the same command to resume"
    assert not (out / "iteration1" / "encoder").exists()
    assert (out / "iteration1" / ".encoder.work" / "state.pt").exists()
    monkeypatch.undo()
    ended = run("train", "encoder", recipe, "--out", out, "--device", "cpu")
    assert ended.status == 0
    record = json.loads((trained / "iteration1" / "encoder" / "artifact.json").read_text(encoding="utf-8"))
    assert ended.result["digest"] == record["digest"]
    assert not (out / "iteration1" / ".encoder.work").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--set", "codebook.unts=3"], "unknown key 'unts'; did you mean 'units'?", id="unknown key"),
        pytest.param(
            ["--set", "codebook.units=few"], "micro.toml.codebook.units: expected int, got 'few'", id="wrong type"
        ),
        pytest.param(["--set", "iteration.2.labels.layer=3"], "'iteration' has members 1 to 1", id="no such member"),
        pytest.param(["--set", "data.sources=['nowhere']"], "nowhere: no such file or folder", id="no data"),
        pytest.param(["--set", "data.min_seconds=100"], "no usable recording", id="nothing left"),
        pytest.param(["--set", "round=[]"], "no [[round]], which sylboost needs", id="no round"),
        pytest.param(["--seed", "7"], "made with another recipe, seed or inputs", id="another seed"),
    ],
)
def test_train_with_a_bad_recipe_is_one_line(
    run: Run, recipe: Path, trained: Path, arguments: list[str], words: str
) -> None:
    ended = run("train", "sylboost", recipe, "--out", trained, "--device", "cpu", *arguments)
    assert (ended.status, ended.out) == (2, "")
    errors = [line for line in ended.lines if not line.startswith("corpus: ")]
    assert len(errors) == 1
    assert words in errors[0]


def test_train_overrides_reach_the_run(run: Run, recipe: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    shutil.rmtree(out / "tokenizer")
    ended = run("train", "all", recipe, "--out", out, "--device", "cpu", "--set", "codebook.units=4")
    assert ended.result["metrics"]["units_used"] == 4


# evaluate


def test_evaluate_boundaries_compares_everything(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, trained: Path, tmp_path: Path
) -> None:
    units = tmp_path / "units.jsonl"
    run("tokenize", recordings, "--model", tokenizer_folder, "--out", units)
    encoder = trained / "iteration1" / "encoder"
    ended = run(
        "evaluate", "boundaries", recordings, "--alignments", alignments, "--model", tokenizer_folder,
        "--baselines", "even,mel", "--encoder", encoder, "--layers", "1,2", "--predictor", encoder,
        "--units", units, "--against", "even", "--resamples", "50",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    rows = {row["segmenter"]: row for row in ended.result["rows"]}
    expected = [str(tokenizer_folder), "even", "mel", "losspred"]
    expected += ["similarity@1", "similarity@2", "minsum@1", "minsum@2", "peaks@1", "peaks@2", "units"]
    assert list(rows) == expected
    assert ended.result["protocol"]["name"] == "paper"
    assert ended.result["count"] == "reference"
    # Syllables of 0.2 s from the start of the recording: even cuts of the same count must find most of them.
    assert rows["even"]["f1@50"] > 0.85
    assert "gain" not in rows["even"]
    for name, row in rows.items():
        assert row["reference"] == rows["even"]["reference"]
        assert row["f1_low"] <= row["f1@50"] <= row["f1_high"]
        assert name == "units" or row["predicted"] == row["reference"], "as many groups as the reference has"


def test_evaluate_boundaries_by_the_models_own_count(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    units = tmp_path / "own.parquet"
    run("tokenize", recordings, "--model", tokenizer_folder, "--format", "parquet", "--out", units)
    ended = run(
        "evaluate", "boundaries", recordings, units, "--alignments", alignments, "--model", tokenizer_folder,
        "--baselines", "even", "--count", "own", "--resamples", "10",
    )  # fmt: skip
    model, even, own = ended.result["rows"]
    assert {key: value for key, value in model.items() if key != "segmenter"} == {
        key: value for key, value in own.items() if key != "segmenter"
    }
    assert even["predicted"] == model["predicted"]
    alone = run("evaluate", "boundaries", "--units", units, "--alignments", alignments, "--resamples", "10")
    assert alone.result["rows"] == [own]


def test_evaluate_boundaries_at_a_rate_as_text(run: Run, recordings: Path, alignments: Path) -> None:
    common_part = ["evaluate", "boundaries", recordings, "--alignments", alignments, "--baselines", "even"]
    slow, fast = (run(*common_part, "--count", rate).result["rows"][0]["predicted"] for rate in ("2", "8"))
    assert fast > 3 * slow
    ended = run(*common_part, "--format", "markdown")
    assert ended.out.splitlines()[0].startswith("protocol paper (")
    assert "| even" in ended.out
    with pytest.raises(json.JSONDecodeError):
        json.loads(ended.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--baselines", "evne"], "unknown segmenter 'evne'", id="baseline"),
        pytest.param(["--baselines", "even", "--count", "many"], "choose reference, own, or a number", id="count"),
        pytest.param(["--baselines", "even", "--count", "own"], "give --model NAME too", id="own without a model"),
        pytest.param(["--baselines", "even", "--against", "odd"], "'odd'", id="against"),
        pytest.param(["--baselines", "even", "--protocol", "peng"], "shift", id="protocol that needs a shift"),
        pytest.param(
            ["--baselines", "losspred"], "needs an encoder with its masked-prediction head", id="no predictor"
        ),
    ],
)
def test_evaluate_boundaries_refuses(
    run: Run, recordings: Path, alignments: Path, arguments: list[str], words: str
) -> None:
    ended = run("evaluate", "boundaries", recordings, "--alignments", alignments, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.lines[-1]


def test_evaluate_boundaries_says_what_it_leaves_out(
    run: Run, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(recordings, folder)
    shutil.copy(recordings / "r0.wav", folder / "unknown.wav")
    (folder / "broken.wav").touch()
    ended = run("evaluate", "boundaries", folder, "--alignments", alignments, "--baselines", "even")
    assert ended.lines[0] == "left out: 1 unusable, 1 without an alignment"
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(recordings / "r0.wav", one / "unknown.wav")
    ended = run("evaluate", "boundaries", one, "--alignments", alignments, "--baselines", "even")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "no recording has an alignment" in ended.err


def test_evaluate_purity_and_bitrate(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    units = tmp_path / "units.jsonl"
    run("tokenize", recordings, "--model", tokenizer_folder, "--out", units)
    by_model = run("evaluate", "purity", recordings, "--alignments", alignments, "--model", tokenizer_folder)
    assert by_model.status == 0
    score = by_model.result
    assert score["recordings"] == 3
    assert score["segments"] == 10 + 7 + 15
    assert 0 < score["cluster_purity_low"] <= score["cluster_purity"] <= score["cluster_purity_high"]
    assert run("evaluate", "purity", "--units", units, "--alignments", alignments).result == score

    rate = run("evaluate", "bitrate", recordings, "--model", tokenizer_folder).result
    assert rate["units"] == 32
    assert rate["bits_per_second"] == pytest.approx(rate["merged_unit_rate"] * np.log2(12))
    assert run("evaluate", "bitrate", units, "--num-units", "12").result == rate
    assert "bits_per_second" not in run("evaluate", "bitrate", units).result
    ended = run("evaluate", "bitrate", units, recordings)
    assert (ended.status, len(ended.lines)) == (2, 1)


def test_recordings_of_other_rates_and_channels(run: Run, tokenizer_folder: Path, tmp_path: Path) -> None:
    stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (44_100, 2))
    soundfile.write(tmp_path / "stereo.ogg", stereo, 44_100)
    (record,) = run("tokenize", tmp_path / "stereo.ogg", "--model", tokenizer_folder).records
    assert (record["sample_rate"], record["num_frames"]) == (16_000, 49)
