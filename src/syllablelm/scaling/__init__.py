"""Scaling laws of language models on speech units: counting, fitting, planning, plotting. Needs no torch."""

from __future__ import annotations

from syllablelm.scaling.answers import predict
from syllablelm.scaling.design import PlannedRun, plan_grid, plan_isoflops, plan_ratios, with_rates
from syllablelm.scaling.downstream import (
    ScoreLaw,
    ScoreLine,
    compute_for_same_gain,
    fit_score_law,
    fit_score_line,
)
from syllablelm.scaling.envelope import fit_envelope
from syllablelm.scaling.fit import Diagnostics, FittedLaw, fit_loss_law
from syllablelm.scaling.flops import PEAK_TFLOPS, SPEECH_SHAPES, Shape, flops_of_hours, llama, opt_layers, opt_shape
from syllablelm.scaling.isoflop import IsoFlop, IsoFlopFit, fit_isoflops
from syllablelm.scaling.laws import PUBLISHED, REPEATED, LossLaw, Optimum, RepetitionLaw
from syllablelm.scaling.power import PowerLaw, fit_power_law, frontier
from syllablelm.scaling.repeated_data import FittedRepetition, fit_repetition
from syllablelm.scaling.runs import Run, collect_run, losses, read_runs
from syllablelm.scaling.study import Study, fit_study, load_study, save_study

__all__ = [
    "PEAK_TFLOPS",
    "PUBLISHED",
    "REPEATED",
    "SPEECH_SHAPES",
    "Diagnostics",
    "FittedLaw",
    "FittedRepetition",
    "IsoFlop",
    "IsoFlopFit",
    "LossLaw",
    "Optimum",
    "PlannedRun",
    "PowerLaw",
    "RepetitionLaw",
    "Run",
    "ScoreLaw",
    "ScoreLine",
    "Shape",
    "Study",
    "collect_run",
    "compute_for_same_gain",
    "fit_envelope",
    "fit_isoflops",
    "fit_loss_law",
    "fit_power_law",
    "fit_repetition",
    "fit_score_law",
    "fit_score_line",
    "fit_study",
    "flops_of_hours",
    "frontier",
    "llama",
    "load_study",
    "losses",
    "opt_layers",
    "opt_shape",
    "plan_grid",
    "plan_isoflops",
    "plan_ratios",
    "predict",
    "read_runs",
    "save_study",
    "with_rates",
]
