"""``scale``: the scaling study: plan runs, collect their records, fit laws, predict from them, draw them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import Seed, note, plural, print_json
from syllablelm.errors import FormatError, InputError

if TYPE_CHECKING:
    from syllablelm.scaling.laws import LossLaw
    from syllablelm.scaling.runs import Run

app = typer.Typer(help="Scaling laws: what to train with the compute you have.", rich_markup_mode=None)

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
Bootstrap = Annotated[int, typer.Option("--bootstrap", metavar="N", min=0, help="Resamples for 95 % intervals.")]
Unique = Annotated[
    float | None, typer.Option("--unique-tokens", metavar="X", help="Tokens of the corpus; beyond them data repeat.")
]


@app.command()
def plan(
    design: Annotated[
        Literal["isoflop", "ratio"],
        typer.Option("--design", help="Sizes around the optimum of several budgets, or sizes times ratios."),
    ] = "isoflop",
    flops: Flops = None,
    gpu_hours: Hours = None,
    gpu: Gpu = None,
    tflops: Tflops = None,
    use: Use = 0.4,
    law: Annotated[
        str, typer.Option("--law", metavar="NAME|STUDY", help="isoflop: where the optimum is expected.")
    ] = "speech",
    budgets: Annotated[int, typer.Option("--budgets", metavar="N", help="isoflop: how many.")] = 4,
    sizes: Annotated[int, typer.Option("--sizes", metavar="N", help="Models, of each budget for isoflop.")] = 5,
    step: Annotated[float, typer.Option("--step", metavar="X", help="From one budget or size to the next.")] = 3.0,
    span: Annotated[float, typer.Option("--span", metavar="X", help="isoflop: sizes from optimum/X to X*optimum.")] = 3,
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="X,X,...", help="ratio: tokens per parameter.")
    ] = "2,4,8,10,20,32,64,100",
    vocab: Annotated[int, typer.Option("--vocab", metavar="N", help="Units, with special ones.")] = 502,
    context: Annotated[int, typer.Option("--context", metavar="N", help="Positions of a sequence.")] = 1024,
    unique_tokens: Unique = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write one model a line (jsonl).")] = None,
) -> None:
    """Plan the runs of a study for a total budget, with what each will cost."""
    from syllablelm.scaling.design import plan_isoflops, plan_ratios
    from syllablelm.scaling.flops import flops_of_hours

    budget = _budget(flops, gpu_hours, gpu, tflops, use)
    if budget is None:
        raise InputError("a plan needs a budget: --flops, or --gpu-hours with --gpu or --tflops")
    models: dict[str, Any] = {"vocab": vocab, "context": context, "unique_tokens": unique_tokens}
    if design == "isoflop":
        runs = plan_isoflops(budget, _law(law), budgets=budgets, sizes=sizes, step=step, span=span, **models)
    else:
        runs = plan_ratios(budget, ratios=_numbers(ratios), sizes=sizes, step=step, **models)
    an_hour = None if gpu is None and tflops is None else flops_of_hours(1.0, gpu=gpu, tflops=tflops, use=use)
    rows = [run.to_row() for run in runs]
    for row in rows if an_hour is not None else ():
        row["gpu_hours"] = row["flops"] / an_hour
    total = sum(run.flops for run in runs)
    summary: dict[str, Any] = {"design": design, "models": len(runs), "budget": budget, "flops": total}
    summary["gpu_hours"] = None if an_hour is None else total / an_hour
    if out is None:
        summary["runs"] = rows
    else:
        _write_rows(out, rows)
        summary["out"] = str(out)
    print_json(summary)


@app.command()
def collect(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDERS", help="Runs of `train lm`, or folders above them.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The table (jsonl).")],
) -> None:
    """Gather the records of finished runs into one table; scores.json beside a run.json is taken in."""
    from syllablelm.scaling.runs import collect_run, find_run_folders

    found, reasons = [], []
    for root in folders:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder")
        places = find_run_folders(root)
        if not places:
            reasons.append(f"{root}: no run.json below this folder")
        for place in places:
            try:
                found.append(collect_run(place))
            except FormatError as error:
                reasons.append(str(error))
    if not found:
        raise InputError(f"no finished run: {'; '.join(reasons[:3])}")
    for reason in reasons:
        note(f"left out: {reason}")
    _write_rows(out, [run.to_row() for run in found])
    print_json({"runs": len(found), "left_out": len(reasons), "out": str(out)})


@app.command()
def fit(
    runs: RunFiles,
    per: PerUnit = "token",
    huber_delta: Annotated[
        float, typer.Option("--huber-delta", metavar="X", help="1e-3 in Chinchilla, 0.03 in the speech study.")
    ] = 1e-3,
    saturation: Annotated[
        float | None, typer.Option("--saturation", metavar="X", help="Leave runs out whose score reaches this.")
    ] = None,
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
    record["law"] |= {"a": study.law.a, "b": study.law.b, "G": study.law.G}
    print_json(record)


@app.command()
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
) -> None:
    """The best model for a budget, its expected loss and scores, or the budget for a loss or score."""
    from syllablelm.scaling.laws import PUBLISHED

    budget = _budget(flops, gpu_hours, gpu, tflops, use)
    if budget is None and loss is None and score is None and against is None:
        raise InputError("ask for something: --flops, --gpu-hours, --loss, --score or --against")
    answer: dict[str, Any] = {"law": law}
    if law in PUBLISHED and not Path(law).exists():
        if score is not None or against is not None:
            raise InputError(f"{law} is a published law of loss; --score and --against need a study of your own")
        answer |= _predict_published(law, budget, loss)
    else:
        answer |= _predict_study(law, budget, loss, score, against, gain)
    if unique_tokens is not None and budget is not None:
        answer["with_repetition"] = _predict_repetition(law, budget, unique_tokens)
    print_json(answer)


@app.command()
def plot(
    runs: Annotated[
        list[str], typer.Argument(metavar="[LABEL=]RUNS", help="jsonl files of runs; each is a group of its own.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help=".png, .svg or .pdf.")],
    figure: Annotated[
        Literal["loss", "scores", "lines", "tokens"],
        typer.Option("--figure", help="Loss or scores against FLOPs, scores against loss, or tokenisations compared."),
    ] = "loss",
    per: PerUnit = "token",
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
) -> None:
    """Draw runs with their laws and 95 % bands; dashed lines are extrapolated."""
    from syllablelm.scaling.plot import plot_runs

    groups: dict[str, list[Run]] = {}
    for argument in runs:
        label, equals, path = argument.partition("=")
        path = path if equals else argument
        groups.setdefault(label if equals else Path(path).stem, []).extend(_read_all([path]))
    if figure == "tokens" and len(groups) == 1:
        groups = _by_tokenizer(next(iter(groups.values())))
    shown = plot_runs(groups, path=out, figure=figure, per=per, bootstrap=bootstrap, seed=seed)
    print_json({"picture": str(out), "figure": figure, "shown": shown})


def _budget(
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


def _law(name: str) -> LossLaw:
    """A published law by its name, or the law of a study."""
    from syllablelm.scaling.laws import PUBLISHED
    from syllablelm.scaling.study import load_study

    if name in PUBLISHED and not Path(name).exists():
        return PUBLISHED[name]
    if not Path(name).exists():
        raise InputError(f"{name}: no such study, nor one of the published laws {', '.join(PUBLISHED)}")
    return load_study(name).law


def _predict_published(name: str, budget: float | None, loss: float | None) -> dict[str, Any]:
    law = _law(name)
    answer: dict[str, Any] = {}
    if budget is not None:
        best = law.optimal(budget)
        answer |= {"flops": budget, "params": best.params, "tokens": best.tokens, "loss": law.loss(*best)}
        # The range of their runs was not published with the constants.
        answer["extrapolated"] = None
    if loss is not None:
        answer["for_loss"] = {"loss": loss, "flops": _finite(law.flops_for_loss(loss))}
    return answer


def _predict_study(
    path: str, budget: float | None, loss: float | None, score: str | None, against: Path | None, gain: float
) -> dict[str, Any]:
    from syllablelm.scaling.study import flops_for_loss, flops_for_score, load_study, predict

    _law(path)
    study = load_study(path)
    answer: dict[str, Any] = {"status": study.law.status, "per": study.per}
    if budget is not None:
        answer |= predict(study, budget)
        for name, factor in answer["extrapolated"].items():
            note(f"extrapolated: {name} are {factor:.3g} times beyond the runs that were fitted")
    if loss is not None:
        answer["for_loss"] = flops_for_loss(study, loss)
    if score is not None:
        name, equals, value = score.partition("=")
        if not equals or name not in study.scores:
            raise InputError(
                f"--score {score}: must be NAME=X with a name of {', '.join(study.scores) or '(no scores)'}"
            )
        answer["for_score"] = flops_for_score(study.scores[name], _numbers(value)[0])
    if against is not None:
        answer["against"] = _compare(study.scores, load_study(against).scores, gain)
    return _finite(answer)


def _compare(slow: Any, fast: Any, gain: float) -> dict[str, Any]:
    from syllablelm.scaling.downstream import compute_for_same_gain

    shared = sorted(set(slow) & set(fast))
    if not shared:
        raise InputError("--against: the two studies have no score of the same name")
    if not gain > 1:
        raise InputError(f"--gain {gain:g}: must be above 1")
    answer = {}
    for name in shared:
        multiple, between = compute_for_same_gain(slow[name].power, fast[name].power, gain)
        gammas = {"gamma": slow[name].gamma, "other_gamma": fast[name].gamma}
        answer[name] = {"other_compute": gain, "compute": multiple, "interval": between, **gammas}
    return answer


def _predict_repetition(law: str, budget: float, unique: float) -> dict[str, Any]:
    from syllablelm.scaling.laws import REPEATED
    from syllablelm.scaling.study import load_study

    repetition = load_study(law).repetition if Path(law).exists() else REPEATED.get(law)
    if repetition is None:
        raise InputError(f"--unique-tokens: {law} has no law of repeated data; those of {', '.join(REPEATED)} do")
    best = repetition.optimal(budget, unique)
    return {
        "params": best.params,
        "tokens": best.tokens,
        "epochs": max(1.0, best.tokens / unique),
        "loss": repetition.loss(best.params, best.tokens, unique),
    }


def _read_all(paths: Sequence[str]) -> list[Run]:
    from syllablelm.scaling.runs import read_runs

    return [run for path in paths for run in read_runs(path)]


def _by_tokenizer(runs: list[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(run.tokenizer), []).append(run)
    return groups


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r}: must be numbers with commas between them") from None


def _write_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    from syllablelm.formats import atomic_path

    with atomic_path(out) as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    note(f"wrote {plural(len(rows), 'run')} to {out}")


def _finite(value: Any) -> Any:
    """For JSON, which knows no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
