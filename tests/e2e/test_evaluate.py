"""`evaluate`: boundaries, purity and bit rate of models, baselines and files of units."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from command_line import Run


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
