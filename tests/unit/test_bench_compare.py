"""Ratios of two runs of a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from compare import ratios, read_rows  # noqa: E402


def rows(speed: float, taken: float) -> list[dict]:
    return [
        {"model": "tiny", "batch": 1, "tokens/s": speed, "note": 0.5, "peak MiB": 7},
        {"model": "tiny", "batch": 8, "seconds": taken, "tokens/s": None},
    ]


def test_above_one_is_faster_and_rows_meet_by_their_labels():
    pairs = [
        (read_rows(rows(100, 4.0)), read_rows(rows(speed, taken)))
        for speed, taken in ((150, 2.0), (90, 8.0), (120, 4.0))
    ]
    first, second = ratios(pairs)
    assert (first["row"], first["number"]) == ("tiny, 1, 7", "tokens/s")
    assert [first[key] for key in ("times as fast", "from", "to")] == pytest.approx([1.2, 0.9, 1.5])
    assert (second["row"], second["number"]) == ("tiny, 8", "seconds")
    assert [second[key] for key in ("times as fast", "from", "to")] == pytest.approx([1.0, 0.5, 2.0])


def test_rows_of_one_side_only_are_left_out():
    other = [{"model": "base", "batch": 1, "tokens/s": 3.0}]
    assert ratios([(read_rows(rows(1, 1)), read_rows(other))]) == []


@pytest.mark.slow
def test_a_benchmark_of_the_working_tree_against_itself(tmp_path):
    out = tmp_path / "out.json"
    command = [
        sys.executable,
        "benchmarks/compare.py",
        "HEAD",
        "--turns",
        "1",
        "--bench",
        "bench_losspred.py",
        "--json",
        out,
    ]
    done = subprocess.run([*command, "--", "--seconds", "0.4"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["bench_losspred.py"]
    assert {row["number"] for row in found} == {"seconds", "processor seconds"}
    assert all(row["times as fast"] > 0 for row in found)
