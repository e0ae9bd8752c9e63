"""Run records: what a training run was and how well it ended, as rows of a jsonl file."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError, check_fields, check_positive, located
from syllablelm.core.files import json_objects, refuse_inputs, write_json_lines
from syllablelm.core.results import Record, json_key, read_json
from syllablelm.scaling.flops import FLOPS_PER_PARAM_TOKEN, Per
from syllablelm.scaling.resample import FloatArray

RUN_FILE, SCORES_FILE = "run.json", "scores.json"
# Tokens of up to this many passes count as seen once: a run ends at a whole update, and the law of repeated data gives
# such tokens their full worth to a thousandth.
ONCE = 1.05


@dataclass(frozen=True)
class Run(Record):
    """A training run.

    Args:
        params: non-embedding parameters.
        tokens: tokens seen in training.
        loss: held-out loss in nats per token; None for runs of which only scores are known.
        flops: training FLOPs, 6 N D unless measured.
        nats_per_second: held-out loss in nats per second of audio, comparable across tokenisations.
        tokenizer: identity of the tokens; None if unknown.
        unique_tokens: number of distinct training tokens; None if all.
        scores: scores of evaluations by name.
        name: name of the run.
        curve: held-out losses during training: tokens seen, nats per token and, where known, per second.
        place: file and line that it was read from, for messages; not saved.
    """

    params: float
    tokens: float
    loss: float | None
    flops: float
    nats_per_second: float | None = json_key(omit_none=True)
    tokenizer: str | None = json_key(omit_none=True)
    unique_tokens: float | None = json_key(omit_none=True)
    scores: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    curve: tuple[tuple[float, float, float | None], ...] = ()
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self, "params tokens loss flops nats_per_second", above=0, most=math.inf)
        if not self.has_loss and not self.scores:
            raise InputError("neither a loss nor scores")
        if self.unique_tokens is not None and not 0 < self.unique_tokens < math.inf:
            raise InputError(
                f"unique_tokens {self.unique_tokens:g} must be above 0; leave it out where all tokens differ"
            )
        for value in (value for point in self.curve for value in point if value is not None):
            check_positive("curve", value)
        for name, value in self.scores.items():
            if not math.isfinite(value):
                raise InputError(f"score {name} {value}: must be finite")

    @property
    def has_loss(self) -> bool:
        """Whether its held-out loss is known, in whatever unit."""
        return self.loss is not None or self.nats_per_second is not None

    @property
    def once_tokens(self) -> float:
        """Number of its tokens that count as seen once."""
        return math.inf if self.unique_tokens is None else ONCE * self.unique_tokens

    @property
    def repeats(self) -> bool:
        """Whether the run saw tokens again."""
        return self.tokens > self.once_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without what is empty."""
        return {key: value for key, value in super().to_dict().items() if value not in ({}, "", []) and key != "place"}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "run") -> Run:
        """Build a run from a row; columns that are no field are ignored, missing FLOPs are 6 N D."""
        known = {item.name for item in fields(cls)} - {"place"}
        row = {"loss": None} | {key: value for key, value in table.items() if key in known and value is not None}
        run = super().from_dict({"flops": 1.0, **row, "place": where}, where)
        with located(where):
            return run if "flops" in row else replace(run, flops=FLOPS_PER_PARAM_TOKEN * run.params * run.tokens)


def read_runs(*paths: str | Path) -> list[Run]:
    """Read jsonl files of rows with at least params, tokens, and a loss or scores.

    Raises:
        FormatError: no such file, no rows, or a row that is no run; the message gives the line.
    """
    runs = []
    for path in paths:
        rows = [Run.from_dict(row, where) for where, row in json_objects(Path(path))]
        if not rows:
            raise FormatError(f"{path}: no runs; write some with `syllablelm scale collect`")
        runs += rows
    return runs


def read_groups(arguments: Sequence[str]) -> dict[str, list[Run]]:
    """Read groups of runs from files written as ``LABEL=PATH`` or ``PATH``; the default label is the file's stem."""
    groups: dict[str, list[Run]] = {}
    for argument in arguments:
        label, equals, path = argument.partition("=")
        path = path if equals else argument
        groups.setdefault(label if equals else Path(path).stem, []).extend(read_runs(path))
    return groups


def collect_run(folder: str | Path) -> Run:
    """Read the record of a model of ``train lm``: run.json, and, if it exists, scores.json with numbers by name.

    Raises:
        FormatError: no run.json, a damaged one, or one with neither a held-out loss nor scores.
    """
    folder = Path(folder)
    record = read_json(folder / RUN_FILE)
    held_out = record.get("valid", {}).get("model") if isinstance(record.get("valid"), dict) else None
    if not isinstance(held_out, dict):
        if not (folder / SCORES_FILE).exists():
            raise FormatError(f"{folder / RUN_FILE}: no held-out loss; train with a `valid` set in the recipe")
        held_out = {}
    row = {**record, "loss": held_out.get("nats_per_token"), "nats_per_second": held_out.get("nats_per_second")}
    if (folder / SCORES_FILE).exists():
        row["scores"] = {**(row.get("scores") or {}), **read_json(folder / SCORES_FILE)}
    # `train lm` puts the model into a folder "lm" inside the run's.
    resolved = folder.resolve()
    name = resolved.parent.name if resolved.name == "lm" else resolved.name
    return Run.from_dict({**row, "name": name}, str(folder / RUN_FILE))


