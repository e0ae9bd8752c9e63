"""``scale``: a made-up study from plan to picture, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Run
from syllablelm.scaling import PUBLISHED, RepetitionLaw, StudyPlan, plan_study

LAW = PUBLISHED["speech"]


def make_rows(tokenizer: str = "tiny", gamma: float = 0.021) -> list[dict[str, Any]]:
    """Records of a ratio plan with 0.5 % of noise."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for planned in plan_study(StudyPlan("ratio", 1e19, ratios=(2.0, 8.0, 32.0, 100.0), sizes=4)).runs:
        loss = LAW.loss(planned.params, planned.tokens) * float(np.exp(0.005 * rng.standard_normal()))
        row = {"name": planned.name, "params": planned.params, "tokens": planned.tokens, "loss": loss}
        score = 25 * planned.flops**gamma * float(np.exp(0.004 * rng.standard_normal()))
        row |= {"nats_per_second": 5 * loss, "tokenizer": tokenizer, "scores": {"sblimp": score}}
        rows.append(row)
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "runs.jsonl", make_rows())


def test_plan(run: Run, tmp_path: Path) -> None:
    options = ("--gpu-hours", 24, "--gpu", "a100", "--set", "unique_tokens=1e9", "--out", tmp_path / "p.jsonl")
    ended = run("scale", "plan", *options)
    assert ended.status == 0, ended.err
    assert (ended.result["models"], ended.result["gpu_hours"]) == (20, pytest.approx(24, rel=0.01))
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(row["gpu_hours"] for row in rows) == pytest.approx(24, rel=0.01)
    assert {"layers", "dim", "heads", "feed_forward", "tokens", "epochs", "flops"} <= set(rows[0])
    (tmp_path / "plan.toml").write_text('design = "ratio"\nratios = [5, 20]\n', encoding="utf-8")
    ended = run("scale", "plan", tmp_path / "plan.toml", "--flops", 1e17, "--set", "sizes=3")
    assert (ended.result["design"], len(ended.result["runs"])) == ("ratio", 6)
    ended = run("scale", "plan")
    assert (ended.status, len(ended.lines)) == (2, 1)


