from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder, is_data2vec2_folder, load_data2vec2_folder
from syllablelm.encoders.data2vec2_model import Data2Vec2, Data2Vec2Shape


@pytest.fixture
def encoder() -> Data2Vec2Encoder:
    torch.manual_seed(0)
    shape = Data2Vec2Shape(channels=8, dim=32, heads=4, feed_forward=48)
    return Data2Vec2Encoder(Data2Vec2(shape), 9, normalize=True)


def test_round_trip_is_exact(tmp_path: Path, encoder: Data2Vec2Encoder) -> None:
    encoder.save(tmp_path)
    assert is_data2vec2_folder(tmp_path)
    opened = load_data2vec2_folder(tmp_path, device="cpu")
    assert (opened.layer, opened.normalize, opened.dim) == (9, True, 32)
    for name, weight in encoder.model.state_dict().items():
        assert torch.equal(weight, opened.model.state_dict()[name]), name
    wave = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    assert np.array_equal(encoder.encode([wave])[0], opened.encode([wave])[0])
    assert load_data2vec2_folder(tmp_path, 3, device="cpu").layer == 3
    # Above its layer a student's blocks are the teacher's.
    with pytest.raises(InputError, match=r"layer 10: .* was saved for layer 9; take that one or one below it"):
        load_data2vec2_folder(tmp_path, 10, device="cpu")


def test_half_precision_comes_as_float32(tmp_path: Path, encoder: Data2Vec2Encoder) -> None:
    encoder.save(tmp_path, half=True)
    stored = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    opened = load_data2vec2_folder(tmp_path, device="cpu")
    for name, weight in encoder.model.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight.half().float(), opened.model.state_dict()[name]), name


def test_other_folders_are_told_apart(tmp_path: Path) -> None:
    assert not is_data2vec2_folder(tmp_path / "gone")
    for text in ("{", "[1]", "{}", '{"model_type": "hubert"}'):
        (tmp_path / "config.json").write_text(text)
        assert not is_data2vec2_folder(tmp_path)


@pytest.mark.parametrize(
    "config", ["{", "{}", '{"layer": "9", "normalize": false}', '{"layer": 9, "normalize": 0}', "3"]
)
def test_bad_descriptions_are_named(tmp_path: Path, encoder: Data2Vec2Encoder, config: str) -> None:
    encoder.save(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(FormatError, match=r"config\.json: (not|holds) "):
        load_data2vec2_folder(tmp_path, device="cpu")


def test_bad_weights_are_named(tmp_path: Path, encoder: Data2Vec2Encoder) -> None:
    encoder.save(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    name = "model.blocks.7.mlp.fc2.bias"
    changed = {
        "are missing, the first model.blocks.7.mlp.fc2.bias": {k: v for k, v in state.items() if k != name},
        "unknown weights, the first model.new": {**state, "model.new": torch.zeros(1)},
        "has shape": {**state, name: torch.zeros(3)},
    }
    for message, tensors in changed.items():
        save_file(tensors, file)
        with pytest.raises(FormatError, match=rf"model\.safetensors: .*{message}"):
            load_data2vec2_folder(tmp_path, device="cpu")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(FormatError, match="weights cannot be read"):
        load_data2vec2_folder(tmp_path, device="cpu")
    file.unlink()
    with pytest.raises(FormatError, match=r"model\.safetensors: no such file"):
        load_data2vec2_folder(tmp_path, device="cpu")
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "data2vec2"
