"""Reports: what the sentences say follows from the fits, and both forms hold the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.document import Bullets, Figure, Heading, Paragraph, Table, to_html, to_markdown
from syllablelm.core.errors import InputError
from syllablelm.scaling import LossLaw, RepetitionLaw, Run, fit_study
from syllablelm.scaling.downstream import fit_score_law
from syllablelm.scaling.findings import describe
from syllablelm.scaling.study_report import write_report

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


def test_sentences_follow_from_the_fit() -> None:
    runs = make_runs(repeated=True)
    found = " ".join(describe(runs, fit_study(runs, huber_delta=0.03, bootstrap=20)))
    assert f"{sum(run.unique_tokens is not None for run in runs)} of them repeat their data" in found
    assert "Everything above 1.5e+19 FLOP is extrapolation" in found
    assert "R_D* = " in found
    assert "sblimp goes with C^0.02" in found
    assert "must not be read one by one" not in found


def test_sentences_warn() -> None:
    flat = [replace(run, loss=2 + 1e-5 * k, scores={"sblimp": 50 + 1e-3 * (-1) ** k}) for k, run in
            enumerate(make_runs())]  # fmt: skip
    found = " ".join(describe(flat, fit_study(flat, bootstrap=20)))
    assert "must not be read one by one (degenerate" in found
    near = [run for run in make_runs() if run.flops < 1e15]
    found = " ".join(describe(near, None, "too few"))
    assert "less than two decades" in found
    assert "No law of loss could be fitted: too few." in found


def test_growing_faster_needs_an_interval_beside_one_half() -> None:
    runs = make_runs(0.0)
    study = fit_study(runs, bootstrap=20)
    for between, words in (
        ((0.4, 0.6), "do not tell"),
        ((0.6, 0.7), "parameters should"),
        ((0.3, 0.4), "tokens should"),
    ):
        law = replace(study.law, intervals={**study.law.intervals, "a": between})
        assert words in " ".join(describe(runs, replace(study, law=law)))
        # Constants that must not be read one by one are not read after all.
        law = replace(law, status="degenerate: alpha is 9")
        assert words not in " ".join(describe(runs, replace(study, law=law)))


def test_noise_is_not_called_growth() -> None:
    runs, rng = make_runs(), np.random.default_rng(0)
    noisy = [replace(run, scores={"sblimp": 50 + float(rng.standard_normal())}) for run in runs]
    study = fit_study(noisy, bootstrap=20)
    assert study.scores["sblimp"].power.status.startswith("degenerate: no more than noise")
    found = " ".join(describe(noisy, study))
    assert ": no growth with compute can be claimed; degenerate: no more than noise (p = " in found
    assert "no growth" not in " ".join(describe(runs, fit_study(runs, bootstrap=20)))


def test_both_forms_of_a_document() -> None:
    blocks = [
        Heading("Part <1>"), Paragraph("R_D* and R_N*"), Bullets(("one", "two & three")),
        Table(("name", "status"), (("a|b", "ok"),)), Figure("f.svg", "<svg></svg>", "A picture"),
    ]  # fmt: skip
    markdown, page = to_markdown("Title", blocks), to_html("Title", blocks)
    assert markdown.startswith(
        "# Title\n\n## Part <1>\n\nR_D\\* and R_N\\*\n\n- one\n- two & three\n\n| name | status |"
    )
    assert "| a\\|b | ok |" in markdown
    assert "![A picture](f.svg)" in markdown
    assert "<h2>Part &lt;1&gt;</h2>" in page
    assert '<td class="number">a|b</td><td class="text">ok</td>' in page
    assert "two &amp; three" in page


def test_report_of_two_groups(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    groups = {"speech": make_runs(), "text": make_runs(gamma=0.06, tokenizer="b"), "few": make_runs()[:4]}
    status = write_report(groups, tmp_path / "out", huber_delta=0.03, bootstrap=10, title="A & B")
    assert (status["speech"], status["text"]) == ("ok", "ok")
    assert "4 runs cannot fix" in status["few"]
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "No law of loss could be fitted: 4 runs" in markdown
    for name in re.findall(r"\]\((.*?)\)", markdown):
        assert (tmp_path / "out" / name).exists()
    # Nothing comes from elsewhere, and every run is in a table.
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert all(f">{run.name}</td>" in page for run in groups["speech"])
    assert page.count("extrapolated: flops") == 2 * 3
    row = next(line for line in markdown.splitlines() if line.startswith("| text: sblimp | ") and line.count("|") == 6)
    assert float(row.split("|")[2].split()[0]) == pytest.approx(10 ** (0.02 / 0.06), rel=0.1)
    with pytest.raises(InputError, match="few: 4 runs"):
        write_report({"few": groups["few"]}, tmp_path / "none")
    assert not (tmp_path / "none").exists()


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
    status = write_report({"units": runs}, tmp_path / "report", bootstrap=60)["units"]
    assert status.startswith("degenerate")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "must not be read one by one" in text
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
    found = " ".join(describe(runs, study))
    assert "No optimum can be read off: only 0 of 20 resamples have an optimum." in found
    assert "should grow faster" not in found
    status = write_report({"units": runs}, tmp_path / "report", bootstrap=20)["units"]
    assert status == study.law.status
    assert "nan" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
