"""`train`: a recipe from its recordings to a tokenizer, whole, in parts, stopped and resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Run


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
    from syllablelm.train.pretrain import MaskedPredictionTask

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
    assert ended.lines[-1] == "stopped; the same command resumes"
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
        pytest.param(["--set", "data.min_seconds=39"], "no usable recording", id="nothing left"),
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


def test_recipes_are_listed_and_shown(run: Run, tmp_path: Path) -> None:
    listed = {record["name"]: record for record in run("recipes", "list").records}
    assert listed["hubert_625"]["kind"] == "tokenizer" and listed["small_vocoder"]["kind"] == "vocoder"
    assert "6.25 Hz" in listed["hubert_625"]["description"]
    assert run("recipes", "list", "--format", "text").out.startswith("name")
    shown = run("recipes", "show", "hubert_625", "--set", "codebook.units=9")
    path = tmp_path / "hubert_625.toml"
    path.write_text(shown.out, encoding="utf-8")
    assert run("recipes", "show", path).out == shown.out
    table = run("recipes", "show", path, "--format", "json").result
    assert (table["codebook"]["units"], table["round"][0]["boundaries"]["rate"]) == (9, 6.25)


def test_a_verb_takes_recipes_of_its_kind(run: Run) -> None:
    ended = run("train", "all", "speechlm_base_500")
    assert (ended.status, ended.out) == (2, "")
    assert "speechlm_base_500: a recipe of kind lm, not tokenizer; use `train lm`" in ended.lines[-1]
    ended = run("train", "lm", "tiny", "--set", "rate=5")
    assert ended.status == 2 and "round.1.boundaries.rate 4.7 disagrees with the recipe's rate 5" in ended.lines[-1]
