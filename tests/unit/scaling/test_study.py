"""A study on disk, its summary, and laws by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.scaling import PUBLISHED, LossLaw, Run, Study, fit_study
from syllablelm.scaling.study import load_law

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


def test_a_study_is_read_back_and_its_summary_is_small(tmp_path: Path) -> None:
    study = make_study(scores=16)
    study.save(tmp_path / "study.json")
    found = load_law(tmp_path / "study.json")
    assert isinstance(found, Study) and found == study
    np.testing.assert_array_equal(found.law.samples, study.law.samples)
    assert '"samples"' in (tmp_path / "study.json").read_text() and "'samples'" not in str(study.summary())


def test_laws_by_name(tmp_path: Path) -> None:
    assert load_law("speech") is PUBLISHED["speech"]
    with pytest.raises(InputError, match=r"sppech: no such study, nor one of the published laws .*speech"):
        load_law("sppech")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FormatError, match=r"a\.json"):
        load_law(tmp_path / "a.json")
