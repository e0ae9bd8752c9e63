"""Reports of studies: statements and tables follow from the fits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.scaling import LossLaw, RepetitionLaw, Run, fit_study
from syllablelm.scaling.power import fit_score_law
from syllablelm.scaling.study_report import StudyReport, summarize, write_report

TRUTH = LossLaw(1.73, 13.9, 39.8, 0.25, 0.24)


def make_runs(noise: float = 0.005, gamma: float = 0.02, tokenizer: str = "a", repeated: bool = False) -> list[Run]:
    rng = np.random.default_rng(0)
    runs = []
    for params in np.geomspace(1e6, 1e8, 4):
        for tokens in params * np.array([2, 10, 50, 250]):
            loss = float(TRUTH.loss(params, tokens) * np.exp(noise * rng.standard_normal()))
            scores = {"sblimp": float(20 * (6 * params * tokens) ** gamma * np.exp(noise * rng.standard_normal()))}
            name = f"{params:.2g}-{tokens:.2g}"
            runs.append(Run(params, tokens, loss, 6 * params * tokens, 5 * loss, tokenizer, None, scores, name))
            if repeated and tokens > 1e8:
                law, unique = RepetitionLaw(TRUTH, 10.0, 10.0), tokens / 8
                worse = float(law.loss(params, tokens, unique))
                runs.append(replace(runs[-1], loss=worse, unique_tokens=unique, scores={}, name=name + "-x8"))
    return runs


def test_statements_follow_from_the_fit() -> None:
    runs = make_runs(repeated=True)
    found = " ".join(summarize(runs, fit_study(runs, huber_delta=0.03, bootstrap=20)))
    assert f"{sum(run.unique_tokens is not None for run in runs)} repeat their data" in found
    assert "4 sizes: 1M to 100M parameters" in found
    assert "not identified" not in found and "weak evidence" not in found


def test_statements_warn() -> None:
    flat = [replace(run, loss=2 + 1e-5 * k, scores={"sblimp": 50 + 1e-3 * (-1) ** k}) for k, run in
            enumerate(make_runs())]  # fmt: skip
    found = " ".join(summarize(flat, fit_study(flat, bootstrap=20)))
    assert "not identified one by one (degenerate" in found
    near = [run for run in make_runs() if run.flops < 1e15]
    found = " ".join(summarize(near, None, "too few"))
    assert "Less than two decades" in found
    assert "No loss law fitted: too few." in found


def test_growth_is_compared_with_one_half_by_its_interval() -> None:
    runs = make_runs(0.0)
    study = fit_study(runs, bootstrap=20)
    for between, words in (
        ((0.4, 0.6), "not distinguishable from 0.5"),
        ((0.6, 0.7), "above 0.5"),
        ((0.3, 0.4), "below 0.5"),
    ):
        law = replace(study.law, intervals={**study.law.intervals, "a": between})
        assert words in " ".join(summarize(runs, replace(study, law=law)))
        # Constants that are not identified are not read after all.
        law = replace(law, status="degenerate: alpha is 9")
        assert words not in " ".join(summarize(runs, replace(study, law=law)))


def test_noise_is_not_called_growth(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    noisy = [replace(run, scores={"sblimp": 50 + float(rng.standard_normal())}) for run in make_runs()]
    write_report({"noise": noisy}, tmp_path, bootstrap=20)
    (row,) = [line for line in (tmp_path / "report.md").read_text("utf-8").splitlines() if line.startswith("| sblimp ")]
    assert "degenerate: no more than noise (p = " in row
    write_report({"growth": make_runs()}, tmp_path, bootstrap=20)
    assert "no more than noise" not in (tmp_path / "report.md").read_text("utf-8")


def test_repetition_stands_among_the_fits(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = make_runs(repeated=True)
    fitted = fit_study(runs, huber_delta=0.03).repetition
    write_report({"all": runs}, tmp_path, huber_delta=0.03, bootstrap=20)
    rows = [line.split("|") for line in (tmp_path / "report.md").read_text("utf-8").splitlines() if "R_" in line]
    assert [row[1].strip() for row in rows] == ["R_D\\*", "R_N\\*"]
    assert fitted is not None and float(rows[0][2]) == pytest.approx(fitted.repeat_tokens, rel=5e-3)


def test_report_of_two_groups(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    few = [replace(run, scores={}) for run in make_runs()[:4]]
    groups = {"speech": make_runs(), "text": make_runs(gamma=0.06, tokenizer="b"), "few": few}
    status = write_report(groups, tmp_path / "out", huber_delta=0.03, bootstrap=10, title="A & B").status
    assert (status["speech"], status["text"]) == ("ok", "ok")
    assert "4 runs cannot fix" in status["few"]
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "No loss law fitted: 4 runs" in markdown
    for name in re.findall(r"\]\((.*?)\)", markdown):
        assert (tmp_path / "out" / name).exists()
    # Nothing comes from elsewhere, and every run is in a table.
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert all(f">{run.name}</th>" in page for run in groups["speech"])
    assert page.count("extrapolated: flops") == 2 * 3
    row = next(line for line in markdown.splitlines() if line.startswith("| text: sblimp | ") and line.count("|") == 6)
    assert float(row.split("|")[2].split()[0]) == pytest.approx(10 ** (0.02 / 0.06), rel=0.1)
    with pytest.raises(InputError, match="few: 4 runs"):
        write_report({"few": groups["few"]}, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_report_of_scores_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = [replace(run, loss=None, nats_per_second=None, curve=()) for run in make_runs()]
    report = write_report({"text": runs}, tmp_path / "out", bootstrap=5)
    assert report.status == {"text": "the runs have no loss"}
    assert StudyReport.from_dict(report.to_dict()) == report
    markdown = Path(report.report).read_text(encoding="utf-8")
    assert "Not fitted: loss law: the runs have no loss." in markdown and "scores.svg" in markdown
    assert not (tmp_path / "out" / "loss.svg").exists() and not (tmp_path / "out" / "lines.svg").exists()


def test_figure_and_table_leave_the_same_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    fitted: list[float | None] = []

    def noted(*columns: np.ndarray, saturation: float | None = None, **options: int) -> object:
        fitted.append(saturation)
        return fit_score_law(*columns, saturation=saturation, **options)

    for room in ("law_plots", "study"):
        monkeypatch.setattr(f"syllablelm.scaling.{room}.fit_score_law", noted)
    scores = sorted(run.scores["sblimp"] for run in make_runs())
    write_report({"speech": make_runs()}, tmp_path / "out", saturation=scores[-2], bootstrap=5)
    assert fitted == [scores[-2]] * 2


def test_runs_that_parameters_say_nothing_of(tmp_path: Path) -> None:
    """Resamples of such a law may have exponents below 0 and no optimum: the report says so and is written."""
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    runs = [
        Run(
            params,
            tokens,
            float((5.0 + 800.0 * tokens**-0.7) * np.exp(0.004 * rng.standard_normal())),
            6 * params * tokens,
        )
        for params in (5e4, 2e5, 6e5, 1.8e6)
        for tokens in (4.5e4, 9e4, 1.8e5, 3.4e5)
    ]
    status = write_report({"units": runs}, tmp_path / "report", bootstrap=60).status["units"]
    assert status.startswith("degenerate")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "not identified one by one" in text
    assert f"| {status}" in text.replace("\\", "")


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_law_without_an_optimum_is_reported(tmp_path: Path) -> None:
    """Larger models are worse, so alpha is below 0 and no split of a budget is the best."""
    pytest.importorskip("matplotlib")
    runs = [
        Run(params, tokens, 5.0 + 800.0 * tokens**-0.7 + 1e-4 * params**0.5, 6 * params * tokens)
        for params in (5e4, 2e5, 6e5, 1.8e6)
        for tokens in (4.5e4, 9e4, 1.8e5, 3.4e5)
    ]
    study = fit_study(runs, bootstrap=20)
    assert study.law.alpha == pytest.approx(-0.5, abs=0.05) and not study.law.has_optimum
    assert "alpha is -0." in study.law.status
    found = " ".join(summarize(runs, study))
    assert "No optimum: only 0 of 20 resamples have an optimum." in found
    assert "The best N grows" not in found
    status = write_report({"units": runs}, tmp_path / "report", bootstrap=20).status["units"]
    assert status == study.law.status
    assert "nan" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
