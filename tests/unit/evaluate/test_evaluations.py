"""Every evaluation's result, read back by the class that wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.evaluation_results import RESULTS as EXAMPLES
from syllablelm.core.errors import FormatError
from syllablelm.evaluate.evaluations import RESULTS, parse_result, read_result


@pytest.mark.parametrize("name", EXAMPLES)
def test_results_are_read_back_by_their_class(name: str, tmp_path: Path) -> None:
    result = EXAMPLES[name]
    assert parse_result(json.loads(json.dumps(result.to_dict()))) == result
    result.save(tmp_path / "result.json")
    assert read_result(tmp_path / "result.json") == result
    assert RESULTS[name] is type(result)


def test_several_are_read_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.json" for name in ("speed", "bitrate")]
    for path in paths:
        EXAMPLES[path.stem].save(path)
    assert [read_result(path) for path in paths] == [EXAMPLES["speed"], EXAMPLES["bitrate"]]


def test_unknown_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="here: evaluation 'taste' is unknown; known: boundaries"):
        parse_result({"evaluation": "taste"}, "here")
    with pytest.raises(FormatError, match="here: no result"):
        parse_result({"model": "tiny"}, "here")
    with pytest.raises(FormatError, match=r"gone\.json: no such file"):
        read_result(tmp_path / "gone.json")
