"""What a fitted study says and does not say, in sentences that follow from its statuses, intervals and residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from syllablelm.scaling.answers import outside
from syllablelm.scaling.downstream import ScoreLaw, ScoreLine
from syllablelm.scaling.fit import FittedLaw
from syllablelm.scaling.law_plots import short_number
from syllablelm.scaling.repeated_data import MOST, FittedRepetition
from syllablelm.scaling.resample import Interval
from syllablelm.scaling.runs import Run, column
from syllablelm.scaling.study import Study

# Correlation of residuals with ln N or ln D from which the form of the law is in doubt.
_TREND = 0.4
# Ratio of an interval's ends from which a constant is called loosely known.
_LOOSE = 2.0
# Decades of compute below which a slope is of little use.
_DECADES = 2.0


def describe(runs: Sequence[Run], study: Study | None, reason: str = "") -> list[str]:
    """Sentences about one group of runs.

    Args:
        study: fitted to them, or None where no law could be; then ``reason`` says why.
    """
    sentences = [_describe_runs(runs)]
    if study is None:
        return [*sentences, f"No law of loss could be fitted: {reason}."]
    sentences += _describe_law(study.law) + _describe_reach(study.law)
    if study.isoflops is not None:
        fit = study.isoflops
        sound = sum(curve.status == "ok" for curve in fit.curves)
        text = f"{sound} of {len(fit.curves)} IsoFLOP curves have their minimum among their runs"
        sentences.append(f"{text}; {fit.status}." if fit.status != "ok" else f"{text}.")
    if study.repetition is not None:
        sentences.append(_describe_repetition(study.repetition))
    for name, score in study.scores.items():
        sentences.append(_describe_score(name, score, study.lines.get(name)))
    sentences += [f"Not fitted: {what}: {why}." for what, why in study.skipped.items()]
    return sentences


def _describe_repetition(fit: FittedRepetition) -> str:
    pairs = (("R_D*", "repeat_tokens"), ("R_N*", "repeat_params"))
    stars = [f"{what} = {getattr(fit, name):.3g}{_ends(fit.intervals.get(name))}" for what, name in pairs]
    text = f"Repeated tokens lose their value with {' and '.join(stars)}, from {fit.repeated} runs that repeat theirs"
    return f"{text}; {fit.status}." if fit.status != "ok" else f"{text}."


def _ends(between: Interval | None) -> str:
    if between is None or math.isnan(between[0]):
        return ""
    low, high = between
    return f" ({low:.3g} to {f'{high:.3g}' if high < MOST else 'any number'})"


def spread(between: Interval) -> float:
    """How many times the upper end of an interval is the lower one; infinite where it reaches 0."""
    low, high = between
    return high / low if low > 0 else math.inf


def _describe_runs(runs: Sequence[Run]) -> str:
    sizes, tokens, flops = (column(runs, name) for name in ("params", "tokens", "flops"))
    repeated = sum(run.repeats for run in runs)
    decades = math.log10(flops.max() / flops.min())
    ranges = [f"{short_number(values.min())} to {short_number(values.max())}" for values in (sizes, tokens)]
    text = (
        f"{len(runs)} runs of {len(np.unique(sizes))} sizes ({ranges[0]} parameters) on {ranges[1]} tokens span "
        f"{decades:.1f} decades of compute"
    )
    text += f"; {repeated} of them repeat their data." if repeated else "; none is known to repeat its data."
    if decades < _DECADES:
        text += " Exponents from less than two decades say little about what lies beyond."
    return text


def _describe_law(law: FittedLaw) -> list[str]:
    left = law.diagnostics
    sentences = [
        f"The law of loss leaves residuals of {100 * left.rms:.2g} % (root mean square; the largest "
        f"{100 * left.largest:.2g} %) and explains {100 * left.r_squared:.4g} % of the variance of ln(loss)."
    ]
    if law.status != "ok":
        sentences.append(
            f"Its constants must not be read one by one ({law.status}); within the runs its predictions may still hold."
        )
    trends = {"model size": left.trend_params, "tokens": left.trend_tokens}
    bent = [f"{name} ({value:+.2f})" for name, value in trends.items() if abs(value) > _TREND]
    if bent:
        sentences.append(f"What is left over goes with {' and '.join(bent)}: the form of the law does not quite fit.")
    if left.outliers:
        sentences.append(f"{left.outliers} of {law.runs} runs are outliers, which Huber's loss plays down.")
    if not law.intervals:
        return [*sentences, "Without resamples nothing can be said about how well the constants are known."]
    loose = [
        f"{name} ({low:.3g} to {high:.3g})"
        for name, (low, high) in law.intervals.items()
        if name in ("E", "alpha", "beta") and not spread((low, high)) < _LOOSE
    ]
    if loose:
        sentences.append(f"Known only loosely (95 % intervals): {', '.join(loose)}.")
    if law.shortfall:
        sentences.append(f"No optimum can be read off: {law.shortfall}.")
    low, high = law.intervals["a"]
    # Of a law whose constants say nothing one by one, neither does this quotient of two of them.
    if law.status != "ok" or math.isnan(low):
        return sentences
    if low <= 0.5 <= high:
        sentences.append(
            f"The data do not tell whether parameters or tokens should grow faster: a = {law.a:.2f} ({low:.2f} to "
            f"{high:.2f}) may well be 0.5."
        )
    else:
        first = "parameters" if low > 0.5 else "tokens"
        sentences.append(
            f"With more compute {first} should grow faster: a = {law.a:.2f} ({low:.2f} to {high:.2f}) is not 0.5."
        )
    return sentences


def _describe_reach(law: FittedLaw) -> list[str]:
    largest = law.flops_range[1]
    best = law.optimal(largest)
    factors = outside(
        {"parameters": best.params, "tokens": best.tokens},
        {"parameters": law.params_range, "tokens": law.tokens_range},
    )
    beyond = [f"{name} {factor:.2g} times" for name, factor in factors.items() if factor > 1.05]
    sentences = [f"Everything above {largest:.3g} FLOP is extrapolation."]
    if beyond and law.status == "ok":
        sentences.append(
            f"Even at that budget the optimum lies outside of what was trained ({', '.join(beyond)} beyond): it was "
            "not observed."
        )
    return sentences


def _describe_score(name: str, score: ScoreLaw, line: ScoreLine | None) -> str:
    low, high = score.power.exponent_interval
    text = f"{name} goes with C^{score.gamma:.3g} on its frontier of {score.power.points} runs"
    if math.isfinite(low):
        text += f" ({low:.3g} to {high:.3g})"
    if score.power.status.startswith("degenerate"):
        text += ": no growth with compute can be claimed"
    if score.power.status != "ok":
        text += f"; {score.power.status}"
    if line is not None and math.isfinite(line.correlation):
        text += f"; its correlation with loss is {line.correlation:.2f}"
    return text + "."
