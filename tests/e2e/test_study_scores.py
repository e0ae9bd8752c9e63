"""`scale score`: the models of a study on suites of pairs, from recordings or units, stopped and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers.command_line import Run
from helpers.pair_benchmark import make_benchmark, make_lm
from syllablelm.core.artifact import open_artifact
from syllablelm.evaluate.lm import study_scores
from syllablelm.evaluate.lm.scorer import score_stems
from syllablelm.evaluate.lm.study_scores import PairSuite, StudyScores, score_study
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_benchmark(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="module")
def models(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two models."""
    folder = tmp_path_factory.mktemp("study")
    for seed, name in enumerate(("a", "b")):
        make_lm(folder / "runs" / name, open_artifact(tokenizer_folder).digest, seed)
        valid = {"model": {"nats_per_token": 2.0 + seed, "nats_per_second": 9.0}}
        record = {"params": 1e5, "tokens": 1e6, "valid": valid}
        (folder / "runs" / name / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture
def study(models: Path, tmp_path: Path) -> Path:
    return shutil.copytree(models, tmp_path / "study")


@pytest.fixture
def score(run: Run, study: Path, tokenizer_folder: Path):
    return lambda *options: run("scale", "score", study, "--model", tokenizer_folder, "--device", "cpu", *options)


def test_the_scores_are_those_of_evaluate(
    score, run: Run, study: Path, benchmark_folder: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    (study / "runs" / "a" / "scores.json").write_text('{"mine": 7}', encoding="utf-8")
    options = (
        "--lexical",
        f"swuggy={benchmark_folder}",
        "--syntactic",
        benchmark_folder,
        "--cloze",
        benchmark_folder / "tSC",
    )
    ended = score(*options)
    assert ended.status == 0, ended.err
    result = StudyScores.from_dict(ended.result)
    assert result.recordings == {"swuggy": 6, "syntactic": 4, "cloze": 4}
    assert [Path(row.run).name for row in result.runs] == ["a", "b"]
    groups = {"swuggy": ("lexical", "all"), "syntactic": ("syntactic", "macro"), "cloze": ("cloze", "all")}
    seen = set()
    for row in result.runs:
        for name, (verb, group) in groups.items():
            folder = benchmark_folder / "tSC" if verb == "cloze" else benchmark_folder
            lm = ("--model", tokenizer_folder, "--lm", row.run, "--device", "cpu", "--resamples", 2)
            alone = run("evaluate", verb, folder, "--out", tmp_path / Path(row.run).name, *lm).result
            (accuracy,) = (each["accuracy"] for each in alone["rows"] if each["group"] == group)
            assert row.scores[name] == pytest.approx(100 * accuracy)
            seen.add((name, accuracy))
        written = json.loads((Path(row.run) / "scores.json").read_text(encoding="utf-8"))
        assert written == {**row.scores, **({"mine": 7} if row.run.endswith("a") else {})}
    assert len(seen) > len(groups), "two models of other weights have not all scores alike"
    assert not list(study.glob(".units*"))

    table = tmp_path / "runs.jsonl"
    assert run("scale", "collect", study, "--out", table).status == 0
    assert [json.loads(line)["scores"]["cloze"] for line in table.read_text(encoding="utf-8").splitlines()] == [
        row.scores["cloze"] for row in result.runs
    ]
    # Nothing is encoded or scored again, and one call does what the verb does.
    monkeypatch.setattr(Tokenizer, "encode", None)
    monkeypatch.setattr(SpeechLM, "log_probs", None)
    suites = {name: PairSuite(suite.kind, suite.folder) for name, suite in result.suites.items()}
    assert score_study([study], suites, model=tokenizer_folder, device="cpu") == result


def test_a_stopped_run_resumes(score, study: Path, benchmark_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_scores, "CHUNK", 2)
    monkeypatch.setitem(score_stems.__kwdefaults__, "chunk", 2)  # pyright: ignore[reportArgumentType]
    encode, likelihood = Tokenizer.encode, SpeechLM.log_probs
    encoded, scored = [], []

    def stop_encoding(self, audio):
        encoded.append(len(audio))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(self, audio)

    def stop_scoring(self, units):
        scored.append(len(units))
        if len(scored) == 5:
            raise KeyboardInterrupt
        return likelihood(self, units)

    monkeypatch.setattr(Tokenizer, "encode", stop_encoding)
    monkeypatch.setattr(SpeechLM, "log_probs", stop_scoring)
    options = ("--lexical", benchmark_folder)
    assert [score(*options).status for _ in range(3)] == [130, 130, 0]
    # Three blocks of two, each encoded once and scored once by each of two models, but for those that were stopped.
    assert encoded == [2] * 4
    assert scored == [2] * 7
    assert json.loads((study / "runs" / "b" / "scores.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in study.iterdir()) == ["runs"]


def test_units_instead_of_recordings(
    score, run: Run, study: Path, benchmark_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    units = tmp_path / "units.jsonl"
    assert run("tokenize", benchmark_folder, "--model", tokenizer_folder, "--out", units).status == 0
    audio = ("--syntactic", benchmark_folder, "--cloze", benchmark_folder / "tSC")
    ended = score("--syntactic", f"s={benchmark_folder}", "--cloze", f"c={benchmark_folder / 'tSC'}", "--units", units)
    assert ended.status == 0, ended.err
    assert [suite["units"] for suite in ended.result["suites"].values()] == [str(units), str(units)]
    from_audio = score(*audio)
    for one, two in zip(ended.result["runs"], from_audio.result["runs"], strict=True):
        assert list(one["scores"].values()) == list(two["scores"].values())
    refused = score(*audio, "--units", f"cloze={units}")
    assert (
        refused.status == 2
        and "cloze.txt holds scores of another model or other recordings; give the suite" in refused.err
    )


def test_refusals(score, run: Run, study: Path, benchmark_folder: Path, tmp_path: Path) -> None:
    assert "nothing to score" in score().err
    assert "--cloze NAME=" in score("--cloze", "x", "--cloze", "y").err
    assert "no suite of this name; there are cloze" in score("--cloze", "x", "--units", "y=z").err
    (study / "runs" / "b" / "scores.json").write_text('{"cloze": 50}', encoding="utf-8")
    ended = score("--cloze", benchmark_folder / "tSC")
    assert ended.status == 2 and "has another score cloze" in ended.err
    make_lm(study / "runs" / "c", "another")
    shutil.copy(study / "runs" / "a" / "run.json", study / "runs" / "c")
    ended = score("--cloze", f"t={benchmark_folder / 'tSC'}")
    assert ended.status == 2 and "trained on units of tokenizer another" in ended.err and "/c: " in ended.err
    assert not (study / "runs" / "a" / "scores").exists()
