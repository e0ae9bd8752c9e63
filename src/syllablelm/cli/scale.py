"""``scale``: the scaling study: plan runs, train them, collect their records; then fit, predict, plot and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli import laws
from syllablelm.cli.common import Changes, Device, print_json, read_numbers
from syllablelm.cli.laws import Flops, Gpu, Hours, Tflops, Unique, Use, read_budget, read_law
from syllablelm.core.errors import FormatError, InputError, plural
from syllablelm.core.progress import note
from syllablelm.core.recipes import read_recipe

if TYPE_CHECKING:
    from syllablelm.scaling.design import PlannedRun
    from syllablelm.scaling.flops import Shape

app = typer.Typer(help="Scaling laws: what to train with the compute you have.", rich_markup_mode=None)


@app.command()
def plan(
    design: Annotated[
        Literal["isoflop", "ratio", "grid"],
        typer.Option(
            "--design", help="Sizes around the optimum of several budgets, sizes times ratios, or sizes times tokens."
        ),
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
    params: Annotated[
        str | None, typer.Option("--params", metavar="X,X,...", help="grid: sizes, for the nearest shapes.")
    ] = None,
    shapes: Annotated[
        str | None, typer.Option("--shapes", metavar="LxD,LxD,...", help="grid: or layers x width of each model.")
    ] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", metavar="X,X,...", help="grid: to train on.")] = None,
    passes: Annotated[
        str, typer.Option("--passes", metavar="X,X,...", help="grid: over the data; 4 repeats a quarter of the tokens.")
    ] = "1",
    lr: Annotated[
        str | None, typer.Option("--lr", metavar="X,X,...", help="Peak learning rate: one, or one a size, upwards.")
    ] = None,
    batch_tokens: Annotated[
        str | None, typer.Option("--batch-tokens", metavar="N,N,...", help="Of an update: one, or one a size, upwards.")
    ] = None,
    vocab: Annotated[int, typer.Option("--vocab", metavar="N", help="Units, with special ones.")] = 502,
    context: Annotated[int, typer.Option("--context", metavar="N", help="Positions of a sequence.")] = 1024,
    unique_tokens: Unique = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write one model a line (jsonl).")] = None,
) -> None:
    """Plan the runs of a study, for a total budget or as a grid, with what each will cost."""
    from syllablelm.scaling.design import plan_grid, plan_isoflops, plan_ratios, with_rates

    budget = read_budget(flops, gpu_hours, gpu, tflops, use)
    if budget is None and design != "grid":
        raise InputError("a plan needs a budget: --flops, or --gpu-hours with --gpu or --tflops")
    models: dict[str, Any] = {"vocab": vocab, "context": context}
    limited: dict[str, Any] = {**models, "unique_tokens": unique_tokens}
    if budget is None or design == "grid":
        if budget is not None or unique_tokens is not None:
            raise InputError("a grid is as large as its lists, and its data as --passes say; leave budgets out")
        chosen = _grid_shapes(params, shapes, models)
        if tokens is None:
            raise InputError("a grid needs --tokens, such as --tokens 1e6,4e6")
        runs = plan_grid(chosen, read_numbers(tokens, "--tokens"), read_numbers(passes, "--passes"))
    elif design == "isoflop":
        runs = plan_isoflops(budget, read_law(law), budgets=budgets, sizes=sizes, step=step, span=span, **limited)
    else:
        runs = plan_ratios(budget, ratios=read_numbers(ratios, "--ratios"), sizes=sizes, step=step, **limited)
    runs = with_rates(
        runs,
        lr=() if lr is None else read_numbers(lr, "--lr"),
        batch_tokens=() if batch_tokens is None else read_numbers(batch_tokens, "--batch-tokens"),
    )
    _print_plan(design, runs, budget, gpu, tflops, use, out)


def _grid_shapes(params: str | None, shapes: str | None, models: dict[str, Any]) -> list[Shape]:
    from syllablelm.scaling.flops import opt_layers, opt_shape

    if (params is None) == (shapes is None):
        raise InputError("a grid needs --params, such as 1e5,1e6, or --shapes, such as 2x64,4x128")
    if params is not None:
        return [opt_shape(size, **models) for size in read_numbers(params, "--params")]
    found = []
    for text in (shapes or "").split(","):
        layers, _, dim = text.partition("x")
        if not (layers.strip().isdecimal() and dim.strip().isdecimal()):
            raise InputError(f"--shapes {text!r}: write layers x width, such as 2x64")
        found.append(opt_layers(int(layers), int(dim), **models))
    return found


def _print_plan(
    design: str,
    runs: Sequence[PlannedRun],
    budget: float | None,
    gpu: str | None,
    tflops: float | None,
    use: float,
    out: Path | None,
) -> None:
    from syllablelm.scaling.flops import flops_of_hours

    an_hour = None if gpu is None and tflops is None else flops_of_hours(1.0, gpu=gpu, tflops=tflops, use=use)
    rows = [run.to_row() for run in runs]
    for row in rows if an_hour is not None else ():
        row["gpu_hours"] = row["flops"] / an_hour
    total = sum(run.flops for run in runs)
    summary: dict[str, Any] = {"design": design, "models": len(runs), "budget": budget, "flops": total}
    summary["flops_exact"] = sum(row["flops_exact"] for row in rows)
    summary["gpu_hours"] = None if an_hour is None else total / an_hour
    if out is None:
        summary["runs"] = rows
    else:
        _write_rows(out, rows)
        summary["out"] = str(out)
    print_json(summary)


@app.command()
def run(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="jsonl, as `scale plan --out` writes.")],
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Of `train lm` (.toml): units, and what the plan leaves open.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the study.")],
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Train every model of a plan, the cheapest first; finished ones are skipped, a stopped one resumes.

    For several processes: torchrun --nproc-per-node N -m syllablelm scale run ...
    """
    from syllablelm.core.config import build

    table = read_recipe(recipe, changes or ())
    from syllablelm.train.bundle import LMRecipe
    from syllablelm.train.processes import on_main
    from syllablelm.train.study_runs import read_plan, train_study

    resolved = build(LMRecipe, table, str(recipe))
    done, failed = train_study(read_plan(plan), resolved, out, device=device)
    # The others wait: torchrun ends all processes with the first that ends badly.
    on_main(lambda: print_json({"runs": len(done), "failed": failed, "out": str(out)}))
    if failed:
        name, reason = next(iter(failed.items()))
        raise InputError(f"{plural(len(failed), 'run')} of {len(done) + len(failed)} failed; {name}: {reason}")


@app.command()
def collect(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDERS", help="Runs of `train lm` or `scale run`, or folders above them.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The table (jsonl).")],
) -> None:
    """Gather the records of finished runs into one table; scores.json beside a run.json is taken in."""
    from syllablelm.scaling.runs import collect_run, find_run_folders

    found, reasons = [], []
    # Folders may lie in one another, or be named twice.
    seen: set[Path] = set()
    for root in folders:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder")
        places = find_run_folders(root)
        if not places:
            reasons.append(f"{root}: no run.json below this folder")
        for place in places:
            if place.resolve() in seen:
                continue
            seen.add(place.resolve())
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


app.command("fit")(laws.fit)
app.command("predict")(laws.predict)
app.command("plot")(laws.plot)
app.command("report")(laws.report)


def _write_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    from syllablelm.core.files import write_json_lines

    write_json_lines(out, rows)
    note(f"wrote {plural(len(rows), 'run')} to {out}")
