"""A study: every law that the runs allow, as one file that `scale predict` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.core.results import Result
from syllablelm.scaling.fit import FittedLaw, fit_loss_law
from syllablelm.scaling.flops import Per
from syllablelm.scaling.isoflop import IsoFlopFit, fit_isoflops, has_budgets
from syllablelm.scaling.laws import PUBLISHED, LossLaw
from syllablelm.scaling.power import PowerLaw, ScoreLaw, ScoreLine, fit_envelope, fit_score_law, fit_score_line
from syllablelm.scaling.repetition_law import FittedRepetition, fit_repetition
from syllablelm.scaling.runs import Run, column, curve_points, losses, named_files, score_names


@dataclass(frozen=True)
class Study(Result):
    """Laws fitted to a set of runs.

    Args:
        per: unit of the losses.
        law: loss law of parameters and tokens, from the runs that saw no token twice.
        repetition: law of repeated data; None if no run repeats its data, or too few.
        envelope: power law of the least loss in FLOPs, as far as no token was seen twice; None with too few points.
        isoflops: parabolas of each budget; None unless the runs form budgets of several sizes.
        scores: power laws of compute by score.
        lines: lines on the loss by score.
        skipped: reasons by law that could not be fitted.
    """

    evaluation: ClassVar[str] = "scaling_study"

    per: Per
    law: FittedLaw
    repetition: FittedRepetition | None = None
    envelope: PowerLaw | None = None
    isoflops: IsoFlopFit | None = None
    scores: Mapping[str, ScoreLaw] = field(default_factory=dict)
    lines: Mapping[str, ScoreLine] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return plain JSON values without the resamples."""

        def without(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: without(item) for key, item in value.items() if key != "samples"}
            return [without(item) for item in value] if isinstance(value, list) else value

        return without(self.to_dict())

    @property
    def notes(self) -> list[str]:
        """Warnings about the fits."""
        status = [] if self.law.status == "ok" else [self.law.status]
        return status + [f"not fitted: {what}: {reason}" for what, reason in self.skipped.items()]


def fit_study(
    runs: Sequence[Run],
    *,
    per: Per = "token",
    huber_delta: float = 1e-3,
    saturation: float | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Study:
    """Fit the loss law, and whatever else the runs allow.

    Args:
        runs: training runs (`read_runs`).
        per: unit of the losses: nats per token of one tokenisation, or per second of audio.
        saturation: score from which runs are left out of the laws of scores.
        huber_delta, bootstrap, seed: see `fit_loss_law`.

    Raises:
        InputError: the loss law cannot be fitted, or the losses cannot be compared.
    """
    with named_files(runs):
        loss = losses(runs, per)
    params, tokens, flops = (column(runs, name) for name in ("params", "tokens", "flops"))
    unique = np.array([run.tokens if run.unique_tokens is None else run.unique_tokens for run in runs])
    once = np.array([not run.repeats for run in runs])
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    with named_files(runs):
        law = fit_loss_law(params[once], tokens[once], loss[once], huber_delta=huber_delta, **options)
    skipped: dict[str, str] = {}

    def attempt(what: str, fit: Callable[..., Any], *columns: Any, **more: Any) -> Any:
        try:
            return fit(*columns, **more, **options)
        except InputError as error:
            skipped[what] = str(error)
            return None

    envelope = attempt("envelope", fit_envelope, *curve_points(runs, per))
    isoflops, repetition = None, None
    if has_budgets(params, flops):
        isoflops = attempt("isoflops", fit_isoflops, params, loss, flops, tokens=tokens)
    if not once.all():
        columns = params, tokens, unique, loss
        repetition = attempt("repetition", fit_repetition, law, *columns, huber_delta=huber_delta)
    scores, lines = {}, {}
    for name in score_names(runs):
        rows = [k for k, run in enumerate(runs) if name in run.scores]
        values = np.array([runs[k].scores[name] for k in rows])
        scores[name] = attempt(f"score {name}", fit_score_law, flops[rows], values, saturation=saturation)
        lines[name] = attempt(f"line {name}", fit_score_line, loss[rows], values)
    scores, lines = ({name: fit for name, fit in fits.items() if fit is not None} for fits in (scores, lines))
    return Study(per, law, repetition, envelope, isoflops, scores, lines, skipped)


def load_law(name: str | Path) -> Study | LossLaw:
    """Read a study file, or return a published law by its name."""
    if Path(name).exists():
        return Study.load(name)
    if str(name) not in PUBLISHED:
        raise InputError(f"{name}: no such study, nor one of the published laws {', '.join(PUBLISHED)}")
    return PUBLISHED[str(name)]
