"""What a study answers: the best model for a budget, and the budget for a loss or a score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from syllablelm.scaling.downstream import ScoreLaw, ScoreLine
from syllablelm.scaling.fit import FittedLaw
from syllablelm.scaling.laws import LossLaw, RepetitionLaw
from syllablelm.scaling.repeated_data import FittedRepetition
from syllablelm.scaling.resample import USABLE, FloatArray, Interval, interval, open_interval
from syllablelm.scaling.study import Study

# No percentage is above this.
CEILING = 100.0


def predict(study: Study, flops: float, *, ceiling: float = CEILING) -> dict[str, Any]:
    """The best model for a budget: N, D, loss and scores, with intervals, and whether the data reach so far.

    ``extrapolated`` names what lies outside of the fitted runs and by which factor. Intervals are NaNs where under 90 %
    of the resamples have an optimum; ``usable`` of ``resamples`` have one.

    Args:
        ceiling: that no score passes.
    """
    law = study.law
    best = law.optimal(flops)
    loss = law.loss(*best)
    answer: dict[str, Any] = {"flops": flops, "params": best.params, "tokens": best.tokens, "loss": loss}
    losses = np.empty(0)
    if len(law.samples):
        laws = law.sampled_laws()
        sampled = [other.optimal(flops) for other in laws]
        losses = np.array([other.loss(*each) for other, each in zip(laws, sampled, strict=True)])
        answer["intervals"] = {
            "params": interval([each.params for each in sampled], law.level, USABLE),
            "tokens": interval([each.tokens for each in sampled], law.level, USABLE),
            "loss": interval(losses, law.level, USABLE),
        }
        answer |= {"resamples": len(law.samples), "usable": law.usable}
    status = _joined("" if law.status == "ok" else law.status, law.shortfall)
    if status:
        answer["status"] = status
    answer["extrapolated"] = outside(answer, _ranges(law))
    answer["scores"] = {name: predict_score(score, flops, ceiling) for name, score in study.scores.items()}
    for name, line in study.lines.items():
        answer["scores"].setdefault(name, {}).update(_score_from_loss(line, loss, losses, ceiling))
    return answer


def predict_score(score: ScoreLaw, flops: float, ceiling: float = CEILING) -> dict[str, Any]:
    """A score at a budget on the frontier, by its power law."""
    low, high = score.power.band(flops)
    answer: dict[str, Any] = {"from_flops": float(score.power.at(flops)), "interval": (float(low[0]), float(high[0]))}
    answer["extrapolated"] = score.power.extrapolates(flops)
    return answer | _score_status(score, answer["from_flops"], ceiling)


def _score_from_loss(line: ScoreLine, loss: float, losses: FloatArray, ceiling: float) -> dict[str, Any]:
    """A score at a predicted loss, by its line; the interval is of both, each resample of one with one of the other."""
    value = float(line.at(loss))
    answer: dict[str, Any] = {"from_loss": value}
    count = min(len(losses), len(line.samples))
    if count:
        other = np.random.default_rng(0).permutation(line.samples[:count])
        answer["from_loss_interval"] = interval(other[:, 0] + other[:, 1] * losses[:count], line.level, USABLE)
    status = _joined("" if line.status == "ok" else line.status, _above(value, ceiling))
    return answer | ({"from_loss_status": status} if status else {})


def _score_status(score: ScoreLaw, value: float, ceiling: float) -> dict[str, str]:
    saturated = score.saturation is not None and value >= score.saturation
    status = _joined(
        f"saturated: the law holds below {score.saturation:g}" if saturated else "",
        "" if score.power.status == "ok" else score.power.status,
        _above(value, ceiling),
    )
    return {"status": status} if status else {}


def _above(value: float, ceiling: float) -> str:
    return f"above the ceiling {ceiling:g}: no score gets there" if value > ceiling else ""


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)


def flops_for_loss(study: Study, loss: float) -> dict[str, Any]:
    """The least budget for a loss, with its interval."""
    law = study.law
    flops = law.flops_for_loss(loss)
    answer: dict[str, Any] = {"loss": loss, "flops": flops}
    if len(law.samples):
        # A resample whose floor lies above the loss never reaches it; one without an optimum says nothing.
        found = [other.flops_for_loss(loss) if other.has_optimum else math.nan for other in law.sampled_laws()]
        answer["interval"] = open_interval(found, law.level, USABLE)
        answer |= {"resamples": len(law.samples), "usable": law.usable}
    status = _joined(never(law, loss), "" if law.status == "ok" else law.status, law.shortfall)
    if status:
        answer["status"] = status
    answer |= behind(law, flops, _ranges(law))
    return answer


def behind(law: LossLaw, flops: float, ranges: Mapping[str, Interval] | None) -> dict[str, Any]:
    """The best model for a budget that was found, and what of it lies outside of the runs; nulls if none was found.

    Args:
        ranges: of flops, params and tokens; None where those of the runs are not known.
    """
    if not math.isfinite(flops):
        return {"params": None, "tokens": None, "extrapolated": None}
    best = law.optimal(flops)
    found = {"flops": flops, "params": best.params, "tokens": best.tokens}
    far = None if ranges is None else outside(found, ranges)
    return {"params": best.params, "tokens": best.tokens, "extrapolated": far}


def _ranges(law: FittedLaw) -> dict[str, Interval]:
    return {"flops": law.flops_range, "params": law.params_range, "tokens": law.tokens_range}


def never(law: LossLaw, loss: float) -> str:
    """Why no budget reaches a loss; empty if one does, or where the law has no optimum and cannot tell."""
    return "" if loss > law.E else f"never: the floor E of the law is {law.E:.4g}"


def flops_for_score(score: ScoreLaw, target: float, *, ceiling: float = CEILING) -> dict[str, Any]:
    """The least budget for a score, with its interval."""
    flops = score.power.solve(target)
    answer: dict[str, Any] = {"score": target, "flops": flops, "interval": score.power.solve_interval(target)}
    answer["extrapolated"] = score.power.extrapolates(flops)
    return answer | _score_status(score, target, ceiling)


def predict_repeated(
    repetition: RepetitionLaw, flops: float, unique: float, law: FittedLaw | None = None
) -> dict[str, Any]:
    """The best model for a budget when there are only ``unique`` tokens.

    Args:
        law: of unrepeated data with its resamples, which a fitted ``repetition`` took; for the intervals.
    """
    best = repetition.optimal(flops, unique)
    answer: dict[str, Any] = {
        "params": best.params,
        "tokens": best.tokens,
        "epochs": max(1.0, best.tokens / unique),
        "loss": repetition.loss(best.params, best.tokens, unique),
    }
    if not isinstance(repetition, FittedRepetition):
        return answer
    if repetition.status != "ok":
        answer["status"] = repetition.status
    if law is not None and len(repetition.samples):
        found = _sampled_repeated(repetition, law, flops, unique)
        answer["intervals"] = {
            name: interval(found[:, k], law.level, USABLE)
            for k, name in enumerate(("params", "tokens", "epochs", "loss"))
        }
        answer |= {"resamples": len(found), "usable": int(np.isfinite(found).all(axis=1).sum())}
    ranges = {"params": repetition.params_range, "tokens": repetition.tokens_range, "epochs": repetition.passes_range}
    answer["extrapolated"] = outside({name: answer[name] for name in ranges}, ranges)
    return answer


def _sampled_repeated(repetition: FittedRepetition, law: FittedLaw, flops: float, unique: float) -> FloatArray:
    """Parameters, tokens, epochs and loss of each resample (resamples, 4); NaN where it has no optimum."""
    found = np.full((len(repetition.samples), 4), np.nan)
    laws: Sequence[LossLaw] = law.sampled_laws() or [repetition.law]
    for k, constants in enumerate(repetition.samples):
        if np.isfinite(constants).all():
            other = RepetitionLaw(laws[k % len(laws)], *map(float, constants))
            best = other.optimal(flops, unique)
            if math.isfinite(best.tokens) and best.tokens > 0:
                found[k] = *best, max(1.0, best.tokens / unique), other.loss(*best, unique)
    return found


def outside(values: Mapping[str, float], ranges: Mapping[str, Interval]) -> dict[str, float]:
    """Which values lie outside of their ranges, and by which factor."""
    return {name: factor for name, within in ranges.items() if (factor := beyond(values[name], within)) > 1}


def beyond(value: float, within: Interval) -> float:
    """By which factor a value lies outside of a range; 1 within, and where either is not known."""
    return max(1.0, value / within[1], within[0] / value) if value > 0 else 1.0
