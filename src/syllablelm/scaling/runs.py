"""Run records: what a training run was and how well it ended, as rows of a jsonl file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import json_objects
from syllablelm.scaling.laws import FLOPS_PER_PARAM_TOKEN

RUN_FILE, SCORES_FILE = "run.json", "scores.json"
Per = Literal["token", "second"]
FloatArray = npt.NDArray[np.float64]
# Tokens of so many passes count as seen once: a run ends at a whole update, and the law of repeated data gives such
# tokens their full worth to a thousandth.
ONCE = 1.05


@dataclass(frozen=True)
class Run:
    """A training run.

    Args:
        params: non-embedding parameters; tokens: seen in training.
        loss: held out, in nats per token.
        flops: of the training; 6 N D unless it was measured.
        nats_per_second: held out, in nats per second of audio: comparable across tokenisations.
        tokenizer: identity of the tokens; None if unknown.
        unique_tokens: how many of the tokens differ; None if all.
        scores: of evaluations, by name.
        name: for the reader.
        curve: held-out losses on the way: tokens seen, nats per token and, where known, per second.
    """

    params: float
    tokens: float
    loss: float
    flops: float
    nats_per_second: float | None = None
    tokenizer: str | None = None
    unique_tokens: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    curve: tuple[tuple[float, float, float | None], ...] = ()

    @property
    def once_tokens(self) -> float:
        """Up to so many of its tokens count as seen once."""
        return math.inf if self.unique_tokens is None else ONCE * self.unique_tokens

    @property
    def repeats(self) -> bool:
        """Whether the run saw tokens again."""
        return self.tokens > self.once_tokens

    def to_row(self) -> dict[str, Any]:
        """The record as a row, without what is unknown."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {}, "", ())}


def run_from_row(row: Mapping[str, Any], where: str) -> Run:
    """Read a row; columns that are not of a `Run` are left out.

    Raises:
        FormatError: a column is missing or no number; ``where`` begins the message.
    """
    values: dict[str, Any] = {}
    for name in ("params", "tokens", "loss"):
        values[name] = _number(row, name, where, required=True)
    for name in ("flops", "nats_per_second", "unique_tokens"):
        values[name] = _number(row, name, where, required=False)
    if values["unique_tokens"] is not None and not values["unique_tokens"] > 0:
        raise FormatError(
            f"{where}: unique_tokens {values['unique_tokens']:g} must be above 0; leave it out where all tokens differ"
        )
    if values["flops"] is None:
        values["flops"] = FLOPS_PER_PARAM_TOKEN * values["params"] * values["tokens"]
    scores = row.get("scores") or {}
    if not isinstance(scores, Mapping):
        raise FormatError(f'{where}: scores must be an object such as {{"sblimp": 55.1}}')
    values["scores"] = {name: _number(scores, name, where, required=True) for name in scores}
    values["curve"] = _curve(row.get("curve") or [], f"{where}: curve")
    tokenizer = row.get("tokenizer")
    return Run(**values, tokenizer=None if tokenizer is None else str(tokenizer), name=str(row.get("name") or ""))


def read_runs(path: str | Path) -> list[Run]:
    """Read a jsonl file of rows with at least params, tokens and loss.

    Raises:
        FormatError: no such file, no rows, or a row that is none; the message gives the line.
    """
    runs = [run_from_row(row, where) for where, row in json_objects(Path(path))]
    if not runs:
        raise FormatError(f"{path}: no runs; write some with `syllablelm scale collect`")
    return runs


def collect_run(folder: str | Path) -> Run:
    """The record of a finished run of ``train lm``: its run.json, and the scores.json beside it if there is one.

    Args:
        folder: of the language model; scores.json is an object of names and numbers.

    Raises:
        FormatError: no run.json, a damaged one, or one without scores on held-out units.
    """
    folder = Path(folder)
    record = _read_json(folder / RUN_FILE)
    held_out = record.get("valid", {}).get("model") if isinstance(record.get("valid"), dict) else None
    if not isinstance(held_out, dict):
        raise FormatError(f"{folder / RUN_FILE}: no held-out loss; train with a `valid` set in the recipe")
    row = {
        key: record.get(key) for key in ("params", "tokens", "flops", "tokenizer", "unique_tokens", "scores", "curve")
    }
    row |= {"loss": held_out.get("nats_per_token"), "nats_per_second": held_out.get("nats_per_second")}
    if (folder / SCORES_FILE).exists():
        row["scores"] = {**(row["scores"] or {}), **_read_json(folder / SCORES_FILE)}
    return run_from_row({**row, "name": _name(folder)}, str(folder / RUN_FILE))


