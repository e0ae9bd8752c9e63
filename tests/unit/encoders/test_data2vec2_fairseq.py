"""Data2Vec 2.0 checkpoints of fairseq against the slow oracle and against the released layout."""

from __future__ import annotations

import enum
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.data2vec2_checkpoints import MODEL, TASK, fairseq_weights, write_data2vec2
from helpers.fairseq_checkpoints import Shape
from helpers.fairseq_checkpoints import random_weights as hubert_weights
from helpers.released_checkpoints import Oracle, random_weights, tones
from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.data2vec2 import AUDIO, Data2Vec2Encoder, from_state
from syllablelm.encoders.fairseq import is_fairseq_data2vec2, load_fairseq_data2vec2

RELEASED = random_weights()
WEIGHTS = fairseq_weights(RELEASED)
SCALE = f"{AUDIO}alibi_scale"
WAVE = tones(9_000, 1)


def load(path: Path, layer: int | None = None) -> Data2Vec2Encoder:
    return load_fairseq_data2vec2(path, read_checkpoint(path), layer, device="cpu")


def fails(path: Path, match: str) -> None:
    with pytest.raises(FormatError, match=match) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_features_equal_the_oracle_on_standardised_waveforms(tmp_path):
    path = write_data2vec2(tmp_path / "base_libri.pt", WEIGHTS)
    encoder = load(path)
    assert (encoder.layer, encoder.dim, encoder.normalize) == (11, 48, True)
    standard = (WAVE - WAVE.mean()) / np.sqrt(WAVE.var() + 1e-5)
    np.testing.assert_allclose(encoder.encode([WAVE])[0], Oracle(RELEASED).layers(standard)[11], atol=2e-4)
    # Not mapped from the file, which may be written over.
    path.write_bytes(b"")
    assert np.isfinite(encoder.encode([WAVE])[0]).all()


def test_weights_are_the_students_and_come_as_float32(tmp_path):
    half = {name: weight if name == "_ema" else weight.half() for name, weight in WEIGHTS.items()}
    encoder = load(write_data2vec2(tmp_path / "x.pt", half), 4)
    assert encoder.layer == 4
    for name, weight in from_state(RELEASED, "here").state_dict().items():
        assert torch.equal(encoder.model.state_dict()[name], weight.half().float()), name


@pytest.mark.parametrize(
    ("config", "normalize"),
    [
        ({"task": {**TASK, "normalize": False}, "model": MODEL}, False),
        ({"task": {}, "model": MODEL}, True),
        ({"task": {"normalize": "${task.other}"}}, True),
        ({}, True),
    ],
)
def test_normalize_is_that_of_the_task(tmp_path, config, normalize):
    assert load(write_data2vec2(tmp_path / "x.pt", WEIGHTS, config=config)).normalize is normalize


def test_other_layouts_of_fairseq(tmp_path):
    expected = load(write_data2vec2(tmp_path / "x.pt", WEIGHTS)).encode([WAVE])[0]
    # Scales were four-dimensional before they could differ from layer to layer.
    older = {**WEIGHTS, SCALE: WEIGHTS[SCALE][0], "shared_decoder.proj.weight": torch.zeros(2), "recon_proj.bias": 0}
    assert np.array_equal(load(write_data2vec2(tmp_path / "older.pt", older)).encode([WAVE])[0], expected)
    # Fine-tuned to transcribe: one folder deeper, without the decoder, and with a configuration inside another.
    tuned = {f"w2v_encoder.w2v_model.{name}": weight for name, weight in WEIGHTS.items() if ".decoder." not in name}
    tuned |= {"w2v_encoder.proj.weight": torch.zeros(32, 48), "w2v_encoder.proj.bias": torch.zeros(32)}
    config = {"task": TASK, "model": {"_name": "wav2vec_ctc", "w2v_args": {"task": TASK, "model": MODEL}}}
    assert np.array_equal(load(write_data2vec2(tmp_path / "t.pt", tuned, config=config)).encode([WAVE])[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.7.": None}, "12 weights are missing, the first blocks.7.attn"),
        ({SCALE: None}, "1 weights are missing, the first modality_encoders.AUDIO.alibi_scale"),
        ({"norm.weight": torch.ones(48)}, "1 unknown weights, the first norm.weight"),
        ({f"{AUDIO}extra_tokens": torch.zeros(1, 10, 48)}, "1 unknown weights, the first .*extra_tokens"),
        ({"modality_encoders.TEXT.x": torch.zeros(1)}, "1 unknown weights, the first modality_encoders.TEXT.x"),
        ({"blocks.2.mlp.fc1.bias": torch.zeros(63)}, r"blocks.2.mlp.fc1.bias has shape \(63,\), expected \(64,\)"),
        ({SCALE: torch.ones(12, 1, 12, 1, 1)}, r"alibi_scale has shape \(12, 1, 12, 1, 1\)"),
        ({SCALE: torch.ones(1, 1, 1, 1, 1)}, "num_heads = 12 where 1 is expected"),
        ({"blocks.2.mlp.fc1.bias": [1.0]}, "blocks.2.mlp.fc1.bias is a list, not a tensor"),
    ],
)
def test_weights_of_another_model(tmp_path, change, message):
    removed = tuple(name for name, weight in change.items() if weight is None)
    kept = {name: weight for name, weight in WEIGHTS.items() if not (removed and name.startswith(removed))}
    added = {name: weight for name, weight in change.items() if weight is not None}
    fails(write_data2vec2(tmp_path / "x.pt", {**kept, **added}), message)


def test_configurations_with_objects_of_fairseq(tmp_path, monkeypatch):
    module = types.ModuleType("examples.data2vec.data.modality")
    modality = enum.Enum("Modality", ["AUDIO", "IMAGE", "TEXT"], module=module.__name__)
    module.Modality = modality
    config = {"task": {**TASK, "normalize": False}, "model": {**MODEL, "supported_modality": modality.AUDIO}}
    with monkeypatch.context() as patch:
        for name in ("examples", "examples.data2vec", "examples.data2vec.data"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        path = write_data2vec2(tmp_path / "x.pt", WEIGHTS, config=config)
    assert not load(path).normalize


@pytest.mark.parametrize(("name", "value"), [("num_heads", 16), ("layer_norm_first", True), ("norm_eps", 1e-6)])
def test_configurations_of_another_model(tmp_path, name, value):
    config = {"task": TASK, "model": {**MODEL, name: value}}
    fails(write_data2vec2(tmp_path / "x.pt", WEIGHTS, config=config), f"its configuration has {name} = {value}")


def test_other_checkpoints_are_told_apart(tmp_path):
    assert is_fairseq_data2vec2({"model": WEIGHTS})
    others: list[dict[str, Any]] = [{"model": hubert_weights(Shape())}, {"model_seg": RELEASED}, {"model": 3}, {}]
    for other in others:
        assert not is_fairseq_data2vec2(other)
        torch.save(other, tmp_path / "x.pt")
        fails(tmp_path / "x.pt", "not a Data2Vec 2.0 speech model of fairseq")
    with pytest.raises(InputError, match="has layers 0 to 12"):
        load(write_data2vec2(tmp_path / "x.pt", WEIGHTS), 13)
