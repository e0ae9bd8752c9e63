from __future__ import annotations

import json
import math

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.core.table import format_table

ROWS = [
    {"system": "even", "f1": 0.4164, "hits": 12},
    {"system": "envelope", "f1": np.float32(0.66449), "hits": np.int64(1234)},
    {"system": "none", "f1": None},
]


def test_text_is_aligned():
    assert format_table(ROWS).splitlines() == [
        "system       f1  hits",
        "--------  -----  ----",
        "even      0.416    12",
        "envelope  0.664  1234",
        "none          -     -",
    ]


def test_markdown_aligns_numbers_to_the_right():
    assert format_table(ROWS, {"system": "System", "f1": "F1@50"}, "markdown", digits=2).splitlines() == [
        "| System   | F1@50 |",
        "|----------|------:|",
        "| even     |  0.42 |",
        "| envelope |  0.66 |",
        "| none     |     - |",
    ]


def test_markdown_escapes_bars_and_joins_lines():
    assert format_table([{"a": "x|y\nz"}], style="markdown").splitlines()[-1] == "| x\\|y z |"


def test_json_keeps_numbers_in_full():
    rows = json.loads(format_table(ROWS, ["system", "hits", "f1"], "json"))
    assert rows[0] == {"system": "even", "hits": 12, "f1": 0.4164}
    assert rows[1]["hits"] == 1234
    assert rows[2] == {"system": "none", "hits": None, "f1": None}
    assert json.loads(format_table([{"x": math.nan}, {"x": math.inf}], style="json")) == [{"x": None}, {"x": None}]


def test_no_rows():
    assert format_table([], ["system"]).splitlines() == ["system", "------"]
    assert json.loads(format_table([], style="json")) == []


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="csv"):
        format_table(ROWS, style="csv")
    with pytest.raises(InputError, match="'f2'"):
        format_table(ROWS, ["system", "f2"])
