"""The examples that make tables of the cards, on a finished run of toy size."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from helpers.random_models import small_corpus
from syllablelm.data.alignment import Alignment, Interval, Word, write_alignments
from syllablelm.data.corpus import scan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def aligned(folder: Path, out: Path) -> list[str]:
    """Options that name the recordings of a folder and an alignment with a syllable every fifth of a second."""
    rows = []
    for recording in scan(folder)[0]:
        times = [n / 5 for n in range(int(recording.seconds * 5))]
        words = [Word("a", t, t + 0.2, (Interval("AA1", t, t + 0.2),)) for t in times]
        rows.append(Alignment(recording.id, recording.seconds, tuple(words)))
    write_alignments(rows, out)
    return ["--manifest", str(folder), "--alignments", str(out)]


def run_example(name: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [name, *options])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_rounds_in_the_papers_order(
    trained: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--run", str(trained), "--teacher", str(trained / "iteration1" / "encoder"), "--layer", "2"]
    options += aligned(recordings, tmp_path / "alignments.jsonl")
    run_example("compare_rounds.py", options, monkeypatch)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [row["segmenter"] for row in rows]
    assert names[0] == "even" and names[3] == "LossPred (MinCut)" and names[-1] == "SylBoost round 1 (MinSum)"
    assert "gain" not in rows[0] and all("gain_low" in row for row in rows[1:])


def test_rates_are_measured_once(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_corpus(tmp_path / "audio", [20_000] * 14)
    out = tmp_path / "rates.jsonl"
    options = ["--encoder", str(trained / "round1" / "encoder"), "--out", str(out), "--rates", "5,8", "--units", "4"]
    options += ["--stable", "1", "--no-probe", *aligned(tmp_path / "audio", tmp_path / "alignments.jsonl")]
    run_example("compare_rates.py", options, monkeypatch)
    before = out.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    assert [row["name"] for row in rows] == ["minsum 5 Hz, 4", "minsum 8 Hz, 4"]
    assert all(row["unit_edit_distance"] >= 0 and 0 <= row["snmi"] <= 1 for row in rows)
    run_example("compare_rates.py", options, monkeypatch)
    assert out.read_text() == before
