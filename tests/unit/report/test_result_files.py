"""Which files below a folder are results, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.evaluation_results import RESULTS, write
from syllablelm.core.artifact import RECORD
from syllablelm.core.errors import FormatError
from syllablelm.core.results import Result
from syllablelm.report.result_files import read_inputs

SPEED = RESULTS["speed"]


def make_folder(folder: Path) -> Path:
    """Two results beside scores without "evaluation", a hidden file, and an artifact with a result inside."""
    for name in ("b.json", "deep/a.json", ".hidden/c.json", "model/metrics.json"):
        write(folder / name, SPEED)
    (folder / "model" / RECORD).write_text("{}")
    (folder / "scores.json").write_text('{"stems": 3}')
    (folder / "notes.txt").write_text("no result")
    return folder


def names(paths: object) -> list[str]:
    return [path.name for path in paths]  # type: ignore[attr-defined]


def test_results_below_a_folder_each_once(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "results")
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n...")
    found = read_inputs([folder / "deep" / "a.json", folder, str(folder / "b.json"), picture, picture])
    assert names(item.path for item in found.results) == ["a.json", "b.json"]
    assert (names(found.pictures), names(found.passed_over)) == (["p.png"], ["scores.json"])
    assert isinstance(SPEED, Result) and all(item.result == SPEED for item in found.results)


def test_results_in_memory_are_named_by_their_place(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert names(item.path for item in read_inputs([folder, SPEED, SPEED]).results)[:2] == ["speed[1]", "speed[2]"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"stems": 3}', "evaluation"),
        ("a.json", json.dumps({"evaluation": "taste"}), "taste"),
        ("a.json", "[1]", "a.json"),
        ("a.png", "not a picture", "a.png: not a PNG picture"),
        ("empty/a.txt", "nothing", "no result"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_inputs([path.parent if "/" in name else path])
    with pytest.raises(FormatError, match=r"gone\.png: cannot be read"):
        read_inputs([tmp_path / "gone.png"])
