"""``evaluate report`` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.evaluation_results import RESULTS, write, write_all
from syllablelm.cli.app import main


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syllablelm.report.build.has_matplotlib", lambda: False)
    monkeypatch.setattr("syllablelm.report.figures.has_matplotlib", lambda: False)


def test_the_command_prints_one_object_and_writes_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, out = write_all(tmp_path / "results"), tmp_path / "deep" / "report"
    assert main(["evaluate", "report", str(results), "--out", str(out)]) == 0
    told = capsys.readouterr()
    printed = json.loads(told.out)
    assert list(printed)[:3] == ["evaluation", "model", "data"]
    assert (printed["evaluation"], printed["model"]) == ("report", None)
    assert printed["data"] == {"name": str(results), "items": len(RESULTS)}
    assert printed["rows"] == {"1": 5, "2": 3, "3": 1, "4": 1, "5": 4, "6": 1, "7": 1, "9": 1, "S": 4}
    assert "no figures" in told.err
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "report.md"]


@pytest.mark.parametrize("text", ["not json", "[]", json.dumps({"evaluation": "taste", "data": {"name": "x"}})])
def test_bad_input_ends_with_2_and_one_line_and_writes_nothing(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "results" / "good.json", RESULTS["speed"])
    (tmp_path / "results" / "odd.json").write_text(text, encoding="utf-8")
    assert main(["evaluate", "report", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert "odd.json" in line
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
