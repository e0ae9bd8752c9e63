"""Every field of a model's JSON files with wrong values: finite features, or one line that names the file."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from helpers.random_encoders import FAMILIES, make_encoder
from helpers.random_models import noise
from helpers.released_checkpoints import random_weights
from helpers.wrong_fields import check_wrong_fields
from syllablelm.core.errors import FormatError
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder, from_state
from syllablelm.encoders.load import load_encoder

# Long enough for every stride that is accepted.
CLIP = noise(48_000, 1)
FILES = ("config.json", "preprocessor_config.json")


def gives_features(folder: Path) -> bool:
    feats = load_encoder(folder, device="cpu").encode([CLIP])[0]
    return feats.dtype == np.float32 and bool(np.isfinite(feats).all())


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_of_wrong_fields(tmp_path: Path, family: str, file: str) -> None:
    make_encoder(family).save(tmp_path)
    tries, faults = check_wrong_fields(tmp_path / file, lambda: gives_features(tmp_path), tmp_path, count=8)
    assert tries == 8 and not faults, faults


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_wrong_fields(tmp_path: Path, family: str, file: str) -> None:
    make_encoder(family).save(tmp_path)
    _, faults = check_wrong_fields(tmp_path / file, lambda: gives_features(tmp_path), tmp_path)
    assert not faults, faults


def test_wrong_fields_of_data2vec2(tmp_path: Path) -> None:
    Data2Vec2Encoder(from_state(random_weights(), "here")).save(tmp_path)
    _, faults = check_wrong_fields(tmp_path / "config.json", lambda: gives_features(tmp_path), tmp_path)
    assert not faults, faults


@pytest.mark.parametrize("family", ["hubert-layer", "w2v-bert-relative", "whisper"])
@pytest.mark.parametrize(
    "field", ["hidden_size", "d_model", "num_hidden_layers", "encoder_layers", "intermediate_size"]
)
def test_huge_sizes_take_neither_time_nor_memory(tmp_path: Path, family: str, field: str) -> None:

    make_encoder(family).save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    if field not in config:
        pytest.skip("of another family")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path.write_text(json.dumps({**config, field: 10**9}))
    with pytest.raises(FormatError):
        load_encoder(tmp_path, device="cpu")
    # Kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("damage", ["empty", "header", "cut", "none"])
def test_damaged_safetensors(tmp_path: Path, damage: str) -> None:
    make_encoder("hubert-group").save(tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    if damage == "none":
        save_file({}, path)
    else:
        path.write_bytes({"empty": b"", "header": b"\xff" * 8 + data[8:], "cut": data[: len(data) // 2]}[damage])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load_encoder(tmp_path, device="cpu")


@pytest.mark.parametrize("kind", ["int32", "nan", "shape"])
def test_weights_of_another_kind(tmp_path: Path, kind: str) -> None:
    make_encoder("hubert-group").save(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    name = "encoder.layers.1.attention.k_proj.weight"
    weights[name] = {"int32": weights[name].int(), "nan": weights[name] / 0, "shape": weights[name][:, :-1].clone()}[
        kind
    ]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(FormatError, match=name) as caught:
        load_encoder(tmp_path, device="cpu")
    assert str(path) in str(caught.value)
