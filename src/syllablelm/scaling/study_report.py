"""One report of a study: tables, figures and what they can and cannot say, as Markdown and as a page for a browser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syllablelm.core.document import Block, Bullets, Figure, Heading, Paragraph, Table, to_html, to_markdown
from syllablelm.core.errors import InputError
from syllablelm.core.files import atomic_path
from syllablelm.scaling.answers import predict
from syllablelm.scaling.downstream import compute_for_same_gain
from syllablelm.scaling.findings import describe
from syllablelm.scaling.fit import FittedLaw
from syllablelm.scaling.law_plots import Figure as Kind
from syllablelm.scaling.law_plots import plot_runs, short_number
from syllablelm.scaling.resample import Interval
from syllablelm.scaling.runs import Per, Run, by_tokenizer, score_names
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
) -> dict[str, str]:
    """Fit every group of runs and write report.md, report.html and the figures into a folder.

    Args:
        groups: runs by what the report calls them: speech and text, or two tokenisations.
        per, huber_delta, saturation, bootstrap, seed: of the fits (`fit_study`).

    Returns:
        the status of each group's law of loss; where none could be fitted, the reason.

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
    blocks: list[Block] = [Heading("What the data can say")]
    for label, runs in groups.items():
        blocks += [Heading(label, 3)] if len(groups) > 1 else []
        blocks.append(Bullets(tuple(describe(runs, studies.get(label), reasons.get(label, "")))))
    blocks += [Heading("Loss and compute"), _figure("loss", groups, out, drawn)]
    for label, study in studies.items():
        blocks += [Heading(label, 3)] if len(groups) > 1 else []
        blocks += _law_blocks(study)
    if score_names([run for runs in groups.values() for run in runs]):
        blocks += [Heading("Scores"), _figure("scores", groups, out, drawn), *_score_blocks(studies)]
        blocks += [_figure("lines", groups, out, drawn)]
    kinds = _tokenisations(groups)
    if len(kinds) > 1 and all(run.nats_per_second is not None for runs in kinds.values() for run in runs):
        blocks += [Heading("Tokenisations"), _figure("tokens", kinds, out, drawn)]
    if len(studies) > 1:
        blocks += _comparison(studies)
    blocks += [Heading("Runs"), Paragraph(_RESIDUAL)]
    for label, runs in groups.items():
        blocks += [Heading(label, 3)] if len(groups) > 1 else []
        blocks.append(_runs_table(runs, studies.get(label), per))
    for name, text in ((REPORT_MARKDOWN, to_markdown(title, blocks)), (REPORT_PAGE, to_html(title, blocks))):
        with atomic_path(out / name) as part:
            part.write_text(text, encoding="utf-8")
    return {**{label: study.law.status for label, study in studies.items()}, **reasons}


_RESIDUAL = "N are parameters without embeddings. Left over: predicted over measured loss, where a law was fitted."


def _figure(kind: Kind, groups: Mapping[str, Sequence[Run]], out: Path, drawn: Mapping[str, Any]) -> Figure:
    path = out / f"{kind}.svg"
    plot_runs(groups, path=path, figure=kind, columns=1, **drawn)
    return Figure(path.name, path.read_text(encoding="utf-8"), _CAPTIONS[kind])


def _law_blocks(study: Study) -> list[Block]:
    law, unit = study.law, f"nats per {study.per}"
    names = ("E", "A", "B", "alpha", "beta", "a", "b")
    rows = [(name, _number(getattr(law, name)), _between(law.intervals.get(name))) for name in names]
    blocks: list[Block] = [
        Paragraph(
            f"L = E + A / N^alpha + B / D^beta in {unit}, fitted to {law.runs} runs (Huber's loss of log residuals, "
            f"delta {law.huber_delta:g}). The best N grows with C^a, the best D with C^b. Status: {law.status}."
        ),
        Table(("constant", "value", "95 % interval"), tuple(rows)),
    ]
    left = law.diagnostics
    checks = [
        ("residual, root mean square", f"{100 * left.rms:.3g} %"),
        ("largest residual", f"{100 * left.largest:.3g} %"),
        ("variance of ln(loss) explained", f"{left.r_squared:.5f}"),
        ("outliers", str(left.outliers)),
        ("correlation of residuals with ln N", f"{left.trend_params:+.2f}"),
        ("correlation of residuals with ln D", f"{left.trend_tokens:+.2f}"),
    ]
    blocks.append(Table(("residuals", ""), tuple(checks)))
    fits = []
    if study.envelope is not None:
        power = study.envelope
        exponent, between = _number(power.exponent), _between(power.exponent_interval)
        fits.append(("least loss, exponent of C", exponent, between, str(power.points), power.status))
    if study.isoflops is not None:
        for what, power in (("IsoFLOP, exponent of N", study.isoflops.params), ("of D", study.isoflops.tokens)):
            exponent, between = _number(power.exponent), _between(power.exponent_interval)
            fits.append((what, exponent, between, str(power.points), study.isoflops.status))
    if study.repetition is not None:
        repeated = study.repetition
        for what, name in (("R_D*", "repeat_tokens"), ("R_N*", "repeat_params")):
            between = _between(repeated.intervals.get(name))
            fits.append((what, _number(getattr(repeated, name)), between, str(repeated.runs), repeated.status))
    if fits:
        blocks.append(Table(("other fits", "value", "95 % interval", "points", "status"), tuple(fits)))
    return [*blocks, Heading("Best models for a budget", 3), _optimum_table(study)]


