"""Vocoders and language models with wrong values in their JSON files, other tensors, and other names of weights."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import published_hifigan as published
from helpers.wrong_fields import DEEP, check_wrong_fields
from syllablelm.core.artifact import new_artifact
from syllablelm.core.errors import FormatError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenInfo
from syllablelm.train.lm_stage import LMShape
from syllablelm.vocoder.hifigan import HiFiGanVocoder
from syllablelm.vocoder.source_filter import SourceFilterNet, SourceFilterShape, SourceFilterVocoder
from syllablelm.vocoder.spectrum import SpectrumSpec
from syllablelm.vocoder.unit_vocoder import SHAPE_FILE, WEIGHTS_FILE

UNITS = np.array([1, 2, 3, 4, 0], np.int32)


def spoken(vocoder: HiFiGanVocoder | SourceFilterVocoder, hop: int) -> bool:
    units = Segmentation.from_boundaries(np.arange(6), unit=UNITS, hop=hop, sample_rate=vocoder.sample_rate)
    return bool(np.isfinite(vocoder.decode(units)).all())


def hifigan_speaks(folder: Path) -> bool:
    vocoder = HiFiGanVocoder.load(folder, device="cpu")
    return spoken(vocoder, vocoder.net.shape.hop)


def source_filter_speaks(folder: Path) -> bool:
    vocoder = SourceFilterVocoder.load(folder, device="cpu")
    return spoken(vocoder, vocoder.net.shape.hop)


def language_model_scores(folder: Path) -> bool:
    model = SpeechLM.load(folder, device="cpu")
    units = Segmentation.from_boundaries(
        np.arange(6), unit=UNITS, hop=model.info.hop, sample_rate=model.info.sample_rate
    )
    nothing = Segmentation.from_boundaries([], unit=[], hop=model.info.hop, sample_rate=model.info.sample_rate)
    return bool(np.isfinite(model.score(units))) and len(model.generate(nothing, seconds=0.1)) > 0


def write_vocoders(folder: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    theirs = published.write(folder / "published", published.TINY, published.random_weights(published.TINY))
    for name in ("hifigan", "source"):
        (folder / name).mkdir()
    HiFiGanVocoder.load(theirs, device="cpu").save(folder / "hifigan")
    shape = SourceFilterShape(units=5, dim=16, blocks=2, kernel=3, spectrum=SpectrumSpec(fft=640, hop=160))
    SourceFilterVocoder(SourceFilterNet(shape)).save(folder / "source")
    return {name: folder / name for name in ("published", "hifigan", "source")}


def write_language_model(folder: Path) -> Path:
    torch.manual_seed(0)
    info = TokenInfo(5, tokenizer="abc")
    shape = LMShape(layers=2, dim=16, heads=2, feed_forward=32, positions=32, dropout=0.0)
    model = SpeechLM(shape.build(5), info, np.full(5, 3, np.int32))
    with new_artifact(folder / "lm", "lm", config=shape, seed=0, parents={}, metrics={}) as payload:
        model.write_payload(payload)
    return folder / "lm"


CASES = [
    ("published", "config.json", hifigan_speaks),
    ("hifigan", SHAPE_FILE, hifigan_speaks),
    ("source", SHAPE_FILE, source_filter_speaks),
    ("lm", "config.json", language_model_scores),
    ("lm", "tokens.json", language_model_scores),
]


@pytest.mark.parametrize(("kind", "file", "use"), CASES)
@pytest.mark.parametrize("count", [20, pytest.param(None, marks=pytest.mark.slow)])
def test_wrong_fields(tmp_path: Path, kind: str, file: str, use: Any, count: int | None) -> None:
    folder = write_language_model(tmp_path) if kind == "lm" else write_vocoders(tmp_path)[kind]
    assert use(folder)
    _, faults = check_wrong_fields(folder / file, lambda: use(folder), folder, count=count)
    assert not faults, faults


@pytest.mark.parametrize(("kind", "file", "use"), CASES)
def test_deep_json(tmp_path: Path, kind: str, file: str, use: Any) -> None:
    folder = write_language_model(tmp_path) if kind == "lm" else write_vocoders(tmp_path)[kind]
    (folder / file).write_text(DEEP)
    with pytest.raises(FormatError, match=file) as caught:
        use(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "file", "field"),
    [
        ("hifigan", SHAPE_FILE, "num_embeddings"),
        ("hifigan", SHAPE_FILE, "upsample_initial_channel"),
        ("source", SHAPE_FILE, "blocks"),
        ("source", SHAPE_FILE, "units"),
        ("lm", "config.json", "num_hidden_layers"),
        ("lm", "config.json", "max_position_embeddings"),
        ("lm", "config.json", "vocab_size"),
    ],
)
def test_huge_sizes_take_neither_time_nor_memory(tmp_path: Path, kind: str, file: str, field: str) -> None:
    folder = write_language_model(tmp_path) if kind == "lm" else write_vocoders(tmp_path)[kind]
    use = next(use for name, other, use in CASES if (name, other) == (kind, file))
    table = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**table, field: 2**20}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError):
        use(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_names_of_weight_norm_and_wrappers(tmp_path: Path, prefix: str) -> None:
    old = published.random_weights(published.TINY)
    new = {
        prefix
        + name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): tensor
        for name, tensor in old.items()
    }
    units = Segmentation.from_boundaries(np.arange(6), unit=UNITS, hop=640)
    waves = [
        HiFiGanVocoder.load(published.write(tmp_path / name, published.TINY, weights), device="cpu").decode(units)
        for name, weights in (("old", old), ("new", new))
    ]
    np.testing.assert_array_equal(waves[0], waves[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    folders = write_vocoders(tmp_path) | {"lm": write_language_model(tmp_path)}
    weights = {name: tensor.to(dtype) for name, tensor in published.random_weights(published.TINY).items()}
    published.write(folders["published"], published.TINY, weights)
    for name, file in (("hifigan", WEIGHTS_FILE), ("source", WEIGHTS_FILE), ("lm", "model.safetensors")):
        path = folders[name] / file
        save_file({key: tensor.to(dtype) for key, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    for name in ("published", "hifigan"):
        vocoder = HiFiGanVocoder.load(folders[name], device="cpu")
        assert {weight.dtype for weight in vocoder.net.parameters()} == {torch.float32}
        assert spoken(vocoder, 640)
    assert source_filter_speaks(folders["source"])
    model = SpeechLM.load(folders["lm"], device="cpu").model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
