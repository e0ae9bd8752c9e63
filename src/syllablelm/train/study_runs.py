"""The runs of a scaling study: language models of a plan, trained one after another on the same tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError, SyllableLMError, check_fields, plural
from syllablelm.core.files import atomic_path, json_objects
from syllablelm.core.progress import note
from syllablelm.core.recipes import build_recipe
from syllablelm.core.results import Record
from syllablelm.scaling.flops import Family
from syllablelm.train.lm_stage import LMConfig, LMRecipe, LMShape, make_token_stores, train_lm
from syllablelm.train.processes import is_main, join, on_main, total

RUNS_FOLDER, FAILED_FILE = "runs", "failed.json"


@dataclass(frozen=True)
class StudyRun:
    """One model of a study: a line of ``scale plan``. Values that are None are the recipe's.

    Args:
        name: name of its folder.
        layers, dim, heads, feed_forward: shape of the decoder.
        tokens: training tokens, repetitions and the padding of rows included; the run's record gives them without
            padding.
        unique_tokens: number of different tokens.
        lr: peak learning rate.
        batch_tokens: tokens per update, all processes together.
        family: family of the decoder, which must be the recipe's; None for an OPT.
    """

    name: str
    layers: int
    dim: int
    heads: int
    feed_forward: int
    tokens: int
    unique_tokens: int | None = None
    lr: float | None = None
    batch_tokens: int | None = None
    family: Family | None = None

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise InputError(f"run {self.name!r}: not usable as the name of a folder")
        try:
            LMShape(self.layers, self.dim, self.heads, self.feed_forward)
            check_fields(self, "tokens unique_tokens batch_tokens", least=1, most=2**63)
            check_fields(self, "lr", above=0)
        except InputError as error:
            raise InputError(f"run {self.name}: {error}") from None

    @property
    def cost(self) -> float:
        """Relative training cost, for the order of the runs."""
        return self.layers * self.dim * (2 * self.dim + self.feed_forward) * self.tokens


def read_plan(path: str | Path) -> list[StudyRun]:
    """Read a plan (jsonl); columns that training does not need are ignored."""
    known = {field.name for field in fields(StudyRun)}
    runs: dict[str, StudyRun] = {}
    for where, row in json_objects(Path(path)):
        run = build(StudyRun, {key: _whole(value) for key, value in row.items() if key in known}, where)
        if run.name in runs:
            raise InputError(f"{where}: a second run of the name {run.name}; rename one")
        runs[run.name] = run
    if not runs:
        raise FormatError(f"{path}: no runs; write some with `syllablelm scale plan --out`")
    return list(runs.values())


def run_config(recipe: LMConfig, run: StudyRun, processes: int = 1) -> LMConfig:
    """Return the configuration of one run.

    An update has ``run.batch_tokens`` tokens, by default the recipe's micro-batch times ``accumulate``, in whole rows
    divided among the processes. Its micro-batches are equal and as large as possible, but not larger than the recipe's.
    The number of steps is tokens over tokens per update; warm-up and decay follow from it.
    """
    planned, own = run.family or "opt", recipe.shape.family or "opt"
    if planned != own:
        raise InputError(f"run {run.name}: planned for {planned}, but the recipe's lm.shape.family is {own}")
    update = run.batch_tokens or recipe.batch_tokens * recipe.loop.accumulate
    rows = update // (recipe.row_tokens * processes)
    if rows < 1:
        raise InputError(
            f"run {run.name}: an update of {update} tokens is less than a row of {recipe.row_tokens} for each of "
            f"{processes} processes; raise batch_tokens or lower lm.row_tokens"
        )
    micro = min(rows, recipe.batch_tokens // recipe.row_tokens)
    while rows % micro:
        micro -= 1
    steps = max(1, round(run.tokens / (rows * recipe.row_tokens * processes)))
    shape = {"layers": run.layers, "dim": run.dim, "heads": run.heads, "feed_forward": run.feed_forward}
    return replace(
        recipe,
        loop=replace(recipe.loop, steps=steps, accumulate=rows // micro, lr=run.lr or recipe.loop.lr),
        shape=replace(recipe.shape, **shape),
        batch_tokens=micro * recipe.row_tokens,
        unique_tokens=run.unique_tokens or recipe.unique_tokens,
    )


def slow_update(recipe: LMConfig, config: LMConfig) -> str | None:
    """Return a warning where a run's micro-batches are less than half as large as possible, else None."""
    most, micro = (each.batch_tokens // recipe.row_tokens for each in (recipe, config))
    rows = micro * config.loop.accumulate
    if 2 * micro >= min(most, rows):
        return None
    return (
        f"an update of {plural(rows, 'row')} is made of micro-batches of {micro}, and the recipe's hold {most}; a "
        f"batch_tokens of a multiple of {most * recipe.row_tokens} is faster"
    )


@dataclass(frozen=True)
class StudyResult(Record):
    """The runs of a study.

    Args:
        runs: number of trained models.
        failed: error message of each failed run, by name.
        out: folder of the study.
    """

    runs: int
    failed: Mapping[str, str]
    out: str

    def check(self) -> None:
        """Raise an error if a run failed."""
        count = len(self.failed)
        for name, reason in self.failed.items():
            raise InputError(f"{plural(count, 'run')} of {self.runs + count} failed; {name}: {reason}")


def train_study(
    plan: str | Path,
    recipe: str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> StudyResult:
    """Train every run of a plan, the cheapest first; finished ones are skipped, a stopped one resumes.

    Args:
        plan: plan (jsonl) as ``scale plan`` writes it.
        recipe, overrides, device: see ``train_recipe``; the units of the recipe, which must be a language model's, are
            shared by all runs, its settings are those that the plan leaves open.
        out: output folder: train/, valid/, runs/NAME and, after failures, failed.json.

    Returns:
        the number of trained models, and the failures, such as a loss that is not finite.

    Raises:
        FormatError: a damaged plan or recipe.
        InputError: a recipe without held-out units, or a run that cannot be trained.
    """
    runs, shared, out = read_plan(plan), build_recipe(LMRecipe, recipe, overrides), Path(out)
    if not shared.units.valid:
        raise InputError("a scaling study compares held-out losses: name units in the recipe's units.valid")
    join(device)
    processes = int(total([1.0])[0])
    configs = {run: run_config(shared.lm, run, processes) for run in sorted(runs, key=lambda run: run.cost)}
    train, valid = make_token_stores(shared.units, out)
    failed: dict[str, str] = {}

    def write_failed() -> None:
        (out / FAILED_FILE).unlink(missing_ok=True)
        if failed:
            with atomic_path(out / FAILED_FILE) as part:
                part.write_text(json.dumps(failed, indent=2) + "\n", encoding="utf-8")

    for number, (run, config) in enumerate(configs.items(), start=1):
        _say(f"run {number} of {len(configs)}: {run.name}, {config.loop.steps} steps")
        if (reason := slow_update(shared.lm, config)) is not None:
            _say(f"run {run.name}: {reason}")
        try:
            train_lm(config, train, out / RUNS_FOLDER / run.name, valid=valid, seed=shared.seed, device=device)
        except SyllableLMError as error:
            failed[run.name] = str(error)
            _say(f"run {run.name} failed: {error}")
        on_main(write_failed)
    return StudyResult(len(configs) - len(failed), failed, str(out))


def _say(text: str) -> None:
    if is_main():
        note(text)


def _whole(value: Any) -> Any:
    """Accept 1e6 for 1000000."""
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value