def _optimum_table(study: Study) -> Table:
    law = study.law
    rows = []
    for flops in _budgets(law):
        answer = predict(study, flops)
        beyond = ", ".join(f"{name} {factor:.2g}x beyond" for name, factor in answer["extrapolated"].items())
        between = answer.get("intervals", {})
        rows.append(
            (
                _number(flops),
                answer.get("status") or (f"extrapolated: {beyond}" if beyond else "within the runs"),
                _short(answer["params"], between.get("params")),
                _short(answer["tokens"], between.get("tokens")),
                _number(answer["tokens"] / answer["params"]),
                _with(answer["loss"], between.get("loss"), 4),
            )
        )
    return Table(("FLOP", "status", "best N", "best D", "D / N", f"loss, nats per {study.per}"), tuple(rows))


def _budgets(law: FittedLaw) -> list[float]:
    """The runs' own range in three steps, and decades above it."""
    low, high = law.flops_range
    return [*np.geomspace(low, high, 3).tolist(), *(high * 10.0**k for k in range(1, _AHEAD + 1))]


def _score_blocks(studies: Mapping[str, Study]) -> list[Block]:
    rows = []
    for label, study in studies.items():
        for name in sorted({*study.scores, *study.lines}):
            power = study.scores[name].power if name in study.scores else None
            line = study.lines.get(name)
            rows.append(
                (
                    name if len(studies) == 1 else f"{label}: {name}",
                    "" if power is None else _with(power.exponent, power.exponent_interval),
                    "" if power is None else str(power.points),
                    "" if line is None else _with(line.correlation, line.correlation_interval),
                    "" if line is None else _with(line.slope, line.slope_interval),
                    "; ".join(fit.status for fit in (power, line) if fit is not None and fit.status != "ok") or "ok",
                )
            )
    head = ("score", "exponent of C", "points", "correlation with loss", "slope on loss", "status")
    return [Table(head, tuple(rows))] if rows else []


def _comparison(studies: Mapping[str, Study]) -> list[Block]:
    """How much more compute each group needs for the gain that tenfold compute gives the first."""
    (first, reference), *others = studies.items()
    rows = []
    for label, study in others:
        pairs = [("loss", study.envelope, reference.envelope)]
        pairs += [(name, study.scores[name].power, reference.scores[name].power) for name in study.scores
                  if name in reference.scores]  # fmt: skip
        for name, power, other in pairs:
            if power is not None and other is not None:
                multiple, between = compute_for_same_gain(power, other, 10.0)
                both = ((label, power), (first, other))
                bad = "; ".join(f"{whose}: {law.status}" for whose, law in both if law.status != "ok")
                rows.append((f"{label}: {name}", _with(multiple, between), _number(power.exponent),
                             _number(other.exponent), bad or "ok"))  # fmt: skip
    if not rows:
        return []
    return [
        Heading("Compute for the same gain"),
        Paragraph(f"Where {first} gains by ten times the compute, the others need so many times theirs."),
        Table(("group", "times the compute", "exponent", f"exponent of {first}", "status"), tuple(rows)),
    ]


def _runs_table(runs: Sequence[Run], study: Study | None, per: Per) -> Table:
    names = score_names(runs)
    head = ("run", "N", "D", "D / N", "passes", "FLOP", "nats per token", "per second", "left over", *names)
    rows = []
    for run in sorted(runs, key=lambda run: run.flops):
        loss = run.loss if per == "token" else run.nats_per_second
        left = "" if study is None or loss is None else f"{100 * (_predicted(study, run) / loss - 1):+.2f} %"
        passes = "" if run.unique_tokens is None else f"{max(1.0, run.tokens / run.unique_tokens):.3g}"
        numbers = [short_number(run.params), short_number(run.tokens), _number(run.tokens / run.params)]
        numbers += [passes, _number(run.flops), f"{run.loss:.4f}"]
        numbers += ["" if run.nats_per_second is None else f"{run.nats_per_second:.4g}", left]
        rows.append((run.name, *numbers, *(_number(run.scores.get(name, math.nan), 4) for name in names)))
    return Table(head, tuple(rows))


def _predicted(study: Study, run: Run) -> float:
    if study.repetition is not None and run.unique_tokens is not None:
        return study.repetition.loss(run.params, run.tokens, run.unique_tokens)
    return study.law.loss(run.params, run.tokens)


def _tokenisations(groups: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """The groups again if each is of one tokenisation, else the runs by tokenisation."""
    mixed = any(len({run.tokenizer for run in runs}) > 1 for runs in groups.values())
    if not mixed:
        different = {run.tokenizer for runs in groups.values() for run in runs}
        return {label: list(runs) for label, runs in groups.items()} if len(different) > 1 else {}
    return by_tokenizer(run for runs in groups.values() for run in runs)


def _number(value: float, digits: int = 3) -> str:
    """1.23e+08, 0.25, 12.3; nothing for what is not finite."""
    return f"{value:.{digits}g}" if math.isfinite(value) else ""


def _between(interval: Interval | None, digits: int = 3) -> str:
    if interval is None or math.isnan(interval[0]):
        return ""
    high = "no end" if math.isinf(interval[1]) else _number(interval[1], digits)
    return f"{_number(interval[0], digits)} to {high}"


def _with(value: float, interval: Interval | None, digits: int = 3) -> str:
    between = _between(interval, digits)
    return f"{_number(value, digits)} ({between})" if between else _number(value, digits)


def _short(value: float, interval: Interval | None) -> str:
    """13.3B (1.22B to 8.45B)."""
    if interval is None or math.isnan(interval[0]):
        return short_number(value)
    return f"{short_number(value)} ({short_number(interval[0])} to {short_number(interval[1])})"
