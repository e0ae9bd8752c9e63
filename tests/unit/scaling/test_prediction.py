"""Predictions: intervals that lack resamples, budgets never reached, scores with their statuses, JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.scaling import PUBLISHED_REPETITION, LossLaw, Prediction, Run, Study, fit_study, predict
from syllablelm.scaling.prediction import (
    flops_for_loss,
    flops_for_score,
    outside,
    predict_budget,
    predict_repetition,
    predict_score,
)

TRUTH = LossLaw(1.73, 13.9, 39.8, 0.25, 0.24)


def make_study(noise: float = 0.003) -> Study:
    """Twenty runs whose score is a power law of compute and nearly a line of the loss."""
    rng = np.random.default_rng(0)
    runs = []
    for params in np.geomspace(1e6, 1e8, 4):
        for tokens in params * np.array([2, 10, 50, 100, 250]):
            loss = float(TRUTH.loss(params, tokens) * np.exp(noise * rng.standard_normal()))
            scores = {"sblimp": float(20 * (6 * params * tokens) ** 0.02 * np.exp(noise * rng.standard_normal()))}
            runs.append(Run(params, tokens, loss, 6 * params * tokens, 5 * loss, scores=scores))
    return fit_study(runs, huber_delta=0.03, bootstrap=40)


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study()


def without_optimum(study: Study, share: float) -> Study:
    samples = study.law.samples.copy()
    samples[: round(share * len(samples)), 3] = -0.1
    return replace(study, law=replace(study.law, samples=samples))


def test_resamples_without_an_optimum_are_counted(study: Study) -> None:
    answer = predict_budget(study, 1e17)
    assert (answer.resamples, answer.usable, answer.status) == (40, 40, "ok")
    few = predict_budget(without_optimum(study, 0.05), 1e17)
    assert few.usable == 38 and few.status == "ok"
    assert few.intervals is not None and np.isfinite([*few.intervals.values()]).all()
    many = predict_budget(without_optimum(study, 0.2), 1e17)
    assert many.status == "only 32 of 40 resamples have an optimum"
    assert many.intervals is not None and many.scores is not None
    assert np.isnan([*many.intervals.values(), many.scores["sblimp"].from_loss_interval]).all()
    assert many.loss == answer.loss
    back = flops_for_loss(without_optimum(study, 0.2).law, answer.loss)
    assert back.flops == pytest.approx(1e17) and np.isnan(back.interval).all()
    assert back.status == "only 32 of 40 resamples have an optimum"


def test_budget_of_a_loss_that_some_resamples_never_reach(study: Study) -> None:
    floors = np.sort(study.law.samples[:, 0])
    answer = flops_for_loss(study.law, float(floors[20]))
    assert answer.interval is not None
    low, high = answer.interval
    assert math.isfinite(low) and high == math.inf
    never = flops_for_loss(study.law, study.law.E)
    assert never.flops == math.inf and never.status == f"never: the floor E of the law is {study.law.E:.4g}"


def test_score_from_loss_has_both_uncertainties(study: Study) -> None:
    """Far beyond the runs the loss is uncertain too; the line's band alone would not show it."""
    answer = predict_budget(study, 1e24)
    assert answer.scores is not None
    score = answer.scores["sblimp"]
    assert score.from_loss is not None and score.from_loss_interval is not None
    low, high = score.from_loss_interval
    alone = study.lines["sblimp"].band(answer.loss)
    assert high - low > float(alone[1][0] - alone[0][0])
    assert low < score.from_loss < high


def test_statuses_of_scores(study: Study) -> None:
    score, line = study.scores["sblimp"], study.lines["sblimp"]
    assert flops_for_score(study, "sblimp", 45.0).status == "ok" and predict_score(score, 1e17).status is None
    bad = replace(score, power=replace(score.power, status="bending: so"), saturation=50.0)
    other = replace(study, scores={"sblimp": bad})
    assert flops_for_score(other, "sblimp", 45.0).status == "bending: so"
    assert predict_score(bad, 1e17).status == "bending: so"
    saturated = "saturated: the law holds below 50; bending: so"
    assert flops_for_score(other, "sblimp", 60.0).status == saturated
    above = "above the ceiling 100: no score gets there"
    assert flops_for_score(other, "sblimp", 101.0).status == f"{saturated}; {above}"
    assert predict_score(score, 1e40).status == above
    assert predict_score(score, 1e17, 30.0).status == "above the ceiling 30: no score gets there"
    steep = replace(line, intercept=1e3, status="degenerate: so")
    scores = predict_budget(replace(study, lines={"sblimp": steep}), 1e17).scores
    assert scores is not None and scores["sblimp"].from_loss_status == f"degenerate: so; {above}"
    with pytest.raises(InputError, match="must be one of sblimp"):
        flops_for_score(study, "swuggy", 45.0)


