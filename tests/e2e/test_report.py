"""`evaluate report` from what the other verbs print, with random models on made-up recordings, and as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.command_line import Run
from helpers.evaluation_results import RESULTS, write, write_all
from helpers.random_models import noise
from syllablelm.data.audio import save_audio
from syllablelm.evaluate.evaluations import read_result


def test_verbs_print_what_the_report_reads(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, trained: Path, parts: Path, tmp_path: Path
) -> None:
    stories = tmp_path / "stories"
    stories.mkdir()
    for seed, name in enumerate(("0_8_incorrect", "1_8_correct", "2_9_correct", "3_9_incorrect")):
        save_audio(stories / f"{name}.wav", noise(16_000 + 1600 * seed, seed))
    model, references = ("--model", tokenizer_folder), ("--alignments", alignments)
    encoder = ("--encoder", trained / "iteration1" / "encoder", "--layers", "2")
    own = ("--count", "own", "--reference", "syllable,phone", "--baselines", "even")
    first = ("--count", "reference", *encoder, "--baselines", "even,losspred,minsum")
    commands: dict[str, tuple[object, ...]] = {
        "own": ("boundaries", recordings, *references, *model, *own),
        "first": ("boundaries", recordings, *references, *model, *first),
        "purity": ("purity", recordings, *references, *model),
        "bitrate": ("bitrate", recordings, *model),
        "stability": ("stability", recordings, *model, "--conditions", "mp3,gain-6"),
        "speed": ("speed", recordings, *model),
        "cloze": ("cloze", stories, "--out", tmp_path / "scores", *model, "--lm", parts / "lm"),
    }
    results = tmp_path / "results"
    results.mkdir()
    for name, command in commands.items():
        resamples = () if name == "speed" else ("--resamples", "5")
        ended = run("evaluate", *command, *resamples, "--device", "cpu")
        assert ended.status == 0, ended.err
        path = results / f"{name}.json"
        path.write_text(ended.out, encoding="utf-8")
        assert read_result(path).to_dict() == ended.result, "the class writes what was printed"

    ended = run("evaluate", "report", results, "--out", tmp_path / "report")
    assert ended.status == 0, ended.err
    assert ended.result["data"]["items"] == len(commands)
    rows = {name: count for name, count in ended.result["rows"].items() if count}
    # 1: own and given counts of the tokenizer and of even boundaries, losspred and minsum; 3: four likelihoods.
    assert rows == {"1": 6, "2": 1, "3": 4, "4": 2, "5": 2, "9": 1, "S": 2}
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    printed = json.loads((results / "own.json").read_text(encoding="utf-8"))
    scores = {row["level"]: row["f1@50"] for row in printed["rows"] if row["segmenter"] == str(tokenizer_folder)}
    assert f"**{100 * scores['syllable']:.1f}**" in text and f"**{100 * scores['phone']:.1f}**" in text
    assert "has no cell" not in text and "Passed over" not in text


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syllablelm.report.build.has_matplotlib", lambda: False)
    monkeypatch.setattr("syllablelm.report.figures.has_matplotlib", lambda: False)


def test_prints_one_object_and_writes_the_folder(run: Run, no_figures: None, tmp_path: Path) -> None:
    results, out = write_all(tmp_path / "results"), tmp_path / "deep" / "report"
    ended = run("evaluate", "report", results, "--out", out)
    assert ended.status == 0
    assert list(ended.result)[:3] == ["evaluation", "model", "data"]
    assert (ended.result["evaluation"], ended.result["model"]) == ("report", None)
    assert ended.result["data"] == {"name": str(results), "items": len(RESULTS)}
    assert ended.result["rows"] == {"1": 5, "2": 7, "3": 1, "4": 1, "5": 4, "6": 1, "7": 1, "9": 3, "S": 4, "Q": 4}
    assert "no figures" in ended.err
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "report.md"]


@pytest.mark.parametrize("text", ["not json", "[]", json.dumps({"evaluation": "taste", "data": {"name": "x"}})])
def test_bad_results_give_one_line_and_no_report(run: Run, text: str, tmp_path: Path) -> None:
    write(tmp_path / "results" / "good.json", RESULTS["speed"])
    (tmp_path / "results" / "odd.json").write_text(text, encoding="utf-8")
    ended = run("evaluate", "report", tmp_path / "results", "--out", tmp_path / "report")
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
    assert "odd.json" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
