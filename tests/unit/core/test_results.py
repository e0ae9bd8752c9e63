"""Records as JSON: what is written, what is read back, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.core.results import Estimate, Record, Result, json_key


@dataclass(frozen=True)
class Part(Record):
    count: int
    share: Estimate


@dataclass(frozen=True, kw_only=True)
class Example(Result):
    evaluation: ClassVar[str] = "example"
    derived: ClassVar[tuple[str, ...]] = ("half",)

    name: str
    f1_50: float = json_key("f1@50")
    score: Estimate
    part: Part | None = json_key(flat=True, default=None)
    rows: tuple[Part, ...] = ()
    intervals: Mapping[str, tuple[float, float]]
    note: str | None = json_key(omit_none=True)

    @property
    def half(self) -> float:
        return self.score.value / 2


PART = Part(3, Estimate(0.5, 0.25, 0.75))
WHOLE = Example(
    name="a", f1_50=0.5, score=Estimate(2.0), part=PART, rows=(PART, PART), intervals={"x": (0.0, 1.0)}, note="b"
)
BARE = Example(name="a", f1_50=0.5, score=Estimate(2.0, 1.0, 3.0), intervals={})


def test_the_form_in_json() -> None:
    assert WHOLE.to_dict() == {
        "evaluation": "example",
        "name": "a",
        "f1@50": 0.5,
        "score": 2.0,
        "count": 3,
        "share": 0.5,
        "share_low": 0.25,
        "share_high": 0.75,
        "rows": [{"count": 3, "share": 0.5, "share_low": 0.25, "share_high": 0.75}] * 2,
        "intervals": {"x": [0.0, 1.0]},
        "note": "b",
        "half": 1.0,
    }
    assert not {"note", "count", "part"} & set(BARE.to_dict())


@pytest.mark.parametrize("result", [WHOLE, BARE])
def test_a_result_is_read_back(result: Example, tmp_path: Path) -> None:
    result.save(tmp_path / "result.json")
    assert Example.load(tmp_path / "result.json") == result


def test_a_number_that_json_lacks_is_null() -> None:
    table = Example(name="a", f1_50=math.nan, score=Estimate(math.inf), intervals={}).to_dict()
    assert (table["f1@50"], table["score"]) == (None, None)
    assert math.isnan(Example.from_dict(table).f1_50)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"evaluation": "other"}, "here: a result of 'other', not of 'example'"),
        ({"surprise": 1}, "here: unknown key 'surprise'"),
        ({"name": 3}, "here.name: expected str"),
        ({"rows": [3]}, "here.rows"),
        ({"count": "3"}, "here.count: expected int"),
        ({"rows": None}, "here.rows: null, where a value is needed"),
        ({"rows": [None]}, "here.rows"),
        ({"intervals": {"x": None}}, "here.intervals.x: null"),
    ],
)
def test_other_objects_are_refused(change: dict, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Example.from_dict({**WHOLE.to_dict(), **change}, "here")


def test_missing_keys_are_refused() -> None:
    for key in ("name", "share"):
        table = WHOLE.to_dict()
        del table[key]
        with pytest.raises(FormatError, match=f"here: lacks '{key}'"):
            Example.from_dict(table, "here")
