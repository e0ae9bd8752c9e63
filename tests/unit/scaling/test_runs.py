"""Rows of runs: what is read, what is refused, and which points an envelope may take."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.scaling import Run, collect_runs, fit_study, read_groups, read_runs
from syllablelm.scaling.flops import Per
from syllablelm.scaling.runs import ONCE, collect_run, curve, curve_points

ROW: dict[str, Any] = {"params": 100, "tokens": 1000, "loss": 3.0}


def points_by_hand(runs: list[Run], per: Per) -> list[tuple[float, float]]:
    """Every end and every point on the way that no token was seen twice for, one by one."""
    found = []
    for run in runs:
        unique = math.inf if run.unique_tokens is None else run.unique_tokens
        ends = [*run.curve, (run.tokens, run.loss, run.nats_per_second)]
        for tokens, *values in ends:
            value = values[0 if per == "token" else 1]
            if tokens <= 1.05 * unique and value is not None:
                found.append((run.flops * tokens / run.tokens, value))
    return found


@pytest.mark.parametrize("per", ["token", "second"])
def test_an_envelope_takes_ends_and_ways_without_repeated_tokens(per: Per) -> None:
    rng = np.random.default_rng(0)
    runs = []
    for number in range(30):
        tokens, loss = float(rng.integers(1000, 9000)), float(rng.uniform(2, 4))
        unique = None if number % 3 == 0 else float(rng.integers(400, 9000))
        seen = np.sort(rng.integers(1, int(tokens), number % 5))
        way = tuple((float(at), loss + 1, None if number % 7 == 0 else 5 * loss + 1) for at in seen)
        runs.append(Run(50.0, tokens, loss, 3e5 * tokens, 5 * loss, "a", unique, curve=way))
    flops, loss, place = curve_points(runs, per)
    expected = points_by_hand(runs, per)
    alone = [len(points_by_hand([run], per)) for run in runs]
    assert place.tolist() == [k for k, count in enumerate(alone) for _ in range(count)]
    assert len(expected) < sum(len(run.curve) + 1 for run in runs)
    assert list(zip(flops, loss, strict=True)) == [pytest.approx(each) for each in expected]


def test_a_whole_pass_and_a_bit_counts_as_once() -> None:
    run = Run(1.0, 1050.0, 3.0, 1.0, unique_tokens=1000.0)
    assert ONCE == 1.05 and not run.repeats
    assert replace(run, tokens=1051.0).repeats
    assert not replace(run, unique_tokens=None).repeats
    # The first pass of a run that repeats its data is like any other's.
    way = ((500.0, 4.0, None), (1000.0, 3.5, None), (2000.0, 3.2, None))
    flops, loss, _ = curve_points([replace(run, tokens=4000.0, flops=8e3, curve=way)])
    assert (flops.tolist(), loss.tolist()) == ([1e3, 2e3], [4.0, 3.5])
    assert [found.shape for found in curve_points([replace(run, tokens=4000.0)])] == [(0,)] * 3


def test_mixed_tokenisations_have_no_points_per_token() -> None:
    runs = [Run(1.0, 9.0, 3.0, 1.0, 15.0, name) for name in "ab"]
    with pytest.raises(InputError, match="2 tokenisations"):
        curve_points(runs)
    assert curve_points(runs, "second")[1].tolist() == [15.0, 15.0]


def test_the_envelope_of_a_study_leaves_repeated_runs_out_and_takes_the_way() -> None:
    """Its exponent is that of the runs on fresh data, whatever the others reach."""
    fresh = [
        Run(n, d, 20 * (6 * n * d) ** -0.05 * (1 + 0.02 * abs(math.log(d / n / 20))), 6 * n * d)
        for n in (1e6, 3e6, 1e7)
        for d in (4 * n, 20 * n, 100 * n)
    ]
    again = [replace(run, tokens=9 * run.tokens, flops=9 * run.flops, loss=0.7 * run.loss, unique_tokens=run.tokens)
             for run in fresh]  # fmt: skip
    alone, both = fit_study(fresh).envelope, fit_study([*fresh, *again]).envelope
    assert alone is not None and both is not None
    assert (both.exponent, both.points, both.x_range) == (alone.exponent, alone.points, alone.x_range)
    ahead = replace(fresh[0], curve=((fresh[0].tokens / 4, 20 * (fresh[0].flops / 4) ** -0.05, None),))
    longer = fit_study([ahead, *fresh[1:]]).envelope
    assert longer is not None
    assert (longer.points, longer.x_range[0]) == (alone.points + 1, fresh[0].flops / 4)


def test_rows_come_back(tmp_path: Path) -> None:
    way = ((250.0, 5.0, 20.0), (500.0, 4.0, None))
    run = Run(100.0, 1000.0, 3.0, 6e5, 15.0, "t", 300.0, {"sblimp": 51.0}, "a", way)
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(run.to_dict()) + "\n" + json.dumps(ROW) + "\n", encoding="utf-8")
    first, second = read_runs(path)
    assert first == run
    # A record from before there were curves.
    assert (second.curve, second.unique_tokens, second.flops, second.repeats) == ((), None, 6e5, False)
    assert set(second.to_dict()) == {*ROW, "flops"}
    assert curve(first) == [(250.0, 1.5e5, 5.0), (500.0, 3e5, 4.0)]
    assert curve(first, "second") == [(250.0, 1.5e5, 20.0)]


def test_groups_of_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**ROW, "name": name}) + "\n", encoding="utf-8")
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    found = {label: [run.name for run in runs] for label, runs in read_groups([f"x={a}", f"x={b}", str(a)]).items()}
    assert found == {"x": ["a", "b"], "a": ["a"]}
    assert [run.name for run in read_runs(b, a)] == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unique_tokens": 0}, ": unique_tokens 0 must be above 0"),
        ({"unique_tokens": math.nan}, ".unique_tokens: must be a finite number, not nan"),
        ({"loss": math.nan}, ".loss: must be a finite number, not nan"),
        ({"loss": -2.0}, ": loss -2.0: must be above 0"),
        ({"tokens": 10**400}, ".tokens: must be a finite number"),
        ({"flops": 0}, ": flops 0.0: must be above 0"),
        ({"params": 1e200, "tokens": 1e200}, ": flops inf: must be a finite number"),
        ({"nats_per_second": math.inf}, ".nats_per_second: must be a finite number"),
        ({"scores": {"a": math.inf}}, r".scores.a: must be a finite number"),
        ({"scores": {"a": None}}, ": score a nan: must be finite"),
        ({"curve": 3}, ".curve: expected a list"),
        ({"curve": [[500]]}, r".curve\[\]: expected 3 values, got 1"),
        ({"curve": [[500, 0, None]]}, ": curve 0.0: must be above 0"),
        ({"curve": [[500, math.nan, 3]]}, r".curve\[\]\[\]: must be a finite number, not nan"),
        ({"curve": [[500, 4, "x"]]}, r".curve\[\]\[\]: expected float, got 'x'"),
        ({"curve": [[500, None, 3]]}, ": curve nan: must be"),
        ({"loss": True}, ".loss: expected float, got True"),
        ({"scores": 3}, ".scores: expected an object"),
        ({"tokens": None}, ": lacks 'tokens'"),
        ({"loss": None, "nats_per_second": None, "scores": {}}, ": neither a loss nor scores"),
    ],
)
def test_rows_that_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(FormatError, match=f"^runs.jsonl:1{reason}"):
        Run.from_dict({**ROW, **change}, "runs.jsonl:1")


def test_the_way_is_collected(tmp_path: Path) -> None:
    record = {**ROW, "valid": {"model": {"nats_per_token": 3.0, "nats_per_second": 15.0}}}
    (tmp_path / "run.json").write_text(json.dumps({**record, "curve": [[500, 4.0, 20.0]]}), encoding="utf-8")
    assert collect_run(tmp_path).curve == ((500.0, 4.0, 20.0),)
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert collect_run(tmp_path).curve == ()
    collected = collect_runs([tmp_path, tmp_path])
    assert ([run.curve for run in collected.runs], collected.left_out) == ([()], ())
