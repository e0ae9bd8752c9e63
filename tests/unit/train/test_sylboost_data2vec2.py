"""SylBoost on Data2Vec 2.0, the paper's backbone: teachers in every layout, boundaries of another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.data2vec2_checkpoints import write_data2vec2
from helpers.random_models import small_corpus, small_predictor
from helpers.released_checkpoints import random_weights
from syllablelm.core.artifact import Artifact, digest_path
from syllablelm.core.errors import InputError
from syllablelm.encoders import load_encoder
from syllablelm.encoders.data2vec2 import AUDIO, PREFIX, Data2Vec2Encoder, from_state
from syllablelm.train.batches import WaveformStore
from syllablelm.train.boundary_stage import BoundariesConfig, find_boundaries
from syllablelm.train.loop import LoopConfig
from syllablelm.train.runlog import read_log
from syllablelm.train.stage import StageContext, external_encoder
from syllablelm.train.sylboost import SylBoostConfig, train_sylboost

LENGTHS = [24_000, 9_000, 32_000, 16_000]
LOOP = LoopConfig(2, lr=1e-3, batch_seconds=5.0, log_every=1)
CONFIG = SylBoostConfig(LOOP, layer=11, crop_seconds=1.5)
WEIGHTS = random_weights()
EXTRACTOR = f"{PREFIX}{AUDIO}local_encoder."


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> WaveformStore:
    return WaveformStore(small_corpus(tmp_path_factory.mktemp("audio"), LENGTHS))


@pytest.fixture(scope="module")
def boundaries(store, tmp_path_factory) -> Artifact:
    """Boundaries by LossPred of a HuBERT."""
    folder = tmp_path_factory.mktemp("boundaries")
    (folder / "hubert").mkdir()
    small_predictor().save(folder / "hubert")
    config = BoundariesConfig("losspred", rate=8.33, span=6, gap=12)
    hubert = external_encoder(str(folder / "hubert"))
    return find_boundaries(config, StageContext(store, device="cpu"), folder / "found", encoder=hubert)


def write_teacher(folder: Path, layout: str) -> Path:
    """The same weights in one of the layouts that hold them."""
    if layout == "fairseq":
        return write_data2vec2(folder / "base_libri.pt")
    if layout == "released":
        torch.save({"model_seg": WEIGHTS}, folder / "SylBoost_833Hz.pth")
        return folder / "SylBoost_833Hz.pth"
    (folder / "ours").mkdir()
    Data2Vec2Encoder(from_state(WEIGHTS, "here"), 12, normalize=True).save(folder / "ours")
    return folder / "ours"


def run(config: SylBoostConfig, store: WaveformStore, teacher: Path, boundaries: Artifact, out: Path, **others: Any):
    teacher_artifact = external_encoder(str(teacher))
    context = StageContext(store, device="cpu")
    return train_sylboost(config, context, teacher_artifact, boundaries, out, **others)


@pytest.mark.parametrize(("layout", "normalize"), [("released", False), ("fairseq", True), ("folder", True)])
def test_a_round_from_every_layout(tmp_path, store, boundaries, layout, normalize):
    teacher = write_teacher(tmp_path, layout)
    before = digest_path(teacher)
    made = run(CONFIG, store, teacher, boundaries, tmp_path / "out")
    assert digest_path(teacher) == before
    assert made.record["parents"]["boundaries"] == boundaries.digest
    student = load_encoder(made.path, device="cpu")
    assert isinstance(student, Data2Vec2Encoder)
    assert (student.layer, student.normalize, student.dim) == (11, normalize, 48)
    weights = student.released_state()
    moved = {name for name, weight in weights.items() if not torch.equal(weight, WEIGHTS[name])}
    # Everything between the extractor and layer 11, which is the seventh of the main blocks.
    above = f"{PREFIX}blocks.7."
    assert moved == {name for name in weights if not name.startswith((EXTRACTOR, above))}


def test_rounds_learn_and_go_on_from_each_other(tmp_path, store, boundaries):
    teacher = write_teacher(tmp_path, "released")
    longer = replace(CONFIG, loop=replace(LOOP, steps=16))
    first = run(longer, store, teacher, boundaries, tmp_path / "first")
    losses = [line["loss"] for line in read_log(first.path)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    # The second round of the paper: boundaries from the student's own features.
    config = BoundariesConfig("minsum", rate=8.33, layer=11)
    own = find_boundaries(config, StageContext(store, device="cpu"), tmp_path / "own", encoder=first)
    again = replace(CONFIG, student="previous")
    second = run(again, store, teacher, own, tmp_path / "second", previous=first)
    assert second.record["parents"]["student"] == first.digest
    features = [load_encoder(made.path, device="cpu").encode([store[0]])[0] for made in (first, second)]
    assert np.abs(features[0] - features[1]).max() > 1e-5


def test_the_same_run_gives_the_same_student(tmp_path, store, boundaries):
    teacher = write_teacher(tmp_path, "fairseq")
    a, b = (load_file(run(CONFIG, store, teacher, boundaries, tmp_path / n).file("model.safetensors")) for n in "ab")
    assert a.keys() == b.keys() and all(torch.equal(weight, b[name]) for name, weight in a.items())


def test_frozen_blocks_stay_and_the_extractor_learns_where_asked(tmp_path, store, boundaries):
    teacher = write_teacher(tmp_path, "released")
    made = run(replace(CONFIG, frozen_blocks=6), store, teacher, boundaries, tmp_path / "frozen")
    weights = load_file(made.file("model.safetensors"))
    moved = {name for name, weight in weights.items() if not torch.equal(weight, WEIGHTS[name])}
    # Blocks 7 to 11; four come before the main ones.
    assert moved and all(name.split(".")[:3] in [["model", "blocks", str(n)] for n in range(2, 7)] for name in moved)

    made = run(replace(CONFIG, train_cnn=True), store, teacher, boundaries, tmp_path / "cnn")
    weights = load_file(made.file("model.safetensors"))
    assert not any(torch.equal(weights[name], WEIGHTS[name]) for name in weights if name.startswith(EXTRACTOR))


def test_layers_that_the_model_has_not(tmp_path, store, boundaries):
    with pytest.raises(InputError, match="has layers 0 to 12"):
        run(replace(CONFIG, layer=13), store, write_teacher(tmp_path, "released"), boundaries, tmp_path / "out")
