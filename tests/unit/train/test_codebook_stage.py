from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.random_models import SHAPE, SLOW_SHAPE, small_corpus, small_predictor
from syllablelm import Tokenizer
from syllablelm.core.artifact import new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import Codebook, VectorWriter, fit_codebook
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.train import codebook_stage
from syllablelm.train.batches import WaveformStore, iterate_features
from syllablelm.train.codebook_stage import CodebookConfig, train_codebook
from syllablelm.train.stage import StageContext


@pytest.fixture
def inputs(tmp_path):
    with new_artifact(tmp_path / "encoder", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
    store = WaveformStore(small_corpus(tmp_path / "audio", [40_000, 9_000, 64_000]))
    return store, open_artifact(tmp_path / "encoder")


def test_makes_a_tokenizer_that_opens(inputs, tmp_path):
    store, encoder = inputs
    config = CodebookConfig(5, centres=9, rule=SegmentRule(rate=8.0))
    made = train_codebook(config, StageContext(store, device="cpu"), encoder, tmp_path / "out")
    tokenizer = Tokenizer.load(made.path, device="cpu")
    assert tokenizer.rule == config.rule and tokenizer.num_units == 5
    assert len(Codebook.load(made.file("codebook.safetensors")).centres) == 9
    assert json.loads(made.file("tokenizer.json").read_text())["rate"] == 8.0
    segmentations = tokenizer.encode([store[index] for index in range(3)])
    used = np.unique(np.concatenate([s.unit for s in segmentations if s.unit is not None]))
    segments = sum(len(s) for s in segmentations)
    assert made.metrics["segments"] == segments and made.metrics["units_used"] == len(used)
    assert made.metrics["rate"] == pytest.approx(segments / store.manifest.total_seconds)


@pytest.mark.parametrize("shape", [SHAPE, SLOW_SHAPE], ids=["50 Hz", "25 Hz"])
@pytest.mark.parametrize("method", ["rate", "peaks", "released", "frames"])
def test_learns_from_the_segments_that_it_will_cut(tmp_path, shape, method):
    with new_artifact(tmp_path / "encoder", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor(shape=shape).save(payload)
    store = WaveformStore(small_corpus(tmp_path / "audio", [40_000, 9_000, 64_000]))
    config = CodebookConfig(5, rule=SegmentRule(method, rate=6.25, delta=1e-9))
    encoder = open_artifact(tmp_path / "encoder")
    made = train_codebook(config, StageContext(store, device="cpu"), encoder, tmp_path / "out")
    tokenizer = Tokenizer.load(made.path, device="cpu")
    found = tokenizer.encode([store[index] for index in range(3)])
    assert made.metrics["segments"] == sum(len(segments) for segments in found)
    if method == "rate":
        frames = [segments.num_frames for segments in found]
        assert made.metrics["segments"] == sum(round(6.25 * count / tokenizer.frame_rate) for count in frames)


def test_says_what_it_is_doing(inputs, tmp_path, capsys, monkeypatch):
    store, encoder = inputs
    monkeypatch.setattr(ProgressBar.__init__, "__kwdefaults__", {**ProgressBar.__init__.__kwdefaults__, "every": 0.0})
    train_codebook(CodebookConfig(6), StageContext(store, device="cpu"), encoder, tmp_path / "out")
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("k-means (")]
    assert len(lines) > 1 and " 100/100 " in lines[-1] and "12 centres" in lines[-1]
    assert "codebook: Ward merges 12 centres into 6 units\ncodebook: merged in 0 s" in told


def test_vectors_in_files_give_the_codebook_of_those_in_memory(inputs, tmp_path):
    store, encoder = inputs
    config = CodebookConfig(5, rule=SegmentRule(rate=8.0))
    made = train_codebook(config, StageContext(store, device="cpu", seed=3), encoder, tmp_path / "out")
    tokenizer = Tokenizer.load(made.path, device="cpu")
    corpus = iterate_features(store, tokenizer.encoder)
    pooled = np.concatenate([tokenizer.pool(feats, tokenizer.spans(feats)) for _, feats in corpus])
    expected = fit_codebook(pooled, 5, seed=3)
    assert tokenizer.codebook == expected
    assert made.metrics["units_used"] == len(np.unique(expected.assign(pooled))) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "encoder", "out"]


