"""A study: every law that the runs allow, as one file that `scale predict` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.scaling.downstream import ScoreLaw, ScoreLine, fit_score_law, fit_score_line
from syllablelm.scaling.envelope import fit_envelope
from syllablelm.scaling.fit import NAMES, Diagnostics, FittedLaw, fit_loss_law
from syllablelm.scaling.isoflop import IsoFlop, IsoFlopFit, fit_isoflops, has_budgets
from syllablelm.scaling.laws import LossLaw
from syllablelm.scaling.power import PowerLaw
from syllablelm.scaling.repeated_data import FittedRepetition, fit_repetition
from syllablelm.scaling.resample import Interval
from syllablelm.scaling.runs import Per, Run, column, curve_points, losses, score_names

# 2: levels of intervals, p-values of scores and ranges of repeated data; version 1 is read without them.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Study:
    """What was fitted to a set of runs.

    Args:
        per: unit of the losses.
        law: of parameters and tokens, from the runs that saw no token twice.
        repetition: of repeated data; None if no run repeats its data, or too few.
        envelope: of least loss per FLOP, as far as the runs saw no token twice; None if there were too few points.
        isoflops: parabolas of each budget; None unless the runs are some sizes for each of some budgets.
        scores: by name, of compute; lines: by name, of loss.
        skipped: what could not be fitted, and why.
    """

    per: Per
    law: FittedLaw
    repetition: FittedRepetition | None = None
    envelope: PowerLaw | None = None
    isoflops: IsoFlopFit | None = None
    scores: Mapping[str, ScoreLaw] = field(default_factory=dict)
    lines: Mapping[str, ScoreLine] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def fit_study(
    runs: Sequence[Run],
    *,
    per: Per = "token",
    huber_delta: float = 1e-3,
    saturation: float | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Study:
    """Fit the loss law, and of the rest what the runs allow.

    Raises:
        InputError: the loss law cannot be fitted, or the losses cannot be compared.
    """
    loss = losses(runs, per)
    params, tokens, flops = (column(runs, name) for name in ("params", "tokens", "flops"))
    unique = np.array([run.tokens if run.unique_tokens is None else run.unique_tokens for run in runs])
    if not (unique > 0).all():
        raise InputError(f"unique_tokens of run {np.argmin(unique > 0)} must be above 0, or None if all tokens differ")
    once = np.array([not run.repeats for run in runs])
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    law = fit_loss_law(params[once], tokens[once], loss[once], huber_delta=huber_delta, **options)
    skipped: dict[str, str] = {}

    def attempt(what: str, fit: Callable[[], Any]) -> Any:
        try:
            return fit()
        except InputError as error:
            skipped[what] = str(error)
            return None

    envelope = attempt("envelope", lambda: fit_envelope(*curve_points(runs, per), **options))
    isoflops = None
    if has_budgets(params, flops):
        data = params, loss, flops
        isoflops = attempt("isoflops", lambda: fit_isoflops(*data, tokens=tokens, **options))
    repetition = None
    if not once.all():
        columns = params, tokens, unique, loss
        repetition = attempt("repetition", lambda: fit_repetition(law, *columns, huber_delta=huber_delta, **options))
    scores, lines = {}, {}
    for name in score_names(runs):
        rows = np.array([k for k, run in enumerate(runs) if name in run.scores])
        values = np.array([runs[k].scores[name] for k in rows])
        scores[name] = attempt(
            f"score {name}", lambda r=rows, v=values: fit_score_law(flops[r], v, saturation=saturation, **options)
        )
        lines[name] = attempt(f"line {name}", lambda r=rows, v=values: fit_score_line(loss[r], v, **options))
    kept = [{name: value for name, value in found.items() if value is not None} for found in (scores, lines)]
    return Study(per, law, repetition, envelope, isoflops, kept[0], kept[1], skipped)


def save_study(study: Study, path: str | Path) -> None:
    """Write a study as JSON."""
    record = {"format": FORMAT_VERSION, **study_to_dict(study, samples=True)}
    with atomic_path(path) as part:
        part.write_text(json.dumps(record) + "\n", encoding="utf-8")


def load_study(path: str | Path) -> Study:
    """Read what `save_study` wrote.

    Raises:
        FormatError: no such file, or not a study.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] > FORMAT_VERSION:
            raise FormatError(f"{path}: study format {record['format']} is newer than this package's; upgrade")
        law = dict(record["law"])
        law["diagnostics"] = Diagnostics(**law["diagnostics"])
        law["intervals"] = _intervals(law["intervals"])
        repetition, skipped = record["repetition"], record["skipped"]
        if repetition is not None and "intervals" not in repetition:
            # Format 1 kept the constants alone.
            repetition, skipped = None, {**skipped, "repetition": "fitted by an older version; fit the runs again"}
        return Study(
            record["per"],
            _build(FittedLaw, law, len(NAMES)),
            _build_repetition(repetition),
            None if record["envelope"] is None else _build(PowerLaw, record["envelope"], 2),
            _build_isoflops(record["isoflops"]),
            {
                score: ScoreLaw(
                    _build(PowerLaw, value["power"], 2),
                    value["saturation"],
                    value["saturated"],
                    *(math.nan if value.get(name) is None else value[name] for name in ("early", "late", "p_value")),
                )
                for score, value in record["scores"].items()
            },
            {name: _build(ScoreLine, value, 3) for name, value in record["lines"].items()},
            skipped,
        )
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: not a study of `syllablelm scale fit --out` ({error})") from None


