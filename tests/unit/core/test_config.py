"""Recipes: TOML to frozen dataclasses and back, with errors that name the key."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.config import (
    MAX_SEED,
    apply_overrides,
    build,
    check_seed,
    parse_override,
    read_toml,
    to_table,
    to_toml,
)
from syllablelm.core.errors import FormatError, InputError


@dataclass(frozen=True)
class Loop:
    steps: int
    lr: float = 1e-3


@dataclass(frozen=True)
class Round:
    source: Literal["losspred", "envelope"] = "losspred"
    loop: Loop = Loop(5)


@dataclass(frozen=True)
class Example:
    name: str
    round: tuple[Round, ...] = ()
    widths: tuple[int, ...] = (1, 2)
    flag: bool = False
    limit: float | None = None
    loop: Loop = field(default_factory=lambda: Loop(1))


@dataclass(frozen=True)
class Numbers:
    rate: float = 1.0
    count: int = 1
    pair: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.count == 0:
            raise InputError("count 0 is refused")


@dataclass(frozen=True)
class Outer:
    inner: Numbers


def test_build_fills_nested_tables_and_defaults() -> None:
    example = build(Example, {"name": "x", "round": [{"loop": {"steps": 7, "lr": 1}}, {}], "widths": [4], "limit": 2})
    assert example == Example("x", (Round(loop=Loop(7, 1.0)), Round()), (4,), limit=2.0)
    assert isinstance(example.round[0].loop.lr, float)
    assert isinstance(example.limit, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param({"name": "x", "widhts": [1]}, r"unknown key 'widhts'; did you mean 'widths'\?", id="unknown"),
        pytest.param({"name": "x", "loop": {"stesp": 1}}, r"recipe\.loop: unknown key 'stesp'.*'steps'", id="nested"),
        pytest.param({}, "missing key 'name'", id="missing"),
        pytest.param({"name": "x", "loop": {}}, r"recipe\.loop: missing key 'steps'", id="nested missing"),
        pytest.param({"name": 3}, r"recipe\.name: expected str, got 3", id="type"),
        pytest.param({"name": "x", "loop": {"steps": 1.5}}, r"steps: expected int, got 1\.5", id="no rounding"),
        pytest.param({"name": "x", "loop": {"steps": True}}, "steps: expected int, got True", id="bool is no int"),
        pytest.param({"name": "x", "flag": 1}, "flag: expected bool, got 1", id="int is no bool"),
        pytest.param({"name": "x", "loop": {"steps": 1, "lr": "1"}}, "lr: expected float, got '1'", id="text"),
        pytest.param({"name": "x", "round": [{"source": "lospred"}]}, "'lospred' is not one of 'losspred'", id="word"),
        pytest.param({"name": "x", "widths": 4}, "widths: expected a list, got 4", id="list"),
        pytest.param({"name": "x", "loop": 4}, "loop: expected a table, got 4", id="table"),
    ],
)
def test_build_names_the_key_that_is_wrong(table: dict, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        build(Example, table)


def test_overrides_reach_tables_and_members_of_arrays() -> None:
    table = {"name": "x", "round": [{"loop": {"steps": 1}}, {"loop": {"steps": 2}}]}
    changed = apply_overrides(
        table, ["round.2.loop.steps=9", "loop.lr=0.5", "name=a b", "widths=[3, 4]", "flag=true", "loop.steps=4"]
    )
    assert changed["round"] == [{"loop": {"steps": 1}}, {"loop": {"steps": 9}}]
    assert build(Example, changed) == Example(
        "a b", (Round(loop=Loop(1)), Round(loop=Loop(9))), (3, 4), True, loop=Loop(4, 0.5)
    )
    assert table["round"][1]["loop"]["steps"] == 2, "the caller's table must stay as it was"
    assert apply_overrides(table, ["round.1={source = 'envelope'}"])["round"][0] == {"source": "envelope"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("steps", "write key=value", id="no value"),
        pytest.param("=3", "write key=value", id="no key"),
        pytest.param("name.first=3", "'name' is a value, not a table", id="inside a value"),
        pytest.param("round.3.loop.steps=3", "'round' has members 1 to 2, not '3'", id="no such member"),
        pytest.param("round.0.loop.steps=3", "'round' has members 1 to 2, not '0'", id="counted from 0"),
        pytest.param("round.loop.steps=3", "'round' has members 1 to 2, not 'loop'", id="no number"),
    ],
)
def test_overrides_that_cannot_be_applied(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_overrides({"name": "x", "round": [{}, {}]}, [text])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1e-3", 1e-3),
        ("a=true", True),
        ("a=word", "word"),
        ("a='1'", "1"),
        ("a=[1, 2]", [1, 2]),
        ("a=", ""),
    ],
)
def test_override_values_are_toml_or_words(text: str, value: object) -> None:
    assert parse_override(text) == (["a"], value)


names = st.text("abcdefgh_", min_size=1, max_size=6)
scalars = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
scalars |= st.text(max_size=5)
flat = st.dictionaries(names, scalars | st.lists(st.integers(-9, 9), max_size=3), max_size=3)
tables = st.dictionaries(
    names,
    scalars | flat | st.lists(flat, min_size=1, max_size=2) | st.dictionaries(names, flat, max_size=2),
    max_size=4,
)


@given(tables)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, table: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    path.write_text(to_toml(table), encoding="utf-8", newline="\n")
    assert read_toml(path) == table


def test_resolved_config_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config = Example("é", (Round("envelope", Loop(3)), Round()), limit=0.5)
    path.write_text(to_toml(to_table(config)), encoding="utf-8")
    assert build(Example, read_toml(path)) == config


def test_none_is_left_out() -> None:
    assert "limit" not in to_table(Example("x"))


@pytest.mark.parametrize("content", [b"a = [1,", b"\xff\xfe"])
def test_read_toml_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.toml: not a TOML file"):
        read_toml(path)
    with pytest.raises(FormatError, match="no such recipe"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(FormatError, match="not a TOML file"):
        read_toml(tmp_path)


def test_seeds_are_those_that_every_generator_takes() -> None:
    for seed in (0, MAX_SEED):
        check_seed(seed)
        np.random.RandomState(seed)
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(InputError, match=f"^seed {seed}: must be a whole number from 0 to 4294967295$"):
            check_seed(seed)
        with pytest.raises(ValueError, match=r"between 0 and 2\*\*32"):
            np.random.RandomState(seed)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    table = apply_overrides({}, [f"rate={number}"])
    with pytest.raises(FormatError, match=r"recipe\.rate: must be a finite number"):
        build(Numbers, table)


@pytest.mark.parametrize("value", [2**63, -(10**30), True, 1.0, "1", [1], {}, None, datetime.date(2000, 1, 1)])
def test_values_that_are_no_count_are_refused(value: object) -> None:
    with pytest.raises(FormatError, match=r"recipe\.count: "):
        build(Numbers, {"count": value})


def test_pairs_have_two_members() -> None:
    assert build(Numbers, {"pair": [1, 2.5]}).pair == (1.0, 2.5)
    with pytest.raises(FormatError, match=r"recipe\.pair: expected 2 values, got 3"):
        build(Numbers, {"pair": [1, 2, 3]})


@pytest.mark.parametrize("content", [b"a = " + b"[" * 5000, b"a = " + b"[" * 99 + b"]" * 99, b"a = " + b"9" * 5000])
def test_nested_too_deep_or_too_long(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.toml: not a TOML file"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(InputError, match="--set a"):
        apply_overrides({}, [content.decode().replace(" ", "")])


def test_dates_are_copied_and_line_ends_begin_no_keys() -> None:
    assert apply_overrides({"a": datetime.date(2000, 1, 1)}, ["b=1\nc = 2"]) == {
        "a": datetime.date(2000, 1, 1),
        "b": "1\nc = 2",
    }


def test_what_a_dataclass_refuses_names_the_place() -> None:
    with pytest.raises(InputError, match=r"^here\.toml\.inner: count 0 is refused"):
        build(Outer, {"inner": {"count": 0}}, "here.toml")
