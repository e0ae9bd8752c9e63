"""Table 9 at miniature size: every row, real segmentations, and ratios of what was measured."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from helpers.devices import needs_gpu
from syllablelm.cli.app import main
from syllablelm.core.errors import InputError
from syllablelm.evaluate import system_speed
from syllablelm.evaluate.system_speed import SYSTEMS, PaperEncoder, PaperLM, SystemSpeedResult, evaluate_system_speed

ENCODERS = [name for name, system in SYSTEMS.items() if isinstance(system, PaperEncoder)]
MODELS = [name for name, system in SYSTEMS.items() if isinstance(system, PaperLM)]


def test_every_row_and_the_ratios_of_the_paper(tmp_path, capfd):
    arguments = ["evaluate", "speed", "--systems", "miniature", "--repeats", "2", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "speed.json")]) == 0
    out, err = capfd.readouterr()
    result = SystemSpeedResult.load(tmp_path / "speed.json")
    assert json.loads(out) == result.to_dict() and "audio s/s" in err and "published" in err
    tasks = [(name, "encoding") for name in ENCODERS]
    tasks += [(name, task) for name in MODELS for task in ("generation", "scoring")]
    assert [(row.system, row.task) for row in result.rows] == tasks
    assert {row.weights for row in result.rows} == {"random"} and (
        result.data.recordings,
        result.data.seconds,
        result.clip_seconds,
    ) == (2, 8.0, 4.0)
    assert all(row.audio_per_second > 0 and row.standard_error is not None for row in result.rows)
    rate = {(row.system, row.task): row.units_per_second for row in result.rows}
    # 4 s: 20 segments of MinSum, 78 units of TWIST, 25 of ours.
    assert rate["HuBERT + MinSum", "encoding"] == rate["Data2Vec2 + MinSum", "encoding"] == 5.0
    assert rate["TWIST LM", "scoring"] == 19.5 and rate["SyllableLM 6.25 Hz, 8k units", "generation"] == 6.25
    speed = {(row.system, row.task): row.audio_per_second for row in result.rows}
    assert [ratio.task for ratio in result.ratios] == ["encoding", "generation", "scoring"]
    for ratio in result.ratios:
        assert ratio.ratio == pytest.approx(speed[ratio.system, ratio.task] / speed[ratio.against, ratio.task])
    assert [round(ratio.published, 2) for ratio in result.ratios] == [5.55, 4.45, 4.45]


def test_means_and_standard_errors(monkeypatch):
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    ran = []
    assert system_speed._time(lambda: ran.append(1) or len(ran), 3, torch.device("cpu")) == ([1.0, 2.0, 4.0], 4)


@pytest.mark.parametrize("name", MODELS)
def test_language_models_read_and_draw_what_is_counted(name, monkeypatch):
    seen = []
    for method in ("generate", "log_probs"):
        real = getattr(system_speed.SpeechLM, method)

        def call(self, rows, real=real, **options):
            seen.append(real(self, rows, **options))
            return seen[-1]

        monkeypatch.setattr(system_speed.SpeechLM, method, call)
    system = SYSTEMS[name]
    runs = system_speed._language_model(system, "random", 3, 2.0, "miniature", "float32", torch.device("cpu"))
    units = round(2.0 * system.rate)
    assert runs["generation"]() == runs["scoring"]() == 3 * units
    drawn, scored = seen
    assert [len(row) for row in drawn] == [units] * 3
    # One unit more, which is the prompt of the other.
    assert [len(row) for row in scored] == [units + 1] * 3 and np.all(np.concatenate(scored) < 0)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu(precision):
    result = evaluate_system_speed(size="miniature", device="cuda", precision=precision)
    assert len(result.rows) == 8 and result.machine.gpu


def test_true_shapes():
    encoder = system_speed._random_encoder(SYSTEMS["HuBERT + MinSum"], 9, "full")
    assert encoder.dim == 768 and encoder.model.config.feat_extract_norm == "group" and encoder.hop == 320
    assert len(encoder.model.encoder.layers) == 9
    assert system_speed._random_encoder(SYSTEMS["Data2Vec2 + MinSum"], 11, "full").dim == 768


def test_own_checkpoints(tmp_path):
    encoder = system_speed._random_encoder(SYSTEMS["HuBERT + MinSum"], 12, "miniature")
    encoder.save(tmp_path / "hubert")
    path = str(tmp_path / "hubert")
    result = evaluate_system_speed(
        size="miniature", checkpoints=[f"hubert={path}"], clips=1, clip_seconds=2.0, repeats=1
    )
    assert [row.system for row in result.rows if row.weights == path] == ["HuBERT + MinCut", "HuBERT + MinSum"]
    assert (result.data.recordings, result.clip_seconds, result.rows[0].standard_error) == (1, 2.0, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoints": ["hubart=x"]}, "unknown checkpoint 'hubart'"),
        ({"checkpoints": ["hubert"]}, "give NAME=PATH, such as hubert=folder"),
        ({"size": "huge"}, "choose full or miniature"),
        ({"repeats": 0}, "repeats"),
        ({"clip_seconds": 0.0}, "seconds of a clip"),
        ({"precision": "int8"}, "int8"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(InputError, match=words):
        evaluate_system_speed(**{"size": "miniature", **options})


def test_the_command_takes_no_recordings(capfd):
    assert main(["evaluate", "speed", "a.wav", "--systems", "miniature"]) == 2
    assert "leave AUDIO out" in capfd.readouterr().err
