"""A study on disk, its summary, and laws by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.scaling import PUBLISHED, LossLaw, Run, Study, fit_study
from syllablelm.scaling.study import load_study

TRUTH = LossLaw(1.73, 13.9, 39.8, 0.25, 0.24)


def make_study(scores: int) -> Study:
    """Sixteen runs without noise, the first ``scores`` of which have a score."""
    sizes = [(n, n * ratio) for n in np.geomspace(1e6, 1e8, 4) for ratio in (2, 10, 50, 250)]
    runs = [
        Run(n, d, float(TRUTH.loss(n, d)), 6 * n * d, scores={"sblimp": (6 * n * d) ** 0.02} if k < scores else {})
        for k, (n, d) in enumerate(sizes)
    ]
    return fit_study(runs, bootstrap=5)


def test_what_cannot_be_fitted_is_skipped_with_its_reason() -> None:
    whole, short = make_study(scores=16), make_study(scores=2)
    assert (whole.skipped, set(whole.scores), set(whole.lines)) == ({}, {"sblimp"}, {"sblimp"})
    assert whole.law.alpha == pytest.approx(TRUTH.alpha, rel=0.01) and whole.isoflops is None
    assert set(short.skipped) == {"score sblimp", "line sblimp"} and not short.scores
    assert any(line.startswith("not fitted: score sblimp: ") for line in short.notes)


def test_runs_without_loss_give_laws_of_scores(tmp_path: Path) -> None:
    flops = np.geomspace(1e16, 1e20, 9)
    runs = [Run(1e6, c / 6e6, None, c, scores={"sblimp": float(30 * (c / 1e16) ** 0.03)}) for c in flops]
    study = fit_study(runs, bootstrap=5)
    assert study.law is study.envelope is None and not study.lines
    assert study.scores["sblimp"].gamma == pytest.approx(0.03)
    assert study.notes == ["not fitted: loss law: the runs have no loss"]
    study.save(tmp_path / "study.json")
    assert load_study(tmp_path / "study.json") == study
    # A loss of some is enough for a line, and all give the score's law.
    some = fit_study([replace(run, loss=9 - 0.1 * k) if k < 4 else run for k, run in enumerate(runs)], bootstrap=5)
    assert (some.scores["sblimp"].power.points, some.lines["sblimp"].runs) == (9, 4)
    assert "4 runs cannot fix" in some.skipped["loss law"]
    with pytest.raises(InputError, match="runs have no loss; 2 runs have the score"):
        fit_study(runs[:2])


def test_isoflops_warn_and_stand_beside_the_loss_law() -> None:
    """Sizes off the optimum, on a law of unequal exponents: parabolas are biased, the law of the same runs is not."""
    truth = LossLaw(1.7, 400.0, 1500.0, 0.3, 0.45)
    runs = []
    for budget in np.geomspace(1e18, 1e20, 4):
        for factor in np.geomspace(0.2, 12, 7):
            size = float(truth.optimal(budget).N * factor)
            tokens = budget / 6 / size
            runs.append(Run(size, tokens, float(truth.loss(size, tokens)), budget))
    study = fit_study(runs)
    assert study.isoflops is not None and study.isoflops.law_a == pytest.approx(truth.a, rel=1e-2)
    for curve in study.isoflops.curves:
        best = truth.optimal(curve.flops)
        assert (curve.law_params, curve.law_tokens) == pytest.approx((best.N, best.D), rel=0.03)
        assert abs(curve.params / best.N - 1) > 0.05
    (note,) = study.notes
    assert "biased" in note and "2603.22339" in note and f"{truth.a:.3g} by the loss law" in note
    assert study.summary()["isoflops"]["warning"] == note and Study.from_dict(study.to_dict()) == study


def test_a_study_is_read_back_and_its_summary_is_small(tmp_path: Path) -> None:
    study = make_study(scores=16)
    study.save(tmp_path / "study.json")
    found = load_study(tmp_path / "study.json")
    assert isinstance(found, Study) and found == study
    np.testing.assert_array_equal(found.law.samples, study.law.samples)
    assert '"samples"' in (tmp_path / "study.json").read_text() and "'samples'" not in str(study.summary())


def test_laws_by_name(tmp_path: Path) -> None:
    assert load_study("speech").law is PUBLISHED["speech"] and load_study("hoffmann").scores == {}
    with pytest.raises(InputError, match=r"sppech: no such study, nor one of the published laws .*speech"):
        load_study("sppech")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FormatError, match=r"a\.json"):
        load_study(tmp_path / "a.json")
