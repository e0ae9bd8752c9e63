"""What a study answers: intervals that lack resamples, budgets never reached, scores with their statuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from syllablelm.core.errors import InputError
from syllablelm.scaling import REPEATED, LossLaw, Run, Study, fit_study
from syllablelm.scaling.answers import (
    beyond,
    flops_for_loss,
    flops_for_score,
    predict,
    predict_repeated,
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
    answer = predict(study, 1e17)
    assert (answer["resamples"], answer["usable"]) == (40, 40)
    assert "status" not in answer
    few = predict(without_optimum(study, 0.05), 1e17)
    assert few["usable"] == 38 and "status" not in few
    assert np.isfinite([*few["intervals"].values()]).all()
    many = predict(without_optimum(study, 0.2), 1e17)
    assert many["status"] == "only 32 of 40 resamples have an optimum"
    assert np.isnan([*many["intervals"].values(), many["scores"]["sblimp"]["from_loss_interval"]]).all()
    assert many["loss"] == answer["loss"]
    back = flops_for_loss(without_optimum(study, 0.2), answer["loss"])
    assert back["flops"] == pytest.approx(1e17) and np.isnan(back["interval"]).all()
    assert back["status"] == "only 32 of 40 resamples have an optimum"


def test_budget_of_a_loss_that_some_resamples_never_reach(study: Study) -> None:
    floors = np.sort(study.law.samples[:, 0])
    answer = flops_for_loss(study, float(floors[20]))
    low, high = answer["interval"]
    assert math.isfinite(low) and high == math.inf
    never = flops_for_loss(study, study.law.E)
    assert never["flops"] == math.inf and never["status"] == f"never: the floor E of the law is {study.law.E:.4g}"


def test_score_from_loss_knows_both_uncertainties(study: Study) -> None:
    """Far beyond the runs the loss is uncertain too; the line's band alone would not know."""
    answer = predict(study, 1e24)
    low, high = answer["scores"]["sblimp"]["from_loss_interval"]
    alone = study.lines["sblimp"].band(answer["loss"])
    assert high - low > float(alone[1][0] - alone[0][0])
    assert low < answer["scores"]["sblimp"]["from_loss"] < high


def test_statuses_of_scores(study: Study) -> None:
    score, line = study.scores["sblimp"], study.lines["sblimp"]
    assert "status" not in flops_for_score(score, 45.0) and "status" not in predict_score(score, 1e17)
    bad = replace(score, power=replace(score.power, status="bending: so"), saturation=50.0)
    assert flops_for_score(bad, 45.0)["status"] == "bending: so"
    assert predict_score(bad, 1e17)["status"] == "bending: so"
    saturated = "saturated: the law holds below 50; bending: so"
    assert flops_for_score(bad, 60.0)["status"] == saturated
    above = "above the ceiling 100: no score gets there"
    assert flops_for_score(bad, 101.0)["status"] == f"{saturated}; {above}"
    assert predict_score(score, 1e40)["status"] == above
    assert predict_score(score, 1e17, 30.0)["status"] == "above the ceiling 30: no score gets there"
    steep = replace(line, intercept=1e3, status="degenerate: so")
    answer = predict(replace(study, lines={"sblimp": steep}), 1e17)["scores"]["sblimp"]
    assert answer["from_loss_status"] == f"degenerate: so; {above}"


def test_repeated_data_with_intervals() -> None:
    truth = REPEATED["speech"]
    rng = np.random.default_rng(0)
    runs = []
    for params in np.geomspace(1e7, 1e9, 4):
        for tokens in np.geomspace(1e9, 3e10, 4):
            for unique in (None, tokens / 4, tokens / 20):
                loss = truth.loss(params, tokens, unique or tokens) * np.exp(0.002 * rng.standard_normal())
                runs.append(Run(params, tokens, float(loss), 6 * params * tokens, unique_tokens=unique))
    study = fit_study(runs, huber_delta=0.03, bootstrap=20)
    assert study.repetition is not None
    answer = predict_repeated(study.repetition, 1e21, 1e9, study.law)
    for name in ("params", "tokens", "epochs", "loss"):
        low, high = answer["intervals"][name]
        assert low <= answer[name] <= high
    assert answer["usable"] == answer["resamples"] == 20
    assert set(answer["extrapolated"]) <= {"tokens", "params", "epochs"} and "epochs" in answer["extrapolated"]
    # The law of the same resample goes with the constants of each.
    assert 6 * answer["params"] * answer["tokens"] == pytest.approx(1e21)
    assert set(predict_repeated(truth, 1e21, 1e9)) == {"params", "tokens", "epochs", "loss"}


def test_unique_tokens_of_none() -> None:
    runs = [Run(1e6, 1e7, 3.0, 6e13, unique_tokens=0)] * 6
    with pytest.raises(InputError, match="unique_tokens of run 0 must be above 0"):
        fit_study(runs)


def test_beyond() -> None:
    assert [beyond(value, (2.0, 8.0)) for value in (1.0, 2.0, 5.0, 16.0, math.nan)] == [2, 1, 1, 2, 1]
    assert beyond(5.0, (math.nan, math.nan)) == 1
