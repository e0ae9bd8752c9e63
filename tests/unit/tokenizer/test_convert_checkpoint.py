from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.random_segmentations import files_below
from syllablelm.core.artifact import open_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.data2vec2 import Data2Vec2, Data2Vec2Encoder, Data2Vec2Shape
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.convert_checkpoint import TokenizerConversion, convert_tokenizer
from syllablelm.tokenizer.released_checkpoint import load_released, save_released
from syllablelm.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released tokenizer with random weights, twelve narrow blocks."""
    torch.manual_seed(0)
    encoder = Data2Vec2Encoder(Data2Vec2(Data2Vec2Shape(channels=8, dim=32, heads=4, feed_forward=48)))
    centres = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32)
    codebook = Codebook(centres, np.arange(24, dtype=np.int32) % 12)
    return save_released(tmp_path_factory.mktemp("release"), "SylBoost_625Hz", encoder, codebook)


@pytest.fixture(scope="module")
def artifact(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts") / "sylboost625"
    result = convert_tokenizer(release, folder, to="tokenizer")
    assert TokenizerConversion.from_dict(result.to_dict()) == result
    assert result.to_dict() == {"from": "released", "to": "tokenizer", "units": 12, "loses": []}
    return folder


def test_artifact_gives_the_units_of_the_release(release: Path, artifact: Path) -> None:
    waves = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (32_000, 9_000, 400)]
    theirs, ours = (Tokenizer.load(path, device="cpu") for path in (release, artifact))
    assert ours.encode(waves) == theirs.encode(waves)
    assert ours.rule == theirs.rule and ours.rule.method == "released"
    assert ours.codebook == theirs.codebook
    record = open_artifact(artifact, "tokenizer").record
    assert sorted(record["parents"]) == ["SylBoost_625Hz.pth", "SylBoost_625Hz_agglom.npy", "SylBoost_625Hz_kmeans.npy"]
    assert not any(name.endswith((".pth", ".npy")) for name in files_below(artifact))


def test_release_of_the_artifact_is_the_release(release: Path, artifact: Path, tmp_path: Path) -> None:
    result = convert_tokenizer(artifact, tmp_path / "new" / "SylBoost_625Hz.pth", to="released")
    assert result.to_dict() == {"from": "tokenizer", "to": "released", "units": 12, "loses": []}
    for suffix in ("_kmeans.npy", "_agglom.npy"):
        name = f"SylBoost_625Hz{suffix}"
        assert (tmp_path / "new" / name).read_bytes() == (release.parent / name).read_bytes()
    states = [load_released(path, device="cpu")[0].state_dict() for path in (release, tmp_path / "new" / release.name)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_rule_that_a_release_cannot_hold_is_named(release: Path, artifact: Path, tmp_path: Path) -> None:
    result = convert_tokenizer(artifact, tmp_path / "SylBoost_833Hz.pth", to="released")
    assert result.loses == ("the rule (released, delta 0.0028, rate 6.25)",)
    folder = tmp_path / "other"
    assert convert_tokenizer(release, folder, to="tokenizer", delta=0.5).loses == ()
    assert Tokenizer.load(folder, device="cpu").rule.delta == 0.5
    result = convert_tokenizer(folder, tmp_path / "mine.pth", to="released")
    assert result.loses == ("the rule (released, delta 0.5, rate 6.25)",)


def test_what_cannot_be_converted_is_refused(release: Path, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.pth"):
        convert_tokenizer(artifact, tmp_path / "SylBoost_625Hz", to="released")
    with pytest.raises(InputError, match="exists; choose another --out"):
        convert_tokenizer(release, artifact, to="tokenizer")
    with pytest.raises(InputError, match="tokenizer cannot become jsonl"):
        convert_tokenizer(artifact, tmp_path / "a", to="jsonl")
    with pytest.raises(InputError, match="--delta belongs to reading"):
        convert_tokenizer(artifact, tmp_path / "a.pth", to="released", delta=0.1)
    with pytest.raises(FormatError, match=r"SylBoost_500Hz\.pth"):
        convert_tokenizer(tmp_path / "SylBoost_500Hz.pth", tmp_path / "a", to="tokenizer")
    truncated = tmp_path / "SylBoost_833Hz.pth"
    truncated.write_bytes(release.read_bytes()[:2000])
    for suffix in ("_kmeans.npy", "_agglom.npy"):
        (tmp_path / f"SylBoost_833Hz{suffix}").write_bytes((release.parent / f"SylBoost_625Hz{suffix}").read_bytes())
    with pytest.raises(FormatError, match=r"SylBoost_833Hz\.pth"):
        convert_tokenizer(truncated, tmp_path / "a", to="tokenizer")
    assert not (tmp_path / "a").exists() and not (tmp_path / "a.pth").exists()
