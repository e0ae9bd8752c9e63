from __future__ import annotations

import numpy as np
import pytest

from helpers.random_models import SLOW_SHAPE, small_corpus, small_predictor
from syllablelm.core.artifact import new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.encoders import MaskedPredictor, load_encoder
from syllablelm.segment import minsum
from syllablelm.segment.mel import frame_count
from syllablelm.segment.registry import METHODS
from syllablelm.segment.segmenter import count_segments, make_segmenter
from syllablelm.train.batches import WaveformStore
from syllablelm.train.boundary_stage import (
    FROM_STUDENT,
    SOURCES,
    WITH_HEAD,
    WITHOUT_ENCODER,
    BoundariesConfig,
    find_boundaries,
    read_boundaries,
)
from syllablelm.train.stage import StageContext

LENGTHS = [40_000, 9_000, 18_000]


@pytest.fixture
def store(tmp_path) -> WaveformStore:
    return WaveformStore(small_corpus(tmp_path / "audio", LENGTHS))


@pytest.fixture
def encoder(tmp_path):
    with new_artifact(tmp_path / "encoder", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
    return open_artifact(tmp_path / "encoder")


@pytest.mark.parametrize("source", ["envelope", "strength", "similarity", "minsum", "losspred", "combined"])
def test_boundaries_are_those_of_the_segmenter(store, encoder, tmp_path, source):
    config = BoundariesConfig(source, rate=5.0, layer=1, span=6, gap=20, max_length=30)
    needed = None if source in ("envelope", "strength") else encoder
    made = find_boundaries(config, StageContext(store, device="cpu"), tmp_path / "out", encoder=needed)
    segment = make_segmenter(
        source,
        encoder=load_encoder(encoder.path, 1, device="cpu"),
        predictor=MaskedPredictor.load(encoder.path, device="cpu"),
        span=6,
        gap=20,
        max_length=30,
    )
    found = read_boundaries(made)
    assert list(found) == ["r0", "r1", "r2"]
    for index, name in enumerate(found):
        frames = frame_count(LENGTHS[index])
        groups = count_segments(frames, 5.0, frame_rate=50.0, max_length=30)
        np.testing.assert_array_equal(found[name], segment.cut(store[index], groups))
        assert found[name].dtype == np.int32 and found[name][-1] == frames
    groups = sum(len(edges) - 1 for edges in found.values())
    assert made.metrics == {"groups": groups, "rate": groups / store.manifest.total_seconds}


def test_minsum_is_on_the_asked_layer(store, encoder, tmp_path):
    config = BoundariesConfig("minsum", rate=5.0, layer=2)
    made = find_boundaries(config, StageContext(store, device="cpu"), tmp_path / "out", encoder=encoder)
    feats = load_encoder(encoder.path, 2, device="cpu").encode([store[0]])[0]
    np.testing.assert_array_equal(read_boundaries(made)["r0"], minsum(feats, round(5.0 * len(feats) / 50)))


@pytest.mark.parametrize("source", ["similarity", "minsum", "losspred"])
def test_another_frame_rate(store, tmp_path, source):
    with new_artifact(tmp_path / "slow", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor(shape=SLOW_SHAPE).save(payload)
    config = BoundariesConfig(source, rate=5.0, layer=1, span=6, gap=20)
    found = read_boundaries(
        find_boundaries(
            config, StageContext(store, device="cpu"), tmp_path / "out", encoder=open_artifact(tmp_path / "slow")
        )
    )
    for name, length in zip(found, LENGTHS, strict=True):
        frames = (length - 720) // 640 + 1
        assert found[name][-1] == frames and len(found[name]) - 1 == round(5.0 * frames / 25)


@pytest.mark.parametrize("source", ["zerosyl", "sylber-relative"])
def test_segments_of_published_systems_cover_the_recording(store, encoder, tmp_path, source):
    config = BoundariesConfig(source, layer=1)
    made = find_boundaries(config, StageContext(store, device="cpu"), tmp_path / "out", encoder=encoder)
    segments = make_segmenter(source, encoder=load_encoder(encoder.path, 1, device="cpu"))(store[0], 0)
    edges = read_boundaries(made)["r0"]
    assert edges.dtype == np.int32 and (edges[0], edges[-1]) == (0, segments.num_frames)
    # What is left out as silence becomes a segment.
    assert set(edges.tolist()) == {0, segments.num_frames, *segments.boundaries.tolist()}


def test_every_method_without_a_threshold_may_be_a_source():
    assert set(METHODS) - set(SOURCES) == {"released", "penalty"}
    assert WITHOUT_ENCODER == ("even", "frames", "envelope", "strength", "mel")
    assert WITH_HEAD == ("losspred", "combined")
    assert FROM_STUDENT[:3] == ("minsum", "peaks", "refined") and "similarity" not in FROM_STUDENT
    with pytest.raises(InputError, match=r"unknown boundaries\.source 'released': choose one of even, frames"):
        BoundariesConfig("released")


def test_a_source_without_its_encoder(store, tmp_path):
    with pytest.raises(InputError, match="source='minsum' need an encoder"):
        find_boundaries(BoundariesConfig("minsum"), StageContext(store), tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "strength", "encoder": "somewhere"}, "source='strength' reads no encoder"),
        ({"encoder": "one", "artifact": "other"}, "give an encoder or an artifact, not both"),
    ],
)
def test_settings_that_contradict_each_other(options, words):
    with pytest.raises(InputError, match=words):
        BoundariesConfig(**options)
