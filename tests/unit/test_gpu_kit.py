"""The tests and timings for a GPU, on the CPU at toy size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from gpu_kit import Kit, main, run_all

STEPS = {"tests": 1, "units": 4, "LossPred": 1, "training": 3, "generation": 12}


def count_steps(rows: list[dict]) -> dict[str, int]:
    return {step: sum(row["step"] == step for row in rows) for step in STEPS}


@pytest.mark.slow
def test_every_step_runs_on_the_cpu(tmp_path):
    out = tmp_path / "out.json"
    assert main(["--toy", "--device", "cpu", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["machine"]["gpu"] is None
    assert count_steps(found["rows"]) == STEPS
    tests, *timed = found["rows"]
    assert tests["passed"] + tests["not run"] > 0 and tests["failed"] == 0
    for row in timed:
        assert not {"error", "skipped"} & set(row), row
        assert row["of peak"] > 0, row
        assert max(row.get("audio s/s", 0), row.get("tokens/s", 0)) > 0, row


def test_a_step_that_fails_is_a_row_and_the_others_run(monkeypatch):
    kit = Kit(torch.device("cpu"), 8, toy=True)

    def fails(**labels):
        raise ValueError("no such kernel\non this device")

    for name in ("tests", "units", "losspred", "training", "generation"):
        monkeypatch.setattr(kit, name, fails if name in ("units", "training") else lambda **_: {"of peak": 0.5})
    run_all(kit)
    assert kit.failed and count_steps(kit.rows) == STEPS
    errors = {row["step"] for row in kit.rows if row.get("error") == "ValueError: no such kernel"}
    assert errors == {"units", "training"}
    assert all(row["of peak"] == 0.5 for row in kit.rows if row["step"] not in errors)


def test_steps_beyond_the_time_are_named(tmp_path):
    out = tmp_path / "out.json"
    assert main(["--toy", "--device", "cpu", "--minutes", "0", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert count_steps(rows) == STEPS
    assert {row["skipped"] for row in rows} == {"after 0 minutes"}


def test_full_size_is_for_a_gpu():
    with pytest.raises(SystemExit, match="--toy"):
        main(["--device", "cpu"])