@dataclass(frozen=True)
class CollectedRuns:
    """Records of finished runs.

    Args:
        runs: the runs.
        left_out: reasons why folders were left out.
    """

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]

    def write(self, path: str | Path) -> None:
        """Write the runs as a jsonl file."""
        refuse_inputs([path], (run.place for run in self.runs))
        write_json_lines(Path(path), [run.to_dict() for run in self.runs])


def collect_runs(folders: Iterable[str | Path]) -> CollectedRuns:
    """Gather the records of all finished runs at or below folders, each once; unfinished stages are left out.

    Raises:
        InputError: no such folder, or no finished run in any.
    """
    runs, left_out = [], []
    seen: set[Path] = set()
    for root in map(Path, folders):
        if not root.is_dir():
            raise InputError(f"{root}: no such folder")
        # Folders of unfinished stages begin with a dot.
        files = [
            path
            for path in sorted(root.rglob(RUN_FILE))
            if not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
        if not files:
            left_out.append(f"{root}: no {RUN_FILE} below this folder")
        for file in files:
            # Folders may lie in one another, or be named twice.
            if file.resolve() not in seen:
                seen.add(file.resolve())
                try:
                    runs.append(collect_run(file.parent))
                except FormatError as error:
                    left_out.append(str(error))
    if not runs:
        raise InputError(f"no finished run: {'; '.join(left_out[:3])}")
    return CollectedRuns(tuple(runs), tuple(left_out))


def losses(runs: Sequence[Run], per: Per = "token") -> FloatArray:
    """Return the losses of runs, (runs,), if they can be compared: per token only those of one tokenisation."""
    name = "loss" if per == "token" else "nats_per_second"
    missing = [describe(run, number) for number, run in enumerate(runs) if getattr(run, name) is None]
    if missing:
        raise InputError(f"{len(missing)} of {len(runs)} runs have no {name} (first: {missing[0]})")
    if per == "second":
        return np.array([run.nats_per_second for run in runs], dtype=np.float64)
    kinds = sorted({str(run.tokenizer) for run in runs})
    if len(kinds) > 1:
        raise InputError(
            f"the runs have {len(kinds)} tokenisations ({', '.join(kinds[:3])}), whose losses per token cannot be "
            "compared; fit each alone, or all in nats per second of audio (--per second)"
        )
    return np.array([run.loss for run in runs], dtype=np.float64)


def describe(run: Run, number: int) -> str:
    """Return where a run was read, or its name or number, for messages."""
    return run.place or f"run {run.name or number}"


@contextmanager
def named_files(runs: Iterable[Run]) -> Generator[None, None, None]:
    """Put the files that runs were read from before the message of an InputError of the block."""
    files = list(dict.fromkeys(run.place.rpartition(":")[0] for run in runs if run.place))
    try:
        yield
    except InputError as error:
        raise InputError(f"{', '.join(files[:3])}: {error}" if files else str(error)) from None


def curve_points(runs: Sequence[Run], per: Per = "token") -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """Return the ends of runs and the points of their curves, as far as no token was seen twice.

    Returns:
        FLOPs, losses and indices of ``runs``, (points,) each: for each run its curve and then its end.
    """
    points: list[tuple[float, float, int]] = []
    for place, (run, end) in enumerate(zip(runs, losses(runs, per), strict=True)):
        points += [(flops, loss, place) for tokens, flops, loss in curve(run, per) if tokens <= run.once_tokens]
        if not run.repeats:
            points.append((run.flops, float(end), place))
    found = np.array(points, dtype=np.float64).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2].astype(np.intp)


def curve(run: Run, per: Per = "token") -> list[tuple[float, float, float]]:
    """Return the points of a run's curve that have a loss in the unit: tokens, FLOPs in proportion, loss."""
    each = run.flops / run.tokens
    values = [(tokens, nats if per == "token" else by_second) for tokens, nats, by_second in run.curve]
    return [(tokens, each * tokens, loss) for tokens, loss in values if loss is not None]


def column(runs: Sequence[Run], name: Literal["params", "tokens", "flops"]) -> FloatArray:
    """Return a column of the runs, (runs,)."""
    return np.array([getattr(run, name) for run in runs], dtype=np.float64)


def by_tokenizer(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs by tokenisation, in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(run.tokenizer), []).append(run)
    return groups


def score_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of all scores, sorted."""
    return sorted({name for run in runs for name in run.scores})


def check_columns(what: str = "", **columns: npt.ArrayLike) -> tuple[FloatArray, ...]:
    """Return columns of runs as arrays, (runs,) each, numbers repeated for all; ``what`` begins error messages."""
    start = f"{what}: " if what else ""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns.values()]
    try:
        arrays = [np.array(array) for array in np.broadcast_arrays(*arrays)]
    except ValueError:
        arrays = []
    if not arrays or arrays[0].ndim != 1:
        raise InputError(f"{start}{', '.join(columns)} must be lists of the same length, one number for each run")
    for name, array in zip(columns, arrays, strict=True):
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(bad):
            raise InputError(
                f"{start}{name} of run {bad[0]} is {array[bad[0]]:g}; every one must be above 0 and finite "
                f"({len(bad)} of {len(array)} are not)"
            )
    return tuple(arrays)
