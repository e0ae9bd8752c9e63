"""Scaling laws of language models on speech units: planning, fitting, prediction, figures. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.scaling.fit import FittedLaw, fit_loss_law
    from syllablelm.scaling.isoflop import fit_isoflops
    from syllablelm.scaling.law_plots import plot_study
    from syllablelm.scaling.laws import PUBLISHED, LossLaw
    from syllablelm.scaling.plan import StudyPlan, plan_study, read_study_plan
    from syllablelm.scaling.power import (
        compute_for_same_gain,
        fit_envelope,
        fit_power_law,
        fit_score_law,
        fit_score_line,
    )
    from syllablelm.scaling.prediction import Prediction, predict
    from syllablelm.scaling.pythia import collect_pythia
    from syllablelm.scaling.repetition_law import PUBLISHED_REPETITION, RepetitionLaw, fit_repetition
    from syllablelm.scaling.runs import Run, collect_runs, read_groups, read_runs
    from syllablelm.scaling.study import Study, fit_study
    from syllablelm.scaling.study_report import write_report

__all__ = [
    "PUBLISHED", "PUBLISHED_REPETITION", "FittedLaw", "LossLaw", "Prediction", "RepetitionLaw", "Run", "Study",
    "StudyPlan", "collect_pythia", "collect_runs", "compute_for_same_gain", "fit_envelope", "fit_isoflops",
    "fit_loss_law", "fit_power_law", "fit_repetition", "fit_score_law", "fit_score_line", "fit_study", "plan_study",
    "plot_study", "predict", "read_groups", "read_runs", "read_study_plan", "write_report",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "fit": ["FittedLaw", "fit_loss_law"],
        "isoflop": ["fit_isoflops"],
        "law_plots": ["plot_study"],
        "laws": ["PUBLISHED", "LossLaw"],
        "plan": ["StudyPlan", "plan_study", "read_study_plan"],
        "power": ["compute_for_same_gain", "fit_envelope", "fit_power_law", "fit_score_law", "fit_score_line"],
        "prediction": ["Prediction", "predict"],
        "pythia": ["collect_pythia"],
        "repetition_law": ["PUBLISHED_REPETITION", "RepetitionLaw", "fit_repetition"],
        "runs": ["Run", "collect_runs", "read_groups", "read_runs"],
        "study": ["Study", "fit_study"],
        "study_report": ["write_report"],
    },
)
