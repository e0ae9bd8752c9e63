"""Studies: what a plan's line makes of a recipe (the runs themselves are in tests/e2e)."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.recipes import build_recipe
from syllablelm.scaling import plan_study, read_study_plan
from syllablelm.train.lm_stage import LMConfig, LMRecipe
from syllablelm.train.loop import LoopConfig
from syllablelm.train.study_runs import StudyResult, StudyRun, read_plan, run_config, slow_update

RECIPE = LMConfig(LoopConfig(steps=1, lr=1e-3, accumulate=2), row_tokens=64, batch_tokens=512)
RUN = StudyRun("a", 2, 32, 1, 128, tokens=102_400)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("update", [None, 320, 1984, 4096])
def test_updates_do_not_depend_on_the_number_of_processes(processes: int, update: int | None) -> None:
    run = StudyRun("a", 2, 32, 1, 128, tokens=102_400, batch_tokens=update)
    config = run_config(RECIPE, run, processes)
    assert config.batch_tokens <= RECIPE.batch_tokens
    positions = config.batch_tokens * config.loop.accumulate * processes
    # Whole rows only, for every process: 5 and 33 of them are not 4 and 27.
    assert positions == (update or 1024) // (64 * processes) * 64 * processes
    assert config.loop.steps == round(102_400 / positions)
    assert (config.shape.layers, config.shape.dim, config.shape.positions) == (2, 32, RECIPE.shape.positions)


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 13, 14, 16, 17, 64, 65])
def test_micro_batches_are_the_largest_that_fit(rows: int) -> None:
    config = run_config(RECIPE, StudyRun("a", 2, 32, 1, 128, tokens=102_400, batch_tokens=64 * rows))
    best = max(size for size in range(1, 9) if rows % size == 0)
    assert (config.batch_tokens, config.loop.accumulate) == (64 * best, rows // best)
    said = slow_update(RECIPE, config)
    assert (said is not None) == (best < min(rows, 8) / 2)
    if said is not None:
        assert said.startswith(f"an update of {rows} rows is made of micro-batches of {best}, and the recipe's hold 8")
        assert "a batch_tokens of a multiple of 512" in said


def test_what_the_plan_leaves_open_is_the_recipes() -> None:
    config = run_config(RECIPE, RUN)
    assert (config.loop.lr, config.unique_tokens, config.crop_seconds) == (1e-3, 0, RECIPE.crop_seconds)
    config = run_config(RECIPE, StudyRun("a", 2, 32, 1, 128, 9, unique_tokens=7, lr=0.5))
    assert (config.loop.lr, config.unique_tokens, config.loop.steps) == (0.5, 7, 1)
    with pytest.raises(InputError, match="less than a row of 64 for each of 32 processes"):
        run_config(RECIPE, RUN, 32)


def test_the_plan_of_the_speech_scaling_study_fits_its_recipe() -> None:
    recipe = build_recipe(LMRecipe, "scaling_llama").lm
    assert recipe.row_tokens == recipe.shape.positions == 2050
    loop = recipe.loop
    assert (loop.beta1, loop.beta2, loop.weight_decay, loop.clip, loop.final_lr) == (0.9, 0.95, 0.1, 1.0, 0.1)
    for planned in plan_study(read_study_plan("speech")).runs:
        row = {key: value for key, value in planned.to_dict().items() if key in StudyRun.__dataclass_fields__}
        config = run_config(recipe, StudyRun(**row), processes=4)
        update = 4 * config.batch_tokens * config.loop.accumulate
        assert update == planned.batch_tokens
        assert config.loop.steps * update == pytest.approx(planned.tokens, rel=0.01)
        assert (config.shape.family, config.shape.feed_forward) == ("llama", planned.feed_forward)


def test_a_plan_of_another_family_is_refused() -> None:
    with pytest.raises(InputError, match=r"run a: planned for opt, but the recipe's lm\.shape\.family is llama"):
        run_config(build_recipe(LMRecipe, "scaling_llama").lm, RUN)
    with pytest.raises(InputError, match="planned for llama, but"):
        run_config(RECIPE, StudyRun("a", 2, 32, 1, 128, 9, family="llama"))


def test_plans_are_read_as_people_write_them(tmp_path: Path) -> None:
    line = '{"name": "%s", "layers": 1, "dim": 8, "heads": 1, "feed_forward": 8, "tokens": 1e6, "gpu_hours": 3}\n'
    path = tmp_path / "plan.jsonl"
    path.write_text(line % "a" + "\n" + line % "b", encoding="utf-8")
    assert [(run.name, run.tokens) for run in read_plan(path)] == [("a", 1_000_000), ("b", 1_000_000)]
    path.write_text(line % "a" + line % "a", encoding="utf-8")
    with pytest.raises(InputError, match="second run of the name a"):
        read_plan(path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_plan(tmp_path / "none")
    with pytest.raises(InputError, match="lr -1"):
        StudyRun("a", 1, 8, 1, 8, 9, lr=-1.0)


def test_a_result_names_the_first_failure() -> None:
    result = StudyResult(2, {"b": "the loss is not finite", "c": "x"}, "runs/study")
    assert StudyResult.from_dict(result.to_dict()) == result
    with pytest.raises(InputError, match="2 runs of 4 failed; b: the loss is not finite"):
        result.check()
    StudyResult(2, {}, "runs/study").check()
