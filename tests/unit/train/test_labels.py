from __future__ import annotations

import numpy as np
import pytest

from helpers.random_models import small_corpus, small_predictor
from syllablelm.core.artifact import Artifact, digest_path, new_artifact, open_artifact
from syllablelm.core.errors import InputError
from syllablelm.encoders import load_encoder
from syllablelm.segment import mfcc
from syllablelm.segment.mel import frame_count as count_frames
from syllablelm.train.batches import WaveformStore
from syllablelm.train.labels import LabelsConfig, make_labels, read_centres, read_labels
from syllablelm.train.stage import StageContext

LENGTHS = [40_000, 9_000, 64_000, 18_000]
MFCC = LabelsConfig(num_labels=6)
LAYER = LabelsConfig("encoder", layer=1, num_labels=6)


@pytest.fixture
def store(tmp_path) -> WaveformStore:
    return WaveformStore(small_corpus(tmp_path / "audio", LENGTHS))


def teacher(folder) -> Artifact:
    with new_artifact(folder / "encoder", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
    return open_artifact(folder / "encoder")


def nearest(feats: np.ndarray, artifact: Artifact) -> np.ndarray:
    centres, mean, scale = read_centres(artifact)
    return ((((feats - mean) / scale)[:, None] - centres[None]) ** 2).sum(2).argmin(1)


def test_mfcc_labels_are_nearest_centres(store, tmp_path):
    artifact = make_labels(MFCC, StageContext(store, device="cpu"), tmp_path / "out")
    labels = read_labels(artifact)
    assert list(labels) == sorted(labels) == [r.id for r in store.manifest]
    for index, recording in enumerate(store.manifest):
        frames = mfcc(store[index])
        # Of one loudness and channel in every recording.
        frames = ((frames - frames.mean(0)) / (frames.std(0) + 1e-5)).astype(np.float16).astype(np.float32)
        assert labels[recording.id].dtype == np.int16
        assert len(labels[recording.id]) == count_frames(recording.num_samples)
        np.testing.assert_array_equal(labels[recording.id], nearest(frames, artifact))
    everything = np.concatenate(list(labels.values()))
    share = np.bincount(everything, minlength=6) / len(everything)
    assert (share > 0).all() and artifact.metrics["frames"] == len(everything)
    assert artifact.metrics["label_entropy_bits"] == pytest.approx(-(share * np.log2(share)).sum())


def test_encoder_labels_are_of_its_layer(store, tmp_path):
    encoder = teacher(tmp_path)
    artifact = make_labels(LAYER, StageContext(store, device="cpu"), tmp_path / "out", encoder=encoder)
    assert artifact.record["parents"]["encoder"] == encoder.digest
    model = load_encoder(encoder.path, 1, device="cpu")
    for index, recording in enumerate(store.manifest):
        expected = nearest(model.encode([store[index]])[0], artifact)
        # Half precision may turn a tie.
        assert (read_labels(artifact)[recording.id] == expected).mean() > 0.97


def test_seed_decides(store, tmp_path):
    made = [
        make_labels(MFCC, StageContext(store, seed=seed, device="cpu"), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0].digest == made[1].digest != made[2].digest


def test_fits_on_a_sample(store, tmp_path):
    config = LabelsConfig(num_labels=6, fit_frames=60)
    artifact = make_labels(config, StageContext(store, device="cpu"), tmp_path / "out")
    assert artifact.metrics["frames"] == sum(count_frames(n) for n in LENGTHS)
    assert len(read_centres(artifact)[0]) == 6


def test_more_labels_than_frames(store, tmp_path):
    with pytest.raises(InputError):
        make_labels(LabelsConfig(num_labels=5000), StageContext(store, device="cpu"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_source_and_encoder_must_fit(store, tmp_path):
    with pytest.raises(InputError, match="labels with source='encoder': give an encoder"):
        make_labels(LAYER, StageContext(store), tmp_path / "out")
    with pytest.raises(InputError, match="labels with source='mfcc': do not give an encoder"):
        make_labels(MFCC, StageContext(store), tmp_path / "out", encoder=teacher(tmp_path))


@pytest.mark.parametrize("number", [0, -1, 2**15])
def test_labels_that_sixteen_bits_do_not_hold(number):
    with pytest.raises(InputError, match=rf"num_labels {number}: must be at (least 1|most 32,767)"):
        LabelsConfig(num_labels=number)
    assert LabelsConfig(num_labels=2**15 - 1).num_labels == 32_767


def test_labels_of_another_encoder(store, tmp_path):
    """A stronger model than the one in training labels the frames; it is named by its contents."""
    encoder = teacher(tmp_path)
    config = LabelsConfig("encoder", encoder=str(encoder.path), layer=1, num_labels=6, whiten=True)
    artifact = make_labels(config, StageContext(store, device="cpu"), tmp_path / "out")
    assert artifact.record["parents"]["encoder"] == digest_path(encoder.path)
    feats = [load_encoder(encoder.path, 1, device="cpu").encode([store[index]])[0] for index in range(len(store))]
    _, mean, scale = read_centres(artifact)
    everything = np.concatenate(feats)
    np.testing.assert_allclose(mean, everything.mean(0), atol=1e-3)
    np.testing.assert_allclose(scale, everything.std(0), atol=1e-3)
    labels = read_labels(artifact)
    for index, recording in enumerate(store.manifest):
        expected = nearest(feats[index].astype(np.float16).astype(np.float32), artifact)
        np.testing.assert_array_equal(labels[recording.id], expected)


def test_an_encoder_for_labels_that_read_none():
    with pytest.raises(InputError, match=r"labels\.encoder: source='mfcc' reads no encoder"):
        LabelsConfig(encoder="somewhere")