def test_stopped_and_resumed(inputs, tmp_path, monkeypatch):
    store, encoder = inputs
    config, context = CodebookConfig(5, rule=SegmentRule(rate=8.0)), StageContext(store, device="cpu")
    whole = train_codebook(config, context, encoder, tmp_path / "whole")
    monkeypatch.setattr(VectorWriter.__init__, "__defaults__", (10,))
    pool, pooled = Tokenizer.pool, []

    def count_and_stop(self, feats, spans):
        pooled.append(len(feats))
        if len(pooled) == 3:
            raise KeyboardInterrupt
        return pool(self, feats, spans)

    monkeypatch.setattr(Tokenizer, "pool", count_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_codebook(config, context, encoder, tmp_path / "out")
    # Vectors of other settings are not taken over, nor left.
    with pytest.raises(InputError, match="too few"):
        train_codebook(replace(config, units=500), context, encoder, tmp_path / "out")
    assert len(pooled) == 6
    with monkeypatch.context() as stopped:
        stopped.setattr(codebook_stage, "fit_codebook", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_codebook(config, context, encoder, tmp_path / "out")
    assert len(list((tmp_path / ".out.work").iterdir())) == 1
    made = train_codebook(config, context, encoder, tmp_path / "out")
    assert len(pooled) == 9, "no recording is encoded again"
    assert made.digest == whole.digest and not (tmp_path / ".out.work").exists()


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_features_from_any_recording_on(inputs, done):
    store, encoder = inputs
    model = load_encoder(encoder.path, device="cpu")
    whole = list(iterate_features(store, model, batch_seconds=7.0))
    rest = list(iterate_features(store, model, batch_seconds=7.0, done=done))
    assert [index for index, _ in rest] == [index for index, _ in whole[done:]]
    for (_, feats), (_, expected) in zip(rest, whole[done:], strict=True):
        np.testing.assert_array_equal(feats, expected)


def test_twice_as_many_centres_as_units(inputs, tmp_path):
    store, encoder = inputs
    made = train_codebook(CodebookConfig(6), StageContext(store, device="cpu"), encoder, tmp_path / "out")
    assert len(Codebook.load(made.file("codebook.safetensors")).centres) == 12


def test_more_units_than_segments(inputs, tmp_path):
    store, encoder = inputs
    with pytest.raises(InputError):
        train_codebook(CodebookConfig(500), StageContext(store, device="cpu"), encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_precision_is_what_the_codebook_was_fitted_on(inputs, tmp_path):
    store, encoder = inputs
    config = CodebookConfig(5, rule=SegmentRule(rate=8.0), half=True)
    made = train_codebook(config, StageContext(store, device="cpu"), encoder, tmp_path / "out")
    whole = train_codebook(
        replace(config, half=False),
        StageContext(WaveformStore(store.manifest), device="cpu"),
        encoder,
        tmp_path / "whole",
    )
    size, full = (artifact.file("model.safetensors").stat().st_size for artifact in (made, whole))
    assert size < 0.6 * full
    tokenizer = Tokenizer.load(made.path, device="cpu")
    units = [tokenizer.encode(store[index]).unit for index in range(3)]
    assert made.metrics["units_used"] == len(np.unique(np.concatenate([u for u in units if u is not None])))


def test_a_penalty_that_gives_the_rate(inputs, tmp_path):
    store, encoder = inputs
    config = CodebookConfig(5, rule=SegmentRule("penalty", rate=8.0, delta=0.0))
    made = train_codebook(config, StageContext(store, device="cpu"), encoder, tmp_path / "out")
    tokenizer = Tokenizer.load(made.path, device="cpu")
    assert tokenizer.rule.delta == made.metrics["penalty"] > 0
    segments = sum(len(s) for s in tokenizer.encode([store[index] for index in range(3)]))
    assert segments == made.metrics["segments"]
    assert 0.9 < segments / (8.0 * store.manifest.total_seconds) <= 1.0


def test_the_codebook_of_another_tokenizer(inputs, tmp_path):
    store, encoder = inputs
    context = StageContext(store, device="cpu")
    first = train_codebook(CodebookConfig(5, rule=SegmentRule(rate=8.0)), context, encoder, tmp_path / "first")
    config = CodebookConfig(take=str(first.path), rule=SegmentRule(rate=5.0))
    second = train_codebook(config, context, encoder, tmp_path / "second")
    assert second.record["parents"]["units_of"] == first.digest != second.digest
    np.testing.assert_array_equal(
        *(Codebook.load(made.file("codebook.safetensors")).centres for made in (first, second))
    )
    made = Tokenizer.load(second.path, device="cpu")
    # Models of the first one's units, and copies of the second one, know it by that digest.
    assert made.rule.rate == 5.0 and made.digest == first.digest
    made.save(tmp_path / "copy")
    assert Tokenizer.load(tmp_path / "copy", device="cpu").digest == first.digest
