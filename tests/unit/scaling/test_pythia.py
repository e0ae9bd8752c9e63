"""Evaluations in the layout of the Pythia suite's repository, with made-up numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.scaling import collect_pythia, fit_study


def write(folder: Path, model: str, name: str, results: Any, shots: str = "zero-shot") -> Path:
    path = folder / model / shots / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"results": results, "versions": {}, "config": {"num_fewshot": 0}}), encoding="utf-8")
    return path


def tasks(rise: float) -> dict[str, Any]:
    return {
        "blimp_wh_island": {"acc": 0.5 * rise, "acc_stderr": 0.01},
        "blimp_drop_argument": {"acc": 0.7 * rise, "acc_stderr": 0.01},
        "piqa": {"acc": 0.6 * rise, "acc_stderr": 0.01, "acc_norm": 0.61},
        "lambada_openai": {"ppl": 20.0, "acc": 0.4 * rise},
        "wikitext": {"word_perplexity": 30.0, "byte_perplexity": 2.0, "bits_per_byte": 1 / rise},
    }


def test_last_steps_become_runs_with_scores(tmp_path: Path) -> None:
    sizes = ("70m", "160m", "410m", "1b", "2.8b", "12b")
    for k, size in enumerate(sizes):
        # The second generation's names, and the first one's with the run's date.
        last = f"{size}_step143000.json" if k % 2 else f"pythia-{size}-0shot-global_step71500_eval_results_11-25.json"
        write(tmp_path, f"pythia-{size}", last, tasks(1 + 0.05 * k))
        write(tmp_path, f"pythia-{size}", f"{size}_step13000.json", tasks(0.1))
        write(tmp_path, f"pythia-{size}", f"{size}-5shot_step143000.json", tasks(0.2), "five-shot")
    write(tmp_path, "pythia-160m-0.5MtokBS", "160m_step143000.json", tasks(0.3))
    found = collect_pythia([tmp_path, tmp_path / "pythia-70m"])
    assert [run.name for run in found.runs] == [f"pythia-{size}" for size in sizes]
    assert len(found.left_out) == 1 and "pythia-160m-0.5MtokBS is no model of the suite" in found.left_out[0]
    # Counts without embeddings as the model cards give them.
    published = [18_915_328, 85_056_000, 302_311_424, 805_736_448, 2_517_652_480, 11_327_027_200]
    assert [run.params for run in found.runs] == published
    assert {run.tokens for run in found.runs} == {299_892_736_000}
    assert found.runs[0].flops == 6 * published[0] * 299_892_736_000
    assert found.runs[0].scores == pytest.approx({"sblimp": 60, "piqa": 60, "lambada_openai": 40})
    assert found.runs[0].loss == pytest.approx(math.log(2))
    found.write(tmp_path / "text.jsonl")
    study = fit_study(found.runs)
    assert set(study.scores) == set(study.lines) == {"sblimp", "piqa", "lambada_openai"}
    assert study.law is None and "token counts" in study.skipped["loss law"]
    assert study.lines["sblimp"].correlation < -0.99


def test_files_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        collect_pythia([tmp_path / "none"])
    with pytest.raises(InputError, match="no Pythia evaluations: MODEL/zero-shot"):
        collect_pythia([tmp_path])
    lists = (([], "no results by task"), ({"a": 3}, "no results by task"), ({"a": {"acc": "x"}}, "a: 'x' is no number"))
    for results, reason in lists:
        write(tmp_path, "pythia-70m", "70m_step143000.json", results)
        with pytest.raises(FormatError, match=f"70m_step143000.json: {reason}"):
            collect_pythia([tmp_path])
    write(tmp_path, "pythia-70m", "70m_step143000.json", {"a": {"ppl": 3.0}})
    with pytest.raises(FormatError, match="neither a loss nor scores"):
        collect_pythia([tmp_path])