def find_run_folders(root: str | Path) -> list[Path]:
    """Every folder at or below ``root`` that holds a run.json, in order; those of unfinished stages are left out."""
    return sorted(
        path.parent
        for path in Path(root).rglob(RUN_FILE)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def losses(runs: Sequence[Run], per: Per = "token") -> FloatArray:
    """The losses of runs that may be compared.

    Args:
        per: "token", of one tokenisation only, or "second" of audio.

    Raises:
        InputError: mixed tokenisations per token, or a run without nats per second.
    """
    if per == "second":
        missing = [run.name or str(number) for number, run in enumerate(runs) if run.nats_per_second is None]
        if missing:
            raise InputError(f"{len(missing)} of {len(runs)} runs have no nats_per_second (first: run {missing[0]})")
        return np.array([run.nats_per_second for run in runs], dtype=np.float64)
    kinds = sorted({str(run.tokenizer) for run in runs})
    if len(kinds) > 1:
        raise InputError(
            f"the runs are of {len(kinds)} tokenisations ({', '.join(kinds[:3])}), whose losses per token cannot be "
            "compared; fit each alone, or all in nats per second of audio (--per second)"
        )
    return np.array([run.loss for run in runs], dtype=np.float64)


def curve_points(runs: Sequence[Run], per: Per = "token") -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """The ends of runs and the points on their way, as far as no token was seen twice.

    Args:
        per: unit of the losses; a point that has none in it is left out.

    Returns:
        FLOPs, losses and places in ``runs``, (points,) each: of each run its curve and then its end.

    Raises:
        InputError: as for `losses`.
    """
    points: list[tuple[float, float, int]] = []
    for place, (run, end) in enumerate(zip(runs, losses(runs, per), strict=True)):
        points += [(flops, loss, place) for tokens, flops, loss in curve(run, per) if tokens <= run.once_tokens]
        if not run.repeats:
            points.append((run.flops, float(end), place))
    found = np.array(points, dtype=np.float64).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2].astype(np.intp)


def curve(run: Run, per: Per = "token") -> list[tuple[float, float, float]]:
    """The points on a run's way: tokens, FLOPs, which grow with them, and the loss in the unit, where there is one."""
    each = run.flops / run.tokens
    values = [(tokens, nats if per == "token" else by_second) for tokens, nats, by_second in run.curve]
    return [(tokens, each * tokens, loss) for tokens, loss in values if loss is not None]


def column(runs: Sequence[Run], name: Literal["params", "tokens", "flops"]) -> FloatArray:
    """A column of the runs."""
    return np.array([getattr(run, name) for run in runs], dtype=np.float64)


def by_tokenizer(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by their tokenisation, in the order in which they come."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(run.tokenizer), []).append(run)
    return groups


def score_names(runs: Sequence[Run]) -> list[str]:
    """Names of all scores, in order."""
    return sorted({name for run in runs for name in run.scores})


def _number(row: Mapping[str, Any], name: str, where: str, *, required: bool) -> float | None:
    value = row.get(name)
    if value is None and not required:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{where}: {name} must be a number, not {json.dumps(value, default=str)}")
    # NaN and the like are read, so that the fit can say how many runs are bad.
    if math.isinf(float(value)):
        raise FormatError(f"{where}: {name} is infinite")
    return float(value)


def _curve(points: Any, where: str) -> tuple[tuple[float, float, float | None], ...]:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) in (2, 3) for point in points):
        raise FormatError(f"{where} must be a list of [tokens, nats per token, nats per second]")
    found = []
    for point in points:
        for value in point[:2] if point[-1] is None else point:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise FormatError(f"{where}: {json.dumps(value, default=str)} must be a number above 0")
        by_second = point[2] if len(point) == 3 else None
        found.append((float(point[0]), float(point[1]), None if by_second is None else float(by_second)))
    return tuple(found)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file; give folders that `syllablelm train lm` wrote") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{path}: damaged ({error})") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path}: must hold one JSON object")
    return value


def _name(folder: Path) -> str:
    """The run's name: `train lm` puts the model into a folder "lm" of the run's own."""
    resolved = folder.resolve()
    return resolved.parent.name if resolved.name == "lm" else resolved.name