def study_to_dict(study: Study, *, samples: bool = False) -> dict[str, Any]:
    """For JSON; NaNs become null, samples of resamples are left out unless asked for."""
    return _clean(asdict(study), samples)


def _clean(value: Any, samples: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(item, samples) for key, item in value.items() if samples or key != "samples"}
    if isinstance(value, np.ndarray):
        return _clean(value.tolist(), samples)
    if isinstance(value, list | tuple):
        return [_clean(item, samples) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _build(kind: Any, value: Mapping[str, Any], width: int) -> Any:
    """A law from its JSON: null is NaN, lists of two are intervals, samples are an array."""
    given = dict(value)
    unknown = set(given) - {each.name for each in fields(kind)}
    if unknown:
        raise KeyError(f"unknown {', '.join(sorted(unknown))}")
    samples = [[math.nan if item is None else item for item in row] for row in given.pop("samples")]
    for name, item in given.items():
        if item is None:
            given[name] = math.nan
        elif isinstance(item, list):
            given[name] = tuple(math.nan if each is None else each for each in item)
    return kind(**given, samples=np.array(samples, dtype=np.float64).reshape(-1, width))


def _intervals(value: Mapping[str, Any]) -> dict[str, Interval]:
    ends = {name: [math.nan if end is None else float(end) for end in pair] for name, pair in value.items()}
    return {name: (low, high) for name, (low, high) in ends.items()}


def _build_repetition(value: Mapping[str, Any] | None) -> FittedRepetition | None:
    if value is None:
        return None
    given = {**value, "law": LossLaw(**value["law"]), "intervals": _intervals(value["intervals"])}
    return _build(FittedRepetition, given, 2)


def _build_isoflops(value: Mapping[str, Any] | None) -> IsoFlopFit | None:
    if value is None:
        return None
    curves: list[dict[str, Any]] = [
        {name: math.nan if item is None else item for name, item in curve.items()} for curve in value["curves"]
    ]
    laws = (_build(PowerLaw, value[name], 2) for name in ("params", "tokens"))
    rest = {name: value[name] for name in ("resamples", "usable", "status") if name in value}
    return IsoFlopFit(tuple(IsoFlop(**curve) for curve in curves), *laws, **rest)
