from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from helpers.random_encoders import make_encoder
from helpers.random_models import SHAPE, small_corpus, small_predictor
from syllablelm.core.artifact import Artifact, digest_files, new_artifact, open_artifact
from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders import load_encoder
from syllablelm.encoders.hub import HubEncoder
from syllablelm.segment import even_boundaries
from syllablelm.segment.mel import frame_count as count_frames
from syllablelm.train.batches import AugmentConfig, WaveformStore, check_max_frames, save_arrays
from syllablelm.train.loop import LoopConfig, run_loop
from syllablelm.train.runlog import read_log
from syllablelm.train.stage import StageContext
from syllablelm.train.sylboost import SegmentTargets, SylBoostConfig, SylBoostTask, train_sylboost

LENGTHS = [40_000, 9_000, 64_000, 18_000]
CONFIG = SylBoostConfig(LoopConfig(20, lr=2e-3, batch_seconds=6.0, log_every=1), layer=1, crop_seconds=1.5)


@pytest.fixture
def store(tmp_path) -> WaveformStore:
    return WaveformStore(small_corpus(tmp_path / "audio", LENGTHS))


def cuts(store: WaveformStore) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for recording in store.manifest:
        frames = count_frames(recording.num_samples)
        inner = np.sort(rng.choice(np.arange(1, frames), frames // 8, replace=False))
        found[recording.id] = np.concatenate([[0], inner, [frames]]).astype(np.int32)
    return found


def encoder(layer: int = 1) -> HubEncoder:
    return HubEncoder(small_predictor().encoder.model, layer)


def task(store: WaveformStore, config: SylBoostConfig = CONFIG) -> SylBoostTask:
    targets = SegmentTargets.compute(store, encoder(), cuts(store), config.whiten)
    return SylBoostTask(encoder(), store, targets, config, seed=0)


class TestSegmentTargets:
    @pytest.mark.parametrize("whiten", [False, True])
    def test_equal_plain_loops(self, store, whiten):
        teacher, boundaries = encoder(), cuts(store)
        targets = SegmentTargets.compute(store, teacher, boundaries, whiten)
        feats = [teacher.encode([store[i]])[0].astype(np.float64) for i in range(4)]
        stacked = np.concatenate(feats)
        mean, scale = (stacked.mean(0), stacked.std(0)) if whiten else (0.0, 1.0)
        for index, recording in enumerate(store.manifest):
            edges = boundaries[recording.id].tolist()
            expected = np.zeros_like(feats[index])
            for t in range(len(expected)):
                group = max(g for g in range(len(edges) - 1) if edges[g] <= t)
                members = feats[index][edges[group] : edges[group + 1]]
                expected[t] = ((members - mean) / scale).mean(0)
            whole = targets.frames(index, 0, len(expected))
            assert whole.dtype == np.float32
            np.testing.assert_allclose(whole, expected, atol=2e-4)
            np.testing.assert_array_equal(targets.frames(index, 7, 11), whole[7:18])

    def test_boundaries_must_span_the_recording(self, store):
        short = {**cuts(store), "r2": np.array([0, 100], dtype=np.int32)}
        missing = {name: edges for name, edges in cuts(store).items() if name != "r2"}
        for boundaries, words in (
            (short, "'r2' span 100 frames, the teacher gives 199"),
            (missing, "no boundaries of 'r2', but of 3 other recordings"),
        ):
            with pytest.raises(FormatError, match=words):
                SegmentTargets.compute(store, encoder(), boundaries, False)


class TestStudentsOfEveryFamily:
    """One round of every family that loads: the loss falls, the student opens, and starts at the whitened teacher."""

    @pytest.mark.parametrize("family", ["hubert-group", "wavlm-group", "data2vec-audio", "w2v-bert", "whisper"])
    def test_one_round(self, store, tmp_path, family):
        teacher = make_encoder(family)
        with new_artifact(tmp_path / "teacher", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
            teacher.save(payload)
        edges = {r.id: even_boundaries(teacher.num_frames(r.num_samples), 4) for r in store.manifest}
        with new_artifact(tmp_path / "cuts", "boundaries", config={}, seed=0, parents={}, metrics={}) as payload:
            save_arrays(payload / "boundaries.safetensors", edges)
        config = replace(
            CONFIG, layer=teacher.layer, whiten=True, normalize=family == "whisper", frozen_blocks=1, crop_seconds=1.0
        )
        made = train_sylboost(
            config,
            StageContext(store, device="cpu"),
            open_artifact(tmp_path / "teacher"),
            open_artifact(tmp_path / "cuts"),
            tmp_path / "student",
        )
        student = load_encoder(made.path, device="cpu")
        assert type(student) is type(teacher) and student.layer == teacher.layer
        losses = [line["loss"] for line in read_log(made.path)]
        assert np.mean(losses[-4:]) < np.mean(losses[:4])
        before, after = teacher.state_dict(), student.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before if ".layers.0." in name)


class TestTask:
    def test_targets_go_with_the_samples(self, store):
        made = task(store)
        for number in range(8):
            batch = made.batch(number)
            for row, crop in enumerate(made.plan.batch(number)):
                length = int(batch["lengths"][row])
                count, start = count_frames(length), crop.start
                np.testing.assert_array_equal(
                    batch["wave"][row, :length].numpy(), store[crop.index][320 * start : 320 * start + length]
                )
                expected = made.targets.frames(crop.index, 0, count_frames(LENGTHS[crop.index]))
                np.testing.assert_array_equal(batch["target"][row, :count].numpy(), expected[start : start + count])

    def test_only_what_the_student_hears_is_distorted(self, store):
        plain, loud = task(store), task(store, replace(CONFIG, augment=AugmentConfig(prob=1.0)))
        for number in range(3):
            a, b = plain.batch(number), loud.batch(number)
            assert torch.equal(a["target"], b["target"]) and torch.equal(a["lengths"], b["lengths"])
            assert not torch.equal(a["wave"], b["wave"])
            assert torch.equal(loud.batch(number)["wave"], b["wave"])

    def batch_of_several(self, made: SylBoostTask):
        return next(b for b in map(made.batch, range(9)) if len(set(b["lengths"].tolist())) > 1)

    def test_equation_3(self, store):
        made = task(store)
        batch = self.batch_of_several(made)
        squares, frames = 0.0, 0
        for row, length in enumerate(batch["lengths"].tolist()):
            feats = made.student.encode([batch["wave"][row, :length].numpy()])[0]
            for t, frame in enumerate(feats.astype(np.float64)):
                squares += float(((frame - batch["target"][row, t].numpy()) ** 2).sum())
                frames += 1
        with torch.no_grad():
            loss = float(made.module(batch)["loss"])
        assert loss == pytest.approx(squares / frames / 32, rel=1e-4)

    def test_padding_does_not_count(self, store):
        made = task(store)
        batch = self.batch_of_several(made)
        changed = dict(batch, target=batch["target"].clone())
        for row, count in enumerate(made.student.frames(batch["lengths"]).tolist()):
            changed["target"][row, count:] = 1e6
        with torch.no_grad():
            assert float(made.module(changed)["loss"]) == float(made.module(batch)["loss"])

    @pytest.mark.parametrize("train_cnn", [False, True])
    def test_loss_falls_and_the_extractor_stays_where_asked(self, store, tmp_path, train_cnn):
        made = task(store)
        made.student.freeze(extractor=not train_cnn)
        before = {name: tensor.clone() for name, tensor in made.student.state_dict().items()}
        run_loop(made, CONFIG.loop, tmp_path / "work", seed=0, fingerprint="", device="cpu")
        losses = [line["loss"] for line in read_log(tmp_path / "work")]
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
        moved = {name for name, tensor in made.student.state_dict().items() if not torch.equal(tensor, before[name])}
        assert any("feature_extractor" in name for name in moved) == train_cnn
        assert any("encoder.layers.0" in name for name in moved)


class TestStage:
    def inputs(self, folder, store) -> tuple[Artifact, Artifact]:
        with new_artifact(folder / "teacher", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
            small_predictor().save(payload)
        with new_artifact(folder / "cuts", "boundaries", config={}, seed=0, parents={}, metrics={}) as payload:
            save_arrays(payload / "boundaries.safetensors", cuts(store))
        return open_artifact(folder / "teacher"), open_artifact(folder / "cuts")

    def test_a_round(self, store, tmp_path):
        teacher, boundaries = self.inputs(tmp_path, store)
        before = digest_files(teacher.path)
        config = replace(CONFIG, loop=replace(CONFIG.loop, steps=4))
        context = StageContext(store, device="cpu")
        made = train_sylboost(config, context, teacher, boundaries, tmp_path / "a")
        assert digest_files(teacher.path) == before
        student, original = load_encoder(made.path, device="cpu"), load_encoder(teacher.path, 1, device="cpu")
        assert (student.layer, student.model.config.num_hidden_layers) == (1, 1)
        wave = store[0]
        change = np.abs(student.encode([wave])[0] - original.encode([wave])[0]).max()
        assert change > 1e-4
        assert made.metrics["loss"] > 0 and made.record["parents"]["student"] == teacher.digest

        again = replace(config, student="previous")
        second = train_sylboost(again, context, teacher, boundaries, tmp_path / "b", previous=made)
        assert second.record["parents"]["student"] == made.digest
        assert second.metrics["loss"] < made.metrics["loss"]

    def test_layers_that_the_teacher_has_not(self, store, tmp_path):
        teacher, boundaries = self.inputs(tmp_path, store)
        with pytest.raises(ValueError, match="layer 9: this encoder has layers 0 to 2"):
            train_sylboost(
                replace(CONFIG, layer=9), StageContext(store, device="cpu"), teacher, boundaries, tmp_path / "a"
            )


def test_a_round_that_forgets_to_standardise(store, tmp_path):
    with new_artifact(tmp_path / "teacher", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
    with new_artifact(tmp_path / "cuts", "boundaries", config={}, seed=0, parents={}, metrics={}) as payload:
        save_arrays(payload / "boundaries.safetensors", cuts(store))
    inputs = (StageContext(store, device="cpu"), open_artifact(tmp_path / "teacher"), open_artifact(tmp_path / "cuts"))
    first = train_sylboost(replace(CONFIG, normalize=True), *inputs, tmp_path / "a")
    with pytest.raises(InputError, match="the student before standardises waveforms"):
        train_sylboost(replace(CONFIG, student="previous"), *inputs, tmp_path / "b", previous=first)


def test_nothing_left_to_train(store, tmp_path):
    with new_artifact(tmp_path / "teacher", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
    teacher = open_artifact(tmp_path / "teacher")
    with pytest.raises(InputError, match="frozen_blocks 1: that leaves nothing below layer 1"):
        train_sylboost(replace(CONFIG, frozen_blocks=1), StageContext(store), teacher, teacher, tmp_path / "a")


def test_recordings_longer_than_the_encoder_takes(tmp_path):
    manifest = small_corpus(tmp_path / "audio", [16_000, 31 * 16_000])
    with pytest.raises(InputError, match=r"'r1' is 31\.0 s long, this encoder takes at most 30 s.*max_seconds = 30"):
        check_max_frames(make_encoder("whisper"), manifest)
    check_max_frames(make_encoder("hubert-group"), manifest)


def test_published_models_with_dropped_layers_can_be_students(store):
    model: Any = SHAPE.build()
    model.config.layerdrop = 0.9
    made = SylBoostTask(HubEncoder(model, 1), store, task(store).targets, CONFIG, seed=0)
    made.module.train()
    for number in range(5):
        assert torch.isfinite(made.module(made.batch(number))["loss"])


class TestLimitedContext:
    def train(self, store, folder, predictor, **changes):
        with new_artifact(folder / "teacher", "encoder", config={}, seed=0, parents={}, metrics={}) as payload:
            predictor.save(payload)
        with new_artifact(folder / "cuts", "boundaries", config={}, seed=0, parents={}, metrics={}) as payload:
            save_arrays(payload / "boundaries.safetensors", cuts(store))
        config = replace(CONFIG, loop=replace(CONFIG.loop, steps=4), crop_seconds=1.0, **changes)
        inputs = open_artifact(folder / "teacher"), open_artifact(folder / "cuts")
        return train_sylboost(config, StageContext(store, device="cpu"), *inputs, folder / "out")

    def test_the_student_sees_as_far_as_asked(self, store, tmp_path):
        made = self.train(store, tmp_path, make_encoder("whisper"), layer=3, left_context=0.3, right_context=0.13)
        student: Any = load_encoder(made.path, device="cpu")
        # 15 and 6.5 frames, for three blocks.
        assert (student.model.config.attention_left, student.model.config.attention_right) == (5, 2)
        wave = store[0][:16_000]
        changed = wave.copy()
        changed[8000:] *= 2.0
        before, after = student.encode([wave, changed])
        # The convolutions see a frame more, and half a window of the spectrum.
        assert np.abs(before - after)[: 25 - 6 - 2].max() < 1e-5 < 1e-3 < np.abs(before - after)[25:].max()

    def test_others_than_whisper(self, store, tmp_path):
        with pytest.raises(InputError, match="left_context, right_context: a HubEncoder cannot do with less"):
            self.train(store, tmp_path, small_predictor(), right_context=0.2)
