"""Fuzzed readers of recipes, studies, results and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzz.registry import READERS, Make, Read, Reader, sample


def _recipe(class_name: str) -> Read:
    def read(path: Path) -> None:
        from pkgutil import resolve_name

        from syllablelm.core.recipes import build_recipe, read_recipe, recipe_kind

        recipe_kind(read_recipe(path), where=str(path))
        assert build_recipe(resolve_name(f"syllablelm.train.{class_name}"), path).name is not None

    return read


@sample("recipe-tokenizer", _recipe("tokenizer_recipe:TokenizerRecipe"))
def _tokenizer_recipe(folder: Path) -> Path:
    from helpers.micro_recipe import write_recipe

    return write_recipe(folder / "recipe.toml", Path("audio"))


def _packaged(name: str) -> Make:
    def make(folder: Path) -> Path:
        from syllablelm.core.config import to_toml
        from syllablelm.core.recipes import read_recipe

        (folder / "recipe.toml").write_text(to_toml(read_recipe(name)))
        return folder / "recipe.toml"

    return make


READERS["recipe-lm"] = Reader(_packaged("small_lm"), _recipe("lm_stage:LMRecipe"))
READERS["recipe-vocoder"] = Reader(_packaged("small_vocoder"), _recipe("vocoder_recipe:VocoderRecipe"))


def _read_plan(path: Path) -> None:
    from syllablelm.scaling.plan import plan_study, read_study_plan

    assert plan_study(read_study_plan(path), str(path)).models > 0


@sample("study-plan", _read_plan)
def _plan(folder: Path) -> Path:
    text = 'design = "ratio"\nflops = 1e18\nsizes = 2\nratios = [2.0, 8]\nlr = [1e-3]\nunique_tokens = 1e9\n'
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def _runs() -> list[dict[str, Any]]:
    from syllablelm.scaling import LossLaw

    law = LossLaw(1.73, 13.9, 39.8, 0.25, 0.24)
    return [
        {"params": n, "tokens": d, "loss": law.loss(n, d), "nats_per_second": 5 * law.loss(n, d), "name": f"run{n:g}",
         "tokenizer": "a", "scores": {"sblimp": 20 * (6 * n * d) ** 0.02}, "curve": [[d / 2, law.loss(n, d / 2), None]]}
        for n in (1e6, 4e6, 1.6e7) for d in (1e7, 1e8, 1e9)
    ]  # fmt: skip


def _read_runs(path: Path) -> None:
    from syllablelm.scaling.runs import read_runs
    from syllablelm.scaling.study import fit_study

    study = fit_study(read_runs(path))
    assert study.law.runs > 5 and study.to_dict()


@sample("study-runs", _read_runs)
def _run_table(folder: Path) -> Path:
    (folder / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _runs()))
    return folder / "runs.jsonl"


def _draw_runs(path: Path) -> None:
    from syllablelm.scaling.law_plots import plot_study
    from syllablelm.scaling.runs import read_groups

    plot_study(read_groups([str(path)]), path.parent.parent / "out.png", figure="scores")


READERS["study-figure"] = Reader(_run_table, _draw_runs)


def _read_study(path: Path) -> None:
    from syllablelm.scaling.prediction import predict

    assert predict(path, flops=1e18, loss=2.5).to_dict()


@sample("study", _read_study)
def _study(folder: Path) -> Path:
    from syllablelm.scaling.runs import read_runs
    from syllablelm.scaling.study import fit_study

    table = _run_table(folder)
    fit_study(read_runs(table), bootstrap=3).save(folder / "study.json")
    table.unlink()
    return folder / "study.json"


def _collect(path: Path) -> None:
    from syllablelm.scaling.runs import collect_runs

    assert len(collect_runs([path]).runs) == 1


@sample("study-run-folder", _collect)
def _run_folder(folder: Path) -> Path:
    path = folder / "a" / "lm"
    path.mkdir(parents=True)
    record = {"params": 1e6, "tokens": 1e7, "flops": 6e13, "tokenizer": "a", "curve": [[5e6, 3.0, 15.0]]}
    record["valid"] = {"model": {"nats_per_token": 2.5, "nats_per_second": 12.0}}
    (path / "run.json").write_text(json.dumps(record))
    (path / "scores.json").write_text(json.dumps({"sblimp": 55.0}))
    return folder / "a"


def _read_results(path: Path) -> None:
    from syllablelm.evaluate.evaluations import read_result

    for file in path.glob("*.json"):
        result = read_result(file)
        assert result.to_dict()["evaluation"] == result.evaluation


@sample("results", _read_results)
def _results(folder: Path) -> Path:
    from helpers.evaluation_results import RESULTS, write

    for name, result in RESULTS.items():
        write(folder / f"{name}.json", result)
    return folder


def _report(path: Path) -> None:
    from syllablelm.report.build import make_report

    report = make_report([path])
    assert report.markdown and "<html" in report.html


READERS["report"] = Reader(_results, _report)


def _read_log(path: Path) -> None:
    from syllablelm.train.runlog import read_log

    assert all("step" in line for line in read_log(path))


@sample("run-log", _read_log)
def _log(folder: Path) -> Path:
    (folder / "log.jsonl").write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, 4)))
    return folder
