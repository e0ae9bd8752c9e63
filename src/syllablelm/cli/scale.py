"""``scale``: the scaling study: plan runs, train them, collect their records; then fit, predict, plot and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Changes, Device, Model, Seed, print_json
from syllablelm.cli.zerospeech import Split, Ties
from syllablelm.core.errors import plural
from syllablelm.core.progress import note
from syllablelm.scaling.flops import MFU, PEAK_TFLOPS, Design, Figure, Per

app = typer.Typer(help="Scaling laws: what to train with a compute budget.", rich_markup_mode=None)

Flops = Annotated[float | None, typer.Option("--flops", metavar="X", help="Compute budget in FLOP, such as 1e19.")]
Hours = Annotated[float | None, typer.Option("--gpu-hours", metavar="H", help="Compute budget in GPU hours instead.")]
Gpu = Annotated[str | None, typer.Option("--gpu", metavar="NAME", help=f"GPU: {', '.join(PEAK_TFLOPS)}.")]
Mfu = Annotated[
    float | None, typer.Option("--mfu", metavar="SHARE", help=f"Assumed model-FLOPs utilisation (default: {MFU}).")
]
PerUnit = Annotated[
    Per,
    typer.Option("--per", help="Unit of the losses: nats per token, or per second to compare tokenisations."),
]
Folders = Annotated[
    list[Path], typer.Argument(metavar="FOLDERS", help="Runs of `train lm` or `scale run`, or folders above them.")
]
Groups = Annotated[
    list[str], typer.Argument(metavar="[LABEL=]RUNS", help="Run records (jsonl), one group per label or file.")
]
HuberDelta = Annotated[
    float,
    typer.Option(
        "--huber-delta", metavar="X", help="Threshold of Huber's loss (Chinchilla: 1e-3, speech study: 0.03)."
    ),
]
Saturation = Annotated[
    float | None, typer.Option("--saturation", metavar="X", help="Score from which runs are left out of its law.")
]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", metavar="N", min=0, help="Bootstrap resamples of the 95 % intervals.")
]


@app.command()
def plan(
    file: Annotated[Path | None, typer.Argument(metavar="PLAN", help="Plan (.toml); default: an IsoFLOP plan.")] = None,
    design: Annotated[Design | None, typer.Option("--design", help="Design of the study.")] = None,
    flops: Flops = None,
    gpu_hours: Hours = None,
    gpu: Gpu = None,
    mfu: Mfu = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting of the plan, such as sizes=4; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Output file (jsonl), one run a line.")
    ] = None,
) -> None:
    """Plan the runs of a study, for a total budget or as a grid, with their cost."""
    from syllablelm.scaling.plan import plan_study, read_study_plan

    options = {"design": design, "flops": flops, "gpu_hours": gpu_hours, "gpu": gpu, "mfu": mfu}
    planned = plan_study(read_study_plan(file, changes or (), **options), str(file or "plan"))
    if out is None:
        print_json(planned)
    else:
        planned.write(out)
        note(f"wrote {plural(planned.models, 'run')} to {out}")
        print_json({key: value for key, value in planned.to_dict().items() if key != "runs"} | {"out": str(out)})


@app.command()
def run(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Plan (jsonl) written by `scale plan --out`.")],
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="Recipe of `train lm`: units, and settings that the plan leaves open."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Output directory.")],
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Train every run of a plan, the cheapest first; finished ones are skipped, a stopped one resumes.

    For several processes: torchrun --nproc-per-node N -m syllablelm scale run ...
    """
    from syllablelm.train.processes import on_main
    from syllablelm.train.study_runs import train_study

    result = train_study(plan, recipe, out, overrides=changes or (), device=device)
    # The others wait: torchrun ends all processes with the first that fails.
    on_main(lambda: print_json(result))
    result.check()


