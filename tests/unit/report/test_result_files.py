"""Which files below a folder are results, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.evaluation_results import RESULTS, write
from syllablelm.core.artifact import RECORD
from syllablelm.core.errors import FormatError, InputError
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
    ("text", "message"),
    [
        ("{", "bad.json: not JSON"),
        ("\udcff".encode("utf-8", "surrogateescape"), "bad.json: not JSON"),
        ("[1]", "bad.json: holds a list, not a JSON object"),
        ("{}", "bad.json: no result: it has no key 'evaluation'"),
        ('{"evaluation": 3}', "bad.json: evaluation 3 is unknown"),
        ('{"evaluation": "taste"}', "bad.json: evaluation 'taste' is unknown; known: boundaries, purity, "),
        ('{"evaluation": "speed"}', "bad.json: lacks 'model'"),
    ],
)
def test_bad_files_are_named_with_the_key(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((FormatError, InputError), match=message):
        read_inputs([path])


@pytest.mark.parametrize("name", RESULTS)
def test_damaged_results_are_named_with_the_key(name: str, tmp_path: Path) -> None:
    table = RESULTS[name].to_dict()
    with pytest.raises(FormatError, match=r"bad\.json: lacks 'data'"):
        read_inputs([write(tmp_path / "bad.json", {key: value for key, value in table.items() if key != "data"})])
    with pytest.raises(FormatError, match=r"bad\.json.*unknown key 'taste'"):
        read_inputs([write(tmp_path / "bad.json", table | {"taste": "x"})])


def test_missing_things(tmp_path: Path) -> None:
    kept = write(tmp_path / "scores" / "dev.json", {"key": "x", "stems": 3})
    result = write(tmp_path / "speed.json", SPEED)
    (tmp_path / "a.png").write_bytes(b"GIF")
    for paths in ([kept], [result, kept], [kept, result]):
        with pytest.raises(FormatError, match=r"dev\.json: no result: it has no key 'evaluation'"):
            read_inputs(paths)
    for name, message in (
        ("gone.json", "no such file"), ("gone.png", "cannot be read"), ("a.png", "not a PNG"), ("scores", "no result"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=rf"{re.escape(name)}: {message}"):
            read_inputs([tmp_path / name])
