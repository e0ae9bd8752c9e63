"""Report of a study: tables, figures and warnings, as Markdown and as one page for a browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.document import Block, Bullets, Heading, Paragraph, Picture, Table, to_html, to_markdown
from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.results import Record
from syllablelm.scaling.fit import NAMES, FittedLaw
from syllablelm.scaling.flops import Figure as Kind
from syllablelm.scaling.flops import Per, short_number
from syllablelm.scaling.isoflop import IsoFlopFit
from syllablelm.scaling.law_plots import plot_study
from syllablelm.scaling.prediction import compare_gains, predict_budget
from syllablelm.scaling.repetition_law import MOST, FittedRepetition
from syllablelm.scaling.resample import Interval
from syllablelm.scaling.runs import Run, by_tokenizer, column, score_names
from syllablelm.scaling.study import Study, fit_study

REPORT_MARKDOWN, REPORT_PAGE = "report.md", "report.html"
_CAPTIONS: dict[Kind, str] = {
    "loss": "Held-out loss against training compute, with the power law of the best runs (dashed: extrapolated) and "
    "its 95 % band.",
    "scores": "Scores against training compute, with the power law of the running best and its 95 % band.",
    "lines": "Scores against held-out loss, with Pearson's correlation and the 95 % band of the line.",
    "tokens": "Loss per second of audio, which can be compared across tokenisations, and scores, against compute.",
}
# Decades above the largest run that the table of optima reaches.
_AHEAD = 3
# Warnings: correlation of residuals with ln N or ln D above this, decades of compute below this.
_TREND, _DECADES = 0.4, 2.0


@dataclass(frozen=True)
class StudyReport(Record):
    """A written report.

    Args:
        report, page: files of the report, as Markdown and as one page for a browser.
        status: status of each group's loss law; where none could be fitted, the reason.
    """

    report: str
    page: str
    status: Mapping[str, str]


def write_report(
    groups: Mapping[str, Sequence[Run]],
    out: Path,
    *,
    per: Per = "token",
    huber_delta: float = 1e-3,
    saturation: float | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    title: str = "Scaling study",
) -> StudyReport:
    """Fit every group of runs and write report.md, report.html and the figures into a folder.

    Args:
        groups: runs by the name that the report gives them: speech and text, or two tokenisations.
        out: output directory.
        per, huber_delta, saturation, bootstrap, seed: options of the fits (`fit_study`).

    Raises:
        InputError: no group can be fitted, or losses that cannot be compared.
        MissingDependencyError: matplotlib is not installed.
    """
    drawn: dict[str, Any] = {"per": per, "saturation": saturation, "bootstrap": bootstrap, "seed": seed}
    studies: dict[str, Study] = {}
    reasons: dict[str, str] = {}
    for label, runs in groups.items():
        try:
            studies[label] = fit_study(runs, huber_delta=huber_delta, **drawn)
        except InputError as error:
            reasons[label] = str(error)
    if not studies:
        raise InputError("; ".join(f"{label}: {reason}" for label, reason in reasons.items()))
    out.mkdir(parents=True, exist_ok=True)

    def figure(kind: Kind, shown: Mapping[str, Sequence[Run]] = groups) -> Picture:
        path = out / f"{kind}.svg"
        plot_study(shown, path, figure=kind, columns=1, **drawn)
        return Picture(path.name, _CAPTIONS[kind], path.read_bytes(), "image/svg+xml")

    def by_group(labels: Iterable[str], make: Callable[[str], Sequence[Block]]) -> list[Block]:
        heading = len(groups) > 1
        return [block for label in labels for block in ([Heading(label, 3)] * heading + list(make(label)))]

    def summary(label: str) -> list[Block]:
        return [Bullets(summarize(groups[label], studies.get(label), reasons.get(label, "")))]

    blocks: list[Block] = [Heading("Summary"), *by_group(groups, summary)]
    with_loss = any(run.has_loss for runs in groups.values() for run in runs)
    blocks += [Heading("Loss and compute"), figure("loss")] if with_loss else []
    blocks += by_group(studies, lambda label: _law_blocks(studies[label]))
    if score_names([run for runs in groups.values() for run in runs]):
        blocks += [Heading("Scores"), figure("scores"), *_score_table(studies)]
        blocks += [figure("lines")] if with_loss else []
    kinds = _tokenisations(groups)
    if len(kinds) > 1 and all(run.nats_per_second is not None for runs in kinds.values() for run in runs):
        blocks += [Heading("Tokenisations"), figure("tokens", kinds)]
    if len(studies) > 1:
        blocks += _comparison(studies)
    blocks += [Heading("Runs"), Paragraph("N: parameters without embeddings. Residual: predicted over measured loss.")]
    blocks += by_group(groups, lambda label: [_runs_table(groups[label], studies.get(label), per)])
    for name, text in ((REPORT_MARKDOWN, to_markdown(title, blocks)), (REPORT_PAGE, to_html(title, blocks))):
        with atomic_path(out / name) as part:
            part.write_text(text, encoding="utf-8")
    status = {label: _law_status(study) for label, study in studies.items()}
    return StudyReport(str(out / REPORT_MARKDOWN), str(out / REPORT_PAGE), {**status, **reasons})


def _law_status(study: Study) -> str:
    return study.law.status if isinstance(study.law, FittedLaw) else study.skipped["loss law"]


def summarize(runs: Sequence[Run], study: Study | None, reason: str = "") -> tuple[str, ...]:
    """Return statements about runs and their fit, which is None where there is a ``reason`` for it."""
    sizes, tokens, flops = (column(runs, name) for name in ("params", "tokens", "flops"))
    decades = math.log10(flops.max() / flops.min())
    n, d = (f"{short_number(values.min())} to {short_number(values.max())}" for values in (sizes, tokens))
    lines = [
        f"{len(runs)} runs of {len(np.unique(sizes))} sizes: {n} parameters, {d} tokens, {decades:.1f} decades of "
        f"compute; {sum(run.repeats for run in runs)} repeat their data."
    ]
    if decades < _DECADES:
        lines.append("Less than two decades of compute: exponents are weak evidence beyond the runs.")
    if study is None:
        return (*lines, f"No loss law fitted: {reason}.")
    law = study.law
    if not isinstance(law, FittedLaw):
        return (*lines, *_not_fitted(study))
    if law.status != "ok":
        lines.append(f"Constants of the loss law are not identified one by one ({law.status}).")
    trends = {"ln N": law.diagnostics.trend_params, "ln D": law.diagnostics.trend_tokens}
    bent = [f"{name} ({value:+.2f})" for name, value in trends.items() if abs(value) > _TREND]
    if bent:
        lines.append(f"Residuals correlate with {' and '.join(bent)}: the form of the law does not fit.")
    if law.shortfall:
        lines.append(f"No optimum: {law.shortfall}.")
    low, high = law.intervals.get("a", (math.nan, math.nan))
    # The quotient a means nothing where the constants do not.
    if law.status == "ok" and not math.isnan(low):
        verdict = "not distinguishable from 0.5" if low <= 0.5 <= high else "above 0.5" if low > 0.5 else "below 0.5"
        lines.append(f"The best N grows with C^a, a = {law.a:.2f} ({low:.2f} to {high:.2f}): {verdict}.")
    if study.isoflops is not None:
        sound = [curve.status == "ok" for curve in study.isoflops.curves]
        lines.append(f"IsoFLOP curves with their minimum among the runs: {sum(sound)} of {len(sound)}.")
        lines.append(f"{study.isoflops.warning.capitalize()}.")
    return (*lines, *_not_fitted(study))


def _not_fitted(study: Study) -> list[str]:
    return [f"Not fitted: {what}: {why}." for what, why in study.skipped.items()]


def _law_blocks(study: Study) -> list[Block]:
    law = study.law
    if not isinstance(law, FittedLaw):
        return []
    left = law.diagnostics
    checks = {
        "root mean square": f"{100 * left.rms:.3g} %",
        "largest": f"{100 * left.largest:.3g} %",
        "variance of ln(loss) explained": f"{left.r_squared:.5f}",
        "outliers": str(left.outliers),
        "correlation with ln N": f"{left.trend_params:+.2f}",
        "correlation with ln D": f"{left.trend_tokens:+.2f}",
    }
    fits: list[tuple[str, ...]] = []
    if (power := study.envelope) is not None:
        fits.append(
            _row("envelope, exponent of C", power.exponent, power.exponent_interval, power.points, power.status)
        )
    if (flat := study.isoflops) is not None:
        for name, one in (("N", flat.params), ("D", flat.tokens)):
            row = _row(f"IsoFLOP, exponent of {name}", one.exponent, one.exponent_interval, one.points, flat.status)
            fits.append(row)
    if isinstance(again := study.repetition, FittedRepetition):
        for name, key in (("R_D*", "repeat_tokens"), ("R_N*", "repeat_params")):
            fits.append(_row(name, getattr(again, key), again.intervals.get(key), again.runs, again.status))
    constants = [_row(name, getattr(law, name), law.intervals.get(name)) for name in (*NAMES, "a", "b")]
    return [
        Paragraph(
            f"L = E + A / N^alpha + B / D^beta in nats per {study.per}; {law.runs} runs; Huber's loss of log "
            f"residuals, delta {law.huber_delta:g}. Status: {law.status}."
        ),
        Table(("constant", "value", "95 % interval"), tuple(constants)),
        Table(("residuals", ""), tuple(checks.items())),
        *([Table(("other fits", "value", "95 % interval", "points", "status"), tuple(fits))] if fits else []),
        *_isoflop_table(study.isoflops),
        Heading("Best models for a budget", 3),
        _optimum_table(study, law),
    ]


def _isoflop_table(fit: IsoFlopFit | None) -> list[Block]:
    """Return the minima of the parabolas beside the optima of the loss law."""
    if fit is None:
        return []
    rows = []
    for curve in fit.curves:
        sizes = (curve.params, curve.law_params, curve.tokens, curve.law_tokens)
        rows.append((_number(curve.flops), *(short_number(x) if x and math.isfinite(x) else "" for x in sizes)))
    head = ("IsoFLOP budget", "N of the parabola", "N of the law", "D of the parabola", "D of the law")
    return [Table(head, tuple(rows))]


def _optimum_table(study: Study, law: FittedLaw) -> Table:
    # The runs' own range in three steps, and decades above it.
    low, high = law.ranges["flops"]
    rows = []
    for flops in (*np.geomspace(low, high, 3).tolist(), *(high * 10.0**k for k in range(1, _AHEAD + 1))):
        best = predict_budget(study, flops)
        beyond = ", ".join(f"{name} {factor:.2g}x beyond" for name, factor in (best.extrapolated or {}).items())
        status = (f"extrapolated: {beyond}" if beyond else "within the runs") if best.status == "ok" else best.status
        between = best.intervals or {}
        sizes = (_with(getattr(best, name), between.get(name), short_number) for name in ("params", "tokens"))
        loss = _with(best.loss, between.get("loss"), lambda value: _number(value, 4))
        rows.append((_number(flops), status, *sizes, _number(best.tokens / best.params), loss))
    return Table(("FLOP", "status", "best N", "best D", "D / N", f"loss, nats per {study.per}"), tuple(rows))


def _score_table(studies: Mapping[str, Study]) -> list[Block]:
    rows = []
    for label, study in studies.items():
        for name in sorted({*study.scores, *study.lines}):
            cells, fits = [name if len(studies) == 1 else f"{label}: {name}"], []
            if name in study.scores:
                fits.append(power := study.scores[name].power)
                cells += [_with(power.exponent, power.exponent_interval), str(power.points)]
            else:
                cells += ["", ""]
            if name in study.lines:
                fits.append(line := study.lines[name])
                cells += [_with(line.correlation, line.correlation_interval), _with(line.slope, line.slope_interval)]
            else:
                cells += ["", ""]
            rows.append((*cells, "; ".join(fit.status for fit in fits if fit.status != "ok") or "ok"))
    head = ("score", "exponent of C", "points", "correlation with loss", "slope on loss", "status")
    return [Table(head, tuple(rows))] if rows else []


def _comparison(studies: Mapping[str, Study]) -> list[Block]:
    """Return how much more compute each group needs for the gain that tenfold compute gives the first."""
    (first, reference), *others = studies.items()
    rows = []
    for label, study in others:
        # Two may share neither an envelope nor a score.
        with suppress(InputError):
            for name, gain in compare_gains(study, reference).items():
                numbers = _with(gain.compute, gain.interval), _number(gain.gamma), _number(gain.other_gamma)
                rows.append((f"{label}: {name}", *numbers, gain.status))
    text = f"Factor of compute that gives a group the gain of {first} from ten times the compute."
    head = ("group", "factor of compute", "exponent", f"exponent of {first}", "status")
    return [Heading("Compute for the same gain"), Paragraph(text), Table(head, tuple(rows))] if rows else []


def _runs_table(runs: Sequence[Run], study: Study | None, per: Per) -> Table:
    names = score_names(runs)
    head = ("run", "N", "D", "D / N", "passes", "FLOP", "nats per token", "per second", "residual", *names)
    rows = []
    for run in sorted(runs, key=lambda run: run.flops):
        loss = run.loss if per == "token" else run.nats_per_second
        predicted = None if study is None else _predicted(study, run)
        left = "" if predicted is None or loss is None else f"{100 * (predicted / loss - 1):+.2f} %"
        passes = "" if run.unique_tokens is None else f"{max(1.0, run.tokens / run.unique_tokens):.3g}"
        by_second = "" if run.nats_per_second is None else f"{run.nats_per_second:.4g}"
        numbers = (short_number(run.params), short_number(run.tokens), _number(run.tokens / run.params), passes)
        scores = (_number(run.scores.get(name, math.nan), 4) for name in names)
        by_token = "" if run.loss is None else f"{run.loss:.4f}"
        rows.append((run.name, *numbers, _number(run.flops), by_token, by_second, left, *scores))
    return Table(head, tuple(rows))


def _predicted(study: Study, run: Run) -> float | None:
    if study.repetition is not None and run.unique_tokens is not None:
        return study.repetition.loss(run.params, run.tokens, run.unique_tokens)
    return None if study.law is None else study.law.loss(run.params, run.tokens)


def _tokenisations(groups: Mapping[str, Sequence[Run]]) -> Mapping[str, Sequence[Run]]:
    """Return the groups if each is of one tokenisation, else the runs by tokenisation."""
    if any(len({run.tokenizer for run in runs}) > 1 for runs in groups.values()):
        return by_tokenizer(run for runs in groups.values() for run in runs)
    return groups if len({run.tokenizer for runs in groups.values() for run in runs}) > 1 else {}


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else ""


def _between(interval: Interval | None, show: Callable[[float], str] = _number) -> str:
    if interval is None or math.isnan(interval[0]):
        return ""
    # An interval of repeated data that ends at MOST has no end either.
    return f"{show(interval[0])} to {'no end' if interval[1] in (MOST, math.inf) else show(interval[1])}"


def _with(value: float, interval: Interval | None, show: Callable[[float], str] = _number) -> str:
    """13.3B (1.22B to 8.45B)."""
    between = _between(interval, show)
    return f"{show(value)} ({between})" if between else show(value)


def _row(name: str, value: float, interval: Interval | None, *more: object) -> tuple[str, ...]:
    return (name, _number(value), _between(interval), *map(str, more))
