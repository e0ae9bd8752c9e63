"""Plans: budgets, grids, files and JSON; names of runs are unique, readable and stable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.scaling import PUBLISHED, StudyPlan, plan_study, read_study_plan
from syllablelm.scaling.flops import shape_of
from syllablelm.scaling.plan import PlannedRun, PlannedStudy

SHAPES = ("1x64", "1x128", "3x128", "4x192")


def plan_grid(shapes: Sequence[str], tokens: Sequence[float], passes: Sequence[float] = (1.0,), **options: Any):
    """The runs of a grid."""
    plan = StudyPlan("grid", shapes=tuple(shapes), tokens=tuple(tokens), passes=tuple(passes), **options)
    return plan_study(plan).runs


def plan_runs(design: Any, flops: float, **options: Any) -> tuple[PlannedRun, ...]:
    """The runs for a budget."""
    return plan_study(StudyPlan(design, flops, **options)).runs


def test_the_runs_of_the_small_study_keep_their_names() -> None:
    """docs/scaling.md: finished runs are found by them."""
    names = [run.name for run in plan_grid(SHAPES, [4.5e4, 9e4, 1.8e5, 3.4e5])]
    assert names == [f"{n}M-{d}M" for n in ("0.0501", "0.199", "0.595", "1.78") for d in ("0.045", "0.09", 0.18, 0.34)]
    names = [run.name for run in plan_grid(SHAPES[:1], [1.36e6, 3.4e5], [4])]
    assert names == ["0.0501M-1.36M-x4", "0.0501M-0.34M-x4"]


def test_runs_that_are_nearly_alike_have_names_of_their_own() -> None:
    names = [run.name for run in plan_grid(SHAPES[:1], [1e5, 1.001e5, 2e5], [1, 4])]
    near = ["0.05011M-0.1M", "0.05011M-0.1M-x4", "0.05011M-0.1001M", "0.05011M-0.1001M-x4"]
    assert names == [*near, "0.0501M-0.2M", "0.0501M-0.2M-x4"]
    runs = plan_grid(SHAPES[:1], [1_000_000, 1_000_001], [4, 4.00001])
    assert len({run.name for run in runs}) == len(runs) >= 3
    # Rates do not change the names.
    rated = plan_grid(SHAPES[:1], [1_000_000, 1_000_001], [4, 4.00001], lr=(1e-3,), batch_tokens=(512,))
    assert [run.name for run in rated] == [run.name for run in runs]


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 10**13), min_size=1, max_size=6),
    passes=st.lists(st.floats(1, 50), min_size=1, max_size=4),
)
def test_every_name_is_one_runs(tokens: list[int], passes: list[float]) -> None:
    runs = plan_grid(SHAPES[:2], tokens, passes)
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        (3.37e9, "0.0501M-3.37B"),
        (9.996e8, "0.0501M-1B"),
        (9.99e8, "0.0501M-999M"),
        (1.089e11, "0.0501M-109B"),
        (2.5e12, "0.0501M-2.5T"),
        (1e3, "0.0501M-0.001M"),
    ],
)
def test_large_numbers_are_short(tokens: float, name: str) -> None:
    assert [run.name for run in plan_grid(SHAPES[:1], [tokens])] == [name]


def test_plans_for_a_budget_have_names_of_their_own() -> None:
    for flops in (1e15, 1e19, 1e24):
        for runs in (plan_runs("ratio", flops, sizes=4), plan_runs("isoflop", flops)):
            names = [run.name for run in runs]
            assert len(set(names)) == len(names) and not any("e+" in name for name in names)


def test_isoflop_plan_spends_the_budget() -> None:
    law = PUBLISHED["speech"]
    runs = plan_runs("isoflop", 1e19, budgets=4, sizes=5, step=3.0)
    assert len(runs) == 20
    assert sum(run.flops for run in runs) == pytest.approx(1e19, rel=1e-3)
    levels = np.array([run.flops for run in runs]).reshape(4, 5)
    assert levels / levels[:, :1] == pytest.approx(np.ones((4, 5)), rel=1e-3)
    assert levels[1:, 0] / levels[:-1, 0] == pytest.approx(3.0, rel=1e-3)
    for level in range(4):
        sizes = [run.params for run in runs[5 * level : 5 * level + 5]]
        assert sizes[0] < law.optimal(levels[level, 0]).N < sizes[-1]


def test_ratio_plan() -> None:
    runs = plan_runs("ratio", 1e18, ratios=(2.0, 20.0), sizes=3, unique_tokens=1e8)
    assert sum(run.flops for run in runs) == pytest.approx(1e18, rel=0.4)
    assert {round(run.tokens_per_param) for run in runs} == {2, 20}
    assert runs[0].epochs == pytest.approx(runs[0].tokens / 1e8, rel=1e-6)
    for bad in ({"sizes": 0}, {"ratios": (-1.0,)}, {"step": 1.0}):
        with pytest.raises(InputError):
            plan_runs("ratio", 1e18, **bad)
    with pytest.raises(InputError, match="no decoder"):
        plan_runs("ratio", 1e9)


def test_the_plan_of_the_speech_scaling_study() -> None:
    planned = plan_study(read_study_plan("speech"))
    runs = planned.runs
    sizes = {run.params: (run.layers, run.dim, run.heads, run.feed_forward) for run in runs}
    assert sizes == {
        20_453_888: (6, 512, 8, 1536),
        84_953_856: (12, 768, 12, 2048),
        154_166_272: (12, 1024, 16, 2816),
        308_331_520: (24, 1024, 16, 2816),
        822_151_168: (16, 2048, 32, 5632),
    }
    assert len(runs) == 40 and {run.family for run in runs} == {"llama"} and {run.lr for run in runs} == {5e-4}
    assert sorted({round(run.tokens_per_param) for run in runs}) == [2, 4, 8, 10, 20, 32, 64, 100]
    assert [{run.batch_tokens for run in runs if run.params == size} for size in sorted(sizes)] == [
        {2050 * sequences} for sequences in (64, 128, 256, 256, 512)
    ]
    # The largest on 82 billion tokens pass over the data 7.6 times.
    assert max(run.epochs or 0 for run in runs) == pytest.approx(7.55, abs=0.01)
    smaller = plan_study(read_study_plan("speech", ['shapes=["1x64"]', "ratios=[2]", "batch_tokens=[2050]"])).runs
    assert [(run.dim, run.feed_forward, run.family) for run in smaller] == [(64, 256, "llama")]


def test_grid_plan() -> None:
    runs = plan_grid(["1x32", "2x128"], [1e6, 4e6], [1, 4])
    assert len(runs) == len({run.name for run in runs}) == 8
    assert {(run.tokens, run.unique_tokens, run.epochs) for run in runs} == {
        (1_000_000, None, 1), (1_000_000, 250_000, 4), (4_000_000, None, 1), (4_000_000, 1_000_000, 4)
    }  # fmt: skip
    assert {(run.layers, run.heads, run.feed_forward) for run in runs} == {(1, 1, 128), (2, 2, 512)}
    assert {"unique_tokens", "lr"} & set(runs[0].to_dict()) == set()
    rated = plan_grid(["1x32", "2x128"], [1e6, 4e6], [1, 4], lr=(1e-2, 1e-3), batch_tokens=(2048,))
    assert {(run.dim, run.lr, run.batch_tokens) for run in rated} == {(32, 1e-2, 2048), (128, 1e-3, 2048)}
    with pytest.raises(InputError, match="3 learning rates for 2 sizes"):
        plan_grid(["1x32", "2x128"], [1e6], lr=(1.0, 2.0, 3.0))
    for bad in (([], [1e6], [1]), (SHAPES, [0.5], [1]), (SHAPES, [1e6], [0.5]), (SHAPES, [np.inf], [1])):
        with pytest.raises(InputError):
            plan_grid(*bad)
    for layers, dim in ((0, 64), (1, 0), (1, 100)):
        with pytest.raises(InputError, match="multiple of 64"):
            shape_of(layers, dim)


def test_a_plan_of_a_file_with_changes(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('design = "grid"\nshapes = ["1x64", "2x64"]\nlr = [4e-3]\ngpu = "a100"\n', encoding="utf-8")
    plan = read_study_plan(path, ["tokens=[1e6, 4e6]"], mfu=0.2, flops=None)
    assert plan == StudyPlan("grid", gpu="a100", mfu=0.2, shapes=("1x64", "2x64"), tokens=(1e6, 4e6), lr=(4e-3,))
    planned = plan_study(plan)
    assert planned.gpu_hours == pytest.approx(planned.flops / (0.2 * 312e12 * 3600))
    assert PlannedStudy.from_dict(json.loads(json.dumps(planned.to_dict()))) == planned
    planned.write(tmp_path / "plan.jsonl")
    lines = (tmp_path / "plan.jsonl").read_text(encoding="utf-8").splitlines()
    assert tuple(PlannedRun.from_dict(json.loads(line)) for line in lines) == planned.runs
    with pytest.raises(FormatError, match="unknown key 'token'; did you mean 'tokens'"):
        read_study_plan(path, ["token=3"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "needs a budget"),
        ({"flops": 1e18, "gpu_hours": 3.0}, "either in FLOP or in GPU hours"),
        ({"flops": -1.0}, "must be above 0"),
        ({"flops": 1e18, "unique_tokens": 0.0}, "unique_tokens 0"),
        ({"design": "grid", "flops": 1e18}, "leave budgets out"),
        ({"design": "grid", "tokens": (1e6,)}, "needs params"),
        ({"design": "ratio", "flops": 1e18, "shapes": ("2x64",)}, "either a budget, or sizes"),
        ({"design": "ratio", "params": (1e6,), "shapes": ("2x64",)}, "a ratio needs params"),
        ({"design": "grid", "shapes": ("2x64",), "params": (1e6,), "tokens": (1e6,)}, "needs params"),
        ({"design": "grid", "shapes": ("2-64",), "tokens": (1e6,)}, "layers x width"),
    ],
)
def test_plans_that_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        plan_study(StudyPlan(**options))
