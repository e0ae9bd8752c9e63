"""Made-up results in the form that the verbs print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SET = {"name": "our/dev.csv", "recordings": 35, "seconds": 420.0}


def boundary_row(name: str, f1: float = 0.6, **more: Any) -> dict[str, Any]:
    return {
        "segmenter": name, "level": "syllable", "protocol": "paper", "shift": 0.0, "tuned": False,
        "f1@20": f1 / 2, "f1@50": f1, "precision": 0.61, "recall": 0.59, "r_value": 0.65,
        "f1_low": f1 - 0.02, "f1_high": f1 + 0.015, "predicted": 100, "reference": 102,
        "token_f1": 0.4, "token_f1_low": 0.38, "token_f1_high": 0.43, "token_predicted": 2058, **more,
    }  # fmt: skip


def stability_row(model: str, condition: str, distance: float) -> dict[str, Any]:
    return {
        "model": model, "condition": condition, "f1@20": 0.9, "f1@20_low": 0.88, "f1@20_high": 0.93,
        "unit_edit_distance": distance, "unit_edit_distance_low": distance / 2, "unit_edit_distance_high": 2 * distance,
    }  # fmt: skip


def accuracy_row(group: str, name: str, accuracy: float) -> dict[str, Any]:
    return {"group": group, "name": name, "accuracy": accuracy, "low": accuracy - 0.03, "high": accuracy + 0.04}


def pair_result(
    suite: str, rows: list[dict[str, Any]], lm: str = "runs/x/lm", data: str = "our/words"
) -> dict[str, Any]:
    return {
        "evaluation": suite, "model": "tiny", "data": {"name": data, "recordings": 80}, "lm": lm, "units": None,
        "protocol": {"score": "mean log-probability per unit after BOS", "ties": "half"}, "rows": rows,
    }  # fmt: skip


RESULTS: dict[str, dict[str, Any]] = {
    "boundaries": {
        "evaluation": "boundaries", "model": None, "data": SET, "count": "reference",
        "rows": [
            boundary_row("tiny", 0.6841),
            boundary_row("tiny", 0.6912, protocol="peng", shift=-0.015, tuned=True),
            boundary_row("tiny", 0.502, level="phone"),
            boundary_row("tiny", 0.611, level="word"),
            boundary_row("even", 0.41),
            boundary_row("losspred", 0.55),
        ],
    },
    "purity": {
        "evaluation": "purity", "model": "tiny", "data": SET, "matching": "overlap",
        "rows": [
            {
                "level": "syllable",
                "cluster_purity": 0.21, "cluster_purity_low": 0.2, "cluster_purity_high": 0.22,
                "syllable_purity": 0.32, "syllable_purity_low": 0.3, "syllable_purity_high": 0.34,
                "normalized_mutual_information": 0.7, "normalized_mutual_information_low": 0.69,
                "normalized_mutual_information_high": 0.71,
            }
        ],
    },
    "bitrate": {
        "evaluation": "bitrate", "model": "tiny", "data": SET, "num_units": 1024, "merged_unit_rate": 4.9,
        "bits_per_second": 49.0, "length_entropy_rate": 17.3,
    },
    "stability": {
        "evaluation": "stability", "model": "tiny, small", "data": SET, "seed": 0,
        "rows": [
            stability_row("tiny", "mp3", 0.12), stability_row("tiny", "noise20", 0.3),
            stability_row("tiny", "mean", 0.21), stability_row("small", "mp3", 0.04),
            stability_row("small", "noise20", 0.1), stability_row("small", "mean", 0.07),
        ],
    },
    "resynthesis": {
        "evaluation": "resynthesis", "model": "tiny", "data": {"name": "our/read.csv", "recordings": 20},
        "recognizer": "pocketsphinx", "min_seconds": 4.0, "max_seconds": 10.0,
        "original": {"wer": 0.2, "cer": 0.1}, "vocoder": {"wer": 0.5, "cer": 0.3},
        "resynthesis": {"wer": 0.9, "cer": 0.6},
    },
    "lexical": pair_result(
        "lexical",
        [
            accuracy_row("all", "pairs", 0.55),
            accuracy_row("vocabulary", "in", 0.57),
            accuracy_row("vocabulary", "oov", 0.5),
        ],
    ),
    "syntactic": pair_result("syntactic", [accuracy_row("all", "pairs", 0.52)], data="our/sentences"),
    "cloze": pair_result("cloze", [accuracy_row("all", "stories", 0.535)], data="our/stories"),
    "continuation": {
        "evaluation": "continuation", "model": "tiny",
        "data": {"name": "our/dev.csv", "recordings": 35, "prompts": 30, "seconds": 90.0},
        "prompt_seconds": 3.0, "continuation_seconds": 10.0, "recognizer": "pocketsphinx",
        "text_lm": {"name": "a.txt", "kind": "3-gram"}, "protocol": {"ppx_average": "mean"},
        "ppx_at_oracle_vert": {"value": 812.3, "two_sigma": 40.0, "status": "found", "temperature": 0.85},
        "vert_at_oracle_ppx": {"value": None, "two_sigma": None, "status": "oracle below the reachable range"},
        "oracle": {"source": "text of the recordings", "ppx_mean": 90.0, "vert": 12.0},
        "temperatures": [
            {"temperature": 0.3, "ppx_mean": 300.0, "vert": 45.0},
            {"temperature": 0.8, "ppx_mean": 700.0, "vert": 14.0},
            {"temperature": 1.2, "ppx_mean": 1500.0, "vert": 6.0},
            {"temperature": 2.0, "ppx_mean": None, "vert": 5.0},
        ],
    },
    "speed": {
        "evaluation": "speed", "model": "tiny", "data": {"name": "bundled", "recordings": 8, "seconds": 200.0},
        "machine": {"processor": "a CPU", "threads": 2, "gpu": None}, "batch_seconds": 120.0,
        "runs": [{"precision": "float32", "audio_per_second": 127.3}],
    },
}  # fmt: skip
RUN = {"params": 1_234_567, "num_units": 1024, "tokens": 9e6, "unique_tokens": 250_000}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_all(folder: Path) -> Path:
    """Every result as a file of its own, and a run."""
    for name, value in RESULTS.items():
        write(folder / f"{name}.json", value)
    write(folder / "runs" / "x" / "lm" / "run.json", RUN)
    write(folder / "runs" / "x" / "lm" / "artifact.json", {"kind": "lm"})
    write(folder / "runs" / "x" / "lm" / "config.json", {"not": "a result"})
    return folder
