"""A study: every law that the runs allow, as one file that `scale predict` reads."""

from __future__ import annotations

import math
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
from syllablelm.scaling.repetition_law import PUBLISHED_REPETITION, FittedRepetition, RepetitionLaw, fit_repetition
from syllablelm.scaling.resample import UNKNOWN
from syllablelm.scaling.runs import Run, column, curve_points, losses, named_files, score_names

# Exponents of compute as printed by Cuervo & Marxer (2024, Table 4); their scales are not. For text BLiMP and the cloze
# sets as text, under the names of the spoken sets that they are compared with.
PUBLISHED_GAMMAS: dict[str, dict[str, float]] = {
    "text": {"sblimp": 0.066, "tstorycloze": 0.039, "sstorycloze": 0.046},
    "speech": {"sblimp": 0.021, "tstorycloze": 0.025, "sstorycloze": 0.017},
}


@dataclass(frozen=True)
class Study(Result):
    """Laws fitted to a set of runs.

    Args:
        per: unit of the losses.
        law: loss law of parameters and tokens, from the runs that saw no token twice; a published one has no runs, and
            None stands for runs of which only scores are known or can be fitted.
        repetition: law of repeated data; None if no run repeats its data, or too few.
        envelope: power law of the least loss in FLOPs, as far as no token was seen twice; None with too few points.
        isoflops: parabolas of each budget; None unless the runs form budgets of several sizes.
        scores: power laws of compute by score.
        lines: lines on the loss by score.
        skipped: reasons by law that could not be fitted.
    """

    evaluation: ClassVar[str] = "scaling_study"

    per: Per
    law: FittedLaw | LossLaw | None
    repetition: FittedRepetition | RepetitionLaw | None = None
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
        status = [self.law.status] if isinstance(self.law, FittedLaw) and self.law.status != "ok" else []
        bias = [] if self.isoflops is None else [self.isoflops.warning]
        return status + bias + [f"not fitted: {what}: {reason}" for what, reason in self.skipped.items()]


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
        runs: training runs (`read_runs`); those without a loss add to the laws of scores only.
        per: unit of the losses: nats per token of one tokenisation, or per second of audio.
        saturation: score from which runs are left out of the laws of scores.
        huber_delta, bootstrap, seed: see `fit_loss_law`.

    Raises:
        InputError: the losses cannot be compared, or neither the loss law nor anything of a score can be fitted.
    """
    known = [run for run in runs if run.has_loss]
    with named_files(runs):
        loss = losses(known, per)
    params, tokens, flops = (column(known, name) for name in ("params", "tokens", "flops"))
    unique = np.array([run.tokens if run.unique_tokens is None else run.unique_tokens for run in known])
    once = np.array([not run.repeats for run in known], dtype=bool)
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    skipped: dict[str, str] = {} if known else {"loss law": "the runs have no loss"}

    def attempt(what: str, fit: Callable[..., Any], *columns: Any, **more: Any) -> Any:
        try:
            return fit(*columns, **more, **options)
        except InputError as error:
            skipped[what] = str(error)
            return None

    law, envelope, isoflops, repetition = None, None, None, None
    if known:
        law = attempt("loss law", fit_loss_law, params[once], tokens[once], loss[once], huber_delta=huber_delta)
        if law is None and not score_names(runs):
            with named_files(runs):
                raise InputError(skipped["loss law"])
        envelope = attempt("envelope", fit_envelope, *curve_points(known, per))
    if has_budgets(params, flops):
        isoflops = attempt("isoflops", fit_isoflops, params, loss, flops, tokens=tokens)
        if isoflops is not None and law is not None:
            isoflops = isoflops.beside(law)
    if law is not None and not once.all():
        columns = params, tokens, unique, loss
        repetition = attempt("repetition", fit_repetition, law, *columns, huber_delta=huber_delta)
    scores, lines = {}, {}
    for name in score_names(runs):
        scored = [run for run in runs if name in run.scores]
        values = np.array([run.scores[name] for run in scored])
        scores[name] = attempt(f"score {name}", fit_score_law, column(scored, "flops"), values, saturation=saturation)
        if known:
            both = [run for run in scored if run.has_loss]
            lines[name] = attempt(f"line {name}", fit_score_line, losses(both, per), [run.scores[name] for run in both])
    scores, lines = ({name: fit for name, fit in fits.items() if fit is not None} for fits in (scores, lines))
    if law is None and not scores and not lines:
        with named_files(runs):
            raise InputError("; ".join(skipped.values()))
    return Study(per, law, repetition, envelope, isoflops, scores, lines, skipped)


def load_study(name: str | Path) -> Study:
    """Read a study file, or return the published laws of a name: of loss, of repeated data and of scores."""
    if Path(name).exists():
        return Study.load(name)
    law = PUBLISHED.get(str(name))
    if law is None:
        raise InputError(f"{name}: no such study, nor one of the published laws {', '.join(PUBLISHED)}")
    gammas = PUBLISHED_GAMMAS.get(str(name), {})
    powers = {score: PowerLaw(math.nan, gamma, 0, math.nan, UNKNOWN) for score, gamma in gammas.items()}
    scores = {score: ScoreLaw(power, None, 0, *UNKNOWN) for score, power in powers.items()}
    return Study("token", law, PUBLISHED_REPETITION.get(str(name)), scores=scores)