def test_repeated_data_with_intervals() -> None:
    truth = PUBLISHED_REPETITION["speech"]
    rng = np.random.default_rng(0)
    runs = []
    for params in np.geomspace(1e7, 1e9, 4):
        for tokens in np.geomspace(1e9, 3e10, 4):
            for unique in (None, tokens / 4, tokens / 20):
                loss = truth.loss(params, tokens, unique or tokens) * np.exp(0.002 * rng.standard_normal())
                runs.append(Run(params, tokens, float(loss), 6 * params * tokens, unique_tokens=unique))
    study = fit_study(runs, huber_delta=0.03, bootstrap=20)
    assert study.repetition is not None
    answer = predict_repetition(study.repetition, 1e21, 1e9, study.law)
    assert answer.intervals is not None and answer.extrapolated is not None
    for name in ("params", "tokens", "epochs", "loss"):
        low, high = answer.intervals[name]
        assert low <= getattr(answer, name) <= high
    assert answer.usable == answer.resamples == 20
    assert set(answer.extrapolated) <= {"tokens", "params", "epochs"} and "epochs" in answer.extrapolated
    # The law of the same resample goes with the constants of each.
    assert 6 * answer.params * answer.tokens == pytest.approx(1e21)
    assert predict_repetition(truth, 1e21, 1e9).intervals is None


def test_prediction_comes_back_from_json(study: Study) -> None:
    answer = predict(study, 1e17, loss=2.5, score=("sblimp", 50.0), against=study)
    assert answer.best == predict_budget(study, 1e17)
    table = answer.to_dict()
    assert {"flops", "params", "tokens", "loss", "scores", "for_loss", "for_score", "against"} <= set(table)
    assert Prediction.from_dict(json.loads(json.dumps(table))) == answer
    published = predict("speech", gpu_hours=10, gpu="h100", unique_tokens=1e9)
    assert Prediction.from_dict(published.to_dict()) == published
    alone = predict("text", loss=2.5)
    assert alone.best is None and Prediction.from_dict(alone.to_dict()) == alone


def test_questions_that_cannot_be_answered(study: Study) -> None:
    for law, options, reason in (
        (study, {}, "nothing asked for"),
        (study, {"flops": 1e17, "gpu_hours": 1.0}, "either in FLOP or in GPU hours"),
        (study, {"against": study, "gain": 1.0}, "gain 1: must be above 1"),
        (study, {"flops": 1e17, "unique_tokens": 1e6}, "no law of repeated data"),
        ("speech", {"score": ("sblimp", 50.0)}, "only its exponent is published"),
        ("speech", {"score": ("swuggy", 50.0)}, "must be one of sblimp, tstorycloze, sstorycloze"),
        ("besiroglu", {"against": "text"}, "share neither an envelope of losses nor a score"),
        (replace(study, law=None), {"loss": 2.0}, "the study has no law of loss"),
        (replace(study, law=None), {"flops": 1e17, "unique_tokens": 1e6}, "no law of repeated data"),
        ("hofman", {"flops": 1e17}, "nor one of the published laws"),
    ):
        with pytest.raises(InputError, match=reason):
            predict(law, **options)


def test_speech_against_text_by_the_published_exponents() -> None:
    """Cuervo & Marxer (2024): what text gains from ten times the compute costs speech 10^3.14 for syntax."""
    answer = predict("speech", 1e20, against="text")
    assert answer.against is not None and answer.best is not None and not answer.best.scores
    decades = {name: math.log10(gain.compute) for name, gain in answer.against.items()}
    assert decades == pytest.approx(
        {"sblimp": 0.066 / 0.021, "tstorycloze": 0.039 / 0.025, "sstorycloze": 0.046 / 0.017}
    )
    assert np.isnan([gain.interval for gain in answer.against.values()]).all()
    assert Prediction.from_dict(answer.to_dict()).against is not None


def test_a_study_of_scores_alone(study: Study) -> None:
    answer = predict(
        replace(study, law=None, repetition=None, lines={}), 1e17, score=("sblimp", 40.0), against="speech"
    )
    assert answer.best is not None and math.isnan(answer.best.loss) and "no law of loss" in answer.best.status
    assert answer.best.scores == predict_budget(replace(study, lines={}), 1e17).scores
    assert answer.for_score is not None and answer.against is not None and set(answer.against) == {"sblimp"}


def test_outside() -> None:
    ranges = dict.fromkeys("abcde", (2.0, 8.0)) | {"f": (math.nan, math.nan)}
    values = dict(zip("abcdef", (1.0, 2.0, 5.0, 16.0, math.nan, 5.0), strict=True))
    assert outside(values, ranges) == {"a": 2.0, "d": 2.0}
