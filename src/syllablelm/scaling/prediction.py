"""Predictions of a law: the best model for a budget, the compute for a loss or a score, and against another study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.core.results import Record, json_key
from syllablelm.scaling.fit import FittedLaw
from syllablelm.scaling.flops import MFU, Per, compute_budget
from syllablelm.scaling.laws import LossLaw
from syllablelm.scaling.power import ScoreLaw, ScoreLine, compute_for_same_gain
from syllablelm.scaling.repetition_law import PUBLISHED_REPETITION, FittedRepetition, RepetitionLaw
from syllablelm.scaling.resample import USABLE, FloatArray, Interval, interval, open_interval
from syllablelm.scaling.study import Study, load_study

# No percentage is above this.
CEILING = 100.0


@dataclass(frozen=True)
class ScorePrediction(Record):
    """A score at a budget.

    Args:
        from_flops, interval: score by its power law of compute, and its 95 % interval.
        extrapolated: whether the budget lies outside of the fitted runs.
        status: why ``from_flops`` should not be trusted; None if it should.
        from_loss, from_loss_interval, from_loss_status: the same by its line on the loss; the interval holds the
            uncertainty of both the law and the line.
    """

    from_flops: float | None = json_key(omit_none=True)
    interval: Interval | None = json_key(omit_none=True)
    extrapolated: bool | None = json_key(omit_none=True)
    status: str | None = json_key(omit_none=True)
    from_loss: float | None = json_key(omit_none=True)
    from_loss_interval: Interval | None = json_key(omit_none=True)
    from_loss_status: str | None = json_key(omit_none=True)


@dataclass(frozen=True)
class BestModel(Record):
    """The best model for a budget, or the least budget for a loss and its best model; NaNs without an optimum.

    Args:
        flops: budget in FLOP; infinite (null in JSON) where no budget reaches the loss.
        params, tokens, loss: optimal parameters and tokens, and their loss.
        extrapolated: factors by which values lie outside of the fitted runs; None where their ranges are not known.
        epochs: passes over the unique tokens, if these are limited.
        intervals: 95 % intervals of the values; NaNs where under 90 % of the resamples have an optimum.
        interval: 95 % interval of ``flops``, if a loss was given.
        resamples, usable: number of resamples, and of those with an optimum.
        status: "ok", or why the law or the intervals should not be trusted.
        scores: predicted scores by name.
    """

    flops: float
    params: float
    tokens: float
    loss: float
    extrapolated: Mapping[str, float] | None
    epochs: float | None = json_key(omit_none=True)
    intervals: Mapping[str, Interval] | None = json_key(omit_none=True)
    interval: Interval | None = json_key(omit_none=True)
    resamples: int | None = json_key(omit_none=True)
    usable: int | None = json_key(omit_none=True)
    status: str = "ok"
    scores: Mapping[str, ScorePrediction] | None = json_key(omit_none=True)


@dataclass(frozen=True)
class ScoreCompute(Record):
    """The compute for a score.

    Args:
        score: target.
        flops, interval: least budget and its 95 % interval.
        extrapolated: whether the budget lies outside of the fitted runs.
        status: "ok", or why the budget should not be trusted.
    """

    score: float
    flops: float
    interval: Interval
    extrapolated: bool
    status: str = "ok"


@dataclass(frozen=True)
class SameGain(Record):
    """The compute for the gain that another study's models get from more compute.

    Args:
        other_compute, compute: multiples of the compute of the other study and of this one.
        interval: 95 % interval of ``compute``.
        gamma, other_gamma: exponents of this study and of the other.
        status: "ok", or why either law should not be trusted.
    """

    other_compute: float
    compute: float
    interval: Interval
    gamma: float
    other_gamma: float
    status: str = "ok"


@dataclass(frozen=True)
class Prediction(Record):
    """Answers of a law; None where not asked for.

    Args:
        law: name of the published law, or path of the study.
        per: unit of the losses.
        best: best model for the budget, written among the keys of this record.
        for_loss, for_score: compute for a loss and for a score.
        against: compute for the same gain as another study, by "loss" and score.
        with_repetition: best model for the budget when unique tokens are limited.
    """

    law: str
    per: Per
    best: BestModel | None = json_key(flat=True, default=None)
    for_loss: BestModel | None = json_key(omit_none=True)
    for_score: ScoreCompute | None = json_key(omit_none=True)
    against: Mapping[str, SameGain] | None = json_key(omit_none=True)
    with_repetition: BestModel | None = json_key(omit_none=True)

    @property
    def notes(self) -> list[str]:
        """Warnings about extrapolation."""
        answers = (("", self.best), ("", self.for_loss), ("with repetition: ", self.with_repetition))
        return [
            f"extrapolated: {what}{name} are {factor:.3g} times beyond the fitted runs"
            for what, answer in answers
            if answer is not None
            for name, factor in (answer.extrapolated or {}).items()
        ]


def read_score(text: str) -> tuple[str, float]:
    """Read the name and value of a score written as ``NAME=X``."""
    name, equals, value = text.partition("=")
    try:
        return name, float(value if equals else "")
    except ValueError:
        raise InputError(f"score {text!r}: write NAME=X, such as sblimp=62") from None


def predict(
    law: Study | str | Path,
    flops: float | None = None,
    *,
    gpu_hours: float | None = None,
    gpu: str | None = None,
    tflops: float | None = None,
    mfu: float = MFU,
    loss: float | None = None,
    score: tuple[str, float] | None = None,
    against: Study | str | Path | None = None,
    gain: float = 10.0,
    unique_tokens: float | None = None,
    ceiling: float = CEILING,
) -> Prediction:
    """Predict the best model for a budget with its loss and scores, or the compute for a loss, a score or a gain.

    Args:
        law: study, path of a study file, or name of published laws (`PUBLISHED`, `PUBLISHED_GAMMAS`).
        flops, gpu_hours, gpu, tflops, mfu: budget in FLOP, or in hours of a device (`compute_budget`).
        loss: loss whose compute is wanted.
        score: name and value of the score whose compute is wanted.
        against: other study, likewise; how much more compute the law's models need for the same gain.
        gain: multiple of the other study's compute that makes the gain.
        unique_tokens: number of tokens of the corpus; beyond them data repeat.
        ceiling: maximum of the scores; predictions above it say so.

    Raises:
        InputError: nothing asked for, a question that the law cannot answer, or numbers out of range.
        FormatError: a file that holds no study.
    """
    budget = compute_budget(flops, gpu_hours, gpu=gpu, tflops=tflops, mfu=mfu)
    if budget is None and loss is None and score is None and against is None:
        raise InputError("nothing asked for: give a budget (flops or GPU hours), a loss, a score or another study")
    for name, value in (("loss", loss), ("ceiling", ceiling)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} {value:g}: must be above 0 and finite")
    if unique_tokens is not None and budget is None:
        raise InputError("unique tokens go with a budget; give flops or GPU hours too")
    study = law if isinstance(law, Study) else load_study(law)
    name = "the study" if isinstance(law, Study) else str(law)
    if loss is not None and study.law is None:
        raise InputError(f"{name} has no law of loss; ask for a budget or a score")
    repeated = None
    if unique_tokens is not None and budget is not None:
        if study.repetition is None or study.law is None:
            names = ", ".join(PUBLISHED_REPETITION)
            raise InputError(f"unique tokens: {name} has no law of repeated data; those of {names} do")
        repeated = predict_repetition(study.repetition, budget, unique_tokens, study.law)
    other = against if against is None or isinstance(against, Study) else load_study(against)
    return Prediction(
        law="" if isinstance(law, Study) else name,
        per=study.per,
        best=None if budget is None else predict_budget(study, budget, ceiling=ceiling),
        for_loss=None if loss is None or study.law is None else flops_for_loss(study.law, loss),
        for_score=None if score is None else flops_for_score(study, *score, ceiling=ceiling),
        against=None if other is None else compare_gains(study, other, gain),
        with_repetition=repeated,
    )


def predict_budget(study: Study, flops: float, *, ceiling: float = CEILING) -> BestModel:
    """Predict the best model for a budget, its loss and its scores up to ``ceiling``."""
    # Of a published score only the exponent is known.
    laws = {name: score for name, score in study.scores.items() if math.isfinite(score.power.scale)}
    scores = {name: predict_score(score, flops, ceiling) for name, score in laws.items()}
    base = study.law
    if base is None:
        nothing = math.nan, math.nan, math.nan
        return BestModel(flops, *nothing, None, status="the study has no law of loss", scores=scores)
    best = base.optimal(flops)
    far = _outside(base.ranges, flops=flops, **best._asdict())
    found = BestModel(flops, *best, base.loss(*best), far, status=_status(base))
    sampled = [(*(other := law.optimal(flops)), law.loss(*other)) for law in base.sampled_laws()]
    columns = np.array(sampled, dtype=np.float64).reshape(-1, 3).T
    if isinstance(base, FittedLaw) and sampled:
        names = ("params", "tokens", "loss")
        intervals = {name: interval(column, base.level, USABLE) for name, column in zip(names, columns, strict=True)}
        found = replace(found, intervals=intervals, resamples=base.resamples, usable=base.usable)
    for name, line in study.lines.items():
        scores[name] = _add_line(scores.get(name, ScorePrediction()), line, found.loss, columns[2], ceiling)
    return replace(found, scores=scores if isinstance(base, FittedLaw) else None)


def predict_score(score: ScoreLaw, flops: float, ceiling: float = CEILING) -> ScorePrediction:
    """Predict a score at a budget on the frontier by its power law."""
    low, high = score.power.band(flops)
    value = float(score.power.at(flops))
    status = _score_status(score, value, ceiling)
    between = float(low[0]), float(high[0])
    return ScorePrediction(value, between, score.power.extrapolates(flops), None if status == "ok" else status)


def _add_line(
    score: ScorePrediction, line: ScoreLine, loss: float, losses: FloatArray, ceiling: float
) -> ScorePrediction:
    """Add a score at a predicted loss; its interval pairs each resample of the line with one of the loss."""
    value = float(line.at(loss))
    count = min(len(losses), len(line.samples))
    between = None
    if count:
        other = np.random.default_rng(0).permutation(line.samples[:count])
        between = interval(other[:, 0] + other[:, 1] * losses[:count], line.level, USABLE)
    status = _join(line.status, _above(value, ceiling))
    trouble = None if status == "ok" else status
    return replace(score, from_loss=value, from_loss_interval=between, from_loss_status=trouble)


def flops_for_loss(law: LossLaw, loss: float) -> BestModel:
    """Return the least budget for a loss, with its interval and the best model for it."""
    flops = law.flops_for_loss(loss)
    never = "" if loss > law.E else f"never: the floor E of the law is {law.E:.4g}"
    params, tokens = law.optimal(flops) if math.isfinite(flops) else (math.nan, math.nan)
    far = _outside(law.ranges, flops=flops, params=params, tokens=tokens) if math.isfinite(flops) else None
    answer = BestModel(flops, params, tokens, loss, far, status=_join(never, _status(law)))
    if not isinstance(law, FittedLaw) or not law.resamples:
        return answer
    # A resample whose floor lies above the loss never reaches it; one without an optimum has no answer.
    found = [other.flops_for_loss(loss) if other.has_optimum else math.nan for other in law.sampled_laws()]
    between = open_interval(found, law.level, USABLE)
    return replace(answer, interval=between, resamples=law.resamples, usable=law.usable)


def flops_for_score(study: Study, name: str, target: float, *, ceiling: float = CEILING) -> ScoreCompute:
    """Return the least budget for a score of a study, with its interval."""
    if name not in study.scores:
        raise InputError(f"score {name!r}: must be one of {', '.join(study.scores) or '(no scores)'}")
    score, power = study.scores[name], study.scores[name].power
    if math.isnan(power.scale):
        raise InputError(f"score {name!r}: only its exponent is published; fit a study of your own")
    flops, status = power.solve(target), _score_status(score, target, ceiling)
    return ScoreCompute(target, flops, power.solve_interval(target), power.extrapolates(flops), status)


def compare_gains(slow: Study, fast: Study, gain: float = 10.0) -> dict[str, SameGain]:
    """Return the compute that ``slow`` needs for what ``gain`` times the compute gives ``fast``, by loss and score."""
    if not 1 < gain < math.inf:
        raise InputError(f"gain {gain:g}: must be above 1 and finite")
    pairs = {name: (slow.scores[name].power, fast.scores[name].power) for name in slow.scores if name in fast.scores}
    if slow.envelope is not None and fast.envelope is not None:
        # A power law's exponent does not depend on the unit, so the studies may count by token or by second.
        pairs = {"loss": (slow.envelope, fast.envelope), **pairs}
    if not pairs:
        raise InputError("the two studies share neither an envelope of losses nor a score")
    gains = {}
    for name, (power, other) in sorted(pairs.items()):
        multiple, between = compute_for_same_gain(power, other, gain)
        status = _join(power.status, other.status)
        gains[name] = SameGain(gain, multiple, between, power.exponent, other.exponent, status)
    return gains


def predict_repetition(repetition: RepetitionLaw, flops: float, unique: float, law: LossLaw | None = None) -> BestModel:
    """Predict the best model for a budget when there are only ``unique`` tokens.

    The resamples of ``law``, the fitted law of unrepeated data that ``repetition`` extends, give the intervals.
    """
    best = repetition.optimal(flops, unique)
    loss = repetition.loss(*best, unique)
    values = {**best._asdict(), "epochs": max(1.0, best.tokens / unique), "loss": loss}
    answer = BestModel(flops=flops, **values, extrapolated=_outside(repetition.ranges, **values))
    if not isinstance(repetition, FittedRepetition):
        return answer
    answer = replace(answer, status=repetition.status)
    if not isinstance(law, FittedLaw) or not len(repetition.samples):
        return answer
    # The same of each resample, NaN where it has no optimum.
    found = np.full((len(repetition.samples), 4), np.nan)
    laws: Sequence[LossLaw] = law.sampled_laws() or [repetition.law]
    for k, constants in enumerate(repetition.samples):
        if np.isfinite(constants).all():
            other = RepetitionLaw(laws[k % len(laws)], *map(float, constants))
            best = other.optimal(flops, unique)
            if math.isfinite(best.tokens) and best.tokens > 0:
                found[k] = *best, max(1.0, best.tokens / unique), other.loss(*best, unique)
    intervals = {name: interval(found[:, k], law.level, USABLE) for k, name in enumerate(values)}
    usable = int(np.isfinite(found).all(axis=1).sum())
    return replace(answer, intervals=intervals, resamples=len(found), usable=usable)


def outside(values: Mapping[str, float], ranges: Mapping[str, Interval]) -> dict[str, float]:
    """Return the factors by which values lie outside of their ranges, for those that do."""
    known = {name: (value, *ranges[name]) for name, value in values.items() if name in ranges and value > 0}
    factors = {name: max(1.0, value / high, low / value) for name, (value, low, high) in known.items()}
    return {name: factor for name, factor in factors.items() if factor > 1}


def _outside(ranges: Mapping[str, Interval], **values: float) -> dict[str, float] | None:
    return outside(values, ranges) if ranges else None


def _status(law: LossLaw) -> str:
    return _join(law.status, law.shortfall) if isinstance(law, FittedLaw) else "ok"


def _score_status(score: ScoreLaw, value: float, ceiling: float) -> str:
    saturated = score.saturation is not None and value >= score.saturation
    reason = f"saturated: the law holds below {score.saturation:g}" if saturated else ""
    return _join(reason, score.power.status, _above(value, ceiling))


def _above(value: float, ceiling: float) -> str:
    return f"above the ceiling {ceiling:g}: no score gets there" if value > ceiling else ""


def _join(*reasons: str) -> str:
    """Join the reasons that are neither empty nor "ok"; "ok" without any."""
    return "; ".join(reason for reason in reasons if reason not in ("", "ok")) or "ok"