@app.command()
def score(
    folders: Folders,
    lexical: Annotated[
        list[str] | None,
        typer.Option("--lexical", metavar="[NAME=]FOLDER", help="Suite of words and non-words; repeatable."),
    ] = None,
    syntactic: Annotated[
        list[str] | None,
        typer.Option("--syntactic", metavar="[NAME=]FOLDER", help="Suite of minimal pairs of sentences; repeatable."),
    ] = None,
    cloze: Annotated[
        list[str] | None,
        typer.Option("--cloze", metavar="[NAME=]FOLDER", help="Suite of stories with two endings; repeatable."),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option("--units", metavar="[NAME=]FILE", help="Units to score instead of recordings; repeatable."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    split: Split = "dev",
    ties: Ties = "half",
    device: Device = "auto",
) -> None:
    """Score every finished run on suites of pairs: scores.json beside each run.json.

    Recordings are encoded once for all runs; a stopped run resumes. Accuracies in percent; of syntactic suites the mean
    over phenomena.
    """
    from syllablelm.evaluate.lm.study_scores import read_suites, score_study

    suites = read_suites(units or (), lexical=lexical or (), syntactic=syntactic or (), cloze=cloze or ())
    print_json(score_study(folders, suites, model=model, split=split, ties=ties, device=device))


@app.command()
def collect(
    folders: Folders,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Output file (jsonl).")],
    source: Annotated[
        Literal["runs", "pythia"],
        typer.Option("--from", help="Own runs, or the published evaluations of the Pythia suite (evals/pythia-v1)."),
    ] = "runs",
) -> None:
    """Gather the records of finished runs into one table, with the scores.json beside each run.json."""
    from syllablelm.scaling.pythia import collect_pythia
    from syllablelm.scaling.runs import collect_runs

    collected = collect_runs(folders) if source == "runs" else collect_pythia(folders)
    for reason in collected.left_out:
        note(f"left out: {reason}")
    collected.write(out)
    note(f"wrote {plural(len(collected.runs), 'run')} to {out}")
    print_json({"runs": len(collected.runs), "left_out": len(collected.left_out), "out": str(out)})


@app.command()
def fit(
    runs: Annotated[list[str], typer.Argument(metavar="RUNS", help="Run records (jsonl) written by `scale collect`.")],
    per: PerUnit = "token",
    huber_delta: HuberDelta = 1e-3,
    saturation: Saturation = None,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Output file of the study (JSON).")] = None,
) -> None:
    """Fit loss = E + A / N^alpha + B / D^beta, the envelope, and laws of every score.

    Runs without a loss need scores; then the laws of scores alone are fitted.
    """
    from syllablelm.scaling.runs import read_runs
    from syllablelm.scaling.study import fit_study

    options: dict[str, Any] = {"saturation": saturation, "bootstrap": bootstrap, "seed": seed}
    study = fit_study(read_runs(*runs), per=per, huber_delta=huber_delta, **options)
    if out is not None:
        study.save(out)
    for line in study.notes:
        note(line)
    print_json(study.summary())


@app.command()
def predict(
    law: Annotated[
        str, typer.Argument(metavar="STUDY|NAME", help="Study written by `scale fit --out`, or a published one.")
    ],
    flops: Flops = None,
    gpu_hours: Hours = None,
    gpu: Gpu = None,
    tflops: Annotated[
        float | None, typer.Option("--tflops", metavar="X", help="Peak TFLOP/s of another device.")
    ] = None,
    mfu: Mfu = None,
    loss: Annotated[float | None, typer.Option("--loss", metavar="X", help="Loss to find the compute for.")] = None,
    score: Annotated[
        str | None, typer.Option("--score", metavar="NAME=X", help="Score to find the compute for.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="STUDY|NAME", help="Study to compare the compute for the same gain with."),
    ] = None,
    gain: Annotated[
        float, typer.Option("--gain", metavar="X", help="Multiple of the other study's compute that makes the gain.")
    ] = 10.0,
    unique_tokens: Annotated[
        float | None,
        typer.Option("--unique-tokens", metavar="X", help="Corpus size in tokens, beyond which data repeat."),
    ] = None,
    ceiling: Annotated[float, typer.Option("--ceiling", metavar="X", help="Maximum of the scores.")] = 100.0,
) -> None:
    """Predict the best model for a budget with its loss and scores, or the compute for a loss or score."""
    from syllablelm.scaling.prediction import predict, read_score

    budget: dict[str, Any] = {"gpu_hours": gpu_hours, "gpu": gpu, "tflops": tflops, "mfu": MFU if mfu is None else mfu}
    asked: dict[str, Any] = {"loss": loss, "score": None if score is None else read_score(score), "against": against}
    answer = predict(law, flops, **budget, **asked, gain=gain, unique_tokens=unique_tokens, ceiling=ceiling)
    for line in answer.notes:
        note(line)
    print_json(answer)


@app.command()
def plot(
    runs: Groups,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Output file (.png, .svg or .pdf).")],
    figure: Annotated[
        Figure,
        typer.Option("--figure", help="Loss or scores against FLOPs, scores against loss, or tokenisations compared."),
    ] = "loss",
    per: PerUnit = "token",
    saturation: Saturation = None,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
) -> None:
    """Draw runs with their laws and 95 % bands; dashed lines are extrapolated."""
    from syllablelm.scaling.law_plots import plot_study
    from syllablelm.scaling.runs import read_groups

    groups = read_groups(runs)
    print_json(plot_study(groups, out, figure=figure, per=per, saturation=saturation, bootstrap=bootstrap, seed=seed))


@app.command()
def report(
    runs: Groups,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Output directory.")],
    per: PerUnit = "token",
    huber_delta: HuberDelta = 1e-3,
    saturation: Saturation = None,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
    title: Annotated[str, typer.Option("--title", metavar="TITLE", help="Title of the report.")] = "Scaling study",
) -> None:
    """Fit every group of runs and write report.md, report.html and their figures."""
    from syllablelm.scaling.runs import read_groups
    from syllablelm.scaling.study_report import write_report

    options = {"per": per, "huber_delta": huber_delta, "saturation": saturation, "bootstrap": bootstrap, "seed": seed}
    print_json(write_report(read_groups(runs), out, **options, title=title))