def test_collect(run: Run, tmp_path: Path) -> None:
    for number, valid in enumerate([{"model": {"nats_per_token": 3.0, "nats_per_second": 15.0}}, None]):
        folder = tmp_path / f"run{number}" / "lm"
        folder.mkdir(parents=True)
        record = {"params": 1000, "tokens": 2000, "flops": 12_000_000, "tokenizer": "t", "num_units": 5}
        (folder / "run.json").write_text(json.dumps(record | ({"valid": valid} if valid else {})), encoding="utf-8")
        if valid:
            (folder / "scores.json").write_text('{"sblimp": 55.5}', encoding="utf-8")
    ended = run("scale", "collect", tmp_path, "--out", tmp_path / "runs.jsonl")
    assert ended.result == {"runs": 1, "left_out": 1, "out": str(tmp_path / "runs.jsonl")}
    assert "no held-out loss" in ended.err
    row = json.loads((tmp_path / "runs.jsonl").read_text(encoding="utf-8"))
    assert row == {
        "params": 1000, "tokens": 2000, "loss": 3.0, "flops": 12_000_000, "nats_per_second": 15.0,
        "tokenizer": "t", "scores": {"sblimp": 55.5}, "name": "run0",
    }  # fmt: skip
    ended = run("scale", "collect", tmp_path / "run1", "--out", tmp_path / "none.jsonl")
    assert (ended.status, (tmp_path / "none.jsonl").exists()) == (2, False)
    # Scores are enough.
    (tmp_path / "run1" / "lm" / "scores.json").write_text('{"sblimp": 60}', encoding="utf-8")
    assert run("scale", "collect", tmp_path, "--out", tmp_path / "both.jsonl").result["runs"] == 2
    rows = [json.loads(line) for line in (tmp_path / "both.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["loss"], row["scores"]["sblimp"]) for row in rows] == [(3.0, 55.5), (None, 60)]


def test_fit_then_predict(run: Run, runs: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.json"
    fitted = run("scale", "fit", runs, "--huber-delta", 0.03, "--bootstrap", 20, "--out", study)
    assert fitted.status == 0, fitted.err
    law = fitted.result["law"]
    assert law["status"] == "ok"
    assert law["intervals"]["alpha"][0] <= law["alpha"] <= law["intervals"]["alpha"][1]
    assert fitted.result["scores"]["sblimp"]["power"]["exponent"] == pytest.approx(0.021, abs=0.01)

    inside = run("scale", "predict", study, "--flops", 1e18).result
    assert inside["extrapolated"] == {}
    assert 6 * inside["params"] * inside["tokens"] == pytest.approx(1e18)
    assert inside["loss"] == pytest.approx(LAW.loss(*LAW.optimal(1e18)), rel=0.02)
    low, high = inside["intervals"]["loss"]
    assert low <= inside["loss"] <= high
    score = inside["scores"]["sblimp"]
    assert set(score) == {"from_flops", "from_loss", "from_loss_interval", "interval", "extrapolated"}
    assert score["from_loss_interval"][0] < score["from_loss"] < score["from_loss_interval"][1]
    assert (inside["resamples"], inside["usable"]) == (20, 20)

    outside = run("scale", "predict", study, "--gpu-hours", 1e6, "--gpu", "h100")
    assert outside.result["extrapolated"]["flops"] > 1
    assert outside.result["scores"]["sblimp"]["extrapolated"] is True
    assert "extrapolated: flops" in outside.err

    back = run("scale", "predict", study, "--loss", inside["loss"], "--score", "sblimp=60").result
    assert back["for_loss"]["flops"] == pytest.approx(1e18, rel=1e-6)
    assert back["for_score"]["flops"] > 0
    assert back["for_loss"]["extrapolated"] == {}
    assert 6 * back["for_loss"]["params"] * back["for_loss"]["tokens"] == pytest.approx(1e18, rel=1e-6)
    far = run("scale", "predict", study, "--loss", float(LAW.loss(*LAW.optimal(1e21))))
    assert far.result["for_loss"]["extrapolated"]["flops"] > 1
    assert "extrapolated: flops" in far.err
    assert run("scale", "predict", study, "--flops", 1e18, "--ceiling", "nan").status == 2
    never = run("scale", "predict", study, "--loss", 0.5).result
    assert (never["for_loss"]["flops"], never["for_loss"]["status"][:5]) == (None, "never")


def test_predict_against_text(run: Run, runs: Path, tmp_path: Path) -> None:
    text = write_rows(tmp_path / "text.jsonl", make_rows("text", gamma=0.066))
    studies = []
    for path in (runs, text):
        studies.append(path.with_suffix(".study.json"))
        assert run("scale", "fit", path, "--bootstrap", 10, "--out", studies[-1]).status == 0
    found = run("scale", "predict", studies[0], "--against", studies[1]).result["against"]["sblimp"]
    assert np.log10(found["compute"]) == pytest.approx(found["other_gamma"] / found["gamma"])
    assert found["interval"][0] <= found["compute"] <= found["interval"][1]


def test_predict_losses_against_text(run: Run, tmp_path: Path) -> None:
    """Speech whose loss falls half as fast needs the square of the compute, in whatever unit it is counted."""
    studies = []
    for name, power, unit in (("speech", 0.02, "second"), ("text", 0.04, "token")):
        rows = [{**row, "scores": {}} for row in make_rows(name)]
        for row in rows:
            flops = 6.0 * row["params"] * row["tokens"]
            row |= {"loss": 9 * flops**-power, "nats_per_second": 44 * flops**-power}
        path = write_rows(tmp_path / f"{name}.jsonl", rows)
        studies.append(tmp_path / f"{name}.json")
        assert run("scale", "fit", path, "--per", unit, "--bootstrap", 10, "--out", studies[-1]).status == 0
    answer = run("scale", "predict", studies[0], "--against", studies[1], "--gain", 10).result
    assert set(answer["against"]) == {"loss"}
    assert answer["against"]["loss"]["compute"] == pytest.approx(100)
    assert answer["per"] == "second"


def test_repeated_data_per_second(run: Run, tmp_path: Path) -> None:
    """Runs on repeated data, of two tokenisations: only per second, and R_D* comes back."""
    repetition = RepetitionLaw(LAW, 12.0, 30.0)
    rows = [{**row, "nats_per_second": 5 * LAW.loss(row["params"], row["tokens"])} for row in make_rows()]
    for row in [row for row in rows if row["tokens"] > 1e8]:
        for passes in (4, 30):
            unique = row["tokens"] / passes
            loss = repetition.loss(row["params"], row["tokens"], unique)
            rows.append({**row, "loss": loss, "nats_per_second": 5 * loss, "unique_tokens": unique})
    rows[0]["tokenizer"] = "other"
    path = write_rows(tmp_path / "runs.jsonl", rows)
    ended = run("scale", "fit", path)
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "2 tokenisations" in ended.err
    ended = run("scale", "fit", path, "--per", "second", "--bootstrap", 10, "--out", tmp_path / "study.json")
    assert (ended.status, ended.result["law"]["runs"]) == (0, 16)
    assert ended.result["repetition"]["repeat_tokens"] == pytest.approx(12, rel=0.15)
    answer = run("scale", "predict", tmp_path / "study.json", "--flops", 1e18, "--unique-tokens", 1e7).result
    again = answer["with_repetition"]
    assert again["loss"] > answer["loss"]
    assert again["intervals"]["loss"][0] <= again["loss"] <= again["intervals"]["loss"][1]
    assert again["extrapolated"].keys() <= {"params", "tokens", "epochs"}


def test_predict_by_published_laws(run: Run) -> None:
    answer = run("scale", "predict", "speech", "--flops", 1e20, "--unique-tokens", 1e9).result
    assert (answer["params"], answer["loss"]) == pytest.approx((3.3005e8, 1.9405), rel=1e-4)
    assert answer["with_repetition"]["epochs"] > 1
    assert answer["with_repetition"]["loss"] > answer["loss"]
    assert answer["with_repetition"]["extrapolated"] == {
        "epochs": pytest.approx(answer["with_repetition"]["epochs"] / 10)
    }
    assert answer["extrapolated"] == {}
    ended = run("scale", "predict", "speech", "--flops", 1e30, "--loss", 1.0)
    assert set(ended.result["extrapolated"]) == {"flops", "params", "tokens"}
    assert "extrapolated: tokens" in ended.err
    assert ended.result["for_loss"]["status"] == "never: the floor E of the law is 1.73"
    # Nothing is known of what the text law was fitted to.
    assert run("scale", "predict", "text", "--flops", 1e30).result["extrapolated"] is None


@pytest.mark.parametrize(
    "options",
    [("--loss", "nan"), ("--loss", -3), ("--loss", "inf"), ("--loss", 2, "--unique-tokens", 1e9),
     ("--flops", 1e18, "--unique-tokens", 0)],
)  # fmt: skip
def test_questions_without_an_answer(run: Run, options: tuple[object, ...]) -> None:
    ended = run("scale", "predict", "speech", *options)
    assert (ended.status, len(ended.lines), ended.out) == (2, 1, "")


def test_a_law_without_an_optimum(run: Run, tmp_path: Path) -> None:
    """Larger models are worse: the fit says so, in valid JSON, and nothing is planned by it."""
    rows = [
        {"params": n, "tokens": d, "loss": 5.0 + 800.0 * d**-0.7 + 1e-4 * n**0.5, "scores": {"sblimp": 50 + 4e-7 * n}}
        for n in (5e4, 2e5, 6e5, 1.8e6)
        for d in (4.5e4, 9e4, 1.8e5, 3.4e5)
    ]
    runs, study = write_rows(tmp_path / "runs.jsonl", rows), tmp_path / "study.json"
    law = run("scale", "fit", runs, "--bootstrap", 10, "--out", study).result["law"]
    assert (law["G"], law["a"], law["usable"], law["intervals"]["a"]) == (None, None, 0, [None, None])
    answer = run("scale", "predict", study, "--flops", 1e12, "--loss", 5.5).result
    assert (answer["params"], answer["loss"], answer["intervals"]["loss"]) == (None, None, [None, None])
    assert "alpha is -0.5" in answer["status"] and "only 0 of 10 resamples have an optimum" in answer["status"]
    assert answer["for_loss"]["flops"] is None and answer["for_loss"]["status"].startswith("degenerate")
    ended = run("scale", "plan", "--flops", 1e18, "--set", f"law={study}")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "no optimum" in ended.err


@pytest.mark.parametrize("figure", ["loss", "scores", "lines", "tokens"])
def test_plot(run: Run, runs: Path, tmp_path: Path, figure: str) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "figure.svg"
    ended = run("scale", "plot", f"speech={runs}", "--figure", figure, "--bootstrap", 5, "--out", out)
    assert ended.status == 0, ended.err
    assert "<svg" in out.read_text(encoding="utf-8")
    assert all(value is not None for panel in ended.result["shown"].values() for value in panel.values())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda rows: [{**r, "scores": {}} for r in rows[:4]], "4 runs cannot fix", id="too few"),
        pytest.param(
            lambda rows: [{**r, "scores": {}, "tokens": 20 * r["params"]} for r in rows], "one ray", id="one ray"
        ),
        pytest.param(lambda rows: [*rows[1:], {**rows[0], "loss": -1}], "jsonl:16: loss -1.0: must be", id="negative"),
        pytest.param(
            lambda rows: [*rows[1:], {**rows[0], "loss": float("nan")}], "jsonl:16.loss: must be a finite", id="NaN"
        ),
        pytest.param(lambda rows: [*rows[1:], {**rows[0], "tokenizer": "x"}], "2 tokenisations", id="mixed"),
        pytest.param(lambda rows: [*rows[1:], {"params": 1}], "runs.jsonl:16: lacks 'tokens'", id="column"),
    ],
)
def test_refused(run: Run, tmp_path: Path, change, reason: str) -> None:
    path = write_rows(tmp_path / "runs.jsonl", change(make_rows()))
    ended = run("scale", "fit", path, "--out", tmp_path / "study.json")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert reason in ended.err
    assert not (tmp_path / "study.json").exists()


def test_mixed_tokenisations_per_second(run: Run, tmp_path: Path) -> None:
    rows = make_rows()
    path = write_rows(tmp_path / "runs.jsonl", [*rows[1:], {**rows[0], "tokenizer": "other"}])
    ended = run("scale", "fit", path, "--per", "second", "--bootstrap", 0)
    assert (ended.status, ended.result["per"]) == (0, "second")
