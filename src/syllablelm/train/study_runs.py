"""The runs of a scaling study: language models of a plan, one after another, on one token store."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from syllablelm.core.artifact import Artifact
from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError, SyllableLMError, plural
from syllablelm.core.files import atomic_path, json_objects
from syllablelm.train.bundle import LMRecipe
from syllablelm.train.lm_stage import LMConfig, train_lm
from syllablelm.train.processes import is_main, join, on_main, total
from syllablelm.train.token_stage import make_tokens, tokenizer_info

RUNS_FOLDER, FAILED_FILE = "runs", "failed.json"


@dataclass(frozen=True)
class StudyRun:
    """One model of a study: a line of ``scale plan``. What it leaves open is the recipe's.

    Args:
        name: of its folder.
        layers, dim, heads, feed_forward: of the decoder.
        tokens: positions to train on, repetitions included; what is read of them is a little less, by the padding of
            rows, and the run's record tells how much.
        unique_tokens: of which only so many differ; None for as many as the recipe takes.
        lr: peak learning rate.
        batch_tokens: positions of an update, all processes together.
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

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise InputError(f"run {self.name!r}: the name must do as a folder's")
        for key in ("layers", "dim", "heads", "feed_forward", "tokens", "unique_tokens", "lr", "batch_tokens"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise InputError(f"run {self.name}: {key} {value} must be above 0")
        if self.dim % self.heads:
            raise InputError(f"run {self.name}: dim {self.dim} is not a multiple of heads {self.heads}")

    @property
    def cost(self) -> float:
        """Grows with the FLOPs, for the order of the runs."""
        return self.layers * self.dim * (2 * self.dim + self.feed_forward) * self.tokens


def read_plan(path: str | Path) -> list[StudyRun]:
    """Read a plan (jsonl); columns that training does not need are left out.

    Raises:
        FormatError: no such file, no runs, or a line that is none; the message gives the line.
        InputError: numbers out of range, or two runs of one name.
    """
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
    """The configuration of one run.

    An update has ``run.batch_tokens`` positions, or those of the recipe's micro-batch times ``accumulate``, in whole
    rows and shared out among the processes. Its micro-batches are equal, and as large as they can be without being
    larger than the recipe's. Steps are tokens over positions of an update, and everything that depends on their number
    (warm-up, decay) follows.

    Raises:
        InputError: an update of less than a row for each process.
    """
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
    """Why a run's micro-batches are less than half of what they could be; None where they are not."""
    most, micro = (each.batch_tokens // recipe.row_tokens for each in (recipe, config))
    rows = micro * config.loop.accumulate
    if 2 * micro >= min(most, rows):
        return None
    return (
        f"an update of {plural(rows, 'row')} is made of micro-batches of {micro}, and the recipe's hold {most}; a "
        f"batch_tokens of a multiple of {most * recipe.row_tokens} is faster"
    )


def train_study(
    runs: Sequence[StudyRun], recipe: LMRecipe, out: Path, *, device: str = "auto"
) -> tuple[list[Artifact], dict[str, str]]:
    """Train every run of a plan, the cheapest first; finished ones are skipped, a stopped one resumes.

    Args:
        recipe: of which ``units`` are made into the token stores of all runs; ``lm`` holds what the plan leaves open.
        out: with train/, valid/, runs/NAME and, after failures, failed.json: their reasons by name.

    Returns:
        the models of the runs that ended well, and why the others did not: a loss that is not finite, say.

    Raises:
        InputError: a recipe without held-out units, or a run that cannot be trained so.
    """
    if not recipe.units.valid:
        raise InputError("a scaling study is of held-out losses: name units in the recipe's units.valid")
    join(device)
    processes = int(total([1.0])[0])
    configs = {run: run_config(recipe.lm, run, processes) for run in sorted(runs, key=lambda run: run.cost)}
    info = tokenizer_info(recipe.units.tokenizer)
    train = make_tokens(recipe.units.train, info, out / "train", without=recipe.units.valid)
    valid = make_tokens(recipe.units.valid, info, out / "valid")
    done: list[Artifact] = []
    failed: dict[str, str] = {}
    for number, (run, config) in enumerate(configs.items(), start=1):
        _say(f"run {number} of {len(configs)}: {run.name}, {config.loop.steps} steps")
        if (reason := slow_update(recipe.lm, config)) is not None:
            _say(f"run {run.name}: {reason}")
        try:
            folder = out / RUNS_FOLDER / run.name
            done.append(train_lm(config, train, folder, valid=valid, seed=recipe.seed, device=device))
        except SyllableLMError as error:
            failed[run.name] = str(error)
            _say(f"run {run.name} failed: {error}")
        on_main(lambda: _write_failed(out / FAILED_FILE, failed))
    return done, failed


def _write_failed(path: Path, failed: Mapping[str, str]) -> None:
    if failed:
        with atomic_path(path) as part:
            part.write_text(json.dumps(failed, indent=2) + "\n", encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _say(text: str) -> None:
    if is_main():
        print(text, file=sys.stderr, flush=True)


def _whole(value: Any) -> Any:
    """1e6 is how people write a million."""
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value
