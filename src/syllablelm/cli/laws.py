"""``scale fit``, ``predict``, ``plot`` and ``report``: from a table of runs to laws and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import Seed, print_json, read_numbers
from syllablelm.core.errors import InputError
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.scaling.laws import LossLaw
    from syllablelm.scaling.runs import Run
    from syllablelm.scaling.study import Study

Flops = Annotated[float | None, typer.Option("--flops", metavar="X", help="Budget in FLOP, such as 1e19.")]
Hours = Annotated[
    float | None, typer.Option("--gpu-hours", metavar="H", help="Budget in hours of --gpu or --tflops instead.")
]
Gpu = Annotated[str | None, typer.Option("--gpu", metavar="NAME", help="v100, a5000, a6000, a100, h100, ...")]
Tflops = Annotated[float | None, typer.Option("--tflops", metavar="X", help="Peak TFLOP/s of another device.")]
Use = Annotated[float, typer.Option("--use", metavar="SHARE", help="Of the peak that training reaches.")]
PerUnit = Annotated[
    Literal["token", "second"],
    typer.Option("--per", help="Nats per token of one tokenisation, or per second of audio, comparable across them."),
]
RunFiles = Annotated[list[str], typer.Argument(metavar="RUNS", help="jsonl files of runs, as `scale collect` writes.")]
Groups = Annotated[
    list[str], typer.Argument(metavar="[LABEL=]RUNS", help="jsonl files of runs; each is a group of its own.")
]
HuberDelta = Annotated[
    float, typer.Option("--huber-delta", metavar="X", help="1e-3 in Chinchilla, 0.03 in the speech study.")
]
Saturation = Annotated[
    float | None, typer.Option("--saturation", metavar="X", help="Leave runs out whose score reaches this.")
]
Bootstrap = Annotated[int, typer.Option("--bootstrap", metavar="N", min=0, help="Resamples for 95 % intervals.")]
Unique = Annotated[
    float | None, typer.Option("--unique-tokens", metavar="X", help="Tokens of the corpus; beyond them data repeat.")
]


def fit(
    runs: RunFiles,
    per: PerUnit = "token",
    huber_delta: HuberDelta = 1e-3,
    saturation: Saturation = None,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the study here (JSON).")] = None,
) -> None:
    """Fit loss = E + A / N^alpha + B / D^beta, the envelope, and laws of every score."""
    from syllablelm.scaling.study import fit_study, save_study, study_to_dict

    study = fit_study(
        _read_all(runs), per=per, huber_delta=huber_delta, saturation=saturation, bootstrap=bootstrap, seed=seed
    )
    if out is not None:
        save_study(study, out)
    if study.law.status != "ok":
        note(study.law.status)
    for what, reason in study.skipped.items():
        note(f"not fitted: {what}: {reason}")
    record = study_to_dict(study)
    implied = {"a": study.law.a, "b": study.law.b, "G": study.law.G}
    record["law"] |= _finite(implied) | {"resamples": len(study.law.samples), "usable": study.law.usable}
    print_json(record)


def predict(
    law: Annotated[
        str, typer.Argument(metavar="STUDY|NAME", help="What `scale fit --out` wrote, or a published law's name.")
    ],
    flops: Flops = None,
    gpu_hours: Hours = None,
    gpu: Gpu = None,
    tflops: Tflops = None,
    use: Use = 0.4,
    loss: Annotated[float | None, typer.Option("--loss", metavar="X", help="Compute needed for this loss.")] = None,
    score: Annotated[
        str | None, typer.Option("--score", metavar="NAME=X", help="Compute needed for this score.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="STUDY", help="How much more compute than this study's models the same gain needs."
        ),
    ] = None,
    gain: Annotated[
        float, typer.Option("--gain", metavar="X", help="--against: the gain of this many times the compute.")
    ] = 10.0,
    unique_tokens: Unique = None,
    ceiling: Annotated[
        float, typer.Option("--ceiling", metavar="X", help="That no score passes; predictions above it say so.")
    ] = 100.0,
) -> None:
    """The best model for a budget, its expected loss and scores, or the budget for a loss or score."""
    from syllablelm.scaling.laws import PUBLISHED

    budget = read_budget(flops, gpu_hours, gpu, tflops, use)
    if budget is None and loss is None and score is None and against is None:
        raise InputError("ask for something: --flops, --gpu-hours, --loss, --score or --against")
    if loss is not None and not 0 < loss < float("inf"):
        raise InputError(f"--loss {loss:g}: must be above 0 and finite")
    if not 0 < ceiling < float("inf"):
        raise InputError(f"--ceiling {ceiling:g}: must be above 0 and finite")
    if unique_tokens is not None and budget is None:
        raise InputError("--unique-tokens: goes with a budget; give --flops or --gpu-hours too")
    answer: dict[str, Any] = {"law": law}
    if law in PUBLISHED and not Path(law).exists():
        if score is not None or against is not None:
            raise InputError(f"{law} is a published law of loss; --score and --against need a study of your own")
        answer |= _predict_published(law, budget, loss)
    else:
        answer |= _predict_study(law, budget, loss, score, against, gain, ceiling)
    if unique_tokens is not None and budget is not None:
        answer["with_repetition"] = _predict_repetition(law, budget, unique_tokens)
    print_json(answer)


def plot(
    runs: Groups,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help=".png, .svg or .pdf.")],
    figure: Annotated[
        Literal["loss", "scores", "lines", "tokens"],
        typer.Option("--figure", help="Loss or scores against FLOPs, scores against loss, or tokenisations compared."),
    ] = "loss",
    per: PerUnit = "token",
    saturation: Saturation = None,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
) -> None:
    """Draw runs with their laws and 95 % bands; dashed lines are extrapolated."""
    from syllablelm.scaling.law_plots import plot_runs
    from syllablelm.scaling.runs import by_tokenizer

    groups = _read_groups(runs)
    if figure == "tokens" and len(groups) == 1:
        groups = by_tokenizer(next(iter(groups.values())))
    options: dict[str, Any] = {"per": per, "saturation": saturation, "bootstrap": bootstrap, "seed": seed}
    shown = plot_runs(groups, path=out, figure=figure, **options)
    print_json({"picture": str(out), "figure": figure, "shown": shown})


def report(
    runs: Groups,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="report.md, report.html and figures (svg).")],
    per: PerUnit = "token",
    huber_delta: HuberDelta = 1e-3,
    saturation: Saturation = None,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Of the report.")] = "Scaling study",
) -> None:
    """Fit every group of runs and report: tables, figures, and what the data can and cannot say."""
    from syllablelm.scaling.study_report import REPORT_MARKDOWN, REPORT_PAGE, write_report

    options: dict[str, Any] = {"per": per, "huber_delta": huber_delta, "saturation": saturation}
    status = write_report(_read_groups(runs), out, bootstrap=bootstrap, seed=seed, title=title, **options)
    print_json({"report": str(out / REPORT_MARKDOWN), "page": str(out / REPORT_PAGE), "status": status})


def read_budget(
    flops: float | None, hours: float | None, gpu: str | None, tflops: float | None, use: float
) -> float | None:
    from syllablelm.scaling.flops import flops_of_hours

    if flops is not None and hours is not None:
        raise InputError("give either --flops or --gpu-hours")
    if hours is not None:
        return flops_of_hours(hours, gpu=gpu, tflops=tflops, use=use)
    if flops is not None and not 0 < flops < float("inf"):
        raise InputError(f"--flops {flops:g}: must be above 0 and finite")
    return flops


def read_law(name: str) -> LossLaw:
    """A published law by its name, or the law of a study, if it has an optimum to plan by.

    Raises:
        InputError: neither, or a law without an optimum.
    """
    from syllablelm.scaling.laws import PUBLISHED

    if name in PUBLISHED and not Path(name).exists():
        return PUBLISHED[name]
    law = _read_study(name).law
    if not law.has_optimum:
        raise InputError(f"{name}: its law has no optimum ({law.status}); name another law")
    return law


def _read_study(name: str) -> Study:
    from syllablelm.scaling.laws import PUBLISHED
    from syllablelm.scaling.study import load_study

    if not Path(name).exists():
        raise InputError(f"{name}: no such study, nor one of the published laws {', '.join(PUBLISHED)}")
    return load_study(name)


def _predict_published(name: str, budget: float | None, loss: float | None) -> dict[str, Any]:
    from syllablelm.scaling.answers import behind, never, outside
    from syllablelm.scaling.laws import FLOPS_PER_PARAM_TOKEN, TRAINED

    law = read_law(name)
    ranges = {}
    if name in TRAINED:
        (least, most), (few, many) = TRAINED[name]
        ranges = {
            "flops": (FLOPS_PER_PARAM_TOKEN * least * few, FLOPS_PER_PARAM_TOKEN * most * many),
            "params": (least, most),
            "tokens": (few, many),
        }
    answer: dict[str, Any] = {}
    if budget is not None:
        best = law.optimal(budget)
        answer |= {"flops": budget, "params": best.params, "tokens": best.tokens, "loss": law.loss(*best)}
        # null where the range of their runs is not known.
        answer["extrapolated"] = outside(answer, ranges) if ranges else None
        _note_extrapolation(answer["extrapolated"] or {})
    if loss is not None:
        flops, reason = law.flops_for_loss(loss), never(law, loss)
        found = {"loss": loss, "flops": flops, **({"status": reason} if reason else {})}
        answer["for_loss"] = found | behind(law, flops, ranges or None)
        _note_extrapolation(answer["for_loss"]["extrapolated"] or {})
    return _finite(answer)


def _predict_study(
    path: str,
    budget: float | None,
    loss: float | None,
    score: str | None,
    against: Path | None,
    gain: float,
    ceiling: float,
) -> dict[str, Any]:
    from syllablelm.scaling.answers import flops_for_loss, flops_for_score, predict
    from syllablelm.scaling.study import load_study

    study = _read_study(path)
    answer: dict[str, Any] = {"status": study.law.status, "per": study.per}
    if budget is not None:
        answer |= predict(study, budget, ceiling=ceiling)
        _note_extrapolation(answer["extrapolated"])
    if loss is not None:
        answer["for_loss"] = flops_for_loss(study, loss)
        _note_extrapolation(answer["for_loss"]["extrapolated"] or {})
    if score is not None:
        name, equals, value = score.partition("=")
        if not equals or name not in study.scores:
            raise InputError(
                f"--score {score}: must be NAME=X with a name of {', '.join(study.scores) or '(no scores)'}"
            )
        target = read_numbers(value, "--score")[0]
        answer["for_score"] = flops_for_score(study.scores[name], target, ceiling=ceiling)
    if against is not None:
        answer["against"] = _compare(study, load_study(against), gain)
    return _finite(answer)


def _compare(slow: Study, fast: Study, gain: float) -> dict[str, Any]:
    """For loss and scores: compute that ``slow`` needs for what ``gain`` times the compute gives ``fast``."""
    from syllablelm.scaling.downstream import compute_for_same_gain

    if not 1 < gain < float("inf"):
        raise InputError(f"--gain {gain:g}: must be above 1 and finite")
    pairs = {name: (slow.scores[name].power, fast.scores[name].power) for name in slow.scores if name in fast.scores}
    if slow.envelope is not None and fast.envelope is not None:
        # A power law's exponent does not depend on the unit, so the studies may count by token or by second.
        pairs = {"loss": (slow.envelope, fast.envelope), **pairs}
    if not pairs:
        raise InputError("--against: the two studies share neither an envelope of losses nor a score")
    answer = {}
    for name, (power, other) in sorted(pairs.items()):
        multiple, between = compute_for_same_gain(power, other, gain)
        gammas = {"gamma": power.exponent, "other_gamma": other.exponent}
        answer[name] = {"other_compute": gain, "compute": multiple, "interval": between, **gammas}
        bad = [law.status for law in (power, other) if law.status != "ok"]
        if bad:
            answer[name]["status"] = "; ".join(bad)
    return answer


def _predict_repetition(law: str, budget: float, unique: float) -> dict[str, Any]:
    from syllablelm.scaling.answers import outside, predict_repeated
    from syllablelm.scaling.laws import PASSES, REPEATED, TRAINED

    study = _read_study(law) if Path(law).exists() else None
    repetition = REPEATED.get(law) if study is None else study.repetition
    if repetition is None:
        raise InputError(f"--unique-tokens: {law} has no law of repeated data; those of {', '.join(REPEATED)} do")
    answer = predict_repeated(repetition, budget, unique, None if study is None else study.law)
    if study is None:
        answer["extrapolated"] = None
        if law in PASSES:
            params, tokens = TRAINED[law]
            answer["extrapolated"] = outside(answer, {"params": params, "tokens": tokens, "epochs": (1, PASSES[law])})
    _note_extrapolation(answer["extrapolated"] or {}, "with repetition: ")
    return _finite(answer)


def _note_extrapolation(factors: dict[str, float], what: str = "") -> None:
    for name, factor in factors.items():
        note(f"extrapolated: {what}{name} are {factor:.3g} times beyond the runs that were fitted")


def _read_all(paths: Sequence[str]) -> list[Run]:
    from syllablelm.scaling.runs import read_runs

    return [run for path in paths for run in read_runs(path)]


def _read_groups(arguments: Sequence[str]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for argument in arguments:
        label, equals, path = argument.partition("=")
        path = path if equals else argument
        groups.setdefault(label if equals else Path(path).stem, []).extend(_read_all([path]))
    return groups


def _finite(value: Any) -> Any:
    """For JSON, which knows no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
